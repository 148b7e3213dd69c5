//! A controller's end of one agent.

use squall_agent::faults::Fault;
use squall_agent::protocol::{AgentError, Evidence, Reply, Request, VERSION};
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

pub(crate) struct Agent {
    child: Child,
    stdin: ChildStdin,
    stdout: ChildStdout,
    next_id: u64,
}

impl Agent {
    pub(crate) fn start(root: &Path, lease_ms: u64) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_squall-agent"))
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

    pub(crate) fn ask(&mut self, request: Request) -> Result<Reply, AgentError> {
        let json = serde_json::to_vec(&serde_json::json!({ "id": self.next_id, "request": request })).unwrap();
        self.next_id += 1;
        self.stdin.write_all(&squall_agent::frame::encode(&json, &[]).unwrap()).unwrap();
        self.stdin.flush().unwrap();
        let mut head = [0; squall_agent::frame::HEAD_LEN];
        self.stdout.read_exact(&mut head).unwrap();
        let (len, json_len) = squall_agent::frame::lengths(head).unwrap();
        let mut body = vec![0; len];
        self.stdout.read_exact(&mut body).unwrap();
        let answer: serde_json::Value = serde_json::from_slice(&body[..json_len]).unwrap();
        match answer.get("error") {
            Some(error) => Err(serde_json::from_value(error.clone()).unwrap()),
            None => Ok(serde_json::from_value(answer["reply"].clone()).unwrap()),
        }
    }

    pub(crate) fn fault(&mut self, request: Request) -> Evidence {
        match self.ask(request).unwrap() {
            Reply::Fault(evidence) => evidence,
            other => panic!("{other:?}"),
        }
    }

    /// Injects and expects it in force.
    pub(crate) fn inject(&mut self, id: &str, fault: Fault) {
        let evidence = self.fault(Request::Inject { id: id.to_owned(), fault, lease_ms: 60_000 });
        assert!(evidence.verified, "{evidence:?}");
    }

    pub(crate) fn measure(&mut self, id: &str) -> Evidence {
        self.fault(Request::Measure { id: id.to_owned() })
    }

    pub(crate) fn heal(&mut self, id: &str) -> Evidence {
        let evidence = self.fault(Request::Heal { id: id.to_owned() });
        assert!(evidence.verified, "{evidence:?}");
        evidence
    }

    pub(crate) fn kill_9(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) fn shutdown(mut self) {
        assert_eq!(self.ask(Request::Shutdown).unwrap(), Reply::Done);
        drop(self.stdin);
        self.child.wait().unwrap();
    }
}
