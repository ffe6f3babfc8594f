//! Removes `file` and makes `made` while it is instantiated, before any task.
#![cfg(target_arch = "wasm32")]

use sweepd_guests::files::{DescriptorFlags, OpenFlags, code, get_directories, open};
use sweepd_sdk::{Executor, Failure, Outcome, Task};

struct Guest;

#[allow(unsafe_code, reason = "the name under which it runs while the component is instantiated")]
#[unsafe(export_name = "_initialize")]
extern "C" fn at_start() {
    // At its trial it has no mounts.
    for (top, _) in get_directories() {
        let removed = top.unlink_file_at("file");
        let made = open(&top, "made", OpenFlags::CREATE, DescriptorFlags::WRITE);
        println!("at start: remove={} make={}", code(&removed), code(&made));
    }
}

impl Executor for Guest {
    fn execute(_: &Task) -> Result<Outcome, Failure> {
        Ok(Outcome::done())
    }
}

sweepd_guests::runs_all!(Guest);
