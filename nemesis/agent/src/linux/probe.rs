//! Who can be reached from here.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

/// Tries to open a TCP connection to each address, all at once; how long it took (microseconds) or why
/// not.
/// A refused connection is an answer: packets went there and back.
pub(crate) fn probe(addresses: &[SocketAddr], timeout: Duration) -> Vec<Result<u64, String>> {
    let connect = |address: SocketAddr| {
        let begun = Instant::now();
        match TcpStream::connect_timeout(&address, timeout) {
            Err(error) if error.kind() != ErrorKind::ConnectionRefused => Err(error.to_string()),
            _ => Ok(begun.elapsed().as_micros() as u64),
        }
    };
    thread::scope(|scope| {
        let probes: Vec<_> = addresses.iter().map(|&address| scope.spawn(move || connect(address))).collect();
        probes.into_iter().map(|p| p.join().unwrap_or_else(|_| Err("the probe panicked".to_owned()))).collect()
    })
}
