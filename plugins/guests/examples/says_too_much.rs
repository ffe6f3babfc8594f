//! Answers with config `bytes` (100,000,000) of text: as a note, or by its key as
//! a `skipped`, `postpone` or `failure`.

use sweepd_sdk::{Executor, Failure, Outcome, Task, run};

struct Guest;

impl Executor for Guest {
    fn execute(task: &Task) -> Result<Outcome, Failure> {
        let text = "x".repeat(run::config_or("bytes", 100_000_000)?);
        match task.key.as_str() {
            "skipped" => Ok(Outcome::skipped(text)),
            "postpone" => Ok(Outcome::postpone(3600, text)),
            "failure" => Err(Failure::permanent(text)),
            _ => Ok(Outcome::done_with(text)),
        }
    }
}

sweepd_guests::runs_all!(Guest);
