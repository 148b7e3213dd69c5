//! What all impairments of links share: plan data, what the agents are asked for, and how it is seen from outside.
//!
//! Several on one link add up, whether of one kind or of different ones, and end one by one.

use super::{FaultKind, Hit, Make, Planned, PlannedFault, Scope, impaired_trial};
use crate::hands::{self, Ask, At, End, Seen};
use crate::links::{LinkSelector, Links};
use crate::trial::{Lab, Reading, Readings};
use anyhow::{Context, bail};
use async_trait::async_trait;
use rand::RngExt;
use serde::{Deserialize, Serialize};
use squall_agent::faults::Fault;
use squall_agent::faults::link::{Impairment, Link};
use squall_agent::protocol::{Evidence, Request};
use squall_harness::config::{ConfigError, Section};
use squall_harness::nemesis::PlanContext;
use std::time::Duration;

/// How all of them are carried out.
pub(super) const MECHANISM: &str = "policy rules send the packets of these links through a TUN interface and a shaper: local in the router, ssh on the sender";

/// What all of them need.
pub(super) const NEEDS: &str = "/dev/net/tun; ssh: root";

/// Shapes that take turns when a test names none.
const SHAPES: [&str; 3] = ["one-way", "one", "full"];

/// Packets to be hit by a fault that bites: none would come by chance once in 20,000 times.
const HITS: f64 = 10.0;

/// Most datagrams that are sent over a link for that.
const DATAGRAMS_MAX: f64 = 300.0;

/// Bytes of such a datagram, without headers.
const DATAGRAM_LEN: u64 = 64;

/// Links whose packets are impaired.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Impaired {
    /// `one-way`; for people.
    pub shape: String,
    /// Which.
    pub links: Links,
    /// What happens to their packets.
    pub impairment: Impairment,
    /// Of the random choices.
    pub seed: u64,
}

/// Microseconds.
pub(super) fn us(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// Reads which links, and checks the impairment; `wrap` is the variant of the fault.
pub(super) fn read(
    section: &mut Section,
    context: &PlanContext<'_>,
    impairment: Impairment,
    wrap: impl Fn(Impaired) -> Planned + 'static,
) -> Result<Make, ConfigError> {
    impairment.validate().map_err(|why| section.error(why))?;
    let links = LinkSelector::read(section, context, &SHAPES)?;
    Ok(Box::new(move |turn, rng| {
        let (shape, links) = links.pick(turn, rng);
        wrap(Impaired { shape, links, impairment, seed: rng.random() })
    }))
}

impl Impaired {
    /// Datagrams that are sent over each of so many links to see it bite: some ten are to be hit, or a burst used up.
    fn datagrams(&self, links: usize) -> u32 {
        let all = match self.impairment {
            Impairment::Rate { burst_bytes, .. } => links as f64 * (burst_bytes / DATAGRAM_LEN + 10) as f64,
            _ => self.impairment.probability().map_or(0.0, |probability| HITS / probability),
        };
        (all / links.max(1) as f64).ceil().min(DATAGRAMS_MAX) as u32
    }

    /// Whether none hit among those would be more than bad luck.
    fn is_certain_of_hits(&self, links: usize) -> bool {
        let sent = f64::from(self.datagrams(links)) * links as f64;
        match self.impairment {
            Impairment::Loss { probability, burst } => sent * probability >= HITS * burst,
            Impairment::Corrupt { probability, .. }
            | Impairment::Duplicate { probability }
            | Impairment::Reorder { probability, .. } => sent * probability >= HITS,
            // Datagrams are no TCP connections; what a rate of many Gbit/s lets pass is no matter of a few packets.
            _ => false,
        }
    }
}

#[async_trait]
impl PlannedFault for Impaired {
    fn kind(&self) -> &'static FaultKind {
        match self.impairment {
            Impairment::Loss { .. } => &super::loss::KIND,
            Impairment::Corrupt { .. } => &super::corrupt::KIND,
            Impairment::Duplicate { .. } => &super::duplicate::KIND,
            Impairment::Rate { .. } => &super::rate::KIND,
            Impairment::Delay { .. } => &super::delay::KIND,
            Impairment::Reorder { .. } => &super::reorder::KIND,
            Impairment::Clog { .. } => &super::clog::KIND,
            Impairment::Reset { .. } => &super::reset::KIND,
        }
    }

    fn detail(&self) -> &str {
        &self.shape
    }

    fn scope(&self) -> Scope<'_> {
        Scope::Links(&self.links)
    }

    fn validate(&self) -> Result<(), String> {
        self.impairment.validate()
    }

    fn asks(&self, at: &At<'_>, hit: &Hit) -> Vec<Ask> {
        let (impairment, seed) = (self.impairment, self.seed);
        at.per_link_control(hit.links(), End::Sender, |pairs| Fault::Link(Link { pairs, impairment, seed }))
    }

    async fn verify(&self, at: &At<'_>, hit: &Hit, evidence: &[Evidence]) -> anyhow::Result<Seen> {
        let mut seen = Seen::verified(evidence)?;
        // Whatever the target says over these links or not, this is said: there is something to hit.
        let answers = hands::round_trips(at.cluster, hit.links(), self.datagrams(hit.links().len())).await?;
        let answered: Vec<u64> = answers.iter().flatten().copied().collect();
        let ms = |us: u64| us as f64 / 1e3;
        match self.impairment {
            Impairment::Delay { delay_us, jitter_us, .. } => {
                let least = delay_us.saturating_sub(jitter_us);
                let early = answered.iter().filter(|us| **us < least).count();
                if early > 0 {
                    bail!("{early} of {} probes came back in less than {} ms", answered.len(), ms(least));
                }
                // None where something else cuts these links: then the shaper's word stands alone.
                if let (Some(min), Some(max)) = (answered.iter().min(), answered.iter().max()) {
                    seen.words = format!("probes came back after {:.1} to {:.1} ms", ms(*min), ms(*max));
                }
            }
            Impairment::Clog { after_us: 0, .. } => {
                if !answered.is_empty() {
                    bail!("{} of {} probes got an answer", answered.len(), answers.len());
                }
                seen.words = format!("{} probes got no answer", answers.len());
            }
            _ => {
                let mut hits = 0;
                for ask in self.asks(at, hit) {
                    let measure = Request::Measure { id: at.id.to_owned() };
                    hits += hands::evidence(&ask.control, measure).await?.count;
                }
                seen.words = format!("{hits} {} so far", self.impairment.unit());
                // Where something else cuts a link, nothing comes to the shaper.
                let is_open = answered.len() == answers.len();
                if hits == 0 && is_open && self.is_certain_of_hits(hit.links().len()) {
                    bail!("{}", seen.words);
                }
            }
        }
        seen.count(hit.links().len() as u64, "links impaired");
        Ok(seen)
    }

    async fn gauge(&self, lab: &Lab<'_>, hit: &Hit) -> anyhow::Result<Reading> {
        let link = hit.links().first().context("no link is hit")?;
        impaired_trial::gauge(lab, *link, &self.impairment).await
    }

    fn expected(&self) -> String {
        impaired_trial::expected(&self.impairment)
    }

    fn judge(&self, readings: &Readings) -> Result<(), String> {
        impaired_trial::judge(&self.impairment, readings)
    }
}

#[cfg(test)]
mod tests {
    use crate::faults::{KINDS, Planned};
    use crate::plan::FaultPlan;
    use crate::read::read;
    use squall_harness::Seed;
    use squall_harness::config::{Doc, DocNode};
    use squall_harness::nemesis::PlanContext;
    use std::time::Duration;

    fn plan(yaml: &str) -> Result<FaultPlan, String> {
        let doc = Doc::parse("t.yaml", yaml).unwrap();
        let DocNode::Map(entries) = doc.node else { panic!() };
        let nodes: Vec<String> = (1..=5).map(|i| format!("n{i}")).collect();
        let context = PlanContext {
            nodes: &nodes,
            labels: squall_harness::labels::Labels::NONE,
            duration: Duration::from_secs(30),
            seed: Seed(7),
            target: None,
            has_machines: true,
        };
        read(Some(&entries[0].1), &context).map_err(|error| error.to_string())
    }

    #[test]
    fn each_is_planned_as_what_it_is_called() {
        let names = ["delay", "loss", "duplicate", "reorder", "corrupt", "rate", "clog", "reset"];
        for name in names {
            assert!(KINDS.iter().any(|kind| kind.doc.name == name), "{name}");
            let found = plan(&format!("nemesis: [ {name} ]")).unwrap();
            assert!(found.steps.len() > 2, "{name}");
            for step in &found.steps {
                assert!(step.id.ends_with(name), "{}", step.id);
                step.fault.fault().validate().unwrap();
            }
            let back: FaultPlan = serde_json::from_str(&serde_json::to_string(&found).unwrap()).unwrap();
            assert_eq!(back, found);
        }
    }

    #[test]
    fn mistakes_are_one_sentence() {
        let table = [
            ("loss: { probability: 2 }", "the probability of `loss` must be more than 0 and at most 1, not 2"),
            ("loss: { probability: 0.9, burst: 2 }", "at least 9.0 long"),
            ("delay: { by: -5ms }", "must be a duration"),
            ("delay: { by: 2m }", "at most 60 s"),
            ("delay: { by: 0s, jitter: 0s }", "changes nothing"),
            ("rate: { kbit_per_s: 0 }", "at least 1kbit/s"),
            ("reorder: { shape: sideways }", "unknown shape"),
            ("clog: { swizzle: 0s }", "at least 10ms"),
        ];
        for (yaml, expected) in table {
            let error = plan(&format!("nemesis: [ {{ {yaml} }} ]")).unwrap_err();
            assert!(error.contains(expected) && !error.contains('\n'), "{yaml}: {error}");
        }
    }

    #[test]
    fn a_saved_plan_is_checked_too() {
        let mut found = plan("nemesis: [ { loss: { probability: 0.5 } } ]").unwrap();
        let Planned::Loss(loss) = &mut found.steps[0].fault else { panic!() };
        loss.impairment = squall_agent::faults::link::Impairment::Loss { probability: 7.0, burst: 1.0 };
        assert!(found.validate().unwrap_err().contains("1-loss"));
    }
}
