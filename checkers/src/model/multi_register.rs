//! Several registers that are read and written together: `txn` with a list of `[read key value]` and `[write key value]`.

use super::{FailMeans, Model, no_such_op};
use crate::{HistoryError, Op, Outcome, Value};
use std::collections::BTreeMap;

/// Registers that all begin with the same value.
#[derive(Clone, Debug, Default)]
pub struct MultiRegister {
    /// What is in each before the first write.
    pub initial: Value,
}

/// One step of a transaction.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Micro {
    /// Read this value of this key; `None` when nobody knows what was read.
    Read(Value, Option<Value>),
    /// Wrote this value to this key.
    Write(Value, Value),
}

impl Micro {
    fn is_answered_by(&self, answer: &Self) -> bool {
        match (self, answer) {
            (Self::Read(key, _), Self::Read(other, _)) => key == other,
            _ => self == answer,
        }
    }
}

impl Model for MultiRegister {
    type State = BTreeMap<Value, Value>;
    type Op = Vec<Micro>;

    fn initial(&self) -> Self::State {
        BTreeMap::new()
    }

    fn step(&self, state: &Self::State, op: &Vec<Micro>) -> Option<Self::State> {
        let mut next = state.clone();
        for micro in op {
            match micro {
                Micro::Read(_, None) => {}
                Micro::Read(key, Some(value)) => {
                    if next.get(key).unwrap_or(&self.initial) != value {
                        return None;
                    }
                }
                Micro::Write(key, value) => {
                    // What is as at the beginning is left out, so that equal states are equal.
                    if *value == self.initial {
                        next.remove(key)
                    } else {
                        next.insert(key.clone(), value.clone())
                    };
                }
            }
        }
        Some(next)
    }

    fn is_read_only(&self, op: &Vec<Micro>) -> bool {
        op.iter().all(|micro| matches!(micro, Micro::Read(..)))
    }

    fn state_bytes(&self, state: &Self::State) -> usize {
        // Entries of a tree, with its own bookkeeping.
        80 * (state.len() + 1)
    }

    fn view(&self, op: &Op<'_>, _: FailMeans) -> Result<Option<Vec<Micro>>, HistoryError> {
        if op.f().as_str() != "txn" {
            return Err(no_such_op(op, "multi-register", "txn"));
        }
        let ok = op.outcome() == Outcome::Ok;
        let does_not_fit = |message| HistoryError::DoesNotFit { index: op.call_index() as u64, message };
        let steps_of = |value: &Value, ok: bool| -> Result<Vec<Micro>, HistoryError> {
            let steps = value.as_list().and_then(|steps| steps.iter().map(|step| micro(step, ok)).collect());
            let expected = "a transaction is a list of [read key value] and [write key value], not";
            steps.ok_or_else(|| does_not_fit(format!("{expected} {value}")))
        };
        let argument = op.argument();
        let asked = steps_of(&argument, false)?;
        let micros = match op.result() {
            Some(answer) if ok => {
                let answered = steps_of(&answer, true)?;
                // What is written is known from the call on: an answer that changes it would rewrite the past.
                if !(asked.len() == answered.len() && asked.iter().zip(&answered).all(|(a, b)| a.is_answered_by(b))) {
                    return Err(does_not_fit(format!(
                        "a transaction is answered with its own steps and what they read; {argument} was answered with \
                         {answer}"
                    )));
                }
                answered
            }
            _ => asked,
        };
        let unseen = !ok && self.is_read_only(&micros);
        Ok((op.outcome() != Outcome::Fail && !unseen).then_some(micros))
    }
}

fn micro(step: &Value, ok: bool) -> Option<Micro> {
    let [Value::Str(f), key, value] = step.as_list()? else { return None };
    match f.as_str() {
        "read" | "r" => Some(Micro::Read(key.clone(), ok.then(|| value.clone()))),
        "write" | "w" => Some(Micro::Write(key.clone(), value.clone())),
        _ => None,
    }
}
