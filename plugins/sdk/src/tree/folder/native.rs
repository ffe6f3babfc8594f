//! Folders by the system's calls.

use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags};

use super::Entry;

/// An open folder.
#[derive(Debug)]
pub(in crate::tree) struct Folder(OwnedFd);

/// What is in a folder, as far as it was not listed yet.
pub(in crate::tree) struct Entries(Dir);

impl Folder {
    /// Opens the folder at a path; no link is followed there.
    pub(in crate::tree) fn open(path: &str) -> io::Result<Self> {
        Ok(Self(rustix::fs::openat(CWD, path, flags(), Mode::empty())?))
    }

    /// Opens a folder below this one.
    pub(in crate::tree) fn below(&self, path: &str) -> io::Result<Self> {
        Ok(Self(rustix::fs::openat(&self.0, path, flags(), Mode::empty())?))
    }

    pub(in crate::tree) fn entries(&self) -> io::Result<Entries> {
        Ok(Entries(Dir::read_from(&self.0)?))
    }

    pub(in crate::tree) fn remove_file(&self, name: &str) -> io::Result<()> {
        Ok(rustix::fs::unlinkat(&self.0, name, AtFlags::empty())?)
    }

    pub(in crate::tree) fn remove_folder(&self, name: &str) -> io::Result<()> {
        Ok(rustix::fs::unlinkat(&self.0, name, AtFlags::REMOVEDIR)?)
    }
}

fn flags() -> OFlags {
    OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC
}

impl Iterator for Entries {
    type Item = io::Result<Entry>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let entry = match self.0.read()? {
                Ok(entry) => entry,
                Err(error) => return Some(Err(error.into())),
            };
            // A guest is not shown other names either.
            let Ok(name) = entry.file_name().to_str() else { continue };
            if name != "." && name != ".." {
                let is_folder = entry.file_type() == FileType::Directory;
                return Some(Ok(Entry { name: name.to_owned(), is_folder }));
            }
        }
    }
}
