//! Whether a video is old enough. Reads only.

use std::fs;
use std::io;
use std::time::UNIX_EPOCH;

use sweepd_sdk::path::Template;
use sweepd_sdk::{Postponement, Task, Timestamp, Verdict};

/// Runs what is old enough; asks again when the rest will be. What cannot be
/// looked at runs: the executor finds out why, and says it of that task alone.
pub(crate) fn verdict(template: &Template, task: &Task, now: Timestamp, min_age: u64) -> Verdict {
    let Ok(path) = template.fill(&task.key) else {
        return Verdict::Run;
    };
    match modified(&path) {
        Ok(modified) => match remaining(now, modified, min_age) {
            0 => Verdict::Run,
            delay => Verdict::Postpone(Postponement::new(delay, format!("younger than {min_age} s"))),
        },
        Err(_) => Verdict::Run,
    }
}

/// When what is at the path, or the link itself, was last changed.
fn modified(path: &str) -> io::Result<Timestamp> {
    let modified = fs::symlink_metadata(path)?.modified()?;
    let since = modified.duration_since(UNIX_EPOCH).unwrap_or_default();
    Ok(Timestamp::try_from(since.as_millis()).unwrap_or(Timestamp::MAX))
}

/// Seconds until the age is reached, rounded up. A file from the future waits
/// for its age once, not until its date.
fn remaining(now: Timestamp, modified: Timestamp, min_age: u64) -> u32 {
    let age = now.saturating_sub(modified);
    let missing = min_age.saturating_mul(1000).saturating_sub(age);
    u32::try_from(missing.div_ceil(1000)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, SystemTime};

    #[test]
    fn the_rest_of_the_age_is_waited_for() {
        assert_eq!(remaining(10_000, 0, 10), 0);
        assert_eq!(remaining(9_999, 0, 10), 1);
        assert_eq!(remaining(0, 0, 10), 10);
        assert_eq!(remaining(0, 99_000, 10), 10);
        assert_eq!(remaining(0, 0, u64::MAX), u32::MAX);
    }

    #[test]
    fn a_young_video_is_postponed_and_an_old_one_runs() {
        let folder = tempfile::TempDir::new().expect("a folder");
        let file = fs::File::create(folder.path().join("v")).expect("a video");
        let modified = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000);
        file.set_modified(modified).expect("a date");
        let template = Template::parse(format!("{}/{{key}}", folder.path().display())).expect("a good template");
        let at = |now| verdict(&template, &Task::new(1, "v"), now, 60);
        assert_eq!(at(1_060_000), Verdict::Run);
        assert_eq!(at(1_030_000), Verdict::Postpone(Postponement::new(30, "younger than 60 s")));
        for key in ["missing", "../v"] {
            let task = Task::new(1, key);
            assert_eq!(verdict(&template, &task, 0, 60), Verdict::Run, "{key}");
        }
    }
}
