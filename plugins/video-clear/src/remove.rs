//! Removes a file, a link or a whole tree, given any of them.
//!
//! One file costs one call. A tree is gone through without recursion, and a path
//! never grows beyond what a system call takes: where it would, the folder below
//! is first moved up to the top of the tree that is being removed, and removed
//! from there. So a tree may be deeper than a path can say. Links are removed,
//! not followed.
//!
//! A tree that takes longer than one call is left in time, with part of it gone;
//! what was moved is still inside it, and the next call does the rest. So it is
//! after an interruption. Every call gets on: its first change is made however
//! little time there is.
//!
//! Memory is bounded whatever the tree holds: a folder is gone through in rounds,
//! and folders that are still to be removed are listed again rather than all
//! remembered.
// length: a third of it is the tests of the walk, which need its constants.

use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use sweepd_sdk::TimeLeft;

/// A path this long may get one more name (255 bytes) and still be taken by
/// every system call (4,096 bytes with the mount's own path before it).
const LONGEST_PATH: usize = 2048;

/// How many folders deep a path goes. The kernel walks it at every call.
const DEEPEST: usize = 64;

/// How many names of one folder are listed before they are removed: few at
/// first, so that a call on a slow disk gets on, then twice as many.
const FIRST_ROUND: usize = 64;
const ROUND: usize = 4096;

/// How many folders of a tree are remembered, besides a few in each folder that
/// is being emptied.
const REMEMBERED: usize = 4096;
const AT_LEAST: usize = 64;

/// Changes of one call, of which the host allows a million unless it is told
/// otherwise.
const MOST_CHANGES: u64 = 500_000;

/// What there was.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Removed {
    /// A file or a link.
    File,
    /// A folder, with all that was in it.
    Tree {
        /// How many files and links it had.
        files: u64,
        /// How many folders, with itself.
        folders: u64,
    },
    /// Part of a folder: the time of the call is up.
    Part {
        /// How many files and links are gone.
        files: u64,
    },
    /// Nothing was there.
    Nothing,
}

/// What could not be removed, and why.
#[derive(Debug)]
pub(crate) struct Stuck {
    path: PathBuf,
    why: io::Error,
}

impl fmt::Display for Stuck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        match self.why.kind() {
            ErrorKind::CrossesDevices => write!(f, "{path}: something else is mounted there, and is not removed"),
            _ => write!(f, "{path}: {}", self.why),
        }
    }
}

/// Removes what is at the path, or as much of it as there is time for.
pub(crate) fn remove(path: &Path, time: TimeLeft) -> Result<Removed, Stuck> {
    match fs::remove_file(path) {
        Ok(()) => Ok(Removed::File),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Removed::Nothing),
        Err(error) if is_folder(path, &error) => Tree::new(path, time).remove(),
        Err(why) => Err(Stuck { path: path.to_owned(), why }),
    }
}

/// Whether the path could not be removed as a file because it is a folder.
/// Systems differ in how they say so, hence the second look.
fn is_folder(path: &Path, error: &io::Error) -> bool {
    error.kind() == ErrorKind::IsADirectory || fs::symlink_metadata(path).is_ok_and(|found| found.is_dir())
}

/// A tree on its way out.
struct Tree {
    /// The folder that is being emptied.
    path: PathBuf,
    /// Of the folders still to be removed in each folder from the top to `path`,
    /// those that are remembered.
    levels: Vec<Vec<OsString>>,
    /// For the names of folders that are moved up. It begins with the time:
    /// what an earlier call moved up has other names.
    moved: u64,
    files: u64,
    folders: u64,
    /// The names of the next round.
    round: usize,
    time: TimeLeft,
    changes: u64,
    /// There is no time for more.
    is_over: bool,
}

impl Tree {
    fn new(top: &Path, time: TimeLeft) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            path: top.to_owned(),
            levels: Vec::new(),
            moved: u64::try_from(now.as_micros()).unwrap_or(0),
            files: 0,
            folders: 0,
            round: FIRST_ROUND,
            time,
            changes: 0,
            is_over: false,
        }
    }

    fn remove(mut self) -> Result<Removed, Stuck> {
        match self.empty() {
            Ok(()) if self.is_over => Ok(Removed::Part { files: self.files }),
            Ok(()) => Ok(Removed::Tree { files: self.files, folders: self.folders }),
            Err(why) => Err(Stuck { path: self.path, why }),
        }
    }

    /// Whether one more change may be made.
    fn may_go_on(&mut self) -> bool {
        let is_first = self.changes == 0;
        self.changes += 1;
        self.is_over |= !is_first && (self.changes > MOST_CHANGES || !self.time.is_enough());
        !self.is_over
    }

    /// On an error, `path` is what it is about.
    fn empty(&mut self) -> io::Result<()> {
        self.enter()?;
        while let Some(level) = self.levels.last_mut() {
            if self.is_over {
                return Ok(());
            }
            if let Some(name) = level.pop() {
                self.path.push(name);
                if self.is_too_deep() {
                    self.move_up()?;
                } else {
                    self.enter()?;
                }
            } else {
                self.leave()?;
            }
        }
        Ok(())
    }

    /// Whether `path` is to be moved up first. What is in the top folder itself
    /// is as far up as it can be.
    fn is_too_deep(&self) -> bool {
        self.levels.len() > 1 && (self.levels.len() >= DEEPEST || self.path.as_os_str().len() > LONGEST_PATH)
    }

    /// Starts with the folder at `path`.
    fn enter(&mut self) -> io::Result<()> {
        let mut folders = Vec::new();
        self.clear(&mut folders)?;
        self.levels.push(folders);
        Ok(())
    }

    /// Removes the folder at `path`, of which no known folder is left. What else
    /// is in it (beyond a round, not remembered, or new since) is gone through
    /// first.
    fn leave(&mut self) -> io::Result<()> {
        if !self.may_go_on() {
            return Ok(());
        }
        match fs::remove_dir(&self.path) {
            Ok(()) => self.folders += 1,
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            // Systems differ in how they say that it is not empty, hence the look.
            Err(error) => {
                let mut folders = Vec::new();
                if !self.clear(&mut folders)? {
                    // Nothing that the host shows: names that are not UTF-8, or no right to.
                    return Err(error);
                }
                if let Some(level) = self.levels.last_mut() {
                    *level = folders;
                }
                return Ok(());
            }
        }
        self.levels.pop();
        if !self.levels.is_empty() {
            self.path.pop();
        }
        Ok(())
    }

    /// Removes the files at `path`, a round of them, and collects the folders.
    /// Answers whether there was anything.
    fn clear(&mut self, folders: &mut Vec<OsString>) -> io::Result<bool> {
        let entries = match fs::read_dir(&self.path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
            entries => entries?,
        };
        // The names come first: a listing that goes on while its folder changes
        // may leave some out.
        let round = entries
            .take(self.round)
            .map(|entry| {
                let entry = entry?;
                let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
                Ok((is_dir, entry.file_name()))
            })
            .collect::<io::Result<Vec<_>>>()?;
        self.round = (self.round * 2).min(ROUND);
        let remembered: usize = self.levels.iter().map(Vec::len).sum();
        let room = REMEMBERED.saturating_sub(remembered).max(AT_LEAST);
        let any = !round.is_empty();
        for (is_dir, name) in round {
            if is_dir {
                if folders.len() < room {
                    folders.push(name);
                }
                continue;
            }
            if !self.may_go_on() {
                break;
            }
            self.path.push(&name);
            match fs::remove_file(&self.path) {
                Ok(()) => self.files += 1,
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) if is_folder(&self.path, &error) => folders.push(name),
                Err(error) => return Err(error),
            }
            self.path.pop();
        }
        Ok(any)
    }

    /// Moves the folder at `path` into the tree's top folder, to be removed from
    /// there, and goes back to the folder that it was in.
    fn move_up(&mut self) -> io::Result<()> {
        // Each level has one part of the path below the top folder.
        let top = self.path.ancestors().nth(self.levels.len());
        let top = top.expect("the top folder is above all its levels").to_owned();
        loop {
            if !self.may_go_on() {
                return Ok(());
            }
            let name = OsString::from(format!(".sweepd-deep-{}", self.moved));
            self.moved += 1;
            let place = top.join(&name);
            match fs::rename(&self.path, &place) {
                Ok(()) if self.levels[0].len() < REMEMBERED => self.levels[0].push(name),
                // It is found when the top folder is to go, and is not empty.
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                // Left by an interrupted call: that name is taken.
                Err(_) if fs::symlink_metadata(&place).is_ok() => continue,
                Err(error) => return Err(error),
            }
            self.path.pop();
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sweepd_sdk::testing::Run;
    use tempfile::TempDir;

    fn tree() -> (TempDir, PathBuf) {
        let folder = TempDir::new().expect("a folder");
        let top = folder.path().join("video");
        fs::create_dir(&top).expect("a tree");
        (folder, top)
    }

    /// A chain of folders, built from its end so that every path is short.
    fn chain(folder: &Path, depth: u64, name: &str) -> PathBuf {
        let (inner, outer) = (folder.join("inner"), folder.join("outer"));
        fs::create_dir(&inner).expect("the last folder");
        fs::write(inner.join("segment"), "x").expect("a file in it");
        for _ in 1..depth {
            fs::create_dir(&outer).expect("a folder");
            fs::rename(&inner, outer.join(name)).expect("around the others");
            fs::rename(&outer, &inner).expect("and again");
        }
        inner
    }

    /// Removes it in calls that have time for nothing but their first change.
    /// Answers what each removed.
    fn remove_bit_by_bit(path: &Path) -> Vec<Removed> {
        let mut all = Vec::new();
        loop {
            let time = Run::new().deadline(0).enter(TimeLeft::of_call);
            all.push(remove(path, time).expect("removed"));
            if !matches!(all.last(), Some(Removed::Part { .. })) {
                return all;
            }
        }
    }

    #[test]
    fn a_call_without_time_makes_one_change_and_the_next_goes_on() {
        let (_folder, top) = tree();
        fs::create_dir(top.join("empty")).expect("a folder");
        for number in 0..5 {
            fs::write(top.join(number.to_string()), "").expect("a file");
        }
        let all = remove_bit_by_bit(&top);
        let files = |removed: &Removed| match removed {
            Removed::Part { files } | Removed::Tree { files, .. } => *files,
            Removed::File | Removed::Nothing => 0,
        };
        assert_eq!((all.len(), all.iter().map(files).sum::<u64>()), (7, 5), "{all:?}");
        assert!(all.iter().all(|removed| files(removed) <= 1), "{all:?}");
        assert!(!top.exists());
    }

    #[test]
    fn a_tree_deeper_than_a_path_can_say_is_removed_bit_by_bit() {
        let folder = TempDir::new().expect("a folder");
        let top = chain(folder.path(), 200, "d");
        let all = remove_bit_by_bit(&top);
        assert!(all.len() > 200, "{}", all.len());
        assert!(!top.exists());
    }

    #[test]
    fn more_folders_than_are_remembered_are_removed() {
        let (_folder, top) = tree();
        // The first rounds fill the memory of the outer folder.
        let many = REMEMBERED as u64;
        for number in 0..many {
            fs::create_dir(top.join(number.to_string())).expect("a folder");
        }
        for number in 0..2 * AT_LEAST {
            fs::create_dir(top.join(format!("0/{number}"))).expect("a folder");
        }
        let removed = remove(&top, TimeLeft::of_call()).expect("removed");
        assert_eq!(removed, Removed::Tree { files: 0, folders: many + 2 * AT_LEAST as u64 + 1 });
    }

    #[test]
    fn nothing_is_nothing() {
        let (_folder, top) = tree();
        assert_eq!(remove(&top.join("v"), TimeLeft::of_call()).ok(), Some(Removed::Nothing));
    }

    #[test]
    fn folders_deeper_than_a_path_can_say_are_removed() {
        let folder = TempDir::new().expect("a folder");
        let (depth, name) = (20_000, "d");
        let top = chain(folder.path(), depth, name);
        let removed = remove(&top, TimeLeft::of_call()).expect("removed");
        assert_eq!(removed, Removed::Tree { files: 1, folders: depth });
        assert!(!top.exists());
    }

    #[test]
    fn long_names_are_removed_as_well() {
        let folder = TempDir::new().expect("a folder");
        let depth = 200;
        let top = chain(folder.path(), depth, &"n".repeat(255));
        let removed = remove(&top, TimeLeft::of_call()).expect("removed");
        assert_eq!(removed, Removed::Tree { files: 1, folders: depth });
    }

    #[test]
    fn what_an_interrupted_removal_moved_up_is_removed_too() {
        let folder = TempDir::new().expect("a folder");
        let top = chain(folder.path(), 200, "d");
        fs::create_dir_all(top.join(".sweepd-deep-0/d")).expect("left over");
        fs::write(top.join(".sweepd-deep-1"), "x").expect("left over");
        remove(&top, TimeLeft::of_call()).expect("removed");
        assert!(!top.exists());
    }

    #[test]
    fn a_folder_is_gone_through_in_rounds() {
        let (_folder, top) = tree();
        let many = ROUND as u64 + 10;
        for number in 0..many {
            fs::write(top.join(number.to_string()), "").expect("a file");
        }
        let removed = remove(&top, TimeLeft::of_call()).expect("removed");
        assert_eq!(removed, Removed::Tree { files: many, folders: 1 });
    }

    #[cfg(unix)]
    #[test]
    fn links_are_removed_and_not_followed() {
        use std::os::unix::fs::symlink;
        let (folder, top) = tree();
        let kept = folder.path().join("kept");
        fs::create_dir(&kept).expect("a folder");
        fs::write(kept.join("file"), "x").expect("a file");
        symlink(&kept, top.join("link")).expect("a link");
        symlink("nowhere", top.join("dangling")).expect("a link");
        let removed = remove(&top, TimeLeft::of_call()).expect("removed");
        assert_eq!(removed, Removed::Tree { files: 2, folders: 1 });

        let link = folder.path().join("video");
        symlink(&kept, &link).expect("a link in the video's place");
        assert_eq!(remove(&link, TimeLeft::of_call()).ok(), Some(Removed::File));
        assert!(kept.join("file").exists());
    }
}
