//! Never gets through its instantiation: a constructor loops.

use sweepd_sdk::{Executor, Failure, Outcome, Task};

struct Guest;

#[cfg(target_arch = "wasm32")]
#[used]
#[allow(unsafe_code, reason = "a constructor is a pointer in a named section")]
#[unsafe(link_section = ".init_array")]
static AT_START: extern "C" fn() = at_start;

#[cfg(target_arch = "wasm32")]
extern "C" fn at_start() {
    let mut turns = 0_u64;
    loop {
        turns = std::hint::black_box(turns.wrapping_add(1));
    }
}

impl Executor for Guest {
    fn execute(_: &Task) -> Result<Outcome, Failure> {
        Ok(Outcome::done())
    }
}

sweepd_guests::runs_all!(Guest);
