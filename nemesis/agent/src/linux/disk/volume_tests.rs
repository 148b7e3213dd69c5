//! Random operations on a volume and on a plain directory: whatever was synced in between, and in whatever order, what is
//! durable in the end is what the plain directory holds.

use super::below::{self, Attr, Kind};
use super::tree::{Ino, ROOT};
use super::volume::Volume;
use crate::disk::Lose;
use nix::errno::Errno;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const NAMES: [&str; 3] = ["a", "b", "c"];
const DIRS: [&str; 3] = ["", "d", "e"];

#[derive(Clone, Debug)]
enum Do {
    Create(usize, usize),
    Write(usize, usize, u8),
    Rename(usize, usize, usize, usize),
    Link(usize, usize, usize, usize),
    Remove(usize, usize),
    SyncFile(usize, usize),
    SyncDir(usize),
}

fn step() -> impl Strategy<Value = Do> {
    let at = || (0..DIRS.len(), 0..NAMES.len());
    prop_oneof![
        3 => at().prop_map(|(d, n)| Do::Create(d, n)),
        3 => (at(), 1u8..).prop_map(|((d, n), byte)| Do::Write(d, n, byte)),
        4 => (at(), at()).prop_map(|((d, n), (e, m))| Do::Rename(d, n, e, m)),
        2 => (at(), at()).prop_map(|((d, n), (e, m))| Do::Link(d, n, e, m)),
        2 => at().prop_map(|(d, n)| Do::Remove(d, n)),
        1 => at().prop_map(|(d, n)| Do::SyncFile(d, n)),
        2 => (0..DIRS.len()).prop_map(Do::SyncDir),
    ]
}

struct Both {
    volume: Volume,
    base: PathBuf,
    plain: PathBuf,
}

fn attr(kind: Kind) -> Attr {
    let (mut attr, _) = below::look(Path::new("/tmp")).unwrap();
    let (uid, gid) = (nix::unistd::getuid().as_raw(), nix::unistd::getgid().as_raw());
    (attr.kind, attr.mode, attr.uid, attr.gid, attr.nlink, attr.len) = (kind, 0o700, uid, gid, 1, 0);
    attr
}

impl Both {
    fn new(root: &Path) -> Self {
        let (base, limbo, plain) = (root.join("base"), root.join("limbo"), root.join("plain"));
        for dir in [&base, &limbo, &plain] {
            fs::create_dir(dir).unwrap();
        }
        for name in &DIRS[1..] {
            fs::create_dir(base.join(name)).unwrap();
            fs::create_dir(plain.join(name)).unwrap();
        }
        Self { volume: Volume::open(&base, &limbo).unwrap(), base, plain }
    }

    fn dir(&self, dir: usize) -> Ino {
        if dir == 0 { ROOT } else { self.volume.tree().find(ROOT, OsStr::new(DIRS[dir])).unwrap() }
    }

    fn path(&self, dir: usize, name: usize) -> PathBuf {
        self.plain.join(DIRS[dir]).join(NAMES[name])
    }

    fn find(&self, dir: usize, name: usize) -> Result<Ino, Errno> {
        let dir = self.dir(dir);
        self.volume.tree().find(dir, OsStr::new(NAMES[name]))
    }

    fn write(&self, ino: Ino, byte: u8) {
        self.volume.tree().opened(ino).unwrap();
        self.volume.write(ino, 0, Arc::from([byte; 9].as_slice())).unwrap();
        self.volume.tree().released(ino);
    }

    /// The same on both; whether both say that it worked.
    fn apply(&self, step: &Do) -> (bool, bool) {
        match *step {
            Do::Create(d, n) => {
                let made = self.volume.make(self.dir(d), OsStr::new(NAMES[n]), attr(Kind::File), Path::new(""));
                if let Ok((ino, _)) = made {
                    self.volume.tree().forget(ino, 1);
                }
                (made.is_ok(), fs::File::create_new(self.path(d, n)).is_ok())
            }
            Do::Write(d, n, byte) => {
                let (found, path) = (self.find(d, n), self.path(d, n));
                if let Ok(ino) = found {
                    self.write(ino, byte);
                }
                (found.is_ok(), path.exists() && fs::write(path, [byte; 9]).is_ok())
            }
            Do::Rename(d, n, e, m) => {
                let (from, to) = ((self.dir(d), OsStr::new(NAMES[n])), (self.dir(e), OsStr::new(NAMES[m])));
                let renamed = self.volume.tree().rename(from, to, true);
                (renamed.is_ok(), fs::rename(self.path(d, n), self.path(e, m)).is_ok())
            }
            Do::Link(d, n, e, m) => {
                let linked = self.find(d, n).and_then(|ino| self.volume.link(ino, self.dir(e), OsStr::new(NAMES[m])));
                if let (Ok(ino), Ok(_)) = (self.find(d, n), &linked) {
                    self.volume.tree().forget(ino, 1);
                }
                (linked.is_ok(), fs::hard_link(self.path(d, n), self.path(e, m)).is_ok())
            }
            Do::Remove(d, n) => {
                let dir = self.dir(d);
                let removed = self.volume.tree().remove(dir, OsStr::new(NAMES[n]), false);
                (removed.is_ok(), fs::remove_file(self.path(d, n)).is_ok())
            }
            Do::SyncFile(d, n) => {
                if let Ok(ino) = self.find(d, n) {
                    self.volume.tree().opened(ino).unwrap();
                    self.volume.sync(ino).unwrap();
                    self.volume.tree().released(ino);
                }
                (true, true)
            }
            Do::SyncDir(d) => {
                self.volume.sync_dir(self.dir(d)).unwrap();
                (true, true)
            }
        }
    }

    /// Paths with contents on the disk.
    fn found(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
        let path = |dir: &str, name: &str| PathBuf::from(dir).join(name);
        let all = DIRS.iter().flat_map(|dir| NAMES.iter().map(move |name| path(dir, name)));
        all.filter_map(|path| Some((path.clone(), fs::read(root.join(&path)).ok()?))).collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn what_was_synced_is_what_a_plain_directory_holds(
        steps in prop::collection::vec(step(), 1..40),
        order in Just((0..DIRS.len()).collect::<Vec<_>>()).prop_shuffle(),
    ) {
        let root = tempfile::tempdir().unwrap();
        let both = Both::new(root.path());
        for step in &steps {
            let (ours, plain) = both.apply(step);
            prop_assert_eq!(ours, plain, "{:?}", step);
        }
        for dir in order {
            both.apply(&Do::SyncDir(dir));
        }
        for (d, n) in (0..DIRS.len()).flat_map(|d| (0..NAMES.len()).map(move |n| (d, n))) {
            both.apply(&Do::SyncFile(d, n));
        }
        let lost = both.volume.cut(Lose::All, 1).unwrap();
        prop_assert_eq!(lost.count(), 0, "{:?}", lost.notes);
        prop_assert_eq!(Both::found(&both.base), Both::found(&both.plain));
        prop_assert!(fs::read_dir(root.path().join("limbo")).unwrap().next().is_none());
    }

    /// Whatever a cut leaves can be used, and a cut right after it finds nothing to lose.
    #[test]
    fn every_cut_leaves_a_disk(steps in prop::collection::vec(step(), 1..40), seed: u64, way in 0usize..4) {
        let root = tempfile::tempdir().unwrap();
        let both = Both::new(root.path());
        for step in &steps {
            both.apply(step);
        }
        both.volume.cut(Lose::ALL[way].1, seed).unwrap();
        let left = Both::found(&both.base);
        let again = both.volume.cut(Lose::Subset, seed).unwrap();
        prop_assert_eq!((again.count(), again.kept), (0, 0));
        prop_assert_eq!(Both::found(&both.base), left);
        both.volume.sync_all().unwrap();
    }
}
