//! Its executor postpones by config `delay` seconds (60).

use sweepd_sdk::{Executor, Failure, Outcome, Task, run};

struct Guest;

impl Executor for Guest {
    fn execute(_: &Task) -> Result<Outcome, Failure> {
        Ok(Outcome::postpone(run::config_or("delay", 60)?, "not yet"))
    }
}

sweepd_guests::runs_all!(Guest);
