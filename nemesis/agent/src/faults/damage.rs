//! Damage to a file at rest: by ordinary operations on it, whether the target runs or not. A copy is kept, and put back when it
//! is healed, unless somebody has written the file since: then what is there stays.

use serde::{Deserialize, Serialize};

/// Damage one file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Damage {
    /// Directories in which to look for it, relative to the agent's root.
    pub dirs: Vec<String>,
    /// Which files there: as in [`Rule`](crate::disk::Rule).
    pub path: String,
    /// What is done to it.
    pub how: How,
    /// Which of several files, and where in it.
    pub seed: u64,
}

/// Kinds of damage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum How {
    /// One bit is another one.
    BitFlip,
    /// The end is cut off, anywhere.
    Truncate,
    /// 4 KiB of zeros, at a multiple of 4 KiB.
    Zero,
    /// 4 KiB from elsewhere in the file, as a write that went astray leaves it.
    Copy,
    /// The file is gone.
    Delete,
}

impl How {
    /// All of them, as they are called in test files.
    pub const ALL: [(&str, Self); 5] = [
        ("bit-flip", Self::BitFlip),
        ("truncate", Self::Truncate),
        ("zero", Self::Zero),
        ("copy", Self::Copy),
        ("delete", Self::Delete),
    ];
}

#[cfg(target_os = "linux")]
mod effect {
    use super::{Damage, How};
    use crate::linux::kept::{Kept, digest, forget};
    use crate::linux::{At, Effect};
    use crate::protocol::{AgentError, Evidence};
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;
    use std::path::{Path, PathBuf};

    const UNIT: &str = "files damaged";

    /// The unit of larger damage (bytes).
    const CHUNK: usize = 4096;

    impl Damage {
        /// The content that the damage leaves; `None` when the file goes.
        fn damaged(&self, whole: &[u8], rng: &mut ChaCha8Rng) -> Option<Vec<u8>> {
            let mut bytes = whole.to_vec();
            let chunks = bytes.len().div_ceil(CHUNK);
            let chunk = |n: usize| n * CHUNK..((n + 1) * CHUNK).min(whole.len());
            match self.how {
                How::BitFlip => {
                    let bit = rng.random_range(0..bytes.len() * 8);
                    bytes[bit / 8] ^= 1 << (bit % 8);
                }
                How::Truncate => bytes.truncate(rng.random_range(0..whole.len())),
                How::Zero => bytes[chunk(rng.random_range(0..chunks))].fill(0),
                How::Copy => {
                    let (from, to) = (rng.random_range(0..chunks), rng.random_range(0..chunks));
                    let (from, to) = (chunk(from), chunk(to));
                    let len = from.len().min(to.len());
                    bytes[to.start..to.start + len].copy_from_slice(&whole[from.start..from.start + len]);
                }
                How::Delete => return None,
            }
            Some(bytes)
        }

        /// Files that could be damaged, with something in them, by name.
        fn candidates(&self, root: &Path) -> Result<Vec<PathBuf>, AgentError> {
            let pattern = crate::disk::pattern(&self.path).map_err(AgentError::new)?;
            let mut found = Vec::new();
            for dir in &self.dirs {
                let base = root.join(dir);
                crate::linux::kept::files(&base, &mut |path, len| {
                    if len > 0 && pattern.matches_path(path.strip_prefix(&base).unwrap_or(path)) {
                        found.push(path.to_owned());
                    }
                })?;
            }
            found.sort();
            Ok(found)
        }
    }

    impl Effect for Damage {
        fn refuse(&self, _: &At<'_>) -> Result<(), AgentError> {
            crate::disk::pattern(&self.path).map(|_| ()).map_err(AgentError::new)
        }

        fn inject(&self, at: &At<'_>) -> Result<Evidence, AgentError> {
            let files = self.candidates(&at.state.root)?;
            let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
            if files.is_empty() {
                return Ok(Evidence::new(
                    false,
                    format!("no file is called {} and has something in it", self.path),
                    0,
                    UNIT,
                ));
            }
            let path = &files[rng.random_range(0..files.len())];
            let whole = std::fs::read(path).map_err(|e| AgentError::io("read", path, e))?;
            // A chunk may be copied over its like: then again, elsewhere.
            let mut tries = std::iter::repeat_with(|| self.damaged(&whole, &mut rng)).take(100);
            let Some(damaged) = tries.find(|damaged| damaged.as_deref() != Some(whole.as_slice())) else {
                return Ok(Evidence::new(false, format!("{} is the same all over", path.display()), 0, UNIT));
            };
            let after = damaged.as_deref().map(digest);
            Kept::keep(at, path, &whole, after.clone())?;
            crate::linux::kept::replace(path, damaged.as_deref())?;
            let now = std::fs::read(path).ok().as_deref().map(digest);
            let name = path.strip_prefix(&at.state.root).unwrap_or(path).display();
            let after = after.unwrap_or_else(|| "gone".to_owned());
            let seen = format!("{name}: {:?}, sha256 {} -> {after}", self.how, digest(&whole));
            Ok(Evidence::new(now.unwrap_or_else(|| "gone".to_owned()) == after, seen, 1, UNIT))
        }

        fn measure(&self, at: &At<'_>) -> Result<Evidence, AgentError> {
            Ok(match Kept::find(at) {
                Some(kept) if kept.is_as_left() => Evidence::new(true, "still damaged", 1, UNIT),
                Some(_) => Evidence::new(false, "written since", 0, UNIT),
                None => Evidence::new(false, "nothing is damaged", 0, UNIT),
            })
        }

        fn undo(&self, at: &At<'_>) -> Result<Evidence, AgentError> {
            let seen = match Kept::find(at) {
                None => "nothing was damaged",
                Some(kept) if kept.is_as_left() => {
                    kept.put_back(at)?;
                    "the file is as it was before"
                }
                Some(_) => "the file was written since, and stays",
            };
            forget(at)?;
            Ok(Evidence::new(true, seen, 0, UNIT))
        }

        fn survives_reboot(&self) -> bool {
            true
        }
    }
}
