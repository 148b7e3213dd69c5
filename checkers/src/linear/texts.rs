//! Keys with `append`, and what a search may forget about them.
//!
//! Appending only makes a text longer. So a text that is no beginning of any value that operations observe can be told
//! from no other such text, until something else is stored: all of them are one state, [`UNOBSERVED`]. A text that is a
//! beginning of some is told by which: observed texts are sorted, so those that begin alike stand side by side, and a
//! state is the first of them and a length. No text is ever built or hashed. And when an operation must find a value
//! while only appends are open, each of them has to continue towards it.

use super::problem::{FastMap, Item, NumberedOp, Problem, Stepper};
use crate::model::{Kv, KvOp, Model};
use crate::{Sym, Value};

/// A text that nobody observes any more.
const UNOBSERVED: u32 = 0;

/// No state, no kind.
const NOTHING: u32 = u32::MAX;

/// What is stored, as far as observed values can tell.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum State {
    /// Some text that is no beginning of an observed one.
    Unobserved,
    /// Nothing.
    Absent,
    /// The first `len` bytes that the observed texts `lo..hi` have in common; no others begin so.
    Text { lo: u32, hi: u32, len: u32 },
    /// Anything but a text.
    Other(Value),
}

/// A key of a key-value store as a [`Stepper`].
pub(crate) struct KvStepper {
    kinds: Vec<KvOp>,
    /// Kind -> place of the text that it observes.
    place: Vec<u32>,
    /// Kind -> the only state in which it can be read, where there is only one.
    only: Vec<Option<u32>>,
    states: Vec<State>,
    by_state: FastMap<State, u32>,
    steps: FastMap<(u32, u32), Option<u32>>,
    /// Per state: latest completion of an operation that observes a value which begins like it; -1 without one.
    live_until: Vec<i64>,
    /// Observed texts, sorted, each with the latest completion that observes it.
    texts: Vec<(&'static str, i64)>,
    /// The latest completion that observes nil.
    nil_until: i64,
    /// Kind -> what it appends, if it does.
    appended: Vec<Option<&'static [u8]>>,
    /// A state and a kind of operation, and what has to be appended in that state until that one is possible: asked for
    /// one choice after the other.
    rest: (u32, u32, Option<&'static [u8]>),
    /// Per kind of unfinished operations: until when somebody may find what it leaves behind.
    useful_until: Vec<i64>,
    /// Nothing but texts is stored, and nobody says what a value is not: a text that nobody observes is good for nothing.
    only_texts: bool,
}

/// Places in texts that are looked at to find out which unfinished operations may be found, at most.
const PLACES_MAX: usize = 20_000_000;

impl KvStepper {
    /// Numbers the operations of `items`.
    pub(crate) fn new(items: &[Item<KvOp>]) -> (Self, Problem) {
        let mut kinds: Vec<KvOp> = Vec::with_capacity(items.len());
        let mut by_op: FastMap<&KvOp, u32> = FastMap::with_capacity_and_hasher(items.len(), Default::default());
        let mut observed: FastMap<Sym, i64> = FastMap::default();
        let mut nil_until = -1;
        let mut ops = Vec::with_capacity(items.len());
        for item in items {
            let kind = *by_op.entry(&item.op).or_insert_with(|| {
                kinds.push(item.op.clone());
                kinds.len() as u32 - 1
            });
            ops.push(NumberedOp { kind, call: item.call, ret: item.ret });
            let until = match found(&item.op) {
                Some(Value::Str(text)) => observed.entry(*text).or_insert(-1),
                Some(Value::Nil) => &mut nil_until,
                _ => continue,
            };
            *until = (*until).max(i64::from(item.ret));
        }
        let mut sorted: Vec<(&'static str, Sym, i64)> =
            observed.into_iter().map(|(text, until)| (text.as_str(), text, until)).collect();
        sorted.sort_unstable_by_key(|(text, ..)| *text);
        let places: FastMap<Sym, u32> =
            sorted.iter().enumerate().map(|(at, (_, text, _))| (*text, at as u32)).collect();
        let texts = sorted.into_iter().map(|(text, _, until)| (text, until)).collect();
        let place = |kind: &KvOp| match found(kind) {
            Some(Value::Str(text)) => places.get(text).copied().unwrap_or(u32::MAX),
            _ => u32::MAX,
        };
        let place: Vec<u32> = kinds.iter().map(place).collect();
        let only = vec![None; kinds.len()];
        let appended = |kind: &KvOp| match kind {
            KvOp::Append(text) => Some(text.as_str().as_bytes()),
            _ => None,
        };
        let appended = kinds.iter().map(appended).collect();
        let mut by_state: FastMap<State, u32> = FastMap::with_capacity_and_hasher(items.len(), Default::default());
        by_state.insert(State::Unobserved, UNOBSERVED);
        let mut stepper = Self {
            kinds,
            place,
            only,
            states: vec![State::Unobserved],
            by_state,
            steps: FastMap::with_capacity_and_hasher(2 * items.len(), Default::default()),
            live_until: vec![-1],
            texts,
            nil_until,
            appended,
            rest: (NOTHING, NOTHING, None),
            useful_until: Vec::new(),
            only_texts: false,
        };
        stepper.only_texts = stepper.has_only_texts();
        stepper.useful_until = stepper.useful_until(items, &ops);
        for kind in 0..stepper.kinds.len() {
            // The empty text is read from an absent key, too.
            if let KvOp::Get(Value::Str(text)) = &stepper.kinds[kind]
                && !text.as_str().is_empty()
            {
                // Those that begin like it stand right behind it.
                let (text, lo) = (text.as_str(), stepper.place[kind]);
                let behind = &stepper.texts[lo as usize..];
                let alike = behind.iter().take_while(|(other, _)| other.starts_with(text)).count();
                let state = State::Text { lo, hi: lo + alike as u32, len: text.len() as u32 };
                stepper.only[kind] = Some(stepper.intern(state));
            }
        }
        (stepper, Problem { ops })
    }

    fn has_only_texts(&self) -> bool {
        let is_text = |value: &Value| matches!(value, Value::Nil | Value::Str(_));
        self.kinds.iter().all(|kind| match kind {
            KvOp::Put(value) | KvOp::Cas(_, value) => is_text(value),
            KvOp::CasRefused(_) => false,
            KvOp::Get(_) | KvOp::Append(_) | KvOp::Delete => true,
        })
    }

    /// Until when each kind of unfinished operation is useful: without it, an order is as good when nobody observes a text
    /// that begins with what it stored, or contains what it appended. Where anything but texts is stored, even a text that
    /// nobody reads may be needed for others to append to.
    fn useful_until(&self, items: &[Item<KvOp>], ops: &[NumberedOp]) -> Vec<i64> {
        let mut until = vec![i64::MAX; self.kinds.len()];
        if !self.only_texts {
            return until;
        }
        let latest = |texts: &[(&str, i64)]| texts.iter().map(|(_, until)| *until).max().unwrap_or(-1);
        let mut pieces: FastMap<&[u8], i64> = FastMap::default();
        for (item, op) in items.iter().zip(ops).filter(|(item, _)| !item.is_finished()) {
            let until = &mut until[op.kind as usize];
            match &item.op {
                KvOp::Put(Value::Str(begin)) | KvOp::Cas(_, Value::Str(begin)) => {
                    let first = self.texts.partition_point(|(text, _)| *text < begin.as_str());
                    let behind = &self.texts[first..];
                    let count = behind.partition_point(|(text, _)| text.starts_with(begin.as_str()));
                    *until = latest(&behind[..count]);
                }
                KvOp::Put(_) | KvOp::Delete | KvOp::Cas(..) => *until = latest(&self.texts).max(self.nil_until),
                KvOp::Append(end) if !end.as_str().is_empty() => {
                    pieces.insert(end.as_str().as_bytes(), -1);
                }
                _ => {}
            }
        }
        let mut lens: Vec<usize> = pieces.keys().map(|piece| piece.len()).collect();
        lens.sort_unstable();
        lens.dedup();
        let places: usize = self.texts.iter().map(|(text, _)| text.len()).sum();
        if places.saturating_mul(lens.len()) > PLACES_MAX {
            return until;
        }
        for (text, observed_until) in &self.texts {
            for piece in lens.iter().flat_map(|len| text.as_bytes().windows(*len)) {
                if let Some(until) = pieces.get_mut(piece) {
                    *until = (*until).max(*observed_until);
                }
            }
        }
        for (kind, until) in self.kinds.iter().zip(&mut until) {
            if let KvOp::Append(end) = kind
                && let Some(observed_until) = pieces.get(end.as_str().as_bytes())
            {
                *until = *observed_until;
            }
        }
        until
    }

    fn intern(&mut self, state: State) -> u32 {
        if let Some(&known) = self.by_state.get(&state) {
            return known;
        }
        let latest = |texts: &[(&str, i64)]| texts.iter().map(|(_, until)| *until).max().unwrap_or(-1);
        let live = match &state {
            State::Unobserved => -1,
            State::Absent => latest(&self.texts).max(self.nil_until),
            State::Text { lo, hi, .. } => latest(&self.texts[*lo as usize..*hi as usize]),
            // It cannot be appended to: that tells it from texts for ever.
            State::Other(_) => i64::MAX,
        };
        self.live_until.push(live);
        self.states.push(state.clone());
        let number = self.states.len() as u32 - 1;
        self.by_state.insert(state, number);
        number
    }

    /// The state of a text of which `len` bytes are those of the observed texts `lo..hi`, continued by `more`.
    fn continued(&self, lo: u32, hi: u32, len: u32, more: &str) -> State {
        let range = &self.texts[lo as usize..hi as usize];
        let rest = |text: &'static str| &text.as_bytes()[len as usize..];
        let first = range.partition_point(|(text, _)| rest(text) < more.as_bytes());
        let count = range[first..].partition_point(|(text, _)| rest(text).starts_with(more.as_bytes()));
        if count == 0 {
            return State::Unobserved;
        }
        let lo = lo + first as u32;
        State::Text { lo, hi: lo + count as u32, len: len + more.len() as u32 }
    }

    fn stored(&self, value: &Value) -> State {
        match value {
            Value::Nil => State::Absent,
            Value::Str(text) => self.continued(0, self.texts.len() as u32, 0, text.as_str()),
            other => State::Other(other.clone()),
        }
    }

    /// Whether `state` reads as the value that `kind` observes.
    fn reads_as(&self, state: &State, kind: u32, value: &Value) -> bool {
        match (state, value) {
            (State::Absent, Value::Nil) => true,
            (State::Absent, Value::Str(text)) => text.as_str().is_empty(),
            // The shortest of the texts that begin alike comes first.
            (State::Text { lo, len, .. }, Value::Str(_)) => {
                self.place[kind as usize] == *lo && self.texts[*lo as usize].0.len() == *len as usize
            }
            (State::Other(stored), read) => stored == read,
            _ => false,
        }
    }

    fn next(&self, state: &State, kind: u32) -> Option<State> {
        match &self.kinds[kind as usize] {
            KvOp::Get(value) => self.reads_as(state, kind, value).then(|| state.clone()),
            KvOp::Cas(value, new) => self.reads_as(state, kind, value).then(|| self.stored(new)),
            KvOp::CasRefused(value) => (!self.reads_as(state, kind, value)).then(|| state.clone()),
            KvOp::Put(value) => Some(self.stored(value)),
            KvOp::Delete => Some(State::Absent),
            KvOp::Append(more) => match *state {
                State::Unobserved => Some(State::Unobserved),
                State::Absent => Some(self.continued(0, self.texts.len() as u32, 0, more.as_str())),
                State::Text { lo, hi, len } => Some(self.continued(lo, hi, len, more.as_str())),
                State::Other(_) => None,
            },
        }
    }
}

/// The value that an operation tells from others.
fn found(op: &KvOp) -> Option<&Value> {
    match op {
        KvOp::Get(value) | KvOp::Cas(value, _) | KvOp::CasRefused(value) => Some(value),
        KvOp::Put(_) | KvOp::Append(_) | KvOp::Delete => None,
    }
}

impl Stepper for KvStepper {
    fn initial(&mut self) -> u32 {
        self.intern(State::Absent)
    }

    fn step(&mut self, state: u32, kind: u32) -> Option<u32> {
        if let Some(&known) = self.steps.get(&(state, kind)) {
            return known;
        }
        let next = self.next(&self.states[state as usize], kind).map(|next| self.intern(next));
        self.steps.insert((state, kind), next);
        next
    }

    fn is_read_only(&self, kind: u32) -> bool {
        Kv.is_read_only(&self.kinds[kind as usize])
    }

    fn reads(&mut self, state: u32, kind: u32) -> bool {
        match self.only[kind as usize] {
            Some(only) => state == only,
            None => self.step(state, kind).is_some(),
        }
    }

    fn settle(&mut self, state: u32, position: u32) -> u32 {
        if self.live_until[state as usize] < i64::from(position) { UNOBSERVED } else { state }
    }

    fn is_useless(&self, kind: u32, position: u32) -> bool {
        self.useful_until[kind as usize] < i64::from(position)
    }

    fn is_pointless(&self, state: u32) -> bool {
        state == UNOBSERVED && self.only_texts
    }

    const KNOWS_THE_WAY: bool = true;

    fn leads(&mut self, state: u32, kind: u32, goal: u32) -> bool {
        // The usual case, without looking for the state.
        if let (Some(more), Some(rest)) = (self.appended[kind as usize], self.rest(state, goal)) {
            return rest.starts_with(more);
        }
        found(&self.kinds[goal as usize]).is_none()
            || self.step(state, kind).is_some_and(|next| self.leads_to(next, goal))
    }

    fn starts_over(&self, kind: u32) -> bool {
        matches!(self.kinds[kind as usize], KvOp::Put(_) | KvOp::Delete | KvOp::Cas(..))
    }
}

impl KvStepper {
    /// What has to be appended in `state` until `goal` finds the text that it needs; `None` when it needs none, or that
    /// is no way to it.
    fn rest(&mut self, state: u32, goal: u32) -> Option<&'static [u8]> {
        if (self.rest.0, self.rest.1) != (state, goal) {
            let place = self.place[goal as usize];
            let needs_text = matches!(&self.kinds[goal as usize], KvOp::Get(_) | KvOp::Cas(..));
            let text = self.texts.get(place as usize).filter(|_| needs_text).map(|(text, _)| text.as_bytes());
            let rest = match (&self.states[state as usize], text) {
                (State::Absent, Some(text)) => Some(text),
                (State::Text { lo, hi, len }, Some(text)) if (*lo..*hi).contains(&place) => text.get(*len as usize..),
                _ => None,
            };
            self.rest = (state, goal, rest);
        }
        self.rest.2
    }

    /// Whether appending to `state` may lead to a state in which `goal` is possible.
    fn leads_to(&self, state: u32, goal: u32) -> bool {
        let Some(value) = found(&self.kinds[goal as usize]) else { return true };
        match (&self.kinds[goal as usize], &self.states[state as usize]) {
            (KvOp::CasRefused(_), _) => true,
            (_, State::Unobserved) => false,
            (_, State::Absent) => matches!(value, Value::Nil | Value::Str(_)),
            (_, State::Text { lo, hi, .. }) => (*lo..*hi).contains(&self.place[goal as usize]),
            (_, State::Other(stored)) => stored == value,
        }
    }
}
