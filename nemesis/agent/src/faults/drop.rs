//! Packets of ordered pairs of addresses are dropped, silently and in one direction.

use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// Silently drop packets from the first address of each pair to the second.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Drop {
    /// Ordered (from, to) pairs.
    pub pairs: Vec<(IpAddr, IpAddr)>,
    /// How.
    pub by: DropBy,
}

/// The mechanism that drops packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DropBy {
    /// Blackhole policy rules in the router namespace of the local provider.
    RouterRules,
    /// An nftables table of our own on the receiving node; its set elements time out with the lease.
    Nft,
}

#[cfg(target_os = "linux")]
mod effect {
    use super::{Drop, DropBy, IpAddr};
    use crate::faults::Fault;
    use crate::linux::addresses::{never_the_control_path, own_addresses};
    use crate::linux::rules::Way;
    use crate::linux::{At, Effect, nft, rules};
    use crate::protocol::{AgentError, Evidence};

    const UNIT: &str = "packets dropped";

    impl Effect for Drop {
        fn refuse(&self, _: &At<'_>) -> Result<(), AgentError> {
            never_the_control_path(&self.pairs, self.by == DropBy::RouterRules)?;
            let own = own_addresses();
            match self.pairs.iter().find(|(_, to)| self.by == DropBy::Nft && !own.contains(to)) {
                Some((_, to)) => {
                    Err(AgentError::new(format!("{to} is no address of this node: only the receiver can drop")))
                }
                None => Ok(()),
            }
        }

        fn inject(&self, at: &At<'_>) -> Result<Evidence, AgentError> {
            match self.by {
                DropBy::RouterRules => rules::add(&self.pairs, Way::Nowhere)?,
                DropBy::Nft => nft::inject(at.id, &self.pairs, at.kernel_lease_ms())?,
            }
            self.measure(at)
        }

        fn comes_back_after_reboot(&self) -> bool {
            true
        }

        fn measure(&self, at: &At<'_>) -> Result<Evidence, AgentError> {
            match self.by {
                DropBy::RouterRules => {
                    let rules = rules::count(&self.pairs, Way::Nowhere)?;
                    Ok(Evidence::new(rules == self.pairs.len(), format!("{rules} rules in force"), 0, UNIT))
                }
                DropBy::Nft => {
                    let packets = nft::measure(at.id)?;
                    let count = packets.unwrap_or(0);
                    Ok(Evidence::new(packets.is_some(), format!("{count} {UNIT}"), count, UNIT))
                }
            }
        }

        fn undo(&self, at: &At<'_>) -> Result<Evidence, AgentError> {
            match self.by {
                DropBy::RouterRules => {
                    // What another fault also wants stays.
                    let others = at.others();
                    let wanted = |pair: &(IpAddr, IpAddr)| {
                        others.iter().any(|other| match &other.fault {
                            Fault::Drop(Drop { pairs, by: DropBy::RouterRules }) => pairs.contains(pair),
                            _ => false,
                        })
                    };
                    let ours: Vec<_> = self.pairs.iter().filter(|pair| !wanted(pair)).copied().collect();
                    rules::remove(&ours, Way::Nowhere)?;
                    match rules::count(&ours, Way::Nowhere)? {
                        0 => Ok(Evidence::new(true, "rules removed", 0, UNIT)),
                        left => Err(AgentError::new(format!("{left} rules of `{}` are still there", at.id))),
                    }
                }
                DropBy::Nft => {
                    // Counted before the counters go.
                    let count = self.measure(at).map_or(0, |evidence| evidence.count);
                    nft::heal(at.id)?;
                    Ok(Evidence::new(true, format!("{count} {UNIT}"), count, UNIT))
                }
            }
        }

        fn renew(&self, at: &At<'_>) {
            if self.by == DropBy::Nft {
                // A failure shows when the fault is measured: packets pass again.
                let _ = nft::renew(at.id, &self.pairs, at.lease_ms);
            }
        }
    }
}
