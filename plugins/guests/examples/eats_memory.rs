//! Takes and uses memory until it is refused, which aborts it.

use std::hint::black_box;

use sweepd_sdk::{Executor, Failure, Outcome, Task};

struct Guest;

impl Executor for Guest {
    fn execute(_: &Task) -> Result<Outcome, Failure> {
        let mut held = Vec::new();
        loop {
            held.push(vec![0xFF_u8; 1 << 20]);
            black_box(&held);
        }
    }
}

sweepd_guests::runs_all!(Guest);
