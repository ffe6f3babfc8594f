//! Asks for values of keys that nobody set: unknown ones, empty ones, one with a
//! NUL, one of config `megabytes` (8) MiB, ten thousand times over.

use sweepd_sdk::{Executor, Failure, Outcome, Task, run};

struct Guest;

impl Executor for Guest {
    fn execute(_: &Task) -> Result<Outcome, Failure> {
        let megabytes: usize = run::config_or("megabytes", 8)?;
        let huge = "k".repeat(megabytes << 20);
        let mut found = 0_u32;
        for key in ["unknown", "", "greeting\0", "../greeting", "job.name", "PATH", huge.as_str()] {
            found += u32::from(run::config(key).is_some());
        }
        for turn in 0..10_000 {
            found += u32::from(run::config(&format!("key-{turn}")).is_some());
        }
        Ok(Outcome::done_with(format!("found {found}")))
    }
}

sweepd_guests::runs_all!(Guest);
