//! Writes to its key's file again and again, with waits between. Keys that
//! begin with `hot-` take 5 to 50 ms, the others hardly any time, and their
//! files are removed in the end. One in eight of the first two attempts of a
//! task fails, and may succeed later.

use std::fs::{self, OpenOptions};
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::io::Write as _;
use std::thread;
use std::time::Duration;

use sweepd_sdk::{Executor, Failure, Outcome, Task};

struct Guest;

const WRITES: u64 = 4;

impl Executor for Guest {
    fn execute(task: &Task) -> Result<Outcome, Failure> {
        // Chance that repeats: the same attempt of a task does the same on every node.
        let chance = BuildHasherDefault::<DefaultHasher>::default().hash_one((&task.key, task.id, task.attempt));
        let hot = task.key.starts_with("hot-");
        let micros = if hot { 5_000 + chance % 45_000 } else { chance % 1_000 };
        let failed = |error| Failure::transient(format!("{}: {error}", task.key));
        let mut file = OpenOptions::new().create(true).append(true).open(&task.key).map_err(failed)?;
        for _ in 0..WRITES {
            thread::sleep(Duration::from_micros(micros / WRITES));
            file.write_all(format!("{} {}\n", task.id, task.attempt).as_bytes()).map_err(failed)?;
        }
        if task.attempt <= 2 && chance.is_multiple_of(8) {
            return Err(Failure::transient("by chance"));
        }
        // What is hot stays, and does not grow for ever.
        let ended = if hot { fs::write(&task.key, "") } else { fs::remove_file(&task.key) };
        ended.map_err(failed)?;
        Ok(Outcome::done())
    }
}

sweepd_guests::runs_all!(Guest);
