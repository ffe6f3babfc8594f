//! How much address space this process may have, and how the guests share it.
//!
//! Where it is not limited, each memory of a guest reserves so much that no access
//! to it need be checked. Where it is (`ulimit -v`), that is more than there is.

use bytesize::ByteSize;
use rustix::process::{Resource, getrlimit};

use crate::config::Config;

/// What a memory reserves where it may, in bytes: all that it can address, and what
/// is around that.
const WHOLE: u64 = (4 << 30) + (64 << 20);
/// What a host takes besides its guests, in bytes: its program, its threads, what
/// it allocates, and a component that is loaded.
const BESIDES: u64 = 1 << 30;
/// A page of WebAssembly.
const PAGE: u64 = 64 << 10;

/// What there is, and what the guests of all jobs need of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct AddressSpace {
    /// In bytes; `None` where it is not limited.
    limit: Option<u64>,
    /// How many guests there are at a time.
    guests: u64,
    /// How much memory all of them together may have, in bytes.
    memory: u64,
    /// The most that one of them may have, in bytes.
    largest: u64,
}

impl AddressSpace {
    /// That of this process, for the jobs that run on this node.
    pub(super) fn of(config: &Config) -> Self {
        let here = || config.jobs.iter().filter(|job| job.runs_on(&config.labels));
        let jobs = || here().map(|job| (job.guests(), job.limits.memory));
        let limit = getrlimit(Resource::As);
        Self {
            limit: [limit.current, limit.maximum].into_iter().flatten().min(),
            guests: jobs().map(|(guests, _)| guests).sum(),
            memory: jobs().map(|(guests, memory)| guests.saturating_mul(memory)).fold(0, u64::saturating_add),
            largest: jobs().map(|(_, memory)| memory).max().unwrap_or(0),
        }
    }

    /// What a memory reserves, in bytes; `None` where it may reserve all that it can
    /// address.
    pub(super) fn reservation(self) -> Option<u64> {
        let share = self.limit?.saturating_sub(BESIDES) / self.guests.max(1);
        (share < WHOLE).then(|| self.largest.min(share / 2).next_multiple_of(PAGE).max(PAGE))
    }

    /// What a person should know of it.
    pub(super) fn warning(self) -> Option<String> {
        let (limit, reservation) = (self.limit?, self.reservation()?);
        let shown = |bytes: u64| ByteSize(bytes).display().iec();
        let needed = BESIDES.saturating_add(self.memory);
        let missing = if limit < needed {
            format!(
                "; that is not enough where all of them use what they may: the jobs of this node can need {} for their \
                 guests ({} of them, job.concurrency and job.limits.memory) and about {} besides",
                shown(self.memory),
                self.guests,
                shown(BESIDES)
            )
        } else {
            String::new()
        };
        Some(format!(
            "the address space of this process is limited to {} (ulimit -v): a guest's memory reserves {}, and every \
             access to it is checked, which makes guests slower{missing}",
            shown(limit),
            shown(reservation)
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn space(limit: Option<u64>) -> AddressSpace {
        AddressSpace { limit, guests: 4, memory: 256 * MIB, largest: 64 * MIB }
    }

    #[test]
    fn what_a_memory_reserves_fits_what_there_is() {
        assert_eq!((space(None).reservation(), space(None).warning()), (None, None));
        assert_eq!(space(Some(64 << 30)).reservation(), None, "it is limited, and enough");
        let some = space(Some(4 << 30));
        assert_eq!(some.reservation(), Some(64 * MIB));
        assert!(some.warning().is_some_and(|warning| !warning.contains("not enough")), "{:?}", some.warning());
        let little = space(Some((1 << 30) + 64 * MIB));
        assert_eq!(little.reservation(), Some(8 * MIB));
        let warning = little.warning().expect("one");
        assert!(warning.contains("can need 256.0 MiB for their guests (4 of them"), "{warning}");
        assert_eq!(space(Some(1)).reservation(), Some(PAGE));
    }
}
