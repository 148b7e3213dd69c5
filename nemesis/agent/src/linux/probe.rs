//! Who can be reached from here.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

/// Tries to open a TCP connection to each address, all at once; `None` when the other machine answered, else why not.
/// A refused connection is an answer: packets went there and back.
pub(crate) fn probe(addresses: &[SocketAddr], timeout: Duration) -> Vec<Option<String>> {
    let connect = |address: SocketAddr| match TcpStream::connect_timeout(&address, timeout) {
        Ok(_) => None,
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => None,
        Err(error) => Some(error.to_string()),
    };
    thread::scope(|scope| {
        let probes: Vec<_> = addresses.iter().map(|&address| scope.spawn(move || connect(address))).collect();
        probes.into_iter().map(|p| p.join().unwrap_or_else(|_| Some("the probe panicked".to_owned()))).collect()
    })
}
