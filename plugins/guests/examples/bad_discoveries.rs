//! Its plan discovers keys that cannot be queued: empty, too long, with a NUL, or
//! with a payload that is too large.

use sweepd_sdk::{Discovery, Dispatcher, Executor, Failure, Outcome, Plan, Sweep, Task};

struct Guest;

impl Dispatcher for Guest {
    fn dispatch(sweep: &Sweep, due: &[Task]) -> Result<Plan, Failure> {
        let mut plan = Plan::run_all(due);
        if sweep.scan {
            let heavy = Discovery { payload: Some("x".repeat(1 << 20)), ..Discovery::new("heavy") };
            let keys = [String::new(), "x".repeat(100_000), "nul\0".to_owned()];
            plan.discoveries = keys.into_iter().map(Discovery::new).chain([heavy]).collect();
        }
        Ok(plan)
    }
}

impl Executor for Guest {
    fn execute(_: &Task) -> Result<Outcome, Failure> {
        Ok(Outcome::done())
    }
}

sweepd_sdk::job!(Guest);
