//! Its dispatcher discards every task.

use sweepd_sdk::{Dispatcher, Executor, Failure, Outcome, Plan, Sweep, Task};

struct Guest;

impl Dispatcher for Guest {
    fn dispatch(_: &Sweep, due: &[Task]) -> Result<Plan, Failure> {
        Ok(Plan::discard_all(due, "not wanted"))
    }
}

impl Executor for Guest {
    fn execute(_: &Task) -> Result<Outcome, Failure> {
        Ok(Outcome::done())
    }
}

sweepd_sdk::job!(Guest);
