//! Panics in `execute`, which is a trap.

use sweepd_sdk::{Executor, Failure, Outcome, Task};

struct Guest;

impl Executor for Guest {
    fn execute(task: &Task) -> Result<Outcome, Failure> {
        panic!("a bug in the policy, at task {}", task.key)
    }
}

sweepd_guests::runs_all!(Guest);
