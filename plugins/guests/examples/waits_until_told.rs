//! Waits until there is a file `go` in its mount, then is done.

use std::fs;
use std::thread;
use std::time::Duration;

use sweepd_sdk::{Executor, Failure, Outcome, Task};

struct Guest;

impl Executor for Guest {
    fn execute(_: &Task) -> Result<Outcome, Failure> {
        while fs::metadata("/go").is_err() {
            thread::sleep(Duration::from_millis(10));
        }
        Ok(Outcome::done())
    }
}

sweepd_guests::runs_all!(Guest);
