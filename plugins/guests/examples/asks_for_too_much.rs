//! Asks the host for more than it should have ready: key `random` for 4 GiB and
//! more of random bytes, `read` for as many of `file`, `write` writes to its very
//! end and beyond, `size` makes it larger than can be, `stdin` reads from nothing.
#![cfg(target_arch = "wasm32")]

use sweepd_guests::files::{DescriptorFlags, OpenFlags, code, open, top};
use sweepd_sdk::{Executor, Failure, Outcome, Task};

struct Guest;

impl Executor for Guest {
    fn execute(task: &Task) -> Result<Outcome, Failure> {
        let file = || {
            let both = DescriptorFlags::READ | DescriptorFlags::WRITE;
            open(&top(), "file", OpenFlags::empty(), both).map_err(Failure::transient)
        };
        let said = match task.key.as_str() {
            "random" => wasip2::random::random::get_random_bytes(u64::MAX).len().to_string(),
            "read" => {
                file()?.read(u64::MAX, 0).map_or_else(|code| code.to_string(), |(bytes, _)| bytes.len().to_string())
            }
            "read-at-end" => code(&file()?.read(1, u64::MAX)).to_owned(),
            "write" => code(&file()?.write(b"x", u64::MAX)).to_owned(),
            "stream" => file()?.write_via_stream(u64::MAX).map_or_else(
                |code| code.to_string(),
                |stream| format!("{:?}", stream.blocking_write_and_flush(b"x").is_ok()),
            ),
            "size" => code(&file()?.set_size(u64::MAX)).to_owned(),
            "stdin" => format!("{:?}", wasip2::cli::stdin::get_stdin().blocking_read(u64::MAX).is_ok()),
            unknown => return Err(Failure::permanent(format!("{unknown} is nothing to ask for"))),
        };
        Ok(Outcome::done_with(said))
    }
}

sweepd_guests::runs_all!(Guest);
