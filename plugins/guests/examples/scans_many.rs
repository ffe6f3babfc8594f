//! Lists all folders of its mount at the same time, asks what the entries are, and
//! keeps the listings open while it sleeps for a second. Its entries are files: one
//! that is said to be a folder is an error.

use std::fs;
use std::io;
use std::time::Duration;

use sweepd_sdk::{Dispatcher, Executor, Failure, Outcome, Plan, Sweep, Task};

/// So many entries of each folder are asked for.
const ASKED: usize = 150;

struct Guest;

fn scan_all() -> io::Result<u64> {
    let (mut kept, mut bytes) = (Vec::new(), 0);
    for folder in fs::read_dir("/")? {
        let folder = folder?;
        if !folder.file_type()?.is_dir() {
            continue;
        }
        let mut entries = fs::read_dir(folder.path())?;
        for entry in entries.by_ref().take(ASKED) {
            bytes += entry?.metadata()?.len();
        }
        let next = entries.next().ok_or(io::ErrorKind::UnexpectedEof)??.path();
        if fs::symlink_metadata(next.join("")).is_ok() {
            return Err(io::Error::other("a file is a folder"));
        }
        kept.push(entries);
    }
    std::thread::sleep(Duration::from_secs(1));
    Ok(bytes)
}

impl Dispatcher for Guest {
    fn dispatch(_: &Sweep, due: &[Task]) -> Result<Plan, Failure> {
        if !due.is_empty() {
            println!("{} bytes", scan_all().map_err(Failure::transient)?);
        }
        Ok(Plan::run_all(due))
    }
}

impl Executor for Guest {
    fn execute(_: &Task) -> Result<Outcome, Failure> {
        Ok(Outcome::done())
    }
}

sweepd_sdk::job!(Guest);
