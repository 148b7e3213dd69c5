//! What may be left out of a history without making it impossible for a new reason, model by model; and words.
//!
//! Every rule must be *sound*: had the history had an order, so would what is left. Then what is left, when it has none,
//! is wrong by itself, and so is the whole. `assert_sound` in [`super::tests`] holds each rule against brute force.
//!
//! | model | rule | why |
//! |---|---|---|
//! | any | operations that change nothing, one by one | no other operation can tell |
//! | register, kv without `append` | a value with all that write or observe it, and what `cas` ties to it | whoever observes another value still finds the last write before it |
//! | queue, stack, priority queue, unordered queue | a value with all its puts and takes | what remains keeps its order, and empty stays empty |
//! | set | an element: its operations, and its place in reads | elements are independent |
//! | multi-register | a value of a key: the steps of transactions that write or read it | as for a register, key by key |
//! | locks | an acquire with the release that ends it | the lock is only held less |
//! | register, kv | what a `cas` found: it is taken for a write | a write is possible wherever the `cas` is |
//! | kv | what an `append` found whose piece begins a text that was read: it is taken for a `put` | it found nothing |
//! | register, kv, unordered queue | unfinished operations whose effect nobody finds | an order in which one takes effect is as good without it |
//! | counter, kv, register, set | all that is over at some moment, when the rest is impossible *from any state* | one of these states was the true one |
//!
//! Where no rule applies, an operation may be made optional instead: it may take effect or not. That makes more orders
//! possible, never fewer, so it is sound for every model.

mod container;
mod counter;
mod kv;
mod lock;
mod multi_register;
mod register;
mod set;

use super::super::engines::Own;
use super::super::problem::Item;
use super::few::FewOp;
use crate::Value;
use crate::model::Model;

/// Which parts each operation has; parts with one label leave together.
pub(crate) enum Labels {
    /// An operation with several labels ties them together; one without labels stays.
    Tied(Vec<Vec<Value>>),
    /// What is left of an operation is [`Rules::restricted`].
    Apart(Vec<Value>),
    /// No rule applies to these operations.
    None,
}

/// The rules of a model, and its words.
pub(crate) trait Rules: Model {
    /// The parts of the operations that can be left out.
    fn labels(&self, _items: &[Item<Self::Op>]) -> Labels {
        Labels::None
    }

    /// What is left of an operation when only parts with these labels stay; `None` when nothing is.
    fn restricted(&self, op: &Self::Op, _stays: &dyn Fn(&Value) -> bool) -> Option<Self::Op> {
        Some(op.clone())
    }

    /// Whether the operation can be left out alone.
    fn is_droppable(&self, op: &Self::Op) -> bool {
        self.is_read_only(op)
    }

    /// An operation with the same effect that is possible wherever this one is, and asks for less; `None` when there is
    /// none. What a compare-and-set found ties values together that may have nothing to do with what is wrong.
    fn weaker(&self, _op: &Self::Op) -> Option<Self::Op> {
        None
    }

    /// Operations that contradict each other, whatever all others do, with their places; they may ask for less than they
    /// do. `None` where that is not easily seen. Whoever asks has to try.
    fn contradiction(&self, _items: &[Item<Self::Op>]) -> Option<Vec<(usize, Self::Op)>> {
        None
    }

    /// What a register operation found and left behind; `None` for other models.
    fn found_and_left(&self, _op: &Self::Op) -> Option<(Option<Value>, Option<Value>)> {
        None
    }

    /// Whether some of `others` may find what an unfinished operation leaves behind. Otherwise it may as well not happen.
    fn is_useful(&self, _op: &Self::Op, _others: &[&Self::Op]) -> bool {
        true
    }

    /// The operation when it need not happen: nobody knows its answer then.
    fn unanswered(&self, op: &Self::Op) -> Self::Op {
        op.clone()
    }

    /// How far operations can lead, whichever of them happen in whatever order.
    fn bound(&self, _ops: &[&Self::Op]) -> Option<String> {
        None
    }

    /// States that stand for all: when these operations can be ordered from some state, then from one of these, too. What
    /// may have happened before the start becomes optional. `None` when there are too many.
    fn any_state(&self, _ops: &mut [FewOp<Self::Op>]) -> Option<Vec<Self::State>> {
        None
    }

    /// What a state is said of: `the register holds`.
    fn subject(&self) -> &'static str {
        "the state is"
    }

    /// The state, after [`Rules::subject`].
    fn state_text(&self, state: &Self::State) -> String {
        format!("{state:?}")
    }

    /// What an operation needs to take effect, after "needs".
    fn needs(&self, _op: &Self::Op) -> Option<String> {
        None
    }

    /// The operation in words, where it is not told by the history: after [`Rules::restricted`].
    /// `f` is what the history calls it.
    fn restricted_text(&self, _f: &str, op: &Self::Op, _labels: &[Value]) -> String {
        format!("{op:?}")
    }
}

impl<M: Model> Rules for Own<M> {}

/// `[1 2 3]`, or `nothing`.
fn contents<'v>(values: impl IntoIterator<Item = &'v Value>) -> String {
    let list: Vec<String> = values.into_iter().map(ToString::to_string).collect();
    if list.is_empty() { "nothing".to_owned() } else { format!("[{}]", list.join(" ")) }
}
