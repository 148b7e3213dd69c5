//! Whether /dev/kvm really boots a guest. That it can be opened proves little: nested virtualization may be there and broken.

use super::Settings;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

/// With KVM a kernel is at its first program within a second or two.
const BOOT_TIME_MAX: Duration = Duration::from_secs(15);

/// What a kernel says when it starts its first program.
const BOOTED: &str = "Run /";

/// Boots the machines' own kernel with KVM until it starts its first program.
///
/// # Errors
/// Why machines cannot use KVM, as part of a sentence.
pub(super) async fn probe(settings: &Settings) -> Result<(), String> {
    let device = Path::new("/dev/kvm");
    if !device.exists() {
        return Err("there is no /dev/kvm".to_owned());
    }
    if let Err(error) = std::fs::OpenOptions::new().read(true).write(true).open(device) {
        return Err(format!("/dev/kvm cannot be used ({error})"));
    }
    let Some((kernel, initrd)) = &settings.kernel else {
        return Err(
            "without `kernel` and `initrd` in cluster.yaml nobody can try /dev/kvm; say `driver: kvm`".to_owned()
        );
    };
    let spawned = Command::new("qemu-system-x86_64")
        .args([
            "-machine",
            "accel=kvm",
            "-cpu",
            "host",
            "-m",
            "256",
            "-nodefaults",
            "-no-user-config",
            "-display",
            "none",
        ])
        .args(["-no-reboot", "-serial", "stdio", "-append", "console=ttyS0 panic=-1 rdinit=/bin/true", "-kernel"])
        .arg(kernel)
        .arg("-initrd")
        .arg(initrd)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn();
    let mut qemu = spawned.map_err(|error| format!("qemu-system-x86_64 cannot be started ({error})"))?;
    let Some(stdout) = qemu.stdout.take() else { return Err("qemu said nothing".to_owned()) };
    let booted = async {
        let mut lines = BufReader::new(stdout).lines();
        // What a broken guest prints may be no text at all: an error ends it like the end.
        while let Ok(Some(line)) = lines.next_line().await {
            if line.contains(BOOTED) {
                return true;
            }
        }
        false
    };
    let booted = tokio::time::timeout(BOOT_TIME_MAX, booted).await;
    let _ = qemu.kill().await;
    match booted {
        Ok(true) => Ok(()),
        Ok(false) => Err("/dev/kvm is there, but a guest dies on it".to_owned()),
        Err(_) => {
            Err(format!("/dev/kvm is there, but a guest does not boot on it within {} s", BOOT_TIME_MAX.as_secs()))
        }
    }
}
