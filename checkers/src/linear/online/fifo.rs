//! A queue whose elements need no order before they are taken.
//!
//! Elements that were put in concurrently can come out in any order, so a sequence would be one of very many. Here an
//! element keeps its window (from the call of its put to the return), and one may be taken when no other was certainly
//! put in before: when none that is left returned before its call. An order of the puts that fits always exists then:
//! places in windows can be chosen in the order of the takes exactly when no window lies wholly before that of one
//! taken earlier. A put is linearized when it returns at the latest, so what is not there yet returns later, and was
//! certainly not put in before.

use super::digest::Digest;
use super::streamed::Streamed;
use crate::model::{Container, ContainerOp, FailMeans, Model, Order};
use crate::{HistoryError, Op, Value};
use rpds::RedBlackTreeMapSync;
use std::hash::{Hash, Hasher};

/// What one step adds to what is shared, about (bytes).
const STEP_BYTES: usize = 1024;

/// What an element takes, about (bytes).
const ELEMENT_BYTES: u64 = 256;

const QUEUE: Container = Container { order: Order::Fifo, capacity: None };

/// An unbounded queue, first in, first out.
#[derive(Clone, Copy)]
pub(super) struct LazyQueue;

/// An operation; of a put with its call and its return, `u64::MAX` while nobody has seen it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Dated {
    op: ContainerOp,
    call: u64,
    end: u64,
}

/// What is in it.
#[derive(Clone, Debug)]
pub(super) struct Waiting {
    /// By call.
    all: RedBlackTreeMapSync<u64, (u64, Value)>,
    /// Returns, with calls.
    ends: RedBlackTreeMapSync<(u64, u64), ()>,
    /// Values, with calls.
    values: RedBlackTreeMapSync<(Value, u64), ()>,
    digest: Digest,
}

impl PartialEq for Waiting {
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest && self.all.size() == other.all.size()
    }
}

impl Eq for Waiting {}

impl Hash for Waiting {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.digest.hash(state);
    }
}

impl Waiting {
    fn put(&self, value: &Value, call: u64, end: u64) -> Self {
        Self {
            all: self.all.insert(call, (end, value.clone())),
            ends: self.ends.insert((end, call), ()),
            values: self.values.insert((value.clone(), call), ()),
            digest: self.digest.insert(&(value, call, end)),
        }
    }

    fn without(&self, call: u64) -> Option<Self> {
        let (end, value) = self.all.get(&call)?;
        Some(Self {
            all: self.all.remove(&call),
            ends: self.ends.remove(&(*end, call)),
            values: self.values.remove(&(value.clone(), call)),
            digest: self.digest.remove(&(value, call, *end)),
        })
    }

    /// The first return of all: whatever was called before it may be the next to go.
    fn first_end(&self) -> u64 {
        self.ends.first().map_or(u64::MAX, |((end, _), ())| *end)
    }
}

impl Model for LazyQueue {
    type State = Waiting;
    type Op = Dated;

    fn initial(&self) -> Waiting {
        Waiting {
            all: RedBlackTreeMapSync::new_sync(),
            ends: RedBlackTreeMapSync::new_sync(),
            values: RedBlackTreeMapSync::new_sync(),
            digest: Digest::EMPTY,
        }
    }

    /// The first of the [outcomes](Streamed::outcomes).
    fn step(&self, state: &Waiting, op: &Dated) -> Option<Waiting> {
        self.outcomes(state, op).into_iter().next()
    }

    fn is_read_only(&self, op: &Dated) -> bool {
        QUEUE.is_read_only(&op.op)
    }

    fn state_bytes(&self, _: &Waiting) -> usize {
        STEP_BYTES
    }

    fn view(&self, op: &Op<'_>, fail_means: FailMeans) -> Result<Option<Dated>, HistoryError> {
        Ok(QUEUE.view(op, fail_means)?.map(|op| Dated { op, call: 0, end: 0 }))
    }
}

impl Streamed for LazyQueue {
    fn outcomes(&self, state: &Waiting, op: &Dated) -> Vec<Waiting> {
        let first_end = state.first_end();
        match &op.op {
            ContainerOp::Put(value) => vec![state.put(value, op.call, op.end)],
            ContainerOp::PutRefused => Vec::new(),
            ContainerOp::Take(Value::Nil) | ContainerOp::TakeUnseen if state.all.is_empty() => vec![state.clone()],
            ContainerOp::Take(Value::Nil) => Vec::new(),
            ContainerOp::Take(value) => {
                let range = (value.clone(), 0)..=(value.clone(), u64::MAX);
                let calls = state.values.range(range).map(|((_, call), ())| *call);
                calls.take_while(|&call| call < first_end).filter_map(|call| state.without(call)).collect()
            }
            ContainerOp::TakeUnseen => {
                let calls = state.all.keys().copied().take_while(|&call| call < first_end);
                calls.filter_map(|call| state.without(call)).collect()
            }
        }
    }

    fn has_outcomes(&self) -> bool {
        true
    }

    fn dated(&self, op: &Dated, call: u64, end: u64) -> Dated {
        match op.op {
            ContainerOp::Put(_) => Dated { op: op.op.clone(), call, end },
            // Takes that do the same are the same.
            _ => op.clone(),
        }
    }

    /// In the states that occur: what is put in later was not put in before.
    fn commutes(&self, a: &Dated, b: &Dated) -> bool {
        match (&a.op, &b.op) {
            (ContainerOp::Put(_), ContainerOp::Put(_)) => true,
            (ContainerOp::Put(a), ContainerOp::Take(b)) | (ContainerOp::Take(b), ContainerOp::Put(a)) => {
                !b.is_nil() && a != b
            }
            _ => false,
        }
    }

    fn has_commuting(&self) -> bool {
        true
    }

    fn shared_bytes(&self, state: &Waiting) -> u64 {
        state.all.size() as u64 * ELEMENT_BYTES
    }
}
