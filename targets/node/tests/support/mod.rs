//! A cluster of real processes on loopback, and an HTTP client of a few lines (what curl would send).
//!
//! Every process gets a loopback address of its own, so that no ports have to be guessed: two tests never meet.

#![allow(dead_code, reason = "every test file uses a part of it")]
#![allow(clippy::allow_attributes, reason = "`expect` would fail in the files that use everything")]

use serde_json::Value as Json;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

const CLIENT_PORT: u16 = 7080;
const PEER_PORT: u16 = 7090;
/// Far more than anything here needs on a busy machine; reaching it is a failure, not a slow run.
const PATIENCE: Duration = Duration::from_secs(60);

static CLUSTERS: AtomicU32 = AtomicU32::new(0);

/// A cluster; its processes die with it.
pub(crate) struct Cluster {
    addresses: Vec<String>,
    children: Vec<Option<Child>>,
    dir: tempfile::TempDir,
    args: Vec<String>,
}

impl Cluster {
    /// `size` nodes that know each other; none runs yet.
    pub(crate) fn new(size: usize, args: &[&str]) -> Self {
        let (pid, number) = (std::process::id(), CLUSTERS.fetch_add(1, Ordering::Relaxed));
        let address = |i: usize| format!("127.{}.{}.{}", 64 + (pid >> 8) % 128, pid % 256, number as usize * 8 + i + 1);
        Self {
            addresses: (0..size).map(address).collect(),
            children: (0..size).map(|_| None).collect(),
            dir: tempfile::tempdir().unwrap(),
            args: args.iter().map(|arg| (*arg).to_owned()).collect(),
        }
    }

    /// The same, all running, with a leader that everybody knows.
    pub(crate) fn started(size: usize, args: &[&str]) -> Self {
        let mut cluster = Self::new(size, args);
        (0..size).for_each(|i| cluster.start(i));
        cluster.leader();
        cluster
    }

    pub(crate) fn data_dir(&self, i: usize) -> PathBuf {
        self.dir.path().join(format!("n{i}"))
    }

    pub(crate) fn command(&self, i: usize) -> Command {
        let peers: Vec<String> =
            self.addresses.iter().enumerate().map(|(i, ip)| format!("n{i}={ip}:{PEER_PORT}")).collect();
        let mut command = Command::new(env!("CARGO_BIN_EXE_squall-node"));
        command
            .args(["--id", &format!("n{i}")])
            .args(["--listen", &format!("{}:{CLIENT_PORT}", self.addresses[i])])
            .args(["--peer-listen", &format!("{}:{PEER_PORT}", self.addresses[i])])
            .args(["--peers", &peers.join(",")])
            .arg("--data-dir")
            .arg(self.data_dir(i))
            .args(&self.args)
            .stdin(Stdio::null());
        command
    }

    pub(crate) fn start(&mut self, i: usize) {
        assert!(self.children[i].is_none(), "n{i} runs already");
        let log = std::fs::File::create(self.dir.path().join(format!("n{i}.log"))).unwrap();
        self.children[i] = Some(self.command(i).stderr(log).spawn().unwrap());
        eventually("the node answers", || self.get(i, "/status").ok());
    }

    /// kill -9.
    pub(crate) fn kill(&mut self, i: usize) {
        let mut child = self.children[i].take().expect("the node runs");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    pub(crate) fn running(&self) -> Vec<usize> {
        (0..self.children.len()).filter(|i| self.children[*i].is_some()).collect()
    }

    /// Waits until all running nodes name the same leader, and that one leads.
    pub(crate) fn leader(&self) -> usize {
        eventually("a leader that everybody knows", || {
            let states: Vec<(usize, Json)> =
                self.running().into_iter().map(|i| Some((i, self.get(i, "/status").ok()?.1))).collect::<Option<_>>()?;
            let name = states.first()?.1["leader"].as_str()?.to_owned();
            let leads = |(i, state): &(usize, Json)| state["role"] == "leader" && format!("n{i}") == name;
            let (leader, _) = states.iter().find(|state| leads(state))?;
            states.iter().all(|(_, state)| state["leader"] == name.as_str()).then_some(*leader)
        })
    }

    pub(crate) fn status(&self, i: usize) -> Json {
        self.get(i, "/status").unwrap().1
    }

    pub(crate) fn get(&self, i: usize, path: &str) -> io::Result<(u16, Json)> {
        self.send(i, "GET", path, &[], None)
    }

    pub(crate) fn put(&self, i: usize, key: &str, value: Json) -> (u16, Json) {
        let body = serde_json::json!({ "value": value });
        self.send(i, "PUT", &format!("/kv/{key}"), &[], Some(&body.to_string())).unwrap()
    }

    pub(crate) fn read(&self, i: usize, key: &str) -> (u16, Json) {
        self.get(i, &format!("/kv/{key}")).unwrap()
    }

    /// One request over a connection of its own; a body that is not JSON comes back as a string.
    pub(crate) fn send(
        &self,
        i: usize,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&str>,
    ) -> io::Result<(u16, Json)> {
        let mut stream = TcpStream::connect((self.addresses[i].as_str(), CLIENT_PORT))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut request = format!("{method} {path} HTTP/1.1\r\nhost: node\r\nconnection: close\r\n");
        headers.iter().for_each(|(name, value)| request += &format!("{name}: {value}\r\n"));
        let body = body.unwrap_or_default();
        request += &format!("content-length: {}\r\n\r\n{body}", body.len());
        stream.write_all(request.as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
        let code = head.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or(io::ErrorKind::InvalidData)?;
        Ok((code, serde_json::from_str(body).unwrap_or_else(|_| body.into())))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for child in self.children.iter_mut().flatten() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            for i in 0..self.addresses.len() {
                let log = std::fs::read_to_string(self.dir.path().join(format!("n{i}.log"))).unwrap_or_default();
                eprintln!("--- log of n{i}\n{log}");
            }
        }
    }
}

/// Asks until there is an answer.
///
/// # Panics
/// When there is none for a minute.
pub(crate) fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
