//! The agent's life: requests from stdin, a thread for each, answers to stdout in any order.
//!
//! When stdin ends the agent leaves; what it started and injected stays until the lease is out.

use super::addresses::{controller_address, own_addresses};
use super::state::{State, boot_id, clock_ns};
use super::stream::{Asked, read_request, write_answer};
use super::{doctor, end, exec, fault, files, ledger, probe, process, watchdog};
use crate::protocol::{AgentError, Hello, Reply, Request, VERSION};
use nix::time::ClockId;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

type Answer = Result<(Reply, Vec<u8>), AgentError>;

/// Serves one controller until it hangs up.
///
/// # Errors
/// When the stream breaks or is not a controller's.
pub(crate) fn serve(state: State) -> anyhow::Result<()> {
    let state = Arc::new(state);
    let output = Arc::new(Mutex::new(std::io::stdout()));
    let mut input = std::io::stdin().lock();
    while let Some(asked) = read_request(&mut input)? {
        let (state, output) = (state.clone(), output.clone());
        let work = move || {
            let Asked { id, request, payload } = asked;
            let answer = answer(&state, request, &payload);
            let mut output = output.lock().unwrap_or_else(|e| e.into_inner());
            // A controller that is gone is noticed by the reader.
            let _ = write_answer(&mut *output, id, &answer);
        };
        thread::Builder::new().spawn(work)?;
    }
    Ok(())
}

fn answer(state: &State, request: Request, payload: &[u8]) -> Answer {
    let plain = |reply: Reply| Ok((reply, Vec::new()));
    let locked = || state.lock();
    match request {
        Request::Hello { version, lease_ms, again } => {
            if version != VERSION {
                let what = format!("the controller speaks version {version} of the protocol, this agent {VERSION}");
                return Err(AgentError::new(what));
            }
            state.renew(lease_ms)?;
            let _lock = locked()?;
            fault::after_boot(state, again)?;
            plain(Reply::Hello(hello(state)))
        }
        Request::Renew { lease_ms } => {
            state.renew(lease_ms)?;
            let _lock = locked()?;
            fault::renew(state, lease_ms);
            plain(Reply::Time {
                realtime_ns: clock_ns(ClockId::CLOCK_REALTIME),
                monotonic_ns: clock_ns(ClockId::CLOCK_MONOTONIC),
            })
        }
        Request::Start(spec) => {
            let _lock = locked()?;
            watchdog::ensure(state)?;
            plain(Reply::Process(process::start(state, &spec)?))
        }
        Request::Stop { name, signal, grace_ms } => {
            let _lock = locked()?;
            plain(Reply::Process(process::stop(state, &name, signal, grace_ms)?))
        }
        Request::Status { name } => plain(Reply::Process(process::status(state, &name)?)),
        Request::Exec { argv, env, timeout_ms } => {
            plain(exec::exec(state, &argv, &env, Duration::from_millis(timeout_ms))?)
        }
        Request::PutFile { path, mode } => {
            files::put(state, &path, mode, payload)?;
            plain(Reply::Done)
        }
        Request::ReadFile { path, offset, len_max } => {
            let (len, bytes) = files::read(state, &path, offset, len_max)?;
            Ok((Reply::File { len }, bytes))
        }
        Request::Remove { path } => {
            files::remove(state, &path)?;
            plain(Reply::Done)
        }
        Request::MakeDir { path } => {
            files::make_dir(state, &path)?;
            plain(Reply::Done)
        }
        Request::Probe { addresses, timeout_ms, datagrams } => {
            plain(Reply::Probe(probe::probe(&addresses, datagrams, Duration::from_millis(timeout_ms))))
        }
        Request::Inject { id, fault, lease_ms } => {
            let _lock = locked()?;
            watchdog::ensure(state)?;
            plain(Reply::Fault(fault::inject(state, &id, &fault, lease_ms)?))
        }
        Request::Measure { id } => plain(Reply::Fault(fault::measure(state, &id)?)),
        Request::Heal { id } => {
            let _lock = locked()?;
            plain(Reply::Fault(fault::heal(state, &id)?))
        }
        Request::HealAll => {
            let _lock = locked()?;
            plain(Reply::Ledger(fault::heal_all(state, fault::Which::Faults)?))
        }
        Request::Ledger => plain(Reply::Ledger(ledger::all(state))),
        Request::RollForward { ledger: last } => {
            let _lock = locked()?;
            fault::roll_forward(state, last)?;
            plain(Reply::Ledger(ledger::all(state)))
        }
        Request::Doctor => plain(Reply::Doctor(doctor::doctor())),
        Request::Shutdown => {
            let _lock = locked()?;
            end::everything(state)?;
            plain(Reply::Done)
        }
    }
}

fn hello(state: &State) -> Hello {
    let hostname = nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    Hello {
        version: VERSION,
        pid: std::process::id(),
        hostname,
        boot_id: boot_id(),
        uid: nix::unistd::geteuid().as_raw(),
        root: state.root.display().to_string(),
        arch: std::env::consts::ARCH.to_owned(),
        addresses: own_addresses(),
        controller: controller_address(),
    }
}
