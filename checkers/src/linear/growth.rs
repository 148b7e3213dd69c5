//! Keys with `append` as registers, where each observed text says which operations made it.
//!
//! Where no piece that is stored or appended begins with another one, a text is made of pieces in one way only. An
//! operation whose piece is in a text that was observed found exactly what stands before the piece: so it is a
//! compare-and-set. An `append` whose piece is in no such text left behind, whatever it found, a text that nobody
//! observes: so it is a write of a value of its own. Both ways round, one history has an order exactly when the other has:
//! the same order. A register then needs no search when values are unique, and looks ahead when they are not.
//!
//! Where several operations have the same piece, and some text has it, which of them it was is a guess. An order that is
//! found all the same is an order of the key; where none is found, that says nothing.
//!
//! What it does not do: anything but texts, empty pieces, pieces that begin with others, texts that only an unfinished
//! `cas` expects (it may not have happened), and refused `cas`. Those return `None`.

use super::problem::{FastMap, Item};
use super::values::{INITIAL, NumberedRegisterOp, RegisterHistory, RegisterOpAt, UNOBSERVED};
use crate::model::KvOp;
use crate::{Sym, Value};

/// Nothing that follows.
const NONE: u32 = u32::MAX;

/// A key as a register.
pub(super) struct Grown {
    /// The operations, each at its place.
    pub(super) history: RegisterHistory,
    /// Nothing was guessed: the register has an order exactly when the key has.
    pub(super) is_exact: bool,
    /// Texts tell of more operations than there are. Then some are values that nobody wrote: no order exists, but what is
    /// said about the values alone does not tell why.
    pub(super) is_torn: bool,
}

/// `None` where texts do not say which operations made them.
pub(super) fn as_register(items: &[Item<KvOp>]) -> Option<Grown> {
    let mut texts = Texts::new(items)?;
    for item in items.iter().filter(|item| item.is_finished()) {
        if let KvOp::Get(Value::Str(text)) | KvOp::Cas(Value::Str(text), _) = &item.op {
            texts.read(*text, item.ret);
        }
    }
    let (makes, is_exact, is_torn) = texts.makers();
    let mut next = texts.next;
    let mut ops = Vec::with_capacity(items.len());
    for (item, makes) in items.iter().zip(makes) {
        let mut left = || {
            makes.map_or_else(
                || {
                    next += 1;
                    next - 1
                },
                |node| texts.nodes[node as usize].value,
            )
        };
        let op = match &item.op {
            KvOp::Get(value) => NumberedRegisterOp::Read(texts.number(value)?),
            KvOp::Put(Value::Nil) | KvOp::Delete => NumberedRegisterOp::Write(INITIAL),
            KvOp::Put(_) => NumberedRegisterOp::Write(left()),
            KvOp::Append(_) => match makes {
                Some(node) => NumberedRegisterOp::Cas(texts.found_by(node), left()),
                None => NumberedRegisterOp::Write(left()),
            },
            KvOp::Cas(found, Value::Nil) => NumberedRegisterOp::Cas(texts.number(found)?, INITIAL),
            KvOp::Cas(found, _) => NumberedRegisterOp::Cas(texts.number(found)?, left()),
            KvOp::CasRefused(_) => return None,
        };
        ops.push(RegisterOpAt { op, call: item.call, ret: item.ret });
    }
    Some(Grown { history: RegisterHistory { ops, values: next as usize }, is_exact, is_torn })
}

/// What operations store or append.
struct Piece {
    /// The last of them; the one before each is in [`Texts::same`].
    last: u32,
    /// Whether it may continue a text: else it begins one.
    may_continue: bool,
    /// The last of the texts that end with it; the one before each is in the nodes.
    node: u32,
}

/// A text that is the beginning of an observed one, and ends with a piece.
struct Node {
    /// What stands before the piece, or [`NONE`].
    before: u32,
    /// Another one that ends with the same piece, or [`NONE`].
    same: u32,
    /// The number of the value.
    value: u32,
    /// When it was observed first, about (index of a completion).
    seen: u32,
}

/// The texts of a key.
struct Texts<'i> {
    items: &'i [Item<KvOp>],
    by_piece: FastMap<&'static [u8], u32>,
    pieces: Vec<Piece>,
    /// Per operation: another one before it with the same piece, or [`NONE`].
    same: Vec<u32>,
    /// Lengths of pieces, each once (bytes).
    lens: Vec<usize>,
    nodes: Vec<Node>,
    /// (what stands before, piece) -> node.
    children: FastMap<(u32, u32), u32>,
    /// Observed text -> the number of the value that it is.
    values: FastMap<Sym, u32>,
    /// The next number.
    next: u32,
    /// The text that was read last, and where each of its pieces ends, with the node there: the next text often begins so.
    latest: &'static [u8],
    path: Vec<(usize, u32)>,
    /// What it goes on with: where each piece ends, and which it is.
    steps: Vec<(usize, u32)>,
}

impl<'i> Texts<'i> {
    fn new(items: &'i [Item<KvOp>]) -> Option<Self> {
        let mut texts = Self {
            items,
            by_piece: FastMap::with_capacity_and_hasher(items.len() / 2, Default::default()),
            pieces: Vec::with_capacity(items.len() / 2),
            same: vec![NONE; items.len()],
            lens: Vec::new(),
            nodes: Vec::with_capacity(items.len() / 2),
            children: FastMap::with_capacity_and_hasher(items.len() / 2, Default::default()),
            values: FastMap::with_capacity_and_hasher(items.len() / 2, Default::default()),
            next: UNOBSERVED + 1,
            latest: &[],
            path: Vec::new(),
            steps: Vec::new(),
        };
        let mut has_appends = false;
        for (at, item) in items.iter().enumerate() {
            let (text, may_continue) = match &item.op {
                KvOp::Append(text) => (*text, true),
                KvOp::Put(Value::Str(text)) | KvOp::Cas(_, Value::Str(text)) => (*text, false),
                KvOp::Get(_) | KvOp::Delete | KvOp::Put(Value::Nil) | KvOp::Cas(_, Value::Nil) => continue,
                KvOp::Put(_) | KvOp::Cas(..) | KvOp::CasRefused(_) => return None,
            };
            has_appends |= may_continue;
            let bytes = text.as_str().as_bytes();
            if bytes.is_empty() {
                return None;
            }
            let number = *texts.by_piece.entry(bytes).or_insert_with(|| {
                texts.pieces.push(Piece { last: NONE, may_continue: false, node: NONE });
                if !texts.lens.contains(&bytes.len()) {
                    texts.lens.push(bytes.len());
                }
                texts.pieces.len() as u32 - 1
            });
            let piece = &mut texts.pieces[number as usize];
            texts.same[at] = std::mem::replace(&mut piece.last, at as u32);
            piece.may_continue |= may_continue;
        }
        texts.lens.sort_unstable();
        let begins_with_another = texts.by_piece.keys().any(|piece| {
            let shorter = texts.lens.iter().take_while(|&&len| len < piece.len());
            shorter.into_iter().any(|&len| texts.by_piece.contains_key(&piece[..len]))
        });
        let is_readable = has_appends && !begins_with_another;
        is_readable.then_some(texts)
    }

    /// Takes a text apart that was observed.
    fn read(&mut self, text: Sym, seen: u32) {
        if self.values.contains_key(&text) {
            return;
        }
        let bytes = text.as_str().as_bytes();
        if !bytes.starts_with(self.latest) {
            let alike = bytes.iter().zip(self.latest).take_while(|(a, b)| a == b).count();
            let stays = self.path.partition_point(|(end, _)| *end <= alike);
            self.path.truncate(stays);
        }
        self.latest = bytes;
        let (mut at, mut node) = self.path.last().copied().unwrap_or((0, NONE));
        self.steps.clear();
        let mut is_first = node == NONE;
        while at < bytes.len() {
            let Some((piece, len)) = self.piece_of(&bytes[at..], is_first) else {
                // Nobody can have made it: a value of its own that nobody writes.
                self.values.insert(text, self.next);
                self.next += 1;
                return;
            };
            at += len;
            self.steps.push((at, piece));
            is_first = false;
        }
        for &(end, piece) in &self.steps {
            node = *self.children.entry((node, piece)).or_insert_with(|| {
                let same = std::mem::replace(&mut self.pieces[piece as usize].node, self.nodes.len() as u32);
                self.nodes.push(Node { before: node, same, value: self.next, seen });
                self.next += 1;
                self.nodes.len() as u32 - 1
            });
            self.path.push((end, node));
        }
        let value = if node == NONE { INITIAL } else { self.nodes[node as usize].value };
        self.values.insert(text, value);
    }

    /// The piece that (the rest of) a text begins with, and its length. There is one at most.
    fn piece_of(&self, text: &[u8], is_first: bool) -> Option<(u32, usize)> {
        let fitting = self.lens.iter().take_while(|&&len| len <= text.len());
        let found = fitting.into_iter().find_map(|&len| Some((*self.by_piece.get(&text[..len])?, len)));
        found.filter(|(piece, _)| is_first || self.pieces[*piece as usize].may_continue)
    }

    /// Which operation made which beginning of a text; whether nothing was guessed; whether some have no operation.
    fn makers(&self) -> (Vec<Option<u32>>, bool, bool) {
        let mut makes: Vec<Option<u32>> = vec![None; self.items.len()];
        let (mut is_exact, mut is_torn) = (true, false);
        for piece in &self.pieces {
            let is_only = self.same[piece.last as usize] == NONE;
            let mut node = piece.node;
            is_exact &= is_only || node == NONE;
            while node != NONE {
                let Node { before, same, seen, .. } = self.nodes[node as usize];
                match self.maker(piece.last, before == NONE, seen, &makes) {
                    Some(op) => makes[op as usize] = Some(node),
                    None => is_torn = true,
                }
                node = same;
            }
        }
        (makes, is_exact, is_torn)
    }

    /// Of the operations with one piece the one that most likely made a text: not yet spoken for, it began last before the
    /// text was seen; and where it may be one that stores, it is one.
    fn maker(&self, last: u32, is_first: bool, seen: u32, makes: &[Option<u32>]) -> Option<u32> {
        let mut best: Option<((bool, bool, u32), u32)> = None;
        let mut op = last;
        while op != NONE {
            let item = &self.items[op as usize];
            let is_append = matches!(item.op, KvOp::Append(_));
            let (is_early, call) = (item.call < seen, item.call);
            let rank = (is_early, !is_append, call);
            let fits = makes[op as usize].is_none() && (is_first || is_append);
            if fits && best.is_none_or(|(other, _)| other < rank) {
                best = Some((rank, op));
            }
            op = self.same[op as usize];
        }
        best.map(|(_, op)| op)
    }

    /// The number of the value that stands before the last piece.
    fn found_by(&self, node: u32) -> u32 {
        match self.nodes[node as usize].before {
            NONE => INITIAL,
            before => self.nodes[before as usize].value,
        }
    }

    /// The number of an observed value; `None` where only what is unfinished observes it.
    fn number(&self, value: &Value) -> Option<u32> {
        match value {
            Value::Nil => Some(INITIAL),
            Value::Str(text) if text.as_str().is_empty() => Some(INITIAL),
            Value::Str(text) => self.values.get(text).copied(),
            _ => None,
        }
    }
}
