//! Policy rules in the router namespace of the local cluster: packets of ordered pairs are dropped, or sent another way.
//!
//! `from A to B blackhole`: silent, one direction, existing connections too. `from A to B lookup T`: by way of the
//! [shaper](super::shaper)'s interface, which alone is in that table. Our rules are known by their priority: a fault's rules
//! are exactly the (from, to) pairs of its ledger entry.

use crate::protocol::AgentError;
use futures::TryStreamExt;
use rtnetlink::packet_route::route::{RouteAttribute, RouteHeader, RouteMetric};
use rtnetlink::packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};
use rtnetlink::{Handle, IpVersion, RouteMessageBuilder};
use std::net::{IpAddr, Ipv4Addr};

/// The routing table in which the shaper's interface is the only way.
pub(crate) const SHAPER_TABLE: u32 = 7700;

/// What comes out of the shaper goes its normal way. After the rules that drop: a cut is a cut for delayed packets, too.
const BACK_PRIORITY: u32 = 7710;

/// An ordered pair.
type Pair = (IpAddr, IpAddr);

/// Where packets are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// They are dropped.
    Nowhere,
    /// Into the shaper.
    Shaper,
}

impl Way {
    /// Before the main table (32766), after the local one (0).
    fn priority(self) -> u32 {
        match self {
            Self::Nowhere => 7700,
            Self::Shaper => 7720,
        }
    }

    fn action(self) -> RuleAction {
        match self {
            Self::Nowhere => RuleAction::Blackhole,
            Self::Shaper => RuleAction::ToTable,
        }
    }
}

/// Runs `work` with a netlink socket.
pub(crate) fn with_netlink<T>(work: impl AsyncFnOnce(Handle) -> Result<T, rtnetlink::Error>) -> Result<T, AgentError> {
    let failed =
        |error: &dyn std::fmt::Display| AgentError::new(format!("the kernel refused a change of the network: {error}"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| failed(&e))?;
    runtime.block_on(async {
        let (connection, handle, _) = rtnetlink::new_connection().map_err(|e| failed(&e))?;
        tokio::spawn(connection);
        work(handle).await.map_err(|e| failed(&e))
    })
}

/// Adds the rules of `pairs` that are not there yet.
///
/// # Errors
/// When a pair mixes address families or the kernel refuses.
pub(crate) fn add(pairs: &[Pair], way: Way) -> Result<(), AgentError> {
    if let Some((from, to)) = pairs.iter().find(|(from, to)| from.is_ipv4() != to.is_ipv4()) {
        return Err(AgentError::new(format!("{from} -> {to} mixes IPv4 and IPv6")));
    }
    with_netlink(async |handle| {
        let present = ours(&handle, way).await?;
        for pair in pairs {
            if !present.iter().any(|(there, _)| there == pair) {
                add_one(&handle, *pair, way).await?;
            }
        }
        Ok(())
    })
}

async fn add_one(handle: &Handle, pair: Pair, way: Way) -> Result<(), rtnetlink::Error> {
    let add = handle.rule().add().priority(way.priority()).action(way.action());
    let add = if way == Way::Shaper { add.table_id(SHAPER_TABLE) } else { add };
    match pair {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            add.v4().source_prefix(from, 32).destination_prefix(to, 32).execute().await
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            add.v6().source_prefix(from, 128).destination_prefix(to, 128).execute().await
        }
        _ => Ok(()),
    }
}

/// Removes the rules of `pairs` that are there.
///
/// # Errors
/// When the kernel refuses.
pub(crate) fn remove(pairs: &[Pair], way: Way) -> Result<(), AgentError> {
    with_netlink(async |handle| {
        for (pair, rule) in ours(&handle, way).await? {
            if pairs.contains(&pair) {
                handle.rule().del(rule).execute().await?;
            }
        }
        Ok(())
    })
}

/// The same pairs for a socket of this node that is not bound to its address yet: until a way is found its packets are from
/// nowhere, and a rule for the address does not see them. With one, [`source_of_own`] must say which address they get.
pub(crate) fn not_bound_yet(pairs: &[Pair]) -> Vec<Pair> {
    let any = |(from, to): &Pair| from.is_ipv4().then_some((IpAddr::V4(Ipv4Addr::UNSPECIFIED), *to));
    pairs.iter().filter_map(any).collect()
}

/// Has packets of this node itself, that take `interface` by the [shaper's table](SHAPER_TABLE), get the address of their pair
/// as their source, and no longer than `mtu` (bytes): that interface has no address and takes any length. Goes with it.
///
/// # Errors
/// When the kernel refuses.
pub(crate) fn source_of_own(pairs: &[Pair], interface: &str, mtu: u32) -> Result<(), AgentError> {
    with_netlink(async |handle| {
        let mut links = handle.link().get().match_name(interface.to_owned()).execute();
        let index = links.try_next().await?.map_or(0, |link| link.header.index);
        for pair in pairs {
            let (IpAddr::V4(from), IpAddr::V4(to)) = pair else { continue };
            let route = RouteMessageBuilder::<Ipv4Addr>::new().destination_prefix(*to, 32).output_interface(index);
            let mut route = route.table_id(SHAPER_TABLE).pref_source(*from).build();
            route.attributes.push(RouteAttribute::Metrics(vec![RouteMetric::Mtu(mtu)]));
            handle.route().add(route).replace().execute().await?;
        }
        Ok(())
    })
}

/// How many of `pairs` have a rule now.
///
/// # Errors
/// When the kernel does not list its rules.
pub(crate) fn count(pairs: &[Pair], way: Way) -> Result<usize, AgentError> {
    with_netlink(async |handle| {
        let present = ours(&handle, way).await?;
        Ok(pairs.iter().filter(|pair| present.iter().any(|(there, _)| there == *pair)).count())
    })
}

/// What comes in by `interface` goes its normal way from now on, whatever other rules there are for it.
///
/// # Errors
/// When the kernel refuses.
pub(crate) fn let_back(interface: &str) -> Result<(), AgentError> {
    with_netlink(async |handle| {
        if all(&handle).await?.iter().any(|rule| priority(rule) == Some(BACK_PRIORITY)) {
            return Ok(());
        }
        let add = || {
            let add = handle.rule().add().priority(BACK_PRIORITY).action(RuleAction::ToTable);
            add.table_id(RouteHeader::RT_TABLE_MAIN.into()).input_interface(interface)
        };
        add().v4().execute().await?;
        // A kernel without IPv6 has no packets of it either.
        let _ = add().v6().execute().await;
        Ok(())
    })
}

/// Removes what [`let_back`] added.
///
/// # Errors
/// When the kernel refuses.
pub(crate) fn forget_back() -> Result<(), AgentError> {
    with_netlink(async |handle| {
        for rule in all(&handle).await? {
            if priority(&rule) == Some(BACK_PRIORITY) {
                handle.rule().del(rule).execute().await?;
            }
        }
        Ok(())
    })
}

/// All rules that send pairs this way.
async fn ours(handle: &Handle, way: Way) -> Result<Vec<(Pair, RuleMessage)>, rtnetlink::Error> {
    let ours = |rule: RuleMessage| {
        let is_ours = priority(&rule) == Some(way.priority()) && rule.header.action == way.action();
        pair(&rule).filter(|_| is_ours).map(|pair| (pair, rule))
    };
    Ok(all(handle).await?.into_iter().filter_map(ours).collect())
}

/// All rules there are.
async fn all(handle: &Handle) -> Result<Vec<RuleMessage>, rtnetlink::Error> {
    let mut rules = Vec::new();
    for version in [IpVersion::V4, IpVersion::V6] {
        let is_v6 = matches!(version, IpVersion::V6);
        let mut listed = handle.rule().get(version).execute();
        loop {
            match listed.try_next().await {
                Ok(Some(rule)) => rules.push(rule),
                Ok(None) => break,
                // A kernel without IPv6 has no rules for it.
                Err(_) if is_v6 => break,
                Err(error) => return Err(error),
            }
        }
    }
    Ok(rules)
}

fn priority(rule: &RuleMessage) -> Option<u32> {
    rule.attributes.iter().find_map(|attribute| match attribute {
        RuleAttribute::Priority(priority) => Some(*priority),
        _ => None,
    })
}

fn pair(rule: &RuleMessage) -> Option<Pair> {
    let (mut from, mut to) = (None, None);
    for attribute in &rule.attributes {
        match attribute {
            RuleAttribute::Source(address) => from = Some(*address),
            RuleAttribute::Destination(address) => to = Some(*address),
            _ => {}
        }
    }
    Some((from?, to?))
}
