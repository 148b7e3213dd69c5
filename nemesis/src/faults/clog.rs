//! Packets are held, and arrive when it is over: all at once, or node by node in random order (swizzle-clogging, as
//! FoundationDB's simulation calls it).

use super::impaired::{self, Impaired, MECHANISM, NEEDS, us};
use super::{FaultKind, Hit, Lasts, Make, Planned, PlannedFault, Scope, impaired_trial};
use crate::hands::{Ask, At, End, Seen};
use crate::trial::{Lab, Reading, Readings};
use async_trait::async_trait;
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};
use squall_agent::faults::Fault;
use squall_agent::faults::link::{Impairment, Link};
use squall_agent::protocol::Evidence;
use squall_harness::config::{ConfigError, Section};
use squall_harness::nemesis::{FaultDoc, PlanContext};
use std::net::IpAddr;
use std::time::Duration;

pub(crate) const KIND: FaultKind = FaultKind {
    doc: FaultDoc {
        name: "clog",
        what: "packets are held and arrive when it is over, all at once or node by node in random order",
        mechanism: MECHANISM,
        needs: NEEDS,
        verified: "no answer to a probe; packets counted by the shaper",
        colour: "#7f7f7f",
    },
    lasts: Lasts { key: "for", default_ms: 3000, doc: "how long; what is still held then arrives" },
    read,
    trial: impaired_trial::setup("{ links: [[n1, n2]] }"),
};

/// Nodes are clogged one after the other at this distance.
const SWIZZLE_MIN: Duration = Duration::from_millis(10);

/// Links that are clogged.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Clog {
    /// Which.
    pub clogged: Impaired,
    /// Node by node; all at once when there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub swizzle: Option<Swizzle>,
}

/// The order of swizzle-clogging.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Swizzle {
    /// From one to the next (microseconds).
    pub gap_us: u64,
    /// Numbers of all nodes, as their links are clogged.
    pub clog: Vec<usize>,
    /// The same nodes, as their links are released, beginning when all are clogged.
    pub release: Vec<usize>,
}

fn read(section: &mut Section, context: &PlanContext<'_>) -> Result<Make, ConfigError> {
    let doc = "one node after the other at this distance, and released so in another order; all at once without it";
    let gap = section.optional::<Duration>("swizzle", doc)?;
    if gap.is_some_and(|gap| gap < SWIZZLE_MIN) {
        return Err(section.error("`swizzle` must be at least 10ms"));
    }
    let count = context.nodes.len();
    let mut clogged = impaired::read(section, context, Impairment::Clog { after_us: 0, until_us: None }, |clogged| {
        Planned::Clog(Clog { clogged, swizzle: None })
    })?;
    Ok(Box::new(move |turn, rng| {
        let mut planned = clogged(turn, rng);
        if let (Planned::Clog(clog), Some(gap)) = (&mut planned, gap) {
            let mut shuffled = || {
                let mut order: Vec<usize> = (0..count).collect();
                order.shuffle(rng);
                order
            };
            clog.swizzle = Some(Swizzle { gap_us: us(gap), clog: shuffled(), release: shuffled() });
        }
        planned
    }))
}

impl Swizzle {
    /// When the links of `node` are clogged, from the beginning on (microseconds).
    fn times(&self, node: usize) -> (u64, u64) {
        let at = |order: &[usize]| order.iter().position(|other| *other == node).unwrap_or(0) as u64;
        let all = self.clog.len() as u64;
        (at(&self.clog) * self.gap_us, (all + at(&self.release)) * self.gap_us)
    }
}

#[async_trait]
impl PlannedFault for Clog {
    fn kind(&self) -> &'static FaultKind {
        &KIND
    }

    fn detail(&self) -> &str {
        self.clogged.detail()
    }

    fn scope(&self) -> Scope<'_> {
        self.clogged.scope()
    }

    fn validate(&self) -> Result<(), String> {
        self.clogged.validate()
    }

    fn asks(&self, at: &At<'_>, hit: &Hit) -> Vec<Ask> {
        let Some(swizzle) = &self.swizzle else { return self.clogged.asks(at, hit) };
        let mut asks: Vec<Ask> = Vec::new();
        for &node in &swizzle.clog {
            let links: Vec<_> = hit.links().iter().copied().filter(|(from, to)| *from == node || *to == node).collect();
            if links.is_empty() {
                continue;
            }
            let (after_us, until_us) = swizzle.times(node);
            let impairment = Impairment::Clog { after_us, until_us: Some(until_us) };
            let fault = |pairs: Vec<(IpAddr, IpAddr)>| Fault::Link(Link { pairs, impairment, seed: self.clogged.seed });
            for ask in at.per_link_control(&links, End::Sender, fault) {
                // One list for each agent: the faults of one get ids of their own.
                match asks.iter_mut().find(|other| other.control.is(&ask.control)) {
                    Some(other) => other.faults.extend(ask.faults),
                    None => asks.push(ask),
                }
            }
        }
        asks
    }

    async fn verify(&self, at: &At<'_>, hit: &Hit, evidence: &[Evidence]) -> anyhow::Result<Seen> {
        match &self.swizzle {
            // Some are clogged later, some soon released: in force is all that can be said of all.
            Some(_) => Seen::verified(evidence),
            None => self.clogged.verify(at, hit, evidence).await,
        }
    }

    async fn gauge(&self, lab: &Lab<'_>, hit: &Hit) -> anyhow::Result<Reading> {
        self.clogged.gauge(lab, hit).await
    }

    fn expected(&self) -> String {
        self.clogged.expected()
    }

    fn judge(&self, readings: &Readings) -> Result<(), String> {
        self.clogged.judge(readings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_clogged_before_the_first_is_released() {
        let swizzle = Swizzle { gap_us: 10, clog: vec![2, 0, 1], release: vec![1, 2, 0] };
        assert_eq!((0..3).map(|node| swizzle.times(node)).collect::<Vec<_>>(), [(10, 50), (20, 30), (0, 40)]);
    }
}
