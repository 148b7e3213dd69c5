//! The interface through which the kernel hands us packets and takes them back (Linux, `networking/tuntap`).

use super::stage::Packet;
use crate::linux::rules;
use crate::protocol::AgentError;
use futures::TryStreamExt;
use nix::libc;
use rtnetlink::packet_route::link::LinkAttribute;
use rtnetlink::packet_route::route::RouteMessage;
use rtnetlink::{Handle, LinkUnspec, RouteMessageBuilder};
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::time::{Duration, Instant};

/// Where the kernel hands out such interfaces.
const DEVICE: &str = "/dev/net/tun";

/// The interface's name. There is one shaper in a network namespace: its rules are known by their priority.
pub(super) const INTERFACE: &str = "squall";

/// As long as a packet can be.
const MTU: u32 = 65_535;

/// As long as packets mostly are.
const MTU_USUAL: u32 = 1500;

/// Packets that may wait for us: a burst of some 50 ms at full speed. The kernel's own 500 last for less than a time
/// slice of somebody else's process.
const QUEUE_LEN: u32 = 10_000;

/// How long a predecessor may take to leave.
const BUSY_TIME_MAX: Duration = Duration::from_secs(2);

/// The interface; it goes when this does.
pub(super) struct Tun {
    file: File,
}

#[expect(unsafe_code, reason = "the only way to name a TUN interface is an ioctl")]
mod ioctl {
    use nix::libc;

    // TUNSETIFF is declared with an int, but takes an ifreq.
    nix::ioctl_write_ptr_bad!(
        set_interface,
        nix::request_code_write!(b'T', 202, size_of::<libc::c_int>()),
        libc::ifreq
    );

    /// Makes `fd` the TUN interface called `name`, without a header before its packets.
    pub(super) fn become_interface(fd: i32, name: &str) -> nix::Result<()> {
        // SAFETY: all zeroes is a valid ifreq: integers, and a union of them.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
            *to = from as libc::c_char;
        }
        request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI) as libc::c_short;
        // SAFETY: the file descriptor is open and the ifreq lives throughout the call.
        unsafe { set_interface(fd, &raw const request) }.map(|_| ())
    }
}

impl Tun {
    /// Makes the interface, brings it up, and gives it the table to which [`rules`] send packets.
    ///
    /// # Errors
    /// When the device cannot be used (the sentence says what to do) or the kernel refuses.
    pub(super) fn open() -> Result<Self, AgentError> {
        let begun = Instant::now();
        let file = loop {
            let opened = OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open(DEVICE);
            let file = opened.map_err(|e| {
                AgentError::new(format!("cannot use {DEVICE} ({e}): `modprobe tun`; it must be open to this user"))
            })?;
            match ioctl::become_interface(file.as_raw_fd(), INTERFACE) {
                Ok(()) => break file,
                Err(nix::errno::Errno::EBUSY) if begun.elapsed() < BUSY_TIME_MAX => {
                    std::thread::sleep(Duration::from_millis(10));
                }
                Err(errno) => {
                    return Err(AgentError::new(format!("cannot make the interface `{INTERFACE}`: {errno}")));
                }
            }
        };
        rules::with_netlink(async |handle| configure(&handle).await)?;
        rules::let_back(INTERFACE)?;
        Ok(Self { file })
    }

    /// The next packet that waits, in `buffer`; its length.
    pub(super) fn read(&self, buffer: &mut [u8]) -> std::io::Result<Option<usize>> {
        loop {
            match (&self.file).read(buffer) {
                Ok(len) => return Ok(Some(len)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Hands a packet back to the kernel. One that it does not want is lost, as on any wire.
    pub(super) fn write(&self, packet: &Packet) {
        let _ = (&self.file).write(packet);
    }

    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// Packets that the kernel dropped because we did not read fast enough.
    pub(super) fn unread(&self) -> u64 {
        let devices = std::fs::read_to_string("/proc/self/net/dev").unwrap_or_default();
        devices.lines().find_map(dropped_unread).unwrap_or(0)
    }
}

/// Lets the kernel send on what it has sent to the interface itself, for these pairs from addresses of its own: such a packet
/// comes back with an address of this node as its source, which it takes for a forgery otherwise. Only this interface is told so
/// (Linux, `networking/ip-sysctl`), and it goes with the shaper.
///
/// # Errors
/// When the kernel refuses, or checks where packets come from on all interfaces.
pub(crate) fn accept_own_packets(own: &[(IpAddr, IpAddr)]) -> Result<(), AgentError> {
    let all = "/proc/sys/net/ipv4/conf/all/rp_filter";
    if std::fs::read_to_string(all).is_ok_and(|value| value.trim() == "1") {
        let what = format!("{all} is 1: the kernel would drop what a node impairs of its own; set it to 0 or 2");
        return Err(AgentError::new(what));
    }
    for (key, value) in [("accept_local", "1"), ("forwarding", "1"), ("rp_filter", "0")] {
        let path = format!("/proc/sys/net/ipv4/conf/{INTERFACE}/{key}");
        std::fs::write(&path, value).map_err(|e| AgentError::new(format!("cannot set {path}: {e}")))?;
    }
    for pair in own {
        rules::source_of_own(&[*pair], INTERFACE, mtu_of(pair.0))?;
    }
    Ok(())
}

/// The longest packet that the interface with this address takes (bytes).
fn mtu_of(address: IpAddr) -> u32 {
    let has = |interface: &nix::ifaddrs::InterfaceAddress| {
        let v4 = interface.address.as_ref().and_then(|one| one.as_sockaddr_in().map(|one| IpAddr::V4(one.ip())));
        v4 == Some(address)
    };
    let interface = nix::ifaddrs::getifaddrs().ok().and_then(|mut all| all.find(has));
    let mtu =
        interface.and_then(|one| std::fs::read_to_string(format!("/sys/class/net/{}/mtu", one.interface_name)).ok());
    mtu.and_then(|mtu| mtu.trim().parse().ok()).unwrap_or(MTU_USUAL)
}

/// What a line of `/proc/net/dev` says was dropped on its way out of our interface: the 12th number (proc(5)).
fn dropped_unread(line: &str) -> Option<u64> {
    let (name, numbers) = line.split_once(':')?;
    (name.trim() == INTERFACE).then_some(())?;
    numbers.split_ascii_whitespace().nth(11)?.parse().ok()
}

async fn configure(handle: &Handle) -> Result<(), rtnetlink::Error> {
    let mut links = handle.link().get().match_name(INTERFACE.to_owned()).execute();
    let index = links.try_next().await?.map_or(0, |link| link.header.index);
    let link = LinkUnspec::new_with_index(index)
        .up()
        .mtu(MTU)
        .append_extra_attribute(LinkAttribute::TxQueueLen(QUEUE_LEN))
        .build();
    handle.link().set(link).execute().await?;
    let v4: RouteMessage =
        RouteMessageBuilder::<Ipv4Addr>::new().output_interface(index).table_id(rules::SHAPER_TABLE).build();
    handle.route().add(v4).execute().await?;
    let v6: RouteMessage =
        RouteMessageBuilder::<Ipv6Addr>::new().output_interface(index).table_id(rules::SHAPER_TABLE).build();
    // A kernel without IPv6 has no packets of it either.
    let _ = handle.route().add(v6).execute().await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drops_are_found_in_the_kernels_table() {
        let line = "squall: 840 10 0 1 0 0 0 0 1680 20 0 7 0 0 0 0";
        assert_eq!(dropped_unread(line), Some(7));
        assert_eq!(dropped_unread("  eth0: 840 10 0 1 0 0 0 0 1680 20 0 7 0 0 0 0"), None);
        assert_eq!(dropped_unread(" face |bytes    packets errs"), None);
    }
}
