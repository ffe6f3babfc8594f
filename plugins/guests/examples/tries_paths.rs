//! Does everything that there is to a path: the task's payload, or its key,
//! where `%00` stands for a NUL. Config `from` is the folder from which it
//! starts. The note is `operation=answer`, one a line.
#![cfg(target_arch = "wasm32")]

use std::fmt::Write as _;

use sweepd_guests::files::{
    Descriptor, DescriptorFlags, ErrorCode, NewTimestamp, OpenFlags, PathFlags, code, list, open, read, top,
};
use sweepd_sdk::{Executor, Failure, Outcome, Task, run};

struct Guest;

impl Executor for Guest {
    fn execute(task: &Task) -> Result<Outcome, Failure> {
        let path = task.payload.as_ref().unwrap_or(&task.key).replace("%00", "\0");
        let mut from = top();
        if let Some(folder) = run::config("from") {
            from = open(&from, &folder, OpenFlags::DIRECTORY, DescriptorFlags::READ).map_err(Failure::transient)?;
        }
        Ok(Outcome::done_with(tries(&from, &path)))
    }
}

fn tries(from: &Descriptor, path: &str) -> String {
    let (read_it, write_it) = (DescriptorFlags::READ, DescriptorFlags::WRITE);
    let opens = |how, to| open(from, path, how, to).map(drop);
    let mut said = String::new();
    let mut note = |operation: &str, result: Result<String, ErrorCode>| {
        let content = result.as_deref().unwrap_or_default();
        let _ = writeln!(said, "{operation}={} {content}", code(&result));
    };
    let quiet = |result: Result<(), ErrorCode>| result.map(|()| String::new());
    // What only looks comes first, what takes away last.
    for (name, flags) in [("", PathFlags::empty()), ("-followed", PathFlags::SYMLINK_FOLLOW)] {
        note(&format!("stat{name}"), from.stat_at(flags, path).map(|stat| stat.size.to_string()));
        note(&format!("hash{name}"), quiet(from.metadata_hash_at(flags, path).map(drop)));
    }
    note("readlink", from.readlink_at(path));
    note("read", read(from, path));
    note("list", list(from, path));
    note("open", quiet(opens(OpenFlags::empty(), read_it)));
    note("open-to-write", quiet(opens(OpenFlags::empty(), write_it)));
    note("make-new", quiet(opens(OpenFlags::CREATE | OpenFlags::EXCLUSIVE, write_it)));
    note("make", quiet(opens(OpenFlags::CREATE, write_it)));
    note("make-folder", quiet(from.create_directory_at(path)));
    let now = NewTimestamp::Now;
    note("set-times", quiet(from.set_times_at(PathFlags::empty(), path, now, now)));
    note("set-times-followed", quiet(from.set_times_at(PathFlags::SYMLINK_FOLLOW, path, now, now)));
    let top = top();
    note("make-bait", quiet(open(&top, "bait", OpenFlags::CREATE, write_it).map(drop)));
    note("link-out", quiet(top.link_at(PathFlags::empty(), "bait", from, path)));
    note("link-in", quiet(from.link_at(PathFlags::empty(), path, &top, "stolen")));
    note("link-in-followed", quiet(from.link_at(PathFlags::SYMLINK_FOLLOW, path, &top, "stolen")));
    note("symlink", quiet(from.symlink_at("target", path)));
    note("rename-out", quiet(top.rename_at("bait", from, path)));
    note("empty", quiet(opens(OpenFlags::TRUNCATE, write_it)));
    note("rename-in", quiet(from.rename_at(path, &top, "moved")));
    note("remove", quiet(from.unlink_file_at(path)));
    note("remove-folder", quiet(from.remove_directory_at(path)));
    // Whatever came of it, the next path finds none of these.
    for name in ["bait", "stolen", "moved"] {
        let _ = top.unlink_file_at(name);
    }
    said
}

sweepd_guests::runs_all!(Guest);
