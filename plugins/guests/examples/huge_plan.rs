//! Its plan discovers one more than it may.

use sweepd_sdk::{Discovery, Dispatcher, Executor, Failure, Outcome, Plan, Sweep, Task};

struct Guest;

impl Dispatcher for Guest {
    fn dispatch(sweep: &Sweep, due: &[Task]) -> Result<Plan, Failure> {
        let mut plan = Plan::run_all(due);
        plan.discoveries =
            (0..=sweep.max_discoveries).map(|number| Discovery::new(format!("found-{number}"))).collect();
        Ok(plan)
    }
}

impl Executor for Guest {
    fn execute(_: &Task) -> Result<Outcome, Failure> {
        Ok(Outcome::done())
    }
}

sweepd_sdk::job!(Guest);
