//! Its plan discovers a million keys.

use sweepd_sdk::{Discovery, Dispatcher, Executor, Failure, Outcome, Plan, Sweep, Task};

struct Guest;

impl Dispatcher for Guest {
    fn dispatch(_: &Sweep, due: &[Task]) -> Result<Plan, Failure> {
        let mut plan = Plan::run_all(due);
        plan.discoveries = (0..1_000_000).map(|number| Discovery::new(number.to_string())).collect();
        Ok(plan)
    }
}

impl Executor for Guest {
    fn execute(_: &Task) -> Result<Outcome, Failure> {
        Ok(Outcome::done())
    }
}

sweepd_sdk::job!(Guest);
