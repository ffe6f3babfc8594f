//! Always fails in a way that may pass.

use sweepd_sdk::{Executor, Failure, Outcome, Task};

struct Guest;

impl Executor for Guest {
    fn execute(_: &Task) -> Result<Outcome, Failure> {
        Err(Failure::transient("the disk is busy"))
    }
}

sweepd_guests::runs_all!(Guest);
