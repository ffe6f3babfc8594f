//! Sleeps in the host for config `sleep_ms` (3,000), then is done.

use std::thread;
use std::time::Duration;

use sweepd_sdk::{Executor, Failure, Outcome, Task, run};

struct Guest;

impl Executor for Guest {
    fn execute(_: &Task) -> Result<Outcome, Failure> {
        thread::sleep(Duration::from_millis(run::config_or("sleep_ms", 3_000)?));
        Ok(Outcome::done())
    }
}

sweepd_guests::runs_all!(Guest);
