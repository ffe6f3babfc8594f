//! What a call died of, in words for the operator: the cause first.
//!
//! ```text
//!  a limit, the guest's last lines on standard error, what the host refused; else the trap's name
//!  (the trap's name), in the functions that were called, innermost first
//! ```
//! Functions have names where the component has: most are built without.

use wasmtime::{FrameInfo, Trap, WasmBacktrace};
use wasmtime_wasi::I32Exit;

use crate::domain::outcome::Crash;
use crate::sandbox::GuestState;

use super::generation::in_one_line;

/// Most functions that are told, and the longest name of one, in bytes.
const MOST_FUNCTIONS: usize = 5;
const LONGEST_NAME: usize = 100;

/// What a call died of.
pub(super) fn crash_of(state: &GuestState, error: &wasmtime::Error) -> Crash {
    let limits = &state.job().limits;
    match (limits.fuel, error.downcast_ref::<Trap>()) {
        (Some(fuel), Some(Trap::OutOfFuel)) => Crash::Fuel(fuel),
        _ if state.refused().is_none() && is_too_long(error) => Crash::Answer(limits.answer),
        _ => Crash::Trap(told(state, error)),
    }
}

/// What instantiating died of.
pub(super) fn started_badly(state: &GuestState, error: &wasmtime::Error) -> Crash {
    match crash_of(state, error) {
        Crash::Trap(why) => Crash::Start(why),
        named => named,
    }
}

fn told(state: &GuestState, error: &wasmtime::Error) -> String {
    let limit = state.refused().map(|refused| refused.to_string());
    let causes: Vec<_> = [limit, state.last_words(), state.refusal()].into_iter().flatten().collect();
    let (trap, called) = (name_of(error), called_in(error));
    if causes.is_empty() { format!("{trap}{called}") } else { format!("{} ({trap}{called})", causes.join("; ")) }
}

/// The trap's name, or what else ended the call, without the addresses of its
/// backtrace.
fn name_of(error: &wasmtime::Error) -> String {
    if let Some(trap) = error.downcast_ref::<Trap>() {
        let name = trap.to_string();
        return name.strip_prefix("wasm trap: ").unwrap_or(&name).to_owned();
    }
    if let Some(I32Exit(status)) = error.downcast_ref() {
        return format!("it ended itself with status {status}");
    }
    in_one_line(error)
}

/// The functions that were called, innermost first, without those of a language's
/// own runtime that lead to every trap.
fn called_in(error: &wasmtime::Error) -> String {
    let Some(trace) = error.downcast_ref::<WasmBacktrace>() else { return String::new() };
    let names = trace.frames().iter().filter_map(FrameInfo::func_name).map(readable);
    let names: Vec<_> = names.filter(|name| !is_runtime(name)).take(MOST_FUNCTIONS).collect();
    if names.is_empty() { String::new() } else { format!(", in {}", names.join(" < ")) }
}

fn readable(name: &str) -> String {
    let mut name = format!("{:#}", rustc_demangle::demangle(name));
    if name.len() > LONGEST_NAME {
        name.truncate(name.floor_char_boundary(LONGEST_NAME));
        name.push('…');
    }
    name
}

fn is_runtime(name: &str) -> bool {
    const RUNTIME: [&str; 8] = ["core::", "std::", "alloc::", "<core::", "<std::", "<alloc::", "__rust", "rust_"];
    RUNTIME.iter().any(|prefix| name.starts_with(prefix))
}

/// Whether more was handed to the host than it takes at once. The error has no
/// type of its own, only words.
fn is_too_long(error: &wasmtime::Error) -> bool {
    error.chain().any(|cause| cause.to_string().contains("fuel allocated for hostcalls has been exhausted"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_readable_and_short() {
        assert_eq!(readable("_ZN5guest7execute17h0123456789abcdefE"), "guest::execute");
        assert_eq!(readable("abort"), "abort");
        assert_eq!(readable(&"x".repeat(500)).chars().count(), LONGEST_NAME + 1);
        assert!(is_runtime(&readable("_ZN4core9panicking9panic_fmt17h0123456789abcdefE")));
        assert!(!is_runtime("execute"));
    }

    #[test]
    fn what_is_no_trap_is_told_without_addresses() {
        assert_eq!(name_of(&Trap::UnreachableCodeReached.into()), "wasm `unreachable` instruction executed");
        assert_eq!(name_of(&wasmtime::Error::new(I32Exit(3))), "it ended itself with status 3");
        assert_eq!(name_of(&wasmtime::Error::msg("inner").context("outer")), "outer: inner");
    }
}
