//! Queues, stacks, priority queues, and queues without an order.

use super::{Labels, Rules, contents};
use crate::Value;
use crate::linear::problem::Item;
use crate::model::{Container, ContainerOp, Order, Powerset, UnorderedQueue};
use std::collections::BTreeSet;

/// An element is its puts and takes. One that was taken without an answer is told by nobody: such a take may have removed
/// what is left out, so it has to be one that may as well not have happened. A container that was full may no longer be.
fn labels(items: &[Item<ContainerOp>]) -> Labels {
    let labels = items.iter().map(|item| match &item.op {
        ContainerOp::Put(value) => Some(vec![value.clone()]),
        ContainerOp::Take(value) if value.is_nil() => Some(Vec::new()),
        ContainerOp::Take(value) => Some(vec![value.clone()]),
        ContainerOp::TakeUnseen => (!item.is_finished()).then(Vec::new),
        ContainerOp::PutRefused => None,
    });
    labels.collect::<Option<_>>().map_or(Labels::None, Labels::Tied)
}

impl Rules for Container {
    fn labels(&self, items: &[Item<ContainerOp>]) -> Labels {
        labels(items)
    }

    fn subject(&self) -> &'static str {
        match self.order {
            Order::Fifo => "the queue holds",
            Order::Lifo => "the stack holds",
            Order::Smallest => "the priority queue holds",
        }
    }

    fn state_text(&self, state: &Box<[Value]>) -> String {
        contents(&**state)
    }

    fn needs(&self, op: &ContainerOp) -> Option<String> {
        let place = match self.order {
            Order::Fifo => "at the front",
            Order::Lifo => "on top",
            Order::Smallest => "to be the smallest inside",
        };
        match op {
            ContainerOp::Put(_) => self.capacity.map(|_| "room".to_owned()),
            ContainerOp::PutRefused => Some("a full queue".to_owned()),
            ContainerOp::Take(Value::Nil) => Some("nothing inside".to_owned()),
            ContainerOp::Take(value) => Some(format!("{value} {place}")),
            ContainerOp::TakeUnseen => None,
        }
    }
}

impl Rules for Powerset<UnorderedQueue> {
    fn labels(&self, items: &[Item<ContainerOp>]) -> Labels {
        labels(items)
    }

    /// A take that found nothing only says which of the possible contents were the true ones.
    fn is_droppable(&self, op: &ContainerOp) -> bool {
        matches!(op, ContainerOp::Take(Value::Nil))
    }

    /// Whatever an unanswered take took, all the rest can still be taken: only who finds nothing can tell.
    fn is_useful(&self, op: &ContainerOp, others: &[&ContainerOp]) -> bool {
        *op != ContainerOp::TakeUnseen || others.iter().any(|other| matches!(other, ContainerOp::Take(Value::Nil)))
    }

    fn subject(&self) -> &'static str {
        "the queue holds"
    }

    fn state_text(&self, states: &BTreeSet<Box<[Value]>>) -> String {
        let all: Vec<String> = states.iter().map(|state| contents(&**state)).collect();
        all.join(" or ")
    }

    fn needs(&self, op: &ContainerOp) -> Option<String> {
        match op {
            ContainerOp::Take(Value::Nil) => Some("nothing inside".to_owned()),
            ContainerOp::Take(value) => Some(format!("{value} inside")),
            _ => None,
        }
    }
}
