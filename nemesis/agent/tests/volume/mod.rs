//! An agent with a disk over its directory `data`.

use crate::common::Agent;
use squall_agent::disk::{Directories, Lose};
use squall_agent::faults::Fault;
use squall_agent::faults::disk::Disk;
use squall_agent::faults::kill::Kill;
use squall_agent::faults::power_cut::PowerCut;
use squall_agent::protocol::{Evidence, ProcessStatus, Reply, Request, StartProcess};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// The name of the process that uses the disk.
const USER: &str = "user";

pub(crate) struct Mounted {
    pub(crate) agent: Agent,
    pub(crate) data: PathBuf,
    root: tempfile::TempDir,
    cuts: u64,
}

pub(crate) fn disk() -> Fault {
    Fault::Disk(Disk { dir: "data".to_owned(), directories: None })
}

pub(crate) fn sync_dir(dir: &Path) {
    File::open(dir).unwrap().sync_all().unwrap();
}

impl Mounted {
    /// `None`, and said so, where there is no FUSE for us.
    pub(crate) fn new(before: impl FnOnce(&Path)) -> Option<Self> {
        Self::with_lease(60_000, before)
    }

    pub(crate) fn with_lease(lease_ms: u64, before: impl FnOnce(&Path)) -> Option<Self> {
        let fuse = fs::OpenOptions::new().read(true).write(true).open("/dev/fuse");
        if !nix::unistd::geteuid().is_root() || fuse.is_err() {
            eprintln!("SKIPPED: needs root and /dev/fuse");
            return None;
        }
        let root = tempfile::tempdir().unwrap();
        let data = root.path().join("data");
        fs::create_dir(&data).unwrap();
        before(&data);
        let mut agent = Agent::start(root.path(), lease_ms);
        let mounted = agent.fault(Request::Inject { id: "0-disk".to_owned(), fault: disk(), lease_ms: 0 });
        assert!(mounted.verified, "{mounted:?}");
        Some(Self { agent, data, root, cuts: 0 })
    }

    pub(crate) fn root(&self) -> &Path {
        self.root.path()
    }

    pub(crate) fn start(&mut self, argv: &[&str]) {
        let start = StartProcess {
            name: USER.to_owned(),
            argv: argv.iter().map(|&argument| argument.to_owned()).collect(),
            env: BTreeMap::new(),
            cwd: String::new(),
            log: "user.log".to_owned(),
        };
        self.agent.ask(Request::Start(start)).unwrap();
    }

    pub(crate) fn status(&mut self) -> ProcessStatus {
        match self.agent.ask(Request::Status { name: USER.to_owned() }).unwrap() {
            Reply::Process(status) => status,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn heal(&mut self, id: &str) -> Evidence {
        let healed = self.agent.fault(Request::Heal { id: id.to_owned() });
        assert!(healed.verified, "{healed:?}");
        healed
    }

    pub(crate) fn kill(&mut self, id: &str) -> Evidence {
        let killed = self.agent.inject(id, Fault::Kill(Kill { process: USER.to_owned() }));
        self.heal(id);
        killed
    }

    /// From now on any fsync makes all changes of directories durable before it.
    pub(crate) fn journal_directories(&mut self) {
        let disk = Disk { dir: "data".to_owned(), directories: Some(Directories::Journaled) };
        assert!(self.agent.inject("0-journaled", Fault::Disk(disk)).verified);
    }

    /// Ends the process in peace.
    pub(crate) fn stop(&mut self) {
        self.agent.ask(Request::Stop { name: USER.to_owned(), signal: 15, grace_ms: 10_000 }).unwrap();
    }

    /// Cuts the power, under the process that was started if there is one.
    pub(crate) fn cut(&mut self, lose: Lose, seed: u64) -> Evidence {
        self.cuts += 1;
        let id = format!("{}-cut", self.cuts);
        let (process, dirs) = (USER.to_owned(), vec!["data".to_owned()]);
        let cut = self.agent.inject(&id, Fault::PowerCut(PowerCut { process, dirs, lose, seed }));
        self.heal(&id);
        cut
    }

    pub(crate) fn disk_pid(&self) -> u32 {
        let record = fs::read(self.root().join("agent/processes/helper.disk.data.json")).unwrap();
        let record: serde_json::Value = serde_json::from_slice(&record).unwrap();
        record["pid"].as_u64().unwrap() as u32
    }

    pub(crate) fn kill_disk(&self) {
        let pid = self.disk_pid();
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid as i32), nix::sys::signal::Signal::SIGKILL).unwrap();
        crate::common::wait_for("the disk to die", || {
            fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |stat| stat.contains(") Z"))
        });
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // A test that failed leaves nothing behind, and nobody hanging.
        if std::thread::panicking() {
            let _ = self.agent.ask(Request::Shutdown);
        }
    }
}
