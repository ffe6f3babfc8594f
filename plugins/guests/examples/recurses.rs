//! Calls itself until there is no stack left.

use std::hint::black_box;

use sweepd_sdk::{Executor, Failure, Outcome, Task};

struct Guest;

#[allow(unconditional_recursion, reason = "that is its misdeed")]
fn deeper(turn: u64) -> u64 {
    black_box(deeper(black_box(turn + 1))) + 1
}

impl Executor for Guest {
    fn execute(_: &Task) -> Result<Outcome, Failure> {
        Ok(Outcome::done_with(deeper(0).to_string()))
    }
}

sweepd_guests::runs_all!(Guest);
