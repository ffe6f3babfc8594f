//! Removes, moves and writes its key's file, takes no notice of what becomes of
//! it, and answers that all is done.

use std::fs;

use sweepd_sdk::{Executor, Failure, Outcome, Task};

struct Guest;

impl Executor for Guest {
    fn execute(task: &Task) -> Result<Outcome, Failure> {
        let _ = fs::write(&task.key, "overwritten");
        let _ = fs::rename(&task.key, format!("{}-moved", task.key));
        let _ = fs::remove_file(&task.key);
        Ok(Outcome::done_with("all is well"))
    }
}

sweepd_guests::runs_all!(Guest);
