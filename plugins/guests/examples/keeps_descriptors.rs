//! Keeps what it opens in its first task for the next: the folder `kept`, and
//! `kept/file` for writing. From the second task on it writes, lists and removes
//! by these. Note: `operation=answer`, one a line.
#![cfg(target_arch = "wasm32")]

use std::cell::RefCell;

use sweepd_guests::files::{Descriptor, DescriptorFlags, OpenFlags, code, list, open, read, top};
use sweepd_sdk::{Executor, Failure, Outcome, Task};

struct Guest;

thread_local! {
    static KEPT: RefCell<Option<(Descriptor, Descriptor)>> = const { RefCell::new(None) };
}

fn keep() -> Result<(Descriptor, Descriptor), Failure> {
    let folder = open(&top(), "kept", OpenFlags::DIRECTORY, DescriptorFlags::READ).map_err(Failure::transient)?;
    let file = open(&folder, "file", OpenFlags::empty(), DescriptorFlags::WRITE).map_err(Failure::transient)?;
    Ok((folder, file))
}

fn uses(folder: &Descriptor, file: &Descriptor) -> String {
    [
        format!("write={}", code(&file.write(b"again", 0))),
        format!("read={}", code(&read(folder, "file"))),
        format!("list={}", code(&list(folder, "."))),
        format!("up={}", code(&read(folder, "../other"))),
        format!("make={}", code(&open(folder, "made", OpenFlags::CREATE, DescriptorFlags::WRITE))),
        format!("remove={}", code(&folder.unlink_file_at("other"))),
    ]
    .join("\n")
}

impl Executor for Guest {
    fn execute(_: &Task) -> Result<Outcome, Failure> {
        KEPT.with_borrow_mut(|kept| match kept {
            Some((folder, file)) => Ok(Outcome::done_with(uses(folder, file))),
            None => {
                *kept = Some(keep()?);
                Ok(Outcome::done_with("kept"))
            }
        })
    }
}

sweepd_guests::runs_all!(Guest);
