//! The program that is uploaded to hosts: this one, or another build of it.
//!
//! One that is linked statically runs on any Linux of its architecture, however old:
//! `RUSTFLAGS="-C target-feature=+crt-static" cargo build --release --target x86_64-unknown-linux-gnu`.

use anyhow::{Context, bail};
use std::path::PathBuf;

/// Names another build of squall to upload.
pub const VARIABLE: &str = "SQUALL_PROGRAM";

/// What is said when it was uploaded and does not start.
pub(super) const DOES_NOT_RUN: &str = "squall was uploaded, but does not run there: build it statically (RUSTFLAGS=\"-C \
     target-feature=+crt-static\" cargo build --release --target x86_64-unknown-linux-gnu) and name the program in SQUALL_PROGRAM";

/// Where it is on this machine.
///
/// # Errors
/// When [`VARIABLE`] names no file, or this is not Linux and it is not set.
pub fn find() -> anyhow::Result<PathBuf> {
    match std::env::var_os(VARIABLE).filter(|path| !path.is_empty()) {
        Some(path) => {
            let path = PathBuf::from(path);
            if !path.is_file() {
                bail!("{VARIABLE} names {}, which is no file", path.display());
            }
            Ok(path)
        }
        None => std::env::current_exe().context("cannot find this program's own file"),
    }
}

/// What `uname -m` says where a program runs; `None` when it is none for Linux that we know (elf(5): the class and order of
/// bytes, the machine as a 16-bit number at offset 18).
pub(super) fn architecture(content: &[u8]) -> Option<&'static str> {
    let head: &[u8; 20] = content.first_chunk()?;
    if !head.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    match u16::from_le_bytes([head[18], head[19]]) {
        62 => Some("x86_64"),
        183 => Some("aarch64"),
        243 => Some("riscv64"),
        258 => Some("loongarch64"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_say_what_they_are_for() {
        let own = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        assert_eq!(architecture(&own), Some(std::env::consts::ARCH));
        let mut other = own[..64].to_vec();
        other[18] = 183;
        assert_eq!(architecture(&other), Some("aarch64"));
        assert_eq!(architecture(b"#!/bin/sh"), None);
        assert_eq!(architecture(&own[..19]), None);
    }
}
