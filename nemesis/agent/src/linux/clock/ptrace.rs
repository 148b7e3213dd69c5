//! The few calls of ptrace(2) and wait(2) that `nix` has no safe word for.

#![expect(unsafe_code, reason = "ptrace(2), waitpid(2) and prctl(2) by hand: real-time signals and group-stops")]

use nix::errno::Errno;
use nix::libc;
use nix::unistd::Pid;

/// What became of a traced thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// It ended, or was killed.
    Ended,
    /// It became another program and has not run an instruction of it.
    Executed,
    /// A signal is about to be delivered to it.
    Signal(i32),
    /// It is stopped with its whole process, until SIGCONT.
    GroupStop,
    /// Any other stop: it made a child or a thread, is one, or goes on after SIGCONT.
    Other,
}

/// Waits for the next event of `thread`, or of any traced one. `nix::sys::wait` cannot be used: it knows no real-time
/// signals, and takes an event that it does not know off the queue.
///
/// # Errors
/// ECHILD when there is nothing left to wait for.
pub(super) fn wait(thread: Option<Pid>) -> Result<(Pid, Event), Errno> {
    let mut status = 0;
    let pid = loop {
        // SAFETY: `status` is a valid place for an int.
        let pid = unsafe { libc::waitpid(thread.map_or(-1, Pid::as_raw), &raw mut status, libc::__WALL) };
        match Errno::result(pid) {
            Err(Errno::EINTR) => {}
            other => break other?,
        }
    };
    let event = if !libc::WIFSTOPPED(status) {
        Event::Ended
    } else {
        match (status >> 16, libc::WSTOPSIG(status)) {
            (0, signal) => Event::Signal(signal),
            (libc::PTRACE_EVENT_EXEC, _) => Event::Executed,
            // The signals that stop; a stop of any other reason says SIGTRAP.
            (libc::PTRACE_EVENT_STOP, libc::SIGSTOP | libc::SIGTSTP | libc::SIGTTIN | libc::SIGTTOU) => {
                Event::GroupStop
            }
            _ => Event::Other,
        }
    };
    Ok((Pid::from_raw(pid), event))
}

/// Lets a stopped thread go on; `signal` is delivered to it, unless 0.
///
/// # Errors
/// ESRCH when it was killed meanwhile.
pub(super) fn go_on(thread: Pid, signal: i32) -> Result<(), Errno> {
    request(libc::PTRACE_CONT, thread, 0, signal as usize)
}

/// Leaves a thread in its group-stop, but where SIGCONT reaches it.
///
/// # Errors
/// ESRCH when it was killed meanwhile.
pub(super) fn listen(thread: Pid) -> Result<(), Errno> {
    request(libc::PTRACE_LISTEN, thread, 0, 0)
}

/// Sets the signals that a stopped thread blocks, and returns those that it blocked before.
///
/// # Errors
/// ESRCH when it was killed meanwhile.
pub(super) fn block_signals(thread: Pid, mask: u64) -> Result<u64, Errno> {
    let mut before = 0u64;
    let mask_len = size_of::<u64>();
    request(libc::PTRACE_GETSIGMASK as _, thread, mask_len, &raw mut before as usize)?;
    request(libc::PTRACE_SETSIGMASK as _, thread, mask_len, &raw const mask as usize)?;
    Ok(before)
}

fn request(request: libc::c_uint, thread: Pid, address: usize, data: usize) -> Result<(), Errno> {
    // SAFETY: only called above, with requests that touch no memory of ours but the `u64` behind `data` in
    // `block_signals`, which lives until the call is over.
    let result =
        unsafe { libc::ptrace(request, thread.as_raw(), address as *mut libc::c_void, data as *mut libc::c_void) };
    Errno::result(result).map(drop)
}

/// Allows any process that may signal this one to trace it, where the Yama module would only let ancestors.
pub(super) fn allow_tracer() {
    // SAFETY: takes no pointers. Without Yama it fails, and then nothing is forbidden.
    unsafe { libc::prctl(libc::PR_SET_PTRACER, libc::PR_SET_PTRACER_ANY, 0, 0, 0) };
}
