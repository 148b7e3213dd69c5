//! How a disk gets full, and room comes back.

use super::below::{Attr, Kind};
use super::power::Disk;
use super::rules::Hits;
use super::tree::ROOT;
use super::volume::{SetAttr, Volume};
use crate::disk::{DiskOp, Impairment, Rule, When};
use nix::errno::Errno;
use std::ffi::OsStr;
use std::path::Path;
use std::time::SystemTime;

struct Here {
    _root: tempfile::TempDir,
    disk: Disk,
}

/// A disk over a folder with a file of 5000 bytes, and one of a byte in a folder of its own.
fn disk() -> Here {
    let root = tempfile::tempdir().unwrap();
    for dir in ["data/deep", "limbo"] {
        std::fs::create_dir_all(root.path().join(dir)).unwrap();
    }
    std::fs::write(root.path().join("data/old"), vec![1; 5000]).unwrap();
    std::fs::write(root.path().join("data/deep/one"), "1").unwrap();
    let volume = Volume::open(&root.path().join("data"), &root.path().join("limbo")).unwrap();
    Here { disk: Disk::new(volume), _root: root }
}

impl Here {
    fn fill(&self, left: u64) -> Hits {
        let effect = Impairment::Full { left };
        let rule = Rule { ops: vec![DiskOp::Write], path: "**".to_owned(), when: When::Always, effect, seed: 0 };
        self.disk.rules.add("1", rule, self.disk.used().unwrap()).unwrap();
        self.disk.rules.hits(DiskOp::Write, 0, || "f".into())
    }

    fn make(&self, name: &str) -> u64 {
        let now = SystemTime::now();
        let (kind, mode, uid, gid) =
            (Kind::File, 0o600, nix::unistd::getuid().as_raw(), nix::unistd::getgid().as_raw());
        let attr = Attr { kind, mode, uid, gid, rdev: 0, nlink: 1, len: 0, atime: now, mtime: now, ctime: now };
        let (ino, _) = self.disk.volume.make(ROOT, OsStr::new(name), attr, Path::new("")).unwrap();
        self.disk.volume.tree().opened(ino).unwrap();
        ino
    }

    fn write(&self, ino: u64, offset: u64, len: usize) {
        self.disk.volume.write(ino, offset, vec![7; len].into()).unwrap();
    }
}

#[test]
fn files_take_their_length_in_blocks_wherever_they_are() {
    let here = disk();
    // Two directories, two blocks of the one file, one of the other.
    assert_eq!(here.disk.used().unwrap(), 5 * 4096);
}

#[test]
fn a_full_disk_takes_what_has_room_and_no_more() {
    let here = disk();
    let hits = here.fill(10_000);
    let file = here.make("new");
    // Two blocks are left of the 10,000 bytes.
    assert_eq!(here.disk.room_for(&hits, file, 0, 100), Ok(100));
    assert_eq!(here.disk.room_for(&hits, file, 0, 8192), Ok(8192));
    assert_eq!(here.disk.room_for(&hits, file, 0, 9000), Ok(8192), "as much as there is room for");
    here.write(file, 0, 8192);
    assert_eq!(here.disk.room_for(&hits, file, 8192, 8193), Err(Errno::ENOSPC));
    assert_eq!(here.disk.room_for(&hits, file, 4096, 8192), Ok(8192), "what is there can be overwritten");
    assert_eq!(here.disk.room_for(&hits, file, 8000, 9000), Ok(8192));
    assert_eq!(here.disk.room_for_dir(&hits), Err(Errno::ENOSPC));
    assert_eq!(here.disk.rules.count("1"), Some(4));
    // What is cut off or removed makes room, but not while it is open.
    here.disk.volume.set_attr(file, &SetAttr { len: Some(4096), ..SetAttr::default() }).unwrap();
    assert_eq!(here.disk.room_for_dir(&hits), Ok(()));
    assert_eq!(here.disk.room_for(&hits, file, 4096, 8192), Ok(8192));
    here.write(file, 4096, 4096);
    here.disk.volume.tree().remove(ROOT, OsStr::new("new"), false).unwrap();
    assert_eq!(here.disk.room_for_dir(&hits), Err(Errno::ENOSPC));
    here.disk.volume.tree().released(file);
    here.disk.volume.tree().forget(file, 1);
    assert_eq!(here.disk.room_for_dir(&hits), Ok(()));
    assert_eq!(here.disk.used().unwrap(), 5 * 4096);
}
