//! Guests that the host's tests run: real components, one misdeed each. Every
//! file in `examples/` is one; `cargo xtask plugins` builds them, and
//! `cargo xtask tidy` refuses one that no test names.
//!
//! Here is only what several of them share.

use std::fmt::Display;
use std::time::{SystemTime, UNIX_EPOCH};

/// Makes a component of the world `job` of an executor, whose dispatcher runs
/// everything.
#[macro_export]
macro_rules! runs_all {
    ($policy:ty) => {
        impl sweepd_sdk::Dispatcher for $policy {}
        sweepd_sdk::job!($policy);
    };
}

/// What became of an attempt: `name: ok` or `name: the system's words`.
pub fn said<T, E: Display>(name: &str, result: Result<T, E>) -> String {
    match result {
        Ok(_) => format!("{name}: ok"),
        Err(error) => format!("{name}: {error}"),
    }
}

/// Milliseconds since the Unix epoch, by the clock that the host gives.
#[must_use]
pub fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
