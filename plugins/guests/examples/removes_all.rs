//! Removes every file of its mount for a single task.

use std::fs;

use sweepd_sdk::{Executor, Failure, Outcome, Task};

struct Guest;

impl Executor for Guest {
    fn execute(_: &Task) -> Result<Outcome, Failure> {
        let entries = fs::read_dir("/").map_err(Failure::transient)?;
        let mut removed = 0;
        for entry in entries {
            let path = entry.map_err(Failure::transient)?.path();
            removed += u32::from(fs::remove_file(path).is_ok());
        }
        Ok(Outcome::done_with(format!("removed {removed}")))
    }
}

sweepd_guests::runs_all!(Guest);
