//! IP packets as bytes: who sends to whom, checksums, and the resets that answer a TCP segment.
//!
//! Layouts: RFC 791 and 8200 (IP), 768 (UDP), 9293 (TCP), 792 and 4443 (ICMP); checksums: RFC 1071.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Protocol numbers of the headers we look into.
pub(super) const TCP: u8 = 6;
pub(super) const UDP: u8 = 17;
const ICMP: u8 = 1;
const ICMP_V6: u8 = 58;

const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;

/// Where the parts of a packet are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    /// Protocol of the transport header.
    pub(super) protocol: u8,
    /// First byte of the transport header.
    pub(super) transport: usize,
    /// One past the last byte of the packet.
    pub(super) end: usize,
    /// A piece of a larger datagram: its transport header and checksum cover more than is here.
    pub(super) is_fragment: bool,
}

/// Sender and receiver; `None` when it is no IP packet.
pub(super) fn addresses(bytes: &[u8]) -> Option<(IpAddr, IpAddr)> {
    match bytes.first()? >> 4 {
        4 => {
            let at = |at: usize| Some(Ipv4Addr::from(<[u8; 4]>::try_from(bytes.get(at..at + 4)?).ok()?));
            Some((at(12)?.into(), at(16)?.into()))
        }
        6 => {
            let at = |at: usize| Some(Ipv6Addr::from(<[u8; 16]>::try_from(bytes.get(at..at + 16)?).ok()?));
            Some((at(8)?.into(), at(24)?.into()))
        }
        _ => None,
    }
}

/// The parts of a packet; `None` when it is cut short or no IP packet.
pub(super) fn layout(bytes: &[u8]) -> Option<Layout> {
    match bytes.first()? >> 4 {
        4 => {
            let transport = usize::from(bytes[0] & 0x0f) * 4;
            let end = usize::from(word(bytes, 2)?);
            // More-fragments flag, or an offset.
            let is_fragment = word(bytes, 6)? & 0x3fff != 0;
            let protocol = *bytes.get(9)?;
            (20 <= transport && transport <= end && end <= bytes.len()).then_some(Layout {
                protocol,
                transport,
                end,
                is_fragment,
            })
        }
        6 => {
            let end = 40 + usize::from(word(bytes, 4)?);
            let (mut protocol, mut transport, mut is_fragment) = (*bytes.get(6)?, 40, false);
            // Hop-by-hop, routing and destination options in units of 8 bytes after the first 8; fragment headers.
            while matches!(protocol, 0 | 43 | 44 | 60) {
                let next = *bytes.get(transport)?;
                let len = if protocol == 44 { 8 } else { 8 + usize::from(*bytes.get(transport + 1)?) * 8 };
                is_fragment |= protocol == 44;
                (protocol, transport) = (next, transport + len);
            }
            (transport <= end && end <= bytes.len()).then_some(Layout { protocol, transport, end, is_fragment })
        }
        _ => None,
    }
}

impl Layout {
    /// First byte after the transport header; `None` when we do not know that protocol or the header is cut short.
    pub(super) fn payload(&self, bytes: &[u8]) -> Option<usize> {
        let len = match self.protocol {
            TCP => usize::from(*bytes.get(self.transport + 12)? >> 4) * 4,
            UDP | ICMP | ICMP_V6 => 8,
            _ => return None,
        };
        (self.transport + len <= self.end).then_some(self.transport + len)
    }

    /// Where the transport checksum is; `None` when we do not know that protocol.
    pub(super) fn checksum(&self) -> Option<usize> {
        let at = match self.protocol {
            TCP => 16,
            UDP => 6,
            ICMP | ICMP_V6 => 2,
            _ => return None,
        };
        (self.transport + at + 2 <= self.end).then_some(self.transport + at)
    }
}

/// Whether the receiver's kernel would take the packet's transport checksum for good; true for what has none.
pub(super) fn is_checksum_good(bytes: &[u8], layout: &Layout) -> bool {
    let Some(at) = layout.checksum() else { return true };
    if layout.is_fragment || (layout.protocol == UDP && word(bytes, at) == Some(0)) {
        return true;
    }
    fold(sum(bytes, layout)) == 0xffff
}

/// Sets the transport checksum to what fits the rest of the packet.
pub(super) fn set_checksum(bytes: &mut [u8], layout: &Layout) {
    let Some(at) = layout.checksum() else { return };
    bytes[at..at + 2].copy_from_slice(&[0, 0]);
    let checksum = match !fold(sum(bytes, layout)) {
        // 0 would mean "no checksum" there (RFC 768).
        0 if layout.protocol == UDP => 0xffff,
        checksum => checksum,
    };
    bytes[at..at + 2].copy_from_slice(&checksum.to_be_bytes());
}

/// Sum over pseudo header, transport header and payload.
fn sum(bytes: &[u8], layout: &Layout) -> u64 {
    let body = &bytes[layout.transport..layout.end];
    let pseudo = match (bytes[0] >> 4, layout.protocol) {
        // ICMP for IPv4 has none.
        (4, ICMP) => 0,
        (4, _) => words(&bytes[12..20]),
        _ => words(&bytes[8..40]),
    };
    let tail =
        if (bytes[0] >> 4, layout.protocol) == (4, ICMP) { 0 } else { u64::from(layout.protocol) + body.len() as u64 };
    pseudo + tail + words(body)
}

fn words(bytes: &[u8]) -> u64 {
    let (pairs, last) = bytes.as_chunks::<2>();
    let sum: u64 = pairs.iter().map(|pair| u64::from(u16::from_be_bytes(*pair))).sum();
    sum + last.first().map_or(0, |&byte| u64::from(byte) << 8)
}

fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

fn word(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn long(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// The two segments that end the connection of `bytes` at both of its ends: to the receiver, in place of the packet, and
/// back to the sender. `None` unless it is a whole TCP segment of a connection past its first SYN.
///
/// A receiver takes a reset only when its sequence number is exactly the next one it waits for, and answers any other
/// with a challenge (RFC 5961, section 3.2). The packet's own sequence number is that for the receiver, if nothing before
/// it was lost; the packet's acknowledgement is that for the sender, unless more is on its way. Where one does not fit,
/// the other end is closed and answers the next packet with a reset itself.
pub(super) fn resets(bytes: &[u8]) -> Option<[Box<[u8]>; 2]> {
    let layout = layout(bytes).filter(|layout| layout.protocol == TCP && !layout.is_fragment)?;
    let payload = layout.payload(bytes)?;
    let at = layout.transport;
    let flags = bytes[at + 13];
    if flags & (SYN | RST) != 0 || flags & ACK == 0 {
        return None;
    }
    let (from, to) = addresses(bytes)?;
    let (source, destination) = (word(bytes, at)?, word(bytes, at + 2)?);
    let (sequence, acknowledged) = (long(bytes, at + 4)?, long(bytes, at + 8)?);
    let taken = (layout.end - payload) as u32 + u32::from(flags & FIN != 0);
    let forth = reset((from, to), (source, destination), sequence, acknowledged);
    let back = reset((to, from), (destination, source), acknowledged, sequence.wrapping_add(taken));
    Some([forth, back])
}

fn reset((from, to): (IpAddr, IpAddr), (source, destination): (u16, u16), sequence: u32, ack: u32) -> Box<[u8]> {
    let mut tcp = [0; 20];
    tcp[0..2].copy_from_slice(&source.to_be_bytes());
    tcp[2..4].copy_from_slice(&destination.to_be_bytes());
    tcp[4..8].copy_from_slice(&sequence.to_be_bytes());
    tcp[8..12].copy_from_slice(&ack.to_be_bytes());
    tcp[12] = 5 << 4;
    tcp[13] = RST | ACK;
    let mut packet = ip(from, to, TCP, &tcp);
    let layout = layout(&packet).expect("just made");
    set_checksum(&mut packet, &layout);
    packet.into_boxed_slice()
}

/// An IP packet around `body`; both addresses are of one family.
pub(super) fn ip(from: IpAddr, to: IpAddr, protocol: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let mut head = vec![0; 20];
            head[0] = 0x45;
            head[2..4].copy_from_slice(&((20 + body.len()) as u16).to_be_bytes());
            // Don't fragment.
            head[6] = 0x40;
            (head[8], head[9]) = (64, protocol);
            head[12..16].copy_from_slice(&from.octets());
            head[16..20].copy_from_slice(&to.octets());
            let checksum = !fold(words(&head));
            head[10..12].copy_from_slice(&checksum.to_be_bytes());
            head
        }
        (from, to) => {
            let octets = |address: IpAddr| match address {
                IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
                IpAddr::V6(v6) => v6.octets(),
            };
            let mut head = vec![0; 40];
            head[0] = 0x60;
            head[4..6].copy_from_slice(&(body.len() as u16).to_be_bytes());
            (head[6], head[7]) = (protocol, 64);
            head[8..24].copy_from_slice(&octets(from));
            head[24..40].copy_from_slice(&octets(to));
            head
        }
    };
    packet.extend_from_slice(body);
    packet
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(crate) const PAIRS: [(&str, &str); 2] = [("10.77.1.2", "10.77.2.2"), ("fd77:1::2", "fd77:2::2")];

    fn pair(n: usize) -> (IpAddr, IpAddr) {
        (PAIRS[n].0.parse().unwrap(), PAIRS[n].1.parse().unwrap())
    }

    /// A UDP packet with this payload, IPv4 for `n` 0 and IPv6 for 1.
    pub(crate) fn udp(n: usize, payload: &[u8]) -> Box<[u8]> {
        let mut body = vec![0x1f, 0x90, 0, 7];
        body.extend_from_slice(&((8 + payload.len()) as u16).to_be_bytes());
        body.extend_from_slice(&[0, 0]);
        body.extend_from_slice(payload);
        let (from, to) = pair(n);
        let mut packet = ip(from, to, UDP, &body);
        let layout = layout(&packet).unwrap();
        set_checksum(&mut packet, &layout);
        packet.into()
    }

    /// A TCP segment with these flags and this payload: sequence 1000, acknowledged 2000.
    pub(crate) fn tcp(n: usize, flags: u8, payload: &[u8]) -> Box<[u8]> {
        let mut body = vec![0x1f, 0x90, 0, 7, 0, 0, 3, 232, 0, 0, 7, 208, 5 << 4, flags, 0, 0, 0, 0, 0, 0];
        body.extend_from_slice(payload);
        let (from, to) = pair(n);
        let mut packet = ip(from, to, TCP, &body);
        let layout = layout(&packet).unwrap();
        set_checksum(&mut packet, &layout);
        packet.into()
    }

    #[test]
    fn an_echo_request_spelled_out_is_understood() {
        let echo = [
            0x45, 0, 0, 0x1c, 0, 0, 0x40, 0, 0x40, 1, 0x3c, 0xdf, 127, 0, 0, 1, 127, 0, 0, 1, 8, 0, 0xf7, 0xfe, 0, 1,
            0, 0,
        ];
        let found = layout(&echo).unwrap();
        assert_eq!(found, Layout { protocol: ICMP, transport: 20, end: 28, is_fragment: false });
        assert!(is_checksum_good(&echo, &found));
        assert_eq!(fold(words(&echo[..20])), 0xffff, "the checksum of the header");
    }

    #[test]
    fn resets_fit_the_segment_they_answer() {
        for n in 0..2 {
            let [forth, back] = resets(&tcp(n, ACK, b"abc")).unwrap();
            let fields = |packet: &[u8]| {
                let layout = layout(packet).unwrap();
                assert!(is_checksum_good(packet, &layout));
                let at = layout.transport;
                assert_eq!(packet[at + 13], RST | ACK);
                (addresses(packet).unwrap(), word(packet, at).unwrap(), long(packet, at + 4), long(packet, at + 8))
            };
            let (from, to) = pair(n);
            assert_eq!(fields(&forth), ((from, to), 8080, Some(1000), Some(2000)));
            assert_eq!(fields(&back), ((to, from), 7, Some(2000), Some(1003)));
            assert!(resets(&tcp(n, ACK | FIN, b"")).is_some());
            for flags in [SYN, SYN | ACK, RST, RST | ACK, 0] {
                assert!(resets(&tcp(n, flags, b"")).is_none(), "{flags:#x}");
            }
            assert!(resets(&udp(n, b"abc")).is_none());
        }
    }

    proptest! {
        #[test]
        fn garbage_is_no_packet_and_no_panic(bytes: Vec<u8>, version in prop::sample::select(vec![0x45u8, 0x60, 0x4f])) {
            let mut bytes = bytes;
            if let Some(first) = bytes.first_mut() {
                *first = version;
            }
            let _ = (addresses(&bytes), resets(&bytes));
            if let Some(layout) = layout(&bytes) {
                let _ = (layout.payload(&bytes), is_checksum_good(&bytes, &layout));
                set_checksum(&mut bytes, &layout);
            }
        }

        #[test]
        fn a_flipped_bit_breaks_the_checksum_and_setting_it_mends(n in 0usize..2, payload: Vec<u8>, bit: usize) {
            for packet in [udp(n, &payload), tcp(n, ACK, &payload)] {
                let layout = layout(&packet).unwrap();
                prop_assert!(is_checksum_good(&packet, &layout));
                let start = layout.payload(&packet).unwrap();
                if start == layout.end {
                    continue;
                }
                let mut hurt = packet.clone();
                let at = start * 8 + bit % ((layout.end - start) * 8);
                hurt[at / 8] ^= 1 << (at % 8);
                prop_assert!(!is_checksum_good(&hurt, &layout));
                set_checksum(&mut hurt, &layout);
                prop_assert!(is_checksum_good(&hurt, &layout));
            }
        }
    }
}
