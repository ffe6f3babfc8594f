//! Leaves a cursor of 100 MB.

use sweepd_sdk::{Dispatcher, Executor, Failure, Outcome, Plan, Sweep, Task};

struct Guest;

impl Dispatcher for Guest {
    fn dispatch(_: &Sweep, due: &[Task]) -> Result<Plan, Failure> {
        let mut plan = Plan::run_all(due);
        plan.cursor = Some("x".repeat(100_000_000));
        Ok(plan)
    }
}

impl Executor for Guest {
    fn execute(_: &Task) -> Result<Outcome, Failure> {
        Ok(Outcome::done())
    }
}

sweepd_sdk::job!(Guest);
