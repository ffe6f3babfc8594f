//! Sets times that no clock has. Note: `time=answer`, one a line.
#![cfg(target_arch = "wasm32")]

use sweepd_guests::files::{NewTimestamp, PathFlags, code, top};
use sweepd_sdk::{Executor, Failure, Outcome, Task};
use wasip2::clocks::wall_clock::Datetime;

struct Guest;

impl Executor for Guest {
    fn execute(_: &Task) -> Result<Outcome, Failure> {
        let (top, mut said) = (top(), Vec::new());
        for (seconds, nanoseconds) in
            [(u64::MAX, 0), (i64::MAX.unsigned_abs(), 999_999_999), (0, u32::MAX), (0, 0x3fff_ffff), (0, 0x3fff_fffe)]
        {
            let time = || NewTimestamp::Timestamp(Datetime { seconds, nanoseconds });
            let set = top.set_times_at(PathFlags::empty(), "file", time(), time());
            said.push(format!("{seconds}.{nanoseconds}={}", code(&set)));
        }
        Ok(Outcome::done_with(said.join("\n")))
    }
}

sweepd_guests::runs_all!(Guest);
