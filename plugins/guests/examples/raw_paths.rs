//! Hands the host paths that are no text, or none of its memory, by imports
//! written by hand: its key is `latin` (bytes that are no UTF-8), `surrogate`,
//! `overlong` (`/` in two bytes), `four-gib` (a path of 4 GiB less one byte),
//! `beyond` (one past the end of memory) or `nowhere` (an answer past it).
#![cfg(target_arch = "wasm32")]
#![allow(unsafe_code, reason = "the canonical ABI by hand: what is wrong with it is the misdeed")]

use sweepd_guests::files::top;
use sweepd_sdk::{Executor, Failure, Outcome, Task};

struct Guest;

#[link(wasm_import_module = "wasi:filesystem/types@0.2.12")]
unsafe extern "C" {
    #[link_name = "[method]descriptor.unlink-file-at"]
    fn unlink_file_at(descriptor: i32, path: usize, length: usize, answer: usize);
}

impl Executor for Guest {
    fn execute(task: &Task) -> Result<Outcome, Failure> {
        let (top, mut answer) = (top(), [0xff_u8; 2]);
        let bytes: &[u8] = match task.key.as_str() {
            "latin" => b"\xe9t\xe9",
            "surrogate" => b"\xed\xa0\x80",
            "overlong" => b"..\xc0\xaf..",
            _ => b"file",
        };
        let (path, length) = match task.key.as_str() {
            "four-gib" => (0, usize::MAX),
            "beyond" => (usize::MAX - 3, 4),
            _ => (bytes.as_ptr() as usize, bytes.len()),
        };
        let to = if task.key == "nowhere" { usize::MAX } else { answer.as_mut_ptr() as usize };
        unsafe { unlink_file_at(top.handle().cast_signed(), path, length, to) };
        Ok(Outcome::done_with(format!("{answer:?}")))
    }
}

sweepd_guests::runs_all!(Guest);
