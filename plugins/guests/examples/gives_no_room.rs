//! Takes no strings: whoever asks it for room is given an address beyond its
//! memory.
#![cfg(target_arch = "wasm32")]
#![allow(unsafe_code, reason = "the canonical ABI by hand: what is wrong with it is the misdeed")]

#[allow(missing_docs, unused_qualifications, dead_code, clippy::pedantic, reason = "generated")]
mod contract {
    wit_bindgen::generate!({ path: "../../wit", world: "executor-only" });
}

#[unsafe(export_name = "cabi_realloc")]
extern "C" fn cabi_realloc(_old: usize, _old_length: usize, _align: usize, _length: usize) -> usize {
    usize::MAX - 15
}

#[allow(clippy::too_many_arguments, reason = "a task, flattened")]
#[unsafe(export_name = "sweepd:job/executor@0.1.0#execute")]
extern "C" fn execute(
    _id: u64,
    _key: usize,
    _key_length: usize,
    _has_payload: i32,
    _payload: usize,
    _payload_length: usize,
    _attempt: u32,
    _max_attempts: u32,
    _enqueued_at: u64,
) -> usize {
    0
}
