//! Its plan decides about tasks that it was not asked about.

use sweepd_sdk::{Decision, Dispatcher, Executor, Failure, Outcome, Plan, Sweep, Task, Verdict};

struct Guest;

impl Dispatcher for Guest {
    fn dispatch(_: &Sweep, due: &[Task]) -> Result<Plan, Failure> {
        let mut plan = Plan::run_all(due);
        plan.decisions.push(Decision { task: u64::MAX, verdict: Verdict::Run });
        Ok(plan)
    }
}

impl Executor for Guest {
    fn execute(_: &Task) -> Result<Outcome, Failure> {
        Ok(Outcome::done())
    }
}

sweepd_sdk::job!(Guest);
