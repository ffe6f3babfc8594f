//! Changes `file`, `empty/` and what it makes itself in every way there is, for
//! each task, and notes `operation=answer`, one a line. Config `then_hang` makes it
//! loop for ever when it has done so.
#![cfg(target_arch = "wasm32")]

use std::fmt::Write as _;

use sweepd_guests::files::{DescriptorFlags, ErrorCode, NewTimestamp, OpenFlags, PathFlags, code, open, top};
use sweepd_sdk::{Executor, Failure, Outcome, Task, run};

struct Guest;

impl Executor for Guest {
    fn execute(_: &Task) -> Result<Outcome, Failure> {
        let (top, none, write) = (top(), PathFlags::empty(), DescriptorFlags::WRITE);
        let (now, keep) = (NewTimestamp::Now, NewTimestamp::NoChange);
        let mut said = String::new();
        let mut note = |operation: &str, result: Result<(), ErrorCode>| {
            let _ = writeln!(said, "{operation}={}", code(&result));
        };
        note("create", open(&top, "made", OpenFlags::CREATE | OpenFlags::EXCLUSIVE, write).map(drop));
        note("create-folder", top.create_directory_at("made-folder"));
        note("link", top.link_at(none, "file", &top, "linked"));
        note("write", open(&top, "file", OpenFlags::empty(), write).and_then(|file| file.write(b"x", 0)).map(drop));
        note(
            "append",
            open(&top, "file", OpenFlags::empty(), write).and_then(|file| {
                let stream = file.append_via_stream()?;
                stream.blocking_write_and_flush(b"y").map_err(|_| ErrorCode::Io)
            }),
        );
        note("set-size", open(&top, "file", OpenFlags::empty(), write).and_then(|file| file.set_size(1)));
        note("truncate", open(&top, "file", OpenFlags::TRUNCATE, write).map(drop));
        note("truncate-unasked", open(&top, "file", OpenFlags::TRUNCATE, DescriptorFlags::READ).map(drop));
        note(
            "set-size-of-read",
            open(&top, "file", OpenFlags::empty(), DescriptorFlags::READ).and_then(|file| file.set_size(0)),
        );
        note("set-times", top.set_times_at(none, "file", now, keep));
        note(
            "set-times-of-read",
            open(&top, "file", OpenFlags::empty(), DescriptorFlags::READ).and_then(|file| file.set_times(keep, now)),
        );
        note("rename", top.rename_at("file", &top, "renamed"));
        note("rename-over", top.rename_at("renamed", &top, "made"));
        note("rename-back", top.rename_at("made", &top, "file"));
        note("symlink", top.symlink_at("file", "symlink"));
        note("remove-folder", top.remove_directory_at("empty"));
        note("remove", top.unlink_file_at("file"));
        if run::config("then_hang").is_some() {
            println!("hanging");
            let mut turns = 0_u64;
            loop {
                turns = std::hint::black_box(turns.wrapping_add(1));
            }
        }
        Ok(Outcome::done_with(said))
    }
}

sweepd_guests::runs_all!(Guest);
