//! Packages: several faults under one schedule, at the same time or one after the other, all of them or some in turns.

use crate::faults::{FaultKind, Make, Planned};
use crate::read;
use crate::schedule::{Occasion, Schedule, Span};
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use squall_harness::config::{ConfigError, DocNode, Section, unknown};
use squall_harness::nemesis::PlanContext;
use std::time::Duration;

/// What it is called in test files, and what it is.
pub(crate) const PACKAGE: (&str, &str) =
    ("package", "several faults under one schedule: together, or one after the other; all, or some in turns");

/// One fault of a package.
struct Member {
    after: Duration,
    span: Span,
    next: Make,
    rng: ChaCha8Rng,
}

/// A part of a step: when it begins, how long it lasts, what it is.
pub(crate) type Part = (Occasion, Duration, Planned);

/// Reads a package and makes all its steps; with them its name.
pub(crate) fn read(
    number: usize,
    section: &mut Section,
    context: &PlanContext<'_>,
    rng: &mut ChaCha8Rng,
) -> Result<(String, Vec<Part>), ConfigError> {
    let name = section.get("name", "package".to_owned(), "what people call it")?;
    let schedule = Schedule::read(section, context)?;
    let doc =
        "together (each `after` so long from the package's beginning) or sequence (from the end of the one before)";
    let mode = section.get("mode", "together".to_owned(), doc)?;
    let pick =
        section.optional::<usize>("pick", "only so many of the faults each time: a random subset that rotates")?;
    let sequence = match mode.as_str() {
        "together" => false,
        "sequence" => true,
        other => return Err(section.error(unknown("mode", other, ["together", "sequence"]))),
    };
    let mut members = members(number, section, context)?;
    let pick = pick.unwrap_or(members.len());
    if !section.is_describing() && (pick == 0 || pick > members.len()) {
        return Err(section.error(format!("`pick` must be from 1 to {}, the number of faults", members.len())));
    }
    let lasts = length(&members, sequence);
    schedule.check(section, "the package", lasts)?;
    let mut parts = Vec::new();
    let mut waiting: Vec<usize> = Vec::new();
    for occasion in schedule.occasions(number, lasts, context.duration, rng) {
        let mut begin = occasion.at;
        for at in turn(&mut waiting, members.len(), pick, rng) {
            let member = &mut members[at];
            let fault = (member.next)(occasion.on.as_ref().map_or(parts.len(), |on| on.turn), &mut member.rng);
            let at = begin + member.after;
            for (at, lasts) in member.span.parts(at) {
                parts.push((Occasion { at, on: occasion.on.clone() }, lasts, fault.clone()));
            }
            if sequence {
                begin = at + member.span.lasts;
            }
        }
    }
    Ok((name, parts))
}

fn members(number: usize, section: &mut Section, context: &PlanContext<'_>) -> Result<Vec<Member>, ConfigError> {
    let doc = "each `fault: { keys }`, with `after` and how long it lasts, but no schedule of its own";
    let list = section.raw("faults", "list of faults", doc)?;
    let items = match list.map(|doc| doc.node) {
        Some(DocNode::List(items)) if !items.is_empty() => items,
        _ if section.is_describing() => Vec::new(),
        _ => return Err(section.error("a package needs `faults`: a list of at least one")),
    };
    let mut members = Vec::new();
    for (at, item) in items.iter().enumerate() {
        let (kind, keys): (&FaultKind, _) = read::entry(item)?;
        let mut keys = Section::new(&format!("{}.faults.{at}.{}", section.path(), kind.doc.name), keys)?;
        let after = keys.get("after", Duration::ZERO, "how long after the beginning, or the end of the one before")?;
        let span = Span::read(&mut keys, &kind.lasts)?;
        let next = (kind.read)(&mut keys, context)?;
        keys.finish()?;
        let rng = context.seed.stream(&format!("{number}/package/{at}/{}", kind.doc.name));
        members.push(Member { after, span, next, rng });
    }
    Ok(members)
}

/// From the beginning of the first to the end of the last.
fn length(members: &[Member], sequence: bool) -> Duration {
    let lengths = members.iter().map(|member| member.after + member.span.lasts);
    if sequence { lengths.sum() } else { lengths.max().unwrap_or_default() }
}

/// Which faults have their turn, in the order of the list: everybody has one before anybody has another.
fn turn(waiting: &mut Vec<usize>, count: usize, pick: usize, rng: &mut ChaCha8Rng) -> Vec<usize> {
    if pick == count {
        return (0..count).collect();
    }
    if waiting.len() < pick {
        let mut fresh: Vec<usize> = (0..count).filter(|at| !waiting.contains(at)).collect();
        fresh.shuffle(rng);
        waiting.extend(fresh);
    }
    let mut turn: Vec<usize> = waiting.drain(..pick).collect();
    turn.sort_unstable();
    turn
}
