//! Says what `run` tells it.

use sweepd_guests::now;
use sweepd_sdk::{Executor, Failure, Outcome, Task, run};

struct Guest;

impl Executor for Guest {
    fn execute(_: &Task) -> Result<Outcome, Failure> {
        Ok(Outcome::done_with(format!(
            "job={} greeting={} ahead={} simulated={}",
            run::job(),
            run::config("greeting").unwrap_or_default(),
            run::deadline() > now(),
            run::simulated()
        )))
    }
}

sweepd_guests::runs_all!(Guest);
