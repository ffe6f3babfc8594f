//! The archive folder, and the move into it.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;

use sweepd_sdk::path::{self, Template};
use sweepd_sdk::{Failure, Outcome, TimeLeft, run, words};

/// A video that was archived this often is looked into by a person.
const MOST_COPIES: u32 = 1000;

/// The folder that videos are moved into.
pub(crate) struct Archive {
    folder: String,
}

impl Archive {
    /// The folder in `archive` of the job's configuration.
    pub(crate) fn from_config() -> Result<Self, Failure> {
        let folder = run::config("archive").unwrap_or_else(|| "archive".to_owned());
        for part in parts(&folder) {
            path::check_key(part).map_err(|_| {
                Failure::Permanent(format!("config `archive` is {folder:?}; it is to be a folder such as \"archive\""))
            })?;
        }
        Ok(Self { folder })
    }

    /// Moves what the key names into the folder.
    pub(crate) fn take(&self, template: &Template, key: &str) -> Result<Outcome, Failure> {
        let path = template.fill(key)?;
        let path = path.as_str();
        if contains(&self.folder, path) || contains(path, &self.folder) {
            return Err(Failure::Permanent(format!(
                "{path} cannot be archived: one of it and the archive {} contains the other",
                self.folder
            )));
        }
        let stuck = |error: io::Error| Failure::transient(format!("{path}: {}", words(&error)));
        match fs::symlink_metadata(path) {
            Ok(_) => {}
            Err(error) if path::is_gone(&error) => return template.already_gone(key),
            Err(error) => return Err(stuck(error)),
        }
        let place = self.free_place(path)?;
        match fs::rename(path, &place) {
            Err(error) if path::is_gone(&error) => {
                // Mostly it is the archive's folder that is missing.
                create_parent(&place)?;
                fs::rename(path, &place).map_err(stuck)?;
            }
            moved => moved.map_err(stuck)?,
        }
        Ok(Outcome::done_with(format!("moved to {place}")))
    }

    /// The first name in the archive that nothing has.
    fn free_place(&self, path: &str) -> Result<String, Failure> {
        let first = format!("{}/{}", self.folder, path.trim_start_matches('/'));
        let mut time = TimeLeft::of_call();
        for copy in 1..=MOST_COPIES {
            if copy > 1 && !time.is_enough() {
                let taken = copy - 1;
                return Err(Failure::transient(format!(
                    "{first}: {taken} names are taken, and there was no time to look at more; clear the archive up, or \
                     give calls more time (job.limits.task_deadline)"
                )));
            }
            let place = match copy {
                1 => first.clone(),
                _ => format!("{first}~{copy}"),
            };
            match fs::symlink_metadata(&place) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(place),
                Err(error) => return Err(Failure::transient(format!("{place}: {}", words(&error)))),
            }
        }
        Err(Failure::Permanent(format!("{first} and {MOST_COPIES} names after it are taken")))
    }
}

fn create_parent(place: &str) -> Result<(), Failure> {
    let Some(parent) = Path::new(place).parent() else {
        return Ok(());
    };
    fs::create_dir_all(parent).map_err(|error| Failure::transient(format!("{}: {}", parent.display(), words(&error))))
}

/// Whether `outer` is `inner` or a folder above it.
fn contains(outer: &str, inner: &str) -> bool {
    let mut inner = parts(inner);
    parts(outer).all(|part| inner.next() == Some(part))
}

fn parts(path: &str) -> impl Iterator<Item = &str> {
    path.strip_prefix('/').unwrap_or(path).split('/')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::VideoArchive;
    use sweepd_sdk::testing::Run;
    use sweepd_sdk::{Executor, Task};
    use tempfile::TempDir;

    /// Executes for `v`, with videos and archive in the folder.
    fn execute(folder: &TempDir) -> Result<Outcome, Failure> {
        let root = folder.path().display();
        Run::new()
            .config("path", format!("{root}/videos/{{key}}"))
            .config("archive", format!("{root}/archive"))
            .enter(|| VideoArchive::execute(&Task::new(1, "v")))
    }

    fn video(folder: &TempDir, content: &str) {
        let videos = folder.path().join("videos");
        fs::create_dir_all(&videos).expect("a folder");
        fs::write(videos.join("v"), content).expect("a video");
    }

    /// What the archive has of `v`, by the end of its name.
    fn archived(folder: &TempDir, end: &str) -> Option<String> {
        let root = folder.path();
        let path = format!("{0}/archive{0}/videos/v{end}", root.display());
        fs::read_to_string(path).ok()
    }

    #[test]
    fn a_video_is_moved_with_its_path_and_a_second_time_skipped() {
        let folder = TempDir::new().expect("a folder");
        video(&folder, "one");
        let answer = execute(&folder);
        assert!(matches!(answer, Ok(Outcome::Done(_))), "{answer:?}");
        assert!(!folder.path().join("videos/v").exists());
        assert_eq!(archived(&folder, "").as_deref(), Some("one"));
        assert_eq!(execute(&folder), Ok(Outcome::skipped("already gone")));
    }

    #[test]
    fn nothing_in_the_archive_is_overwritten() {
        let folder = TempDir::new().expect("a folder");
        for content in ["one", "two", "three"] {
            video(&folder, content);
            execute(&folder).expect("archived");
        }
        for (end, content) in [("", "one"), ("~2", "two"), ("~3", "three")] {
            assert_eq!(archived(&folder, end).as_deref(), Some(content));
        }
    }

    #[test]
    fn a_tree_is_moved_as_one() {
        let folder = TempDir::new().expect("a folder");
        let tree = folder.path().join("videos/v/720p");
        fs::create_dir_all(&tree).expect("a tree");
        fs::write(tree.join("1.ts"), "x").expect("a segment");
        execute(&folder).expect("archived");
        assert_eq!(archived(&folder, "/720p/1.ts").as_deref(), Some("x"));
    }

    #[test]
    fn the_archive_is_not_archived() {
        for (path, archive) in [("{key}", "v"), ("{key}", "v/old"), ("old/{key}", "old")] {
            let answer = Run::new()
                .config("path", path)
                .config("archive", archive)
                .enter(|| VideoArchive::execute(&Task::new(1, "v")));
            assert!(
                matches!(&answer, Err(Failure::Permanent(why)) if why.contains("contains the other")),
                "{answer:?}"
            );
        }
    }

    #[test]
    fn names_are_looked_at_only_as_long_as_there_is_time() {
        let folder = TempDir::new().expect("a folder");
        let root = folder.path().display();
        let archive = Archive { folder: format!("{root}/archive") };
        let place = folder.path().join(format!("archive{root}"));
        fs::create_dir_all(&place).expect("an archive");
        fs::write(place.join("v"), "x").expect("a taken name");
        let path = format!("{root}/v");
        let look = |deadline| Run::new().deadline(deadline).enter(|| archive.free_place(&path));
        assert!(look(u64::MAX).is_ok_and(|place| place.ends_with("/v~2")));
        assert!(matches!(look(0), Err(Failure::Transient(why)) if why.contains("1 names are taken")));
    }

    #[test]
    fn a_bad_archive_is_said_to_be_one() {
        for archive in ["", "..", "a/../b", "a//b"] {
            let answer = Run::new().config("archive", archive).enter(|| VideoArchive::execute(&Task::new(1, "v")));
            assert!(matches!(&answer, Err(Failure::Permanent(why)) if why.contains("config `archive`")), "{answer:?}");
        }
    }
}
