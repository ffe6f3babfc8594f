//! How a host shares out the descriptors that it may have open: its database,
//! its state and its jobs first, connections of clients what is left.

/// What a host needs, and what it would like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Needs {
    /// Of the database: connections or files.
    pub database: u64,
    /// How many jobs this host has.
    pub jobs: u64,
    /// How many mounts they have together.
    pub mounts: u64,
    /// How many guests run at a time, at most.
    pub guests: u64,
    /// How many descriptors a guest may hold, as configured.
    pub of_guest: u64,
    /// How many connections are taken at a time, as configured.
    pub connections: u64,
}

/// Who gets how many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shares {
    /// Each guest.
    pub of_guest: u64,
    /// All connections of clients together.
    pub connections: u64,
    /// Whether all guests together could need more than there are: each has what a
    /// walk takes, but they may not all be at it at once.
    pub tight: bool,
}

/// The limit is below what a host of this configuration cannot do without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooFew {
    /// So many would do.
    pub least: u64,
}

/// Standard streams, the runtime, the log, listening, the files of the state
/// folder, and some that are open for a moment only.
const OWN: u64 = 64;
/// Watching its plugin file and history, and the pipes to its compiler.
const OF_JOB: u64 = 16;
/// A mount is opened by whoever looks at it, purges it and counts it.
const OF_MOUNT: u64 = 16;
/// What a call of a guest opens besides what the guest holds: the way to a file,
/// a listing that looks ahead.
const OF_CALL: u64 = 8;
/// The walk of the SDK holds 10 folders, beside mounts and what else a policy opens.
const LEAST_OF_GUEST: u64 = 32;
/// Guests of a job that are at work at the least: one that decides, one that acts.
const LEAST_GUESTS: u64 = 2;
/// With fewer connections, health checks and commands would wait for clients.
const LEAST_CONNECTIONS: u64 = 64;

impl Needs {
    /// Shares out `limit` descriptors.
    pub fn share(self, limit: u64) -> Result<Shares, TooFew> {
        let fixed = OWN + self.database + OF_JOB * self.jobs + OF_MOUNT * self.mounts;
        let least_of_guest = LEAST_OF_GUEST.min(self.of_guest);
        let least_connections = LEAST_CONNECTIONS.min(self.connections);
        let at_work = self.guests.min(LEAST_GUESTS * self.jobs);
        let least = fixed + (least_of_guest + OF_CALL) * at_work + least_connections;
        if limit < least {
            return Err(TooFew { least });
        }
        let free = limit - fixed;
        let wanted = (self.of_guest + OF_CALL) * self.guests;
        let connections = free.saturating_sub(wanted).clamp(least_connections, self.connections);
        let each =
            (free - connections).checked_div(self.guests).map_or(self.of_guest, |each| each.saturating_sub(OF_CALL));
        let of_guest = each.clamp(least_of_guest, self.of_guest);
        let tight = connections + (of_guest + OF_CALL) * self.guests > free;
        Ok(Shares { of_guest, connections, tight })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn needs(guests: u64) -> Needs {
        Needs { database: 16, jobs: 1, mounts: 1, guests, of_guest: 256, connections: 4096 }
    }

    #[test]
    fn what_is_configured_is_given_where_there_is_enough() {
        assert_eq!(needs(5).share(1 << 20), Ok(Shares { of_guest: 256, connections: 4096, tight: false }));
    }

    #[test]
    fn connections_are_cut_before_guests() {
        let shares = needs(5).share(4096).expect("enough");
        assert_eq!(shares.of_guest, 256);
        assert!((1024..4096).contains(&shares.connections), "{shares:?}");
        let shares = needs(5).share(1024).expect("enough");
        assert_eq!(shares.connections, LEAST_CONNECTIONS);
        assert!((100..256).contains(&shares.of_guest) && !shares.tight, "{shares:?}");
    }

    #[test]
    fn six_jobs_start_at_the_usual_limit() {
        let needs = Needs { jobs: 6, mounts: 6, ..needs(24) };
        let shares = needs.share(1024).expect("enough for two guests of each");
        assert_eq!(shares, Shares { of_guest: LEAST_OF_GUEST, connections: LEAST_CONNECTIONS, tight: true });
        assert!(!needs.share(2048).expect("enough").tight);
    }

    #[test]
    fn too_few_are_told_with_how_many_would_do() {
        let TooFew { least } = needs(5).share(100).expect_err("too few");
        assert!(needs(5).share(least).is_ok());
        assert_eq!(needs(5).share(least - 1), Err(TooFew { least }));
    }

    proptest! {
        #[test]
        fn no_more_is_shared_out_than_there_is(
            (database, jobs, mounts) in (0_u64..2000, 0_u64..100, 0_u64..200),
            (guests, of_guest, connections) in (0_u64..500, 8_u64..4000, 1_u64..100_000),
            limit in 0_u64..2_000_000,
        ) {
            let needs = Needs { database, jobs, mounts, guests, of_guest, connections };
            if let Ok(shares) = needs.share(limit) {
                prop_assert!(shares.of_guest <= of_guest && shares.connections <= connections);
                prop_assert!(shares.connections >= 1);
                let fixed = OWN + database + OF_JOB * jobs + OF_MOUNT * mounts;
                let all = fixed + (shares.of_guest + OF_CALL) * guests + shares.connections;
                prop_assert!(shares.tight == (all > limit));
                // Tight is only what each guest has at the least.
                prop_assert!(!shares.tight || shares.of_guest == LEAST_OF_GUEST.min(of_guest));
            }
        }
    }
}
