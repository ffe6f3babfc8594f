//! With mounts `/from` and `/to`, moves and links between them what its key names:
//! `moved` by rename, `linked` by a second name, a `folder` as a whole, and `over`
//! onto what is there. Note: `operation=answer`, one a line.
#![cfg(target_arch = "wasm32")]

use std::fmt::Write as _;

use sweepd_guests::files::{Descriptor, ErrorCode, PathFlags, code, get_directories};
use sweepd_sdk::{Executor, Failure, Outcome, Task};

struct Guest;

fn mount(at: &str) -> Result<Descriptor, Failure> {
    let found = get_directories().into_iter().find(|(_, path)| path == at);
    found.map(|(mount, _)| mount).ok_or_else(|| Failure::permanent(format!("no mount at {at}")))
}

impl Executor for Guest {
    fn execute(_: &Task) -> Result<Outcome, Failure> {
        let (from, to) = (mount("/from")?, mount("/to")?);
        let mut said = String::new();
        let mut note = |operation: &str, result: Result<(), ErrorCode>| {
            let _ = writeln!(said, "{operation}={}", code(&result));
        };
        note("link", from.link_at(PathFlags::empty(), "linked", &to, "linked"));
        note("rename", from.rename_at("moved", &to, "moved"));
        note("rename-over", from.rename_at("over", &to, "over"));
        note("rename-folder", from.rename_at("folder", &to, "folder"));
        note("remove-there", to.unlink_file_at("moved"));
        Ok(Outcome::done_with(said))
    }
}

sweepd_guests::runs_all!(Guest);
