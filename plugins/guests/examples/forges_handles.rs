//! Uses a descriptor that it has dropped (key `dropped`), one that it was never
//! given (`guessed`), or takes something else for one (`other`), to remove `file`.
#![cfg(target_arch = "wasm32")]

use sweepd_guests::files::{Descriptor, code, top};
use sweepd_sdk::{Executor, Failure, Outcome, Task};
use wasip2::clocks::monotonic_clock::subscribe_duration;

struct Guest;

#[allow(unsafe_code, reason = "the numbers of handles are made up")]
fn forged(number: u32) -> Descriptor {
    unsafe { Descriptor::from_handle(number) }
}

impl Executor for Guest {
    fn execute(task: &Task) -> Result<Outcome, Failure> {
        let forged = match task.key.as_str() {
            "dropped" => {
                let top = top();
                let number = top.handle();
                drop(top);
                forged(number)
            }
            "other" => forged(subscribe_duration(1_000_000_000).take_handle()),
            _ => forged(123_456),
        };
        let removed = forged.unlink_file_at("file");
        Ok(Outcome::done_with(code(&removed)))
    }
}

sweepd_guests::runs_all!(Guest);
