//! What a pattern holds now: how many files, and one of them. It looks for a
//! bounded time and says where that was not enough.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::domain::hold::{HeldNow, Pattern, is_on};
use crate::domain::job::{JobSpec, Mount};
use crate::supervise;

use super::census::walk;

/// For so long the files are looked at.
const LONGEST: Duration = Duration::from_secs(1);

/// What `pattern` holds in the mounts of a job now, as far as that can be seen
/// within a second. A mount that hangs is not waited for. Cancel safe.
pub async fn held_now(job: &JobSpec, pattern: &Pattern) -> HeldNow {
    let mounts = job.mounts.clone();
    let (found, pattern) = (Arc::new(Mutex::new(HeldNow::default())), pattern.clone());
    let (done, ended) = oneshot::channel();
    let counting = Arc::clone(&found);
    // A thread of its own, for nobody can end a call that hangs in the kernel.
    let started = supervise::attended_thread("sweepd-held", move || {
        let end = Instant::now() + LONGEST;
        let looked = mounts.iter().map(|mount| look(mount, &pattern, end, &counting));
        let (complete, error) = looked.fold((true, None), |(complete, error), looked| match looked {
            Ok(all) => (complete && all, error),
            Err(failed) => (false, error.or(Some(failed))),
        });
        let mut found = counting.lock().unwrap_or_else(PoisonError::into_inner);
        (found.complete, found.error) = (complete, error);
        // Nobody may wait any more.
        let _ = done.send(());
    });
    if let Err(error) = started {
        return HeldNow { error: Some(error.to_string()), ..HeldNow::default() };
    }
    // Beyond its own end it is stuck.
    let ended = timeout(2 * LONGEST, ended).await;
    let mut found = found.lock().unwrap_or_else(PoisonError::into_inner).clone();
    match ended {
        Ok(Ok(())) => {}
        Ok(Err(_)) => found.error = Some("looking at the files failed".to_owned()),
        Err(_) => found.error = Some("a mount does not answer".to_owned()),
    }
    found
}

/// Counts in one mount until `end`; whether that was all.
fn look(mount: &Mount, pattern: &Pattern, end: Instant, found: &Mutex<HeldNow>) -> Result<bool, String> {
    let (fixed, host) = (pattern.fixed_part(), &mount.host);
    let may_hold = |folder: &str| {
        let full = host.join(folder);
        let folder = if pattern.is_of_machine() { full.as_path() } else { Path::new(folder) };
        fixed.starts_with(folder) || folder.starts_with(fixed)
    };
    let visit = |path: &str, is_file: bool| {
        if is_file && is_on(pattern, host, path) {
            let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
            found.files += 1;
            found.example.get_or_insert_with(|| host.join(path).display().to_string());
        }
        Instant::now() < end
    };
    walk(mount, may_hold, visit).map_err(|error| format!("{}: {error}", host.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::rights::Rights;
    use std::fs;

    fn found(mount: &Path, pattern: &str, time: Duration) -> (bool, HeldNow) {
        let found = Mutex::default();
        let pattern = Pattern::new(pattern).unwrap();
        let mount = Mount {
            host: mount.to_owned(),
            was_there: true,
            guest: "/".to_owned(),
            rights: Rights::RW,
            cross_mounts: false,
        };
        let all = look(&mount, &pattern, Instant::now() + time, &found).unwrap();
        (all, found.into_inner().unwrap())
    }

    #[test]
    fn what_is_held_is_counted_and_shown() {
        let mount = tempfile::tempdir().unwrap();
        fs::create_dir_all(mount.path().join("[old]/x")).unwrap();
        fs::create_dir(mount.path().join("o")).unwrap();
        for file in ["[old]/a", "[old]/x/b", "o/c", "film [HD].mp4", "film H.mp4"] {
            fs::write(mount.path().join(file), "").unwrap();
        }
        let machine = format!("{}/[old]/x", mount.path().display());
        for (pattern, files, example) in [
            ("[old]/**", 2, None),
            ("[old]", 2, None),
            ("film [HD].mp4", 1, Some("film [HD].mp4")),
            ("**/b", 1, Some("[old]/x/b")),
            ("**", 5, None),
            ("nothing", 0, None),
            (machine.as_str(), 1, Some("[old]/x/b")),
        ] {
            let (all, found) = found(mount.path(), pattern, Duration::from_mins(1));
            assert!(all, "{pattern}");
            assert_eq!(found.files, files, "{pattern}");
            assert_eq!(found.example.is_some(), files > 0, "{pattern}");
            if let Some(example) = example {
                assert_eq!(found.example, Some(mount.path().join(example).display().to_string()));
            }
        }
        let (all, some) = found(mount.path(), "**", Duration::ZERO);
        assert!(!all && some.files <= 1, "{some:?}");
    }
}
