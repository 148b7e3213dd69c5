//! A test of your own system, complete: a target, a client, and a `main` that hands over to squall's command line.
//!
//! The system is a register server that keeps its data in memory and knows nothing of other servers. One server alone is
//! linearizable; three of them, taken for one system, are not, and squall says so:
//!
//! ```text
//! cargo run --release --example own_target -- run harness/cli/examples/own_target.yaml              # VALID
//! cargo run --release --example own_target -- run harness/cli/examples/own_target.yaml --nodes 3    # INVALID, and why
//! ```

use anyhow::Context;
use async_trait::async_trait;
use squall_agent::protocol::{Request, StartProcess};
use squall_checkers::{Sym, Value};
use squall_harness::config::{ConfigError, Section};
use squall_harness::target::{Claims, Survives};
use squall_harness::{Client, ClientFactory, Cluster, Kind, Node, Op, Outcome, Registry, Target};
use std::collections::{BTreeMap, HashMap};
use std::io::{BufRead, BufReader, Write};
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt};

const PORT: u16 = 7000;

/// The five lines that everybody needs; the first two only because this program is also the system under test.
fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some("serve") {
        return serve();
    }
    let mine = Kind { name: "in-memory", doc: "register servers that do not know each other", read };
    squall::main_with(Registry {
        targets: vec![mine],
        workloads: squall_workloads::kinds(),
        nemesis: Box::new(squall_nemesis::SquallNemesis),
    })
}

/// Reads the target's section of a test file. Keys are asked for one by one, each with its default and documentation:
/// `squall describe in-memory` prints them.
fn read(section: &mut Section) -> Result<Box<dyn Target>, ConfigError> {
    let verbose = section.get("verbose", false, "log every request")?;
    Ok(Box::new(InMemory { verbose }))
}

struct InMemory {
    verbose: bool,
}

#[async_trait]
impl Target for InMemory {
    fn name(&self) -> &'static str {
        "in-memory"
    }

    /// Puts the system on the node and wipes what an earlier run left. This program is there already (`node.program`).
    async fn install(&self, _: &Cluster, _: &Node) -> anyhow::Result<()> {
        Ok(())
    }

    /// Starts it, at set-up and again after a kill. The agent runs it in a session of its own and finds it by its name.
    async fn start(&self, _: &Cluster, node: &Node) -> anyhow::Result<()> {
        let verbose = if self.verbose { "verbose" } else { "quiet" };
        let start = StartProcess {
            name: self.name().to_owned(),
            argv: vec![node.program.clone(), "serve".to_owned(), node.address.to_string(), verbose.to_owned()],
            env: BTreeMap::new(),
            cwd: node.root.clone(),
            log: "in-memory.log".to_owned(),
        };
        node.control.call(Request::Start(start)).await?;
        Ok(())
    }

    /// What it keeps is gone with its process: a test that kills it is refused, unless it says `unsafe: true`.
    fn claims(&self) -> Claims {
        Claims { crashes: Survives::Nothing, lost_data: Survives::Nothing }
    }

    /// Whether clients may come; asked again and again until it says yes.
    async fn ready(&self, cluster: &Cluster) -> anyhow::Result<()> {
        for node in &cluster.nodes {
            tokio::net::TcpStream::connect((node.address, PORT))
                .await
                .with_context(|| format!("{} does not listen yet", node.name))?;
        }
        Ok(())
    }

    /// The vocabularies that its clients speak.
    fn clients(&self, workload: &str) -> Option<Arc<dyn ClientFactory>> {
        (workload == "register").then(|| Arc::new(Clients) as Arc<dyn ClientFactory>)
    }
}

struct Clients;

#[async_trait]
impl ClientFactory for Clients {
    /// An error here is recorded as `fail`: nothing was sent.
    async fn open(&self, node: &Arc<Node>, _: u32) -> anyhow::Result<Box<dyn Client>> {
        let stream = tokio::net::TcpStream::connect((node.address, PORT)).await?;
        Ok(Box::new(LineClient { stream: tokio::io::BufReader::new(stream) }))
    }
}

struct LineClient {
    stream: tokio::io::BufReader<tokio::net::TcpStream>,
}

impl LineClient {
    async fn ask(&mut self, line: String) -> std::io::Result<String> {
        self.stream.get_mut().write_all(line.as_bytes()).await?;
        let mut answer = String::new();
        match self.stream.read_line(&mut answer).await? {
            0 => Err(std::io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(answer.trim().to_owned()),
        }
    }
}

#[async_trait]
impl Client for LineClient {
    /// `Ok`: it certainly took effect. `Fail`: it certainly did not. `Info`: nobody knows; the harness then opens a fresh
    /// client for another process. The deadline of the operation is the harness's business.
    async fn invoke(&mut self, op: &Op) -> Outcome {
        let line = match (op.f.as_str(), op.value.as_list()) {
            ("read", _) => format!("read {}\n", op.key),
            ("cas", Some([expected, new])) => format!("cas {} {expected} {new}\n", op.key),
            _ => format!("write {} {}\n", op.key, op.value),
        };
        match self.ask(line).await.as_deref() {
            Ok("mismatch") => Outcome::Fail(Sym::new("mismatch")),
            Ok("done") => Outcome::Ok(op.value.clone()),
            Ok("nil") => Outcome::Ok(Value::Nil),
            Ok(number) => number.parse().map_or(Outcome::Info(Sym::new("garbage")), |n| Outcome::Ok(Value::Int(n))),
            // The request may have been carried out before the connection broke.
            Err(_) => Outcome::Info(Sym::new("connection lost")),
        }
    }
}

/// The system under test.
fn serve() -> ExitCode {
    let address = std::env::args().nth(2).unwrap_or_default();
    let verbose = std::env::args().nth(3).as_deref() == Some("verbose");
    let registers = Arc::new(Mutex::new(HashMap::<String, String>::new()));
    let Ok(listener) = std::net::TcpListener::bind((address.as_str(), PORT)) else { return ExitCode::FAILURE };
    for stream in listener.incoming().flatten() {
        let registers = registers.clone();
        std::thread::spawn(move || {
            let _ = stream.set_nodelay(true);
            let Ok(mut writer) = stream.try_clone() else { return };
            for line in BufReader::new(stream).lines().map_while(Result::ok) {
                if verbose {
                    eprintln!("{line}");
                }
                let answer = answer(&registers, &line.split(' ').collect::<Vec<_>>());
                if writer.write_all(format!("{answer}\n").as_bytes()).is_err() {
                    return;
                }
            }
        });
    }
    ExitCode::SUCCESS
}

fn answer(registers: &Mutex<HashMap<String, String>>, words: &[&str]) -> String {
    let mut registers = registers.lock().unwrap_or_else(|e| e.into_inner());
    let current = |registers: &HashMap<String, String>, key: &str| registers.get(key).map_or("nil", |v| v).to_owned();
    match words {
        ["read", key] => current(&registers, key),
        ["cas", key, expected, _] if current(&registers, key) != *expected => "mismatch".to_owned(),
        ["write", key, new] | ["cas", key, _, new] => {
            registers.insert((*key).to_owned(), (*new).to_owned());
            "done".to_owned()
        }
        _ => "what?".to_owned(),
    }
}
