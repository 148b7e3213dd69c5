//! What happens to the packets of ordered pairs of addresses: they come late, twice, in another order, damaged, not at all.
//!
//! The same data on every provider; who carries it out is the provider's business.

use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// An impairment of some links.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Link {
    /// Ordered (from, to) pairs.
    pub pairs: Vec<(IpAddr, IpAddr)>,
    /// What happens to their packets.
    pub impairment: Impairment,
    /// Of the random choices. Which packet comes when is not repeatable on a real network, so the same seed makes the
    /// same choices for the first, second, third … packet of a pair, whichever that is.
    pub seed: u64,
}

/// What happens to the packets of a pair. Probabilities are from 0 to 1, for each packet.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Impairment {
    /// They are lost.
    Loss {
        /// Share of the packets, in the long run.
        probability: f64,
        /// Mean number of packets lost in a row (Gilbert 1960). 1 is every packet for itself, without memory.
        burst: f64,
    },
    /// A few bits are flipped.
    Corrupt {
        /// Of each packet.
        probability: f64,
        /// How many.
        bits: u32,
        /// The checksum is made to fit, so that the application sees the damage. Otherwise the receiver's kernel drops
        /// the packet.
        deliver: bool,
    },
    /// They arrive twice.
    Duplicate {
        /// Of each packet.
        probability: f64,
    },
    /// The link is narrow: a token bucket with a queue before it, and what does not fit the queue is lost.
    Rate {
        /// Throughput.
        bits_per_s: u64,
        /// So much passes at once after a pause (bytes).
        burst_bytes: u64,
        /// Room for what waits (bytes).
        queue_bytes: u64,
    },
    /// They come late.
    Delay {
        /// By so much (microseconds).
        delay_us: u64,
        /// Give or take up to so much, uniformly (microseconds); never earlier than without any delay.
        jitter_us: u64,
        /// None overtakes another in spite of the jitter.
        keep_order: bool,
    },
    /// Some are held back, and the others overtake them.
    Reorder {
        /// Of each packet.
        probability: f64,
        /// For how long (microseconds).
        by_us: u64,
    },
    /// All are held for a while.
    Clog {
        /// Begins so long after the impairment was put in force (microseconds).
        after_us: u64,
        /// They arrive so long after it was put in force (microseconds), or with its end, whichever is first.
        until_us: Option<u64>,
    },
    /// A packet of an established TCP connection is replaced by a reset to both of its ends.
    Reset {
        /// Of each packet.
        probability: f64,
    },
}

/// No packet may be late by more than this (microseconds): what waits takes memory.
const LATE_US_MAX: u64 = 60_000_000;

impl Impairment {
    /// The fault's name: `delay`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Loss { .. } => "loss",
            Self::Corrupt { .. } => "corrupt",
            Self::Duplicate { .. } => "duplicate",
            Self::Rate { .. } => "rate",
            Self::Delay { .. } => "delay",
            Self::Reorder { .. } => "reorder",
            Self::Clog { .. } => "clog",
            Self::Reset { .. } => "reset",
        }
    }

    /// What is counted: `packets delayed`.
    pub fn unit(&self) -> &'static str {
        match self {
            Self::Loss { .. } => "packets lost",
            Self::Corrupt { .. } => "packets corrupted",
            Self::Duplicate { .. } => "packets duplicated",
            Self::Rate { .. } => "packets slowed down",
            Self::Delay { .. } => "packets delayed",
            Self::Reorder { .. } => "packets held back",
            Self::Clog { .. } => "packets held",
            Self::Reset { .. } => "resets sent",
        }
    }

    /// The share of packets it means to hit, where it takes its pick.
    pub fn probability(&self) -> Option<f64> {
        match *self {
            Self::Loss { probability, .. }
            | Self::Corrupt { probability, .. }
            | Self::Duplicate { probability }
            | Self::Reorder { probability, .. }
            | Self::Reset { probability } => Some(probability),
            Self::Rate { .. } | Self::Delay { .. } | Self::Clog { .. } => None,
        }
    }

    /// Whether it can be carried out, and does anything at all.
    ///
    /// # Errors
    /// What is wrong with it, in a sentence.
    pub fn validate(&self) -> Result<(), String> {
        if let Some(probability) = self.probability().filter(|p| !(*p > 0.0 && *p <= 1.0)) {
            return Err(format!(
                "the probability of `{}` must be more than 0 and at most 1, not {probability}",
                self.name()
            ));
        }
        let late = |us: u64| {
            let what = format!("`{}` may hold a packet back for at most {} s", self.name(), LATE_US_MAX / 1_000_000);
            if us > LATE_US_MAX { Err(what) } else { Ok(()) }
        };
        match *self {
            Self::Loss { probability, burst } => {
                // From the good state to the bad one with at most certainty.
                let least = if burst == 1.0 { 1.0 } else { (probability / (1.0 - probability)).max(1.0) };
                if !(burst.is_finite() && burst >= 1.0) {
                    Err(format!("a burst of losses is at least 1 packet long, not {burst}"))
                } else if burst < least && probability < 1.0 {
                    Err(format!(
                        "to lose {probability} of all packets in bursts these must be at least {least:.1} long"
                    ))
                } else {
                    Ok(())
                }
            }
            Self::Corrupt { bits, .. } if !(1..=1000).contains(&bits) => {
                Err(format!("from 1 to 1000 bits of a packet can be flipped, not {bits}"))
            }
            Self::Rate { bits_per_s, queue_bytes, .. } if bits_per_s < 1000 || queue_bytes < 1500 => {
                Err("a narrow link has at least 1kbit/s and room for a packet of 1500 bytes".to_owned())
            }
            Self::Delay { delay_us: 0, jitter_us: 0, .. } => Err("a delay of nothing changes nothing".to_owned()),
            Self::Delay { delay_us, jitter_us, .. } => late(delay_us.saturating_add(jitter_us)),
            Self::Reorder { by_us: 0, .. } => Err("held back for no time, a packet is not overtaken".to_owned()),
            Self::Reorder { by_us, .. } => late(by_us),
            Self::Clog { after_us, until_us: Some(until_us) } if after_us >= until_us => {
                Err("a clog that ends before it begins holds nothing".to_owned())
            }
            _ => Ok(()),
        }
    }
}

#[cfg(target_os = "linux")]
mod effect {
    use super::{IpAddr, Link};
    use crate::faults::Fault;
    use crate::linux::addresses::{never_the_control_path, own_addresses};
    use crate::linux::rules::Way;
    use crate::linux::shaper::{Ask, accept_own_packets, ask};
    use crate::linux::{At, Effect, helper, rules};
    use crate::protocol::{AgentError, Evidence};

    /// The helper that does it: one for all links of the router, or of a node that impairs what it sends.
    const SHAPER: (&str, &str) = ("shaper", "router");

    impl Effect for Link {
        fn refuse(&self, _: &At<'_>) -> Result<(), AgentError> {
            self.impairment.validate().map_err(AgentError::new)?;
            if self.pairs.is_empty() {
                return Err(AgentError::new("there is no link in it"));
            }
            let own = own_addresses();
            if let Some((from, to)) = self.pairs.iter().find(|(_, to)| own.contains(to)) {
                return Err(AgentError::new(format!(
                    "{from} -> {to} ends here: packets are impaired where they are sent or forwarded, not where they arrive"
                )));
            }
            let sent_here = |pair: &&(IpAddr, IpAddr)| own.contains(&pair.0);
            if let Some((from, to)) = self.pairs.iter().find(|pair| sent_here(pair) && pair.0.is_ipv6()) {
                return Err(AgentError::new(format!("{from} -> {to}: a node impairs what it sends over IPv4 only")));
            }
            never_the_control_path(&self.pairs, false)
        }

        fn inject(&self, at: &At<'_>) -> Result<Evidence, AgentError> {
            helper::start(at.state, SHAPER.0, SHAPER.1, &[])?;
            let own = self.own_pairs();
            if !own.is_empty() {
                accept_own_packets(&own)?;
            }
            // Before the first packet comes that way.
            ask(at.state, &Ask::Add { id: at.id.to_owned(), link: self.clone() })?;
            rules::add(&[self.pairs.clone(), rules::not_bound_yet(&own)].concat(), Way::Shaper)?;
            self.measure(at)
        }

        fn comes_back_after_reboot(&self) -> bool {
            true
        }

        fn measure(&self, at: &At<'_>) -> Result<Evidence, AgentError> {
            let unit = self.impairment.unit();
            let answer = match ask(at.state, &Ask::Measure { id: at.id.to_owned() }) {
                Ok(answer) => answer,
                Err(error) => return Ok(Evidence::new(false, format!("packets pass: {error}"), 0, unit)),
            };
            let Some(counters) = answer.counters else {
                return Ok(Evidence::new(false, "the shaper knows nothing of it: packets pass", 0, unit));
            };
            let rules = rules::count(&self.pairs, Way::Shaper)?;
            let mut seen = format!("{} of {} {unit}", counters.hit, counters.seen);
            if counters.overflowed > 0 {
                seen += &format!(", {} did not fit the queue", counters.overflowed);
            }
            if answer.unread > 0 {
                seen += &format!(", {} came too fast for the shaper", answer.unread);
            }
            Ok(Evidence::new(rules == self.pairs.len(), seen, counters.hit, unit))
        }

        fn undo(&self, at: &At<'_>) -> Result<Evidence, AgentError> {
            // What was held goes on now, before packets that take the short way again. A shaper that is gone holds nothing.
            let counters = ask(at.state, &Ask::Remove { id: at.id.to_owned() }).ok().and_then(|answer| answer.counters);
            let others: Vec<Link> = at.others().into_iter().filter_map(|other| link(other.fault)).collect();
            let wanted = |pair: &(IpAddr, IpAddr)| others.iter().any(|other| other.pairs.contains(pair));
            let mut ours: Vec<_> = self.pairs.iter().filter(|pair| !wanted(pair)).copied().collect();
            ours.extend(rules::not_bound_yet(&ours));
            rules::remove(&ours, Way::Shaper)?;
            let left = rules::count(&ours, Way::Shaper)?;
            if left > 0 {
                return Err(AgentError::new(format!("{left} rules of `{}` are still there", at.id)));
            }
            if others.is_empty() {
                // Nothing more comes in; what waits there is not lost.
                let _ = ask(at.state, &Ask::Drain);
                helper::stop(at.state, SHAPER.0, SHAPER.1)?;
                rules::forget_back()?;
            }
            let unit = self.impairment.unit();
            Ok(match counters {
                Some(counters) => Evidence::new(true, format!("{} {unit}", counters.hit), counters.hit, unit),
                // It is gone, but nobody knows since when.
                None => Evidence::new(false, "the shaper had let go of it before its end", 0, unit),
            })
        }
    }

    impl Link {
        /// Those that begin here.
        fn own_pairs(&self) -> Vec<(IpAddr, IpAddr)> {
            let own = own_addresses();
            self.pairs.iter().filter(|(from, _)| own.contains(from)).copied().collect()
        }
    }

    fn link(fault: Fault) -> Option<Link> {
        match fault {
            Fault::Link(link) => Some(link),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_carried_out_is_told() {
        let table = [
            (Impairment::Duplicate { probability: 2.0 }, "must be more than 0 and at most 1, not 2"),
            (Impairment::Reset { probability: 0.0 }, "not 0"),
            (Impairment::Corrupt { probability: f64::NAN, bits: 1, deliver: false }, "not NaN"),
            (Impairment::Corrupt { probability: 0.5, bits: 0, deliver: false }, "bits"),
            (Impairment::Loss { probability: 0.5, burst: 0.0 }, "at least 1 packet"),
            (Impairment::Loss { probability: 0.9, burst: 3.0 }, "at least 9.0 long"),
            (Impairment::Rate { bits_per_s: 10, burst_bytes: 0, queue_bytes: 9000 }, "1kbit/s"),
            (Impairment::Delay { delay_us: 0, jitter_us: 0, keep_order: true }, "nothing"),
            (Impairment::Delay { delay_us: u64::MAX, jitter_us: 9, keep_order: true }, "at most 60 s"),
            (Impairment::Reorder { probability: 0.5, by_us: 0 }, "overtaken"),
            (Impairment::Clog { after_us: 6, until_us: Some(6) }, "ends before it begins"),
        ];
        for (bad, expected) in table {
            let error = bad.validate().unwrap_err();
            assert!(error.contains(expected), "{bad:?}: {error}");
        }
        for good in [
            Impairment::Clog { after_us: 0, until_us: None },
            Impairment::Clog { after_us: 5, until_us: Some(6) },
            Impairment::Loss { probability: 1.0, burst: 1.0 },
            Impairment::Loss { probability: 0.9, burst: 1.0 },
            Impairment::Loss { probability: 0.2, burst: 5.0 },
            Impairment::Delay { delay_us: 0, jitter_us: 1, keep_order: false },
        ] {
            good.validate().unwrap();
        }
    }
}
