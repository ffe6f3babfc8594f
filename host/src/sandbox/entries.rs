//! A guest's stream over a folder's entries: read from the kernel as the guest
//! asks, without a stat for each. WASI's own reads and stats the whole folder
//! in one call.
//!
//! What the host keeps for itself is left out, and in a simulation what that
//! changed is shown.

use std::collections::BTreeMap;
use std::os::fd::{AsFd as _, BorrowedFd};

use rustix::fs::{AtFlags, Dir, FileType};
use rustix::io::Errno;
use wasmtime_wasi::p2::FsResult;
use wasmtime_wasi::p2::bindings::filesystem::types::ErrorCode;
use wasmtime_wasi::p2::bindings::sync::filesystem::types::{DescriptorType, DirectoryEntry};

use super::mounts::is_reserved;
use super::overlay::{Entry, Overlay};
use super::place::Folder;

/// The entries of one open folder.
pub(super) struct Entries {
    /// `None` for a folder that is not on disk.
    folder: Option<Dir>,
    /// At the top of a mount, the host's own names are left out.
    at_top: bool,
    /// What a simulation changed, by name; what was shown of it is taken out.
    changes: BTreeMap<String, Entry>,
    /// How many more may be handed out.
    left: u64,
    /// Names that are not UTF-8 cannot be told to a guest: skipped, counted.
    pub(super) unreadable: u64,
}

impl Entries {
    /// Begins at the first entry, whatever was read through `folder` before. At
    /// most `limit` are handed out.
    pub(super) fn of(folder: &Folder, overlay: Option<&Overlay>, limit: u64) -> Result<Self, Errno> {
        let changes = match overlay {
            Some(overlay) => overlay.changes(folder.key()?).cloned().unwrap_or_default(),
            None => BTreeMap::new(),
        };
        let at_top = folder.path.is_empty();
        let folder = folder.fd().map(|_| folder.read()).transpose()?.map(Dir::new).transpose()?;
        Ok(Self { folder, at_top, changes, left: limit, unreadable: 0 })
    }

    /// The next entry, without `.` and `..`; `None` at the end.
    pub(super) fn next(&mut self) -> FsResult<Option<DirectoryEntry>> {
        let next = match self.next_on_disk()? {
            Some(entry) => Some(entry),
            None => self.next_change(),
        };
        if next.is_some() {
            self.left = self.left.checked_sub(1).ok_or(ErrorCode::InsufficientMemory)?;
        }
        Ok(next)
    }

    fn next_on_disk(&mut self) -> FsResult<Option<DirectoryEntry>> {
        let Some(folder) = &mut self.folder else { return Ok(None) };
        while let Some(entry) = folder.read() {
            let entry = entry.map_err(|errno| ErrorCode::from(std::io::Error::from(errno)))?;
            let Ok(name) = entry.file_name().to_str() else {
                self.unreadable += 1;
                continue;
            };
            if name == "." || name == ".." || (self.at_top && is_reserved(name)) || self.changes.contains_key(name) {
                continue;
            }
            let kind = match entry.file_type() {
                // Some file systems do not say in the listing what an entry is.
                FileType::Unknown => folder.fd().map_or(FileType::Unknown, |folder| kind_at(folder, name)),
                known => known,
            };
            return Ok(Some(DirectoryEntry { type_: descriptor_type(kind), name: name.to_owned() }));
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

fn kind_at(folder: BorrowedFd<'_>, name: &str) -> FileType {
    rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)
        .map_or(FileType::Unknown, |stat| FileType::from_raw_mode(stat.st_mode))
}

/// A kind of file as WASI has it.
pub(super) fn descriptor_type(kind: FileType) -> DescriptorType {
    match kind {
        FileType::RegularFile => DescriptorType::RegularFile,
        FileType::Directory => DescriptorType::Directory,
        FileType::Symlink => DescriptorType::SymbolicLink,
        FileType::Fifo => DescriptorType::Fifo,
        FileType::Socket => DescriptorType::Socket,
        FileType::CharacterDevice => DescriptorType::CharacterDevice,
        FileType::BlockDevice => DescriptorType::BlockDevice,
        FileType::Unknown => DescriptorType::Unknown,
    }
}
