//! Makes as much as it is let, as its task's key asks, and notes how far it got:
//! `write N` writes N KiB into one file in pieces of 4 KiB, `grow N` makes a file
//! N KiB longer, `folders N` makes N folders, `files N` and `links N` N files and
//! second names, `churn N` makes and removes one file N times, `rewrite N` makes,
//! writes and removes one N times, `flip N` makes and removes a folder, `touch N`
//! sets the times of a file, and `fail N` asks for a folder that is there.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};

use sweepd_sdk::{Executor, Failure, Outcome, Task};

struct Guest;

/// What is written at once.
const PIECE: [u8; 4096] = [7; 4096];

fn once(what: &str, number: u64) -> io::Result<()> {
    match what {
        "folders" => fs::create_dir(format!("/folder-{number}")),
        "files" => File::create(format!("/file-{number}")).map(drop),
        "links" => fs::hard_link("/linked", format!("/link-{number}")),
        "churn" => File::create("/churn").and_then(|_| fs::remove_file("/churn")),
        "rewrite" => fs::write("/rewritten", PIECE).and_then(|()| fs::remove_file("/rewritten")),
        "flip" => fs::create_dir("/flip").and_then(|()| fs::remove_dir("/flip")),
        "touch" => File::open("/linked").and_then(|file| file.set_modified(std::time::UNIX_EPOCH)),
        "fail" => match fs::create_dir("/there") {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Err(error) => Err(error),
            Ok(()) => Err(io::Error::other("it was not there")),
        },
        _ => Err(io::Error::other(format!("`{what}` is nothing that it does"))),
    }
}

fn write(kib: u64) -> io::Result<()> {
    let mut file = File::create("/written")?;
    for _ in 0..kib / 4 {
        file.write_all(&PIECE)?;
    }
    Ok(())
}

impl Executor for Guest {
    fn execute(task: &Task) -> Result<Outcome, Failure> {
        let (what, number) = task.key.split_once(' ').ok_or_else(|| Failure::permanent("no number"))?;
        let most: u64 = number.parse().map_err(Failure::permanent)?;
        let said = match what {
            "write" => write(most).map(|()| format!("wrote {most} KiB")),
            "grow" => OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(false)
                .open("/grown")
                .and_then(|file| file.set_len(most * 1024))
                .map(|()| format!("grew {most} KiB")),
            _ => {
                let mut done = 0;
                let ended = (0..most).try_for_each(|number| once(what, number).inspect(|()| done += 1));
                ended.map(|()| format!("did {done}"))
            }
        };
        said.map(Outcome::done_with).map_err(Failure::transient)
    }
}

sweepd_guests::runs_all!(Guest);
