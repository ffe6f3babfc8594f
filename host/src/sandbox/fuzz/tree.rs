//! Random trees on disk, and changes of them: for real, or through an overlay.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use proptest::sample::Index;
use tempfile::TempDir;

use crate::domain::job;
use crate::domain::rights::Rights;

use super::super::guest::Role;
use super::super::kept;
use super::super::mounts::{Mount, Mounts, TRASH, is_reserved};
use super::super::overlay::{Entry, Overlay, RealPlace};
use super::super::place::{self, Folder, Place, Spot};

/// Something in a tree.
#[derive(Clone, Debug)]
pub(super) enum Kind {
    Folder,
    File,
    Link(String),
    /// By the absolute path of the mount, or of what is beside it.
    LinkHome(String),
    LinkOut,
}

/// A change that an overlay takes.
#[derive(Clone, Debug)]
pub(super) enum Change {
    Remove(Index),
    Move(Index, Index, &'static str),
    Make(Index, &'static str),
}

/// A tree on disk, in a folder with something outside of it.
pub(super) struct Tree {
    _around: TempDir,
    pub(super) top: PathBuf,
    /// What was there at the start, by inode: the same number in both twins.
    pub(super) known: HashMap<u64, usize>,
    /// What nobody may get at, by inode.
    pub(super) forbidden: HashSet<u64>,
}

impl Drop for Tree {
    fn drop(&mut self) {
        kept::forget(&self.top);
    }
}

impl Tree {
    pub(super) fn new(tree: &[(Index, &'static str, Kind)]) -> Self {
        // In memory where there is such a folder: it is many times as fast.
        let memory = Path::new("/dev/shm");
        let parent = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        let around = TempDir::new_in(parent).unwrap();
        let root = around.path().canonicalize().unwrap();
        let top = root.join("top");
        for folder in [&top, &root.join("out"), &top.join(TRASH), &top.join(TRASH).join("b")] {
            fs::create_dir(folder).unwrap();
        }
        let kept = ["", "out", "out/a", "a", "top/.sweepd-mount", "top/.sweepd-trash", "top/.sweepd-trash/a"];
        let mut forbidden = HashSet::from([inode(&top.join(TRASH).join("b"))]);
        for path in kept.map(|path| root.join(path)) {
            if !path.is_dir() {
                fs::write(&path, "").unwrap();
            }
            forbidden.insert(inode(&path));
        }
        let mut folders = vec![top.clone()];
        let mut known = HashMap::from([(inode(&top), 0)]);
        for (number, (parent, name, kind)) in tree.iter().enumerate() {
            let path = parent.get(&folders).join(name);
            if path.symlink_metadata().is_ok() {
                continue;
            }
            match kind {
                Kind::Folder => fs::create_dir(&path).map(|()| folders.push(path.clone())),
                Kind::File => fs::write(&path, ""),
                // No link leads to an empty name.
                Kind::Link(to) => symlink(if to.is_empty() { "." } else { to }, &path),
                Kind::LinkHome(to) => symlink(format!("{}/{to}", top.display()), &path),
                Kind::LinkOut => symlink(root.join("out"), &path),
            }
            .unwrap();
            known.insert(inode(&path), number + 1);
        }
        Self { _around: around, top, known, forbidden }
    }

    pub(super) fn mount(&self) -> Arc<Mount> {
        let mount = job::Mount {
            host: self.top.clone(),
            was_there: true,
            guest: "/".to_owned(),
            rights: Rights::RW,
            cross_mounts: false,
        };
        Arc::clone(&Mounts::open(&[mount], Role::Executor, true).unwrap().0[0])
    }

    /// Everything in it but the host's own, as paths within it; folders alone if
    /// asked. The top is first.
    pub(super) fn all(&self, only_folders: bool) -> Vec<String> {
        fn add(folder: &Path, within: &str, only_folders: bool, all: &mut Vec<String>) {
            let mut entries: Vec<_> = fs::read_dir(folder).unwrap().map(Result::unwrap).collect();
            entries.sort_by_key(fs::DirEntry::file_name);
            for entry in entries {
                let name = entry.file_name().into_string().unwrap();
                let (path, is_folder) = (place::join(within, &name), entry.file_type().unwrap().is_dir());
                if within.is_empty() && is_reserved(&name) {
                    continue;
                }
                if is_folder || !only_folders {
                    all.push(path.clone());
                }
                if is_folder {
                    add(&entry.path(), &path, only_folders, all);
                }
            }
        }
        let mut all = vec![String::new()];
        add(&self.top, "", only_folders, &mut all);
        all
    }

    /// Makes the change here for real, and in the overlay over the twin.
    pub(super) fn change(&mut self, change: &Change, twin: &Folder, overlay: &mut Overlay) {
        let (all, folders) = (self.all(false), self.all(true));
        let at = |path: &str, overlay: &Overlay| match place::locate(twin, path, Some(overlay)) {
            Ok(Spot::Name(place)) => (place.folder.key().unwrap(), place),
            other => panic!("{path} is there, but: {other:?}"),
        };
        match change {
            Change::Remove(what) => {
                let path = what.get(&all);
                let real = self.top.join(path);
                if path.is_empty() {
                    return;
                }
                let gone = inode(&real);
                let is_folder = real.symlink_metadata().unwrap().is_dir();
                if if is_folder { fs::remove_dir(&real) } else { fs::remove_file(&real) }.is_err() {
                    return;
                }
                self.known.remove(&gone);
                let (key, place) = at(path, overlay);
                overlay.set(key, &place.name, Entry::Gone).unwrap();
            }
            Change::Move(what, to, name) => {
                let (path, new) = (what.get(&all), place::join(to.get(&folders).as_str(), name));
                let real = self.top.join(&new);
                if path.is_empty() || real.symlink_metadata().is_ok() {
                    return;
                }
                if fs::rename(self.top.join(path), real).is_err() {
                    return;
                }
                let (old_key, old) = at(path, overlay);
                let (new_key, new) = at(&new, overlay);
                let entry = match overlay.get(old_key, &old.name) {
                    Some(entry) => entry.clone(),
                    None => Entry::Moved(Box::new(on_disk(&old))),
                };
                overlay.set(new_key, &new.name, entry).unwrap();
                overlay.set(old_key, &old.name, Entry::Gone).unwrap();
            }
            Change::Make(parent, name) => {
                let path = place::join(parent.get(&folders).as_str(), name);
                if fs::create_dir(self.top.join(&path)).is_err() {
                    return;
                }
                let ((key, place), made) = (at(&path, overlay), overlay.make());
                overlay.set(key, &place.name, made).unwrap();
            }
        }
    }
}

/// What is on disk there.
pub(super) fn on_disk(place: &Place) -> RealPlace {
    let folder = Arc::new(rustix::io::dup(place.folder.disk().unwrap()).unwrap());
    RealPlace { folder, name: place.name.clone() }
}

fn inode(path: &Path) -> u64 {
    path.symlink_metadata().unwrap().ino()
}
