//! The names: what processes see, and what is on the disk.
//!
//! The folder below mirrors what is durable. What is not durable anywhere (new files and directories, removed files that
//! somebody has open) lies in limbo, a folder of its own beside it, under its number. [`Tree::settle`] makes one name
//! durable by moving things between the two; forgetting the names in memory and emptying limbo is what a power cut does.

use super::below::{self, Attr, Kind};
use super::file::FileNode;
use nix::errno::Errno;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

pub(super) type Ino = u64;

/// The mounted directory itself.
pub(super) const ROOT: Ino = 1;

/// A name in a directory.
pub(super) type Name = (Ino, OsString);

/// An entry of a directory: name, number, kind.
pub(super) type Entry = (OsString, Ino, Kind);

/// A file, directory, or whatever else has a name.
#[derive(Debug)]
pub(super) struct Inode {
    pub(super) attr: Attr,
    pub(super) node: Node,
    /// What processes see it as.
    names: Vec<Name>,
    /// Where it is on the disk; nowhere is limbo.
    places: Vec<Name>,
    /// How often the kernel knows it.
    lookups: u64,
    opens: u64,
}

#[derive(Debug)]
pub(super) enum Node {
    File(Arc<FileNode>),
    Dir(Dir),
    /// A symbolic link and where it points.
    Link(PathBuf),
    /// Socket, fifo.
    Special,
}

#[derive(Debug, Default)]
pub(super) struct Dir {
    /// Whether what is on the disk has been looked at.
    loaded: bool,
    seen: BTreeMap<OsString, Ino>,
    durable: BTreeMap<OsString, Ino>,
}

/// What a change of one name is, to whoever loses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NameChange {
    Create,
    Rename,
    Unlink,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Tree {
    base: PathBuf,
    limbo: PathBuf,
    pub(super) inodes: HashMap<Ino, Inode>,
    /// Numbers of files with several names, by device and number below.
    linked: HashMap<(u64, u64), Ino>,
    next: Ino,
    /// Names that stand for something else than on the disk.
    changed: BTreeSet<Name>,
}

impl Tree {
    /// What is in the folder `base`; `limbo` is emptied.
    ///
    /// # Errors
    /// What the file system below says.
    pub(super) fn new(base: &Path, limbo: &Path) -> Result<Self, Errno> {
        below::empty(limbo)?;
        let mut tree = Self {
            base: base.to_owned(),
            limbo: limbo.to_owned(),
            inodes: HashMap::new(),
            linked: HashMap::new(),
            next: ROOT + 1,
            changed: BTreeSet::new(),
        };
        let (attr, _) = below::look(&base.join("."))?;
        let node = Node::Dir(Dir::default());
        tree.inodes.insert(ROOT, Inode { attr, node, names: Vec::new(), places: Vec::new(), lookups: 1, opens: 0 });
        Ok(tree)
    }

    pub(super) fn inode(&self, ino: Ino) -> Result<&Inode, Errno> {
        self.inodes.get(&ino).ok_or(Errno::ESTALE)
    }

    pub(super) fn inode_mut(&mut self, ino: Ino) -> Result<&mut Inode, Errno> {
        self.inodes.get_mut(&ino).ok_or(Errno::ESTALE)
    }

    /// The directory `ino` after what is on the disk has been looked at.
    fn dir(&mut self, ino: Ino) -> Result<&mut Dir, Errno> {
        if let Node::Dir(Dir { loaded: false, .. }) = self.inode(ino)?.node {
            self.load(ino)?;
        }
        match &mut self.inode_mut(ino)?.node {
            Node::Dir(dir) => Ok(dir),
            _ => Err(Errno::ENOTDIR),
        }
    }

    fn load(&mut self, ino: Ino) -> Result<(), Errno> {
        let path = self.place(ino)?;
        let mut found = Vec::new();
        for name in below::names(&path)? {
            let (attr, identity) = below::look(&path.join(&name))?;
            found.push((name, attr, identity));
        }
        let mut seen = BTreeMap::new();
        for (name, attr, identity) in found {
            let several = attr.kind == Kind::File && attr.nlink > 1;
            let child = match self.linked.get(&identity).filter(|_| several) {
                Some(known) => *known,
                None => {
                    let child = self.next;
                    self.next += 1;
                    let node = match attr.kind {
                        Kind::File => Node::File(Arc::new(FileNode::durable(&attr))),
                        Kind::Dir => Node::Dir(Dir::default()),
                        Kind::Link => Node::Link(below::read_link(&path.join(&name))?),
                        _ => Node::Special,
                    };
                    let inode = Inode { attr, node, names: Vec::new(), places: Vec::new(), lookups: 0, opens: 0 };
                    self.inodes.insert(child, inode);
                    if several {
                        self.linked.insert(identity, child);
                    }
                    child
                }
            };
            let inode = self.inode_mut(child)?;
            inode.names.push((ino, name.clone()));
            inode.places.push((ino, name.clone()));
            seen.insert(name, child);
        }
        if let Node::Dir(dir) = &mut self.inode_mut(ino)?.node {
            *dir = Dir { loaded: true, durable: seen.clone(), seen };
        }
        Ok(())
    }

    /// What all of it takes in blocks of so many bytes: files their length, directories one block. What was removed counts while
    /// somebody has it open.
    ///
    /// # Errors
    /// What the file system below says.
    pub(super) fn used(&mut self, block: u64) -> Result<u64, Errno> {
        loop {
            let unseen = |(ino, inode): (&Ino, &Inode)| {
                matches!(inode.node, Node::Dir(Dir { loaded: false, .. })).then_some(*ino)
            };
            let Some(dir) = self.inodes.iter().find_map(unseen) else { break };
            self.dir(dir)?;
        }
        let blocks = self.inodes.values().map(|inode| match &inode.node {
            Node::File(file) => file.state().data.len().div_ceil(block),
            Node::Dir(_) => 1,
            _ => 0,
        });
        Ok(blocks.sum::<u64>() * block)
    }

    /// Where `ino` is now, on the disk or in limbo.
    pub(super) fn place(&self, ino: Ino) -> Result<PathBuf, Errno> {
        if ino == ROOT {
            return Ok(self.base.clone());
        }
        match self.inode(ino)?.places.first() {
            Some((dir, name)) => Ok(self.place(*dir)?.join(name)),
            None => Ok(self.limbo.join(ino.to_string())),
        }
    }

    /// Whether `ino` would be found after a power cut.
    pub(super) fn is_reachable(&self, ino: Ino) -> bool {
        ino == ROOT
            || self.inodes.get(&ino).and_then(|i| i.places.first()).is_some_and(|(dir, _)| self.is_reachable(*dir))
    }

    /// What processes call `ino`, below the mounted directory; one of several names.
    pub(super) fn path(&self, ino: Ino) -> PathBuf {
        match self.inodes.get(&ino).and_then(|inode| inode.names.first()) {
            Some((dir, name)) => self.path(*dir).join(name),
            None => PathBuf::new(),
        }
    }

    pub(super) fn find(&mut self, parent: Ino, name: &OsStr) -> Result<Ino, Errno> {
        self.dir(parent)?.seen.get(name).copied().ok_or(Errno::ENOENT)
    }

    /// The attributes of `ino` as they are now.
    pub(super) fn attr(&self, ino: Ino) -> Result<Attr, Errno> {
        let inode = self.inode(ino)?;
        let mut attr = inode.attr.clone();
        if let Node::File(file) = &inode.node {
            file.fill(&mut attr);
        }
        Ok(attr)
    }

    /// The kernel has learned of `ino`.
    pub(super) fn looked_up(&mut self, ino: Ino) {
        if let Some(inode) = self.inodes.get_mut(&ino) {
            inode.lookups += 1;
        }
    }

    pub(super) fn forget(&mut self, ino: Ino, count: u64) {
        if let Some(inode) = self.inodes.get_mut(&ino) {
            inode.lookups = inode.lookups.saturating_sub(count);
            self.collect(ino);
        }
    }

    pub(super) fn opened(&mut self, ino: Ino) -> Result<Arc<FileNode>, Errno> {
        let path = self.place(ino)?;
        let inode = self.inode_mut(ino)?;
        let Node::File(file) = &inode.node else { return Err(Errno::EINVAL) };
        file.open_below(&path)?;
        let file = file.clone();
        inode.opens += 1;
        Ok(file)
    }

    pub(super) fn released(&mut self, ino: Ino) {
        if let Some(inode) = self.inodes.get_mut(&ino) {
            inode.opens = inode.opens.saturating_sub(1);
            if let (0, Node::File(file)) = (inode.opens, &inode.node) {
                file.close_if_clean();
            }
            self.collect(ino);
        }
    }

    /// Ends an inode that has no name, no place on the disk, and nobody who uses it.
    fn collect(&mut self, ino: Ino) {
        let Some(inode) = self.inodes.get(&ino) else { return };
        let used = inode.lookups > 0 || inode.opens > 0 || !inode.names.is_empty() || !inode.places.is_empty();
        if ino != ROOT && !used {
            let limbo = self.limbo.join(ino.to_string());
            // What is left in limbo is emptied at the next mount.
            let _ =
                if inode.attr.kind == Kind::Dir { std::fs::remove_dir_all(limbo) } else { std::fs::remove_file(limbo) };
            self.inodes.remove(&ino);
            self.linked.retain(|_, known| *known != ino);
        }
    }

    /// A change of the name `name` in `parent` has been made: it is durable or it is not.
    fn touch(&mut self, parent: Ino, name: &OsStr) -> Result<(), Errno> {
        let now = SystemTime::now();
        let dir = self.dir(parent)?;
        let same = dir.seen.get(name) == dir.durable.get(name);
        let entry = (parent, name.to_owned());
        if same {
            self.changed.remove(&entry);
        } else {
            self.changed.insert(entry);
        }
        let attr = &mut self.inode_mut(parent)?.attr;
        (attr.mtime, attr.ctime) = (now, now);
        Ok(())
    }

    /// Makes a file, directory, symbolic link (to `target`) or special file.
    pub(super) fn make(&mut self, parent: Ino, name: &OsStr, attr: Attr, target: &Path) -> Result<Ino, Errno> {
        if self.dir(parent)?.seen.contains_key(name) {
            return Err(Errno::EEXIST);
        }
        let ino = self.next;
        self.next += 1;
        below::make(&self.limbo.join(ino.to_string()), &attr, target)?;
        let node = match attr.kind {
            Kind::File => Node::File(Arc::new(FileNode::durable(&attr))),
            Kind::Dir => Node::Dir(Dir { loaded: true, ..Dir::default() }),
            Kind::Link => Node::Link(target.to_owned()),
            _ => Node::Special,
        };
        if attr.kind == Kind::Dir {
            self.inode_mut(parent)?.attr.nlink += 1;
        }
        let names = vec![(parent, name.to_owned())];
        self.inodes.insert(ino, Inode { attr, node, names, places: Vec::new(), lookups: 0, opens: 0 });
        self.dir(parent)?.seen.insert(name.to_owned(), ino);
        self.touch(parent, name)?;
        Ok(ino)
    }

    pub(super) fn link(&mut self, ino: Ino, parent: Ino, name: &OsStr) -> Result<(), Errno> {
        if self.dir(parent)?.seen.contains_key(name) {
            return Err(Errno::EEXIST);
        }
        let inode = self.inode_mut(ino)?;
        inode.names.push((parent, name.to_owned()));
        inode.attr.nlink += 1;
        inode.attr.ctime = SystemTime::now();
        self.dir(parent)?.seen.insert(name.to_owned(), ino);
        self.touch(parent, name)
    }

    /// Removes a file (or, with `directory`, an empty directory).
    pub(super) fn remove(&mut self, parent: Ino, name: &OsStr, directory: bool) -> Result<(), Errno> {
        let ino = self.find(parent, name)?;
        match (self.inode(ino)?.attr.kind == Kind::Dir, directory) {
            (true, false) => return Err(Errno::EISDIR),
            (false, true) => return Err(Errno::ENOTDIR),
            (true, true) if !self.dir(ino)?.seen.is_empty() => return Err(Errno::ENOTEMPTY),
            _ => {}
        }
        self.dir(parent)?.seen.remove(name);
        self.drop_name(ino, parent, name)?;
        self.touch(parent, name)?;
        self.collect(ino);
        Ok(())
    }

    fn drop_name(&mut self, ino: Ino, parent: Ino, name: &OsStr) -> Result<(), Errno> {
        let inode = self.inode_mut(ino)?;
        inode.names.retain(|(dir, n)| (*dir, n.as_os_str()) != (parent, name));
        inode.attr.ctime = SystemTime::now();
        if inode.attr.kind == Kind::Dir {
            inode.attr.nlink = 0;
            self.inode_mut(parent)?.attr.nlink -= 1;
        } else {
            inode.attr.nlink = inode.attr.nlink.saturating_sub(1);
        }
        Ok(())
    }

    pub(super) fn rename(&mut self, from: (Ino, &OsStr), to: (Ino, &OsStr), replace: bool) -> Result<(), Errno> {
        let ino = self.find(from.0, from.1)?;
        let victim = self.dir(to.0)?.seen.get(to.1).copied();
        if let Some(victim) = victim {
            if !replace {
                return Err(Errno::EEXIST);
            }
            if victim == ino {
                return Ok(());
            }
            if self.inode(victim)?.attr.kind == Kind::Dir && !self.dir(victim)?.seen.is_empty() {
                return Err(Errno::ENOTEMPTY);
            }
            self.drop_name(victim, to.0, to.1)?;
        }
        self.dir(from.0)?.seen.remove(from.1);
        self.dir(to.0)?.seen.insert(to.1.to_owned(), ino);
        let inode = self.inode_mut(ino)?;
        inode.names.retain(|(dir, n)| (*dir, n.as_os_str()) != from);
        inode.names.push((to.0, to.1.to_owned()));
        inode.attr.ctime = SystemTime::now();
        if inode.attr.kind == Kind::Dir && from.0 != to.0 {
            self.inode_mut(from.0)?.attr.nlink -= 1;
            self.inode_mut(to.0)?.attr.nlink += 1;
        }
        self.touch(from.0, from.1)?;
        self.touch(to.0, to.1)?;
        if let Some(victim) = victim {
            self.collect(victim);
        }
        Ok(())
    }

    /// Everything in a directory.
    pub(super) fn entries(&mut self, ino: Ino) -> Result<Vec<Entry>, Errno> {
        let parent = self.inode(ino)?.names.first().map_or(ROOT, |(parent, _)| *parent);
        let seen: Vec<(OsString, Ino)> = self.dir(ino)?.seen.iter().map(|(name, ino)| (name.clone(), *ino)).collect();
        let mut entries = vec![(".".into(), ino, Kind::Dir), ("..".into(), parent, Kind::Dir)];
        for (name, child) in seen {
            entries.push((name, child, self.inode(child)?.attr.kind));
        }
        Ok(entries)
    }

    /// Names in the directory `ino` that are not durable.
    pub(super) fn changed_in(&self, ino: Ino) -> Vec<Name> {
        self.changed.range((ino, OsString::new())..(ino + 1, OsString::new())).cloned().collect()
    }

    /// All names that are not durable, by path.
    pub(super) fn changed(&self) -> Vec<Name> {
        let mut all: Vec<Name> = self.changed.iter().cloned().collect();
        all.sort_by_cached_key(|(dir, name)| self.path(*dir).join(name));
        all
    }

    /// The name by which the directory `ino` would be reached after a power cut, if it had been made durable.
    pub(super) fn unsettled_name(&self, ino: Ino) -> Option<Name> {
        let inode = self.inodes.get(&ino)?;
        inode.places.is_empty().then(|| inode.names.first().cloned())?
    }

    /// What losing the change of this name means; `None` for the old name of a file that was renamed.
    pub(super) fn kind_of_change(&self, (dir, name): &Name) -> Option<NameChange> {
        let Node::Dir(dir) = &self.inodes.get(dir)?.node else { return None };
        match (dir.seen.get(name), dir.durable.get(name)) {
            (None, None) => None,
            (None, Some(old)) => self.inodes.get(old)?.names.is_empty().then_some(NameChange::Unlink),
            (Some(_), Some(_)) => Some(NameChange::Rename),
            (Some(new), None) => {
                let inode = self.inodes.get(new)?;
                let renamed = inode.places.iter().any(|place| !inode.names.contains(place));
                Some(if renamed { NameChange::Rename } else { NameChange::Create })
            }
        }
    }

    /// Makes one name durable.
    ///
    /// # Errors
    /// What the file system below says.
    pub(super) fn settle(&mut self, dir: Ino, name: &OsStr) -> Result<(), Errno> {
        self.settle_unless(dir, name, &mut BTreeSet::new())
    }

    fn settle_unless(&mut self, dir: Ino, name: &OsStr, busy: &mut BTreeSet<Name>) -> Result<(), Errno> {
        let here = (dir, name.to_owned());
        let in_dir = self.dir(dir)?;
        let (want, have) = (in_dir.seen.get(name).copied(), in_dir.durable.get(name).copied());
        if want != have && busy.insert(here.clone()) {
            if let Some(old) = have {
                self.unplace(&here, old, busy)?;
            }
            if let Some(new) = want {
                self.place_at(&here, new)?;
            }
        }
        self.changed.remove(&here);
        Ok(())
    }

    /// `old` leaves its place. When it has been renamed it goes straight to where it is now: no power cut finds it in
    /// neither place.
    fn unplace(&mut self, here: &Name, old: Ino, busy: &mut BTreeSet<Name>) -> Result<(), Errno> {
        let inode = self.inode(old)?;
        let only = inode.places.len() == 1;
        let elsewhere = inode.names.iter().find(|name| !inode.places.contains(name) && !busy.contains(*name)).cloned();
        if let (true, Some((dir, name))) = (only, elsewhere) {
            self.settle_unless(dir, &name, busy)?;
        }
        if !self.inode(old)?.places.contains(here) {
            return Ok(());
        }
        let path = self.place(here.0)?.join(&here.1);
        if self.inode(old)?.attr.kind == Kind::Dir {
            // What was removed in it goes with it.
            for (dir, name) in self.changed_in(old) {
                self.settle_unless(dir, &name, busy)?;
            }
        }
        if only {
            below::rename(&path, &self.limbo.join(old.to_string()))?;
        } else {
            below::remove(&path)?;
        }
        self.moved(old, here, None)?;
        self.collect(old);
        Ok(())
    }

    fn place_at(&mut self, here: &Name, new: Ino) -> Result<(), Errno> {
        let path = self.place(here.0)?.join(&here.1);
        let inode = self.inode(new)?;
        let stale = inode.places.iter().find(|place| !inode.names.contains(place)).cloned();
        match (inode.places.first(), stale) {
            (None, _) => {
                below::rename(&self.limbo.join(new.to_string()), &path)?;
                self.inode_mut(new)?.places.push(here.clone());
                self.durable(here.0)?.insert(here.1.clone(), new);
            }
            (Some(_), Some(old)) => {
                below::rename(&self.place(old.0)?.join(&old.1), &path)?;
                self.moved(new, &old, Some(here))?;
            }
            (Some((dir, name)), None) => {
                below::link(&self.place(*dir)?.join(name), &path)?;
                self.inode_mut(new)?.places.push(here.clone());
                self.durable(here.0)?.insert(here.1.clone(), new);
            }
        }
        Ok(())
    }

    fn durable(&mut self, dir: Ino) -> Result<&mut BTreeMap<OsString, Ino>, Errno> {
        Ok(&mut self.dir(dir)?.durable)
    }

    /// `ino` is not at `from` any more on the disk, but at `to`.
    fn moved(&mut self, ino: Ino, from: &Name, to: Option<&Name>) -> Result<(), Errno> {
        self.durable(from.0)?.remove(&from.1);
        let seen = self.dir(from.0)?.seen.contains_key(&from.1);
        if !seen {
            self.changed.remove(from);
        } else {
            self.changed.insert(from.clone());
        }
        let places = &mut self.inode_mut(ino)?.places;
        places.retain(|place| place != from);
        if let Some(to) = to {
            places.push(to.clone());
            self.durable(to.0)?.insert(to.1.clone(), ino);
        }
        Ok(())
    }
}
