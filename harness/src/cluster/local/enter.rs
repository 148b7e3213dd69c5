//! Leaves the host: launcher -> init -> controller.
//!
//! The *launcher* is what the user started. It takes new user (when not root), mount, network, pid, uts and ipc
//! namespaces and starts *init* in them as process 1, which prepares them and runs the real *controller* (the same
//! program with the same arguments) there. Whichever of the three dies, in whatever way, the kernel ends everything in
//! the pid namespace, and with the last process go links, rules and mounts: init notices the launcher's end by the end
//! of its stdin, and ends with the controller.

use super::network;
use crate::signals::Signals;
use anyhow::{Context, bail};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getegid, geteuid};
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Mutex;
use tokio::signal::unix::{SignalKind, signal};

/// Set for the controller: it is inside.
const INSIDE: &str = "SQUALL_INSIDE";

/// Hidden subcommand that makes this program init.
pub(super) const INIT: &str = "local-init";

/// Held by who ends this namespace because the launcher is gone.
static ENDING: Mutex<()> = Mutex::new(());

/// The exit code of a harness failure.
const EXIT_FAILURE: u8 = 70;

/// Where we are after [`enter`].
#[derive(Debug)]
pub enum Entered {
    /// In the router namespace: go on and bring up the cluster.
    Inside,
    /// Outside: the whole run happened in a child; leave with its exit code.
    Done(ExitCode),
}

/// Whether this process already runs in the namespaces made by [`enter`].
pub fn is_inside() -> bool {
    std::env::var_os(INSIDE).is_some()
}

/// Runs the rest of this program in namespaces of its own. To be called before any thread exists: the kernel lets only
/// single-threaded processes change their user namespace.
///
/// # Errors
/// When the kernel or its configuration forbids namespaces: the sentence says what to change.
pub fn enter() -> anyhow::Result<Entered> {
    if is_inside() {
        return Ok(Entered::Inside);
    }
    // What a cluster left whose launcher and init were killed, too: control groups are nothing that ends with a namespace.
    squall_agent::sweep_control_groups();
    take_namespaces()?;
    let mut init = Command::new("/proc/self/exe");
    init.arg(INIT).args(std::env::args_os().skip(1)).stdin(Stdio::piped());
    // A group of its own: a terminal's Ctrl-C reaches the launcher only, which passes it on exactly once.
    init.process_group(0);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let done = runtime.block_on(launch(init)).map(Entered::Done);
    squall_agent::sweep_control_groups();
    done
}

/// Unshares, as root or by way of a user namespace.
fn take_namespaces() -> anyhow::Result<()> {
    // No mount namespace: init takes one, so that our /proc goes on to show this machine, for the sweep at the end.
    let namespaces =
        CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWPID | CloneFlags::CLONE_NEWUTS | CloneFlags::CLONE_NEWIPC;
    let (uid, gid) = (geteuid(), getegid());
    if uid.is_root() && unshare(namespaces).is_ok() {
        return Ok(());
    }
    unshare(CloneFlags::CLONE_NEWUSER | namespaces).map_err(|errno| anyhow::anyhow!("{}", advice(errno)))?;
    let write = |file: &str, text: String| {
        std::fs::write(file, text).with_context(|| format!("cannot map this user into a user namespace: {file}"))
    };
    write("/proc/self/setgroups", "deny".to_owned())?;
    write("/proc/self/uid_map", format!("0 {uid} 1"))?;
    write("/proc/self/gid_map", format!("0 {gid} 1"))
}

/// What keeps this machine from making namespaces, and what to do about it.
fn advice(errno: nix::errno::Errno) -> String {
    let is = |file: &str, value: &str| std::fs::read_to_string(file).is_ok_and(|text| text.trim() == value);
    let why = if is("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1") {
        "AppArmor forbids user namespaces to ordinary users: run `sudo sysctl -w \
         kernel.apparmor_restrict_unprivileged_userns=0`, or run squall as root"
    } else if is("/proc/sys/kernel/unprivileged_userns_clone", "0") {
        "they are switched off for ordinary users: run `sudo sysctl -w kernel.unprivileged_userns_clone=1`, or run \
         squall as root"
    } else if is("/proc/sys/user/max_user_namespaces", "0") {
        "none are allowed: run `sudo sysctl -w user.max_user_namespaces=10000`, or run squall as root"
    } else {
        "run squall as root; in a container, start it with `--privileged` or `--cap-add SYS_ADMIN --cap-add NET_ADMIN`"
    };
    format!("the local cluster needs Linux namespaces and the kernel said {errno}: {why}")
}

/// The launcher's life: passes signals on and waits for init.
async fn launch(init: Command) -> anyhow::Result<ExitCode> {
    let mut signals = Signals::listen()?;
    let mut init = tokio::process::Command::from(init).spawn().context("cannot start the local cluster's init")?;
    // Held open: its end tells init that we are gone.
    let _alive = init.stdin.take();
    let pid = init.id().context("init ended at once")?;
    loop {
        tokio::select! {
            status = init.wait() => return Ok(match status?.code() {
                Some(code) => ExitCode::from(code as u8),
                None => {
                    eprintln!("error: the local cluster's init was killed; the cluster is gone");
                    ExitCode::from(EXIT_FAILURE)
                }
            }),
            caught = signals.next() => pass_on(Pid::from_raw(pid as i32), caught),
        }
    }
}

/// Passes a signal on. A process that has just ended is noticed elsewhere.
fn pass_on(to: Pid, signal: SignalKind) {
    if let Ok(signal) = Signal::try_from(signal.as_raw_value()) {
        let _ = kill(to, signal);
    }
}

/// The life of init: prepares the namespaces, runs the controller with `argv`, collects orphans, ends with it.
pub(super) fn init(argv: &[OsString]) -> anyhow::Result<ExitCode> {
    if std::process::id() != 1 {
        bail!("`{INIT}` is started by squall itself");
    }
    // Before there is a thread, which would stay in the old one.
    unshare(CloneFlags::CLONE_NEWNS).context("cannot make a mount namespace")?;
    super::end_with_stdin(|| {
        // Never given back: whoever notices that the controller was killed waits for the end here.
        let _ending = ENDING.lock();
        squall_agent::end_pid_namespace();
        std::process::exit(EXIT_FAILURE.into());
    });
    super::private_mounts()?;
    mount(Some("proc"), "/proc", Some("proc"), MsFlags::MS_NOSUID | MsFlags::MS_NODEV, None::<&str>).context(
        "cannot mount /proc in the new namespaces (in a container: start it with `--security-opt systempaths=unconfined`)",
    )?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        network::loopback_up().await?;
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").context("cannot switch on IP forwarding in the router")?;
        for scope in ["all", "default"] {
            // Off or not there is both fine: it would drop what comes back by another way than it went.
            let _ = std::fs::write(format!("/proc/sys/net/ipv4/conf/{scope}/rp_filter"), "0");
        }
        let mut signals = Signals::listen()?;
        let mut children = signal(SignalKind::child())?;
        let controller = Command::new("/proc/self/exe")
            .args(argv)
            .env(INSIDE, "1")
            .stdin(Stdio::null())
            .spawn()
            .context("cannot start the controller")?;
        let controller = Pid::from_raw(controller.id() as i32);
        loop {
            if let Some(code) = super::reap(controller) {
                let _not_ending = ENDING.lock();
                if code == 128 + Signal::SIGKILL as u8 {
                    eprintln!(
                        "error: the controller was killed; the local cluster is gone, the history is in the store"
                    );
                    return Ok(ExitCode::from(EXIT_FAILURE));
                }
                return Ok(ExitCode::from(code));
            }
            tokio::select! {
                _ = children.recv() => {}
                caught = signals.next() => pass_on(controller, caught),
            }
        }
    })
}
