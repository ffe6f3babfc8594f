//! A guest's stream over a folder's entries: read from the kernel as the guest
//! asks, without a stat for each, or ahead of it where it asks for those, too.
//! WASI's own reads and stats the whole folder in one call.
//!
//! What the host keeps for itself is left out, and in a simulation what that
//! changed is shown.

use std::collections::{BTreeMap, VecDeque};
use std::os::fd::AsFd as _;
use std::sync::Arc;

use rustix::fs::{AtFlags, Dir, FileType, Stat};
use rustix::io::Errno;
use wasmtime_wasi::p2::bindings::sync::filesystem::types::{DescriptorType, DirectoryEntry};

use super::call::Interrupt;
use super::deeds::NotDone;
use super::kept;
use super::listing::{Listing, Readers, Seen, kind_at};
use super::mounts::{Mount, is_reserved};
use super::overlay::{Entry, Overlay};
use super::place::Folder;

/// Who asked so often what an entry is will ask for the next ones, too.
const ASKS: u32 = 64;

/// Most entries of which it is kept what they are, until the guest asks. A C
/// library lists about a hundred ahead of the guest.
const MOST_SEEN: usize = 256;

/// The entries of one open folder.
pub(super) struct Entries {
    folder: Folder,
    /// `None` for a folder that is not on disk.
    listing: Option<Listing>,
    /// What a simulation changed, by name; what was shown of it is taken out.
    changes: BTreeMap<String, Entry>,
    /// How many more may be handed out.
    left: u64,
    /// Names that are not UTF-8 cannot be told to a guest: skipped, counted.
    pub(super) unreadable: u64,
    /// How often the guest asked what an entry is.
    asked: u32,
    /// What was looked up ahead of the guest, in the order in which it was handed
    /// out: that is the order in which it asks.
    seen: VecDeque<(String, Seen)>,
}

impl Entries {
    /// Begins at the first entry, whatever was read through `folder` before. At
    /// most `limit` are handed out.
    pub(super) fn of(folder: &Folder, overlay: Option<&Overlay>, limit: u64) -> Result<Self, Errno> {
        let changes = match overlay {
            Some(overlay) => overlay.changes(folder.key()?),
            None => BTreeMap::new(),
        };
        let listing = folder.fd().map(|_| folder.read()).transpose()?.map(Dir::new).transpose()?.map(Listing::Direct);
        let folder = folder.clone();
        Ok(Self { folder, listing, changes, left: limit, unreadable: 0, asked: 0, seen: VecDeque::new() })
    }

    /// The next entry, without `.` and `..`; `None` at the end. `check` says
    /// whether the call may go on.
    pub(super) fn next(
        &mut self,
        check: impl Fn() -> Result<(), Interrupt>,
    ) -> Result<Option<DirectoryEntry>, NotDone> {
        let next = match self.next_on_disk(check)? {
            Some(entry) => Some(entry),
            None => self.next_change(),
        };
        if next.is_some() {
            self.left = self.left.checked_sub(1).ok_or(Errno::NOMEM)?;
        }
        Ok(next)
    }

    /// The mount that they are in.
    pub(super) fn mount(&self) -> &Arc<Mount> {
        &self.folder.mount
    }

    /// Whether they are of the folder at this path.
    pub(super) fn are_of(&self, folder: &Folder) -> bool {
        self.folder.path == folder.path && Arc::ptr_eq(&self.folder.mount, &folder.mount)
    }

    /// What the entry `name` is, where that was looked up ahead. A C library
    /// asks for its number while it lists, and the guest for the rest later:
    /// what is not to be `kept` for that is forgotten, with all before it.
    pub(super) fn seen(&mut self, name: &str, kept: bool) -> Option<Stat> {
        let is_it = |(other, _): &(String, Seen)| other == name;
        if kept && let Some((_, seen)) = self.seen.back().filter(|last| is_it(last)) {
            return seen.stat();
        }
        if let Some(place) = self.seen.iter().position(is_it) {
            let seen = self.seen[place].1;
            if !kept {
                self.seen.drain(..=place);
            }
            return seen.stat();
        }
        self.asked = self.asked.saturating_add(1);
        None
    }

    /// Whether the guest asks so much that looking ahead is worth it.
    pub(super) fn are_asked_for(&self) -> bool {
        self.asked >= ASKS && !self.are_looked_up_ahead()
    }

    /// Whether what they are is looked up before the guest asks.
    pub(super) fn are_looked_up_ahead(&self) -> bool {
        matches!(self.listing, Some(Listing::Ahead { .. }))
    }

    /// Looks up ahead from here on, by one more of these `readers`.
    pub(super) fn look_ahead(&mut self, readers: &mut Readers) {
        self.listing = self.listing.take().map(|listing| listing.look_ahead(readers));
    }

    fn next_on_disk(&mut self, check: impl Fn() -> Result<(), Interrupt>) -> Result<Option<DirectoryEntry>, NotDone> {
        let Some(listing) = &mut self.listing else { return Ok(None) };
        while let Some(listed) = listing.next(&check)? {
            let Some(name) = listed.name else {
                self.unreadable += 1;
                continue;
            };
            if name == "." || name == ".." || is_hidden(&self.folder, &name) || self.changes.contains_key(&name) {
                continue;
            }
            if let Some(seen) = listed.seen {
                if self.seen.len() >= MOST_SEEN {
                    self.seen.pop_front();
                }
                self.seen.push_back((name.clone(), seen));
            }
            return Ok(Some(DirectoryEntry { type_: descriptor_type(listed.kind), name }));
        }
        Ok(None)
    }

    fn next_change(&mut self) -> Option<DirectoryEntry> {
        loop {
            let (name, entry) = self.changes.pop_first()?;
            let type_ = match entry {
                Entry::Gone => continue,
                Entry::Made(_) => DescriptorType::Directory,
                Entry::Moved(real) => descriptor_type(kind_at(real.folder.as_fd(), &real.name)),
            };
            return Some(DirectoryEntry { type_, name });
        }
    }
}

/// Whether a guest is not shown this name: at the top of a mount those of the
/// host's own, elsewhere the markers and trashes of other mounts.
fn is_hidden(folder: &Folder, name: &str) -> bool {
    if folder.path.is_empty() {
        return is_reserved(name);
    }
    let stat = |fd| rustix::fs::statat(fd, name, AtFlags::SYMLINK_NOFOLLOW).ok();
    kept::may_be_kept(name) && folder.fd().and_then(stat).is_some_and(|stat| kept::is_kept_stat(&stat))
}

/// A kind of file as WASI has it.
///
/// A socket is `unknown`. WASI 0.1 tells a socket for streams from one for
/// datagrams, and no listing does; the adapter by which the C libraries of Rust, C
/// and Python reach WASI 0.2 ends the guest by `unreachable` where it meets
/// `socket`. It makes `unknown` of a pipe by itself.
pub(super) fn descriptor_type(kind: FileType) -> DescriptorType {
    match kind {
        FileType::RegularFile => DescriptorType::RegularFile,
        FileType::Directory => DescriptorType::Directory,
        FileType::Symlink => DescriptorType::SymbolicLink,
        FileType::Fifo => DescriptorType::Fifo,
        FileType::CharacterDevice => DescriptorType::CharacterDevice,
        FileType::BlockDevice => DescriptorType::BlockDevice,
        FileType::Socket | FileType::Unknown => DescriptorType::Unknown,
    }
}
