//! The embedded cluster: every node is a set of Linux namespaces on this machine, joined by a router namespace.
//!
//! The controller itself runs in the router namespace ([`enter`]), so clients reach nodes without forwarding of ours, and
//! everything ends with it. Nodes have their own network, mount, pid and uts namespaces, host name, `/etc/hosts` and
//! `/proc`; they share the file system otherwise (each writes below its own root) and the machine's clock.

mod enter;
mod network;
mod node;

pub use enter::{Entered, enter, is_inside};
pub use node::enter_node;

use super::{Cluster, Control, Duplex, Network, Node, Transport};
use anyhow::{Context, bail};
use async_trait::async_trait;
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use squall_checkers::Sym;
use std::ffi::OsString;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, Command};

/// How long one node may take to come up.
const NODE_UP_TIME_MAX: Duration = Duration::from_secs(20);

/// Runs the hidden subcommand of this provider that `argv` (without the program's name) asks for, if it does.
/// To be called first thing in `main`: such a process must not have threads.
pub fn hidden_main(argv: &[OsString]) -> Option<ExitCode> {
    let result = match argv.first()?.to_str()? {
        enter::INIT => enter::init(&argv[1..]),
        _ => node::hidden(argv)?,
    };
    Some(result.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::from(70)
    }))
}

/// Mounts made from here on are seen by nobody else.
fn private_mounts() -> anyhow::Result<()> {
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
        .context("cannot make mounts private")
}

/// Ends this process when whoever holds the other end of its stdin is gone, however that came about; after `last`.
fn end_with_stdin(last: impl FnOnce() + Send + 'static) {
    std::thread::spawn(|| {
        let mut buffer = [0; 64];
        // Data is of no interest here, and an error is an end too.
        while matches!(std::io::stdin().read(&mut buffer), Ok(n) if n > 0) {}
        last();
        std::process::exit(70);
    });
}

/// Collects all ended children and orphans; the exit code of `main` when it is among them (128 + signal if killed).
fn reap(main: Pid) -> Option<u8> {
    let mut code = None;
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, status)) if pid == main => code = Some(status as u8),
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == main => code = Some(128 + signal as u8),
            Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return code,
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => return code,
        }
    }
}

/// Brings up `count` nodes with their folders below `dir`. Only inside ([`enter`]).
///
/// # Errors
/// With the node and what was refused.
pub async fn up(count: usize, dir: &Path, lease: Duration) -> anyhow::Result<Cluster> {
    if !is_inside() {
        bail!("the local cluster can only come up in its own namespaces");
    }
    let program = std::env::current_exe().context("cannot find this program's own file")?;
    let hosts = dir.join("hosts");
    std::fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
    std::fs::write(&hosts, hosts_file(count)).with_context(|| format!("cannot write {}", hosts.display()))?;
    let router = async {
        let agent = agent_argv(&program, &dir.join("router"))?;
        anyhow::Ok(Control::connect("router", Arc::new(Here), agent, lease).await?.0)
    };
    let nodes = (0..count).map(|index| node_up(index, dir, &hosts, &program, lease));
    let (router, nodes) = futures::future::try_join(router, futures::future::try_join_all(nodes)).await?;
    let (nodes, inits): (Vec<_>, Vec<_>) = nodes.into_iter().unzip();
    Ok(Cluster { nodes, network: Network::Router(router), power: None, keep: Box::new(inits) })
}

fn hosts_file(count: usize) -> String {
    let nodes = (0..count).map(|index| format!("{} n{}\n", network::node_address(index), index + 1));
    std::iter::once("127.0.0.1 localhost\n::1 localhost\n".to_owned()).chain(nodes).collect()
}

fn agent_argv(program: &Path, root: &Path) -> anyhow::Result<Vec<String>> {
    std::fs::create_dir_all(root).with_context(|| format!("cannot create {}", root.display()))?;
    Ok(vec![text(program)?, "agent".to_owned(), "serve".to_owned(), "--root".to_owned(), text(root)?])
}

fn text(path: &Path) -> anyhow::Result<String> {
    Ok(path.to_str().with_context(|| format!("the path {} is not UTF-8", path.display()))?.to_owned())
}

async fn node_up(
    index: usize,
    dir: &Path,
    hosts: &Path,
    program: &Path,
    lease: Duration,
) -> anyhow::Result<(Arc<Node>, Child)> {
    let name = format!("n{}", index + 1);
    let up = async {
        let (init, pid) = start_init(index, &name, hosts).await?;
        let root = dir.join(&name);
        let agent = agent_argv(program, &root)?;
        let (control, _) = Control::connect(&name, Arc::new(Inside { pid }), agent, lease).await?;
        let node = Node {
            name: Sym::new(&name),
            index,
            address: network::node_address(index).into(),
            root: text(&root)?,
            program: text(program)?,
            control,
        };
        anyhow::Ok((Arc::new(node), init))
    };
    match tokio::time::timeout(NODE_UP_TIME_MAX, up).await {
        Ok(result) => result.with_context(|| format!("cannot bring up node {name}")),
        Err(_) => bail!("node {name} did not come up within {} s", NODE_UP_TIME_MAX.as_secs()),
    }
}

/// Starts a node's init; returns the handle that keeps it alive, and its process id.
async fn start_init(index: usize, name: &str, hosts: &Path) -> anyhow::Result<(Child, u32)> {
    let mut init = Command::new("/proc/self/exe")
        .arg(node::NODE)
        .arg(index.to_string())
        .arg(name)
        .arg(hosts)
        .env_remove("SQUALL_INSIDE")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let mut lines = BufReader::new(init.stdout.take().context("no stdout")?).lines();
    let pid = lines.next_line().await?.and_then(|line| line.parse().ok()).context("its init did not start")?;
    network::link_node(index, pid).await?;
    let stdin = init.stdin.as_mut().context("no stdin")?;
    stdin.write_all(b"linked\n").await?;
    if lines.next_line().await?.as_deref() != Some(node::READY) {
        bail!("its init ended early; see the message above");
    }
    Ok((init, pid))
}

/// The router: this very namespace.
struct Here;

/// A node: the namespaces of its init.
struct Inside {
    pid: u32,
}

#[async_trait]
impl Transport for Here {
    async fn put(&self, _: &Path, _: &str) -> anyhow::Result<()> {
        // The program is where it is: the file system is shared.
        Ok(())
    }

    async fn open(&self, argv: &[String]) -> anyhow::Result<Duplex> {
        open(argv.iter().map(PathBuf::from).map(PathBuf::into_os_string).collect())
    }
}

#[async_trait]
impl Transport for Inside {
    async fn put(&self, _: &Path, _: &str) -> anyhow::Result<()> {
        Ok(())
    }

    async fn open(&self, argv: &[String]) -> anyhow::Result<Duplex> {
        let enter = ["/proc/self/exe".into(), node::ENTER.into(), self.pid.to_string().into()];
        open(enter.into_iter().chain(argv.iter().map(OsString::from)).collect())
    }
}

fn open(argv: Vec<OsString>) -> anyhow::Result<Duplex> {
    let mut child = Command::new(&argv[0])
        .args(&argv[1..])
        .env_remove("SQUALL_INSIDE")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("cannot start {}", argv[0].to_string_lossy()))?;
    let writer = child.stdin.take().context("no stdin")?;
    let reader = child.stdout.take().context("no stdout")?;
    Ok(Duplex { writer: Box::new(writer), reader: Box::new(reader), keep: Box::new(child) })
}
