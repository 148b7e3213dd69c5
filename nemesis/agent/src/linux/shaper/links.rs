//! All impaired pairs: each a chain of stages, one for each fault in force there.
//!
//! Pure: time comes in, packets come out, nothing here looks at a clock or a socket. Stages pass packets on with the time
//! at which they are due, not the one at which somebody looked, so the outcome does not depend on how often one looks.

use super::packet::addresses;
use super::stage::{Counters, Flow, Packet, Room, Stage};
use super::stages::{Nanos, rank};
use crate::faults::link::Link;
use std::collections::BTreeMap;
use std::net::IpAddr;

type Pair = (IpAddr, IpAddr);

/// Most that is held altogether (bytes): 10 s of 100,000 small packets a second, or of 200 Mbit/s.
const ROOM: usize = 256 << 20;

/// The stages of a pair in the order of their work; those of one rank by id.
#[derive(Default)]
struct Chain(Vec<((u8, String), Stage)>);

/// Impairments in force, by pair and by fault.
pub(super) struct Links {
    chains: BTreeMap<Pair, Chain>,
    faults: BTreeMap<String, Link>,
    room: Room,
}

impl Chain {
    /// Passes `flow` through the stages from number `first` on. Each first lets go what was due before a packet came, and
    /// at the end what is due at `now`.
    fn pass(&mut self, first: usize, mut flow: Flow, now: Nanos, room: &mut Room) -> Flow {
        for (_, stage) in self.0.iter_mut().skip(first) {
            let mut out = Flow::with_capacity(flow.len());
            for (at, packet) in flow {
                stage.accept(packet, at, room, &mut out);
            }
            stage.release(now, room, &mut out);
            flow = out;
        }
        flow
    }

    fn due(&self) -> Option<Nanos> {
        self.0.iter().filter_map(|(_, stage)| stage.due()).min()
    }
}

impl Default for Links {
    fn default() -> Self {
        Self { chains: BTreeMap::new(), faults: BTreeMap::new(), room: Room(ROOM) }
    }
}

impl Links {
    /// Puts the fault called `id` in force at `now`; it is left alone when it is already.
    pub(super) fn add(&mut self, id: &str, link: &Link, now: Nanos) {
        if self.faults.contains_key(id) {
            return;
        }
        let key = (rank(&link.impairment), id.to_owned());
        for (stream, pair) in link.pairs.iter().enumerate() {
            let chain = &mut self.chains.entry(*pair).or_default().0;
            let stage = Stage::new(&link.impairment, now, link.seed, stream as u64);
            let at = chain.partition_point(|(other, _)| *other < key);
            chain.insert(at, (key.clone(), stage));
        }
        self.faults.insert(id.to_owned(), link.clone());
    }

    /// Ends the fault called `id`: what it holds goes on at once, through what else is on the pair. Its last counters;
    /// `None` when it was not in force.
    pub(super) fn remove(&mut self, id: &str, now: Nanos, out: &mut Vec<Packet>) -> Option<Counters> {
        self.advance(now, out);
        let link = self.faults.remove(id)?;
        let mut counters = Counters::default();
        for pair in &link.pairs {
            let Some(chain) = self.chains.get_mut(pair) else { continue };
            let Some(at) = chain.0.iter().position(|((_, other), _)| other == id) else { continue };
            let (_, stage) = chain.0.remove(at);
            counters += stage.counters;
            let mut flow = Flow::new();
            stage.end(now, &mut self.room, &mut flow);
            out.extend(chain.pass(at, flow, now, &mut self.room).into_iter().map(|(_, packet)| packet));
            if chain.0.is_empty() {
                self.chains.remove(pair);
            }
        }
        Some(counters)
    }

    /// A packet came in at `now`. One of a pair that is not impaired goes straight out again.
    pub(super) fn accept(&mut self, packet: Packet, now: Nanos, out: &mut Vec<Packet>) {
        match addresses(&packet).and_then(|pair| self.chains.get_mut(&pair)) {
            Some(chain) => {
                let flow = chain.pass(0, vec![(now, packet)], now, &mut self.room);
                out.extend(flow.into_iter().map(|(_, packet)| packet));
            }
            None => out.push(packet),
        }
    }

    /// Lets go what is due at `now`.
    pub(super) fn advance(&mut self, now: Nanos, out: &mut Vec<Packet>) {
        let mut flow = Flow::new();
        for chain in self.chains.values_mut().filter(|chain| chain.due().is_some_and(|due| due <= now)) {
            flow.extend(chain.pass(0, Flow::new(), now, &mut self.room));
        }
        // Different pairs do not wait for each other's turn.
        flow.sort_by_key(|(at, _)| *at);
        out.extend(flow.into_iter().map(|(_, packet)| packet));
    }

    /// When there is something to let go next.
    pub(super) fn due(&self) -> Option<Nanos> {
        self.chains.values().filter_map(Chain::due).min()
    }

    /// What the fault called `id` has done so far; `None` when it is not in force.
    pub(super) fn counters(&self, id: &str) -> Option<Counters> {
        let link = self.faults.get(id)?;
        let mut counters = Counters::default();
        for chain in link.pairs.iter().filter_map(|pair| self.chains.get(pair)) {
            for ((_, other), stage) in &chain.0 {
                if other == id {
                    counters += stage.counters;
                }
            }
        }
        Some(counters)
    }
}

#[cfg(test)]
mod tests {
    use super::super::packet::tests::udp;
    use super::*;
    use crate::faults::link::Impairment;
    use proptest::prelude::*;

    const MS: u64 = 1_000_000;

    fn link(impairment: Impairment) -> Link {
        let pairs = (0..2).map(|n| addresses(&udp(n, b"")).unwrap()).collect();
        Link { pairs, impairment, seed: 7 }
    }

    fn delay(ms: u64) -> Link {
        link(Impairment::Delay { delay_us: ms * 1000, jitter_us: 0, keep_order: true })
    }

    fn numbers(out: &mut Vec<Packet>) -> Vec<u8> {
        out.drain(..).map(|packet| packet[packet.len() - 1]).collect()
    }

    /// Lets packets 0, 1, 2, … come in at these times and looks every `step` and whenever something is due.
    fn run(links: &mut Links, times: &[u64], step: u64, until: u64) -> Vec<(u64, u8)> {
        let (mut seen, mut out, mut next) = (Vec::new(), Vec::new(), 0);
        let mut now = 0;
        while now <= until {
            links.advance(now, &mut out);
            while times.get(next).is_some_and(|at| *at <= now) {
                links.accept(udp(0, &[next as u8]), now, &mut out);
                next += 1;
            }
            seen.extend(numbers(&mut out).into_iter().map(|number| (now, number)));
            let due = links.due().filter(|due| *due > now).unwrap_or(u64::MAX);
            now = (now + step).min(times.get(next).copied().unwrap_or(u64::MAX).max(now + 1)).min(due);
        }
        seen
    }

    #[test]
    fn delays_on_one_pair_add_up_and_end_independently() {
        let (mut links, mut out) = (Links::default(), Vec::new());
        links.add("1", &delay(10), 0);
        links.add("2", &delay(5), 0);
        links.accept(udp(0, &[0]), 0, &mut out);
        links.advance(14 * MS, &mut out);
        assert_eq!((numbers(&mut out).len(), links.due()), (0, Some(15 * MS)));
        links.advance(15 * MS, &mut out);
        assert_eq!(numbers(&mut out), [0]);
        // The first ends with a packet in it: that goes through the second alone.
        links.accept(udp(0, &[1]), 20 * MS, &mut out);
        let counters = links.remove("1", 22 * MS, &mut out).unwrap();
        assert_eq!(counters, Counters { seen: 2, hit: 2, overflowed: 0 });
        assert_eq!((numbers(&mut out).len(), links.due()), (0, Some(27 * MS)));
        links.advance(27 * MS, &mut out);
        assert_eq!(numbers(&mut out), [1]);
        assert_eq!(links.remove("1", 30 * MS, &mut out), None);
        links.remove("2", 30 * MS, &mut out).unwrap();
        links.accept(udp(0, &[2]), 31 * MS, &mut out);
        assert_eq!((numbers(&mut out), links.due(), links.room.0), (vec![2], None, ROOM));
    }

    #[test]
    fn a_clog_keeps_everything_in_order_until_it_ends() {
        let (mut links, mut out) = (Links::default(), Vec::new());
        links.add("1", &link(Impairment::Clog { after_us: 0, until_us: None }), 0);
        (0..5).for_each(|n| links.accept(udp(0, &[n]), u64::from(n) * MS, &mut out));
        links.accept(udp(1, &[9]), 9 * MS, &mut out);
        links.advance(3_600_000 * MS, &mut out);
        assert_eq!((out.len(), links.due()), (0, None));
        assert_eq!(links.remove("1", 3_600_001 * MS, &mut out).unwrap().hit, 6);
        assert_eq!(numbers(&mut out), [0, 1, 2, 3, 4, 9]);
    }

    #[test]
    fn other_pairs_pass() {
        let (mut links, mut out) = (Links::default(), Vec::new());
        let mut only_one = link(Impairment::Loss { probability: 1.0, burst: 1.0 });
        only_one.pairs.truncate(1);
        links.add("1", &only_one, 0);
        links.accept(udp(0, &[1]), 0, &mut out);
        links.accept(udp(1, &[2]), 0, &mut out);
        links.accept(vec![0xff; 3].into(), 0, &mut out);
        assert_eq!(numbers(&mut out), [2, 0xff]);
        assert_eq!(links.counters("1"), Some(Counters { seen: 1, hit: 1, overflowed: 0 }));
        assert_eq!(links.counters("2"), None);
    }

    #[test]
    fn full_is_full() {
        let (mut links, mut out) = (Links::default(), Vec::new());
        links.room = Room(3 * (udp(0, &[0]).len() + 64));
        links.add("1", &delay(1), 0);
        (0..5).for_each(|n| links.accept(udp(0, &[n]), 0, &mut out));
        assert_eq!(links.counters("1"), Some(Counters { seen: 5, hit: 3, overflowed: 2 }));
        links.advance(MS, &mut out);
        assert_eq!(numbers(&mut out), [0, 1, 2]);
    }

    fn impairments() -> impl Strategy<Value = Impairment> {
        let probability = || prop::sample::select(vec![0.1, 0.5, 1.0]);
        prop_oneof![
            (probability(), prop::sample::select(vec![1.0, 3.0]))
                .prop_map(|(probability, burst)| Impairment::Loss { probability, burst }),
            probability().prop_map(|probability| Impairment::Duplicate { probability }),
            (probability(), 1u64..3000).prop_map(|(probability, by_us)| Impairment::Reorder { probability, by_us }),
            (0u64..3000, 0u64..3000, any::<bool>()).prop_map(|(delay_us, jitter_us, keep_order)| Impairment::Delay {
                delay_us,
                jitter_us,
                keep_order
            }),
            (10_000u64..1_000_000).prop_map(|bits_per_s| Impairment::Rate {
                bits_per_s,
                burst_bytes: 100,
                queue_bytes: 1500
            }),
        ]
    }

    proptest! {
        #[test]
        fn it_does_not_matter_how_often_one_looks(
            impairments in prop::collection::vec(impairments(), 1..5),
            gaps in prop::collection::vec(0u64..2 * MS, 1..40),
            step in 1u64..5 * MS,
        ) {
            let times: Vec<u64> = gaps.iter().scan(0, |at, gap| { *at += gap; Some(*at) }).collect();
            let all = |step: u64| {
                let mut links = Links::default();
                for (n, impairment) in impairments.iter().enumerate() {
                    links.add(&n.to_string(), &link(*impairment), 0);
                }
                let seen = run(&mut links, &times, step, 1_000 * MS);
                let counters: Vec<_> = links.faults.keys().map(|id| links.counters(id).unwrap()).collect();
                (seen, counters)
            };
            prop_assert_eq!(all(step), all(2_000 * MS));
        }

        #[test]
        fn nothing_is_lost_but_by_loss_and_nothing_stays(
            impairments in prop::collection::vec(impairments(), 1..5),
            count in 1u8..60,
            order in any::<u64>(),
        ) {
            let (mut links, mut out) = (Links::default(), Vec::new());
            for (n, impairment) in impairments.iter().enumerate() {
                links.add(&n.to_string(), &link(*impairment), 0);
            }
            for n in 0..count {
                links.accept(udp(0, &[n]), u64::from(n) * 100_000, &mut out);
            }
            let (mut lost, mut doubled) = (0, 0);
            let mut ids: Vec<String> = links.faults.keys().cloned().collect();
            let by = order as usize % ids.len();
            ids.rotate_left(by);
            for id in ids {
                let impairment = links.faults[&id].impairment;
                let counters = links.remove(&id, 20 * MS, &mut out).unwrap();
                lost += counters.overflowed;
                match impairment {
                    Impairment::Loss { .. } => lost += counters.hit,
                    Impairment::Duplicate { .. } => doubled += counters.hit,
                    _ => {}
                }
            }
            prop_assert_eq!(out.len() as u64 + lost, u64::from(count) + doubled);
            prop_assert_eq!((links.room.0, links.due(), links.chains.len()), (ROOM, None, 0));
        }
    }
}
