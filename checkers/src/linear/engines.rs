//! Which engine decides which model.

use super::columns::Columns;
use super::explain::Rules;
use super::multi::MultiStepper;
use super::online::{Bag, Streamed};
use super::problem::{Budget, Decided, Decision, InternStepper, Item};
use super::relaxed::Contradicting;
use super::texts::KvStepper;
use super::values::{RegisterHistory, RegisterStepper};
use super::whole::Whole;
use super::{EngineChoice, bounded, growth, intervals, relaxed, search, unique, wgl, whole, zones};
use crate::history::EventColumns;
use crate::model::{
    Container, ContainerOp, Counter, CounterOp, FailMeans, Kv, KvOp, Lock, LockOp, Micro, Model, MultiRegister, Order,
    Powerset, Register, RegisterOp, Set, SetOp, StepLimits, TooMuch, UnorderedQueue,
};
use crate::{HistoryError, Op, Value};

/// A model with its engines.
pub(crate) trait Engine: Rules {
    /// Decides whether the operations can be ordered.
    fn decide(&self, items: &[Item<Self::Op>], budget: &Budget, choice: EngineChoice) -> Decided {
        decide_first(self, items, budget, choice, || None)
    }

    /// Decides as `decide` does with [`EngineChoice::Auto`], without looking at one operation at a time, and says how many
    /// operations entered; `None` where that does not work, or something does not fit the model.
    fn decide_columns(&self, _columns: &Columns<'_>, _budget: &Budget) -> Option<(Decided, usize)> {
        None
    }

    /// The same of a whole history with one key, from its events.
    fn decide_events(&self, _events: &EventColumns<'_>) -> Option<Whole> {
        None
    }
}

impl Engine for MultiRegister {
    fn decide(&self, items: &[Item<Vec<Micro>>], budget: &Budget, choice: EngineChoice) -> Decided {
        if choice == EngineChoice::Wgl {
            return decide_any(self, items, budget);
        }
        let (mut stepper, problem) = MultiStepper::new(self, items);
        search::decide(&problem, &mut stepper, budget)
    }
}

impl Engine for Container {
    fn decide(&self, items: &[Item<ContainerOp>], budget: &Budget, choice: EngineChoice) -> Decided {
        let without_capacity = |items: &_| decided_by_intervals(intervals::container(items, Some(self.order)));
        decide_first(self, items, budget, choice, || match (self.capacity, self.order) {
            (None, _) => without_capacity(items),
            (Some(_), order) => {
                // What no capacity would save.
                let put: Vec<_> = items.iter().filter(|item| item.op != ContainerOp::PutRefused).cloned().collect();
                let impossible = without_capacity(&put).filter(|decided| decided.decision == Decision::NotLinearizable);
                impossible.or_else(|| if order == Order::Fifo { bounded::decide(self, items, budget) } else { None })
            }
        })
    }
}

impl Engine for Powerset<UnorderedQueue> {
    fn decide(&self, items: &[Item<ContainerOp>], budget: &Budget, choice: EngineChoice) -> Decided {
        if choice == EngineChoice::Wgl {
            return decide_any(self, items, budget);
        }
        // A take without an answer would lead to as many states as there are elements.
        decide_first(&Bag, items, budget, choice, || decided_by_intervals(intervals::container(items, None)))
    }
}

impl Engine for Counter {
    fn decide(&self, items: &[Item<CounterOp>], budget: &Budget, choice: EngineChoice) -> Decided {
        decide_first(self, items, budget, choice, || decided_by_intervals(intervals::counter(items)))
    }
}

impl Engine for Lock {
    fn decide(&self, items: &[Item<LockOp>], budget: &Budget, choice: EngineChoice) -> Decided {
        decide_first(self, items, budget, choice, || decided_by_intervals(intervals::lock(self, items)))
    }
}

impl Engine for Set {
    fn decide(&self, items: &[Item<SetOp>], budget: &Budget, choice: EngineChoice) -> Decided {
        decide_first(self, items, budget, choice, || intervals::set(items, budget))
    }
}

fn decided_by_intervals(decision: Option<Decision>) -> Option<Decided> {
    decision.map(|decision| Decided { decision, engine: "intervals", configurations: 0, reach: 0, is_first: false })
}

/// What decides without a search where it can, then a search.
fn decide_first<M: Model>(
    model: &M,
    items: &[Item<M::Op>],
    budget: &Budget,
    choice: EngineChoice,
    without_search: impl FnOnce() -> Option<Decided>,
) -> Decided {
    match choice {
        EngineChoice::Wgl => decide_any(model, items, budget),
        EngineChoice::Search => decide_by_search(model, items, budget),
        EngineChoice::Auto => without_search().unwrap_or_else(|| decide_by_search(model, items, budget)),
    }
}

fn decide_by_search<M: Model>(model: &M, items: &[Item<M::Op>], budget: &Budget) -> Decided {
    let (stepper, problem) = InternStepper::new(model, items);
    search::decide(&problem, &mut stepper.within(budget), budget)
}

/// A user's model: no engine of its own.
#[derive(Clone)]
pub(crate) struct Own<M>(pub(crate) M);

impl<M: Model> Model for Own<M> {
    type State = M::State;
    type Op = M::Op;

    fn initial(&self) -> M::State {
        self.0.initial()
    }
    fn step(&self, state: &M::State, op: &M::Op) -> Option<M::State> {
        self.0.step(state, op)
    }
    fn step_within(&self, state: &M::State, op: &M::Op, limits: &StepLimits) -> Result<Option<M::State>, TooMuch> {
        self.0.step_within(state, op, limits)
    }
    fn is_read_only(&self, op: &M::Op) -> bool {
        self.0.is_read_only(op)
    }
    fn state_bytes(&self, state: &M::State) -> usize {
        self.0.state_bytes(state)
    }
    fn view(&self, op: &Op<'_>, fail_means: FailMeans) -> Result<Option<M::Op>, HistoryError> {
        self.0.view(op, fail_means)
    }
}

impl<M: Model> Engine for Own<M> {}

/// The reference: any model, nothing clever.
fn decide_any<M: Model>(model: &M, items: &[Item<M::Op>], budget: &Budget) -> Decided {
    let (stepper, problem) = InternStepper::new(model, items);
    wgl::decide(&problem, &mut stepper.within(budget), budget)
}

impl Engine for Register {
    fn decide(&self, items: &[Item<RegisterOp>], budget: &Budget, choice: EngineChoice) -> Decided {
        if choice == EngineChoice::Wgl {
            return decide_any(self, items, budget);
        }
        decide_register(&RegisterHistory::of_items(items), budget, choice)
    }

    fn decide_columns(&self, columns: &Columns<'_>, budget: &Budget) -> Option<(Decided, usize)> {
        if let Some(decided) = unique::decide(columns, "read", "write") {
            return Some(decided);
        }
        let history = columns.register("read", "write", self.cas)?;
        Some((decide_register(&history, budget, EngineChoice::Auto), history.ops.len()))
    }

    fn decide_events(&self, events: &EventColumns<'_>) -> Option<Whole> {
        whole::decide(events, "read", "write")
    }
}

/// Decides a register over numbers.
pub(super) fn decide_register(history: &RegisterHistory, budget: &Budget, choice: EngineChoice) -> Decided {
    if choice == EngineChoice::Auto
        && let Some(decision) = zones::decide(history)
    {
        return Decided { decision, engine: "zones", configurations: 0, reach: 0, is_first: false };
    }
    if choice == EngineChoice::Auto && relaxed::is_impossible(history) {
        let decision = Decision::NotLinearizable;
        return Decided { decision, engine: "zones", configurations: 0, reach: 0, is_first: false };
    }
    let (mut stepper, problem) = RegisterStepper::new(history);
    search::decide(&problem, &mut stepper, budget)
}

impl Engine for Kv {
    fn decide(&self, items: &[Item<KvOp>], budget: &Budget, choice: EngineChoice) -> Decided {
        match as_register(items) {
            _ if choice == EngineChoice::Wgl => decide_any(self, items, budget),
            Some(items) => Register { cas: true }.decide(&items, budget, choice),
            None => {
                if choice == EngineChoice::Auto
                    && let Some(grown) = growth::as_register(items)
                {
                    if grown.is_exact {
                        return decide_register(&grown.history, budget, choice);
                    }
                    // A guess that was right.
                    if zones::decide(&grown.history) == Some(Decision::Linearizable) {
                        return Decided {
                            decision: Decision::Linearizable,
                            engine: "zones",
                            configurations: 0,
                            reach: 0,
                            is_first: false,
                        };
                    }
                }
                let (mut stepper, problem) = KvStepper::new(items);
                search::decide(&problem, &mut stepper, budget)
            }
        }
    }

    fn decide_columns(&self, columns: &Columns<'_>, budget: &Budget) -> Option<(Decided, usize)> {
        // A key without `append`, `delete` and empty texts is a register.
        if let Some(decided) = unique::decide(columns, "get", "put") {
            return Some(decided);
        }
        let history = columns.register("get", "put", true)?;
        Some((decide_register(&history, budget, EngineChoice::Auto), history.ops.len()))
    }

    fn decide_events(&self, events: &EventColumns<'_>) -> Option<Whole> {
        whole::decide(events, "get", "put")
    }
}

/// Whether this is the text without a character.
pub(super) fn is_empty_text(value: &Value) -> bool {
    matches!(value, Value::Str(text) if text.as_str().is_empty())
}

/// Without `append`, a key is a register.
fn as_register(items: &[Item<KvOp>]) -> Option<Vec<Item<RegisterOp>>> {
    let register = |item: &Item<KvOp>| Some(Item { op: Kv.as_register(&item.op)?, call: item.call, ret: item.ret });
    items.iter().map(register).collect()
}

/// What of a key contradicts each other, whatever all others do; places among `items`.
pub(super) fn contradiction_of_key(items: &[Item<KvOp>]) -> Option<Vec<Contradicting>> {
    match as_register(items) {
        Some(items) => relaxed::contradiction(&RegisterHistory::of_items(&items)),
        None => {
            let grown = growth::as_register(items).filter(|grown| grown.is_exact && !grown.is_torn)?;
            relaxed::contradiction(&grown.history)
        }
    }
}

/// Whether no order exists, for certain.
pub(crate) fn is_impossible<M: Engine>(model: &M, items: &[Item<M::Op>], budget: &Budget) -> bool {
    model.decide(items, budget, EngineChoice::Auto).decision == Decision::NotLinearizable
}
