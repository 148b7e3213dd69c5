//! One disk: files and names, what makes them durable, and what a power cut leaves of them. Knows nothing of FUSE.

use super::below::{self, Attr};
use super::data::{Change, carry_out};
use super::file::FileNode;
use super::loss::{Fate, bytes_lost, fates_of, survivors};
use super::tree::{Entry, Ino, Name, NameChange, Node, Tree};
use crate::disk::{Directories, Lose, Lost};
use nix::errno::Errno;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::SystemTime;

/// A file with more unsynced bytes than this is written back, as a kernel does that runs out of memory for dirty pages.
const DIRTY_MAX: u64 = 256 << 20;

/// What to change of a file's attributes.
#[derive(Debug, Default)]
pub(super) struct SetAttr {
    pub(super) mode: Option<u32>,
    pub(super) uid: Option<u32>,
    pub(super) gid: Option<u32>,
    pub(super) len: Option<u64>,
    pub(super) atime: Option<SystemTime>,
    pub(super) mtime: Option<SystemTime>,
}

/// See the module. Attributes but the length are durable at once.
#[derive(Debug)]
pub(super) struct Volume {
    base: PathBuf,
    limbo: PathBuf,
    journaled: AtomicBool,
    tree: Mutex<Tree>,
}

impl Volume {
    /// The folder `base`, with `limbo` on the same file system for what is not durable.
    ///
    /// # Errors
    /// What the file system below says.
    pub(super) fn open(base: &Path, limbo: &Path) -> Result<Self, Errno> {
        Ok(Self {
            base: base.to_owned(),
            limbo: limbo.to_owned(),
            journaled: AtomicBool::new(false),
            tree: Mutex::new(Tree::new(base, limbo)?),
        })
    }

    /// From now on directories are durable like this.
    pub(super) fn set_directories(&self, directories: Directories) {
        self.journaled.store(directories == Directories::Journaled, Ordering::Relaxed);
    }

    fn directories(&self) -> Directories {
        if self.journaled.load(Ordering::Relaxed) { Directories::Journaled } else { Directories::Strict }
    }

    pub(super) fn tree(&self) -> MutexGuard<'_, Tree> {
        self.tree.lock().unwrap_or_else(|e| e.into_inner())
    }

    pub(super) fn base(&self) -> &Path {
        &self.base
    }

    /// Finds a name, on the kernel's behalf.
    pub(super) fn look_up(&self, parent: Ino, name: &OsStr) -> Result<(Ino, Attr), Errno> {
        let mut tree = self.tree();
        let ino = tree.find(parent, name)?;
        tree.looked_up(ino);
        Ok((ino, tree.attr(ino)?))
    }

    /// Makes something, on the kernel's behalf.
    pub(super) fn make(&self, parent: Ino, name: &OsStr, attr: Attr, target: &Path) -> Result<(Ino, Attr), Errno> {
        let mut tree = self.tree();
        let ino = tree.make(parent, name, attr, target)?;
        tree.looked_up(ino);
        Ok((ino, tree.attr(ino)?))
    }

    pub(super) fn link(&self, ino: Ino, parent: Ino, name: &OsStr) -> Result<Attr, Errno> {
        let mut tree = self.tree();
        tree.link(ino, parent, name)?;
        tree.looked_up(ino);
        tree.attr(ino)
    }

    pub(super) fn set_attr(&self, ino: Ino, set: &SetAttr) -> Result<Attr, Errno> {
        let mut tree = self.tree();
        let path = tree.place(ino)?;
        let now = tree.attr(ino)?;
        if let Some(len) = set.len {
            let Node::File(file) = &tree.inode(ino)?.node else { return Err(Errno::EINVAL) };
            file.open_below(&path)?;
            file.change(Change::SetLen(len));
        }
        below::own(&path, set.uid, set.gid)?;
        if let Some(mode) = set.mode {
            below::set_mode(&path, mode)?;
        }
        let (atime, mtime) = (set.atime.unwrap_or(now.atime), set.mtime.unwrap_or(now.mtime));
        if set.atime.is_some() || set.mtime.is_some() {
            below::set_times(&path, atime, mtime)?;
        }
        let inode = tree.inode_mut(ino)?;
        let attr = &mut inode.attr;
        (attr.mode, attr.uid, attr.gid) =
            (set.mode.unwrap_or(attr.mode), set.uid.unwrap_or(attr.uid), set.gid.unwrap_or(attr.gid));
        attr.ctime = SystemTime::now();
        if set.atime.is_some() || set.mtime.is_some() {
            (attr.atime, attr.mtime) = (atime, mtime);
            if let Node::File(file) = &inode.node {
                file.set_times(atime, mtime);
            }
        }
        tree.attr(ino)
    }

    pub(super) fn entries(&self, ino: Ino) -> Result<Vec<Entry>, Errno> {
        self.tree().entries(ino)
    }

    pub(super) fn link_target(&self, ino: Ino) -> Result<PathBuf, Errno> {
        match &self.tree().inode(ino)?.node {
            Node::Link(target) => Ok(target.clone()),
            _ => Err(Errno::EINVAL),
        }
    }

    /// The file `ino`, whose file below is open while somebody has it open.
    pub(super) fn file(&self, ino: Ino) -> Result<Arc<FileNode>, Errno> {
        match &self.tree().inode(ino)?.node {
            Node::File(file) => Ok(file.clone()),
            Node::Dir(_) => Err(Errno::EISDIR),
            _ => Err(Errno::EINVAL),
        }
    }

    pub(super) fn write(&self, ino: Ino, offset: u64, bytes: Arc<[u8]>) -> Result<(), Errno> {
        let file = self.file(ino)?;
        file.change(Change::Write { offset, bytes });
        if file.state().data.dirty() > DIRTY_MAX {
            file.sync(false)?;
        }
        Ok(())
    }

    /// fsync(2) of a file.
    pub(super) fn sync(&self, ino: Ino) -> Result<(), Errno> {
        self.file(ino)?.sync(true)?;
        match self.directories() {
            Directories::Strict => Ok(()),
            Directories::Journaled => {
                let names = self.tree().changed();
                self.settle(&names)
            }
        }
    }

    /// fsync(2) of a directory.
    pub(super) fn sync_dir(&self, ino: Ino) -> Result<(), Errno> {
        let names = {
            let tree = self.tree();
            match self.directories() {
                Directories::Journaled => tree.changed(),
                Directories::Strict => {
                    // A directory that was synced is reachable: so are those above it.
                    let above = std::iter::successors(tree.unsettled_name(ino), |(dir, _)| tree.unsettled_name(*dir));
                    tree.changed_in(ino).into_iter().chain(above).collect()
                }
            }
        };
        self.settle(&names)
    }

    /// Makes names durable, then asks the file system below to.
    fn settle(&self, names: &[Name]) -> Result<(), Errno> {
        let mut touched: Vec<File> = Vec::new();
        {
            let mut tree = self.tree();
            for (dir, name) in names {
                tree.settle(*dir, name)?;
            }
            let dirs: BTreeSet<Ino> = names.iter().map(|(dir, _)| *dir).collect();
            for dir in dirs {
                touched.push(below::open_dir(&tree.place(dir)?)?);
            }
        }
        touched.iter().try_for_each(|dir| dir.sync_all()).map_err(|e| below::errno(&e))
    }

    /// Makes everything durable, as sync(2) does.
    ///
    /// # Errors
    /// What the file system below says.
    pub(super) fn sync_all(&self) -> Result<(), Errno> {
        let names = self.tree().changed();
        self.settle(&names)?;
        for (_, file) in self.dirty_files()? {
            file.sync(true)?;
        }
        Ok(())
    }

    /// Files with unsynced changes, by path, each with its file below open.
    fn dirty_files(&self) -> Result<Vec<(Ino, Arc<FileNode>)>, Errno> {
        let tree = self.tree();
        let mut found = Vec::new();
        for (ino, inode) in &tree.inodes {
            if let Node::File(file) = &inode.node
                && !file.state().data.is_clean()
            {
                file.open_below(&tree.place(*ino)?)?;
                found.push((*ino, file.clone()));
            }
        }
        found.sort_by_cached_key(|(ino, _)| tree.path(*ino));
        Ok(found)
    }

    /// An fsync that fails and leaves its pages clean; how many bytes will be lost.
    pub(super) fn abandon(&self, ino: Ino) -> Result<u64, Errno> {
        Ok(self.file(ino)?.state().data.abandon())
    }

    /// Takes what is not durable, all or as much of it as `lose` says, and begins anew with what is left. Nobody uses the
    /// volume meanwhile.
    ///
    /// # Errors
    /// What the file system below says.
    pub(super) fn cut(&self, lose: Lose, seed: u64) -> Result<Lost, Errno> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut lost = Lost::default();
        let mut hit = BTreeSet::new();
        self.cut_names(lose, &mut rng, &mut lost, &mut hit)?;
        for (ino, file) in self.dirty_files()? {
            let (path, reachable) = {
                let tree = self.tree();
                (tree.path(ino), tree.is_reachable(ino))
            };
            let lose = if reachable { lose } else { Lose::All };
            if let Some(note) = cut_file(&file, lose, &mut rng, &mut lost)? {
                note_down(&mut lost, format!("{}: {note}", path.display()));
                hit.insert(path);
            }
        }
        lost.files = hit.len() as u64;
        *self.tree() = Tree::new(&self.base, &self.limbo)?;
        Ok(lost)
    }

    fn cut_names(
        &self,
        lose: Lose,
        rng: &mut ChaCha8Rng,
        lost: &mut Lost,
        hit: &mut BTreeSet<PathBuf>,
    ) -> Result<(), Errno> {
        let mut tree = self.tree();
        for name in tree.changed() {
            // The old name of a renamed file goes the way of the new one.
            let Some(kind) = tree.kind_of_change(&name) else { continue };
            let keep = match lose {
                Lose::All => false,
                Lose::Torn => true,
                Lose::Subset | Lose::Sequence => rng.random(),
            };
            if keep && tree.is_reachable(name.0) {
                tree.settle(name.0, &name.1)?;
                lost.kept += 1;
                continue;
            }
            let path = tree.path(name.0).join(&name.1);
            let (count, what) = match kind {
                NameChange::Create => (&mut lost.creates, "its creation"),
                NameChange::Rename => (&mut lost.renames, "a rename to it"),
                NameChange::Unlink => (&mut lost.unlinks, "its removal"),
            };
            *count += 1;
            note_down(lost, format!("{}: {what}", path.display()));
            hit.insert(path);
        }
        Ok(())
    }
}

fn note_down(lost: &mut Lost, note: String) {
    if lost.notes.len() < Lost::NOTES_MAX {
        lost.notes.push(note);
    }
}

/// What is lost of one file's content, in words, if anything.
fn cut_file(file: &FileNode, lose: Lose, rng: &mut ChaCha8Rng, lost: &mut Lost) -> Result<Option<String>, Errno> {
    let below = file.below()?;
    let len = below.metadata().map_err(|e| below::errno(&e))?.len();
    let state = file.state();
    let changes: Vec<&Change> = state.data.pending().map(|pending| &pending.change).collect();
    let fates = fates_of(lose, &changes, rng);
    let left = survivors(&changes, &fates, len, rng);
    carry_out(&below, &left).map_err(|e| below::errno(&e))?;
    let (mut writes, mut torn, mut bytes) = (0, 0, 0);
    for (change, fate) in changes.iter().zip(&fates) {
        bytes += bytes_lost(change, fate);
        match fate {
            Fate::Kept => lost.kept += 1,
            Fate::Lost => writes += 1,
            Fate::Torn(_) => torn += 1,
        }
    }
    (lost.writes, lost.torn, lost.bytes) = (lost.writes + writes, lost.torn + torn, lost.bytes + bytes);
    let words = format!("{writes} of {} writes, {torn} torn, {bytes} bytes", changes.len());
    Ok((writes + torn > 0).then_some(words))
}
