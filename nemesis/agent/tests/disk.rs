//! A node's disk as processes see it: an ordinary file system while nothing is impaired, which loses what was not synced when
//! its power is cut, and is as bad as it is told to be.

#[expect(dead_code, reason = "shared with other tests")]
mod common;
#[expect(dead_code, reason = "shared with other tests")]
mod volume;

use squall_agent::disk::{DiskError, DiskOp, Impairment, Lose, Rule, When};
use squall_agent::faults::Fault;
use squall_agent::faults::disk_rule::DiskRule;
use squall_agent::protocol::{ProcessState, Request};
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::time::{Duration, Instant};
use volume::{Mounted, disk, sync_dir};

fn rule(ops: &[DiskOp], path: &str, when: When, effect: Impairment) -> Fault {
    let rule = Rule { ops: ops.to_vec(), path: path.to_owned(), when, effect, seed: 7 };
    Fault::DiskRule(DiskRule { dir: "data".to_owned(), rule })
}

/// What there is below `dir`: paths with lengths, modes and contents.
fn listing(dir: &std::path::Path) -> Vec<(String, u32, Vec<u8>)> {
    let mut found = Vec::new();
    let mut todo = vec![dir.to_owned()];
    while let Some(at) = todo.pop() {
        for entry in fs::read_dir(&at).unwrap() {
            let path = entry.unwrap().path();
            let meta = path.symlink_metadata().unwrap();
            let content = match meta.file_type() {
                kind if kind.is_file() => fs::read(&path).unwrap(),
                kind if kind.is_symlink() => fs::read_link(&path).unwrap().into_os_string().into_encoded_bytes(),
                _ => Vec::new(),
            };
            if meta.is_dir() {
                todo.push(path.clone());
            }
            found.push((path.strip_prefix(dir).unwrap().display().to_string(), meta.mode(), content));
        }
    }
    found.sort();
    found
}

/// Many things that programs do with files.
fn use_files(dir: &std::path::Path) {
    fs::create_dir_all(dir.join("a/b/c")).unwrap();
    fs::write(dir.join("a/one"), "one").unwrap();
    assert_eq!(
        OpenOptions::new().write(true).create_new(true).open(dir.join("a/one")).unwrap_err().kind(),
        ErrorKind::AlreadyExists
    );
    let mut file = OpenOptions::new().read(true).append(true).open(dir.join("a/one")).unwrap();
    file.write_all(b" and more").unwrap();
    assert_eq!(fs::read(dir.join("a/one")).unwrap(), b"one and more");
    fs::rename(dir.join("a/one"), dir.join("a/b/two")).unwrap();
    assert!(!dir.join("a/one").exists());
    fs::hard_link(dir.join("a/b/two"), dir.join("link")).unwrap();
    assert_eq!(fs::metadata(dir.join("link")).unwrap().nlink(), 2);
    file.write_all(b", all the same").unwrap();
    assert_eq!(fs::read(dir.join("link")).unwrap(), b"one and more, all the same");
    fs::remove_file(dir.join("a/b/two")).unwrap();
    assert_eq!(fs::metadata(dir.join("link")).unwrap().nlink(), 1);
    std::os::unix::fs::symlink("a/b", dir.join("short")).unwrap();
    fs::write(dir.join("short/three"), vec![3; 300_000]).unwrap();
    assert_eq!(fs::remove_dir(dir.join("a")).unwrap_err().kind(), ErrorKind::DirectoryNotEmpty);
    assert_eq!(fs::read(dir.join("a/b/none")).unwrap_err().kind(), ErrorKind::NotFound);
    fs::write(dir.join("over"), "old").unwrap();
    fs::write(dir.join("new"), "new").unwrap();
    fs::rename(dir.join("new"), dir.join("over")).unwrap();
    assert_eq!(fs::read(dir.join("over")).unwrap(), b"new");
    fs::set_permissions(dir.join("over"), fs::Permissions::from_mode(0o640)).unwrap();
    let mut gone = OpenOptions::new().read(true).write(true).create_new(true).open(dir.join("gone")).unwrap();
    gone.write_all(b"still here").unwrap();
    fs::remove_file(dir.join("gone")).unwrap();
    gone.seek(SeekFrom::Start(0)).unwrap();
    let mut text = String::new();
    gone.read_to_string(&mut text).unwrap();
    assert_eq!(text, "still here");
    let sparse = File::create(dir.join("sparse")).unwrap();
    sparse.write_all_at(b"end", 100_000).unwrap();
    sparse.set_len(200_000).unwrap();
    sparse.set_len(50_000).unwrap();
    sparse.set_len(60_000).unwrap();
    assert_eq!(fs::read(dir.join("sparse")).unwrap(), vec![0; 60_000]);
    nix::fcntl::fallocate(&sparse, nix::fcntl::FallocateFlags::empty(), 0, 70_000).unwrap();
    assert_eq!(sparse.metadata().unwrap().len(), 70_000);
    for n in 0..300 {
        fs::write(dir.join(format!("a/b/c/{n}")), n.to_string()).unwrap();
    }
    assert_eq!(fs::read_dir(dir.join("a/b/c")).unwrap().count(), 300);
    fs::remove_dir_all(dir.join("a/b/c")).unwrap();
    let when = std::time::UNIX_EPOCH + Duration::from_secs(1_000_000);
    file.set_modified(when).unwrap();
    assert_eq!(fs::metadata(dir.join("link")).unwrap().modified().unwrap(), when);
}

#[test]
fn it_is_an_ordinary_file_system_and_leaves_an_ordinary_directory() {
    let Some(mut mounted) = Mounted::new(|data| fs::write(data.join("before"), "mounted").unwrap()) else { return };
    let plain = tempfile::tempdir().unwrap();
    fs::write(plain.path().join("before"), "mounted").unwrap();
    use_files(plain.path());
    use_files(&mounted.data);
    assert_eq!(listing(&mounted.data), listing(plain.path()));
    assert!(fs::read_dir(&mounted.data).unwrap().all(|e| !e.unwrap().file_name().to_str().unwrap().contains("squall")));
    mounted.agent.shutdown();
    assert_eq!(listing(&mounted.data), listing(plain.path()), "after its end");
}

#[test]
fn a_power_cut_takes_what_was_not_synced() {
    let Some(mut mounted) = Mounted::new(|data| {
        fs::create_dir(data.join("dir")).unwrap();
        fs::write(data.join("dir/removed"), "back").unwrap();
        fs::write(data.join("dir/renamed"), "by its old name").unwrap();
        fs::write(data.join("file"), "durable").unwrap();
    }) else {
        return;
    };
    let data = mounted.data.clone();
    let dir = data.join("dir");
    let file = OpenOptions::new().read(true).write(true).open(data.join("file")).unwrap();
    file.write_all_at(b"DURABLE, and synced", 0).unwrap();
    file.sync_data().unwrap();
    file.write_all_at(b"lost", 0).unwrap();
    file.write_all_at(b"lost, too", 100).unwrap();
    fs::remove_file(dir.join("removed")).unwrap();
    fs::rename(dir.join("renamed"), dir.join("new name")).unwrap();
    let created = File::create(dir.join("synced itself only")).unwrap();
    created.sync_all().unwrap();
    let durable = data.join("made/durable");
    fs::create_dir_all(&durable).unwrap();
    let mut kept = File::create(durable.join("kept")).unwrap();
    kept.write_all(b"kept").unwrap();
    kept.sync_all().unwrap();
    sync_dir(&durable);
    let lost = mounted.cut(Lose::All, 1);
    assert_eq!(file.metadata().unwrap_err().raw_os_error(), Some(nix::libc::EIO), "whoever survives it gets EIO");
    assert_eq!(fs::read(data.join("file")).unwrap(), b"DURABLE, and synced");
    assert_eq!(fs::read(dir.join("removed")).unwrap(), b"back");
    assert_eq!(fs::read(dir.join("renamed")).unwrap(), b"by its old name");
    assert!(!dir.join("new name").exists() && !dir.join("synced itself only").exists());
    // Its own directory was synced, and one that was synced is reachable.
    assert_eq!(fs::read(durable.join("kept")).unwrap(), b"kept");
    assert_eq!((lost.count, lost.unit.as_str()), (5, "unsynced changes lost"), "{lost:?}");
    assert!(lost.seen.contains("2 writes, 13 bytes, 1 creates, 1 renames, 1 unlinks lost in 4 files"), "{lost:?}");
    use_files(&data);
    // Nothing of what is lost is left anywhere.
    mounted.cut(Lose::All, 2);
    assert_eq!(listing(&data).len(), 7, "{:?}", listing(&data));
    mounted.agent.shutdown();
    assert_eq!(listing(&data).len(), 7);
}

#[test]
fn names_are_durable_when_their_directory_was_synced() {
    let Some(mut mounted) = Mounted::new(|data| fs::write(data.join("b"), "old").unwrap()) else { return };
    let data = mounted.data.clone();
    fs::write(data.join("a"), "not synced").unwrap();
    let mut file = File::create(data.join("tmp")).unwrap();
    file.write_all(b"new").unwrap();
    file.sync_all().unwrap();
    fs::rename(data.join("tmp"), data.join("b")).unwrap();
    fs::create_dir(data.join("other")).unwrap();
    sync_dir(&data);
    fs::rename(data.join("b"), data.join("other/b")).unwrap();
    mounted.cut(Lose::All, 1);
    assert_eq!(fs::read(data.join("a")).unwrap(), b"", "the name was durable, the content was not");
    assert_eq!(fs::read(data.join("b")).unwrap(), b"new");
    assert!(!data.join("tmp").exists());
    // A move from one directory to another is one change: durable with either.
    fs::rename(data.join("b"), data.join("other/b")).unwrap();
    sync_dir(&data);
    mounted.cut(Lose::All, 1);
    assert!(!data.join("b").exists());
    assert_eq!(fs::read(data.join("other/b")).unwrap(), b"new");
    // Two names that change places.
    fs::rename(data.join("a"), data.join("tmp")).unwrap();
    fs::rename(data.join("other/b"), data.join("a")).unwrap();
    fs::rename(data.join("tmp"), data.join("other/b")).unwrap();
    sync_dir(&data);
    mounted.cut(Lose::All, 1);
    assert_eq!(fs::read(data.join("a")).unwrap(), b"new");
    assert_eq!(fs::read(data.join("other/b")).unwrap(), b"");
    mounted.agent.shutdown();
}

#[test]
fn parts_survive_as_asked() {
    let Some(mut mounted) = Mounted::new(|_| {}) else { return };
    let data = mounted.data.clone();
    let write = |bytes: &[&[u8]]| {
        let mut file = File::create(data.join("log")).unwrap();
        file.write_all(b"durable").unwrap();
        file.sync_all().unwrap();
        sync_dir(&data);
        bytes.iter().for_each(|bytes| file.write_all(bytes).unwrap());
    };
    let (mut torn, mut sequences) = (0, 0);
    for seed in 0..10 {
        write(&[&[1; 4000]]);
        let seen = mounted.cut(Lose::Torn, seed).seen;
        assert!(seen.contains("1 torn writes"), "{seen}");
        let left = fs::read(data.join("log")).unwrap();
        assert!(left.starts_with(b"durable"));
        let ones = left.iter().filter(|byte| **byte == 1).count();
        assert!(ones > 0 && ones < 4000, "{ones}");
        torn += usize::from(left[7..].contains(&0));

        write(&[b"1", b"2", b"3"]);
        mounted.cut(Lose::Sequence, seed);
        let left = fs::read(data.join("log")).unwrap();
        let lost = left[7..].iter().position(|byte| *byte == 0).unwrap();
        assert!(left[7 + lost..].iter().any(|byte| *byte != 0), "{left:?}");
        sequences += 1;

        let toss = |mounted: &mut Mounted| {
            write(&[b"1", b"2", b"3", b"4", b"5", b"6"]);
            mounted.cut(Lose::Subset, seed);
            fs::read(data.join("log")).unwrap()
        };
        assert_eq!(toss(&mut mounted), toss(&mut mounted), "one seed, one loss");
    }
    assert!(torn > 0 && sequences > 0);
    mounted.agent.shutdown();
}

#[test]
fn what_is_on_its_way_when_the_power_goes_is_not_acknowledged() {
    let Some(mut mounted) = Mounted::new(|_| {}) else { return };
    let log = mounted.data.join("log");
    let acked = mounted.root().join("acked");
    // Writes a number, syncs it, and only then says so.
    let script = format!(
        "open($f,'>>','{}')||die; open($a,'>>','{}')||die; $f->autoflush; $a->autoflush;\
         for($n=0;;$n++){{ printf $f \"%09d\\n\",$n; $f->sync||die; printf $a \"%09d\\n\",$n }}",
        log.display(),
        acked.display()
    );
    let mut unacknowledged = 0;
    for seed in 0..5 {
        let _ = fs::remove_file(&acked);
        fs::write(&log, "").unwrap();
        File::open(&log).unwrap().sync_all().unwrap();
        sync_dir(&mounted.data);
        mounted.start(&["perl", "-MIO::Handle", "-e", &script]);
        std::thread::sleep(Duration::from_millis(200));
        let lost = mounted.cut(Lose::All, seed);
        unacknowledged += lost.count;
        let acked = fs::read(&acked).unwrap();
        let kept = fs::read(&log).unwrap();
        assert!(!acked.is_empty() && kept.starts_with(&acked), "{} of {}", kept.len(), acked.len());
    }
    assert!(unacknowledged >= 3, "a cut should hit a write that waits for its fsync: {unacknowledged}");
    mounted.agent.shutdown();
}

#[test]
fn synchronous_writes_are_durable() {
    let Some(mut mounted) = Mounted::new(|data| fs::write(data.join("f"), "").unwrap()) else { return };
    for (flags, offset) in [(nix::libc::O_SYNC, 0), (nix::libc::O_DSYNC, 3)] {
        let file = OpenOptions::new().write(true).custom_flags(flags).open(mounted.data.join("f")).unwrap();
        file.write_all_at(b"abc", offset).unwrap();
    }
    mounted.cut(Lose::All, 1);
    assert_eq!(fs::read(mounted.data.join("f")).unwrap(), b"abcabc");
    mounted.agent.shutdown();
}

#[test]
fn errors_come_where_and_when_they_were_asked_for() {
    let Some(mut mounted) = Mounted::new(|_| {}) else { return };
    let data = mounted.data.clone();
    let errno = |result: std::io::Result<()>| result.err().and_then(|e| e.raw_os_error());
    for (error, number) in
        [(DiskError::Io, 5), (DiskError::NoSpace, 28), (DiskError::ReadOnly, 30), (DiskError::Quota, 122)]
    {
        let fails = Impairment::Fail(error);
        assert!(mounted.agent.inject("1-error", rule(&[DiskOp::Write], "*.log", When::Always, fails)).verified);
        assert_eq!(errno(fs::write(data.join("x.log"), "x")), Some(number));
        assert_eq!(errno(fs::write(data.join("x.txt"), "x")), None);
        let healed = mounted.heal("1-error");
        assert_eq!((healed.count, healed.unit.as_str()), (1, "disk operations hit"));
        assert_eq!(errno(fs::write(data.join("x.log"), "x")), None);
    }
    mounted.agent.inject("2-nth", rule(&[DiskOp::Fsync], "**", When::Nth(2), Impairment::Fail(DiskError::Io)));
    let file = File::create(data.join("f")).unwrap();
    let outcomes: Vec<Option<i32>> = (0..4).map(|_| errno(file.sync_all())).collect();
    assert_eq!(outcomes, [None, Some(5), None, None]);
    mounted.heal("2-nth");
    let all: Vec<DiskOp> = DiskOp::ALL.iter().map(|(_, op)| *op).collect();
    fs::create_dir(data.join("d")).unwrap();
    mounted.agent.inject("3-all", rule(&all, "**", When::Always, Impairment::Fail(DiskError::Io)));
    let tries: [std::io::Result<()>; 9] = [
        fs::write(data.join("new"), ""),
        fs::create_dir(data.join("e")),
        fs::rename(data.join("f"), data.join("g")),
        fs::hard_link(data.join("f"), data.join("g")),
        fs::remove_file(data.join("f")),
        fs::remove_dir(data.join("d")),
        fs::read_dir(&data).map(|_| ()),
        file.set_len(9),
        fs::set_permissions(data.join("f"), fs::Permissions::from_mode(0o600)),
    ];
    assert!(tries.into_iter().all(|result| errno(result) == Some(5)));
    assert!(mounted.heal("3-all").count >= 9);
    // Dead and healed: the very same operations work.
    fs::rename(data.join("f"), data.join("g")).unwrap();
    let bad = rule(&[DiskOp::Read], "[", When::Always, Impairment::Rot);
    let refused = mounted.agent.ask(Request::Inject { id: "4-x".to_owned(), fault: bad, lease_ms: 1000 }).unwrap_err();
    assert!(refused.message.contains("is no path pattern"), "{refused}");
    mounted.agent.shutdown();
}

#[test]
fn a_failed_fsync_leaves_pages_clean_and_lost() {
    let Some(mut mounted) = Mounted::new(|data| fs::write(data.join("f"), "....").unwrap()) else { return };
    let file = OpenOptions::new().read(true).write(true).open(mounted.data.join("f")).unwrap();
    mounted.agent.inject("1-fsync", rule(&[DiskOp::Fsync], "**", When::Always, Impairment::LoseOnFsync));
    file.write_all_at(b"lost", 0).unwrap();
    assert_eq!(file.sync_all().unwrap_err().raw_os_error(), Some(5));
    file.sync_all().unwrap();
    file.write_all_at(b"kept", 4).unwrap();
    file.sync_all().unwrap();
    assert_eq!(
        fs::read(mounted.data.join("f")).unwrap(),
        b"lostkept",
        "until the power is cut, it is as if it were there"
    );
    assert_eq!(mounted.heal("1-fsync").count, 1);
    mounted.cut(Lose::All, 1);
    assert_eq!(fs::read(mounted.data.join("f")).unwrap(), b"....kept");
    mounted.agent.shutdown();
}

#[test]
fn slow_and_hanging_operations() {
    let Some(mut mounted) = Mounted::new(|data| fs::write(data.join("f"), "abc").unwrap()) else { return };
    let slow = Impairment::Slow { delay_ms: 200 };
    mounted.agent.inject("1-slow", rule(&[DiskOp::Read], "f", When::Always, slow));
    let begun = Instant::now();
    assert_eq!(fs::read(mounted.data.join("f")).unwrap(), b"abc");
    assert!(begun.elapsed() >= Duration::from_millis(200), "{:?}", begun.elapsed());
    mounted.heal("1-slow");
    mounted.agent.inject("2-hang", rule(&[DiskOp::Fsync], "**", When::Always, Impairment::Hang));
    let (sender, receiver) = std::sync::mpsc::channel();
    let path = mounted.data.join("f");
    let hanging = std::thread::spawn(move || {
        let file = OpenOptions::new().write(true).open(path).unwrap();
        file.write_all_at(b"ABC", 0).unwrap();
        file.sync_all().unwrap();
        sender.send(()).unwrap();
    });
    assert!(receiver.recv_timeout(Duration::from_millis(500)).is_err(), "it hangs");
    fs::write(mounted.data.join("g"), "others go on").unwrap();
    // A process that hangs can be killed.
    let script = format!("open($f,'>>','{}')||die; print $f 'x'; $f->sync||die", mounted.data.join("g").display());
    mounted.start(&["perl", "-MIO::Handle", "-e", &script]);
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(mounted.status().state, ProcessState::Running);
    let killed = mounted.kill("3-kill");
    assert!(killed.verified, "{killed:?}");
    assert!(mounted.heal("2-hang").count >= 2);
    receiver.recv_timeout(Duration::from_secs(5)).expect("goes on after healing");
    hanging.join().unwrap();
    mounted.agent.shutdown();
}

#[test]
fn bits_rot_and_writes_go_astray() {
    let page = |n: u8| vec![n; 4096];
    let whole: Vec<u8> = (1..=4).flat_map(page).collect();
    let Some(mut mounted) = Mounted::new(|data| fs::write(data.join("f"), &whole).unwrap()) else { return };
    let path = mounted.data.join("f");
    assert_eq!(fs::read(&path).unwrap(), whole, "in the page cache now");
    mounted.agent.inject("1-rot", rule(&[DiskOp::Read], "**", When::Always, Impairment::Rot));
    let rotten = fs::read(&path).unwrap();
    let flipped: u32 = rotten.iter().zip(&whole).map(|(a, b)| (a ^ b).count_ones()).sum();
    assert_eq!(flipped, 4, "a bit in every page");
    assert_eq!(fs::read(&path).unwrap(), rotten, "the same ones again");
    assert_eq!(mounted.heal("1-rot").count, 8, "read from the disk each time the file is opened");
    assert_eq!(fs::read(&path).unwrap(), whole, "the disk was right all the time");
    mounted.agent.inject("2-astray", rule(&[DiskOp::Write], "f", When::Nth(1), Impairment::Misdirect));
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    file.write_all_at(&page(9), 4096).unwrap();
    file.sync_all().unwrap();
    assert_eq!(mounted.heal("2-astray").count, 1);
    let pages: Vec<u8> = fs::read(&path).unwrap().chunks(4096).map(|page| page[0]).collect();
    assert_eq!(pages[1], 2, "{pages:?}");
    assert_eq!(pages.iter().filter(|n| **n == 9).count(), 1, "{pages:?}");
    mounted.agent.shutdown();
}

#[test]
fn a_dead_disk_hangs_nobody_and_is_taken_away() {
    let Some(mut mounted) = Mounted::new(|data| fs::write(data.join("f"), "durable").unwrap()) else { return };
    let file = File::create(mounted.data.join("g")).unwrap();
    mounted.kill_disk();
    let begun = Instant::now();
    let error = (&file).write_all(b"x").and_then(|()| file.sync_all()).unwrap_err();
    assert!([nix::libc::ENOTCONN, nix::libc::ECONNABORTED].contains(&error.raw_os_error().unwrap()), "{error}");
    assert!(fs::read(mounted.data.join("f")).is_err());
    assert!(begun.elapsed() < Duration::from_secs(5));
    // Whoever comes later mounts it anew, and has the durable part.
    assert!(mounted.agent.inject("9-again", disk()).verified);
    assert_eq!(fs::read(mounted.data.join("f")).unwrap(), b"durable");
    assert!(!mounted.data.join("g").exists());
    mounted.agent.shutdown();
    assert_eq!(fs::read(mounted.data.join("f")).unwrap(), b"durable");
}

#[test]
fn it_ends_with_the_lease() {
    let Some(mut mounted) = Mounted::with_lease(1000, |_| {}) else { return };
    fs::write(mounted.data.join("f"), "made durable by the end").unwrap();
    let disk = mounted.disk_pid();
    mounted.agent.kill_9();
    common::wait_for("the watchdog to end the disk", || !std::path::Path::new(&format!("/proc/{disk}")).exists());
    common::wait_for("the mount to go", || fs::read(mounted.data.join("f")).is_ok());
    assert_eq!(fs::read(mounted.data.join("f")).unwrap(), b"made durable by the end");
}
