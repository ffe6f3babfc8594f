//! What the compiler's process may use, and what it says of the component, or of the
//! machine, when it ends without machine code.
//!
//! A limit that this host was started with counts where it is the smaller one.

use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::time::Duration;

use bytesize::ByteSize;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::{CompileError, CompileLimits};
use crate::plugin::blame;
use crate::plugin::generation::LoadError;

/// Processor time that a compilation may take on all cores together, as a multiple of
/// the time that it may take.
const CORES: u64 = 2;
/// The child's exit code for a component that cannot be compiled.
pub(super) const REFUSED: i32 = 3;
/// The child's exit code where it could not do its work.
pub(super) const FAILED: i32 = 4;
/// The child's exit code for a component whose machine code is too large.
pub(super) const TOO_LARGE: i32 = 5;
/// The child's exit code where there was no more memory.
pub(super) const OUT_OF_MEMORY: i32 = 6;

/// Signals by which people and machines end a process that does nothing wrong.
const FROM_OUTSIDE: [i32; 4] = [1, 2, 9, 15];
/// The kernel's way to say that the processor time is used up.
const SIGXCPU: i32 = 24;

/// How the child ended, as an error: whether the component or the machine is to
/// blame.
pub(super) fn failure(status: ExitStatus, message: String, limits: CompileLimits) -> CompileError {
    let [(_, memory), (_, cpu)] = ours(limits).map(|(resource, ours)| (resource, Bound::of(resource, ours)));
    within(status, message, memory, cpu)
}

/// What this host allows, whatever it was started with: bytes, and seconds.
fn ours(limits: CompileLimits) -> [(Resource, u64); 2] {
    [(Resource::As, limits.memory), (Resource::Cpu, limits.time.as_secs().max(1).saturating_mul(CORES))]
}

fn within(status: ExitStatus, message: String, memory: Bound, cpu: Bound) -> CompileError {
    let ended = || format!("the compiler ended with {status}: {message}");
    match (status.code(), status.signal()) {
        (Some(REFUSED), _) => LoadError::NotAComponent(message).into(),
        (Some(TOO_LARGE), _) => CompileError::TooExpensive(message),
        (Some(FAILED), _) => CompileError::Unavailable(message),
        (code, _) if code == Some(OUT_OF_MEMORY) || blame::is_out_of_memory(&message) => {
            let bound = ByteSize(memory.limit).display().iec();
            if memory.is_inherited {
                CompileError::Unavailable(format!(
                    "the compiler ran out of memory: the address space of a process of this host is limited to {bound} \
                     (ulimit -v); raise that"
                ))
            } else {
                CompileError::TooExpensive(format!("it takes more than {bound} of memory (sandbox.compile_memory)"))
            }
        }
        (_, Some(SIGXCPU)) => {
            let spent = Duration::from_secs(cpu.limit);
            let whose = if cpu.is_inherited { ", the limit that this host was started with (ulimit -t)" } else { "" };
            CompileError::TooExpensive(format!("it takes more than {spent:?} of processor time{whose}"))
        }
        // It may be left alone the next time.
        (_, Some(signal)) if FROM_OUTSIDE.contains(&signal) => {
            CompileError::Unavailable(format!("the compiler was killed (signal {signal})"))
        }
        _ if blame::is_told_by(&message) => CompileError::Unavailable(ended()),
        _ => CompileError::TooExpensive(ended()),
    }
}

/// Limits this process, the child, for the rest of its life.
pub(super) fn put(limits: CompileLimits) -> std::io::Result<()> {
    for (resource, ours) in ours(limits) {
        Bound::of(resource, ours).put(resource)?;
    }
    let no_core = Rlimit { current: Some(0), maximum: getrlimit(Resource::Core).maximum };
    Ok(setrlimit(Resource::Core, no_core)?)
}

/// A limit of the child: ours, or a smaller one that this process has itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Bound {
    limit: u64,
    is_inherited: bool,
}

impl Bound {
    fn of(resource: Resource, ours: u64) -> Self {
        Self::within(getrlimit(resource), ours)
    }

    fn within(inherited: Rlimit, ours: u64) -> Self {
        let theirs = [inherited.current, inherited.maximum].into_iter().flatten().min();
        match theirs.filter(|theirs| *theirs < ours) {
            Some(limit) => Self { limit, is_inherited: true },
            None => Self { limit: ours, is_inherited: false },
        }
    }

    /// Puts it in force for this process; what was smaller stays so.
    fn put(self, resource: Resource) -> std::io::Result<()> {
        // At the maximum the kernel kills; one before it the child can be told by its signal.
        let beyond = self.limit.saturating_add(1);
        let maximum = getrlimit(resource).maximum.map_or(beyond, |most| most.min(beyond));
        let current = self.limit.min(maximum.saturating_sub(1));
        Ok(setrlimit(resource, Rlimit { current: Some(current), maximum: Some(maximum) })?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exit(code: i32) -> ExitStatus {
        ExitStatus::from_raw(code << 8)
    }

    #[test]
    fn the_machine_is_tried_again_and_the_component_is_not() {
        let ours = |limit| Bound { limit, is_inherited: false };
        let theirs = |limit| Bound { limit, is_inherited: true };
        let of = |status, message: &str, memory| within(status, message.to_owned(), memory, ours(240));
        let panicked = "failed to spawn thread: Os { code: 11, message: \"Resource temporarily unavailable\" }";
        let no_memory = "memory allocation of 7 bytes failed";
        for (status, message, memory) in [
            (exit(FAILED), "reading", ours(9)),
            (exit(101), panicked, ours(9)),
            (ExitStatus::from_raw(9), "", ours(9)),
            (ExitStatus::from_raw(15), "", ours(9)),
            (ExitStatus::from_raw(6), no_memory, theirs(9)),
            (exit(OUT_OF_MEMORY), "", theirs(9)),
        ] {
            let error = of(status, message, memory);
            assert!(matches!(error, CompileError::Unavailable(_)), "{status} {message}: {error}");
        }
        for (status, message) in [
            (exit(REFUSED), "no magic"),
            (exit(TOO_LARGE), "too much"),
            (exit(101), "index out of bounds"),
            (exit(OUT_OF_MEMORY), ""),
            (ExitStatus::from_raw(6), no_memory),
            (ExitStatus::from_raw(11), ""),
            (ExitStatus::from_raw(SIGXCPU), ""),
        ] {
            let error = of(status, message, ours(6 << 30));
            assert!(!matches!(error, CompileError::Unavailable(_)), "{status} {message}: {error}");
        }
        let memory = of(exit(OUT_OF_MEMORY), "", ours(6 << 30)).to_string();
        assert!(memory.contains("more than 6.0 GiB of memory") && !memory.contains("component"), "{memory}");
        let memory = of(exit(OUT_OF_MEMORY), "", theirs(1 << 30)).to_string();
        assert!(memory.contains("limited to 1.0 GiB (ulimit -v)"), "{memory}");
    }

    #[test]
    fn the_smaller_limit_counts() {
        let limit = |current, maximum| Rlimit { current, maximum };
        assert_eq!(Bound::within(limit(None, None), 7), Bound { limit: 7, is_inherited: false });
        assert_eq!(Bound::within(limit(Some(8), Some(9)), 7), Bound { limit: 7, is_inherited: false });
        assert_eq!(Bound::within(limit(Some(3), Some(9)), 7), Bound { limit: 3, is_inherited: true });
        assert_eq!(Bound::within(limit(None, Some(4)), 7), Bound { limit: 4, is_inherited: true });
    }
}
