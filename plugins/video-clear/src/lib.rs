//! Removes the video that a task names: a file, or a folder with a tree of
//! segments. Knows nothing of queues, retries or schedules: the host keeps
//! them.
//!
//! Configuration: `path`, a template of where a key's video is, `{key}` unless
//! given (see [`sweepd_sdk::path`]).
//!
//! What is not there is `skipped`, so that a repeated task succeeds; what cannot
//! be removed is a transient failure with the system's words.

mod remove;

use std::path::Path;

use sweepd_sdk::path::Template;
use sweepd_sdk::{Dispatcher, Executor, Failure, Outcome, Task};

use remove::{Removed, remove};

struct VideoClear;

// Everything that is due runs.
impl Dispatcher for VideoClear {}

impl Executor for VideoClear {
    fn execute(task: &Task) -> Result<Outcome, Failure> {
        let template = Template::from_config()?;
        let path = template.fill(&task.key)?;
        match remove(Path::new(&path)) {
            Ok(Removed::File) => Ok(Outcome::done()),
            Ok(Removed::Tree { files, folders }) => {
                Ok(Outcome::done_with(format!("removed {files} files in {folders} folders")))
            }
            Ok(Removed::Nothing) => template.already_gone(),
            Err(error) => Err(Failure::transient(error)),
        }
    }
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
