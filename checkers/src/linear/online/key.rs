//! One key: which engine follows it, and the change from one to the other.
//!
//! Where the object is a register, `zones` goes first. It keeps a log of the events since the last moment at which
//! nothing was open, and of what was possible then, so that `levels` can start over from there when a value turns out not
//! to be unique. A log of more than [`LOG_MAX`] events is dropped; then there is no way back until nothing is open again.

use super::levels::Levels;
use super::streamed::Streamed;
use super::zones::{Stop, Zones};
use super::{Broken, Limits};
use crate::model::RegisterOp;

/// Events that are kept to start over with.
const LOG_MAX: usize = 1 << 12;

/// A log is worth starting afresh when it is this long.
const LOG_MIN: usize = 1 << 6;

/// What happens to an operation. `O` is the model's operation; `None` where it does nothing that matters.
#[derive(Clone, Debug)]
pub(super) enum Step<O> {
    /// It begins; this is what it does should nobody see it end.
    Call(Option<O>),
    /// It certainly took effect.
    Ok(Option<O>),
    /// It certainly did not; an answer may tell something all the same.
    Fail(Option<O>),
    /// Nobody will ever see it end.
    Leave(Option<O>),
}

/// A step of the operation that the caller knows as `id`, which was called at `call`.
#[derive(Clone, Debug)]
pub(super) struct Move<O> {
    pub(super) id: u32,
    pub(super) call: u64,
    pub(super) position: u64,
    /// What was known of it at its call, when it ends.
    pub(super) at_call: Option<O>,
    pub(super) step: Step<O>,
}

/// What follows one key.
pub(super) enum Follower<M: Streamed> {
    /// Without a search.
    Zones(Box<Zoned<M>>),
    /// With one.
    Levels(Box<Levels<M>>),
    /// No more.
    Nobody,
}

/// Zones, and how to start over without them.
pub(super) struct Zoned<M: Streamed> {
    zones: Zones,
    /// What was possible before the log.
    states: Vec<M::State>,
    unfinished: Vec<(M::Op, u64)>,
    /// `None` when it was too long.
    log: Option<Vec<Move<M::Op>>>,
}

impl<M: Streamed> Follower<M> {
    pub(super) fn new(model: &M) -> Self {
        let initial = model.initial();
        if model.holding(&crate::Value::Nil).is_none() {
            return Self::Levels(Box::new(Levels::new(model.clone(), [initial], [])));
        }
        let zones = Zones::new();
        Self::Zones(Box::new(Zoned { zones, states: vec![initial], unfinished: Vec::new(), log: Some(Vec::new()) }))
    }

    pub(super) fn engine(&self) -> &'static str {
        match self {
            Self::Zones(_) => "online zones",
            Self::Levels(_) => "online levels",
            Self::Nobody => "online",
        }
    }

    /// About how many bytes it holds.
    pub(super) fn bytes(&self) -> u64 {
        match self {
            Self::Zones(zoned) => {
                let log = zoned.log.as_ref().map_or(0, |log| log.capacity() * size_of::<Move<M::Op>>());
                zoned.zones.bytes() + log as u64
            }
            Self::Levels(levels) => levels.bytes(),
            Self::Nobody => 0,
        }
    }

    /// Configurations looked at so far.
    pub(super) fn configurations(&self) -> u64 {
        match self {
            Self::Levels(levels) => levels.configurations,
            _ => 0,
        }
    }

    /// Takes one step.
    pub(super) fn follow(&mut self, model: &M, step: Move<M::Op>, limits: &Limits) -> Result<(), Broken> {
        match self {
            Self::Nobody => Ok(()),
            Self::Levels(levels) => replay(levels, &step, limits),
            Self::Zones(zoned) => match zoned.follow(model, step) {
                Ok(()) => Ok(()),
                Err(Stop::Impossible) => Err(Broken::Impossible),
                Err(Stop::NotUnique) => {
                    let mut levels = zoned.start_over(model)?;
                    for step in zoned.log.iter().flatten() {
                        replay(&mut levels, step, limits)?;
                    }
                    *self = Self::Levels(Box::new(levels));
                    Ok(())
                }
            },
        }
    }
}

fn replay<M: Streamed>(levels: &mut Levels<M>, step: &Move<M::Op>, limits: &Limits) -> Result<(), Broken> {
    match &step.step {
        Step::Call(op) => levels.call(step.id, step.position, op.as_ref()),
        Step::Ok(op) | Step::Fail(op) => levels.end(step.id, step.position, op.as_ref(), limits),
        Step::Leave(op) => levels.leave(step.id, step.position, op.as_ref(), limits),
    }
}

impl<M: Streamed> Zoned<M> {
    fn follow(&mut self, model: &M, step: Move<M::Op>) -> Result<(), Stop> {
        if matches!(step.step, Step::Call(_)) {
            self.start_log_afresh(model, step.position);
        }
        let result = self.apply(model, &step);
        match &mut self.log {
            Some(log) if log.len() >= LOG_MAX => self.log = None,
            Some(log) => log.push(step),
            None => {}
        }
        result
    }

    fn apply(&mut self, model: &M, step: &Move<M::Op>) -> Result<(), Stop> {
        let register = |op: &Option<M::Op>| -> Result<Option<RegisterOp>, Stop> {
            op.as_ref().map(|op| model.as_register(op).ok_or(Stop::NotUnique)).transpose()
        };
        match &step.step {
            Step::Call(op) => self.zones.call(step.position, register(op)?.as_ref()),
            Step::Ok(Some(op)) => {
                let op = model.as_register(op).ok_or(Stop::NotUnique)?;
                self.zones.succeed(step.call, step.position, &op)
            }
            Step::Ok(None) => {
                self.zones.leave(step.call);
                Ok(())
            }
            Step::Fail(None) => self.zones.fail(step.call, register(&step.at_call)?.as_ref()),
            // An answer all the same.
            Step::Fail(Some(_)) => Err(Stop::NotUnique),
            Step::Leave(_) => {
                self.zones.leave(step.call);
                Ok(())
            }
        }
    }

    /// Where nothing is open, what is possible can be said in few words.
    fn start_log_afresh(&mut self, model: &M, position: u64) {
        let enough = LOG_MIN.max(2 * self.zones.pending());
        if !self.zones.is_quiet() || self.log.as_ref().is_some_and(|log| log.len() < enough) {
            return;
        }
        let values = self.zones.possible_values(position);
        self.states = values.iter().filter_map(|value| model.holding(value)).collect();
        let unfinished = self.zones.pending_ops().into_iter();
        self.unfinished = unfinished.filter_map(|(op, call)| Some((model.of_register(op)?, call))).collect();
        self.log = Some(Vec::new());
    }

    fn start_over(&mut self, model: &M) -> Result<Levels<M>, Broken> {
        if self.log.is_none() {
            let why = "a value is not unique, and it is too long ago that nothing was open to start over without zones";
            return Err(Broken::GaveUp(why.to_owned()));
        }
        Ok(Levels::new(model.clone(), std::mem::take(&mut self.states), std::mem::take(&mut self.unfinished)))
    }
}
