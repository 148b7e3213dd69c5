//! Where runs are kept: `store/<test>/<timestamp>/…`.

use anyhow::{Context, bail};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Name of the history in a run's folder.
pub const HISTORY: &str = "history.jsonl.zst";
/// Name of the plan.
pub const PLAN: &str = "plan.yaml";
/// Name of the results.
pub const RESULTS: &str = "results.json";

/// The folder of one run.
#[derive(Clone, Debug)]
pub struct Run {
    /// `store/register/20261123T180102`.
    pub dir: PathBuf,
}

impl Run {
    /// Makes a fresh folder for a run of `test`, and points `store/latest` at it.
    ///
    /// # Errors
    /// When the store cannot be written: the sentence names the path.
    pub fn create(store: &Path, test: &str) -> anyhow::Result<Self> {
        let parent = store.join(slug(test));
        fs::create_dir_all(&parent).with_context(|| format!("cannot create the store {}", parent.display()))?;
        let parent = parent.canonicalize().with_context(|| format!("cannot use the store {}", parent.display()))?;
        let stamp = timestamp();
        for attempt in 1..1000 {
            let name = if attempt == 1 { stamp.clone() } else { format!("{stamp}-{attempt}") };
            let dir = parent.join(name);
            match fs::create_dir(&dir) {
                Ok(()) => {
                    point_latest_at(store, &dir);
                    return Ok(Self { dir });
                }
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error).with_context(|| format!("cannot create {}", dir.display())),
            }
        }
        bail!("a thousand runs of this test started in one second in {}", parent.display())
    }

    /// The run at `path`: its folder, or any file in it, or a name in the store such as `latest`.
    ///
    /// # Errors
    /// When there is no history.
    pub fn open(store: &Path, path: &Path) -> anyhow::Result<Self> {
        for candidate in [path.to_owned(), store.join(path)] {
            let dir = if candidate.is_file() { candidate.parent().map(Path::to_owned) } else { Some(candidate) };
            if let Some(dir) = dir.filter(|dir| dir.join(PLAN).is_file()) {
                return Ok(Self { dir });
            }
        }
        bail!("{} is no run: there is no {PLAN} in it (`squall list runs` shows what is in the store)", path.display())
    }

    /// The history file.
    pub fn history(&self) -> PathBuf {
        self.dir.join(HISTORY)
    }

    /// Writes `name` in one piece: a reader sees the old file or the new one, never half of it.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, name: &str, content: &[u8]) -> anyhow::Result<()> {
        let (path, temporary) = (self.dir.join(name), self.dir.join(format!(".{name}.tmp")));
        let written = (|| {
            let mut file = fs::File::create(&temporary)?;
            file.write_all(content)?;
            file.sync_all()?;
            fs::rename(&temporary, &path)
        })();
        if written.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        written.with_context(|| format!("cannot write {}", path.display()))
    }

    /// Reads `name`.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read(&self, name: &str) -> anyhow::Result<String> {
        let path = self.dir.join(name);
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    }
}

/// All runs in the store, newest last.
///
/// # Errors
/// When the store exists and cannot be read.
pub fn runs(store: &Path) -> anyhow::Result<Vec<Run>> {
    let mut runs = Vec::new();
    if !store.exists() {
        return Ok(runs);
    }
    for test in fs::read_dir(store).with_context(|| format!("cannot read {}", store.display()))?.flatten() {
        // `latest` is a link to a run, not a test.
        if test.file_type().is_ok_and(|t| t.is_dir()) {
            for run in fs::read_dir(test.path())?.flatten() {
                if run.path().join(PLAN).is_file() {
                    runs.push(Run { dir: run.path() });
                }
            }
        }
    }
    runs.sort_by_key(|run| run.dir.file_name().map(std::ffi::OsStr::to_owned));
    Ok(runs)
}

/// `Registers, under partitions!` -> `registers-under-partitions`.
fn slug(name: &str) -> String {
    let mut slug = String::new();
    for c in name.to_lowercase().chars() {
        if c.is_ascii_alphanumeric() {
            slug.push(c);
        } else if !slug.ends_with('-') && !slug.is_empty() {
            slug.push('-');
        }
    }
    let slug: String = slug.trim_end_matches('-').chars().take(60).collect();
    if slug.is_empty() { "test".to_owned() } else { slug }
}

/// `20261123T180102`, UTC.
fn timestamp() -> String {
    let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs();
    let (days, second) = (since_epoch / 86_400, since_epoch % 86_400);
    let (year, month, day) = civil_from_days(days);
    format!("{year:04}{month:02}{day:02}T{:02}{:02}{:02}", second / 3600, second / 60 % 60, second % 60)
}

/// Days since 1970-01-01 to a date of the Gregorian calendar (Hinnant, "chrono-compatible low-level date algorithms").
fn civil_from_days(days: u64) -> (u64, u64, u64) {
    let z = days + 719_468;
    let era = z / 146_097;
    let day_of_era = z % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_shifted + 2) / 5 + 1;
    let month = if month_shifted < 10 { month_shifted + 3 } else { month_shifted - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

/// `store/latest` is a convenience: where links cannot be made, nothing is lost.
fn point_latest_at(store: &Path, dir: &Path) {
    #[cfg(unix)]
    {
        let temporary = store.join(format!(".latest.{}", std::process::id()));
        if std::os::unix::fs::symlink(dir, &temporary).is_ok() && fs::rename(&temporary, store.join("latest")).is_err()
        {
            let _ = fs::remove_file(&temporary);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (days, date) in
            [(0, (1970, 1, 1)), (11_016, (2000, 2, 29)), (20_781, (2026, 11, 24)), (47_540, (2100, 2, 28))]
        {
            assert_eq!(civil_from_days(days), date, "{days}");
        }
    }

    #[test]
    fn names_become_folders() {
        assert_eq!(slug("Registers, under partitions!"), "registers-under-partitions");
        assert_eq!(slug("../../etc"), "etc");
        assert_eq!(slug("…"), "test");
    }

    #[test]
    fn runs_are_found_again() {
        let dir = tempfile::tempdir().unwrap();
        let run = Run::create(dir.path(), "a test").unwrap();
        assert!(Run::open(dir.path(), Path::new("latest")).is_err(), "no plan yet");
        run.write(PLAN, b"x").unwrap();
        let again = Run::create(dir.path(), "a test").unwrap();
        again.write(PLAN, b"y").unwrap();
        assert_ne!(run.dir, again.dir);
        assert_eq!(Run::open(dir.path(), Path::new("latest")).unwrap().read(PLAN).unwrap(), "y");
        assert_eq!(runs(dir.path()).unwrap().len(), 2);
    }
}
