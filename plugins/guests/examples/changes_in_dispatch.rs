//! Its dispatcher tries to change `file` and `folder` in its mount in every way,
//! and discards each task with what became of it as the reason.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::time::SystemTime;

use sweepd_guests::said;
use sweepd_sdk::{Dispatcher, Executor, Failure, Outcome, Plan, Sweep, Task};

struct Guest;

impl Dispatcher for Guest {
    fn dispatch(_: &Sweep, due: &[Task]) -> Result<Plan, Failure> {
        let date = SystemTime::UNIX_EPOCH;
        let said = [
            said("create", fs::write("created", "x")),
            said("truncate", fs::write("file", "")),
            said("append", OpenOptions::new().append(true).open("file")),
            said("set-size", set("file", |file| file.set_len(0))),
            said("set-times", set("file", |file| file.set_modified(date))),
            said("rename", fs::rename("file", "renamed")),
            said("link", fs::hard_link("file", "linked")),
            said("mkdir", fs::create_dir("made")),
            said("rmdir", fs::remove_dir("folder")),
            said("remove", fs::remove_file("file")),
        ];
        Ok(Plan::discard_all(due, &said.join("; ")))
    }
}

/// Changes a file through a descriptor that is open for reading.
fn set(path: &str, change: impl FnOnce(&File) -> io::Result<()>) -> io::Result<()> {
    change(&File::open(path)?)
}

impl Executor for Guest {
    fn execute(_: &Task) -> Result<Outcome, Failure> {
        Ok(Outcome::done())
    }
}

sweepd_sdk::job!(Guest);
