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
    match mount(Some(Path::new(hosts)), "/etc/hosts", None::<&str>, MsFlags::MS_BIND, None::<&str>) {
        // A machine of a few programs has none: then names of nodes mean nothing there, addresses do.
        Ok(()) | Err(nix::errno::Errno::ENOENT) => {}
        Err(error) => return Err(error).context("cannot mount the node's /etc/hosts"),
    }
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
        super::end_with_stdin(|| {});
        let mut children = signal(SignalKind::child())?;
        loop {
            children.recv().await;
            super::reap(Pid::from_raw(0));
        }
    })
}

/// Runs a program on a node of the cluster whose folders are below `dir` (absolute), from outside of all namespaces, as
/// whoever started the cluster.
///
/// # Errors
/// When there is no such node, or it may not be entered.
pub fn enter_node(dir: &Path, name: &str, program: &[OsString]) -> anyhow::Result<ExitCode> {
    let hosts = dir.join("hosts");
    let is_init = |pid: u32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let mut words = line.split(|&byte| byte == 0).skip(1);
        let is = |word: Option<&[u8]>, expected: &[u8]| word == Some(expected);
        is(words.next(), NODE_INIT.as_bytes())
            && words.next().is_some()
            && is(words.next(), name.as_bytes())
            && is(words.next(), hosts.as_os_str().as_encoded_bytes())
    };
    let pids = std::fs::read_dir("/proc")?.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let Some(pid) = pids.into_iter().find(|&pid| is_init(pid)) else {
        bail!("no node {name} is up with its folders in {}", dir.display());
    };
    let user = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/user"));
    if user("self")? != user(&pid.to_string()).with_context(|| format!("may not enter {name}"))? {
        let file = std::fs::File::open(format!("/proc/{pid}/ns/user"))?;
        setns(file, CloneFlags::CLONE_NEWUSER).with_context(|| format!("cannot enter the user namespace of {name}"))?;
    }
    let pid = OsString::from(pid.to_string());
    enter(&std::iter::once(pid).chain(program.iter().cloned()).collect::<Vec<_>>())
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
