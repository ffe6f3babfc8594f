//! A guest's stream over a folder's entries: read from the kernel as the guest
//! asks, without a stat for each. WASI's own reads and stats the whole folder
//! in one call.

use std::os::fd::AsFd;

use rustix::fs::{AtFlags, Dir, FileType};
use wasmtime_wasi::p2::FsResult;
use wasmtime_wasi::p2::bindings::filesystem::types::ErrorCode;
use wasmtime_wasi::p2::bindings::sync::filesystem::types::{DescriptorType, DirectoryEntry};

/// The entries of one open folder.
pub(super) struct Entries {
    folder: Dir,
    /// Names that are not UTF-8 cannot be told to a guest: skipped, counted.
    pub(super) unreadable: u64,
}

impl Entries {
    /// Begins at the first entry, whatever was read through `folder` before.
    pub(super) fn of(folder: impl AsFd) -> std::io::Result<Self> {
        Ok(Self { folder: Dir::read_from(folder)?, unreadable: 0 })
    }

    /// The next entry, without `.` and `..`; `None` at the end.
    pub(super) fn next(&mut self) -> FsResult<Option<DirectoryEntry>> {
        while let Some(entry) = self.folder.read() {
            let entry = entry.map_err(|errno| ErrorCode::from(std::io::Error::from(errno)))?;
            let Ok(name) = entry.file_name().to_str() else {
                self.unreadable += 1;
                continue;
            };
            if name == "." || name == ".." {
                continue;
            }
            let kind = self.kind_of(&entry, name);
            return Ok(Some(DirectoryEntry { type_: kind, name: name.to_owned() }));
        }
        Ok(None)
    }

    /// Some file systems do not say in the listing what an entry is.
    fn kind_of(&self, entry: &rustix::fs::DirEntry, name: &str) -> DescriptorType {
        let kind = match entry.file_type() {
            FileType::Unknown => self
                .folder
                .fd()
                .and_then(|folder| rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW))
                .map_or(FileType::Unknown, |stat| FileType::from_raw_mode(stat.st_mode)),
            known => known,
        };
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
}
