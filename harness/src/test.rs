//! A test: what a test file says, resolved.

use crate::config::{ConfigError, Count, Doc, DocNode, Section};
use crate::labels::Labels;
use crate::nemesis::{Nemesis, PlanContext};
use crate::registry::{Kind, Registry, find};
use crate::seed::Seed;
use crate::target::Target;
use crate::workload::{CheckBudget, Workload};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Where the nodes come from.
#[derive(Clone, Debug, PartialEq)]
pub enum Provider {
    /// Linux namespaces on this machine.
    Local {
        /// How many.
        nodes: usize,
    },
    /// Any hosts over ssh.
    Ssh {
        /// File that lists them.
        hosts: PathBuf,
    },
    /// Virtual machines of Vagrant's.
    Vagrant {
        /// Folder with the Vagrantfile.
        folder: PathBuf,
        /// How many.
        nodes: usize,
    },
}

/// Everything a run needs to know, resolved and ready.
pub struct Test {
    /// What people call it.
    pub name: String,
    /// Where the nodes come from.
    pub provider: Provider,
    /// Names of the nodes.
    pub nodes: Vec<String>,
    /// The system under test.
    pub target: Arc<dyn Target>,
    /// What is done to it.
    pub workload: Box<dyn Workload>,
    /// What is done against it.
    pub nemesis: Arc<dyn Nemesis>,
    /// Length of the main phase.
    pub duration: Duration,
    /// Deadline of every operation.
    pub op_timeout: Duration,
    /// Calm before the final reads.
    pub quiesce: Duration,
    /// The final reads must be done after this.
    pub final_timeout: Duration,
    /// Processes and faults outlive the controller by this much.
    pub lease: Duration,
    /// Budgets of the checkers.
    pub check: CheckBudget,
    /// Root of everything random.
    pub seed: Seed,
    /// The test file with all overrides, for the plan.
    pub doc: Doc,
}

/// What the command line adds to a test file.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// `--set PATH=VALUE`, in order.
    pub set: Vec<String>,
    /// `--seed`.
    pub seed: Option<u64>,
    /// A saved fault plan to repeat instead of making one.
    pub faults: Option<serde_json::Value>,
}

/// Names of nodes, and where they are.
pub type Named = (Vec<String>, Labels);

/// Reads who the nodes of a cluster are, without bringing anything up.
#[derive(Clone, Copy)]
pub struct Names {
    /// Of a hosts file, and what it says of where they are.
    pub hosts: fn(&Path) -> Result<Named, ConfigError>,
    /// Of a folder with a Vagrantfile, and how many are wanted.
    pub machines: fn(&Path, Option<usize>) -> Result<Vec<String>, ConfigError>,
}

impl Test {
    /// Resolves a test file.
    ///
    /// # Errors
    /// File, line, column and key of what is wrong.
    pub fn read(mut doc: Doc, overrides: &Overrides, registry: &Registry, names: Names) -> Result<Self, ConfigError> {
        spell_out_cluster(&mut doc);
        for argument in &overrides.set {
            doc.set(argument)?;
        }
        spell_out_cluster(&mut doc);
        let mut top = Section::new("", doc.clone())?;
        let name = top.get("name", "unnamed test".to_owned(), NAME_DOC)?;
        let (provider, nodes, labels) = read_cluster(top.section("cluster")?, names)?;
        let target = read_one_of(&mut top, "target", &registry.targets)?;
        let workload = read_one_of(&mut top, "workload", &registry.workloads)?;
        let times = Times::read(&mut top)?;
        let check = read_check(top.section("check")?)?;
        let seed = top.optional::<u64>("seed", SEED_DOC)?;
        let seed = Seed(overrides.seed.or(seed).unwrap_or_else(|| Seed::fresh().0));
        let faults_doc = top.raw("nemesis", "list of faults", NEMESIS_DOC)?;
        top.finish()?;
        if target.clients(workload.name()).is_none() {
            let what = format!("target `{}` has no client for workload `{}`", target.name(), workload.name());
            return Err(ConfigError::at(&doc.origin, what));
        }
        let context = PlanContext {
            nodes: &nodes,
            labels: &labels,
            duration: times.duration,
            seed: seed.child("nemesis"),
            target: Some(&*target),
            has_machines: !matches!(provider, Provider::Local { .. }),
        };
        let nemesis = match &overrides.faults {
            Some(plan) => registry
                .nemesis
                .repeat(plan)
                .map_err(|e| ConfigError::at(&doc.origin, format!("the saved fault plan cannot be used: {e}")))?,
            None => registry.nemesis.read(faults_doc.as_ref(), &context)?,
        };
        Ok(Self {
            name,
            provider,
            nodes,
            target: target.into(),
            workload,
            nemesis: nemesis.into(),
            duration: times.duration,
            op_timeout: times.op_timeout,
            quiesce: times.quiesce,
            final_timeout: times.final_timeout,
            lease: times.lease,
            check,
            seed,
            doc,
        })
    }

    /// The plan as saved with the run: enough to repeat it. Contains no time and no path of the run, so that the same
    /// test and seed give the same bytes.
    pub fn plan_yaml(&self) -> String {
        let mut test = self.doc.to_yaml();
        if let serde_yaml::Value::Mapping(map) = &mut test {
            map.insert("seed".into(), self.seed.0.into());
        }
        let mut plan = serde_yaml::Mapping::new();
        plan.insert("squall_plan".into(), 1.into());
        plan.insert("test".into(), test);
        plan.insert("nodes".into(), self.nodes.iter().map(|n| serde_yaml::Value::from(n.as_str())).collect());
        let faults = serde_yaml::to_value(self.nemesis.plan()).expect("JSON is YAML");
        plan.insert("faults".into(), faults);
        serde_yaml::to_string(&plan).expect("plain values can be written")
    }
}

/// The keys of a test file, for people. Those of targets, workloads and faults are described under their own names.
pub fn keys() -> Vec<crate::config::KeyDoc> {
    let nobody = Names { hosts: |_| Ok(<_>::default()), machines: |_, _| Ok(Vec::new()) };
    crate::config::describe("", |top| {
        top.get("name", "unnamed test".to_owned(), NAME_DOC)?;
        read_cluster(top.section("cluster")?, nobody)?;
        for key in ["target", "workload"] {
            top.raw(key, "NAME: { keys }", "see `squall list` and `squall describe NAME`")?;
        }
        Times::read(top)?;
        read_check(top.section("check")?)?;
        top.optional::<u64>("seed", SEED_DOC)?;
        top.raw("nemesis", "list of faults", NEMESIS_DOC)?;
        Ok(())
    })
    .unwrap_or_default()
}

const NAME_DOC: &str = "what people call this test; its folder in the store is made from it";
const SEED_DOC: &str = "root of everything random in the run; printed and saved when absent";
const NEMESIS_DOC: &str = "faults to inject, each `fault: { keys }`; see `squall list` and `squall describe FAULT`";

/// A seed short enough to be read out loud.
struct Times {
    duration: Duration,
    op_timeout: Duration,
    quiesce: Duration,
    final_timeout: Duration,
    lease: Duration,
}

impl Times {
    fn read(top: &mut Section) -> Result<Self, ConfigError> {
        let seconds = Duration::from_secs;
        let duration = top.get("duration", seconds(30), "length of the main phase")?;
        let op_timeout =
            top.get("op_timeout", seconds(3), "an operation without an answer for this long is `unknown`")?;
        let lease = top.get("lease", seconds(20), "faults and processes outlive the controller by at most this")?;
        let mut last = top.section("final")?;
        let quiesce = last.get("quiesce", seconds(2), "calm between healing and the final reads")?;
        let final_timeout = last.get("timeout", seconds(30), "the final reads must be done after this")?;
        for (key, value) in [("duration", duration), ("op_timeout", op_timeout), ("lease", lease)] {
            if value < Duration::from_millis(100) {
                return Err(top.error(format!("`{key}` must be at least 100ms")));
            }
        }
        last.finish()?;
        Ok(Self { duration, op_timeout, quiesce, final_timeout, lease })
    }
}

fn read_check(mut section: Section) -> Result<CheckBudget, ConfigError> {
    let time_max = section.get("time", Duration::from_secs(60), "checkers give up (`unknown`) after this")?;
    let mib = section.get("memory_mib", 4096u64, "checkers give up (`unknown`) past this many MiB")?;
    section.finish()?;
    Ok(CheckBudget { time_max, memory_max: mib.saturating_mul(1 << 20) })
}

/// Spells `cluster: vagrant` out as `cluster: { provider: vagrant }`, so that other keys can be set beside it.
fn spell_out_cluster(doc: &mut Doc) {
    let DocNode::Map(entries) = &mut doc.node else { return };
    for (_, cluster) in entries.iter_mut().filter(|(key, _)| key == "cluster") {
        if matches!(&cluster.node, DocNode::Scalar(provider) if !provider.is_empty()) {
            let provider = ("provider".to_owned(), cluster.clone());
            cluster.node = DocNode::Map(vec![provider]);
        }
    }
}

fn read_cluster(mut section: Section, names: Names) -> Result<(Provider, Vec<String>, Labels), ConfigError> {
    let provider = section.get("provider", "local".to_owned(), "where the nodes come from: local, vagrant or ssh")?;
    let nodes = section
        .optional::<Count>("nodes", "how many nodes; local: default 5, vagrant: default what cluster.yaml says")?;
    let hosts = section.optional::<String>("hosts", "ssh: file that lists the hosts (see `squall describe hosts`)")?;
    let folder =
        section.optional::<String>("folder", "vagrant: folder with Vagrantfile and cluster.yaml (default vagrant)")?;
    if provider != "vagrant" && folder.is_some() {
        return Err(section.error(format!("`cluster.folder` belongs to provider `vagrant`, not `{provider}`")));
    }
    if provider != "ssh" && hosts.is_some() {
        return Err(section.error(format!("`cluster.hosts` belongs to provider `ssh`, not `{provider}`")));
    }
    let mut known = Labels::default();
    let (provider, nodes) = match provider.as_str() {
        "local" => {
            let nodes = nodes.unwrap_or(Count::Absolute(5)).resolve(1);
            if nodes > 64 {
                return Err(section.error(format!("`cluster.nodes` must be at most 64, not {nodes}")));
            }
            (Provider::Local { nodes }, (1..=nodes).map(|i| format!("n{i}")).collect())
        }
        "ssh" => {
            let Some(hosts) = hosts else {
                return Err(
                    section.error("provider `ssh` needs a key `hosts` in `cluster`: the file that lists the hosts")
                );
            };
            if nodes.is_some() {
                return Err(section.error("`cluster.nodes` does not belong to provider `ssh`: the hosts file counts"));
            }
            let hosts = PathBuf::from(hosts);
            let (names, labels) = (names.hosts)(&hosts)?;
            known = labels;
            (Provider::Ssh { hosts }, names)
        }
        "vagrant" => {
            let folder = PathBuf::from(folder.unwrap_or_else(|| "vagrant".to_owned()));
            let nodes = nodes.map(|nodes| nodes.resolve(1));
            if let Some(nodes) = nodes.filter(|nodes| *nodes > 99) {
                return Err(section.error(format!("`cluster.nodes` must be at most 99, not {nodes}")));
            }
            let names = (names.machines)(&folder, nodes)?;
            (Provider::Vagrant { folder, nodes: names.len() }, names)
        }
        other => {
            let known = ["local", "vagrant", "ssh"];
            return Err(section.error(crate::config::unknown("provider", other, known)));
        }
    };
    let labels = Labels::read(&mut section, &nodes)?.or(known);
    section.finish()?;
    Ok((provider, nodes, labels))
}

/// Reads `key: { NAME: { … } }`, or `key: NAME`, with NAME among `kinds`.
fn read_one_of<T: ?Sized>(top: &mut Section, key: &'static str, kinds: &[Kind<T>]) -> Result<Box<T>, ConfigError> {
    let Some(doc) = top.raw(key, "one of a few", "see `squall list`")? else {
        let known: Vec<_> = kinds.iter().map(|kind| kind.name).collect();
        return Err(top.error(format!("the test needs a key `{key}`: one of {}", known.join(", "))));
    };
    let (name, keys) = match doc.node {
        DocNode::Scalar(name) if !name.is_empty() => (name, Doc { node: DocNode::Map(Vec::new()), origin: doc.origin }),
        DocNode::Map(mut entries) if entries.len() == 1 => {
            let (name, keys) = entries.remove(0);
            (name, keys)
        }
        _ => {
            let what = format!("`{key}` must be one name, or `{{ name: {{ keys }} }}`, not {}", doc.describe());
            return Err(ConfigError::at(&doc.origin, what));
        }
    };
    let kind = find(kinds, key, &name).map_err(|what| ConfigError::at(&keys.origin, what))?;
    let mut section = Section::new(&format!("{key}.{name}"), keys)?;
    let value = (kind.read)(&mut section)?;
    section.finish()?;
    Ok(value)
}

/// Splits a saved plan into the test, and its faults.
///
/// # Errors
/// When `text` is not a plan that [`Test::plan_yaml`] wrote.
pub fn read_plan(file: &str, text: &str) -> Result<(Doc, serde_json::Value), ConfigError> {
    let doc = Doc::parse(file, text)?;
    let mut top = Section::new("", doc)?;
    let version = top.required("squall_plan", 1u64, "version of the plan format")?;
    if version != 1 {
        return Err(top.error(format!("this plan has format {version}; this squall knows format 1")));
    }
    let Some(test) = top.raw("test", "map", "the test")? else {
        return Err(top.error("the plan has no `test`"));
    };
    let value: serde_yaml::Value =
        serde_yaml::from_str(text).map_err(|e| top.error(format!("the plan is not YAML: {e}")))?;
    let faults = serde_json::to_value(value.get("faults").cloned().unwrap_or_default())
        .map_err(|e| top.error(format!("the plan's faults are not plain data: {e}")))?;
    Ok((test, faults))
}
