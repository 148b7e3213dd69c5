//! A controller's end of an agent, as a program, and what it started.

use squall_agent::faults::Fault;
use squall_agent::protocol::{AgentError, Evidence, ProcessStatus, Reply, Request, VERSION};
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

/// A controller's end of one agent.
pub(crate) struct Agent {
    child: Child,
    stdin: ChildStdin,
    stdout: ChildStdout,
    next_id: u64,
}

/// A lease for tests that are not about it: longer than any of them, and not for ever, should one be interrupted.
pub(crate) const LONG_LEASE_MS: u64 = 600_000;

impl Agent {
    pub(crate) fn start(root: &Path, lease_ms: u64) -> Self {
        Self::start_by(&["env"], root, lease_ms)
    }

    /// By way of a command that becomes the program that it is given.
    pub(crate) fn start_by(through: &[&str], root: &Path, lease_ms: u64) -> Self {
        let mut child = Command::new(through[0])
            .args(&through[1..])
            .arg(env!("CARGO_BIN_EXE_squall-agent"))
            .args(["serve", "--root"])
            .arg(root)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let mut agent = Self { child, stdin, stdout, next_id: 1 };
        assert!(matches!(agent.ask(Request::Hello { version: VERSION, lease_ms, again: false }), Ok(Reply::Hello(_))));
        agent
    }

    /// Asks without waiting for the answer.
    pub(crate) fn send(&mut self, request: &Request) {
        let json = serde_json::to_vec(&serde_json::json!({ "id": self.next_id, "request": request })).unwrap();
        self.next_id += 1;
        self.stdin.write_all(&(4 + json.len() as u32).to_le_bytes()).unwrap();
        self.stdin.write_all(&(json.len() as u32).to_le_bytes()).unwrap();
        self.stdin.write_all(&json).unwrap();
        self.stdin.flush().unwrap();
    }

    pub(crate) fn ask(&mut self, request: Request) -> Result<Reply, AgentError> {
        self.send(&request);
        let mut head = [0; 8];
        self.stdout.read_exact(&mut head).unwrap();
        let word = |at: usize| u32::from_le_bytes(head[at..at + 4].try_into().unwrap()) as usize;
        let mut body = vec![0; word(0) - 4];
        self.stdout.read_exact(&mut body).unwrap();
        let answer: serde_json::Value = serde_json::from_slice(&body[..word(4)]).unwrap();
        match answer.get("error") {
            Some(error) => Err(serde_json::from_value(error.clone()).unwrap()),
            None => Ok(serde_json::from_value(answer["reply"].clone()).unwrap()),
        }
    }

    pub(crate) fn process(&mut self, request: Request) -> ProcessStatus {
        match self.ask(request).unwrap() {
            Reply::Process(status) => status,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn fault(&mut self, request: Request) -> Evidence {
        match self.ask(request).unwrap() {
            Reply::Fault(evidence) => evidence,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn inject(&mut self, id: &str, fault: Fault) -> Evidence {
        self.fault(Request::Inject { id: id.to_owned(), fault, lease_ms: 60_000 })
    }

    pub(crate) fn kill_9(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) fn shutdown(&mut self) {
        assert_eq!(self.ask(Request::Shutdown).unwrap(), Reply::Done);
    }
}

/// Waits until a watchdog, which looks ten times a second, has surely seen what was started so far.
pub(crate) fn let_the_watchdog_look() {
    std::thread::sleep(Duration::from_millis(500));
}

pub(crate) fn stat(pid: u32) -> Option<(char, u32)> {
    let line = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let rest: Vec<&str> = line.rsplit_once(')')?.1.split_ascii_whitespace().collect();
    Some((rest[0].chars().next()?, rest[1].parse().ok()?))
}

pub(crate) fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < Duration::from_secs(30), "gave up waiting for: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

pub(crate) fn is_gone(pid: u32) -> bool {
    stat(pid).is_none_or(|(state, _)| state == 'Z')
}
