//! Clocks of their own for programs: bumped, strobing, drifting, frozen, while the machine's clock stays what it is.
//!
//! Nothing sets a clock here. Namespaces share CLOCK_REALTIME with the host and with each other, so setting one would set
//! them all; instead, what a program sees of it is shifted. A program is started by the *launcher* ([`launch`]), which
//! has itself traced and becomes the program. The *tracer* ([`tracer`]) stops each new program before its first
//! instruction ([`patch`]) and hands it a stand-in for the kernel's vDSO ([`vdso`]), whose functions add the shift that
//! stands in a shared page ([`page`], [`stub`]). The page's shift is all there is to a fault; zero is the truth.
//!
//! Covered: whatever asks the vDSO, which is what every libc and Go do, dynamic or static: clock_gettime, gettimeofday,
//! time(2). CLOCK_REALTIME, its coarse variant and CLOCK_TAI are shifted; CLOCK_MONOTONIC and its coarse variant only when
//! asked for; CLOCK_BOOTTIME, CLOCK_MONOTONIC_RAW and CPU clocks never.
//!
//! Not covered, and true: system calls made without the vDSO, absolute deadlines
//! on CLOCK_REALTIME that the kernel keeps (timerfd, timer_settime, clock_nanosleep, futex), time stamps of files, 32 bit
//! programs, programs that cannot open the page (after chroot), and programs that search `/proc/self/maps` or
//! `/proc/self/auxv` for the vDSO instead of asking getauxval(3). On other processors than x86-64 everything is refused.

mod launch;
pub(crate) mod page;
#[cfg(target_arch = "x86_64")]
mod patch;
#[cfg(target_arch = "x86_64")]
mod ptrace;
mod reading;
#[cfg(target_arch = "x86_64")]
mod stub;
#[cfg(target_arch = "x86_64")]
mod tracer;
#[cfg(target_arch = "x86_64")]
mod vdso;

pub(crate) use launch::{ClockArgs, main, through};
pub(crate) use reading::{Off, measure, unpatched};

use super::state::State;
use crate::protocol::AgentError;
use std::path::{Path, PathBuf};

/// Where the shared page of the process called `name` is.
pub(crate) fn page_path(state: &State, name: &str) -> PathBuf {
    state.path("clock").join(name)
}

/// Where the tracer of a process with the clock of `page` says which programs it could not patch.
pub(crate) fn log_path(page: &Path) -> PathBuf {
    let mut path = page.as_os_str().to_owned();
    path.push(".log");
    path.into()
}

/// Makes the shared page of the process called `name`.
///
/// # Errors
/// When this processor is none that we know, or the page cannot be written.
pub(crate) fn prepare(state: &State, name: &str) -> Result<(), AgentError> {
    if cfg!(not(target_arch = "x86_64")) {
        let what = format!("clock faults need x86-64, and this node is {}", std::env::consts::ARCH);
        return Err(AgentError::new(what));
    }
    let dir = state.path("clock");
    std::fs::create_dir_all(&dir).map_err(|e| AgentError::io("create", &dir, e))?;
    page::create(&page_path(state, name))
}
