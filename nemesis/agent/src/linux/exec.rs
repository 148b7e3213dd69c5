//! Runs a command to its end.

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

/// Runs `argv`; after `timeout` it and everything in its process group is killed.
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
                // Its whole group: a shell's children hold the pipes too.
                let _ = nix::sys::signal::killpg(
                    nix::unistd::Pid::from_raw(child.id() as i32),
                    nix::sys::signal::Signal::SIGKILL,
                );
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
