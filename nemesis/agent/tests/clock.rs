//! Clock faults on real programs, seen from outside of our own code: what `date` and others print.

#[expect(dead_code, reason = "shared with other tests")]
mod common;

use common::{Agent, LONG_LEASE_MS, is_gone, stat, wait_for};
use squall_agent::faults::Fault;
use squall_agent::faults::clock::{Clock, ClockShift, OwnClock};
use squall_agent::faults::kill::Kill;
use squall_agent::faults::pause::Pause;
use squall_agent::protocol::{ProcessState, ProcessStatus, Request, StartProcess};
use std::collections::BTreeMap;
use std::ops::Deref;
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// An hour and two seconds and a half.
const HOUR_MS: i64 = 3_602_500;
const HOUR: f64 = 3602.5;

/// How long a program may take from its look at the clock to ours (seconds), on a machine with other things to do.
const SLACK: f64 = 1.5;

fn own_clock() -> Fault {
    Fault::OwnClock(OwnClock { process: "prog".to_owned() })
}

fn shifted(shift: ClockShift) -> Fault {
    Fault::Clock(Clock { process: "prog".to_owned(), shift, monotonic: false })
}

fn bump(offset_ms: i64) -> Fault {
    shifted(ClockShift::Bump { offset_ms })
}

/// A program with a clock of its own, and the folder of its agent.
struct Program {
    root: tempfile::TempDir,
}

/// With its agent.
struct Rig {
    program: Program,
    agent: Agent,
}

impl Deref for Rig {
    type Target = Program;

    fn deref(&self) -> &Program {
        &self.program
    }
}

impl Rig {
    /// Says why, where clocks cannot be shifted.
    fn new(lease_ms: u64) -> Option<Self> {
        let root = tempfile::tempdir().unwrap();
        let mut agent = Agent::start(root.path(), lease_ms);
        match agent.ask(Request::Inject { id: "0-own".to_owned(), fault: own_clock(), lease_ms: 0 }) {
            Ok(_) => Some(Self { program: Program { root }, agent }),
            Err(error) if cfg!(not(target_arch = "x86_64")) => {
                eprintln!("SKIPPED: {error}");
                None
            }
            Err(error) => panic!("{error}"),
        }
    }

    fn start(&mut self, argv: &[&str]) -> ProcessStatus {
        let argv: Vec<String> = argv.iter().map(|&word| word.to_owned()).collect();
        let log = "prog.log".to_owned();
        let start = StartProcess { name: "prog".to_owned(), argv, env: BTreeMap::new(), cwd: String::new(), log };
        self.agent.process(Request::Start(start))
    }

    fn script(&mut self, script: &str) -> ProcessStatus {
        self.start(&["sh", "-c", script])
    }

    fn state(&mut self) -> ProcessState {
        self.agent.process(Request::Status { name: "prog".to_owned() }).state
    }
}

impl Program {
    /// What it has printed.
    fn log(&self) -> String {
        std::fs::read_to_string(self.root.path().join("prog.log")).unwrap_or_default()
    }

    /// Waits for one more line from the program, begun and ended after this call.
    fn next_line(&self) -> String {
        let lines = self.log().lines().count();
        wait_for("two more lines of the program", || {
            let log = self.log();
            log.ends_with('\n') && log.lines().count() >= lines + 2
        });
        self.log().lines().last().unwrap().to_owned()
    }

    /// How far the clock is off by which the program prints the seconds since 1970.
    fn off(&self) -> f64 {
        self.next_line().parse::<f64>().unwrap() - now()
    }

    fn assert_off(&self, seconds: f64) {
        let off = self.off();
        assert!((off - seconds).abs() < SLACK, "off by {off} s, not {seconds} s; log:\n{}", self.log());
    }

    fn ledger_is_empty(&self) -> bool {
        let entries = std::fs::read_dir(self.root.path().join("agent/ledger")).unwrap();
        entries.flatten().all(|entry| entry.file_name() == "0-own.json")
    }

    /// The tracer of the running program.
    fn tracer(&self, pid: u32) -> u32 {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("TracerPid:")).unwrap();
        line.trim().parse().unwrap()
    }
}

/// Our own clock, which nobody shifts.
fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64()
}

fn have(program: &str) -> bool {
    let have = Command::new("sh").args(["-c", &format!("command -v {program} >/dev/null")]).status().unwrap().success();
    if !have {
        eprintln!("SKIPPED the part about {program}: it is not installed");
    }
    have
}

const PRINT_DATE: &str = "while :; do date +%s.%N; sleep 0.02; done";

/// Prints CLOCK_REALTIME and CLOCK_MONOTONIC, from a process that goes on.
const PRINT_BOTH: &str = "use Time::HiRes qw(clock_gettime sleep CLOCK_REALTIME CLOCK_MONOTONIC); $| = 1; \
     while (1) { printf \"%.6f %.6f\\n\", clock_gettime(CLOCK_REALTIME), clock_gettime(CLOCK_MONOTONIC); sleep 0.02 }";

/// Prints CLOCK_REALTIME alone, from a process that goes on.
const PRINT_WALL: &str = "use Time::HiRes qw(clock_gettime sleep CLOCK_REALTIME); $| = 1; \
     while (1) { printf \"%.6f\\n\", clock_gettime(CLOCK_REALTIME); sleep 0.02 }";

#[test]
fn dynamic_programs_and_children_of_scripts_see_the_shift_and_the_truth_after_it() {
    let Some(mut rig) = Rig::new(LONG_LEASE_MS) else { return };
    rig.script(PRINT_DATE);
    rig.assert_off(0.0);
    for (n, (offset_ms, off)) in [(HOUR_MS, HOUR), (-HOUR_MS, -HOUR), (90_000, 90.0)].into_iter().enumerate() {
        let id = format!("{n}-bump");
        let seen = rig.agent.inject(&id, bump(offset_ms));
        assert!(seen.verified && seen.seen == format!("{off:+.3} s off"), "{seen:?}");
        rig.assert_off(off);
        assert!(rig.agent.fault(Request::Measure { id: id.clone() }).verified);
        let healed = rig.agent.fault(Request::Heal { id });
        assert!(healed.verified, "{healed:?}");
        rig.assert_off(0.0);
    }
    rig.agent.shutdown();
}

#[test]
fn a_chain_of_execs_keeps_the_shift() {
    let Some(mut rig) = Rig::new(LONG_LEASE_MS) else { return };
    assert!(rig.agent.inject("1-bump", bump(HOUR_MS)).verified);
    // Replaced twice, then a child's child's child.
    rig.script("sleep 0.3; exec env sh -c 'while :; do (sh -c \"sh -c \\\"exec date +%s.%N\\\"; true\"; true); done'");
    rig.assert_off(HOUR);
    rig.agent.shutdown();
}

#[test]
fn static_programs_see_it() {
    if !have("busybox") {
        return;
    }
    let Some(mut rig) = Rig::new(LONG_LEASE_MS) else { return };
    rig.start(&["busybox", "sh", "-c", "while :; do busybox date +%s; busybox usleep 20000; done"]);
    rig.assert_off(0.0);
    assert!(rig.agent.inject("1-bump", bump(-HOUR_MS)).verified);
    rig.assert_off(-HOUR);
    rig.agent.fault(Request::Heal { id: "1-bump".to_owned() });
    rig.assert_off(0.0);
    rig.agent.shutdown();
}

#[test]
fn go_programs_see_it() {
    if !have("etcd") {
        return;
    }
    let Some(mut rig) = Rig::new(LONG_LEASE_MS) else { return };
    std::fs::write(rig.root.path().join("file"), "no folder").unwrap();
    // Its complaint about its data folder has a time stamp: {"level":"fatal","ts":"2026-11-25T02:00:56.795Z",…
    rig.script("while :; do etcd --logger=zap --data-dir file 2>&1 | grep -o '\"ts\":\"[^\"]*'; sleep 0.02; done");
    let off = |rig: &Rig| {
        let line = rig.next_line();
        let stamp = line.strip_prefix("\"ts\":\"").unwrap();
        let seconds = Command::new("date").args(["+%s.%N", "--date", stamp]).output().unwrap();
        String::from_utf8_lossy(&seconds.stdout).trim().parse::<f64>().unwrap() - now()
    };
    assert!(off(&rig).abs() < SLACK);
    assert!(rig.agent.inject("1-bump", bump(HOUR_MS)).verified);
    let seen = off(&rig);
    assert!((seen - HOUR).abs() < SLACK, "{seen}");
    rig.agent.fault(Request::Heal { id: "1-bump".to_owned() });
    assert!(off(&rig).abs() < SLACK);
    rig.agent.shutdown();
}

#[test]
fn the_monotonic_clock_stays_true_unless_it_is_asked_for() {
    let Some(mut rig) = Rig::new(LONG_LEASE_MS) else { return };
    rig.start(&["perl", "-e", PRINT_BOTH]);
    let read = |rig: &Rig| {
        let line = rig.next_line();
        let (wall, monotonic) = line.split_once(' ').unwrap();
        let own = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC).unwrap();
        let own = own.tv_sec() as f64 + own.tv_nsec() as f64 / 1e9;
        (wall.parse::<f64>().unwrap() - now(), monotonic.parse::<f64>().unwrap() - own)
    };
    for (id, monotonic, offset_ms, expected) in
        [("1-no", false, HOUR_MS, 0.0), ("2-yes", true, HOUR_MS, HOUR), ("3-no", false, -HOUR_MS, 0.0)]
    {
        let shift = ClockShift::Bump { offset_ms };
        let fault = Fault::Clock(Clock { process: "prog".to_owned(), shift, monotonic });
        assert!(rig.agent.inject(id, fault).verified);
        let (wall, steady) = read(&rig);
        assert!((wall - offset_ms as f64 / 1e3).abs() < SLACK, "{wall}");
        assert!((steady - expected).abs() < SLACK, "{steady}");
        rig.agent.fault(Request::Heal { id: id.to_owned() });
    }
    rig.agent.shutdown();
}

#[test]
fn clocks_drift_strobe_and_stand_still() {
    let Some(mut rig) = Rig::new(LONG_LEASE_MS) else { return };
    rig.start(&["perl", "-e", PRINT_BOTH]);
    let read = |rig: &Rig| {
        let line = rig.next_line();
        let (wall, monotonic) = line.split_once(' ').unwrap();
        (wall.parse::<f64>().unwrap(), monotonic.parse::<f64>().unwrap())
    };
    // Seconds on the wall for each true second, between two lines of the program itself.
    let slope = |rig: &Rig| {
        let (wall, monotonic) = read(rig);
        std::thread::sleep(Duration::from_millis(200));
        let (wall_later, monotonic_later) = read(rig);
        (wall_later - wall) / (monotonic_later - monotonic)
    };
    let heal = |rig: &mut Rig, id: &str| {
        assert!(rig.agent.fault(Request::Heal { id: id.to_owned() }).verified);
        rig.next_line();
        assert!((slope(rig) - 1.0).abs() < 0.01);
    };
    // Half a second a second, both ways, and a second that lasts for ever.
    for (n, (shift, expected)) in [
        (ClockShift::Drift { ppm: 500_000 }, 1.5),
        (ClockShift::Drift { ppm: -500_000 }, 0.5),
        (ClockShift::Drift { ppm: 1000 }, 1.001),
        (ClockShift::Freeze, 0.0),
    ]
    .into_iter()
    .enumerate()
    {
        let id = format!("{n}-slope");
        let seen = rig.agent.inject(&id, shifted(shift));
        assert!(seen.verified, "{seen:?}");
        rig.next_line();
        let slope = slope(&rig);
        // The program reads one clock after the other: an interruption in between shows as a slope.
        assert!((slope - expected).abs() < 0.1, "{shift:?}: {slope}");
        heal(&mut rig, &id);
    }
    let strobe = ClockShift::Strobe { offset_ms: 60_000, period_ms: 50 };
    let seen = rig.agent.inject("9-strobe", shifted(strobe));
    assert!(seen.verified && seen.seen == "between -60.000 s and +60.000 s off", "{seen:?}");
    let begun = rig.log().lines().count();
    wait_for("both sides of the strobe", || {
        let log = rig.log();
        let offs = log.lines().skip(begun + 1).filter_map(|line| line.split_once(' ')?.0.parse::<f64>().ok());
        let offs: Vec<f64> = offs.map(|wall| wall - now()).collect();
        offs.iter().any(|off| *off > 50.0) && offs.iter().any(|off| *off < -50.0)
    });
    heal(&mut rig, "9-strobe");
    rig.agent.shutdown();
}

/// The code in the program and what the agent expects of it are two descriptions of one function.
#[test]
fn many_shifts_are_measured_as_they_were_asked_for() {
    let Some(mut rig) = Rig::new(LONG_LEASE_MS) else { return };
    let offsets = [1, -1, 7, 999, -1000, 86_400_000, -86_400_000, 10 * 365 * 86_400_000];
    let mut shifts: Vec<ClockShift> = offsets.map(|offset_ms| ClockShift::Bump { offset_ms }).to_vec();
    shifts.extend([1, -1, 100, 999_999, -999_999, -1_000_000, 50_000_000].map(|ppm| ClockShift::Drift { ppm }));
    let strobe = |(offset_ms, period_ms)| ClockShift::Strobe { offset_ms, period_ms };
    shifts.extend([(5, 10), (-200, 33), (3_600_000, 100)].map(strobe));
    for (n, shift) in shifts.into_iter().enumerate() {
        let id = format!("{n}-shift");
        let fault = Fault::Clock(Clock { process: "prog".to_owned(), shift, monotonic: n % 2 == 0 });
        let seen = rig.agent.inject(&id, fault);
        assert!(seen.verified, "{shift:?}: {seen:?}");
        assert!(rig.agent.fault(Request::Heal { id }).verified);
    }
    rig.agent.shutdown();
}

#[test]
fn shifts_add_up_and_go_one_by_one() {
    let Some(mut rig) = Rig::new(LONG_LEASE_MS) else { return };
    rig.script(PRINT_DATE);
    assert!(rig.agent.inject("1-bump", bump(HOUR_MS)).verified);
    assert!(rig.agent.inject("2-bump", bump(60_000)).verified);
    assert!(rig.agent.inject("3-drift", shifted(ClockShift::Drift { ppm: 1000 })).verified);
    rig.assert_off(HOUR + 60.0);
    for (id, left) in [("1-bump", 60.0), ("3-drift", 60.0), ("2-bump", 0.0)] {
        assert!(rig.agent.fault(Request::Heal { id: id.to_owned() }).verified);
        rig.assert_off(left);
    }
    rig.agent.shutdown();
}

#[test]
fn pauses_kills_and_signals_work_on_a_traced_program() {
    let Some(mut rig) = Rig::new(LONG_LEASE_MS) else { return };
    let script = "trap 'echo signal >&2; echo signal' USR1; while :; do date +%s.%N; sleep 0.02; done";
    let pid = rig.script(script).pid.unwrap();
    assert_ne!(rig.tracer(pid), 0);
    assert!(rig.agent.inject("1-bump", bump(HOUR_MS)).verified);
    for _ in 0..20 {
        let pause = Fault::Pause(Pause { process: "prog".to_owned() });
        assert!(rig.agent.inject("2-pause", pause).verified);
        let before = rig.log();
        std::thread::sleep(Duration::from_millis(30));
        assert_eq!(rig.log(), before, "it goes on while it is paused");
        assert_eq!(rig.state(), ProcessState::Stopped);
        assert!(rig.agent.fault(Request::Heal { id: "2-pause".to_owned() }).verified);
        rig.assert_off(HOUR);
    }
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid as i32), nix::sys::signal::Signal::SIGUSR1).unwrap();
    wait_for("its trap", || rig.log().contains("signal"));
    let tracer = rig.tracer(pid);
    assert!(rig.agent.inject("3-kill", Fault::Kill(Kill { process: "prog".to_owned() })).verified);
    assert!(is_gone(pid));
    wait_for("the end of its tracer", || is_gone(tracer));
    // The clock of the node is still off when it starts again.
    rig.agent.fault(Request::Heal { id: "3-kill".to_owned() });
    rig.script(PRINT_DATE);
    rig.assert_off(HOUR);
    rig.agent.shutdown();
}

#[test]
fn a_program_outlives_its_tracer_and_its_shift_can_still_be_undone() {
    let Some(mut rig) = Rig::new(LONG_LEASE_MS) else { return };
    let pid = rig.start(&["perl", "-e", PRINT_WALL]);
    let pid = pid.pid.unwrap();
    assert!(rig.agent.inject("1-bump", bump(HOUR_MS)).verified);
    rig.assert_off(HOUR);
    assert!(rig.agent.inject("2-pause", Fault::Pause(Pause { process: "prog".to_owned() })).verified);
    kill_9(rig.tracer(pid));
    // Let go of, but still paused.
    wait_for("the real stopped state", || stat(pid).unwrap().0 == 'T');
    assert_eq!(rig.tracer(pid), 0);
    assert!(rig.agent.fault(Request::Heal { id: "2-pause".to_owned() }).verified);
    rig.assert_off(HOUR);
    assert!(rig.agent.fault(Request::Heal { id: "1-bump".to_owned() }).verified);
    rig.assert_off(0.0);
    rig.agent.shutdown();
}

#[test]
fn when_agent_and_tracer_are_killed_the_watchdog_undoes_it() {
    for round in 0..3 {
        let Some(mut rig) = Rig::new(60_000) else { return };
        let pid = rig.start(&["perl", "-e", PRINT_WALL]);
        let pid = pid.pid.unwrap();
        let seen = rig.agent.fault(Request::Inject { id: "1-bump".to_owned(), fault: bump(HOUR_MS), lease_ms: 1500 });
        assert!(seen.verified, "{seen:?}");
        rig.assert_off(HOUR);
        let Rig { program, mut agent } = rig;
        agent.kill_9();
        if round > 0 {
            kill_9(program.tracer(pid));
        }
        wait_for("the ledger to empty", || program.ledger_is_empty());
        program.assert_off(0.0);
        Agent::start(program.root.path(), 60_000).shutdown();
        wait_for("the end of the program", || is_gone(pid));
    }
}

#[test]
fn refuses_what_it_cannot_do() {
    let root = tempfile::tempdir().unwrap();
    let mut agent = Agent::start(root.path(), LONG_LEASE_MS);
    let ask = |agent: &mut Agent, id: &str, fault: Fault| {
        agent.ask(Request::Inject { id: id.to_owned(), fault, lease_ms: 1000 }).unwrap_err().message
    };
    let refused = ask(&mut agent, "1-bump", bump(1000));
    assert!(refused.contains("no clock of its own"), "{refused}");
    agent.shutdown();
    let Some(mut rig) = Rig::new(LONG_LEASE_MS) else { return };
    assert!(rig.agent.inject("1-bump", bump(1000)).verified);
    for n in 2..=6 {
        assert!(rig.agent.inject(&format!("{n}-bump"), bump(1000)).verified);
    }
    let refused = ask(&mut rig.agent, "7-bump", bump(1000));
    assert!(refused.contains("6 faults shift this clock already"), "{refused}");
    rig.agent.shutdown();
    assert!(rig.ledger_is_empty());
}

fn kill_9(pid: u32) {
    assert_ne!(pid, 0);
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid as i32), nix::sys::signal::Signal::SIGKILL).unwrap();
    wait_for("the end of the tracer", || is_gone(pid));
}
