//! The `nemesis` list of a test file, resolved into a [`FaultPlan`].

use crate::claims;
use crate::event::Trigger;
use crate::faults::{FaultKind, KINDS, Planned};
use crate::package::{self, PACKAGE};
use crate::plan::{FaultPlan, Step};
use crate::schedule::{Occasion, Schedule, Span};
use crate::stable::{self, STABLE};
use squall_harness::config::{ConfigError, Doc, DocNode, KeyDoc, Origin, Section, describe, unknown};
use squall_harness::labels::Labels;
use squall_harness::nemesis::PlanContext;
use std::time::Duration;

/// A step that has no number yet.
pub(crate) struct Draft {
    /// When it begins, since the start of the main phase or after its event.
    pub(crate) at: Duration,
    /// What it waits for.
    pub(crate) on: Option<Trigger>,
    /// How long it lasts.
    pub(crate) lasts: Duration,
    /// Name of its package.
    pub(crate) package: Option<String>,
    /// What.
    pub(crate) fault: Planned,
    /// The entry in the test file.
    pub(crate) origin: Origin,
    /// Whether it may do more than the target claims to survive.
    pub(crate) is_unsafe: bool,
}

impl Draft {
    /// The earliest time at which it can begin.
    fn earliest(&self) -> Duration {
        self.on.as_ref().map_or(self.at, |on| self.at + Duration::from_millis(on.armed_ms))
    }
}

/// Resolves the list; `None` and an empty list are a plan without steps.
pub(crate) fn read(list: Option<&Doc>, context: &PlanContext<'_>) -> Result<FaultPlan, ConfigError> {
    let items = match list {
        None => &[][..],
        Some(Doc { node: DocNode::List(items), .. }) => items,
        Some(Doc { node: DocNode::Scalar(text), .. }) if text.is_empty() => &[],
        Some(doc) => {
            return Err(ConfigError::at(
                &doc.origin,
                format!("`nemesis` must be a list of faults, not {}", doc.describe()),
            ));
        }
    };
    let (mut drafts, mut calm) = (Vec::new(), Vec::new());
    for (number, item) in items.iter().enumerate() {
        let (name, keys) = named(item)?;
        if kind(&name).is_none() && ![PACKAGE.0, STABLE.0].contains(&name.as_str()) {
            let known = KINDS.iter().map(|kind| kind.doc.name).chain([PACKAGE.0, STABLE.0]);
            return Err(ConfigError::at(&item.origin, unknown("nemesis", &name, known.collect::<Vec<_>>())));
        }
        let mut section = Section::new(&format!("nemesis.{number}.{name}"), keys)?;
        match name.as_str() {
            "stable" => calm.extend(stable::read(&mut section, context)?),
            name => drafts.extend(steps(number, name, &mut section, context)?),
        }
        section.finish()?;
    }
    drafts.retain_mut(|draft| match (&draft.on, stable::cut(&calm, draft.at, draft.lasts)) {
        // When its event comes is not known yet: see `FaultPlan::stable`.
        (Some(_), _) => true,
        (None, Some(left)) => {
            draft.lasts = left;
            true
        }
        (None, None) => false,
    });
    drafts.sort_by_key(Draft::earliest);
    claims::check(&drafts, context)?;
    let ms = |time: Duration| time.as_millis() as u64;
    let step = |(n, draft): (usize, Draft)| Step {
        id: format!("{}-{}", n + 1, draft.fault.fault().kind().doc.name),
        package: draft.package,
        on: draft.on,
        at_ms: ms(draft.at),
        for_ms: ms(draft.lasts),
        fault: draft.fault,
    };
    let has_events = drafts.iter().any(|draft| draft.on.is_some());
    let stable = if has_events { calm.iter().map(|(from, to)| (ms(*from), ms(*to))).collect() } else { Vec::new() };
    Ok(FaultPlan { nodes: context.nodes.to_vec(), stable, steps: drafts.into_iter().enumerate().map(step).collect() })
}

/// `partition`, or `partition: { … }`.
fn named(item: &Doc) -> Result<(String, Doc), ConfigError> {
    match &item.node {
        DocNode::Scalar(name) if !name.is_empty() => {
            Ok((name.clone(), Doc { node: DocNode::Map(Vec::new()), origin: item.origin.clone() }))
        }
        DocNode::Map(entries) if entries.len() == 1 => Ok(entries[0].clone()),
        _ => {
            let what = format!("a fault must be one name, or `{{ name: {{ keys }} }}`, not {}", item.describe());
            Err(ConfigError::at(&item.origin, what))
        }
    }
}

/// A fault with its keys.
pub(crate) fn entry(item: &Doc) -> Result<(&'static FaultKind, Doc), ConfigError> {
    let (name, keys) = named(item)?;
    match kind(&name) {
        Some(kind) => Ok((kind, keys)),
        None => Err(ConfigError::at(&item.origin, unknown("fault", &name, KINDS.iter().map(|kind| kind.doc.name)))),
    }
}

/// The fault called `name`.
pub(crate) fn kind(name: &str) -> Option<&'static FaultKind> {
    KINDS.iter().copied().find(|kind| kind.doc.name == name)
}

/// The keys of one entry, for people.
pub(crate) fn keys(name: &str) -> Option<Vec<KeyDoc>> {
    let nodes: Vec<String> = (1..=5).map(|i| format!("n{i}")).collect();
    let seed = squall_harness::Seed(0);
    let context = PlanContext {
        nodes: &nodes,
        labels: Labels::NONE,
        duration: Duration::from_secs(1),
        seed,
        target: None,
        has_machines: true,
    };
    let path = format!("nemesis.N.{name}");
    let docs = match name {
        "stable" => describe(&path, |section| stable::read(section, &context).map(|_| ())),
        name if name == PACKAGE.0 || kind(name).is_some() => {
            describe(&path, |section| steps(0, name, section, &context).map(|_| ()))
        }
        _ => return None,
    };
    docs.ok()
}

/// The first fault that `keys` of `kind` make.
pub(crate) fn one(kind: &FaultKind, keys: Doc, context: &PlanContext<'_>) -> Result<Planned, ConfigError> {
    let mut section = Section::new(kind.doc.name, keys)?;
    let drafts = steps(0, kind.doc.name, &mut section, context)?;
    let missing = section.error("these keys make no step at all");
    section.finish()?;
    drafts.into_iter().next().map(|draft| draft.fault).ok_or(missing)
}

/// The steps of one entry.
fn steps(
    number: usize,
    name: &str,
    section: &mut Section,
    context: &PlanContext<'_>,
) -> Result<Vec<Draft>, ConfigError> {
    let mut rng = context.seed.stream(&format!("{number}/{name}"));
    let doc = "allow more than the target claims to survive: it may then lose what it promised to keep";
    let is_unsafe = section.get("unsafe", false, doc)?;
    let (package, parts) = if name == PACKAGE.0 {
        let (package, parts) = package::read(number, section, context, &mut rng)?;
        (Some(package), parts)
    } else {
        let kind = kind(name).ok_or_else(|| section.error(format!("there is no fault `{name}`")))?;
        let schedule = Schedule::read(section, context)?;
        let span = Span::read(section, &kind.lasts)?;
        schedule.check(section, kind.lasts.key, span.lasts)?;
        let mut next = (kind.read)(section, context)?;
        let mut parts = Vec::new();
        for (turn, Occasion { at, on }) in
            schedule.occasions(number, span.lasts, context.duration, &mut rng).into_iter().enumerate()
        {
            let fault = next(turn, &mut rng);
            let occasion = |at| Occasion { at, on: on.clone() };
            parts.extend(span.parts(at).into_iter().map(|(at, lasts)| (occasion(at), lasts, fault.clone())));
        }
        (None, parts)
    };
    let origin = section.origin().clone();
    let draft = |(Occasion { at, on }, lasts, fault): package::Part| Draft {
        at,
        on,
        lasts,
        package: package.clone(),
        fault,
        origin: origin.clone(),
        is_unsafe,
    };
    Ok(parts.into_iter().map(draft).collect())
}
