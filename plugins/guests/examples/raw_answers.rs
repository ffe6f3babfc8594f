//! Answers with text that is none, by an export written by hand. By the first
//! byte of its key: `4` claims a note of 4 GiB, `b` one beyond its memory, `u` one
//! that is no UTF-8, `k` a kind of outcome that there is not, `p` answers from
//! beyond its memory, `o` from an odd address.
#![cfg(target_arch = "wasm32")]
#![allow(unsafe_code, reason = "the canonical ABI by hand: what is wrong with it is the misdeed")]

use std::ptr;

#[allow(missing_docs, unused_qualifications, dead_code, clippy::pedantic, reason = "generated")]
mod contract {
    wit_bindgen::generate!({ path: "../../wit", world: "executor-only" });
}

/// A `result<outcome, failure>` of the contract: whether it is an error, which
/// outcome, and for `skipped` where the text is and how long.
#[repr(C)]
struct Answer {
    error: u32,
    outcome: u32,
    text: usize,
    length: usize,
    more: [u32; 4],
}

static NO_TEXT: [u8; 4] = [0xff, 0xfe, 0xc0, 0x80];

#[allow(clippy::too_many_arguments, reason = "a task, flattened")]
#[unsafe(export_name = "sweepd:job/executor@0.1.0#execute")]
extern "C" fn execute(
    _id: u64,
    key: *const u8,
    _key_length: usize,
    _has_payload: i32,
    _payload: usize,
    _payload_length: usize,
    _attempt: u32,
    _max_attempts: u32,
    _enqueued_at: u64,
) -> usize {
    let answer = |outcome, text, length| {
        let answer = Answer { error: 0, outcome, text, length, more: [0; 4] };
        ptr::from_ref(Box::leak(Box::new(answer))) as usize
    };
    match unsafe { *key } {
        b'4' => answer(1, 0, usize::MAX),
        b'b' => answer(1, usize::MAX - 1, 100),
        b'u' => answer(1, NO_TEXT.as_ptr() as usize, NO_TEXT.len()),
        b'k' => answer(77, 0, 0),
        b'p' => usize::MAX - 7,
        _ => answer(1, 0, 0) + 1,
    }
}
