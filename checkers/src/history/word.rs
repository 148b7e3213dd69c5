//! A value as a 64-bit word: its low three bits say what it is, the rest is the number or a place in a table.

use crate::{Sym, Value};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hint::select_unpredictable;

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

/// One more than the number in a packed value if [`small_int`] finds one, 0 of nil, and of everything else more than any of
/// these; without a jump.
pub(crate) fn small_number(word: u64) -> u64 {
    // The tag on top: what is no number is far away then, and negative numbers are above all others.
    let number = word.rotate_right(TAG_BITS).wrapping_sub(TAG_INT << (u64::BITS - TAG_BITS)).wrapping_add(1);
    select_unpredictable(word == WORD_NIL, 0, number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_without_a_jump_are_the_same() {
        let ends = [0, 1, 2, 3, 1 << 31, 1 << 32, (1 << 59) - 1, (1 << 60) - 1];
        let ints = ends.into_iter().flat_map(|n: i64| [n, -n, -n - 1]).map(Value::Int);
        let others = [Value::Nil, Value::Bool(false), Value::Bool(true), Value::str(""), Value::str("x")];
        let words = ints.chain(others).filter_map(|value| pack_small(&value));
        for word in words.chain([TAG_TABLE, u64::from(u32::MAX) << TAG_BITS | TAG_TABLE]) {
            let number = small_number(word);
            match small_int(word) {
                Some(n) => assert_eq!(number, n + 1, "{word:#x}"),
                None if word == WORD_NIL => assert_eq!(number, 0),
                None => assert!(number > 1 << 60, "{word:#x} is {number:#x}"),
            }
        }
    }
}
