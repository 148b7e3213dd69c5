//! A node of the local cluster: its namespaces, and the process that is their init.

use super::network;
use anyhow::{Context, bail};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use nix::unistd::Pid;
use std::ffi::OsString;
use std::io::{BufRead, Write};
use std::path::Path;
use std::process::{Command, ExitCode};
use tokio::signal::unix::{SignalKind, signal};

/// Hidden subcommand `local-node INDEX NAME HOSTS`: makes the namespaces, starts [`NODE_INIT`] in them.
pub(super) const NODE: &str = "local-node";
/// Hidden subcommand with the same arguments: process 1 of the node.
const NODE_INIT: &str = "local-node-init";
/// Hidden subcommand `local-enter PID PROGRAM ARGS…`: runs a program on the node whose init is PID.
pub(super) const ENTER: &str = "local-enter";

/// What a node's init says when the node is ready.
pub(super) const READY: &str = "ready";

/// Runs the hidden subcommand that `argv` names, if it is one of a node's.
pub(super) fn hidden(argv: &[OsString]) -> Option<anyhow::Result<ExitCode>> {
    let rest = &argv[1..];
    match argv[0].to_str()? {
        NODE => Some(start(rest)),
        NODE_INIT => Some(init(rest)),
        ENTER => Some(enter(rest)),
        _ => None,
    }
}

/// Says the process id of the node's init on stdout, then waits for it.
fn start(args: &[OsString]) -> anyhow::Result<ExitCode> {
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWUTS | CloneFlags::CLONE_NEWPID)
        .context("cannot make the namespaces of a node")?;
    let mut init = Command::new("/proc/self/exe").arg(NODE_INIT).args(args).spawn()?;
    println!("{}", init.id());
    std::io::stdout().flush()?;
    init.wait()?;
    Ok(ExitCode::SUCCESS)
}

/// Process 1 of a node. The first line on stdin means that the link is there; the end of stdin means that the cluster
/// goes down, and with process 1 the kernel ends everything on the node.
fn init(args: &[OsString]) -> anyhow::Result<ExitCode> {
    let [index, name, hosts] = args else { bail!("`{NODE_INIT}` is started by squall itself") };
    let index: usize = index.to_str().and_then(|text| text.parse().ok()).context("bad index of a node")?;
    super::private_mounts()?;
    mount(Some("proc"), "/proc", Some("proc"), MsFlags::MS_NOSUID | MsFlags::MS_NODEV, None::<&str>)
        .context("cannot mount the node's /proc")?;
    mount(Some(Path::new(hosts)), "/etc/hosts", None::<&str>, MsFlags::MS_BIND, None::<&str>)
        .context("cannot mount the node's /etc/hosts")?;
    nix::unistd::sethostname(name).context("cannot set the node's host name")?;
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line)?;
    if line.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        network::loopback_up().await?;
        network::configure_node(index).await?;
        println!("{READY}");
        std::io::stdout().flush()?;
        super::end_with_stdin();
        let mut children = signal(SignalKind::child())?;
        loop {
            children.recv().await;
            super::reap(Pid::from_raw(0));
        }
    })
}

/// Runs a program in the namespaces of the node whose init is `PID`, with our stdin, stdout and stderr.
fn enter(args: &[OsString]) -> anyhow::Result<ExitCode> {
    let [pid, program, arguments @ ..] = args else { bail!("`{ENTER}` is started by squall itself") };
    let pid = pid.to_str().context("bad process id of a node")?;
    let open = |kind: &str| {
        std::fs::File::open(format!("/proc/{pid}/ns/{kind}"))
            .with_context(|| format!("the node of process {pid} is gone"))
    };
    let namespaces = [
        (open("net")?, CloneFlags::CLONE_NEWNET),
        (open("uts")?, CloneFlags::CLONE_NEWUTS),
        (open("pid")?, CloneFlags::CLONE_NEWPID),
        // Last: the other files are opened below the old /proc.
        (open("mnt")?, CloneFlags::CLONE_NEWNS),
    ];
    for (file, kind) in &namespaces {
        setns(file, *kind).with_context(|| format!("cannot enter the node of process {pid}"))?;
    }
    let status = Command::new(program)
        .args(arguments)
        .status()
        .with_context(|| format!("cannot start {}", program.to_string_lossy()))?;
    Ok(ExitCode::from(status.code().unwrap_or(1) as u8))
}
