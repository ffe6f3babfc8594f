//! Ends with a note of as many bytes as its payload says.

use sweepd_sdk::{Executor, Failure, Outcome, Task};

struct Guest;

impl Executor for Guest {
    fn execute(task: &Task) -> Result<Outcome, Failure> {
        let length = task.payload.as_deref().and_then(|text| text.parse().ok()).unwrap_or(0);
        Ok(Outcome::done_with("x".repeat(length)))
    }
}

sweepd_guests::runs_all!(Guest);
