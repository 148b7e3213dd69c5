//! The tracer: patches every program that a process becomes, and that its children become, for as long as any of them
//! lives.
//!
//! One for each process that the agent starts, outside of its session, so that no fault hits it. It must follow threads,
//! too: any thread may fork or exec. Between those events it sleeps; system calls are not traced and cost nothing more.
//! When it is killed the kernel lets everybody go, and they go on, patched as they are; what they execute then keeps the
//! true clock. Only a program that is being patched in that very moment, before its first instruction, dies with it.

use super::patch::{self, Unpatched};
use super::ptrace::{self, Event};
use anyhow::Context;
use nix::sys::ptrace::{Options, seize};
use nix::unistd::Pid;
use std::ffi::CString;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// What the tracer says when it has hold of the process.
pub(super) const TRACING: &str = "tracing";

/// Traces process `pid` and all that comes of it.
///
/// # Errors
/// When `pid` cannot be traced.
pub(crate) fn run(page: &Path, pid: u32) -> anyhow::Result<()> {
    // Out of the way of signals meant for the agent's session.
    let _ = nix::unistd::setsid();
    let page = CString::new(page.as_os_str().as_bytes())?;
    let options = Options::PTRACE_O_TRACEEXEC
        | Options::PTRACE_O_TRACEFORK
        | Options::PTRACE_O_TRACEVFORK
        | Options::PTRACE_O_TRACECLONE;
    seize(Pid::from_raw(pid as i32), options).with_context(|| format!("cannot trace process {pid}"))?;
    println!("{TRACING}");
    std::io::stdout().flush()?;
    // Until there is nothing left to wait for.
    while let Ok((thread, event)) = ptrace::wait(None) {
        // Whoever is gone by now is told of by the next event.
        let _ = match event {
            Event::Ended => Ok(()),
            Event::Executed => {
                match patch::patch(thread, &page) {
                    Ok(()) | Err(Unpatched::Gone) => {}
                    Err(Unpatched::Because(why)) => {
                        let program = std::fs::read_link(format!("/proc/{thread}/exe")).unwrap_or_default();
                        eprintln!("process {thread}, {}, keeps the true clock: {why}", program.display());
                    }
                }
                ptrace::go_on(thread, 0)
            }
            Event::Signal(signal) => ptrace::go_on(thread, signal),
            Event::GroupStop => ptrace::listen(thread),
            Event::Other => ptrace::go_on(thread, 0),
        };
    }
    Ok(())
}
