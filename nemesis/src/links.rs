//! Which ordered pairs of nodes a fault hits: as written in test files, as planned, as resolved when it begins.

use crate::grudge::{self, Grudge, Shape};
use crate::select::number_of;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use squall_harness::config::{ConfigError, Section, unknown};
use squall_harness::nemesis::PlanContext;

/// Links, as far as they can be told before the run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Links {
    /// These ordered pairs (from, to) of node numbers.
    Pairs(Vec<(usize, usize)>),
    /// Those between whoever leads when the step begins and everybody else. When nobody is known to lead: of this node.
    Primary {
        /// Stands in for the primary.
        otherwise: usize,
        /// `both`, `in` (to it) or `out` (from it).
        direction: Direction,
    },
}

/// Directions of a node's links.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// To it and from it.
    Both,
    /// What it hears.
    In,
    /// What it says.
    Out,
}

/// Shapes that depend on who leads.
const PRIMARY_SHAPES: [(&str, Direction); 3] =
    [("isolate-primary", Direction::Both), ("deafen-primary", Direction::In), ("mute-primary", Direction::Out)];

impl Links {
    /// The pairs, once it is known who leads.
    pub(crate) fn resolve(&self, primaries: &[usize], count: usize) -> Grudge {
        match self {
            Self::Pairs(pairs) => pairs.iter().copied().collect(),
            Self::Primary { otherwise, direction } => {
                let node = primaries.first().copied().unwrap_or(*otherwise);
                let passes = |&(from, to): &(usize, usize)| match direction {
                    Direction::Both => true,
                    Direction::In => to == node,
                    Direction::Out => from == node,
                };
                grudge::isolate(&[node], count).into_iter().filter(passes).collect()
            }
        }
    }

    /// Every node that it names.
    pub(crate) fn nodes(&self) -> Vec<usize> {
        match self {
            Self::Pairs(pairs) => pairs.iter().flat_map(|&(from, to)| [from, to]).collect(),
            Self::Primary { otherwise, .. } => vec![*otherwise],
        }
    }
}

/// Links as a test file names them: by shapes that take turns, by groups, or one by one.
pub(crate) struct LinkSelector {
    count: usize,
    turns: Turns,
}

enum Turns {
    Shapes(Vec<String>),
    Fixed(&'static str, Links),
}

/// Names of all shapes.
fn shapes() -> Vec<&'static str> {
    Shape::ALL.iter().map(|(name, ..)| *name).chain(PRIMARY_SHAPES.iter().map(|(name, _)| *name)).collect()
}

impl LinkSelector {
    /// Reads the keys `shape`, `groups` and `links`.
    pub(crate) fn read(
        section: &mut Section,
        context: &PlanContext<'_>,
        default: &[&str],
    ) -> Result<Self, ConfigError> {
        let doc = format!("one of these, or a list to take turns: {}", shapes().join(", "));
        let default = default.iter().map(|&shape| shape.to_owned()).collect();
        let names = section.get::<Vec<String>>("shape", default, &doc)?;
        let groups = section.optional::<Vec<Vec<String>>>(
            "groups",
            "instead of a shape: [[n1, n2], [n3]] for all links between different groups",
        )?;
        let links = section.optional::<Vec<Vec<String>>>(
            "links",
            "instead of a shape: [[n1, n2], [n3, n1]] for the links from n1 to n2 and from n3 to n1",
        )?;
        let count = context.nodes.len();
        if count < 2 {
            return Err(section.error("links need at least two nodes"));
        }
        let turns = match (groups, links) {
            (Some(_), Some(_)) => return Err(section.error("`groups` and `links` exclude each other")),
            (Some(groups), None) => {
                let groups = numbered(section, &groups, context.nodes)?;
                Turns::Fixed("groups", Links::Pairs(grudge::isolate_groups(&groups).into_iter().collect()))
            }
            (None, Some(links)) => {
                let pairs = numbered(section, &links, context.nodes)?.into_iter().map(|link| match link[..] {
                    [from, to] if from != to => Ok((from, to)),
                    _ => Err(section.error("each of `links` must be a pair of two nodes: [from, to]")),
                });
                Turns::Fixed("links", Links::Pairs(pairs.collect::<Result<_, _>>()?))
            }
            (None, None) => Turns::Shapes(names),
        };
        if let Turns::Shapes(names) = &turns {
            check_shapes(section, names, count)?;
        }
        if matches!(&turns, Turns::Fixed(_, Links::Pairs(pairs)) if pairs.is_empty()) {
            return Err(section.error("the groups or links named have no link in them"));
        }
        Ok(Self { count, turns })
    }

    /// The links of one turn, and what they are called.
    pub(crate) fn pick(&self, turn: usize, rng: &mut ChaCha8Rng) -> (String, Links) {
        match &self.turns {
            Turns::Fixed(name, links) => ((*name).to_owned(), links.clone()),
            Turns::Shapes(names) => {
                let name = &names[turn % names.len()];
                let links = match PRIMARY_SHAPES.iter().find(|(known, _)| known == name) {
                    Some((_, direction)) => {
                        Links::Primary { otherwise: rng.random_range(0..self.count), direction: *direction }
                    }
                    None => Links::Pairs(shape(name).grudge(self.count, rng).into_iter().collect()),
                };
                (name.clone(), links)
            }
        }
    }
}

fn shape(name: &str) -> Shape {
    Shape::ALL.iter().find(|(known, ..)| *known == name).map_or(Shape::One, |(_, shape, _)| *shape)
}

fn check_shapes(section: &Section, names: &[String], count: usize) -> Result<(), ConfigError> {
    let known = shapes();
    for name in names {
        if !known.contains(&name.as_str()) {
            return Err(section.error(unknown("shape", name, known)));
        }
        // Whether anything is between them depends on how many they are, not on chance.
        let chance = &mut squall_harness::Seed(0).stream("");
        let is_primary = PRIMARY_SHAPES.iter().any(|(known, _)| known == name);
        if !is_primary && shape(name).grudge(count, chance).is_empty() {
            let what = format!("the shape `{name}` cuts nothing among {count} nodes: it needs at least 3");
            return Err(section.error(what));
        }
    }
    if names.is_empty() { Err(section.error("`shape` is empty: name at least one")) } else { Ok(()) }
}

fn numbered(section: &Section, groups: &[Vec<String>], nodes: &[String]) -> Result<Vec<Vec<usize>>, ConfigError> {
    groups.iter().map(|group| group.iter().map(|name| number_of(section, name, nodes)).collect()).collect()
}
