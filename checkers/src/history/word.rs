//! A value as a 64-bit word: its low three bits say what it is, the rest is the number or a place in a table.

use crate::{Sym, Value};
use std::collections::HashMap;
use std::collections::hash_map::Entry;

const TAG_BITS: u32 = 3;
const TAG_NIL: u64 = 0;
const TAG_BOOL: u64 = 1;
const TAG_INT: u64 = 2;
const TAG_STR: u64 = 3;
const TAG_TABLE: u64 = 4;

/// Values that do not fit into a word, each once.
#[derive(Clone, Debug, Default)]
pub(super) struct ValueTable {
    values: Vec<Value>,
    by_value: HashMap<Value, u32>,
}

impl ValueTable {
    pub(super) fn clear(&mut self) {
        self.values.clear();
        self.by_value.clear();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    pub(super) fn pack(&mut self, value: Value) -> u64 {
        pack_small(&value).unwrap_or_else(|| {
            let next = self.values.len() as u32;
            let id = match self.by_value.entry(value) {
                Entry::Occupied(entry) => *entry.get(),
                Entry::Vacant(entry) => {
                    self.values.push(entry.key().clone());
                    *entry.insert(next)
                }
            };
            u64::from(id) << TAG_BITS | TAG_TABLE
        })
    }

    /// The word of a value; `None` when it is in no column.
    pub(super) fn word_of(&self, value: &Value) -> Option<u64> {
        let in_table = || self.by_value.get(value).map(|&id| u64::from(id) << TAG_BITS | TAG_TABLE);
        pack_small(value).or_else(in_table)
    }

    /// The value of a word that stands for a place in this table.
    pub(super) fn get(&self, word: u64) -> Option<&Value> {
        let is_here = word & ((1 << TAG_BITS) - 1) == TAG_TABLE;
        is_here.then(|| &self.values[(word >> TAG_BITS) as usize])
    }

    pub(super) fn unpack(&self, word: u64) -> Value {
        let rest = word >> TAG_BITS;
        match word & ((1 << TAG_BITS) - 1) {
            TAG_NIL => Value::Nil,
            TAG_BOOL => Value::Bool(rest != 0),
            TAG_INT => Value::Int(word as i64 >> TAG_BITS),
            TAG_STR => Value::Str(Sym::from_id(rest as u32)),
            _ => self.values[rest as usize].clone(),
        }
    }
}

/// The word of a value that fits into one.
pub(crate) fn pack_small(value: &Value) -> Option<u64> {
    Some(match *value {
        Value::Nil => TAG_NIL,
        Value::Bool(b) => u64::from(b) << TAG_BITS | TAG_BOOL,
        // Only numbers that survive the way back are packed.
        Value::Int(n) if n << TAG_BITS >> TAG_BITS == n => (n << TAG_BITS) as u64 | TAG_INT,
        Value::Str(s) => u64::from(s.id()) << TAG_BITS | TAG_STR,
        _ => return None,
    })
}

/// [`Value::Nil`], packed.
pub(crate) const WORD_NIL: u64 = TAG_NIL;

/// The number in a packed value, if it is one that is not negative.
pub(crate) fn small_int(word: u64) -> Option<u64> {
    (word & ((1 << TAG_BITS) - 1) == TAG_INT && word as i64 >= 0).then_some(word >> TAG_BITS)
}
