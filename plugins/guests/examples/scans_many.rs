//! Lists all folders of its mount and asks what their entries are: first of all
//! at the same time, with the listings open until there is a file `seen`; then of
//! one after the other, as the standard library does. The entries are files: one
//! that is said to be a folder is an error.
#![cfg(target_arch = "wasm32")]

use std::fs;
use std::io;
use std::time::Duration;

use sweepd_guests::files::{Descriptor, DescriptorFlags, ErrorCode, OpenFlags, PathFlags, open, top};
use sweepd_sdk::{Dispatcher, Executor, Failure, Outcome, Plan, Sweep, Task};

/// So many entries of each folder are asked for.
const ASKED: usize = 150;

struct Guest;

fn folders() -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir("/")? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    Ok(names)
}

/// The standard library keeps one listing open at a time, whatever a guest does.
fn scan_at_the_same_time(folders: &[String]) -> Result<u64, ErrorCode> {
    let (top, mut kept, mut bytes) = (top(), Vec::new(), 0);
    for name in folders {
        let folder: Descriptor = open(&top, name, OpenFlags::DIRECTORY, DescriptorFlags::READ)?;
        let entries = folder.read_directory()?;
        for _ in 0..ASKED {
            let entry = entries.read_directory_entry()?.ok_or(ErrorCode::NoEntry)?;
            bytes += folder.stat_at(PathFlags::empty(), &entry.name)?.size;
        }
        kept.push((entries, folder));
    }
    while fs::metadata("/seen").is_err() {
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(bytes)
}

fn scan_in_a_row(folders: &[String]) -> io::Result<u64> {
    let mut bytes = 0;
    for name in folders {
        let mut entries = fs::read_dir(format!("/{name}"))?;
        for entry in entries.by_ref().take(ASKED) {
            bytes += entry?.metadata()?.len();
        }
        let next = entries.next().ok_or(io::ErrorKind::UnexpectedEof)??.path();
        if fs::symlink_metadata(next.join("")).is_ok() {
            return Err(io::Error::other("a file is a folder"));
        }
    }
    Ok(bytes)
}

impl Dispatcher for Guest {
    fn dispatch(_: &Sweep, due: &[Task]) -> Result<Plan, Failure> {
        if !due.is_empty() {
            let folders = folders().map_err(Failure::transient)?;
            let together = scan_at_the_same_time(&folders).map_err(Failure::transient)?;
            let in_a_row = scan_in_a_row(&folders).map_err(Failure::transient)?;
            println!("{together} bytes and {in_a_row} bytes");
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
