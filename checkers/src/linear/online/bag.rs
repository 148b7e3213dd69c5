//! A queue without an order, as one state instead of a set of them.
//!
//! A take that nobody saw the answer of took *something* that was there. What it took is left open: the state remembers
//! that one of the elements put in before it is gone. Whenever one is known to be taken by somebody else, there must be
//! as many left of those before each such take as there were such takes (Hall's condition, for sets that contain each
//! other). Of equal elements the last to come is taken first, because the earlier one can stand in for more.

use super::digest::Digest;
use super::streamed::Streamed;
use crate::model::{ContainerOp, FailMeans, Model, Nondeterministic, UnorderedQueue};
use crate::{HistoryError, Op, Value};
use rpds::RedBlackTreeMapSync;
use std::hash::{Hash, Hasher};

/// What one step adds to what is shared, about (bytes).
const STEP_BYTES: usize = 512;

/// What an element takes, about (bytes).
const ELEMENT_BYTES: u64 = 64;

/// [`UnorderedQueue`], deterministic.
#[derive(Clone, Copy)]
pub(in crate::linear) struct Bag;

/// Elements that came between two takes without an answer.
#[derive(Clone, Debug)]
struct Layer {
    all: RedBlackTreeMapSync<Value, u32>,
    len: usize,
    digest: Digest,
}

/// What is in it: layer 0 came before the first take without an answer that still matters, and so on; the last one
/// came after all of them.
#[derive(Clone, Debug)]
pub(in crate::linear) struct Layers(Vec<Layer>);

impl PartialEq for Layers {
    fn eq(&self, other: &Self) -> bool {
        let same = |(a, b): (&Layer, &Layer)| a.digest == b.digest && a.len == b.len;
        self.0.len() == other.0.len() && self.0.iter().zip(&other.0).all(same)
    }
}

impl Eq for Layers {}

impl Hash for Layers {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.iter().for_each(|layer| layer.digest.hash(state));
    }
}

impl Layer {
    fn empty() -> Self {
        Self { all: RedBlackTreeMapSync::new_sync(), len: 0, digest: Digest::EMPTY }
    }

    fn put(&mut self, value: &Value) {
        let count = self.all.get(value).copied().unwrap_or(0) + 1;
        self.all.insert_mut(value.clone(), count);
        self.len += 1;
        self.digest = self.digest.insert(value);
    }

    /// Whether it was there.
    fn take(&mut self, value: &Value) -> bool {
        match self.all.get(value).copied() {
            None => return false,
            Some(1) => drop(self.all.remove_mut(value)),
            Some(count) => self.all.insert_mut(value.clone(), count - 1),
        }
        self.len -= 1;
        self.digest = self.digest.remove(value);
        true
    }
}

impl Layers {
    fn len(&self) -> usize {
        self.0.iter().map(|layer| layer.len).sum()
    }

    /// How many takes without an answer there were.
    fn unseen(&self) -> usize {
        self.0.len() - 1
    }

    /// Forgets layers of which all elements must have been taken by those nobody saw; `None` when there were too few.
    fn settled(mut self) -> Option<Self> {
        let (mut before, mut gone) = (0, 0);
        for at in 0..self.unseen() {
            before += self.0[at].len;
            match before.cmp(&(at + 1)) {
                std::cmp::Ordering::Less => return None,
                std::cmp::Ordering::Equal => gone = at + 1,
                std::cmp::Ordering::Greater => {}
            }
        }
        self.0.drain(..gone);
        Some(self)
    }
}

impl Model for Bag {
    type State = Layers;
    type Op = ContainerOp;

    fn initial(&self) -> Layers {
        Layers(vec![Layer::empty()])
    }

    fn step(&self, state: &Layers, op: &ContainerOp) -> Option<Layers> {
        let mut next = state.clone();
        match op {
            ContainerOp::Put(value) => next.0.last_mut()?.put(value),
            ContainerOp::PutRefused => return None,
            // Settled, it is empty exactly when nothing is left.
            ContainerOp::Take(Value::Nil) => return (state.len() == 0).then_some(next),
            ContainerOp::Take(value) => {
                if !next.0.iter_mut().rev().any(|layer| layer.take(value)) {
                    return None;
                }
            }
            ContainerOp::TakeUnseen if state.len() == state.unseen() => {}
            ContainerOp::TakeUnseen => next.0.push(Layer::empty()),
        }
        next.settled()
    }

    fn is_read_only(&self, op: &ContainerOp) -> bool {
        UnorderedQueue.is_read_only(op)
    }

    fn state_bytes(&self, state: &Layers) -> usize {
        STEP_BYTES + state.0.len() * size_of::<Layer>()
    }

    fn view(&self, op: &Op<'_>, fail_means: FailMeans) -> Result<Option<ContainerOp>, HistoryError> {
        UnorderedQueue.view(op, fail_means)
    }
}

impl Streamed for Bag {
    /// Elements do not know of each other, unless it matters whether there are any.
    fn commutes(&self, a: &ContainerOp, b: &ContainerOp) -> bool {
        match (a, b) {
            (ContainerOp::Put(_), ContainerOp::Put(_)) => true,
            (ContainerOp::Put(a), ContainerOp::Take(b)) | (ContainerOp::Take(b), ContainerOp::Put(a)) => {
                !b.is_nil() && a != b
            }
            (ContainerOp::Take(a), ContainerOp::Take(b)) => a.is_nil() == b.is_nil(),
            _ => false,
        }
    }

    fn has_commuting(&self) -> bool {
        true
    }

    fn shared_bytes(&self, state: &Layers) -> u64 {
        state.len() as u64 * ELEMENT_BYTES
    }
}
