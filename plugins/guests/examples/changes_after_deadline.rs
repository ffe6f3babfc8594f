//! Works until its deadline is past, then tries to remove its key's file.

use std::fs;

use sweepd_guests::{now, said};
use sweepd_sdk::{Executor, Failure, Outcome, Task, run};

struct Guest;

impl Executor for Guest {
    fn execute(task: &Task) -> Result<Outcome, Failure> {
        let deadline = run::deadline();
        while now() <= deadline.saturating_add(20) {}
        Ok(Outcome::done_with(said("remove", fs::remove_file(&task.key))))
    }
}

sweepd_guests::runs_all!(Guest);
