//! Removes the video that a task names: a file, or a folder with a tree of
//! segments. Knows nothing of queues, retries or schedules: the host keeps
//! them.
//!
//! Configuration: `path`, a template of where a key's video is, `{key}` unless
//! given (see [`sweepd_sdk::path`]).
//!
//! A tree that takes longer than one call is removed in several: the task is
//! postponed in time, with what was removed so far, and goes on a second later.
//! Other tasks have their turn in between.
//!
//! What is not there is `skipped`, so that a repeated task succeeds; what cannot
//! be removed is a transient failure with the system's words, after all else of the
//! tree is gone.

use sweepd_sdk::path::Template;
use sweepd_sdk::tree::{Removed, remove};
use sweepd_sdk::{Dispatcher, Executor, Failure, Outcome, Task, TimeLeft, run};

/// Seconds until a tree that is not gone yet goes on.
const GOES_ON_AFTER: u32 = 1;

struct VideoClear;

// Everything that is due runs.
impl Dispatcher for VideoClear {}

impl Executor for VideoClear {
    fn execute(task: &Task) -> Result<Outcome, Failure> {
        let time = TimeLeft::of_call();
        let template = Template::from_config()?;
        let path = template.fill(&task.key)?;
        let removed = remove(&path, time).map_err(Failure::transient)?;
        let before = run::removed_before();
        let in_all = |files| grouped(before + files);
        match removed {
            Removed::File => Ok(Outcome::done()),
            Removed::Tree { files, folders } if before == 0 => {
                let (files, folders) = (grouped(files), grouped(folders));
                Ok(Outcome::done_with(format!("removed {files} files in {folders} folders")))
            }
            Removed::Tree { files, .. } => {
                Ok(Outcome::done_with(format!("removed {} files over several calls", in_all(files))))
            }
            Removed::Part { files } => {
                Ok(Outcome::postpone(GOES_ON_AFTER, format!("removed {} files, going on", in_all(files))))
            }
            // The call before this one was interrupted when it had removed all.
            Removed::Nothing if before > 0 => {
                Ok(Outcome::done_with(format!("removed {} files over several calls", in_all(0))))
            }
            Removed::Nothing => template.already_gone(&task.key),
        }
    }
}

/// A number with a comma before every three digits.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

sweepd_sdk::job!(VideoClear);

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use sweepd_sdk::testing::Run;
    use tempfile::TempDir;

    /// Executes for `key` with the template `template` in the folder.
    fn execute(folder: &TempDir, template: &str, key: &str) -> Result<Outcome, Failure> {
        let template = format!("{}/{template}", folder.path().display());
        Run::new().config("path", template).enter(|| VideoClear::execute(&Task::new(1, key)))
    }

    #[test]
    fn a_file_is_removed_and_a_second_time_skipped() {
        let folder = TempDir::new().expect("a folder");
        fs::write(folder.path().join("v.mp4"), "x").expect("a video");
        assert_eq!(execute(&folder, "{key}.mp4", "v"), Ok(Outcome::done()));
        assert!(!folder.path().join("v.mp4").exists());
        assert_eq!(execute(&folder, "{key}.mp4", "v"), Ok(Outcome::skipped("already gone")));
    }

    #[test]
    fn a_tree_is_removed_and_counted() {
        let folder = TempDir::new().expect("a folder");
        let video = folder.path().join("v");
        fs::create_dir_all(video.join("720p")).expect("a tree");
        for segment in 0..500 {
            fs::write(video.join(format!("720p/{segment}.ts")), "x").expect("a segment");
        }
        fs::write(video.join("master.m3u8"), "x").expect("a playlist");
        assert_eq!(execute(&folder, "{key}", "v"), Ok(Outcome::done_with("removed 501 files in 2 folders")));
        assert!(!video.exists());
    }

    #[test]
    fn a_tree_that_takes_several_calls_is_told_of_as_one() {
        let folder = TempDir::new().expect("a folder");
        let video = folder.path().join("v");
        fs::create_dir(&video).expect("a tree");
        fs::write(video.join("a"), "x").expect("a segment");
        fs::write(video.join("b"), "x").expect("a segment");
        let call = |before| {
            let run = Run::new().config("path", format!("{}/{{key}}", folder.path().display()));
            run.deadline(0).removed_before(before).enter(|| VideoClear::execute(&Task::new(1, "v")))
        };
        assert_eq!(call(0), Ok(Outcome::postpone(1, "removed 1 files, going on")));
        assert_eq!(call(682_204), Ok(Outcome::postpone(1, "removed 682,205 files, going on")));
        assert_eq!(call(682_205), Ok(Outcome::done_with("removed 682,205 files over several calls")));
        assert_eq!(call(682_205), Ok(Outcome::done_with("removed 682,205 files over several calls")));
        assert_eq!(call(0), Ok(Outcome::skipped("already gone")));
    }

    #[test]
    fn numbers_are_grouped() {
        let all = [0, 7, 999, 1000, 12_345, 682_205, 1_000_000].map(grouped);
        assert_eq!(all, ["0", "7", "999", "1,000", "12,345", "682,205", "1,000,000"]);
    }

    #[test]
    fn a_missing_folder_of_the_template_is_not_a_video_that_is_gone() {
        let folder = TempDir::new().expect("a folder");
        let answer = execute(&folder, "videos/{key}", "v");
        assert!(
            matches!(&answer, Err(Failure::Transient(why)) if why.contains("is the right one mounted?")),
            "{answer:?}"
        );
    }

    #[test]
    fn a_key_that_is_no_name_is_never_tried_again() {
        let folder = TempDir::new().expect("a folder");
        let answer = execute(&folder, "{key}", "../v");
        assert!(matches!(answer, Err(Failure::Permanent(_))), "{answer:?}");
    }

    #[test]
    fn what_cannot_be_removed_is_tried_again_with_the_systems_words() {
        let folder = TempDir::new().expect("a folder");
        fs::write(folder.path().join("file"), "x").expect("a file");
        let answer = execute(&folder, "file/{key}", "v");
        assert!(
            matches!(&answer, Err(Failure::Transient(why)) if why.contains("/file/v: Not a directory")),
            "{answer:?}"
        );
    }
}
