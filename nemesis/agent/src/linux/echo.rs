//! `agent echo`: a server that sends back what it gets, and clients that say what came of it. With these two processes and
//! the kernels between them links are measured from outside.

use anyhow::{Context, bail};
use clap::Subcommand;
use serde::Serialize;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

/// A datagram is at least so long: its number, and some bytes that may be damaged.
const LEN_MIN: usize = 16;

/// No answer for so long after the last question: none comes any more.
const SILENCE: Duration = Duration::from_millis(700);

/// `agent echo …`.
#[derive(Subcommand, Debug)]
pub(crate) enum Echo {
    /// Send back what comes by UDP and TCP; print a line for each connection that was reset
    Serve {
        /// Of both.
        port: u16,
    },
    /// Send datagrams and say what came back, as JSON
    Udp {
        /// The server
        to: SocketAddr,
        /// How many
        count: u32,
        /// From one to the next (microseconds)
        gap_us: u64,
        /// Bytes of each
        len: usize,
    },
    /// Open a connection and speak in turns; another one after each that breaks; say how it went, as JSON
    Tcp {
        /// The server
        to: SocketAddr,
        /// How many turns
        count: u32,
    },
}

/// What came back.
#[derive(Debug, Default, Serialize)]
struct Report {
    sent: u32,
    /// Different ones that came back.
    answered: u32,
    /// Came more than once.
    doubled: u32,
    /// Came after one that was sent later.
    overtaken: u32,
    /// Came back other than they were sent.
    damaged: u32,
    /// Connections that were reset.
    resets: u32,
    /// There and back.
    median_us: Option<u64>,
    min_us: Option<u64>,
    max_us: Option<u64>,
    /// From the first answer to the last.
    bits_per_s: f64,
}

impl Report {
    fn with_times(mut self, mut took_us: Vec<u64>) -> Self {
        took_us.sort_unstable();
        self.median_us = took_us.get(took_us.len() / 2).copied();
        (self.min_us, self.max_us) = (took_us.first().copied(), took_us.last().copied());
        self
    }
}

/// Does what the command line says.
///
/// # Errors
/// When a socket cannot be had.
pub(crate) fn main(echo: &Echo) -> anyhow::Result<()> {
    let report = match *echo {
        Echo::Serve { port } => return serve(port),
        Echo::Udp { to, count, gap_us, len } => udp(to, count, Duration::from_micros(gap_us), len.max(LEN_MIN))?,
        Echo::Tcp { to, count } => tcp(to, count),
    };
    println!("{}", serde_json::to_string(&report)?);
    Ok(())
}

fn serve(port: u16) -> anyhow::Result<()> {
    // Both families, unless the kernel has only one.
    let everywhere = [SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)), SocketAddr::from(([0, 0, 0, 0], port))];
    let udp = UdpSocket::bind(&everywhere[..]).with_context(|| format!("cannot listen on UDP port {port}"))?;
    let tcp = TcpListener::bind(&everywhere[..]).with_context(|| format!("cannot listen on TCP port {port}"))?;
    thread::spawn(move || {
        let mut buffer = [0; 65_536];
        loop {
            // What cannot be received or sent back is lost, and that is what is measured.
            if let Ok((len, from)) = udp.recv_from(&mut buffer) {
                let _ = udp.send_to(&buffer[..len], from);
            }
        }
    });
    println!("ready");
    for stream in tcp.incoming() {
        let stream = stream?;
        thread::spawn(move || {
            let reset = |error: &std::io::Error| error.kind() == ErrorKind::ConnectionReset;
            if send_back(stream).is_err_and(|error| reset(&error)) {
                println!("reset");
            }
        });
    }
    Ok(())
}

fn send_back(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = [0; 65_536];
    loop {
        match stream.read(&mut buffer)? {
            0 => return Ok(()),
            len => stream.write_all(&buffer[..len])?,
        }
    }
}

/// The datagram with this number.
fn datagram(number: u32, len: usize) -> Vec<u8> {
    let mut bytes = vec![number as u8; len];
    bytes[..4].copy_from_slice(&number.to_le_bytes());
    bytes
}

fn udp(to: SocketAddr, count: u32, gap: Duration, len: usize) -> anyhow::Result<Report> {
    let any: SocketAddr = if to.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { (Ipv6Addr::UNSPECIFIED, 0).into() };
    let socket = UdpSocket::bind(any)?;
    socket.connect(to)?;
    socket.set_read_timeout(Some(SILENCE))?;
    let sender = socket.try_clone()?;
    let begun = Instant::now();
    let sending = thread::spawn(move || {
        let mut at = Vec::new();
        for number in 0..count {
            let due = gap * number;
            thread::sleep(due.saturating_sub(begun.elapsed()));
            at.push(begun.elapsed());
            // Nobody listens, or no room: it does not come back.
            let _ = sender.send(&datagram(number, len));
        }
        at
    });
    let mut came: Vec<(u32, Duration)> = Vec::new();
    let mut report = Report { sent: count, ..Report::default() };
    let mut buffer = vec![0; len + 1];
    loop {
        match socket.recv(&mut buffer) {
            Ok(got) => {
                let number = u32::from_le_bytes([buffer[0], buffer[1], buffer[2], buffer[3]]);
                if number < count && buffer[..got] == datagram(number, len) {
                    came.push((number, begun.elapsed()));
                } else {
                    report.damaged += 1;
                }
            }
            // Refused by the other kernel, or told that this process was stopped for a while: neither is an answer.
            Err(error) if matches!(error.kind(), ErrorKind::ConnectionRefused | ErrorKind::Interrupted) => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                if sending.is_finished() {
                    break;
                }
            }
            Err(error) => bail!("cannot receive: {error}"),
        }
    }
    let Ok(sent_at) = sending.join() else { bail!("the sender panicked") };
    let mut seen = vec![false; count as usize];
    let (mut latest, mut took_us) = (0, Vec::new());
    for (number, at) in &came {
        if std::mem::replace(&mut seen[*number as usize], true) {
            report.doubled += 1;
            continue;
        }
        report.answered += 1;
        report.overtaken += u32::from(*number < latest);
        latest = latest.max(*number);
        took_us.push(at.saturating_sub(sent_at[*number as usize]).as_micros() as u64);
    }
    if let [(_, first), .., (_, last)] = came[..] {
        // The first one's own bytes came before the time began.
        report.bits_per_s = ((came.len() - 1) * len * 8) as f64 / (last - first).as_secs_f64().max(1e-9);
    }
    Ok(report.with_times(took_us))
}

fn tcp(to: SocketAddr, count: u32) -> Report {
    let mut report = Report::default();
    let (mut stream, mut took_us) = (None, Vec::new());
    for number in 0..count {
        report.sent += 1;
        match turn(&mut stream, to, number) {
            Ok(took) => {
                report.answered += 1;
                took_us.push(took.as_micros() as u64);
            }
            Err(error) => {
                report.resets += u32::from(error.kind() == ErrorKind::ConnectionReset);
                stream = None;
            }
        }
    }
    report.with_times(took_us)
}

/// A turn, over a connection that is opened when there is none; how long it took.
fn turn(stream: &mut Option<TcpStream>, to: SocketAddr, number: u32) -> std::io::Result<Duration> {
    let stream = match stream {
        Some(stream) => stream,
        None => {
            let opened = TcpStream::connect_timeout(&to, SILENCE)?;
            opened.set_nodelay(true)?;
            opened.set_read_timeout(Some(SILENCE))?;
            stream.insert(opened)
        }
    };
    let begun = Instant::now();
    stream.write_all(&datagram(number, LEN_MIN))?;
    let mut answer = [0; LEN_MIN];
    stream.read_exact(&mut answer)?;
    if answer == datagram(number, LEN_MIN)[..] { Ok(begun.elapsed()) } else { Err(ErrorKind::InvalidData.into()) }
}
