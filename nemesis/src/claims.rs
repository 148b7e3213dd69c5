//! Plans that do more than the target claims to survive are refused, unless the test file says that it means it.

use crate::read::Draft;
use squall_harness::config::ConfigError;
use squall_harness::nemesis::PlanContext;
use squall_harness::target::Survives;
use std::collections::BTreeSet;

/// What a fault does to a node that others must make up for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Harm {
    /// Nothing that it would not come back from by itself.
    None,
    /// Its process dies.
    Crash,
    /// Data that it had acknowledged may be lost or damaged.
    DataLoss,
}

/// Checks all steps against what the target of the test claims.
///
/// # Errors
/// With the entry that goes too far.
pub(crate) fn check(drafts: &[Draft], context: &PlanContext<'_>) -> Result<(), ConfigError> {
    let Some(target) = context.target else { return Ok(()) };
    let (claims, count) = (target.claims(), context.nodes.len());
    for draft in drafts.iter().filter(|draft| !draft.is_unsafe) {
        let (claim, what) = match draft.fault.fault().harm() {
            Harm::None => continue,
            Harm::Crash => (claims.crashes, "kill"),
            Harm::DataLoss => (claims.lost_data, "damage the data of"),
        };
        let hit = hit_at_once(draft, drafts, count);
        if hit > claim.nodes(count) {
            let claimed = match claim {
                Survives::All => "that",
                Survives::Minority => "that of a minority",
                Survives::Nothing => "none of that",
            };
            let what = format!(
                "this would {what} {hit} of {count} nodes at once, and target `{}` claims to survive {claimed}: choose \
                 fewer `nodes`, or say `unsafe: true`",
                target.name()
            );
            return Err(ConfigError::at(&draft.origin, what));
        }
    }
    Ok(())
}

/// How many nodes are harmed at the moment when `draft` begins, by all that is in force then and harms as much. What waits
/// for an event counts alone.
fn hit_at_once(draft: &Draft, drafts: &[Draft], count: usize) -> usize {
    let harm = draft.fault.fault().harm();
    let hit = |draft: &Draft| draft.fault.fault().scope().resolve(&[], &[], count).nodes().to_vec();
    let mut nodes: BTreeSet<usize> = hit(draft).into_iter().collect();
    for other in drafts.iter().filter(|other| draft.on.is_none() && other.on.is_none()) {
        if other.fault.fault().harm() >= harm && (other.at..other.at + other.lasts).contains(&draft.at) {
            nodes.extend(hit(other));
        }
    }
    nodes.len()
}
