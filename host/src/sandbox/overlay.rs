//! What a simulation changed: removed, moved and made entries over a tree that
//! stays as it is. The guest's own later view shows them; the disk never does.
//!
//! Entries are kept by the folder's identity and the name, so that a folder
//! that was moved carries its changes along.

use std::collections::{BTreeMap, HashMap};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use crate::domain::time::Timestamp;

use super::mounts::Identity;

/// Most changes that one simulation keeps, to bound its memory.
const MOST: usize = 4_000_000;

/// Which folder: one on disk, or one that the simulation made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum FolderKey {
    Real(Identity),
    Made(u64),
}

/// What stands at a name instead of what is on disk.
#[derive(Clone, Debug)]
pub(super) enum Entry {
    /// Nothing.
    Gone,
    /// What is on disk at another place.
    Moved(Box<RealPlace>),
    /// A folder that the simulation made.
    Made(u64),
}

/// A name in a folder on disk.
#[derive(Clone, Debug)]
pub(super) struct RealPlace {
    pub(super) folder: Arc<OwnedFd>,
    pub(super) name: String,
}

/// Times that a simulation set: access and modification.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Times {
    pub(super) accessed: Option<Timestamp>,
    pub(super) modified: Option<Timestamp>,
}

/// The changes.
#[derive(Debug, Default)]
pub(super) struct Overlay {
    folders: HashMap<FolderKey, HashMap<String, Entry>>,
    times: HashMap<Identity, Times>,
    made: u64,
    count: usize,
}

/// The simulation keeps as many changes as it may.
#[derive(Debug)]
pub(super) struct Full;

impl Overlay {
    /// Whether nothing was changed.
    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// What stands at `name` in `folder`; `None` for what is on disk.
    pub(super) fn get(&self, folder: FolderKey, name: &str) -> Option<&Entry> {
        self.folders.get(&folder)?.get(name)
    }

    /// Puts `entry` there.
    pub(super) fn set(&mut self, folder: FolderKey, name: &str, entry: Entry) -> Result<(), Full> {
        if self.count >= MOST {
            return Err(Full);
        }
        self.count += 1;
        self.folders.entry(folder).or_default().insert(name.to_owned(), entry);
        Ok(())
    }

    /// A new folder.
    pub(super) fn make(&mut self) -> Entry {
        self.made += 1;
        Entry::Made(self.made)
    }

    /// The changes in one folder, in the order of the names.
    pub(super) fn changes(&self, folder: FolderKey) -> BTreeMap<String, Entry> {
        let changes = self.folders.get(&folder).into_iter().flatten();
        changes.map(|(name, entry)| (name.clone(), entry.clone())).collect()
    }

    /// Sets times of what is on disk.
    pub(super) fn set_times(&mut self, of: Identity, times: Times) -> Result<(), Full> {
        if self.count >= MOST {
            return Err(Full);
        }
        self.count += 1;
        let set = self.times.entry(of).or_default();
        set.accessed = times.accessed.or(set.accessed);
        set.modified = times.modified.or(set.modified);
        Ok(())
    }

    /// Times that were set.
    pub(super) fn times(&self, of: Identity) -> Option<Times> {
        self.times.get(&of).copied()
    }
}
