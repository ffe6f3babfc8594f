//! Prints 8 MiB to each output, then is done.

use sweepd_sdk::{Executor, Failure, Outcome, Task};

struct Guest;

impl Executor for Guest {
    fn execute(_: &Task) -> Result<Outcome, Failure> {
        let line = "flood ".repeat(170);
        for _ in 0..8 * 1024 {
            println!("{line}");
            eprintln!("{line}");
        }
        Ok(Outcome::done())
    }
}

sweepd_guests::runs_all!(Guest);
