//! Starts where it sees no directory, as in the trial of a new plugin; where it
//! sees one, its start function loops.

use sweepd_sdk::{Executor, Failure, Outcome, Task};

struct Guest;

#[cfg(target_arch = "wasm32")]
#[allow(unsafe_code, reason = "the name under which it runs while the component is instantiated")]
#[unsafe(export_name = "_initialize")]
extern "C" fn at_start() {
    let mut turns = 0_u64;
    while !wasip2::filesystem::preopens::get_directories().is_empty() {
        turns = std::hint::black_box(turns.wrapping_add(1));
    }
}

impl Executor for Guest {
    fn execute(_: &Task) -> Result<Outcome, Failure> {
        Ok(Outcome::done())
    }
}

sweepd_guests::runs_all!(Guest);
