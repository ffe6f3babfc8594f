//! Writes the time at which it was called, in nanoseconds since the Unix epoch,
//! into its key's file. World `executor-only`.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use sweepd_sdk::{Executor, Failure, Outcome, Task};

struct Guest;

impl Executor for Guest {
    fn execute(task: &Task) -> Result<Outcome, Failure> {
        let called = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        match fs::write(&task.key, called.to_string()) {
            Ok(()) => Ok(Outcome::done()),
            Err(error) => Err(Failure::transient(error.to_string())),
        }
    }
}

sweepd_sdk::executor!(Guest);
