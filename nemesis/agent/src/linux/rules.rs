//! Drops packets by blackhole policy rules in the router namespace of the local cluster.
//!
//! `from A to B blackhole`: silent, one direction, existing connections too. Our rules are known by their priority: a
//! fault's rules are exactly the (from, to) pairs of its ledger entry.

use crate::protocol::AgentError;
use futures::TryStreamExt;
use rtnetlink::packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};
use rtnetlink::{Handle, IpVersion};
use std::net::IpAddr;

/// Before the main table (32766), after the local one (0).
const PRIORITY: u32 = 7700;

/// An ordered pair that is cut.
type Pair = (IpAddr, IpAddr);

/// Runs `work` with a netlink socket.
fn with_netlink<T>(work: impl AsyncFnOnce(Handle) -> Result<T, rtnetlink::Error>) -> Result<T, AgentError> {
    let failed = |error: &dyn std::fmt::Display| AgentError::new(format!("the kernel refused a policy rule: {error}"));
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
pub(crate) fn add(pairs: &[Pair]) -> Result<(), AgentError> {
    if let Some((from, to)) = pairs.iter().find(|(from, to)| from.is_ipv4() != to.is_ipv4()) {
        return Err(AgentError::new(format!("{from} -> {to} mixes IPv4 and IPv6")));
    }
    with_netlink(async |handle| {
        let present = ours(&handle).await?;
        for pair in pairs {
            if !present.iter().any(|(there, _)| there == pair) {
                add_one(&handle, *pair).await?;
            }
        }
        Ok(())
    })
}

async fn add_one(handle: &Handle, pair: Pair) -> Result<(), rtnetlink::Error> {
    let add = handle.rule().add().priority(PRIORITY).action(RuleAction::Blackhole);
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
pub(crate) fn remove(pairs: &[Pair]) -> Result<(), AgentError> {
    with_netlink(async |handle| {
        for (pair, rule) in ours(&handle).await? {
            if pairs.contains(&pair) {
                handle.rule().del(rule).execute().await?;
            }
        }
        Ok(())
    })
}

/// How many of `pairs` have a rule now.
///
/// # Errors
/// When the kernel does not list its rules.
pub(crate) fn count(pairs: &[Pair]) -> Result<usize, AgentError> {
    with_netlink(async |handle| {
        let present = ours(&handle).await?;
        Ok(pairs.iter().filter(|pair| present.iter().any(|(there, _)| there == *pair)).count())
    })
}

/// All rules of our priority.
async fn ours(handle: &Handle) -> Result<Vec<(Pair, RuleMessage)>, rtnetlink::Error> {
    let mut rules = Vec::new();
    for version in [IpVersion::V4, IpVersion::V6] {
        let is_v6 = matches!(version, IpVersion::V6);
        let mut listed = handle.rule().get(version).execute();
        loop {
            match listed.try_next().await {
                Ok(Some(rule)) => rules.extend(pair_of(&rule).map(|pair| (pair, rule))),
                Ok(None) => break,
                // A kernel without IPv6 has no rules for it.
                Err(_) if is_v6 => break,
                Err(error) => return Err(error),
            }
        }
    }
    Ok(rules)
}

fn pair_of(rule: &RuleMessage) -> Option<Pair> {
    let (mut from, mut to, mut ours) = (None, None, false);
    for attribute in &rule.attributes {
        match attribute {
            RuleAttribute::Source(address) => from = Some(*address),
            RuleAttribute::Destination(address) => to = Some(*address),
            RuleAttribute::Priority(priority) => ours = *priority == PRIORITY,
            _ => {}
        }
    }
    Some((from?, to?)).filter(|_| ours && rule.header.action == RuleAction::Blackhole)
}
