//! Links and machines over which squall itself reaches a node: no fault hits them. Where a node is the jump host of another one, or the controller
//! runs on a node, only both ends together show it, so the agents' own refusal is not enough.

use crate::faults::{Planned, Scope};
use crate::links::Links;
use anyhow::bail;
use squall_harness::Cluster;
use std::net::IpAddr;

/// A node as the control path sees it: its name, its data-plane address, and where squall's connection to it comes from.
struct End {
    name: String,
    address: IpAddr,
    controller: Option<IpAddr>,
}

/// Refuses links over which squall reaches a node.
///
/// # Errors
/// With the link, and what to do.
pub(crate) fn spare(cluster: &Cluster, links: &[(usize, usize)]) -> anyhow::Result<()> {
    match refusal(&ends(cluster), links) {
        Some(why) => bail!("{why}"),
        None => Ok(()),
    }
}

/// Refuses to take machines down over which squall reaches another node.
///
/// # Errors
/// With the machine, and what to do.
pub(crate) fn spare_machines(cluster: &Cluster, machines: &[usize]) -> anyhow::Result<()> {
    match refusal_of_machines(&ends(cluster), machines) {
        Some(why) => bail!("{why}"),
        None => Ok(()),
    }
}

/// The same for all links and machines that a plan names, before it begins; those of whoever leads are not known yet.
///
/// # Errors
/// With the link or the machine, and what to do.
pub(crate) fn spare_all<'a>(cluster: &Cluster, faults: impl Iterator<Item = &'a Planned>) -> anyhow::Result<()> {
    for fault in faults {
        let fault = fault.fault();
        match fault.scope() {
            Scope::Links(Links::Pairs(pairs)) => spare(cluster, pairs)?,
            scope if fault.takes_machines_down() && !scope.needs_primary() => {
                spare_machines(cluster, &scope.nodes())?;
            }
            _ => {}
        }
    }
    Ok(())
}

fn ends(cluster: &Cluster) -> Vec<End> {
    let end = |node: &std::sync::Arc<squall_harness::Node>| End {
        name: node.name.to_string(),
        address: node.address,
        controller: node.control.hello().and_then(|hello| hello.controller),
    };
    cluster.nodes.iter().map(end).collect()
}

fn refusal_of_machines(ends: &[End], machines: &[usize]) -> Option<String> {
    machines.iter().find_map(|&gate| {
        let is_behind = |end: &&End| end.controller == Some(ends[gate].address) && end.name != ends[gate].name;
        let behind = ends.iter().find(is_behind)?;
        let (gate, node) = (&ends[gate].name, &behind.name);
        Some(format!(
            "squall reaches {node} over {gate}: the control path is never cut; leave {gate} out, or reach {node} another way"
        ))
    })
}

fn refusal(ends: &[End], links: &[(usize, usize)]) -> Option<String> {
    links.iter().find_map(|&(from, to)| {
        let comes_over = |node: usize, other: usize| ends[node].controller == Some(ends[other].address);
        let (node, gate) = match (comes_over(from, to), comes_over(to, from)) {
            (true, _) => (from, to),
            (_, true) => (to, from),
            _ => return None,
        };
        let (from, to, node, gate) = (&ends[from].name, &ends[to].name, &ends[node].name, &ends[gate]);
        Some(format!(
            "{from} -> {to} is the way by which squall reaches {node}, over {} ({}): the control path is never cut; leave that link out, or \
             reach {node} over another address",
            gate.name, gate.address
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_a_direction_nor_a_machine_of_the_way_to_a_node() {
        let end = |i: u8, controller: Option<u8>| End {
            name: format!("n{i}"),
            address: [10, 0, 0, i].into(),
            controller: controller.map(|i| [10, 0, 0, i].into()),
        };
        // n2 is reached over n1, the others from elsewhere.
        let ends = [end(1, Some(9)), end(2, Some(1)), end(3, None)];
        for link in [(0, 1), (1, 0)] {
            let why = refusal(&ends, &[(0, 2), link]).unwrap();
            assert!(
                why.contains("the way by which squall reaches n2, over n1 (10.0.0.1): the control path is never cut"),
                "{why}"
            );
        }
        assert_eq!(refusal(&ends, &[(0, 2), (2, 0), (1, 2), (2, 1)]), None);
        let why = refusal_of_machines(&ends, &[2, 0]).unwrap();
        assert!(why.contains("squall reaches n2 over n1") && why.contains("leave n1 out"), "{why}");
        assert_eq!(refusal_of_machines(&ends, &[1, 2]), None);
    }
}
