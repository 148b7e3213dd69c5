//! Sets and containers whose states share what they have in common, so that a million elements cost a step a few
//! hundred bytes. They are told apart by a [`Digest`].

use super::digest::Digest;
use super::streamed::Streamed;
use crate::model::{Container, ContainerOp, FailMeans, Model, Order, Set, SetOp};
use crate::{HistoryError, Op, Value};
use rpds::{HashTrieSetSync, RedBlackTreeMapSync, VectorSync};
use std::hash::{Hash, Hasher};

/// What one step adds to what is shared, about (bytes).
const STEP_BYTES: usize = 512;

/// What an element takes, about (bytes).
const ELEMENT_BYTES: u64 = 64;

/// A sequence that forgets its front is copied when that is longer than this and than what is left.
const FRONT_MIN: usize = 1 << 10;

/// [`Set`] with shared states.
#[derive(Clone, Copy)]
pub(super) struct SharedSet;

/// What is in a set.
#[derive(Clone, Debug)]
pub(super) struct Elements {
    all: HashTrieSetSync<Value>,
    digest: Digest,
}

impl PartialEq for Elements {
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest && self.all.size() == other.all.size()
    }
}

impl Eq for Elements {}

impl Hash for Elements {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.digest.hash(state);
    }
}

impl Model for SharedSet {
    type State = Elements;
    type Op = SetOp;

    fn initial(&self) -> Elements {
        Elements { all: HashTrieSetSync::new_sync(), digest: Digest::EMPTY }
    }

    fn step(&self, state: &Elements, op: &SetOp) -> Option<Elements> {
        let next = match op {
            SetOp::Add(value) if !state.all.contains(value) => {
                Elements { all: state.all.insert(value.clone()), digest: state.digest.insert(value) }
            }
            SetOp::Remove(value) if state.all.contains(value) => {
                Elements { all: state.all.remove(value), digest: state.digest.remove(value) }
            }
            SetOp::Contains(value, answer) if state.all.contains(value) != *answer => return None,
            SetOp::Read(all) => {
                let is_all = state.all.size() == all.len() && all.iter().all(|value| state.all.contains(value));
                return is_all.then(|| state.clone());
            }
            _ => state.clone(),
        };
        Some(next)
    }

    fn is_read_only(&self, op: &SetOp) -> bool {
        Set.is_read_only(op)
    }

    fn state_bytes(&self, _: &Elements) -> usize {
        STEP_BYTES
    }

    fn view(&self, op: &Op<'_>, fail_means: FailMeans) -> Result<Option<SetOp>, HistoryError> {
        Set.view(op, fail_means)
    }
}

impl Streamed for SharedSet {
    /// Operations on different elements, and what reads or does the same.
    fn commutes(&self, a: &SetOp, b: &SetOp) -> bool {
        match (element(a), element(b)) {
            (Some(a), Some(b)) if a != b => true,
            _ => a == b || self.is_read_only(a) && self.is_read_only(b),
        }
    }

    fn has_commuting(&self) -> bool {
        true
    }

    fn shared_bytes(&self, state: &Elements) -> u64 {
        state.all.size() as u64 * ELEMENT_BYTES
    }
}

/// The only element that an operation has to do with, unless it has to do with all of them.
fn element(op: &SetOp) -> Option<&Value> {
    match op {
        SetOp::Add(value) | SetOp::Remove(value) | SetOp::Contains(value, _) => Some(value),
        SetOp::Read(_) => None,
    }
}

/// [`Container`] with shared states.
#[derive(Clone, Copy)]
pub(super) struct SharedContainer(pub(super) Container);

/// What is in a container.
#[derive(Clone, Debug)]
pub(super) struct Contents {
    items: Items,
    len: usize,
    digest: Digest,
}

#[derive(Clone, Debug)]
enum Items {
    /// In the order of arrival, from the given place on.
    Sequence(VectorSync<Value>, usize),
    /// How often each is there.
    Sorted(RedBlackTreeMapSync<Value, u32>),
}

impl PartialEq for Contents {
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest && self.len == other.len
    }
}

impl Eq for Contents {}

impl Hash for Contents {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.digest.hash(state);
    }
}

impl SharedContainer {
    fn put(&self, state: &Contents, value: &Value) -> Contents {
        let (items, digest) = match &state.items {
            Items::Sequence(all, front) => {
                (Items::Sequence(all.push_back(value.clone()), *front), state.digest.push_back(value))
            }
            Items::Sorted(all) => {
                let count = all.get(value).copied().unwrap_or(0) + 1;
                (Items::Sorted(all.insert(value.clone(), count)), state.digest.insert(value))
            }
        };
        Contents { items, len: state.len + 1, digest }
    }

    /// What a take gives back, if there is anything.
    fn next<'s>(&self, state: &'s Contents) -> Option<&'s Value> {
        match &state.items {
            Items::Sequence(all, front) if self.0.order == Order::Fifo => all.get(*front),
            Items::Sequence(all, _) => all.last(),
            Items::Sorted(all) => all.first().map(|(value, _)| value),
        }
    }

    /// Without that.
    fn taken(&self, state: &Contents, value: &Value) -> Contents {
        let (items, digest) = match &state.items {
            Items::Sequence(all, front) if self.0.order == Order::Fifo => {
                let front = front + 1;
                let items = if front > FRONT_MIN.max(state.len) {
                    Items::Sequence(all.iter().skip(front).cloned().collect(), 0)
                } else {
                    Items::Sequence(all.clone(), front)
                };
                (items, state.digest.pop_front(value))
            }
            Items::Sequence(all, front) => {
                (Items::Sequence(all.drop_last().unwrap_or_default(), *front), state.digest.pop_back(value))
            }
            Items::Sorted(all) => {
                let items = match all.get(value) {
                    Some(&count) if count > 1 => all.insert(value.clone(), count - 1),
                    _ => all.remove(value),
                };
                (Items::Sorted(items), state.digest.remove(value))
            }
        };
        Contents { items, len: state.len - 1, digest }
    }
}

impl Model for SharedContainer {
    type State = Contents;
    type Op = ContainerOp;

    fn initial(&self) -> Contents {
        let items = match self.0.order {
            Order::Smallest => Items::Sorted(RedBlackTreeMapSync::new_sync()),
            Order::Fifo | Order::Lifo => Items::Sequence(VectorSync::new_sync(), 0),
        };
        Contents { items, len: 0, digest: Digest::EMPTY }
    }

    fn step(&self, state: &Contents, op: &ContainerOp) -> Option<Contents> {
        let is_full = self.0.capacity.is_some_and(|capacity| state.len >= capacity);
        match (op, self.next(state)) {
            (ContainerOp::Put(value), _) => (!is_full).then(|| self.put(state, value)),
            (ContainerOp::PutRefused, _) => is_full.then(|| state.clone()),
            (ContainerOp::Take(Value::Nil) | ContainerOp::TakeUnseen, None) => Some(state.clone()),
            (ContainerOp::Take(Value::Nil), Some(_)) => None,
            (ContainerOp::Take(value), next) => (next == Some(value)).then(|| self.taken(state, value)),
            (ContainerOp::TakeUnseen, Some(next)) => Some(self.taken(state, next)),
        }
    }

    fn is_read_only(&self, op: &ContainerOp) -> bool {
        self.0.is_read_only(op)
    }

    fn state_bytes(&self, _: &Contents) -> usize {
        STEP_BYTES
    }

    fn view(&self, op: &Op<'_>, fail_means: FailMeans) -> Result<Option<ContainerOp>, HistoryError> {
        self.0.view(op, fail_means)
    }
}

impl Streamed for SharedContainer {
    /// Where the smallest goes first, the order of arrival does not matter, nor what is larger than what goes.
    fn commutes(&self, a: &ContainerOp, b: &ContainerOp) -> bool {
        match (a, b) {
            (ContainerOp::Put(_), ContainerOp::Put(_)) => self.has_commuting(),
            (ContainerOp::Put(a), ContainerOp::Take(b)) | (ContainerOp::Take(b), ContainerOp::Put(a)) => {
                self.has_commuting() && !b.is_nil() && a > b
            }
            _ => false,
        }
    }

    fn has_commuting(&self) -> bool {
        self.0.order == Order::Smallest && self.0.capacity.is_none()
    }

    fn shared_bytes(&self, state: &Contents) -> u64 {
        state.len as u64 * ELEMENT_BYTES
    }
}
