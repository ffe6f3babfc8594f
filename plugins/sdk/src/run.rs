//! What the host tells a running call. Natively, [`testing`](crate::testing)
//! answers instead.

use std::fmt::Display;
use std::str::FromStr;

use crate::{Failure, Timestamp};

#[cfg(target_arch = "wasm32")]
use crate::bindings::executing::sweepd::job::run as host;
#[cfg(not(target_arch = "wasm32"))]
use crate::testing as host;

/// The job's name.
#[must_use]
pub fn job() -> String {
    host::job()
}

/// A value of `[job.config]`; a number or boolean as TOML writes it.
#[must_use]
pub fn config(key: &str) -> Option<String> {
    host::config(key)
}

/// A value of `[job.config]`, parsed; `default` where there is none.
///
/// # Errors
///
/// A permanent failure that names the key and the value, where it does not parse.
pub fn config_or<T>(key: &str, default: T) -> Result<T, Failure>
where
    T: FromStr,
    T::Err: Display,
{
    match config(key) {
        None => Ok(default),
        Some(value) => {
            value.parse().map_err(|error| Failure::Permanent(format!("config `{key}` is {value:?}: {error}")))
        }
    }
}

/// When this call is interrupted and its file changes are refused.
#[must_use]
pub fn deadline() -> Timestamp {
    host::deadline()
}

/// How many files earlier calls for this task removed, less those that they
/// made, by the host's own count: what a call that goes on with a task may tell
/// of all of it. 0 outside of `execute`.
#[must_use]
pub fn removed_before() -> u64 {
    host::removed_before()
}

/// Whether changes are simulated (`sweepd plan`, preflight).
#[must_use]
pub fn simulated() -> bool {
    host::simulated()
}
