//! Its note is the payload that it was given.

use sweepd_sdk::{Executor, Failure, Outcome, Task};

struct Guest;

impl Executor for Guest {
    fn execute(task: &Task) -> Result<Outcome, Failure> {
        Ok(Outcome::Done(task.payload.clone()))
    }
}

sweepd_guests::runs_all!(Guest);
