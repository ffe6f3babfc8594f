//! What the system lets this process use, and what the process makes of it: how
//! many descriptors it may have open, and how large it may let a file become.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// No host needs more, whatever the system would allow.
const MOST_DESCRIPTORS: u64 = 1 << 20;

/// Lets this process, and what it starts, have as many descriptors open as the
/// system allows at all: the usual soft limit is there for programs of another
/// kind. Answers how many those are.
pub(crate) fn raise_descriptors() -> u64 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let (soft, hard) = (current.unwrap_or(u64::MAX), maximum.unwrap_or(u64::MAX));
    let wanted = hard.min(MOST_DESCRIPTORS);
    if soft >= wanted {
        return soft;
    }
    match setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum }) {
        Ok(()) => wanted,
        Err(error) => {
            tracing::warn!("the limit of open files stays at {soft}, it could not be raised to {wanted}: {error}");
            soft
        }
    }
}

/// The largest size that this process may give a file (`ulimit -f`), in bytes;
/// `None` where there is no such limit.
pub(crate) fn file_size() -> Option<u64> {
    getrlimit(Resource::Fsize).current
}
