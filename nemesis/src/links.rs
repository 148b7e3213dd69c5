//! Which ordered pairs of nodes a fault hits: as written in test files, as planned, as resolved when it begins.

use crate::grudge::{self, Grudge, Shape};
use crate::select::numbers_of;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use squall_harness::config::{ConfigError, Section, did_you_mean, unknown};
use squall_harness::labels::Labels;
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
    Shapes(Vec<(String, Kind)>),
    Fixed(&'static str, Links),
}

/// What a shape's name stands for.
enum Kind {
    Plain(Shape),
    Primary(Direction),
    /// `between-dc`: no data centre hears another.
    Between(Vec<Vec<usize>>),
    /// `isolate-dc`: a random one of them alone.
    Isolate(Vec<Vec<usize>>),
}

/// Names of all shapes.
fn shapes(labels: &Labels) -> Vec<String> {
    let names = Shape::ALL.iter().map(|(name, ..)| *name).chain(PRIMARY_SHAPES.iter().map(|(name, _)| *name));
    let of_labels = labels.names().flat_map(|label| [format!("between-{label}"), format!("isolate-{label}")]);
    names.map(str::to_owned).chain(of_labels).collect()
}

impl LinkSelector {
    /// Reads the keys `shape`, `groups` and `links`.
    pub(crate) fn read(
        section: &mut Section,
        context: &PlanContext<'_>,
        default: &[&str],
    ) -> Result<Self, ConfigError> {
        let doc = format!(
            "one of these, or a list to take turns: {}; for a label of `cluster.labels` such as dc also between-dc (none hears \
             another) and isolate-dc (one of them alone)",
            shapes(context.labels).join(", ")
        );
        let default = default.iter().map(|&shape| shape.to_owned()).collect();
        let names = section.get::<Vec<String>>("shape", default, &doc)?;
        let groups = section.optional::<Vec<Vec<String>>>(
            "groups",
            "instead of a shape: [[n1, n2], [n3]], or [[dc=east], [n3]], for all links between different groups",
        )?;
        let links = section.optional::<Vec<Vec<String>>>(
            "links",
            "instead of a shape: [[n1, n2], [n3, n1]] for the links from n1 to n2 and from n3 to n1; [[dc=east, dc=west]] for all from there to there",
        )?;
        let count = context.nodes.len();
        if count < 2 {
            return Err(section.error("links need at least two nodes"));
        }
        let turns = match (groups, links) {
            (Some(_), Some(_)) => return Err(section.error("`groups` and `links` exclude each other")),
            (Some(groups), None) => {
                let groups = groups.iter().map(|group| numbers_of(section, group, context));
                let groups = groups.collect::<Result<Vec<_>, _>>()?;
                Turns::Fixed("groups", Links::Pairs(grudge::isolate_groups(&groups).into_iter().collect()))
            }
            (None, Some(links)) => {
                let pairs = links.iter().map(|link| pairs(section, link, context)).collect::<Result<Vec<_>, _>>()?;
                Turns::Fixed("links", Links::Pairs(pairs.concat()))
            }
            (None, None) if names.is_empty() => return Err(section.error("`shape` is empty: name at least one")),
            (None, None) => {
                let kind = |name: String| kind(section, &name, context).map(|kind| (name, kind));
                Turns::Shapes(names.into_iter().map(kind).collect::<Result<_, _>>()?)
            }
        };
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
                let (name, kind) = &names[turn % names.len()];
                let pairs = match kind {
                    Kind::Primary(direction) => {
                        let otherwise = rng.random_range(0..self.count);
                        return (name.clone(), Links::Primary { otherwise, direction: *direction });
                    }
                    Kind::Plain(shape) => shape.grudge(self.count, rng),
                    Kind::Between(groups) => grudge::isolate_groups(groups),
                    Kind::Isolate(groups) => grudge::isolate(&groups[rng.random_range(0..groups.len())], self.count),
                };
                (name.clone(), Links::Pairs(pairs.into_iter().collect()))
            }
        }
    }
}

/// What `name` stands for in this cluster.
fn kind(section: &Section, name: &str, context: &PlanContext<'_>) -> Result<Kind, ConfigError> {
    let count = context.nodes.len();
    if let Some((_, direction)) = PRIMARY_SHAPES.iter().find(|(known, _)| *known == name) {
        return Ok(Kind::Primary(*direction));
    }
    if let Some((_, shape, _)) = Shape::ALL.iter().find(|(known, ..)| *known == name) {
        // Whether anything is between them depends on how many they are, not on chance.
        if shape.grudge(count, &mut squall_harness::Seed(0).stream("")).is_empty() {
            let what = format!("the shape `{name}` cuts nothing among {count} nodes: it needs at least 3");
            return Err(section.error(what));
        }
        return Ok(Kind::Plain(*shape));
    }
    let of_label = name.split_once('-').filter(|(how, _)| ["between", "isolate"].contains(how));
    // Close to a shape that there always is: a slip of the pen, not a label that is missing.
    let plain = shapes(Labels::NONE);
    let is_slip = did_you_mean(name, plain.iter().map(String::as_str)).is_some();
    let Some((how, label)) = of_label.filter(|_| !is_slip) else {
        let known = shapes(context.labels);
        return Err(section.error(unknown("shape", name, known.iter().map(String::as_str).collect::<Vec<_>>())));
    };
    let groups = context.labels.groups(label).map_err(|what| section.error(format!("shape `{name}`: {what}")))?;
    let (kind, is_cut) = match how {
        "between" => (Kind::Between(groups.clone()), groups.len() > 1),
        _ => (Kind::Isolate(groups.clone()), groups.iter().all(|group| group.len() < count)),
    };
    if is_cut {
        return Ok(kind);
    }
    Err(section.error(format!("the shape `{name}` cuts nothing: all nodes of label `{label}` have the same value")))
}

/// The ordered pairs of `[from, to]`, each a node or all nodes somewhere.
fn pairs(section: &Section, link: &[String], context: &PlanContext<'_>) -> Result<Vec<(usize, usize)>, ConfigError> {
    let [from, to] = link else {
        return Err(section.error("each of `links` must be a pair of two nodes: [from, to]"));
    };
    let [from, to] = [from, to].map(|word| numbers_of(section, std::slice::from_ref(word), context));
    let (from, to) = (from?, to?);
    if from.iter().any(|node| to.contains(node)) {
        return Err(section.error("each of `links` must be a pair of two nodes that differ: [from, to]"));
    }
    Ok(from.iter().flat_map(|from| to.iter().map(|to| (*from, *to))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use squall_harness::Seed;
    use squall_harness::config::Doc;
    use std::time::Duration;

    /// The pairs of the first turns over five nodes in `labels`.
    fn picked(keys: &str, labels: &str) -> Result<Vec<Grudge>, String> {
        let nodes: Vec<String> = (1..=5).map(|i| format!("n{i}")).collect();
        let section = |text: &str| Section::new("t", Doc::parse("t.yaml", text).unwrap()).unwrap();
        let labels = Labels::read(&mut section(&format!("labels: {labels}")), &nodes).unwrap();
        let context = PlanContext {
            nodes: &nodes,
            labels: &labels,
            duration: Duration::from_secs(1),
            seed: Seed(1),
            target: None,
            has_machines: false,
        };
        let selector = LinkSelector::read(&mut section(keys), &context, &["one"]).map_err(|error| error.to_string())?;
        let mut rng = Seed(1).stream("");
        Ok((0..20).map(|turn| selector.pick(turn, &mut rng).1.resolve(&[], 5)).collect())
    }

    const DC: &str = "{ dc: { east: [n1, n2], west: [n3], north: [n4] } }";

    #[test]
    fn shapes_of_labels() {
        let [east, west, north] = [vec![0, 1], vec![2], vec![3]];
        // n5 is nowhere: it hears everybody.
        let between = grudge::isolate_groups(&[east.clone(), west.clone(), north.clone()]);
        assert!(picked("shape: between-dc", DC).unwrap().iter().all(|pairs| *pairs == between));
        // Somewhere alone: not heard by n5, either; everybody has a turn.
        let alone = [east, west, north].map(|side| grudge::isolate(&side, 5));
        let seen = picked("shape: [isolate-dc]", DC).unwrap();
        assert!(seen.iter().all(|pairs| alone.contains(pairs)));
        assert!(alone.iter().all(|pairs| seen.contains(pairs)));
        let turns = picked("shape: [between-dc, isolate-dc]", DC).unwrap();
        assert!(turns[0] == between && turns[1] != between);
    }

    #[test]
    fn places_stand_for_their_nodes() {
        let first = |keys: &str| picked(keys, DC).unwrap()[0].clone();
        assert_eq!(first("groups: [[dc=east, n5], [dc=west]]"), grudge::isolate_groups(&[vec![0, 1, 4], vec![2]]));
        assert_eq!(first("links: [[dc=east, n3], [n4, n1]]"), Grudge::from([(0, 2), (1, 2), (3, 0)]));
    }

    #[test]
    fn mistakes_are_named() {
        let table = [
            ("shape: between-rack", DC, "shape `between-rack`: unknown label `rack`; known: dc"),
            ("shape: isolate-rack", DC, "shape `isolate-rack`: unknown label `rack`; known: dc"),
            (
                "shape: between-dc",
                "{}",
                "there is no label `dc`: this cluster has none; say who is where in `cluster.labels`",
            ),
            ("shape: betwen-dc", DC, "did you mean `between-dc`?"),
            ("shape: isolate-primry", "{}", "did you mean `isolate-primary`?"),
            (
                "shape: between-dc",
                "{ dc: { east: [n1, n2] } }",
                "cuts nothing: all nodes of label `dc` have the same value",
            ),
            ("shape: isolate-dc", "{ dc: { a: [n1, n2, n3, n4, n5] } }", "cuts nothing"),
            ("shape: []", DC, "`shape` is empty"),
            ("groups: [[dc=south], [n1]]", DC, "label `dc` has no value `south`; known: east, west, north"),
            ("groups: [[n9], [n1]]", DC, "unknown node `n9`"),
            ("links: [[dc=east, n1]]", DC, "two nodes that differ"),
            ("links: [[n1, n2, n3]]", DC, "must be a pair"),
        ];
        for (keys, labels, expected) in table {
            let error = picked(keys, labels).unwrap_err();
            assert!(error.contains(expected), "{keys}: {error}");
        }
    }
}
