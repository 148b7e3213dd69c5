//! A [`Disk`] as a file system in user space.
//!
//! The kernel caches what is read, names and attributes for as long as it likes: nobody but its own callers changes them.
//! It writes through, so every write(2) is one change here; pages of shared mappings come when they are written back, and
//! before the fsync that follows them. Extended attributes, locks (the kernel has its own), holes and copies within the
//! kernel are not offered: callers fall back.

use super::below::{Attr, Kind};
use super::data::Change;
use super::listings::Listings;
use super::power::Disk;
use super::rules::Hits;
use super::tree::Ino;
use super::volume::SetAttr;
use crate::disk::DiskOp;
use fuser::{
    BsdFileFlags, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, InitFlags,
    KernelConfig, LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty,
    ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite, Request, TimeOrNow, WriteFlags,
};
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, SystemTime};

/// How long the kernel may remember names and attributes.
const REMEMBER: Duration = Duration::from_secs(3600);

/// Longest write in one request (bytes).
const WRITE_LEN_MAX: u32 = 1 << 20;

/// O_DSYNC, which O_SYNC includes.
const O_DSYNC: i32 = 0o10000;

/// Flags of fallocate(2).
const KEEP_SIZE: i32 = 1;
const PUNCH_HOLE: i32 = 2;
const ZERO_RANGE: i32 = 16;

/// A [`Disk`] as it is mounted until the next power cut.
#[derive(Clone)]
pub(super) struct Mounted {
    disk: Arc<Disk>,
    cuts: u64,
    listings: Arc<Listings>,
}

/// Something that can be answered with an error.
trait Answer: Send + 'static {
    fn refuse(self, errno: nix::errno::Errno);
}

macro_rules! answers {
    ($($reply:ty),*) => {
        $(impl Answer for $reply {
            fn refuse(self, errno: nix::errno::Errno) {
                self.error(Errno::from_i32(errno as i32));
            }
        })*
    };
}
answers!(ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite);

type Done<T> = Result<T, nix::errno::Errno>;

/// Answers with what came of it.
fn answer<R: Answer, T>(reply: R, done: Done<T>, say: impl FnOnce(R, T)) {
    match done {
        Ok(value) => say(reply, value),
        Err(errno) => reply.refuse(errno),
    }
}

fn file_type(kind: Kind) -> FileType {
    match kind {
        Kind::File => FileType::RegularFile,
        Kind::Dir => FileType::Directory,
        Kind::Link => FileType::Symlink,
        Kind::Fifo => FileType::NamedPipe,
        Kind::Socket => FileType::Socket,
        Kind::BlockDevice => FileType::BlockDevice,
        Kind::CharDevice => FileType::CharDevice,
    }
}

fn file_attr(ino: Ino, attr: &Attr) -> FileAttr {
    FileAttr {
        ino: INodeNo(ino),
        size: attr.len,
        blocks: attr.len.div_ceil(512),
        atime: attr.atime,
        mtime: attr.mtime,
        ctime: attr.ctime,
        crtime: attr.ctime,
        kind: file_type(attr.kind),
        perm: attr.mode as u16,
        nlink: attr.nlink,
        uid: attr.uid,
        gid: attr.gid,
        rdev: attr.rdev,
        blksize: 4096,
        flags: 0,
    }
}

fn say_entry(reply: ReplyEntry, (ino, attr): (Ino, Attr)) {
    reply.entry(&REMEMBER, &file_attr(ino, &attr), Generation(0));
}

/// What `mode` of mknod(2) makes.
fn kind_of(mode: u32) -> Kind {
    match mode & 0o170_000 {
        0o010_000 => Kind::Fifo,
        0o140_000 => Kind::Socket,
        0o060_000 => Kind::BlockDevice,
        0o020_000 => Kind::CharDevice,
        _ => Kind::File,
    }
}

fn is_synchronous(flags: OpenFlags) -> bool {
    flags.0 & O_DSYNC != 0
}

impl Mounted {
    /// `disk` as it is from now to the next power cut.
    pub(super) fn new(disk: Arc<Disk>) -> Self {
        Self { cuts: disk.cuts(), disk, listings: Arc::default() }
    }

    /// Does `job` for process `pid` unless a rule has it fail; where a rule delays it, on a thread of its own.
    fn run<R: Answer>(
        &self,
        pid: u32,
        op: DiskOp,
        syncs: bool,
        path: impl FnOnce(&Disk) -> PathBuf,
        reply: R,
        job: impl FnOnce(&Disk, &Hits, R) + Send + 'static,
    ) {
        self.run_with_bytes(pid, (op, 0), syncs, path, reply, job);
    }

    /// The same for an operation on so many bytes.
    fn run_with_bytes<R: Answer>(
        &self,
        pid: u32,
        (op, bytes): (DiskOp, u64),
        syncs: bool,
        path: impl FnOnce(&Disk) -> PathBuf,
        reply: R,
        job: impl FnOnce(&Disk, &Hits, R) + Send + 'static,
    ) {
        let hits = self.disk.rules.hits(op, bytes, || path(&self.disk));
        let begin = |mounted: &Self, hits: &Hits, reply: R| match mounted.disk.enter(mounted.cuts) {
            Err(errno) => reply.refuse(errno),
            Ok(_entered) => match hits.error() {
                Some(errno) => reply.refuse(errno),
                None => job(&mounted.disk, hits, reply),
            },
        };
        if !(hits.wait() || syncs && self.disk.is_held()) {
            return begin(self, &hits, reply);
        }
        let mounted = self.clone();
        let later = move || match mounted.disk.wait(pid, &hits, syncs, mounted.cuts) {
            Ok(()) => begin(&mounted, &hits, reply),
            Err(errno) => reply.refuse(errno),
        };
        // Without a thread nobody answers, and fuser says EIO for a reply that is dropped.
        let _ = thread::Builder::new().name("later".to_owned()).spawn(later);
    }

    /// What no rule is about.
    fn plain<R: Answer>(&self, reply: R, job: impl FnOnce(&Disk, R)) {
        match self.disk.enter(self.cuts) {
            Ok(_entered) => job(&self.disk, reply),
            Err(errno) => reply.refuse(errno),
        }
    }

    fn make(
        &self,
        request: &Request,
        (parent, name): (INodeNo, &OsStr),
        (kind, mode, rdev): (Kind, u32, u32),
        target: PathBuf,
        reply: ReplyEntry,
    ) {
        let op = if kind == Kind::Dir { DiskOp::Mkdir } else { DiskOp::Create };
        let (uid, gid) = (request.uid(), request.gid());
        let name = name.to_owned();
        let path = below(parent, &name);
        self.run(request.pid(), op, false, path, reply, move |disk, hits, reply| {
            let _filling = hits.capacity().map(|_| filling(disk));
            let room = if kind == Kind::Dir { disk.room_for_dir(hits) } else { Ok(()) };
            let attr = room.and_then(|()| new_attr(disk, parent, kind, mode, uid, gid, rdev));
            answer(reply, attr.and_then(|attr| disk.volume.make(parent.0, &name, attr, &target)), say_entry);
        });
    }
}

fn new_attr(disk: &Disk, parent: INodeNo, kind: Kind, mode: u32, uid: u32, gid: u32, rdev: u32) -> Done<Attr> {
    const SET_GROUP: u32 = 0o2000;
    let above = disk.volume.tree().attr(parent.0)?;
    let inherits = above.mode & SET_GROUP != 0;
    let mode = mode & 0o7777 | if inherits && kind == Kind::Dir { SET_GROUP } else { 0 };
    let now = SystemTime::now();
    let (nlink, gid) = (if kind == Kind::Dir { 2 } else { 1 }, if inherits { above.gid } else { gid });
    Ok(Attr { kind, mode, uid, gid, rdev, nlink, len: 0, atime: now, mtime: now, ctime: now })
}

/// The path of a name, for rules.
fn below(parent: INodeNo, name: &OsStr) -> impl FnOnce(&Disk) -> PathBuf + use<> {
    let name: OsString = name.to_owned();
    move |disk| disk.volume.tree().path(parent.0).join(name)
}

/// The path of a file, for rules.
fn path_of(ino: INodeNo) -> impl FnOnce(&Disk) -> PathBuf {
    move |disk| disk.volume.tree().path(ino.0)
}

/// Nobody else takes the room that is found meanwhile.
fn filling(disk: &Disk) -> MutexGuard<'_, ()> {
    disk.filling.lock().unwrap_or_else(PoisonError::into_inner)
}

fn changed(disk: &Disk, ino: INodeNo, change: Change) -> Done<()> {
    disk.volume.file(ino.0).map(|file| file.change(change))
}

impl Filesystem for Mounted {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        // What an old kernel does not have it does without.
        let _ = config.set_max_write(WRITE_LEN_MAX);
        let _ = config.add_capabilities(InitFlags::FUSE_PARALLEL_DIROPS);
        Ok(())
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        self.plain(reply, |disk, reply| answer(reply, disk.volume.look_up(parent.0, name), say_entry));
    }

    fn forget(&self, _: &Request, ino: INodeNo, nlookup: u64) {
        if let Ok(_entered) = self.disk.enter(self.cuts) {
            self.disk.volume.tree().forget(ino.0, nlookup);
        }
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        self.plain(reply, |disk, reply| {
            answer(reply, disk.volume.tree().attr(ino.0), |reply, attr| {
                reply.attr(&REMEMBER, &file_attr(ino.0, &attr))
            });
        });
    }

    fn setattr(
        &self,
        request: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let time = |time: TimeOrNow| match time {
            TimeOrNow::SpecificTime(time) => time,
            TimeOrNow::Now => SystemTime::now(),
        };
        let set = SetAttr {
            mode: mode.map(|mode| mode & 0o7777),
            uid,
            gid,
            len: size,
            atime: atime.map(time),
            mtime: mtime.map(time),
        };
        let op = if size.is_some() { DiskOp::Truncate } else { DiskOp::Attributes };
        self.run(request.pid(), op, false, path_of(ino), reply, move |disk, hits, reply| {
            let _filling = hits.capacity().map(|_| filling(disk));
            let set_attr = || {
                if let Some(len) = set.len {
                    // All of it or nothing.
                    disk.room_for(hits, ino.0, len.saturating_sub(1), len)?;
                }
                disk.volume.set_attr(ino.0, &set)
            };
            answer(reply, set_attr(), |reply, attr| {
                reply.attr(&REMEMBER, &file_attr(ino.0, &attr));
            });
        });
    }

    fn readlink(&self, _: &Request, ino: INodeNo, reply: ReplyData) {
        self.plain(reply, |disk, reply| {
            answer(reply, disk.volume.link_target(ino.0), |reply, target| {
                reply.data(target.as_os_str().as_encoded_bytes());
            });
        });
    }

    fn mknod(&self, rq: &Request, parent: INodeNo, name: &OsStr, mode: u32, _: u32, rdev: u32, reply: ReplyEntry) {
        self.make(rq, (parent, name), (kind_of(mode), mode, rdev), PathBuf::new(), reply);
    }

    fn mkdir(&self, rq: &Request, parent: INodeNo, name: &OsStr, mode: u32, _: u32, reply: ReplyEntry) {
        self.make(rq, (parent, name), (Kind::Dir, mode, 0), PathBuf::new(), reply);
    }

    fn symlink(&self, rq: &Request, parent: INodeNo, name: &OsStr, target: &Path, reply: ReplyEntry) {
        self.make(rq, (parent, name), (Kind::Link, 0o777, 0), target.to_owned(), reply);
    }

    fn unlink(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let (path, name) = (below(parent, name), name.to_owned());
        self.run(request.pid(), DiskOp::Unlink, false, path, reply, move |disk, _, reply| {
            answer(reply, disk.volume.tree().remove(parent.0, &name, false), |reply, ()| reply.ok());
        });
    }

    fn rmdir(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let (path, name) = (below(parent, name), name.to_owned());
        self.run(request.pid(), DiskOp::Rmdir, false, path, reply, move |disk, _, reply| {
            answer(reply, disk.volume.tree().remove(parent.0, &name, true), |reply, ()| reply.ok());
        });
    }

    fn rename(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let replace = !flags.contains(RenameFlags::RENAME_NOREPLACE);
        if !(flags - RenameFlags::RENAME_NOREPLACE).is_empty() {
            return reply.error(Errno::EINVAL);
        }
        let path = below(newparent, newname);
        let (name, newname) = (name.to_owned(), newname.to_owned());
        self.run(request.pid(), DiskOp::Rename, false, path, reply, move |disk, _, reply| {
            let renamed = disk.volume.tree().rename((parent.0, &name), (newparent.0, &newname), replace);
            answer(reply, renamed, |reply, ()| reply.ok());
        });
    }

    fn link(&self, request: &Request, ino: INodeNo, newparent: INodeNo, newname: &OsStr, reply: ReplyEntry) {
        let (path, newname) = (below(newparent, newname), newname.to_owned());
        self.run(request.pid(), DiskOp::Link, false, path, reply, move |disk, _, reply| {
            let linked = disk.volume.link(ino.0, newparent.0, &newname);
            answer(reply, linked, |reply, attr| say_entry(reply, (ino.0, attr)));
        });
    }

    fn open(&self, request: &Request, ino: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        self.run(request.pid(), DiskOp::Open, false, path_of(ino), reply, move |disk, _, reply| {
            answer(reply, disk.volume.tree().opened(ino.0), |reply, _| reply.opened(FileHandle(0), open_flags(disk)));
        });
    }

    fn create(&self, request: &Request, parent: INodeNo, name: &OsStr, mode: u32, _: u32, _: i32, reply: ReplyCreate) {
        let (path, name) = (below(parent, name), name.to_owned());
        let (uid, gid) = (request.uid(), request.gid());
        self.run(request.pid(), DiskOp::Create, false, path, reply, move |disk, _, reply| {
            let created = || {
                let attr = new_attr(disk, parent, Kind::File, mode, uid, gid, 0)?;
                let (ino, attr) = disk.volume.make(parent.0, &name, attr, Path::new(""))?;
                disk.volume.tree().opened(ino)?;
                Ok((ino, attr))
            };
            answer(reply, created(), |reply, (ino, attr)| {
                reply.created(&REMEMBER, &file_attr(ino, &attr), Generation(0), FileHandle(0), open_flags(disk));
            });
        });
    }

    fn read(
        &self,
        request: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        // The kernel asks for whole pages, also behind the end of a file.
        let bytes = if self.disk.rules.concern_reads() {
            let len = self.disk.volume.file(ino.0).map_or(0, |file| file.state().data.len());
            len.saturating_sub(offset).min(u64::from(size))
        } else {
            0
        };
        let op = (DiskOp::Read, bytes);
        self.run_with_bytes(request.pid(), op, false, path_of(ino), reply, move |disk, hits, reply| {
            let read = disk.volume.file(ino.0).and_then(|file| file.read(offset, size as usize));
            answer(reply, read, |reply, mut bytes| {
                if !hits.is_empty() {
                    let path = disk.volume.tree().path(ino.0);
                    hits.rot(&path, offset, &mut bytes);
                }
                reply.data(&bytes);
            });
        });
    }

    fn write(
        &self,
        request: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        flags: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let bytes: Arc<[u8]> = data.into();
        let syncs = is_synchronous(flags);
        let op = (DiskOp::Write, bytes.len() as u64);
        self.run_with_bytes(request.pid(), op, syncs, path_of(ino), reply, move |disk, hits, reply| {
            let written = || {
                let _filling = hits.capacity().map(|_| filling(disk));
                // What has no room is left out, and the caller told how much has: the next write finds none.
                let end = disk.room_for(hits, ino.0, offset, offset + bytes.len() as u64)?;
                let len = end - offset;
                let bytes = if len < bytes.len() as u64 { bytes[..len as usize].into() } else { bytes };
                let file_len = if hits.is_empty() { 0 } else { disk.volume.file(ino.0)?.state().data.len() };
                let there = hits.misdirected(offset, file_len).unwrap_or(offset);
                disk.volume.write(ino.0, there, bytes)?;
                if syncs {
                    disk.volume.sync(ino.0)?;
                }
                Ok(len as u32)
            };
            answer(reply, written(), |reply, len| reply.written(len));
        });
    }

    fn release(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        self.plain(reply, |disk, reply| {
            disk.volume.tree().released(ino.0);
            reply.ok();
        });
    }

    fn fsync(&self, request: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        self.run(request.pid(), DiskOp::Fsync, true, path_of(ino), reply, move |disk, hits, reply| {
            let synced = if hits.lose_on_fsync(ino.0) {
                disk.volume.abandon(ino.0).and(Err(nix::errno::Errno::EIO))
            } else {
                disk.volume.sync(ino.0)
            };
            answer(reply, synced, |reply, ()| reply.ok());
        });
    }

    fn fsyncdir(&self, request: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        self.run(request.pid(), DiskOp::FsyncDir, true, path_of(ino), reply, move |disk, _, reply| {
            answer(reply, disk.volume.sync_dir(ino.0), |reply, ()| reply.ok());
        });
    }

    fn opendir(&self, request: &Request, ino: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        let listings = self.listings.clone();
        self.run(request.pid(), DiskOp::List, false, path_of(ino), reply, move |disk, _, reply| {
            answer(reply, disk.volume.entries(ino.0), |reply, entries| {
                reply.opened(FileHandle(listings.add(entries)), FopenFlags::empty());
            });
        });
    }

    fn readdir(&self, _: &Request, ino: INodeNo, fh: FileHandle, offset: u64, reply: ReplyDirectory) {
        self.plain(reply, |disk, reply| {
            // From the start again (rewinddir): as it is now.
            let fresh =
                if offset == 0 { disk.volume.entries(ino.0).map(|e| self.listings.renew(fh.0, e)) } else { Ok(()) };
            answer(reply, fresh, |mut reply, ()| {
                self.listings.from(fh.0, offset, |next, name, child, kind| {
                    reply.add(INodeNo(child), next, file_type(kind), name)
                });
                reply.ok();
            });
        });
    }

    fn releasedir(&self, _: &Request, _: INodeNo, fh: FileHandle, _: OpenFlags, reply: ReplyEmpty) {
        self.listings.remove(fh.0);
        reply.ok();
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        self.plain(reply, |disk, reply| {
            let look = || Ok((nix::sys::statvfs::statvfs(disk.volume.base())?, disk.used()?));
            answer(reply, look(), |reply, (stat, used)| {
                let (bsize, namelen, frsize) =
                    (stat.block_size() as u32, stat.name_max() as u32, stat.fragment_size() as u32);
                let left = disk.rules.capacity().map_or(u64::MAX, |capacity| capacity.saturating_sub(used));
                let left = left / u64::from(frsize.max(1));
                let (blocks, bfree) = (stat.blocks(), stat.blocks_free().min(left));
                let bavail = stat.blocks_available().min(left);
                reply.statfs(blocks, bfree, bavail, stat.files(), stat.files_free(), bsize, namelen, frsize);
            });
        });
    }

    fn fallocate(
        &self,
        request: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        if mode & !(KEEP_SIZE | PUNCH_HOLE | ZERO_RANGE) != 0 {
            return reply.error(Errno::EOPNOTSUPP);
        }
        self.run(request.pid(), DiskOp::Truncate, false, path_of(ino), reply, move |disk, hits, reply| {
            let end = offset + length;
            let done = || {
                let _filling = hits.capacity().map(|_| filling(disk));
                let len = disk.volume.file(ino.0)?.state().data.len();
                if mode & KEEP_SIZE == 0 && end > len {
                    disk.room_for(hits, ino.0, end.saturating_sub(1), end)?;
                    changed(disk, ino, Change::SetLen(end))?;
                }
                if mode & (PUNCH_HOLE | ZERO_RANGE) != 0 {
                    changed(disk, ino, Change::Zero { from: offset, to: end })?;
                }
                Ok(())
            };
            answer(reply, done(), |reply, ()| reply.ok());
        });
    }
}

/// Pages outlive the file handle that read them, unless somebody wants to see them read from the disk; close(2) has nothing
/// to flush.
fn open_flags(disk: &Disk) -> FopenFlags {
    match disk.rules.concern_reads() {
        true => FopenFlags::FOPEN_NOFLUSH,
        false => FopenFlags::FOPEN_NOFLUSH | FopenFlags::FOPEN_KEEP_CACHE,
    }
}
