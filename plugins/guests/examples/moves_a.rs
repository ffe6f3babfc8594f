//! Moves `todo/KEY` to `a/KEY`, and fails for good when it is not there any more:
//! something ran twice.

use std::fs;

use sweepd_sdk::{Executor, Failure, Outcome, Task};

struct Guest;

impl Executor for Guest {
    fn execute(task: &Task) -> Result<Outcome, Failure> {
        let (from, to) = (format!("todo/{}", task.key), format!("a/{}", task.key));
        match fs::rename(&from, to) {
            Ok(()) => Ok(Outcome::done_with("a")),
            Err(_) if fs::symlink_metadata(&from).is_err() => Err(Failure::permanent("ran twice")),
            Err(error) => Err(Failure::transient(error)),
        }
    }
}

sweepd_guests::runs_all!(Guest);
