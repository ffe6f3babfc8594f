//! Starts where it has no mounts, as at its trial; with one its start function
//! traps. It only acts: it is started for a task.
#![cfg(target_arch = "wasm32")]

use sweepd_guests::files::get_directories;
use sweepd_sdk::{Executor, Failure, Outcome, Task};

struct Guest;

#[allow(unsafe_code, reason = "the name under which it runs while the component is instantiated")]
#[unsafe(export_name = "_initialize")]
extern "C" fn at_start() {
    if !get_directories().is_empty() {
        std::process::abort();
    }
}

impl Executor for Guest {
    fn execute(_: &Task) -> Result<Outcome, Failure> {
        Ok(Outcome::done())
    }
}

sweepd_sdk::executor!(Guest);
