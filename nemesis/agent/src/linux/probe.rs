//! Who can be reached from here.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

/// Bytes of a datagram that is only there to be on the way.
const DATAGRAM_LEN: usize = 64;

/// Sends `datagrams` to each address, then tries to open a TCP connection, to all at once; how long that took (microseconds)
/// or why it failed. A refused connection is an answer: packets went there and back.
pub(crate) fn probe(addresses: &[SocketAddr], datagrams: u32, timeout: Duration) -> Vec<Result<u64, String>> {
    let connect = |address: SocketAddr| {
        send(address, datagrams);
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

/// Nobody waits for these, and whether they leave is seen on the way, not here.
fn send(to: SocketAddr, datagrams: u32) {
    let any: IpAddr = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    if let Ok(socket) = UdpSocket::bind((any, 0)) {
        (0..datagrams).for_each(|_| drop(socket.send_to(&[0; DATAGRAM_LEN], to)));
    }
}
