//! Works for config `work_ms` (100) without a pause, then is done.

use std::hint::black_box;
use std::time::{Duration, Instant};

use sweepd_sdk::{Executor, Failure, Outcome, Task, run};

struct Guest;

impl Executor for Guest {
    fn execute(_: &Task) -> Result<Outcome, Failure> {
        let work = Duration::from_millis(run::config_or("work_ms", 100)?);
        let start = Instant::now();
        while start.elapsed() < work {
            black_box(start);
        }
        Ok(Outcome::done())
    }
}

sweepd_guests::runs_all!(Guest);
