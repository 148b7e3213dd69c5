//! An impairment at work on one pair: its decisions, what it holds, what it has counted.

use super::stages::{Decide, Nanos, Verdict, decider};
use crate::faults::link::Impairment;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// A packet, from its IP header on.
pub(super) type Packet = Box<[u8]>;

/// Packets that go on, in the order of their times.
pub(super) type Flow = Vec<(Nanos, Packet)>;

/// What a held packet takes besides its bytes.
const OVERHEAD: usize = 64;

/// Room for packets that are held (bytes), shared by all pairs.
#[derive(Debug)]
pub(super) struct Room(pub(super) usize);

impl Room {
    fn take(&mut self, packet: &Packet) -> bool {
        match self.0.checked_sub(packet.len() + OVERHEAD) {
            Some(left) => {
                self.0 = left;
                true
            }
            None => false,
        }
    }

    fn give_back(&mut self, packet: &Packet) {
        self.0 += packet.len() + OVERHEAD;
    }
}

/// What became of the packets of one or more pairs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Counters {
    /// Packets that were decided on.
    pub(crate) seen: u64,
    /// Those that were hit: lost, delayed, … as the impairment says.
    pub(crate) hit: u64,
    /// Lost because a queue or the memory was full.
    pub(crate) overflowed: u64,
}

impl std::ops::AddAssign for Counters {
    fn add_assign(&mut self, other: Self) {
        self.seen += other.seen;
        self.hit += other.hit;
        self.overflowed += other.overflowed;
    }
}

pub(super) struct Stage {
    decide: Box<dyn Decide>,
    rng: ChaCha8Rng,
    /// By time, then in order of arrival.
    held: BinaryHeap<Reverse<(Nanos, u64, Packet)>>,
    arrived: u64,
    pub(super) counters: Counters,
}

impl Stage {
    /// At work from `begin` on; `stream` numbers the pairs of one fault, so that one more pair shifts no other's choices.
    pub(super) fn new(impairment: &Impairment, begin: Nanos, seed: u64, stream: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(stream);
        Self {
            decide: decider(impairment, begin),
            rng,
            held: BinaryHeap::new(),
            arrived: 0,
            counters: Counters::default(),
        }
    }

    /// A packet arrives at `now`, not before any that arrived earlier.
    pub(super) fn accept(&mut self, mut packet: Packet, now: Nanos, room: &mut Room, out: &mut Flow) {
        self.release(now, room, out);
        self.counters.seen += 1;
        match self.decide.decide(&mut packet, now, &mut self.rng) {
            Verdict::Pass => return out.push((now, packet)),
            Verdict::Changed => out.push((now, packet)),
            Verdict::Twice => out.extend([(now, packet.clone()), (now, packet)]),
            Verdict::Instead(others) => out.extend(others.map(|other| (now, other))),
            Verdict::At(at) => return self.hold(at, packet, room),
            Verdict::Held => return self.hold(Nanos::MAX, packet, room),
            Verdict::Lost => {}
            Verdict::Overflowed => {
                self.counters.overflowed += 1;
                return;
            }
        }
        self.counters.hit += 1;
    }

    fn hold(&mut self, until: Nanos, packet: Packet, room: &mut Room) {
        if room.take(&packet) {
            self.counters.hit += 1;
            self.arrived += 1;
            self.held.push(Reverse((until, self.arrived, packet)));
        } else {
            self.counters.overflowed += 1;
        }
    }

    /// Lets go what is due at `now`.
    pub(super) fn release(&mut self, now: Nanos, room: &mut Room, out: &mut Flow) {
        while self.due().is_some_and(|due| due <= now) {
            let Some(Reverse((due, _, packet))) = self.held.pop() else { return };
            room.give_back(&packet);
            out.push((due, packet));
        }
    }

    /// When the next held packet goes on; what is held to the end has no time.
    pub(super) fn due(&self) -> Option<Nanos> {
        self.held.peek().map(|Reverse((due, ..))| *due).filter(|due| *due != Nanos::MAX)
    }

    /// The impairment ends at `now`: everything goes on at once, what would have come first first.
    pub(super) fn end(mut self, now: Nanos, room: &mut Room, out: &mut Flow) {
        while let Some(Reverse((due, _, packet))) = self.held.pop() {
            room.give_back(&packet);
            out.push((due.min(now), packet));
        }
    }
}
