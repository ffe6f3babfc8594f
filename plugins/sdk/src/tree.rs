//! Removing whatever stands at a path: a file, a link, or a tree of folders, as
//! `rm -rf` does.
//!
//! ```no_run
//! use sweepd_sdk::{Failure, Outcome, TimeLeft, tree};
//!
//! fn execute(path: &str) -> Result<Outcome, Failure> {
//!     match tree::remove(path, TimeLeft::of_call()).map_err(Failure::transient)? {
//!         tree::Removed::Nothing => Ok(Outcome::skipped("already gone")),
//!         tree::Removed::Part { files } => Ok(Outcome::postpone(1, format!("removed {files} files, going on"))),
//!         tree::Removed::File | tree::Removed::Tree { .. } => Ok(Outcome::done()),
//!     }
//! }
//! ```
//! It takes the rights `list` and `delete`, and nothing else. Links are removed, not
//! followed.

mod folder;
mod walk;

use std::fmt;
use std::fs;
use std::io::{self, ErrorKind};

use crate::TimeLeft;

use self::walk::Walk;

/// What there was.
#[derive(Debug, PartialEq, Eq)]
pub enum Removed {
    /// A file or a link.
    File,
    /// A folder, with all that was in it.
    Tree {
        /// How many files and links it had.
        files: u64,
        /// How many folders, with itself.
        folders: u64,
    },
    /// Part of a folder: the time of the call is up. The next call does the rest.
    Part {
        /// How many files and links are gone.
        files: u64,
    },
    /// Nothing was there.
    Nothing,
}

/// Something could not be removed, and why. All else in the tree is gone, as far
/// as there was time.
#[derive(Debug)]
pub struct Stuck {
    /// The first of what could not be removed.
    pub path: String,
    /// Why it could not.
    pub why: io::Error,
    /// How many files and folders could not be removed, with the first. Folders
    /// that are only not empty for it do not count.
    pub stuck: u64,
    /// How many files and links are gone.
    pub files: u64,
}

/// Longest path that is shown whole, in bytes; of a longer one both ends are.
const SHOWN: usize = 1000;

/// The first and its reason, and how many there are.
impl fmt::Display for Stuck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = &self.path;
        if path.len() <= SHOWN {
            f.write_str(path)?;
        } else {
            let (head, tail) = (path.floor_char_boundary(SHOWN / 2), path.ceil_char_boundary(path.len() - SHOWN / 2));
            write!(f, "{}…{}", &path[..head], &path[tail..])?;
        }
        match self.why.kind() {
            ErrorKind::CrossesDevices => f.write_str(": something else is mounted there, and is not removed")?,
            _ => write!(f, ": {}", self.why)?,
        }
        match (self.stuck, self.files) {
            (0 | 1, 0) => Ok(()),
            (0 | 1, files) => write!(f, "; all else is removed, {files} files"),
            (stuck, files) => write!(f, "; {} more could not be removed, {files} files were", stuck - 1),
        }
    }
}

impl std::error::Error for Stuck {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.why)
    }
}

/// Removes what is at the path, or as much of it as there is time for: every call
/// makes one change at least.
///
/// One file costs one call. A tree may be as deep and as large as it likes: it is gone
/// through from folder to folder and not by its paths, with a bounded number of open
/// folders and a bounded number of names in memory. What is in the way of one file is in
/// the way of no other.
///
/// # Errors
///
/// What cannot be removed, after all that can be. Where the time was up before, that
/// is an error only where the call removed nothing.
pub fn remove(path: &str, time: TimeLeft) -> Result<Removed, Stuck> {
    match fs::remove_file(path) {
        Ok(()) => Ok(Removed::File),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Removed::Nothing),
        Err(error) if is_folder(path, &error) => Walk::new(path, time).remove(),
        Err(why) => Err(Stuck { path: path.to_owned(), why, stuck: 1, files: 0 }),
    }
}

/// Whether the path could not be removed as a file because it is a folder. Systems
/// differ in how they say so, hence the second look: it opens no link.
fn is_folder(path: &str, error: &io::Error) -> bool {
    error.kind() == ErrorKind::IsADirectory || folder::Folder::open(path).is_ok()
}
