//! Who is to blame where a component cannot be taken: the machine, which may be
//! able to later, or the component, which stays what it is.
//!
//! The rule: whatever is the machine's is tried again, whatever is the component's
//! is not.

use std::error::Error;
use std::io::{self, ErrorKind};

use rustix::io::Errno;

/// Errors of the system that say that it lacks something now, or that a disk or
/// server does.
const MACHINES: [Errno; 17] = [
    Errno::AGAIN,
    Errno::NOMEM,
    Errno::MFILE,
    Errno::NFILE,
    Errno::NOBUFS,
    Errno::INTR,
    Errno::IO,
    Errno::NXIO,
    Errno::STALE,
    Errno::TIMEDOUT,
    Errno::NOTCONN,
    Errno::CONNABORTED,
    Errno::CONNRESET,
    Errno::HOSTDOWN,
    Errno::HOSTUNREACH,
    Errno::NETDOWN,
    Errno::NETUNREACH,
];

/// Whether the machine is to blame for this error of it.
pub(super) fn is_the_machines(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::OutOfMemory | ErrorKind::TimedOut)
        || Errno::from_io_error(error).is_some_and(|errno| MACHINES.contains(&errno))
}

/// The cause in this chain for which the machine is to blame, if there is one.
pub(super) fn of_the_machine(error: &wasmtime::Error) -> Option<String> {
    error.chain().find_map(|cause| {
        let system = cause.downcast_ref::<io::Error>().filter(|error| is_the_machines(error)).map(ToString::to_string);
        let errno = || cause.downcast_ref::<Errno>().map(|errno| io::Error::from(*errno));
        system.or_else(|| errno().filter(is_the_machines).map(|error| error.to_string()))
    })
}

/// Whether a dying process printed that the machine lacked something. A panic
/// has no other way to tell.
pub(super) fn is_told_by(printed: &str) -> bool {
    let words = ["Resource temporarily unavailable", "Too many open files", "failed to spawn thread"];
    words.iter().any(|words| printed.contains(words))
}

/// Whether a dying process printed that it found no more memory.
pub(super) fn is_out_of_memory(printed: &str) -> bool {
    printed.contains("memory allocation of") || printed.contains("Cannot allocate memory")
}

/// Whether an error of the compiler is that it found no more memory.
pub(super) fn has_no_memory(error: &wasmtime::Error) -> bool {
    error.chain().any(|cause: &(dyn Error + 'static)| {
        cause.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == ErrorKind::OutOfMemory)
            || is_out_of_memory(&cause.to_string())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_pass_is_the_machines() {
        for errno in MACHINES {
            assert!(is_the_machines(&errno.into()), "{errno:?}");
        }
        for errno in [Errno::NOENT, Errno::ACCESS, Errno::ISDIR, Errno::LOOP, Errno::INVAL] {
            assert!(!is_the_machines(&errno.into()), "{errno:?}");
        }
    }

    #[test]
    fn a_cause_is_found_in_its_chain() {
        let wrapped = |errno: Errno| wasmtime::Error::from(io::Error::from(errno)).context("reserving memory");
        assert!(of_the_machine(&wrapped(Errno::NOMEM)).is_some_and(|why| why.contains("allocate")));
        assert!(has_no_memory(&wrapped(Errno::NOMEM)));
        assert!(of_the_machine(&wrapped(Errno::INVAL)).is_none());
        assert!(!has_no_memory(&wrapped(Errno::MFILE)));
    }
}
