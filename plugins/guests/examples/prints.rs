//! Prints its key to each output, with a line's end and without one.

use sweepd_sdk::{Executor, Failure, Outcome, Task};

struct Guest;

impl Executor for Guest {
    fn execute(task: &Task) -> Result<Outcome, Failure> {
        println!("out line {}", task.key);
        eprintln!("err line {}", task.key);
        print!("out rest {}", task.key);
        eprint!("err rest {}", task.key);
        Ok(Outcome::done())
    }
}

sweepd_guests::runs_all!(Guest);
