//! Gives a program that has not run yet a clock of its own.
//!
//! At the stop after execve(2) the new image is complete and not an instruction of it has run. A few system calls are run
//! in it (from two bytes at its entry point, which are put back) to map the stand-in for the vDSO and the shared page; then
//! AT_SYSINFO_EHDR, by which a dynamic loader, a static libc and Go's runtime alike find the vDSO, is pointed at it.

use super::ptrace::{self, Event};
use super::stub::PAGE_LEN;
use super::vdso;
use nix::libc::{self, user_regs_struct};
use nix::sys::ptrace::{getregs, read, setregs, write};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::ffi::{CStr, c_void};
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;

/// Code segment of 64 bit programs.
const CODE_SEGMENT_64: u64 = 0x33;

/// `syscall`, then `int3`: back to the tracer. In a word of which the rest is never reached.
const CALL: libc::c_long = 0xcc_05_0f;

/// A program's stack before it runs is not longer than this (bytes): a quarter of the usual limit of 8 MiB is what the
/// kernel allows arguments and environment.
const STACK_LEN_MAX: u64 = 8 << 20;

/// Why a program keeps the true clock.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unpatched {
    /// It was killed meanwhile.
    Gone,
    /// In words.
    Because(String),
}

impl From<nix::Error> for Unpatched {
    fn from(errno: nix::Error) -> Self {
        match errno {
            nix::Error::ESRCH => Self::Gone,
            other => Self::Because(format!("ptrace: {other}")),
        }
    }
}

impl From<std::io::Error> for Unpatched {
    fn from(error: std::io::Error) -> Self {
        Self::Because(format!("its memory cannot be used: {error}"))
    }
}

fn because<T>(why: impl Into<String>) -> Result<T, Unpatched> {
    Err(Unpatched::Because(why.into()))
}

/// Patches the program that `pid` has just become; `page` is the path of the shared page.
///
/// # Errors
/// When it keeps the true clock, and may go on like that.
pub(super) fn patch(pid: Pid, page: &CStr) -> Result<(), Unpatched> {
    let registers = getregs(pid)?;
    if registers.cs != CODE_SEGMENT_64 {
        return because("a 32 bit program");
    }
    let memory = File::options().read(true).write(true).open(format!("/proc/{pid}/mem"))?;
    let Some((entry, address)) = auxiliary(&memory, registers.rsp, libc::AT_SYSINFO_EHDR)? else {
        return because("the kernel gave it no vDSO");
    };
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps"))?;
    let Some(vdso) = mapping(&maps, "[vdso]").filter(|range| range.start == address) else {
        return because("its vDSO is not mapped as a whole");
    };
    let mut image = vec![0; (vdso.end - vdso.start) as usize];
    memory.read_exact_at(&mut image, vdso.start)?;
    let stand_in = vdso::stand_in(&image, vdso.start).map_err(Unpatched::Because)?;
    let place = Call::begin(pid, registers)?.run(|call| map(call, &memory, &stand_in, page))?;
    memory.write_all_at(&place.to_ne_bytes(), entry)?;
    Ok(())
}

/// Maps stand-in and page, and returns where.
fn map(call: &mut Call, memory: &File, stand_in: &[u8], page: &CStr) -> Result<u64, Unpatched> {
    let len = (stand_in.len() + PAGE_LEN) as u64;
    let [read, write, execute] = [libc::PROT_READ, libc::PROT_WRITE, libc::PROT_EXEC].map(|flag| flag as u64);
    let anonymous = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS) as u64;
    let place = call.syscall("mmap", libc::SYS_mmap, [0, len, read | write, anonymous, u64::MAX, 0])?;
    // The path needs a place for a moment.
    memory.write_all_at(page.to_bytes_with_nul(), place)?;
    let here = libc::AT_FDCWD as u64;
    let how = (libc::O_RDONLY | libc::O_CLOEXEC) as u64;
    let fd = call.syscall("open the shared page", libc::SYS_openat, [here, place, how, 0, 0, 0])?;
    let shared = (libc::MAP_SHARED | libc::MAP_FIXED) as u64;
    let at = place + stand_in.len() as u64;
    let mapped = call.syscall("map the shared page", libc::SYS_mmap, [at, PAGE_LEN as u64, read, shared, fd, 0]);
    call.syscall("close", libc::SYS_close, [fd, 0, 0, 0, 0, 0])?;
    mapped?;
    memory.write_all_at(stand_in, place)?;
    call.syscall("mprotect", libc::SYS_mprotect, [place, stand_in.len() as u64, read | execute, 0, 0, 0])?;
    Ok(place)
}

/// Runs system calls in a stopped program, and leaves no trace of that.
struct Call {
    pid: Pid,
    registers: user_regs_struct,
    saved: libc::c_long,
    blocked: u64,
    /// SIGSTOP came meanwhile, which cannot be blocked.
    stopped: bool,
}

impl Call {
    fn begin(pid: Pid, registers: user_regs_struct) -> Result<Self, Unpatched> {
        // Not by way of /proc/PID/mem: many kernels let nobody write code through it.
        let saved = read(pid, registers.rip as *mut c_void)?;
        write(pid, registers.rip as *mut c_void, CALL)?;
        let blocked = ptrace::block_signals(pid, !(1 << (libc::SIGTRAP - 1)))?;
        Ok(Self { pid, registers, saved, blocked, stopped: false })
    }

    /// It is still inside of execve(2), whose result is yet to go into rax: straight to the `int3`.
    fn leave_execve(&mut self) -> Result<(), Unpatched> {
        let rip = self.registers.rip;
        setregs(self.pid, user_regs_struct { rip: rip + 2, ..self.registers })?;
        self.until_trap("execve")?;
        self.registers = user_regs_struct { rip, ..getregs(self.pid)? };
        Ok(())
    }

    /// Does `work`, then puts everything back.
    fn run<T>(mut self, work: impl FnOnce(&mut Self) -> Result<T, Unpatched>) -> Result<T, Unpatched> {
        let result = self.leave_execve().and_then(|()| work(&mut self));
        if matches!(result, Err(Unpatched::Gone)) {
            return result;
        }
        write(self.pid, self.registers.rip as *mut c_void, self.saved)?;
        setregs(self.pid, self.registers)?;
        ptrace::block_signals(self.pid, self.blocked)?;
        if self.stopped {
            kill(self.pid, Signal::SIGSTOP)?;
        }
        result
    }

    fn syscall(&mut self, what: &str, number: libc::c_long, arguments: [u64; 6]) -> Result<u64, Unpatched> {
        let [rdi, rsi, rdx, r10, r8, r9] = arguments;
        let rax = number as u64;
        // Not a system call that the kernel would want to restart.
        let orig_rax = u64::MAX;
        setregs(self.pid, user_regs_struct { rax, orig_rax, rdi, rsi, rdx, r10, r8, r9, ..self.registers })?;
        self.until_trap(what)?;
        let result = getregs(self.pid)?.rax;
        match -(result as i64) {
            errno @ 1..4096 => because(format!("{what}: {}", nix::errno::Errno::from_raw(errno as i32))),
            _ => Ok(result),
        }
    }

    /// Runs it up to the `int3`.
    fn until_trap(&mut self, what: &str) -> Result<(), Unpatched> {
        loop {
            ptrace::go_on(self.pid, 0)?;
            match ptrace::wait(Some(self.pid))?.1 {
                Event::Signal(libc::SIGTRAP) => return Ok(()),
                Event::Ended => return Err(Unpatched::Gone),
                Event::Signal(libc::SIGSTOP) | Event::GroupStop => self.stopped = true,
                Event::Signal(signal) => return because(format!("{what}: signal {signal}")),
                Event::Executed | Event::Other => {}
            }
        }
    }
}

/// Where the auxiliary vector above `stack` holds the value of `key`, and that value (`getauxval(3)`). The stack begins
/// with a count, that many arguments and 0, the environment and 0, then pairs of key and value, the last with key 0.
fn auxiliary(memory: &File, stack: u64, key: u64) -> Result<Option<(u64, u64)>, Unpatched> {
    let mut at = stack;
    let mut words = Words { memory, buffer: Vec::new(), begin: stack };
    let count = words.get(at)?;
    if count > STACK_LEN_MAX / 8 {
        return because("its stack is not what we know");
    }
    at += 8 * (count + 2);
    while words.get(at)? != 0 {
        at += 8;
        if at - stack > STACK_LEN_MAX {
            return because("its stack is not what we know");
        }
    }
    loop {
        at += 8;
        match words.get(at)? {
            0 => return Ok(None),
            found if found == key => return Ok(Some((at + 8, words.get(at + 8)?))),
            _ => at += 8,
        }
    }
}

/// Words of a program's memory, read by the page.
struct Words<'a> {
    memory: &'a File,
    buffer: Vec<u8>,
    begin: u64,
}

impl Words<'_> {
    fn get(&mut self, at: u64) -> std::io::Result<u64> {
        let cached = |buffer: &[u8], begin: u64| {
            let from = at.checked_sub(begin)? as usize;
            Some(u64::from_ne_bytes(buffer.get(from..from + 8)?.try_into().ok()?))
        };
        if let Some(word) = cached(&self.buffer, self.begin) {
            return Ok(word);
        }
        self.buffer.resize(PAGE_LEN, 0);
        let len = self.memory.read_at(&mut self.buffer, at)?;
        self.buffer.truncate(len);
        self.begin = at;
        cached(&self.buffer, at).ok_or_else(|| std::io::ErrorKind::UnexpectedEof.into())
    }
}

/// The addresses of the mapping called `name`, in the words of `/proc/PID/maps`.
pub(super) fn mapping(maps: &str, name: &str) -> Option<Range<u64>> {
    let line = maps.lines().find(|line| line.ends_with(name))?;
    let (start, end) = line.split_once(' ')?.0.split_once('-')?;
    Some(u64::from_str_radix(start, 16).ok()?..u64::from_str_radix(end, 16).ok()?)
}
