//! Going through a tree that is removed, without recursion.
//!
//! ```text
//!  top ─ level ─ level ─ level      files of a level go first, then its folders,
//!   ●      ○       ○       ●        then itself; ● is held open, ○ is opened again
//! ```
//! Of the folders on the way some are held open: the top, the last few, and of
//! those between fewer and fewer. The others are opened again from the nearest one
//! above when it is their turn to go. Memory is bounded whatever the tree holds:
//! a folder is gone through in rounds, folders that are still to be removed are
//! listed again rather than all remembered, and where the names on the way become
//! too many, the upper part of the way is forgotten, and gone again later.

// length: a third of it is the tests of the walk, which need its constants.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hasher as _};
use std::io::{self, ErrorKind};

use super::folder::{Entry, Folder};
use super::{Removed, Stuck};
use crate::TimeLeft;

/// How many names of one folder are listed before they are removed: few at
/// first, so that a call on a slow disk gets on, then twice as many.
const FIRST_ROUND: usize = 64;
const ROUND: usize = 4096;

/// How many folders of a tree are remembered, besides one in each folder on the way.
const REMEMBERED: usize = 4096;

/// How many folders that cannot go are known again when their folder is listed
/// once more.
const MOST_KNOWN: usize = 65_536;

/// So many folders are held open, and of them the last few without a gap: few, of
/// the descriptors that `job.limits.descriptors` leaves a guest.
const MOST_OPEN: usize = 10;
const LAST: usize = 4;

/// Longest path by which a folder is opened again, in bytes.
const LONGEST_PATH: usize = 2048;

/// Most bytes of names on the way. Where there are more, the upper half of the
/// way is forgotten.
const LONGEST_WAY: usize = 4 << 20;

/// Changes of one call, of which the host allows a million unless it is told
/// otherwise.
const MOST_CHANGES: u64 = 500_000;

/// A folder on the way.
#[derive(Default)]
struct Level {
    /// Its name in the one above.
    name: String,
    /// `None` where it was closed.
    folder: Option<Folder>,
    /// Folders in it that are to be gone through.
    todo: Vec<String>,
    /// More of them were listed than are remembered.
    has_more: bool,
    /// Files in it that could not be removed when they were last tried.
    stuck_files: u64,
    /// Folders in it that could not be removed: hashes of their names.
    stuck_folders: HashSet<u64>,
    /// Why it could not be listed. It may be empty all the same.
    unlisted: Option<io::Error>,
}

impl Level {
    /// Whether something in it is known to stay.
    fn stays(&self) -> bool {
        self.stuck_files > 0 || !self.stuck_folders.is_empty()
    }
}

/// A tree on its way out.
pub(super) struct Walk<'p> {
    top: &'p str,
    levels: Vec<Level>,
    /// Which levels are held open, from the top.
    open: Vec<usize>,
    /// Names of folders in all levels.
    remembered: usize,
    /// Bytes of the names of the levels.
    way: usize,
    /// The first level is not the top: the way to it was forgotten.
    is_cut: bool,
    /// The first of what could not be removed.
    first: Option<(String, io::Error)>,
    /// How much of what was gone through could not be removed.
    stuck: u64,
    /// Hashes in all levels.
    known: usize,
    files: u64,
    folders: u64,
    /// The names of the next round.
    round: usize,
    time: TimeLeft,
    changes: u64,
    /// There is no time for more.
    is_over: bool,
}

impl<'p> Walk<'p> {
    pub(super) fn new(top: &'p str, time: TimeLeft) -> Self {
        Self {
            top,
            levels: Vec::new(),
            open: Vec::new(),
            remembered: 0,
            way: 0,
            is_cut: false,
            first: None,
            stuck: 0,
            known: 0,
            files: 0,
            folders: 0,
            round: FIRST_ROUND,
            time,
            changes: 0,
            is_over: false,
        }
    }

    pub(super) fn remove(mut self) -> Result<Removed, Stuck> {
        loop {
            let before = self.files + self.folders;
            (self.first, self.stuck, self.known, self.is_cut) = (None, 0, 0, false);
            self.go();
            // What was forgotten of the way is gone through as long as that gets on.
            if !self.is_cut || self.is_over || self.files + self.folders == before {
                break;
            }
        }
        let (files, folders) = (self.files, self.folders);
        match self.first {
            _ if self.is_over && files + folders > 0 => Ok(Removed::Part { files }),
            Some((path, why)) => Err(Stuck { path, why, stuck: self.stuck, files }),
            None if self.is_over => Ok(Removed::Part { files }),
            None => Ok(Removed::Tree { files, folders }),
        }
    }

    /// Whether one more change may be made.
    fn may_go_on(&mut self) -> bool {
        let is_first = self.changes == 0;
        self.changes += 1;
        self.is_over |= !is_first && (self.changes > MOST_CHANGES || !self.time.is_enough());
        !self.is_over
    }

    fn go(&mut self) {
        match Folder::open(self.top) {
            Ok(folder) => self.enter(String::new(), folder),
            Err(error) if error.kind() == ErrorKind::NotFound => return,
            Err(error) => return self.tell(error),
        }
        while let Some(level) = self.levels.last_mut() {
            if self.is_over {
                break;
            }
            let Some(name) = level.todo.pop() else {
                self.leave();
                continue;
            };
            self.remembered -= 1;
            match self.folder().and_then(|folder| folder.below(&name)) {
                Ok(folder) => self.enter(name, folder),
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                // It may be empty all the same.
                Err(error) => self.remove_unseen(name, error),
            }
        }
        self.levels.clear();
        self.open.clear();
        (self.remembered, self.way) = (0, 0);
    }

    /// Starts with a folder in the last one.
    fn enter(&mut self, name: String, folder: Folder) {
        self.way += name.len() + 1;
        self.levels.push(Level { name, folder: Some(folder), ..Level::default() });
        self.open.push(self.levels.len() - 1);
        self.close_some();
        if self.way > LONGEST_WAY {
            self.forget_half();
        }
        // A deep way takes time of its own, once the call has got on.
        self.is_over |= self.changes > 0 && !self.time.is_enough();
        self.clear();
    }

    /// The last level is as far as it goes: it is removed, unless something in it
    /// stays.
    fn leave(&mut self) {
        let Some(level) = self.levels.last() else { return };
        if level.has_more && self.known < MOST_KNOWN && self.clear() {
            return;
        }
        let stays = self.levels.last().is_some_and(Level::stays);
        let is_left = stays || (self.is_cut && self.levels.len() == 1);
        if !is_left {
            if !self.may_go_on() {
                return;
            }
            match self.remove_last() {
                Ok(()) => self.folders += 1,
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                // Something is new since, or was left out by the listing. Systems
                // differ in how they say that it is not empty, hence the look.
                Err(error) => {
                    let unlisted = self.levels.last_mut().and_then(|level| level.unlisted.take());
                    if unlisted.is_none() && (self.clear() || self.is_over) {
                        return;
                    }
                    if !self.levels.last().is_some_and(Level::stays) {
                        // Nothing that the host shows: names that are not UTF-8, or no right to.
                        self.tell(unlisted.unwrap_or(error));
                    }
                    return self.go_up(true);
                }
            }
        }
        self.go_up(stays);
    }

    fn go_up(&mut self, stays: bool) {
        let Some(level) = self.levels.pop() else { return };
        self.open.pop_if(|last| *last == self.levels.len());
        self.way -= level.name.len() + 1;
        self.remembered -= level.todo.len();
        self.known -= level.stuck_folders.len();
        self.stuck += level.stuck_files;
        if stays && let Some(above) = self.levels.last_mut() {
            self.known += usize::from(above.stuck_folders.insert(hash(&level.name)));
        }
    }

    /// Removes the folder of the last level, which is empty.
    fn remove_last(&mut self) -> io::Result<()> {
        let Some(above) = self.levels.len().checked_sub(2) else { return std::fs::remove_dir(self.top) };
        self.open_again(above)?;
        let [.., above, last] = self.levels.as_slice() else { return Err(ErrorKind::NotFound.into()) };
        above.folder.as_ref().ok_or(ErrorKind::NotFound)?.remove_folder(&last.name)
    }

    /// A folder that cannot be opened can only be removed where it is empty.
    fn remove_unseen(&mut self, name: String, why: io::Error) {
        if !self.may_go_on() {
            return;
        }
        match self.folder().and_then(|folder| folder.remove_folder(&name)) {
            Ok(()) => self.folders += 1,
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(_) => {
                self.way += name.len() + 1;
                self.levels.push(Level { name, ..Level::default() });
                self.tell(why);
                self.go_up(true);
            }
        }
    }

    /// Removes the files of the last level, and collects its folders. Answers
    /// whether that got anywhere.
    fn clear(&mut self) -> bool {
        let listed = self.folder().and_then(Folder::entries);
        let mut entries = match listed {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return false,
            Err(error) => {
                if let Some(level) = self.levels.last_mut() {
                    level.unlisted = Some(error);
                }
                return false;
            }
        };
        if let Some(level) = self.levels.last_mut() {
            (level.stuck_files, level.has_more) = (0, false);
        }
        let mut got_on = false;
        loop {
            // The names come first: what is removed is not listed meanwhile.
            let mut names = Vec::new();
            for entry in entries.by_ref().take(self.round) {
                match entry {
                    Ok(entry) => names.push(entry),
                    Err(error) => {
                        let path = self.path();
                        self.is_stuck(path, error);
                        return got_on;
                    }
                }
            }
            self.round = (self.round * 2).min(ROUND);
            if names.is_empty() {
                return got_on;
            }
            for entry in names {
                if self.is_over {
                    return got_on;
                }
                got_on |= if entry.is_folder { self.remember(entry.name) } else { self.remove_file(entry) };
            }
        }
    }

    fn remember(&mut self, name: String) -> bool {
        let Some(level) = self.levels.last_mut() else { return false };
        if level.stuck_folders.contains(&hash(&name)) {
            return false;
        }
        if self.remembered >= REMEMBERED && !level.todo.is_empty() {
            level.has_more = true;
            return false;
        }
        level.todo.push(name);
        self.remembered += 1;
        true
    }

    fn remove_file(&mut self, Entry { name, .. }: Entry) -> bool {
        if !self.may_go_on() {
            return false;
        }
        match self.folder().and_then(|folder| folder.remove_file(&name)) {
            Ok(()) => {
                self.files += 1;
                true
            }
            Err(error) if error.kind() == ErrorKind::NotFound => false,
            // The listing did not say so.
            Err(error) if error.kind() == ErrorKind::IsADirectory => self.remember(name),
            Err(_) if self.folder().is_ok_and(|folder| folder.below(&name).is_ok()) => self.remember(name),
            Err(error) => {
                let path = if self.first.is_none() { format!("{}/{name}", self.path()) } else { String::new() };
                self.is_stuck(path, error);
                false
            }
        }
    }

    /// The last level itself is in the way.
    fn tell(&mut self, why: io::Error) {
        let path = self.path();
        self.first.get_or_insert((path, why));
        self.stuck += 1;
    }

    /// Something in the last level is in the way, for now: it may be tried again.
    fn is_stuck(&mut self, path: String, why: io::Error) {
        self.first.get_or_insert((path, why));
        if let Some(level) = self.levels.last_mut() {
            level.stuck_files += 1;
        }
    }

    /// The path of the last level.
    fn path(&self) -> String {
        let mut path = self.top.to_owned();
        if self.is_cut {
            path.push_str("/…");
        }
        for level in self.levels.iter().skip(1) {
            path.push('/');
            path.push_str(&level.name);
        }
        path
    }

    /// The folder of the last level.
    fn folder(&mut self) -> io::Result<&Folder> {
        let last = self.levels.len().checked_sub(1).ok_or(ErrorKind::NotFound)?;
        self.open_again(last)?;
        self.levels[last].folder.as_ref().ok_or_else(|| ErrorKind::NotFound.into())
    }

    /// Opens a level again that was closed, from the nearest one above.
    fn open_again(&mut self, level: usize) -> io::Result<()> {
        let above = self.levels[..=level].iter().rposition(|level| level.folder.is_some());
        let mut from = above.ok_or(ErrorKind::NotFound)?;
        while from < level {
            let mut path = self.levels[from + 1].name.clone();
            let mut to = from + 1;
            while to < level && path.len() + 1 + self.levels[to + 1].name.len() <= LONGEST_PATH {
                to += 1;
                path.push('/');
                path.push_str(&self.levels[to].name);
            }
            let folder = self.levels[from].folder.as_ref().ok_or(ErrorKind::NotFound)?;
            self.levels[to].folder = Some(folder.below(&path)?);
            let place = self.open.partition_point(|open| *open < to);
            self.open.insert(place, to);
            self.close_some();
            from = to;
        }
        Ok(())
    }

    /// Closes every other one between the top and the last few, where too many
    /// are open: so the gaps grow with the way back.
    fn close_some(&mut self) {
        if self.open.len() <= MOST_OPEN {
            return;
        }
        let between = 1..self.open.len() - LAST;
        let open = std::mem::take(&mut self.open);
        for (place, level) in open.into_iter().enumerate() {
            if between.contains(&place) && place % 2 == 1 {
                self.levels[level].folder = None;
            } else {
                self.open.push(level);
            }
        }
    }

    /// Forgets the upper half of the way: what is left of it is gone through from
    /// the top again.
    fn forget_half(&mut self) {
        let first = self.levels.len() / 2;
        if self.open_again(first).is_err() {
            return;
        }
        for level in self.levels.drain(..first) {
            self.way -= level.name.len() + 1;
            self.remembered -= level.todo.len();
            self.known -= level.stuck_folders.len();
        }
        self.open.retain(|open| *open >= first);
        self.open.iter_mut().for_each(|open| *open -= first);
        self.is_cut = true;
    }
}

fn hash(name: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(name.as_bytes());
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};

    use tempfile::TempDir;

    use super::*;
    use crate::testing::Run;
    use crate::tree;

    fn remove(path: &Path) -> Result<Removed, Stuck> {
        tree::remove(path.to_str().expect("UTF-8"), TimeLeft::of_call())
    }

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
            all.push(tree::remove(path.to_str().expect("UTF-8"), time).expect("removed"));
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
    fn a_deep_tree_is_removed_bit_by_bit() {
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
        for number in 0..200 {
            fs::create_dir_all(top.join(format!("0/{number}/x"))).expect("folders");
        }
        assert_eq!(remove(&top).expect("removed"), Removed::Tree { files: 0, folders: many + 401 });
    }

    #[test]
    fn nothing_is_nothing() {
        let (_folder, top) = tree();
        assert_eq!(remove(&top.join("v")).ok(), Some(Removed::Nothing));
    }

    #[test]
    fn folders_deeper_than_a_path_can_say_are_removed() {
        let folder = TempDir::new().expect("a folder");
        let depth = 20_000;
        let top = chain(folder.path(), depth, "d");
        assert_eq!(remove(&top).expect("removed"), Removed::Tree { files: 1, folders: depth });
        assert!(!top.exists());
    }

    #[test]
    fn a_way_with_more_names_than_are_kept_is_gone_again() {
        let folder = TempDir::new().expect("a folder");
        let depth = LONGEST_WAY as u64 / 255 + 1000;
        let top = chain(folder.path(), depth, &"n".repeat(255));
        assert_eq!(remove(&top).expect("removed"), Removed::Tree { files: 1, folders: depth });
        assert!(!top.exists());
    }

    #[test]
    fn a_folder_is_gone_through_in_rounds() {
        let (_folder, top) = tree();
        let many = ROUND as u64 + 10;
        for number in 0..many {
            fs::write(top.join(number.to_string()), "").expect("a file");
        }
        assert_eq!(remove(&top).expect("removed"), Removed::Tree { files: many, folders: 1 });
    }

    /// Something is mounted at some folders and files: those stay, with the folders
    /// above them, and nothing else does. Each is told of once, also where its
    /// folder is listed again.
    #[cfg(target_os = "linux")]
    #[test]
    fn what_cannot_be_removed_is_in_the_way_of_nothing_else() {
        let (_folder, top) = tree();
        let folders = [top.join("b/c/stuck"), top.join("b/c/other")];
        let files = [top.join("a/17"), top.join("a/117")];
        for one in &folders {
            fs::create_dir_all(one).expect("folders");
        }
        fs::create_dir(top.join("a")).expect("a folder");
        for number in 0..REMEMBERED + 100 {
            fs::create_dir(top.join(format!("b/c/{number}"))).expect("a folder");
        }
        for number in 0..200 {
            fs::write(top.join(format!("a/{number}")), "").expect("a file");
            fs::write(top.join(format!("b/{number}")), "").expect("a file");
        }
        let run = |command: &str, args: &[&str], at: &Path| {
            let done = std::process::Command::new(command).args(args).arg(at).status();
            assert!(done.is_ok_and(|done| done.success()), "the tests mount as root");
        };
        for one in &folders {
            run("mount", &["-t", "tmpfs", "tmpfs"], one);
        }
        for one in &files {
            run("mount", &["--bind", one.to_str().expect("UTF-8")], one);
        }
        let answer = remove(&top);
        folders.iter().chain(&files).for_each(|one| run("umount", &[], one));
        let told = answer.expect_err("something stays");
        assert_eq!((told.stuck, told.files), (4, 398), "{told}");
        assert!(folders.iter().chain(&files).any(|one| told.path == one.to_str().expect("UTF-8")), "{told}");
        assert!(told.to_string().contains("3 more could not be removed, 398 files were"), "{told}");
        let left = |folder: &str| fs::read_dir(top.join(folder)).expect("it lists").count();
        assert_eq!(["", "a", "b", "b/c"].map(left), [2, 2, 1, 2]);
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
        assert_eq!(remove(&top).expect("removed"), Removed::Tree { files: 2, folders: 1 });

        let link = folder.path().join("video");
        symlink(&kept, &link).expect("a link in the video's place");
        assert_eq!(remove(&link).ok(), Some(Removed::File));
        assert!(kept.join("file").exists());
    }
}
