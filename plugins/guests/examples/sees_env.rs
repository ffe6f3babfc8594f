//! Says how much of an environment and of arguments it has. World `executor-only`.

use std::env;

use sweepd_sdk::{Executor, Failure, Outcome, Task};

struct Guest;

impl Executor for Guest {
    fn execute(_: &Task) -> Result<Outcome, Failure> {
        Ok(Outcome::done_with(format!(
            "variables={:?} arguments={}",
            env::vars_os().collect::<Vec<_>>(),
            env::args_os().count()
        )))
    }
}

sweepd_sdk::executor!(Guest);
