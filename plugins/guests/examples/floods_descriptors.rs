//! Opens its key's file config `opens` times and closes none; key `streams` lists
//! the mount as often instead, `waits` makes as many pollables. The note is how many
//! it got, and the answer at the end.
#![cfg(target_arch = "wasm32")]

use sweepd_guests::files::{DescriptorFlags, OpenFlags, open, top};
use sweepd_sdk::{Executor, Failure, Outcome, Task, run};
use wasip2::clocks::monotonic_clock::subscribe_duration;

struct Guest;

fn flood<T, E: std::fmt::Display>(opens: u64, one: impl Fn() -> Result<T, E>) -> String {
    let mut kept = Vec::new();
    for _ in 0..opens {
        match one() {
            Ok(open) => kept.push(open),
            Err(error) => return format!("{} then {error}", kept.len()),
        }
    }
    format!("{} then nothing", kept.len())
}

impl Executor for Guest {
    fn execute(task: &Task) -> Result<Outcome, Failure> {
        let (opens, top) = (run::config_or("opens", 100_000_u64)?, top());
        let said = match task.key.as_str() {
            "streams" => flood(opens, || top.read_directory()),
            "waits" => flood(opens, || Ok::<_, String>(subscribe_duration(1_000_000_000_000))),
            path => flood(opens, || open(&top, path, OpenFlags::empty(), DescriptorFlags::READ)),
        };
        Ok(Outcome::done_with(said))
    }
}

sweepd_guests::runs_all!(Guest);
