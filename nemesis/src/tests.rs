//! From the `nemesis` list of a test file to a plan.

use crate::claims::Harm;
use crate::event::Event;
use crate::faults::clock_bump::ClockBump;
use crate::faults::kill::Kill;
use crate::faults::{Hit, KINDS, Planned};
use crate::plan::{FaultPlan, Step};
use crate::read::{keys, read};
use crate::select::Who;
use async_trait::async_trait;
use squall_harness::config::{ConfigError, Doc, DocNode};
use squall_harness::labels::Labels;
use squall_harness::nemesis::PlanContext;
use squall_harness::target::{Change, Claims, Survives};
use squall_harness::{ClientFactory, Cluster, Node, Seed, Target};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// A target that keeps everything in memory, on a majority of its nodes.
struct InMemory;

#[async_trait]
impl Target for InMemory {
    fn name(&self) -> &'static str {
        "in-memory"
    }
    async fn install(&self, _: &Cluster, _: &Node) -> anyhow::Result<()> {
        Ok(())
    }
    async fn start(&self, _: &Cluster, _: &Node) -> anyhow::Result<()> {
        Ok(())
    }
    async fn ready(&self, _: &Cluster) -> anyhow::Result<()> {
        Ok(())
    }
    fn clients(&self, _: &str) -> Option<Arc<dyn ClientFactory>> {
        None
    }
    fn claims(&self) -> Claims {
        Claims { crashes: Survives::Minority, lost_data: Survives::Nothing }
    }
    fn can_change(&self, change: Change) -> bool {
        change == Change::Leader
    }
}

fn plan_for(yaml: &str, seed: u64, target: Option<&dyn Target>) -> Result<FaultPlan, ConfigError> {
    let doc = Doc::parse("t.yaml", yaml).unwrap();
    let DocNode::Map(entries) = doc.node else { panic!() };
    let nodes: Vec<String> = (1..=5).map(|i| format!("n{i}")).collect();
    let context = PlanContext {
        nodes: &nodes,
        labels: Labels::NONE,
        duration: Duration::from_secs(30),
        seed: Seed(seed),
        target,
        has_machines: true,
    };
    read(entries.iter().find(|(key, _)| key == "nemesis").map(|(_, doc)| doc), &context)
}

fn plan(yaml: &str, seed: u64) -> Result<FaultPlan, ConfigError> {
    plan_for(yaml, seed, None)
}

const MIXED: &str = "nemesis:
  - partition: { shape: [majorities-ring, one-way, isolate-primary], every: 5s, for: 3s }
  - kill: { nodes: minority, every: 10s, restart_after: 2s }
  - pause: { nodes: primary, every: 7s, for: 2s, schedule: exponential }
  - term: { nodes: rotating, every: 8s, schedule: interval }
  - kill: { nodes: follower, on: { log: 'snapshot at \\d+', nodes: [n1, n2] }, times: 3 }
  - package:
      name: split and crash
      every: 15s
      faults:
        - partition: { shape: halves, for: 6s }
        - kill: { nodes: one, after: 2s, restart_after: 1s }
  - stable: { every: 20s, for: 4s, after: 12s }
";

/// Beginnings and lengths (milliseconds).
fn times(plan: &FaultPlan) -> Vec<(u64, u64)> {
    plan.steps.iter().map(|step| (step.at_ms, step.for_ms)).collect()
}

#[test]
fn one_seed_one_plan() {
    let bytes = |seed| serde_json::to_string(&plan(MIXED, seed).unwrap()).unwrap();
    assert_eq!(bytes(7), bytes(7));
    assert_ne!(bytes(7), bytes(8));
    let back: FaultPlan = serde_json::from_str(&bytes(7)).unwrap();
    assert_eq!(back, plan(MIXED, 7).unwrap());
    back.validate().unwrap();
}

#[test]
fn steps_follow_the_schedule() {
    let plan = plan("nemesis: [ { kill: { nodes: [n2, n4], every: 10s, after: 1s, restart_after: 2s } } ]", 1).unwrap();
    assert_eq!(times(&plan), [(1000, 2000), (11_000, 2000), (21_000, 2000)]);
    let who = Planned::Kill(Kill { select: "n2 n4".to_owned(), who: Who::Nodes(vec![1, 3]) });
    assert_eq!(plan.steps[0].fault, who);
}

#[test]
fn random_pauses_keep_steps_apart_and_their_mean() {
    for schedule in ["interval", "exponential"] {
        let mut gaps = Vec::new();
        for seed in 0..200 {
            let yaml = format!("nemesis: [ {{ kill: {{ every: 2s, restart_after: 500ms, schedule: {schedule} }} }} ]");
            let at = times(&plan(&yaml, seed).unwrap());
            gaps.extend(at.windows(2).map(|pair| pair[1].0 - pair[0].0));
        }
        assert!(gaps.iter().all(|gap| *gap >= 500), "{schedule}: a step begins before the one before it ends");
        let mean = gaps.iter().sum::<u64>() as f64 / gaps.len() as f64;
        assert!((1850.0..2150.0).contains(&mean), "{schedule}: {mean}");
    }
}

#[test]
fn flapping_and_times() {
    let plan = plan("nemesis: [ { partition: { every: 9s, for: 1s, flap: 300ms, times: 1 } } ]", 1).unwrap();
    assert_eq!(times(&plan), [(2000, 300), (2600, 300)]);
    assert_eq!(plan.steps[0].fault, plan.steps[1].fault, "the same links");
}

#[test]
fn events_are_waited_for_in_one_queue() {
    let yaml = "nemesis: [ { kill: { on: { op: 500 }, every: 3s, restart_after: 1s, after: 4s, times: 2 } } ]";
    let steps = plan(yaml, 1).unwrap().steps;
    let on: Vec<_> = steps.iter().map(|step| step.on.clone().unwrap()).collect();
    assert_eq!(on.iter().map(|on| on.turn).collect::<Vec<_>>(), [0, 1]);
    assert!(on.iter().all(|on| on.event == Event::Op(500) && (on.armed_ms, on.every_ms) == (4000, 3000)));
    assert!(steps.iter().all(|step| step.at_ms == 0));
}

#[test]
fn packages_run_together_or_in_sequence() {
    let package = |mode: &str| {
        let yaml = format!(
            "nemesis:
  - package:
      every: 10s
      after: 1s
      mode: {mode}
      times: 1
      faults: [ {{ partition: {{ for: 4s }} }}, {{ kill: {{ after: 500ms, restart_after: 1s }} }} ]
"
        );
        times(&plan(&yaml, 1).unwrap())
    };
    assert_eq!(package("together"), [(1000, 4000), (1500, 1000)]);
    assert_eq!(package("sequence"), [(1000, 4000), (5500, 1000)]);
}

#[test]
fn picked_faults_rotate() {
    let yaml = "nemesis:
  - package:
      every: 5s
      pick: 1
      faults: [ { pause: { for: 1s } }, { kill: { restart_after: 1s } }, { term: { restart_after: 1s } } ]
";
    for seed in 0..20 {
        let plan = plan(yaml, seed).unwrap();
        let names: Vec<&str> = plan.steps.iter().map(|step| step.fault.fault().kind().doc.name).collect();
        assert_eq!(names.len(), 6);
        for round in names.chunks(3) {
            assert_eq!(round.iter().collect::<BTreeSet<_>>().len(), 3, "everybody once a round: {names:?}");
        }
    }
}

#[test]
fn nothing_happens_in_stable_periods() {
    let yaml = "nemesis:
  - kill: { every: 2s, restart_after: 1500ms, after: 500ms }
  - stable: { every: 10s, for: 3s, after: 5s }
";
    let steps = times(&plan(yaml, 1).unwrap());
    assert!(steps.contains(&(4500, 500)), "cut short: {steps:?}");
    for (at, lasts) in steps {
        for (from, to) in [(5000, 8000), (15_000, 18_000), (25_000, 28_000)] {
            assert!(at + lasts <= from || at >= to, "{at} + {lasts}");
        }
    }
}

#[test]
fn selectors() {
    let who = |nodes: &str, turn: usize| {
        let yaml = format!("nemesis: [ {{ kill: {{ nodes: {nodes}, every: 3s, restart_after: 1s }} }} ]");
        let Planned::Kill(kill) = plan(&yaml, 5).unwrap().steps.remove(turn).fault else { panic!() };
        kill.who
    };
    let sizes = [("one", 1), ("minority", 2), ("majority", 3), ("minority-third", 2), ("all", 5), ("followers", 4)];
    for (nodes, size) in sizes {
        assert_eq!(who(nodes, 0).resolve(&[1], &[]).len(), size, "{nodes}");
    }
    assert_eq!(who("primaries", 0).resolve(&[1, 4], &[]), [1, 4]);
    assert_eq!(who("primary", 0).resolve(&[4], &[]), [4]);
    assert!(!who("followers", 0).resolve(&[3], &[]).contains(&3));
    assert_ne!(who("follower", 0).resolve(&[2], &[]), [2]);
    assert_eq!(who("follower", 0).resolve(&[2], &[0, 1, 3]), [4], "whoever is still up");
    let round: BTreeSet<usize> = (0..5).flat_map(|turn| who("rotating", turn).resolve(&[], &[])).collect();
    assert_eq!(round.len(), 5, "everybody has a turn");
    for turn in 0..8 {
        let two = who("rotating-minority", turn).resolve(&[], &[]);
        assert_eq!(two.iter().collect::<BTreeSet<_>>().len(), 2);
    }
}

#[test]
fn more_than_the_target_claims_is_refused() {
    let refused = |yaml: &str| plan_for(yaml, 1, Some(&InMemory)).unwrap_err().to_string();
    let all = "nemesis:\n  - kill: { nodes: all }";
    assert_eq!(
        refused(all),
        "t.yaml:2:11: this would kill 5 of 5 nodes at once, and target `in-memory` claims to survive that of a minority: \
         choose fewer `nodes`, or say `unsafe: true`"
    );
    let two_entries = "nemesis:
  - kill: { nodes: [n1, n2], every: 8s, restart_after: 3s }
  - term: { nodes: [n3, n4], every: 8s, restart_after: 3s, after: 4s }
";
    assert!(refused(two_entries).contains("4 of 5 nodes at once"));
    assert!(plan_for("nemesis: [ { kill: { nodes: minority } } ]", 1, Some(&InMemory)).is_ok());
    assert!(plan_for("nemesis: [ { kill: { nodes: all, unsafe: true } } ]", 1, Some(&InMemory)).is_ok());
    assert!(refused("nemesis: [ remove-member ]").contains("target `in-memory` cannot change its members"));
    assert!(plan_for("nemesis: [ transfer-leader ]", 1, Some(&InMemory)).is_ok());
    assert!(Harm::DataLoss > Harm::Crash);
}

#[test]
fn bumps_are_as_large_as_their_tiers() {
    let bumps = |keys: &str| -> Vec<ClockBump> {
        let yaml = format!("nemesis: [ {{ clock-bump: {{ every: 100ms, for: 50ms, after: 0s, {keys} }} }} ]");
        let bump = |step: Step| match step.fault {
            Planned::ClockBump(bump) => bump,
            other => panic!("{other:?}"),
        };
        plan(&yaml, 3).unwrap().steps.into_iter().map(bump).collect()
    };
    let limits = [("small", 1, 100), ("medium", 100, 2000), ("large", 2000, 60_000), ("huge", 60_000, 3_600_000)];
    let all = bumps("nodes: all");
    assert_eq!(all.len(), 300);
    for (n, bump) in all.iter().enumerate() {
        let (name, low, high) = limits[n % 4];
        assert_eq!(bump.tier, name);
        assert!(bump.offsets_ms.len() == 5 && bump.offsets_ms.iter().all(|ms| (low..=high).contains(&ms.abs())));
    }
    assert!(all.iter().any(|bump| bump.offsets_ms[0] < 0) && all.iter().any(|bump| bump.offsets_ms[0] > 0));
    let back = bumps("by: [1s, 2m], direction: back");
    assert!(back.iter().step_by(2).all(|bump| bump.offsets_ms == [-1000; 5] && bump.tier == "1s"));
    assert!(back.iter().skip(1).step_by(2).all(|bump| bump.offsets_ms == [-120_000; 5]));
}

#[test]
fn mistakes_are_named() {
    let table = [
        ("nemesis:\n  - partitoin: {}", "t.yaml:2:14: unknown nemesis `partitoin`; did you mean `partition`?"),
        ("nemesis: [ { partition: { shape: haves } } ]", "did you mean `halves`?"),
        ("nemesis: [ { partition: { links: [[n1, n1]] } } ]", "a pair of two nodes"),
        ("nemesis: [ { partition: { links: [[n1, n2]], groups: [[n1], [n2]] } } ]", "exclude each other"),
        ("nemesis: [ { kill: { nodes: n9 } } ]", "unknown node or selector `n9`"),
        ("nemesis: [ { kill: { nodes: folower } } ]", "did you mean `follower`?"),
        ("nemesis: [ { pause: { for: 8s, every: 7s } } ]", "`for` must be shorter than `every`"),
        ("nemesis: [ { pause: { for: -1s } } ]", "must be a duration"),
        ("nemesis: [ { pause: { every: -7s } } ]", "must be a duration"),
        ("nemesis: [ { pause: { fro: 8s } } ]", "fro"),
        ("nemesis: [ { pause: { schedule: poisson } } ]", "unknown schedule `poisson`"),
        ("nemesis: [ { pause: { times: 0 } } ]", "`times` must be at least 1"),
        ("nemesis: [ { pause: { on: { log: '(' } } } ]", "`(` is no regular expression"),
        ("nemesis: [ { pause: { on: { op: 0 } } } ]", "`op` must be at least 1"),
        ("nemesis: [ { pause: { on: leader-chnge } } ]", "did you mean `leader-change`?"),
        ("nemesis: [ { pause: { on: leader-change, schedule: interval } } ]", "exclude each other"),
        ("nemesis: [ { crash-loop: { lives: [2s, 1s] } } ]", "[shortest, longest]"),
        ("nemesis: [ { package: { every: 5s } } ]", "a package needs `faults`"),
        ("nemesis: [ { package: { faults: [ { kil: {} } ] } } ]", "did you mean `kill`?"),
        ("nemesis: [ { package: { faults: [ { kill: { every: 2s } } ] } } ]", "every"),
        ("nemesis: [ { package: { pick: 2, faults: [ kill ] } } ]", "`pick` must be from 1 to 1"),
        ("nemesis: [ { package: { every: 3s, faults: [ { pause: { for: 4s } } ] } } ]", "the package` must be shorter"),
        ("nemesis: [ { stable: { every: 5s, for: 5s } } ]", "shorter than `every`"),
        ("nemesis: [ { clock-bump: { by: 0s } } ]", "`by` must be from 1ms to a year"),
        ("nemesis: [ { clock-bump: { tiers: hug } } ]", "did you mean `huge`?"),
        ("nemesis: [ { clock-bump: { tiers: [] } } ]", "`tiers` is empty"),
        ("nemesis: [ { clock-bump: { direction: up } } ]", "unknown direction `up`; known: ahead, back, either"),
        ("nemesis: [ { clock-strobe: { period: 1ms } } ]", "`period` must be from 10ms to 2s"),
        ("nemesis: [ { clock-drift: { rate: -0.1 } } ]", "`rate` must be from 0.00001 to 10"),
        ("nemesis: [ { clock-drift: { rate: 2 } } ]", "use clock-freeze, `direction: ahead`, or less than 1"),
        ("nemesis: [ { cpu-limit: { share: 0 } } ]", "`share` must be from 0.01 to 64 processors, not 0"),
        ("nemesis: [ { memory-limit: { more_mb: 0 } } ]", "at least 1 MiB more than there is now, not 0 bytes"),
        ("nemesis: [ { fd-limit: { left: -1 } } ]", "left"),
        ("nemesis: [ { disk-rate: { kb_per_s: 0 } } ]", "at least 1000 bytes a second"),
        ("nemesis: [ { disk-full: { left_kb: many } } ]", "left_kb"),
        ("nemesis: { pause: 1 }", "`nemesis` must be a list of faults"),
    ];
    for (yaml, expected) in table {
        let error = plan(yaml, 1).unwrap_err().to_string();
        assert!(error.contains(expected), "{yaml}: {error}");
    }
    assert_eq!(plan("name: x", 1).unwrap().steps, []);
}

#[test]
fn every_entry_documents_its_keys() {
    for name in KINDS.iter().map(|kind| kind.doc.name).chain(["package", "stable"]) {
        assert!(keys(name).unwrap().iter().any(|key| key.path.ends_with(".every")), "{name}");
    }
    assert_eq!(keys("nothing"), None);
}

#[test]
fn hits_in_words() {
    let names: Vec<String> = (1..=3).map(|i| format!("n{i}")).collect();
    assert_eq!(Hit::Nodes(vec![0, 2]).words(&names), "n1 n3");
    assert_eq!(Hit::Links(vec![(0, 1)]).words(&names), "n1->n2");
}
