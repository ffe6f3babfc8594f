//! Goes through `swap`, which somebody keeps exchanging for a link, and opens
//! `swap-file`, of which the same is true, and `swap-pipe`, which is a pipe at
//! times, config `rounds` times, and changes what it gets at. The note says how
//! often it got through, how often not, the sizes and contents that it saw.
#![cfg(target_arch = "wasm32")]

use std::collections::BTreeSet;

use sweepd_guests::files::{
    Descriptor, DescriptorFlags, ErrorCode, NewTimestamp, OpenFlags, PathFlags, list, open, read, top,
};
use sweepd_sdk::{Executor, Failure, Outcome, Task, run};

struct Guest;

#[derive(Default)]
struct Seen {
    through: u64,
    refused: u64,
    said: BTreeSet<String>,
}

impl Seen {
    fn note<T>(&mut self, result: Result<T, ErrorCode>) -> Option<T> {
        *(if result.is_ok() { &mut self.through } else { &mut self.refused }) += 1;
        result.ok()
    }
}

fn round(top: &Descriptor, seen: &mut Seen) {
    let follow = PathFlags::SYMLINK_FOLLOW;
    for path in ["swap/secret", "swap-file", "swap-pipe", "./swap/../swap/secret"] {
        let content = seen.note(read(top, path));
        let stat = seen.note(top.stat_at(follow, path));
        seen.said.extend(content);
        seen.said.extend(stat.map(|stat| stat.size.to_string()));
    }
    let listed = seen.note(list(top, "swap"));
    seen.said.extend(listed);
    let write = DescriptorFlags::WRITE;
    if let Some(file) = seen.note(top.open_at(follow, "swap-file", OpenFlags::empty(), write)) {
        seen.note(file.write(b"inside", 0));
    }
    seen.note(open(top, "swap/made", OpenFlags::CREATE, write));
    seen.note(top.set_times_at(follow, "swap/secret", NewTimestamp::Now, NewTimestamp::Now));
    seen.note(top.link_at(PathFlags::empty(), "swap/secret", top, "linked"));
    seen.note(top.unlink_file_at("linked"));
    seen.note(top.rename_at("swap/made", top, "swap/renamed"));
    seen.note(top.unlink_file_at("swap/renamed"));
    seen.note(top.unlink_file_at("swap/made"));
    seen.note(top.unlink_file_at("swap/victim"));
    seen.note(top.create_directory_at("swap/folder"));
    seen.note(top.remove_directory_at("swap/folder"));
    // A descriptor of the folder as it was found is as good as a path.
    if let Some(folder) = seen.note(top.open_at(follow, "swap", OpenFlags::DIRECTORY, DescriptorFlags::READ)) {
        seen.said.extend(read(&folder, "secret").ok());
        seen.note(folder.unlink_file_at("victim"));
        seen.said.extend(read(&folder, "../secret").ok());
    }
}

impl Executor for Guest {
    fn execute(_: &Task) -> Result<Outcome, Failure> {
        let (top, mut seen) = (top(), Seen::default());
        for _ in 0..run::config_or("rounds", 1_u64)? {
            round(&top, &mut seen);
        }
        let said: Vec<_> = seen.said.into_iter().collect();
        Ok(Outcome::done_with(format!("{} {} {}", seen.through, seen.refused, said.join(" "))))
    }
}

sweepd_guests::runs_all!(Guest);
