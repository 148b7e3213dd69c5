//! The shaper's life: packets in, packets out, a question now and then.

use super::control::{self, Answer, Ask};
use super::links::Links;
use super::stage::Packet;
use super::stages::Nanos;
use super::tun::Tun;
use crate::linux::helper::Here;
use crate::linux::ledger;
use crate::linux::state::{State, boottime_ns, clock_ns};
use anyhow::Context;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;
use nix::time::ClockId;
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;
use std::time::Duration;

/// Packets that are taken in before any goes out: enough to save system calls, and few enough that the first of them does
/// not wait for the last (some 50 µs).
const BATCH: usize = 64;

/// Before all others (setpriority(2)).
const NICE: i32 = -20;

/// How often leases are looked at.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// As long as a packet can be.
const PACKET_LEN_MAX: usize = 65_536;

struct Shaper {
    tun: Tun,
    links: Links,
    buffer: Vec<u8>,
    /// Filled and emptied in each round.
    out: Vec<Packet>,
}

/// Shapes packets until it is killed.
///
/// # Errors
/// When interface or socket cannot be made, or break.
pub(crate) fn run(here: &Here<'_>) -> anyhow::Result<()> {
    let tun = Tun::open()?;
    let listener = control::listen(here.state).context("cannot listen for the agent")?;
    let state = here.state.clone();
    std::thread::spawn(move || watch_leases(&state));
    be_punctual();
    let mut shaper = Shaper { tun, links: Links::default(), buffer: vec![0; PACKET_LEN_MAX], out: Vec::new() };
    here.ready()?;
    shaper.live(&listener)
}

/// The nodes work hard on the same processors, but a wire does not wait for them. Where we may not, packets are later.
fn be_punctual() {
    // The kernel may let timers of ordinary processes ring up to 50 µs late, to save power.
    let _ = nix::sys::prctl::set_timerslack(1);
    let _ = rustix::process::setpriority_process(None, NICE);
    // Where sessions are scheduled as groups, that one counts (sched(7)).
    let _ = std::fs::write("/proc/self/autogroup", NICE.to_string());
}

fn now() -> Nanos {
    clock_ns(ClockId::CLOCK_MONOTONIC) as Nanos
}

impl Shaper {
    fn live(&mut self, listener: &UnixListener) -> anyhow::Result<()> {
        loop {
            let left = |due: Nanos| TimeSpec::from_duration(Duration::from_nanos(due.saturating_sub(now())));
            let timeout = self.links.due().map(left);
            let mut fds =
                [PollFd::new(self.tun.as_fd(), PollFlags::POLLIN), PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
            match ppoll(&mut fds, timeout, None) {
                Ok(_) | Err(nix::errno::Errno::EINTR) => {}
                Err(errno) => anyhow::bail!("cannot wait for packets: {errno}"),
            }
            let is_asked = fds[1].any().unwrap_or(false);
            self.round()?;
            if is_asked {
                control::serve(listener, |question| self.answer(&question));
            }
        }
    }

    /// Takes in what waits, up to a batch, and lets go what is due; whether there may be more.
    fn round(&mut self) -> anyhow::Result<bool> {
        let mut taken = 0;
        let begun = now();
        while taken < BATCH {
            let Some(len) = self.tun.read(&mut self.buffer).context("cannot read a packet")? else { break };
            self.links.accept(self.buffer[..len].into(), begun, &mut self.out);
            taken += 1;
        }
        self.links.advance(now(), &mut self.out);
        self.hand_on();
        Ok(taken == BATCH)
    }

    fn hand_on(&mut self) {
        for packet in self.out.drain(..) {
            self.tun.write(&packet);
        }
    }

    fn answer(&mut self, question: &Ask) -> Answer {
        let counters = match question {
            Ask::Add { id, link } => {
                self.links.add(id, link, now());
                self.links.counters(id)
            }
            Ask::Remove { id } => {
                let counters = self.links.remove(id, now(), &mut self.out);
                self.hand_on();
                counters
            }
            Ask::Measure { id } => self.links.counters(id),
            Ask::Drain => {
                // An error shows in the next round of the loop.
                while matches!(self.round(), Ok(true)) {}
                None
            }
        };
        Answer { counters, unread: self.tun.unread() }
    }
}

/// Ends what is not in the ledger any more, or whose lease is out, should neither agent nor watchdog live to do it.
fn watch_leases(state: &State) {
    let mut known = Vec::new();
    loop {
        std::thread::sleep(LOOK_AGAIN);
        let entries = ledger::all(state);
        let in_force: Vec<String> = entries
            .iter()
            .filter(|entry| ledger::effective_deadline(state, entry) > boottime_ns())
            .map(|entry| entry.id.clone())
            .collect();
        for id in known.iter().filter(|id| !in_force.contains(id)) {
            // Mostly the agent has done so.
            let _ = control::ask(state, &Ask::Remove { id: String::clone(id) });
        }
        known = in_force;
    }
}
