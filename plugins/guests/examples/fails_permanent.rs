//! Always fails in a way that will not pass. World `executor-only`.

use sweepd_sdk::{Executor, Failure, Outcome, Task};

struct Guest;

impl Executor for Guest {
    fn execute(_: &Task) -> Result<Outcome, Failure> {
        Err(Failure::permanent("never"))
    }
}

sweepd_sdk::executor!(Guest);
