//! Its dispatcher postpones by config `delay` seconds (60).

use sweepd_sdk::{Dispatcher, Executor, Failure, Outcome, Plan, Sweep, Task, run};

struct Guest;

impl Dispatcher for Guest {
    fn dispatch(_: &Sweep, due: &[Task]) -> Result<Plan, Failure> {
        let delay = run::config_or("delay", 60)?;
        Ok(Plan::postpone_all(due, delay, "not yet"))
    }
}

impl Executor for Guest {
    fn execute(_: &Task) -> Result<Outcome, Failure> {
        Ok(Outcome::done())
    }
}

sweepd_sdk::job!(Guest);
