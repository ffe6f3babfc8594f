//! Grows its memory without end while it is instantiated.
#![cfg(target_arch = "wasm32")]

use sweepd_sdk::{Executor, Failure, Outcome, Task};

struct Guest;

#[allow(unsafe_code, reason = "the name under which it runs while the component is instantiated")]
#[unsafe(export_name = "_initialize")]
extern "C" fn at_start() {
    // What is refused is asked for again: only a trap ends it.
    loop {
        core::arch::wasm32::memory_grow(0, 16);
    }
}

impl Executor for Guest {
    fn execute(_: &Task) -> Result<Outcome, Failure> {
        Ok(Outcome::done())
    }
}

sweepd_guests::runs_all!(Guest);
