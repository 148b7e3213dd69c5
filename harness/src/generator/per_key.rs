//! The same small test for one key after another, several keys at a time.

use super::{Context, Generator, Next};
use squall_checkers::{Event, Value};

/// Splits the workers into groups of `threads_per_key`; each group works on a key of its own until that key's generator
/// is done for all of the group, then takes the next key. Long histories stay checkable because each key's stays short.
pub struct PerKey<F> {
    make: F,
    threads_per_key: usize,
    key_next: i64,
    keys: i64,
    groups: Vec<Option<Group>>,
}

struct Group {
    key: i64,
    generator: Box<dyn Generator>,
    /// Which members were told that it is done.
    done: Vec<bool>,
}

impl<F: FnMut(i64) -> Box<dyn Generator> + Send> PerKey<F> {
    /// Keys 0 to `keys` - 1, `threads_per_key` workers on each; `make(key)` makes a key's generator, whose operations need
    /// not carry the key.
    pub fn new(keys: i64, threads_per_key: usize, make: F) -> Self {
        Self { make, threads_per_key: threads_per_key.max(1), key_next: 0, keys, groups: Vec::new() }
    }

    fn next_group(&mut self) -> Option<Group> {
        if self.key_next >= self.keys {
            return None;
        }
        let key = self.key_next;
        self.key_next += 1;
        Some(Group { key, generator: (self.make)(key), done: vec![false; self.threads_per_key] })
    }
}

impl<F: FnMut(i64) -> Box<dyn Generator> + Send> Generator for PerKey<F> {
    fn next(&mut self, context: &Context) -> Next {
        let at = context.thread / self.threads_per_key;
        let member = context.thread % self.threads_per_key;
        // The last group may be smaller than the others.
        let size = self.threads_per_key.min(context.threads - at * self.threads_per_key);
        while self.groups.len() <= at {
            let group = self.next_group();
            self.groups.push(group);
        }
        loop {
            let Some(group) = &mut self.groups[at] else { return Next::Done };
            if !group.done[member] {
                match group.generator.next(context) {
                    Next::Op(mut op) => {
                        op.key = Value::Int(group.key);
                        return Next::Op(op);
                    }
                    Next::Done => group.done[member] = true,
                    next => return next,
                }
            }
            if group.done[..size].iter().any(|done| !done) {
                return Next::Pending;
            }
            self.groups[at] = self.next_group();
        }
    }

    fn update(&mut self, context: &Context, event: &Event) {
        let at = context.thread / self.threads_per_key;
        if let Some(Some(group)) = self.groups.get_mut(at)
            && event.key == Value::Int(group.key)
        {
            group.generator.update(context, event);
        }
    }
}
