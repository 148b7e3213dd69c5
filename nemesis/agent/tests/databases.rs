//! Real databases on a disk of ours whose power is cut again and again: with their durable settings nothing is lost that
//! was acknowledged and their own integrity checks pass; without syncing the loss is seen.

#[expect(dead_code, reason = "shared with other tests")]
mod common;
#[expect(dead_code, reason = "shared with other tests")]
mod volume;

use common::wait_for;
use squall_agent::disk::Lose;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use volume::Mounted;

/// Cuts in a row, each with a seed of its own.
const CUTS: [Lose; 8] =
    [Lose::All, Lose::Subset, Lose::Torn, Lose::Sequence, Lose::Subset, Lose::All, Lose::Sequence, Lose::Torn];

fn has(program: &str) -> bool {
    let found = Command::new("sh").args(["-c", &format!("command -v {program}")]).output().unwrap().status.success();
    if !found {
        eprintln!("skipped: needs {program}");
    }
    found
}

fn run(command: &str) -> (bool, String) {
    let output = Command::new("sh").args(["-c", command]).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).trim().to_owned())
}

/// The highest number that was acknowledged: a line each, perhaps cut in the last one.
fn acknowledged(path: &Path) -> u64 {
    let text = fs::read_to_string(path).unwrap_or_default();
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    whole.lines().filter_map(|line| line.parse().ok()).max().unwrap_or(0)
}

/// Rows 1, 2, 3, … by one process that says which of them are committed; cut in the middle, and looked at.
struct Sqlite {
    mounted: Mounted,
    pragmas: &'static str,
}

impl Sqlite {
    fn new(pragmas: &'static str) -> Option<Self> {
        if !has("sqlite3") {
            return None;
        }
        let mounted = Mounted::new(|data| {
            let made = run(&format!(
                "sqlite3 {}/db '{pragmas}; CREATE TABLE t(n INTEGER PRIMARY KEY, b BLOB)'",
                data.display()
            ));
            assert!(made.0, "{made:?}");
        })?;
        Some(Self { mounted, pragmas })
    }

    /// What the integrity check says after a cut, how many rows were acknowledged, and how many are there.
    fn cut(&mut self, lose: Lose, seed: u64) -> (String, u64, u64) {
        let (root, db) = (self.mounted.root().to_owned(), self.mounted.data.join("db"));
        let acked = root.join("acked");
        let first = acknowledged(&acked) + 1;
        let script = format!(
            "awk 'BEGIN {{ print \"{pragmas};\"; for (i = {first}; ; i++) \
             print \"INSERT OR REPLACE INTO t VALUES(\" i \",randomblob(700));\\nSELECT \" i \";\" }}' | \
             stdbuf -oL sqlite3 {db} >>{acked} 2>>{root}/errors",
            pragmas = self.pragmas,
            db = db.display(),
            acked = acked.display(),
            root = root.display(),
        );
        self.mounted.start(&["sh", "-c", &script]);
        wait_for("a few rows", || acknowledged(&acked) > first + 5);
        std::thread::sleep(Duration::from_millis(50 + 37 * (seed % 7)));
        self.mounted.cut(lose, seed);
        let (_, check) = run(&format!("sqlite3 {} 'PRAGMA integrity_check'", db.display()));
        let (_, count) = run(&format!("sqlite3 {} 'SELECT count(*) FROM t'", db.display()));
        (check, acknowledged(&acked), count.parse().unwrap_or(0))
    }
}

#[test]
fn sqlite_loses_nothing_when_it_syncs() {
    // A rollback journal is durable only with its directory synced after the commit: that is EXTRA.
    for pragmas in
        ["PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL", "PRAGMA journal_mode=DELETE; PRAGMA synchronous=EXTRA"]
    {
        let Some(mut sqlite) = Sqlite::new(pragmas) else { return };
        for (seed, lose) in CUTS.into_iter().enumerate() {
            let (check, acked, count) = sqlite.cut(lose, seed as u64);
            assert_eq!(check, "ok", "{pragmas}, cut {seed} ({lose:?})");
            assert!(count >= acked, "{pragmas}, cut {seed} ({lose:?}): {count} of {acked} acknowledged rows");
        }
        sqlite.mounted.agent.shutdown();
    }
}

#[test]
fn sqlite_loses_what_it_does_not_sync() {
    let Some(mut sqlite) = Sqlite::new("PRAGMA journal_mode=DELETE; PRAGMA synchronous=OFF") else { return };
    let (check, acked, count) = sqlite.cut(Lose::All, 1);
    // Nothing was ever synced: the database is as it was when it was mounted.
    assert_eq!((check.as_str(), count), ("ok", 0));
    assert!(acked > 0);
    // And parts of what was written are worse than nothing.
    let damaged = (0..8).any(|seed| sqlite.cut(Lose::Subset, seed).0 != "ok");
    assert!(damaged, "a subset of unsynced pages should break a database in eight cuts");
    sqlite.mounted.agent.shutdown();
}

/// One etcd and somebody who puts keys 1, 2, 3, … and says which of them were acknowledged.
struct Etcd {
    mounted: Mounted,
    extra: &'static str,
    ports: (u16, u16),
}

impl Etcd {
    fn new(extra: &'static str) -> Option<Self> {
        if !has("etcd") || !has("etcdctl") {
            return None;
        }
        let free = || std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        Some(Self { mounted: Mounted::new(|_| {})?, extra, ports: (free(), free()) })
    }

    fn ctl(&self) -> String {
        format!("ETCDCTL_API=3 etcdctl --endpoints http://127.0.0.1:{} --command-timeout=2s", self.ports.0)
    }

    fn serve(&self) -> String {
        let (client, peer) =
            (format!("http://127.0.0.1:{}", self.ports.0), format!("http://127.0.0.1:{}", self.ports.1));
        format!(
            "etcd --name n --data-dir {} --listen-client-urls {client} --advertise-client-urls {client} \
             --listen-peer-urls {peer} --initial-advertise-peer-urls {peer} --initial-cluster n={peer} \
             --heartbeat-interval 10 --election-timeout 60 --snapshot-count 100 {}",
            self.mounted.data.join("etcd").display(),
            self.extra
        )
    }

    /// What bbolt's check of the database says after a cut, how many keys were acknowledged, and how many are there.
    fn cut(&mut self, lose: Lose, seed: u64) -> (Result<(), String>, u64, u64) {
        let (acked, data) = (self.mounted.root().join("acked"), self.mounted.data.clone());
        let first = acknowledged(&acked) + 1;
        let script = format!(
            "{} & n={first}; while :; do {} put $n $n >/dev/null 2>&1 && echo $n >>{} && n=$((n+1)); done",
            self.serve(),
            self.ctl(),
            acked.display()
        );
        self.mounted.start(&["sh", "-c", &script]);
        wait_for("a few keys", || acknowledged(&acked) > first + 12);
        std::thread::sleep(Duration::from_millis(37 * (seed % 7)));
        self.mounted.cut(lose, seed);
        let db = data.join("etcd/member/snap/db");
        let check = match run(&format!("ETCDCTL_API=3 etcdctl snapshot status {}", db.display())) {
            (true, _) => Ok(()),
            (false, why) => Err(why),
        };
        self.mounted.start(&["sh", "-c", &self.serve()]);
        let mut found = (false, String::new());
        for _ in 0..40 {
            found = run(&format!("{} get '' --prefix --keys-only", self.ctl()));
            if found.0 {
                break;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        self.mounted.kill("9-kill");
        let keys = found.1.lines().filter(|line| line.parse::<u64>().is_ok()).count() as u64;
        (check, acknowledged(&acked), if found.0 { keys } else { 0 })
    }
}

#[test]
fn etcd_loses_nothing_when_it_syncs() {
    let Some(mut etcd) = Etcd::new("") else { return };
    // It does not sync the directory of its database after creating it, and relies on a journal.
    etcd.mounted.journal_directories();
    for (seed, lose) in CUTS.into_iter().enumerate() {
        let (check, acked, keys) = etcd.cut(lose, seed as u64);
        assert_eq!(check, Ok(()), "cut {seed} ({lose:?})");
        assert!(keys >= acked, "cut {seed} ({lose:?}): {keys} of {acked} acknowledged keys");
    }
    etcd.mounted.agent.shutdown();
}

#[test]
fn etcd_loses_what_it_does_not_sync() {
    let Some(mut etcd) = Etcd::new("--unsafe-no-fsync") else { return };
    let (_, acked, keys) = etcd.cut(Lose::All, 1);
    assert!(keys < acked, "{keys} of {acked} keys are still there");
    etcd.mounted.agent.shutdown();
}

#[test]
fn redb_loses_nothing_when_it_syncs() {
    use redb::{ReadableDatabase, ReadableTableMetadata};
    const TABLE: redb::TableDefinition<'static, u64, &'static [u8]> = redb::TableDefinition::new("t");
    let Some(mut mounted) = Mounted::new(|_| {}) else { return };
    let path = mounted.data.join("db");
    let mut committed = 0;
    for (seed, lose) in CUTS.into_iter().enumerate() {
        let mut db = redb::Database::create(&path).unwrap();
        // Its own name is its user's business.
        volume::sync_dir(&mounted.data);
        assert!(db.check_integrity().is_ok(), "cut {seed}");
        let rows = |db: &redb::Database| {
            let read = db.begin_read().unwrap();
            read.open_table(TABLE).map_or(0, |table| table.len().unwrap())
        };
        assert!(rows(&db) >= committed, "cut {seed} ({lose:?})");
        for _ in 0..20 {
            let write = db.begin_write().unwrap();
            write.open_table(TABLE).unwrap().insert(committed, [7u8; 500].as_slice()).unwrap();
            write.commit().unwrap();
            committed += 1;
        }
        let unfinished = db.begin_write().unwrap();
        unfinished.open_table(TABLE).unwrap().insert(u64::MAX, [9u8; 5000].as_slice()).unwrap();
        mounted.cut(lose, seed as u64);
        // Its file is gone under it: whatever it says at its end is of no interest.
        std::mem::forget(unfinished);
        std::mem::forget(db);
    }
    mounted.agent.shutdown();
}

/// Pages of a shared mapping: durable when they were synced, lost when not, even though no process wrote them by a call.
#[test]
fn shared_mappings_are_files_too() {
    let Some(mut mounted) = Mounted::new(|data| fs::write(data.join("f"), vec![b'.'; 8192]).unwrap()) else { return };
    let path = mounted.data.join("f");
    let file = fs::OpenOptions::new().read(true).write(true).open(&path).unwrap();
    #[expect(unsafe_code, reason = "a shared mapping is what is tested")]
    // SAFETY: nobody else has the file, and it does not shrink.
    let mut map = unsafe { memmap2::MmapMut::map_mut(&file) }.unwrap();
    map[..4].copy_from_slice(b"kept");
    assert_eq!(fs::read(&path).unwrap()[..4], *b"kept", "one page cache for both");
    map.flush().unwrap();
    map[4096..4100].copy_from_slice(b"lost");
    drop((map, file));
    mounted.cut(Lose::All, 1);
    let found = fs::read(&path).unwrap();
    assert_eq!((&found[..4], &found[4096..4100]), (&b"kept"[..], &b"...."[..]));
    mounted.agent.shutdown();
}

/// PostgreSQL, with checksums of its pages, whose own check looks at all of them.
#[test]
fn postgres_loses_nothing_when_it_syncs() {
    let bin = "/usr/lib/postgresql/15/bin";
    if !Path::new(bin).join("initdb").exists() || !run("id -u postgres").0 {
        eprintln!("skipped: needs PostgreSQL 15 and its user");
        return;
    }
    let as_postgres = "setpriv --reuid=postgres --regid=postgres --clear-groups";
    let Some(mut mounted) = Mounted::new(|data| {
        let root = data.parent().unwrap().display();
        let (made, why) = run(&format!(
            "chmod 755 {root} && chown postgres {root}/data && cd / && \
             {as_postgres} {bin}/initdb -D {root}/data/pg -k -A trust --no-sync"
        ));
        assert!(made, "{why}");
    }) else {
        return;
    };
    let (root, pg) = (mounted.root().to_owned(), mounted.data.join("pg").display().to_string());
    let sockets = root.join("sockets");
    fs::create_dir(&sockets).unwrap();
    run(&format!("chown postgres {}", sockets.display()));
    let psql = format!("{as_postgres} psql -qtA -h {} -d postgres", sockets.display());
    let serve =
        format!("cd /; {as_postgres} {bin}/postgres -D {pg} -k {} -c listen_addresses= & wait", sockets.display());
    let acked = root.join("acked");
    for (seed, lose) in CUTS.into_iter().take(4).enumerate() {
        mounted.start(&["sh", "-c", &serve]);
        wait_for("PostgreSQL", || run(&format!("{psql} -c 'create table if not exists t(n int primary key)'")).0);
        let first = acknowledged(&acked) + 1;
        let rows = format!(
            "cd /; awk 'BEGIN {{ for (i = {first}; ; i++) print \"insert into t values(\" i \") on conflict do nothing; select \" i \";\" }}' \
             | {psql} >>{} 2>/dev/null",
            acked.display()
        );
        let mut writer = Command::new("sh").args(["-c", &rows]).spawn().unwrap();
        wait_for("a few rows", || acknowledged(&acked) > first + 20);
        mounted.cut(lose, seed as u64);
        writer.wait().unwrap();
        // It does not start with an empty one, which it says an administrator should remove after a crash.
        let _ = fs::remove_file(Path::new(&pg).join("postmaster.pid"));
        // The folder of sockets is in memory on a real machine. A lock file in it names a process that is dead, but perhaps
        // not collected yet.
        for entry in fs::read_dir(&sockets).unwrap().flatten() {
            fs::remove_file(entry.path()).unwrap();
        }
        mounted.start(&["sh", "-c", &serve]);
        let mut count = (false, String::new());
        wait_for("recovery", || {
            count = run(&format!("{psql} -c 'select count(*) from t'"));
            count.0
        });
        let acked = acknowledged(&acked);
        assert!(count.1.parse::<u64>().unwrap() >= acked, "cut {seed} ({lose:?}): {} of {acked}", count.1);
        mounted.stop();
        let (sound, why) = run(&format!("cd /; {as_postgres} {bin}/pg_checksums --check -D {pg}"));
        assert!(sound, "cut {seed} ({lose:?}): {why}");
    }
    mounted.agent.shutdown();
}
