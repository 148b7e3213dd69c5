//! What the shaper can take, with UDP packets between two namespaces: packets a second through an impaired pair, and by
//! how much a delay of 10 ms is off.
//!
//! `cargo bench -p squall-agent --bench shaper`; needs root and /dev/net/tun. Where other work goes on, put `chrt -r 1` before it:
//! otherwise it is the scheduler that is measured, also on the pair that is not impaired.

#[cfg(target_os = "linux")]
#[path = "../tests/support/mod.rs"]
#[expect(dead_code, reason = "shared with the tests, which use more of it")]
mod support;

#[cfg(target_os = "linux")]
fn main() {
    if let Err(why) = bench::run() {
        println!("skipped: {why}");
    }
}

#[cfg(not(target_os = "linux"))]
fn main() {
    println!("skipped: the shaper is part of the local cluster, which needs Linux");
}

#[cfg(target_os = "linux")]
mod bench {
    use super::support::agent::Agent;
    use super::support::net::{self, Net};
    use nix::time::{ClockId, clock_gettime};
    use squall_agent::faults::Fault;
    use squall_agent::faults::link::{Impairment, Link};
    use std::net::UdpSocket;
    use std::os::fd::AsFd;
    use std::time::{Duration, Instant};

    /// Packets a second that are offered one after the other.
    const RATES: [u64; 4] = [50_000, 100_000, 150_000, 200_000];

    /// How long each is offered.
    const OFFERED_FOR: Duration = Duration::from_secs(3);

    /// Bytes of a datagram.
    const LEN: usize = 64;

    /// What came of the packets of one rate.
    struct Outcome {
        sent: u64,
        send_s: f64,
        /// How long each took, in nanoseconds, sorted.
        took_ns: Vec<u64>,
        receive_s: f64,
    }

    pub(super) fn run() -> Result<(), String> {
        let net = Net::up()?;
        let root = tempfile::tempdir().map_err(|e| e.to_string())?;
        let path = root.path().to_owned();
        let mut agent = net.router.run(move || Agent::start(&path, 600_000));
        let delay = |ms: u64| Impairment::Delay { delay_us: ms * 1000, jitter_us: 0, keep_order: true };
        let cases: [(&str, Option<Impairment>); 4] = [
            ("not impaired", None),
            ("duplicate, never", Some(Impairment::Duplicate { probability: 1e-12 })),
            ("delay 10 ms", Some(delay(10))),
            ("loss 1%, delay 10 ms, jitter 2 ms", Some(Impairment::Loss { probability: 0.01, burst: 1.0 })),
        ];
        println!("{:34} {:>9} {:>9} {:>7} {:>28}", "pair", "sent/s", "came/s", "lost", "took median / p99 / max in ms");
        for (name, impairment) in cases {
            let faults = impairment.map(|one| match one {
                Impairment::Loss { .. } => {
                    vec![one, Impairment::Delay { delay_us: 10_000, jitter_us: 2_000, keep_order: true }]
                }
                one => vec![one],
            });
            for (n, impairment) in faults.iter().flatten().enumerate() {
                let link = Link { pairs: vec![Net::pair(false)], impairment: *impairment, seed: 7 };
                agent.inject(&format!("{n}-fault"), Fault::Link(link));
            }
            for rate in [1000].into_iter().chain(RATES) {
                let outcome = offer(&net, rate);
                let ms = |share: f64| {
                    let at = ((outcome.took_ns.len().max(1) - 1) as f64 * share) as usize;
                    outcome.took_ns.get(at).map_or(f64::NAN, |ns| *ns as f64 / 1e6)
                };
                let came = outcome.took_ns.len() as f64;
                println!(
                    "{name:34} {:9.0} {:9.0} {:6.2}% {:12.3} {:7.3} {:7.3}",
                    outcome.sent as f64 / outcome.send_s,
                    came / outcome.receive_s,
                    100.0 * (1.0 - came / outcome.sent as f64),
                    ms(0.5),
                    ms(0.99),
                    ms(1.0),
                );
            }
            for n in 0..faults.map_or(0, |faults| faults.len()) {
                println!("{:34} {}", "", agent.heal(&format!("{n}-fault")).seen);
            }
        }
        agent.shutdown();
        Ok(())
    }

    fn now_ns() -> u64 {
        let now = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("every Linux has it");
        now.tv_sec() as u64 * 1_000_000_000 + now.tv_nsec() as u64
    }

    fn offer(net: &Net, rate: u64) -> Outcome {
        let (from, to) = net.sockets(false);
        let size = (256 << 20) as usize;
        nix::sys::socket::setsockopt(&to.as_fd(), nix::sys::socket::sockopt::RcvBufForce, &size).expect("we are root");
        to.set_read_timeout(Some(Duration::from_millis(500))).expect("not zero");
        let receiver = std::thread::spawn(move || arrivals(&to));
        let begun = Instant::now();
        let mut sent = 0;
        let mut packet = [0; LEN];
        while begun.elapsed() < OFFERED_FOR {
            // As many as are due by now; at low rates one by one.
            let due = (begun.elapsed().as_secs_f64() * rate as f64) as u64;
            if sent >= due {
                std::thread::sleep(Duration::from_micros(200));
            }
            while sent < due {
                packet[..8].copy_from_slice(&now_ns().to_le_bytes());
                // A full queue on the way is a lost packet, which is counted at the other end.
                let _ = from.send(&packet);
                sent += 1;
            }
        }
        let send_s = begun.elapsed().as_secs_f64();
        let (took_ns, receive_s) = receiver.join().expect("the receiver does not panic");
        Outcome { sent, send_s, took_ns, receive_s }
    }

    fn arrivals(to: &UdpSocket) -> (Vec<u64>, f64) {
        let mut took = Vec::with_capacity(1 << 20);
        let mut packet = [0; LEN];
        let (mut first, mut last) = (None, 0);
        while let Ok(LEN) = net::receive(to, &mut packet) {
            let now = now_ns();
            let sent = u64::from_le_bytes(packet[..8].try_into().expect("8 bytes"));
            took.push(now.saturating_sub(sent));
            first.get_or_insert(now);
            last = now;
        }
        took.sort_unstable();
        let seconds = last.saturating_sub(first.unwrap_or(last)) as f64 / 1e9;
        (took, seconds.max(1e-9))
    }
}
