//! Never gets through its instantiation: a constructor traps.
#![cfg(target_arch = "wasm32")]

use sweepd_sdk::{Executor, Failure, Outcome, Task};

struct Guest;

#[used]
#[allow(unsafe_code, reason = "a constructor is a pointer in a named section")]
#[unsafe(link_section = ".init_array")]
static AT_START: extern "C" fn() = at_start;

extern "C" fn at_start() {
    std::process::abort();
}

impl Executor for Guest {
    fn execute(_: &Task) -> Result<Outcome, Failure> {
        Ok(Outcome::done())
    }
}

sweepd_guests::runs_all!(Guest);
