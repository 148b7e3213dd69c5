//! Runs a command to its end.

use super::procfs;
use super::state::State;
use crate::protocol::{AgentError, Reply};
use std::collections::BTreeMap;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Most that is kept of each output (bytes).
const OUTPUT_LEN_MAX: u64 = 4 << 20;

/// Runs `argv`; after `timeout` it and everything that descends from it is killed.
///
/// # Errors
/// When it cannot be started.
pub(crate) fn exec(
    state: &State,
    argv: &[String],
    env: &BTreeMap<String, String>,
    timeout: Duration,
) -> Result<Reply, AgentError> {
    let (program, arguments) = argv.split_first().ok_or_else(|| AgentError::new("the command to run is empty"))?;
    let mut child = Command::new(program)
        .args(arguments)
        .envs(env)
        .current_dir(&state.root)
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| AgentError::new(format!("cannot run {program}: {e}")))?;
    let stdout = collect(child.stdout.take());
    let stderr = collect(child.stderr.take());
    let deadline = Instant::now() + timeout;
    let (mut code, mut late) = (None, false);
    loop {
        match child.try_wait() {
            Ok(Some(status)) => {
                code = status.code();
                break;
            }
            Ok(None) if Instant::now() < deadline => thread::sleep(Duration::from_millis(2)),
            Ok(None) => {
                late = true;
                // A shell's children hold the pipes, too, in groups of their own where timeout(1) has started them.
                let below = procfs::descendants(child.id());
                let groups = std::iter::once(child.id()).map(|group| -(group as i32));
                for pid in groups.chain(below.into_iter().map(|pid| pid as i32)) {
                    let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
                }
                let _ = child.wait();
                break;
            }
            Err(error) => return Err(AgentError::new(format!("cannot wait for {program}: {error}"))),
        }
    }
    let mut stderr = stderr.join().unwrap_or_default();
    if late {
        stderr += &format!("\nkilled: it did not end within {:.1} s", timeout.as_secs_f64());
    }
    Ok(Reply::Output { code, stdout: stdout.join().unwrap_or_default(), stderr })
}

fn collect(pipe: Option<impl Read + Send + 'static>) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            let _ = pipe.by_ref().take(OUTPUT_LEN_MAX).read_to_end(&mut bytes);
            // Drained to its end, or the program would hang on a full pipe.
            let _ = std::io::copy(&mut pipe, &mut std::io::sink());
        }
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_late_ends_with_all_that_it_started_in_other_groups() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::open(dir.path(), Vec::new()).unwrap();
        // The inner one would hold the pipe for as long as it lives.
        let argv = ["bash", "-c", "timeout 1000 sleep 1000; :"].map(str::to_owned);
        let reply = exec(&state, &argv, &BTreeMap::new(), Duration::from_millis(300)).unwrap();
        let Reply::Output { code: None, stderr, .. } = reply else { panic!("{reply:?}") };
        assert!(stderr.contains("killed: it did not end within 0.3 s"), "{stderr}");
    }
}
