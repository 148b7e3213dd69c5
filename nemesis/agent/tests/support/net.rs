//! A network of namespaces that nothing outside sees: two nodes, and a router between them as in the local cluster.

use nix::sched::{CloneFlags, unshare};
use std::net::{IpAddr, UdpSocket};
use std::process::Command;
use std::sync::mpsc::{Sender, channel};

/// A network namespace: it lives as long as its thread.
pub(crate) struct Space {
    work: Sender<Box<dyn FnOnce() + Send>>,
    thread: nix::unistd::Pid,
}

impl Space {
    fn new() -> Result<Self, String> {
        let (work, todo) = channel::<Box<dyn FnOnce() + Send>>();
        let (ready, made) = channel();
        std::thread::spawn(move || {
            let unshared = unshare(CloneFlags::CLONE_NEWNET).map(|()| nix::unistd::gettid());
            let _ = ready.send(unshared);
            todo.into_iter().for_each(|work| work());
        });
        let thread = made.recv().unwrap().map_err(|errno| format!("cannot make a network namespace: {errno}"))?;
        Ok(Self { work, thread })
    }

    /// Runs `work` inside. Sockets and processes made there stay there.
    pub(crate) fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let (done, result) = channel();
        self.work.send(Box::new(move || drop(done.send(work())))).unwrap();
        result.recv().expect("the work in the namespace panicked")
    }

    fn ip(&self, arguments: &str) -> Result<(), String> {
        let arguments: Vec<String> = arguments.split(' ').map(str::to_owned).collect();
        self.run(move || {
            let output = Command::new("ip").args(&arguments).output().map_err(|e| format!("cannot run `ip`: {e}"))?;
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            output.status.success().then_some(()).ok_or(format!("ip {}: {said}", arguments.join(" ")))
        })
    }

    fn set(&self, key: &str, value: &'static str) -> Result<(), String> {
        let path = format!("/proc/sys/net/{key}");
        self.run(move || std::fs::write(&path, value).map_err(|e| format!("cannot write {path}: {e}")))
    }
}

/// Nodes a and b with a router between them, in IPv4 and IPv6.
pub(crate) struct Net {
    pub(crate) router: Space,
    pub(crate) a: Space,
    pub(crate) b: Space,
}

impl Net {
    /// Makes it.
    ///
    /// # Errors
    /// Why this machine does not let us.
    pub(crate) fn up() -> Result<Self, String> {
        if !std::path::Path::new("/dev/net/tun").exists() {
            return Err("there is no /dev/net/tun".to_owned());
        }
        let net = Self { router: Space::new()?, a: Space::new()?, b: Space::new()? };
        net.router.ip("link set lo up")?;
        for key in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
            net.router.set(key, "1")?;
        }
        for space in [&net.router, &net.a, &net.b] {
            // A link-local address that is still looking for its double cannot ask for neighbours.
            space.set("ipv6/conf/default/accept_dad", "0")?;
        }
        for key in ["ipv4/conf/all/rp_filter", "ipv4/conf/default/rp_filter"] {
            net.router.set(key, "0")?;
        }
        for (n, node) in [(1, &net.a), (2, &net.b)] {
            net.router.ip(&format!("link add node{n} type veth peer name eth0 netns {}", node.thread))?;
            net.router.ip(&format!("address add 10.78.{n}.1/24 dev node{n}"))?;
            net.router.ip(&format!("address add fd78:{n}::1/64 dev node{n} nodad"))?;
            net.router.ip(&format!("link set node{n} up"))?;
            node.ip("link set lo up")?;
            node.ip(&format!("address add 10.78.{n}.2/24 dev eth0"))?;
            node.ip(&format!("address add fd78:{n}::2/64 dev eth0 nodad"))?;
            node.ip("link set eth0 up")?;
            node.ip(&format!("route add default via 10.78.{n}.1"))?;
            node.ip(&format!("-6 route add default via fd78:{n}::1"))?;
        }
        Ok(net)
    }

    /// The nodes' addresses, of either family.
    pub(crate) fn pair(is_v6: bool) -> (IpAddr, IpAddr) {
        let (a, b) = if is_v6 { ("fd78:1::2", "fd78:2::2") } else { ("10.78.1.2", "10.78.2.2") };
        (a.parse().unwrap(), b.parse().unwrap())
    }

    /// A UDP socket on each node, connected to the other.
    pub(crate) fn sockets(&self, is_v6: bool) -> (UdpSocket, UdpSocket) {
        let (a, b) = Self::pair(is_v6);
        let bind = |space: &Space, address: IpAddr| space.run(move || UdpSocket::bind((address, 0)).unwrap());
        let (at_a, at_b) = (bind(&self.a, a), bind(&self.b, b));
        at_a.connect(at_b.local_addr().unwrap()).unwrap();
        at_b.connect(at_a.local_addr().unwrap()).unwrap();
        (at_a, at_b)
    }
}

/// The next datagram. A process that was stopped and goes on (by a debugger, a freezer) is told so by an error, which is none.
pub(crate) fn receive(socket: &UdpSocket, buffer: &mut [u8]) -> std::io::Result<usize> {
    loop {
        match socket.recv(buffer) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            received => return received,
        }
    }
}
