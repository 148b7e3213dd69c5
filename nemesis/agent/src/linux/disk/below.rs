//! The folder below the mounted one, by way of the ordinary file system.

use nix::errno::Errno;
use nix::sys::stat::{Mode, SFlag, UtimensatFlags, mknod, utimensat};
use nix::sys::time::TimeSpec;
use std::ffi::OsString;
use std::fs::{self, File, Metadata, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Dir,
    Link,
    Fifo,
    Socket,
    BlockDevice,
    CharDevice,
}

/// What stat(2) says.
#[derive(Clone, Debug)]
pub(super) struct Attr {
    pub(super) kind: Kind,
    /// Permission bits, with set-user-id and the like.
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) rdev: u32,
    pub(super) nlink: u32,
    pub(super) len: u64,
    pub(super) atime: SystemTime,
    pub(super) mtime: SystemTime,
    pub(super) ctime: SystemTime,
}

/// The errno of an error.
pub(super) fn errno(error: &io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}

fn done<T>(result: io::Result<T>) -> Result<T, Errno> {
    result.map_err(|error| errno(&error))
}

fn time(seconds: i64, nanoseconds: i64) -> SystemTime {
    let nanoseconds = Duration::from_nanos(nanoseconds.max(0) as u64);
    match u64::try_from(seconds) {
        Ok(seconds) => UNIX_EPOCH + Duration::from_secs(seconds) + nanoseconds,
        Err(_) => UNIX_EPOCH - Duration::from_secs(seconds.unsigned_abs()) + nanoseconds,
    }
}

fn kind(meta: &Metadata) -> Kind {
    let kind = meta.file_type();
    match () {
        () if kind.is_dir() => Kind::Dir,
        () if kind.is_symlink() => Kind::Link,
        () if kind.is_fifo() => Kind::Fifo,
        () if kind.is_socket() => Kind::Socket,
        () if kind.is_block_device() => Kind::BlockDevice,
        () if kind.is_char_device() => Kind::CharDevice,
        () => Kind::File,
    }
}

/// Attributes, and what tells two names of one file: device and number.
pub(super) fn look(path: &Path) -> Result<(Attr, (u64, u64)), Errno> {
    let meta = done(fs::symlink_metadata(path))?;
    let attr = Attr {
        kind: kind(&meta),
        mode: meta.mode() & 0o7777,
        uid: meta.uid(),
        gid: meta.gid(),
        rdev: meta.rdev() as u32,
        nlink: meta.nlink() as u32,
        len: meta.len(),
        atime: time(meta.atime(), meta.atime_nsec()),
        mtime: time(meta.mtime(), meta.mtime_nsec()),
        ctime: time(meta.ctime(), meta.ctime_nsec()),
    };
    Ok((attr, (meta.dev(), meta.ino())))
}

pub(super) fn names(dir: &Path) -> Result<Vec<OsString>, Errno> {
    done(fs::read_dir(dir))?.map(|entry| done(entry.map(|entry| entry.file_name()))).collect()
}

pub(super) fn read_link(path: &Path) -> Result<PathBuf, Errno> {
    done(fs::read_link(path))
}

/// Makes what `attr` describes; a symbolic link points to `target`.
pub(super) fn make(path: &Path, attr: &Attr, target: &Path) -> Result<(), Errno> {
    let special = |kind: SFlag| mknod(path, kind, Mode::from_bits_truncate(attr.mode), u64::from(attr.rdev));
    match attr.kind {
        Kind::File => done(OpenOptions::new().write(true).create_new(true).open(path).map(|_| ()))?,
        Kind::Dir => done(fs::create_dir(path))?,
        Kind::Link => done(std::os::unix::fs::symlink(target, path))?,
        Kind::Fifo => special(SFlag::S_IFIFO)?,
        Kind::Socket => special(SFlag::S_IFSOCK)?,
        Kind::BlockDevice => special(SFlag::S_IFBLK)?,
        Kind::CharDevice => special(SFlag::S_IFCHR)?,
    }
    own(path, Some(attr.uid), Some(attr.gid))?;
    if attr.kind == Kind::Link { Ok(()) } else { set_mode(path, attr.mode) }
}

/// Changes the owner, where it is another one: in a user namespace of one user there is no other.
pub(super) fn own(path: &Path, uid: Option<u32>, gid: Option<u32>) -> Result<(), Errno> {
    let now = done(fs::symlink_metadata(path))?;
    let (uid, gid) = (uid.filter(|uid| *uid != now.uid()), gid.filter(|gid| *gid != now.gid()));
    if uid.is_none() && gid.is_none() { Ok(()) } else { done(std::os::unix::fs::lchown(path, uid, gid)) }
}

pub(super) fn set_mode(path: &Path, mode: u32) -> Result<(), Errno> {
    done(fs::set_permissions(path, Permissions::from_mode(mode)))
}

pub(super) fn set_times(path: &Path, atime: SystemTime, mtime: SystemTime) -> Result<(), Errno> {
    let spec = |time: SystemTime| TimeSpec::from_duration(time.duration_since(UNIX_EPOCH).unwrap_or_default());
    utimensat(nix::fcntl::AT_FDCWD, path, &spec(atime), &spec(mtime), UtimensatFlags::NoFollowSymlink)
}

pub(super) fn rename(from: &Path, to: &Path) -> Result<(), Errno> {
    done(fs::rename(from, to))
}

pub(super) fn link(from: &Path, to: &Path) -> Result<(), Errno> {
    done(fs::hard_link(from, to))
}

pub(super) fn remove(path: &Path) -> Result<(), Errno> {
    done(fs::remove_file(path))
}

pub(super) fn open(path: &Path) -> Result<File, Errno> {
    done(OpenOptions::new().read(true).write(true).open(path))
}

/// An open directory, to be synced.
pub(super) fn open_dir(path: &Path) -> Result<File, Errno> {
    done(File::open(path))
}

/// Removes everything in `dir`.
pub(super) fn empty(dir: &Path) -> Result<(), Errno> {
    for name in names(dir)? {
        let path = dir.join(name);
        let is_dir = done(fs::symlink_metadata(&path))?.is_dir();
        done(if is_dir { fs::remove_dir_all(&path) } else { fs::remove_file(&path) })?;
    }
    Ok(())
}
