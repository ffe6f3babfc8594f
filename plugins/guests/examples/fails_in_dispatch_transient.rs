//! Its dispatcher always fails in a way that may pass.

use sweepd_sdk::{Dispatcher, Executor, Failure, Outcome, Plan, Sweep, Task};

struct Guest;

impl Dispatcher for Guest {
    fn dispatch(_: &Sweep, _: &[Task]) -> Result<Plan, Failure> {
        Err(Failure::transient("cannot decide now"))
    }
}

impl Executor for Guest {
    fn execute(_: &Task) -> Result<Outcome, Failure> {
        Ok(Outcome::done())
    }
}

sweepd_sdk::job!(Guest);
