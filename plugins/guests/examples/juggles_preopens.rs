//! Asks for its mounts again and again and drops them in another order; key
//! `keep` keeps them all, until there is room for no more.
#![cfg(target_arch = "wasm32")]

use sweepd_guests::files::{get_directories, read};
use sweepd_sdk::{Executor, Failure, Outcome, Task};

struct Guest;

impl Executor for Guest {
    fn execute(task: &Task) -> Result<Outcome, Failure> {
        let mut kept = Vec::new();
        for turn in 0..100_000_usize {
            kept.extend(get_directories());
            if task.key != "keep" && kept.len() > 7 {
                drop(kept.swap_remove(turn % 7));
            }
        }
        let said: Vec<_> = kept.iter().map(|(mount, _)| read(mount, "../outside.txt").is_ok().to_string()).collect();
        Ok(Outcome::done_with(said.join(" ")))
    }
}

sweepd_guests::runs_all!(Guest);
