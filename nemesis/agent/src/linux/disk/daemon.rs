//! The process that serves a node's disk: mounts it, and does what it is asked on a socket in the agent's own folder.
//!
//! It outlives the agent that started it, and ends when it is asked to, when it is killed (then the kernel aborts the
//! connection, and whoever waits for it gets an error), or with the namespaces that it runs in.

use super::client::folder;
use super::fuse::Mounted;
use super::power::Disk;
use super::tree::Node;
use super::volume::Volume;
use crate::disk::{Directories, DiskOp, Impairment, Lose, Lost, Rule};
use crate::linux::helper::Here;
use anyhow::{Context, bail};
use fuser::{Config, INodeNo, Notifier, Session, SessionACL};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde::{Deserialize, Serialize};
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Requests that are served at a time. One that waits for a real fsync takes a thread, so more than there are processors.
const THREADS: usize = 8;

/// How long what was mounted may take to end.
const UNMOUNT_TIME_MAX: Duration = Duration::from_secs(5);

/// What a disk can be asked.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Ask {
    /// Whether it is there.
    Ping,
    /// Put a rule in force.
    Add { id: String, rule: Rule },
    /// How often a rule has hit.
    Count { id: String },
    /// Take a rule out; how often it has hit.
    Remove { id: String },
    /// When changes of directories are durable from now on.
    Directories { directories: Directories },
    /// Let nothing become durable from now on: the power is about to be cut.
    Hold { hold: bool },
    /// Cut the power. Whoever used the disk is dead by now, or gets EIO.
    Cut { lose: Lose, seed: u64 },
    /// Make everything durable.
    Sync,
    /// Make everything durable, unmount, end.
    End,
}

/// What it answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Said {
    Done,
    /// How often; `None` when no such rule is in force.
    Count(Option<u64>),
    Lost(Lost),
    Failed(String),
}

/// The socket: by way of an open folder, for a path in a socket's address may hold 107 bytes at most.
pub(crate) fn socket(folder: &File) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}/control", folder.as_raw_fd()))
}

struct Daemon {
    disk: Arc<Disk>,
    mountpoint: PathBuf,
    mounted: Mutex<Option<Serving>>,
}

/// What is mounted now.
struct Serving {
    notifier: Notifier,
    thread: thread::JoinHandle<()>,
}

/// The life of a disk, as a helper: mounts over the directory that is its argument and serves until it is asked to end.
///
/// # Errors
/// When FUSE is not to be had here; the sentence says what to do.
pub(crate) fn serve(here: &Here<'_>) -> anyhow::Result<()> {
    let [dir] = here.args else { bail!("a disk is started by the agent itself") };
    raise_file_limit();
    let folder_path = folder(here.state, dir);
    let limbo = folder_path.join("limbo");
    fs::create_dir_all(&limbo).with_context(|| format!("cannot create {}", limbo.display()))?;
    let mountpoint = here.state.root.join(dir);
    // Opened before something is mounted over it: what is reached from here is what is below.
    let base = File::open(&mountpoint).with_context(|| format!("cannot open {}", mountpoint.display()))?;
    let below = PathBuf::from(format!("/proc/self/fd/{}", base.as_raw_fd()));
    same_file_system(&below, &limbo)?;
    let volume = Volume::open(&below, &limbo)
        .map_err(|errno| anyhow::anyhow!("cannot read {}: {errno}", mountpoint.display()))?;
    let daemon = Arc::new(Daemon { disk: Arc::new(Disk::new(volume)), mountpoint, mounted: Mutex::new(None) });
    daemon.mount()?;
    let folder_file = File::open(&folder_path)?;
    let socket = socket(&folder_file);
    // One that an earlier disk has left.
    let _ = fs::remove_file(&socket);
    let listener =
        UnixListener::bind(&socket).with_context(|| format!("cannot listen in {}", folder_path.display()))?;
    here.ready()?;
    for stream in listener.incoming().flatten() {
        let daemon = daemon.clone();
        thread::spawn(move || {
            // One that hangs up early is of no interest.
            let _ = daemon.converse(&stream);
        });
    }
    bail!("the control socket is gone")
}

/// A database may have thousands of files open.
fn raise_file_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        // With fewer it goes on for longer.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}

fn same_file_system(a: &Path, b: &Path) -> anyhow::Result<()> {
    let from = a.join(".squall-probe");
    File::create(&from).context("the data directory cannot be written")?;
    let moved = fs::rename(&from, b.join("probe"));
    let _ = fs::remove_file(&from);
    moved.with_context(|| format!("{} must be on the same file system as the data directory", b.display()))
}

impl Daemon {
    fn mounted(&self) -> std::sync::MutexGuard<'_, Option<Serving>> {
        self.mounted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Mounts the disk as it is after the last power cut.
    fn mount(&self) -> anyhow::Result<()> {
        const DEVICE: &str = "/dev/fuse";
        let device = OpenOptions::new().read(true).write(true).open(DEVICE).with_context(|| {
            format!("disk faults need FUSE, and {DEVICE} cannot be opened (run `modprobe fuse`; not root: `chmod 666 {DEVICE}`)")
        })?;
        let options = format!(
            "fd={},rootmode=40000,user_id={},group_id={},allow_other,default_permissions",
            device.as_raw_fd(),
            nix::unistd::getuid(),
            nix::unistd::getgid()
        );
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOATIME;
        mount(Some("squall"), &self.mountpoint, Some("fuse.squall"), flags, Some(options.as_str())).with_context(
            || {
                format!(
                    "cannot mount the node's disk over {} (in a user namespace that takes Linux 4.18)",
                    self.mountpoint.display()
                )
            },
        )?;
        let mut config = Config::default();
        config.n_threads = Some(THREADS);
        config.clone_fd = true;
        let session = Session::from_fd(Mounted::new(self.disk.clone()), OwnedFd::from(device), SessionACL::All, config)
            .context("the kernel and the disk do not understand each other")?;
        let notifier = session.notifier();
        let thread = thread::Builder::new().name("session".to_owned()).spawn(move || {
            if let Err(error) = session.run() {
                eprintln!("the disk's session ended: {error}");
            }
        })?;
        *self.mounted() = Some(Serving { notifier, thread });
        Ok(())
    }

    /// Unmounts. Pages of shared mappings are written back on the way, unless a process still uses the mount: then it ends
    /// with its last user.
    fn unmount(&self) -> anyhow::Result<()> {
        umount2(&self.mountpoint, MntFlags::MNT_DETACH)
            .with_context(|| format!("cannot unmount {}", self.mountpoint.display()))?;
        let Some(serving) = self.mounted().take() else { return Ok(()) };
        let deadline = Instant::now() + UNMOUNT_TIME_MAX;
        while !serving.thread.is_finished() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    fn converse(&self, stream: &UnixStream) -> anyhow::Result<()> {
        let mut lines = BufReader::new(stream).lines();
        while let Some(line) = lines.next().transpose()? {
            let ask: Ask = serde_json::from_str(&line)?;
            let ends = matches!(ask, Ask::End);
            let said = self.answer(ask).unwrap_or_else(|error| Said::Failed(format!("{error:#}")));
            let mut stream = stream;
            stream.write_all(format!("{}\n", serde_json::to_string(&said)?).as_bytes())?;
            if ends && said == Said::Done {
                std::process::exit(0);
            }
        }
        Ok(())
    }

    fn answer(&self, ask: Ask) -> anyhow::Result<Said> {
        let failed = |errno: nix::errno::Errno| anyhow::anyhow!("the file system below says {errno}");
        Ok(match ask {
            Ask::Ping => Said::Done,
            Ask::Add { id, rule } => {
                let reads = rule.ops.contains(&DiskOp::Read);
                self.disk.rules.add(&id, rule, self.disk.used().map_err(failed)?).map_err(anyhow::Error::msg)?;
                if reads {
                    self.forget_pages();
                }
                Said::Done
            }
            Ask::Count { id } => Said::Count(self.disk.rules.count(&id)),
            Ask::Remove { id } => {
                let removed = self.disk.rules.remove(&id);
                if let Some((Rule { effect: Impairment::Rot | Impairment::Misdirect, .. }, _)) = removed {
                    self.forget_pages();
                }
                Said::Count(removed.map(|(_, hits)| hits))
            }
            Ask::Directories { directories } => {
                self.disk.volume.set_directories(directories);
                Said::Done
            }
            Ask::Hold { hold } => {
                self.disk.hold(hold);
                Said::Done
            }
            Ask::Cut { lose, seed } => {
                self.unmount()?;
                let lost = self.disk.cut(lose, seed).map_err(failed)?;
                self.mount()?;
                Said::Lost(lost)
            }
            Ask::Sync => {
                self.disk.volume.sync_all().map_err(failed)?;
                Said::Done
            }
            Ask::End => {
                self.unmount()?;
                self.disk.volume.sync_all().map_err(failed)?;
                Said::Done
            }
        })
    }

    /// Has the kernel forget all pages that it has of files, so that they are read again. Dirty ones are written first.
    fn forget_pages(&self) {
        let files: Vec<u64> = {
            let tree = self.disk.volume.tree();
            tree.inodes.iter().filter(|(_, i)| matches!(i.node, Node::File(_))).map(|(ino, _)| *ino).collect()
        };
        let Some(notifier) = self.mounted().as_ref().map(|serving| serving.notifier.clone()) else { return };
        for ino in files {
            // One that the kernel does not know is forgotten already.
            let _ = notifier.inval_inode(INodeNo(ino), 0, 0);
        }
    }
}
