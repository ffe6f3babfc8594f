//! How much a job may take away and make, in a sweep and in an hour: so many
//! files, bytes, or a share of what its mounts hold.

use std::fmt;

/// What was taken away, and what was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Spent {
    /// Files that were removed, moved or overwritten.
    pub files: u64,
    /// Their sizes before, together, in bytes.
    pub bytes: u64,
    /// Files, folders and second names that were made.
    pub made: u64,
    /// Bytes that were written, or by which a file was made longer.
    pub written: u64,
}

impl Spent {
    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        self.with(other, u64::saturating_add)
    }

    /// What is left without `other`; at least nothing.
    #[must_use]
    pub fn less(self, other: Self) -> Self {
        self.with(other, u64::saturating_sub)
    }

    fn with(self, other: Self, each: impl Fn(u64, u64) -> u64) -> Self {
        Self {
            files: each(self.files, other.files),
            bytes: each(self.bytes, other.bytes),
            made: each(self.made, other.made),
            written: each(self.written, other.written),
        }
    }

    /// Of this, what `cost` asks for more of: what is over its bound already is no
    /// reason to refuse something else.
    #[must_use]
    pub fn asked_by(self, cost: Self) -> Self {
        self.with(cost, |all, asked| if asked > 0 { all } else { 0 })
    }
}

/// By how many files the mounts changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Changed {
    /// Files that were removed.
    pub removed: u64,
    /// Files that were made, second names of a file included.
    pub made: u64,
}

impl Changed {
    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self { removed: self.removed.saturating_add(other.removed), made: self.made.saturating_add(other.made) }
    }

    /// How many files there were before, where there are `now` after it.
    #[must_use]
    pub fn undone(self, now: u64) -> u64 {
        now.saturating_add(self.removed).saturating_sub(self.made)
    }
}

/// A part of a whole, in millionths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Share(pub u32);

impl Share {
    /// So many of `all`, rounded down.
    #[must_use]
    pub fn of(self, all: u64) -> u64 {
        u64::try_from(u128::from(all) * u128::from(self.0) / 1_000_000).unwrap_or(u64::MAX)
    }
}

/// As a percentage.
impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", f64::from(self.0) / 10_000.0)
    }
}

impl serde::Serialize for Share {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The most in one period; `None` is no bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Allowance {
    /// Files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub files: Option<u64>,
    /// Bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// Files, as a share of those that the job's mounts held when the period
    /// began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub share: Option<Share>,
    /// Files and folders that are made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub made: Option<u64>,
    /// Bytes that are written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub written: Option<u64>,
}

/// A job's budget.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Budget {
    /// In one sweep.
    pub sweep: Allowance,
    /// In any sixty minutes, on all nodes.
    pub hour: Allowance,
}

impl Budget {
    /// Whether nothing is bounded.
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// Whether the number of files in the mounts must be known.
    #[must_use]
    pub fn needs_count(&self) -> bool {
        self.sweep.share.is_some() || self.hour.share.is_some()
    }
}

/// The period of an allowance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Period {
    /// One sweep.
    Sweep,
    /// Sixty minutes.
    Hour,
}

/// Why something is over budget, in words for the operator.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OverBudget {
    /// One file more than allowed.
    #[error("over budget: the job may take away {allowed} files {}, and asks for more", per(*period))]
    Files {
        /// In which period.
        period: Period,
        /// The bound.
        allowed: u64,
    },
    /// More bytes than allowed.
    #[error("over budget: the job may take away {} {}, and asks for more", bytesize::ByteSize(*allowed).display().iec(), per(*period))]
    Bytes {
        /// In which period.
        period: Period,
        /// The bound.
        allowed: u64,
    },
    /// A larger share of the files than allowed.
    #[error("over budget: the job may take away {share} of {all} files {}, and asks for more", per(*period))]
    Share {
        /// In which period.
        period: Period,
        /// The bound.
        share: Share,
        /// Of so many.
        all: u64,
    },
    /// More files and folders made than allowed.
    #[error("over budget: the job may make {allowed} files and folders {}, and asks for more", per(*period))]
    Made {
        /// In which period.
        period: Period,
        /// The bound.
        allowed: u64,
    },
    /// More bytes written than allowed.
    #[error("over budget: the job may write {} {}, and asks for more", bytesize::ByteSize(*allowed).display().iec(), per(*period))]
    Written {
        /// In which period.
        period: Period,
        /// The bound.
        allowed: u64,
    },
    /// A share is bounded, and how many files there are is not known yet.
    #[error("the files of the mounts are still being counted, and the budget is a share of them")]
    NotCounted,
}

fn per(period: Period) -> &'static str {
    match period {
        Period::Sweep => "in one sweep",
        Period::Hour => "in an hour",
    }
}

impl Allowance {
    /// Whether `spent` is within it, where the mounts held `all` files when the
    /// period began.
    pub fn check(&self, period: Period, spent: Spent, all: Option<u64>) -> Result<(), OverBudget> {
        if let Some(allowed) = self.files.filter(|allowed| spent.files > *allowed) {
            return Err(OverBudget::Files { period, allowed });
        }
        if let Some(allowed) = self.bytes.filter(|allowed| spent.bytes > *allowed) {
            return Err(OverBudget::Bytes { period, allowed });
        }
        if let Some(allowed) = self.made.filter(|allowed| spent.made > *allowed) {
            return Err(OverBudget::Made { period, allowed });
        }
        if let Some(allowed) = self.written.filter(|allowed| spent.written > *allowed) {
            return Err(OverBudget::Written { period, allowed });
        }
        if let Some(share) = self.share {
            let all = all.ok_or(OverBudget::NotCounted)?;
            if spent.files > share.of(all) {
                return Err(OverBudget::Share { period, share, all });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_the_last_that_is_allowed() {
        let spent = |files, bytes| Spent { files, bytes, ..Spent::default() };
        let files = Allowance { files: Some(10), ..Allowance::default() };
        assert_eq!(files.check(Period::Sweep, spent(10, u64::MAX), None), Ok(()));
        assert!(matches!(files.check(Period::Sweep, spent(11, 0), None), Err(OverBudget::Files { allowed: 10, .. })));
        let bytes = Allowance { bytes: Some(10), ..Allowance::default() };
        assert_eq!(bytes.check(Period::Hour, spent(99, 10), None), Ok(()));
        assert!(bytes.check(Period::Hour, spent(1, 11), None).is_err());
        let share = Allowance { share: Some(Share(50_000)), ..Allowance::default() };
        assert_eq!(share.check(Period::Hour, spent(0, 0), None), Err(OverBudget::NotCounted));
        assert_eq!(share.check(Period::Hour, spent(5, 0), Some(100)), Ok(()));
        let over = share.check(Period::Hour, spent(6, 0), Some(100)).expect_err("six of a hundred are more than 5 %");
        assert_eq!(
            over.to_string(),
            "over budget: the job may take away 5% of 100 files in an hour, and asks for more"
        );
    }

    #[test]
    fn what_is_made_has_bounds_of_its_own() {
        let made = |made| Spent { made, files: 99, ..Spent::default() };
        let folders = Allowance { made: Some(10), ..Allowance::default() };
        assert_eq!(folders.check(Period::Sweep, made(10), None), Ok(()));
        let over = folders.check(Period::Sweep, made(11), None).expect_err("eleven are more than ten");
        assert_eq!(
            over.to_string(),
            "over budget: the job may make 10 files and folders in one sweep, and asks for more"
        );
        let written = |written| Spent { written, bytes: 1 << 40, ..Spent::default() };
        let bytes = Allowance { written: Some(1 << 30), ..Allowance::default() };
        assert_eq!(bytes.check(Period::Hour, written(1 << 30), None), Ok(()));
        let over = bytes.check(Period::Hour, written((1 << 30) + 1), None).expect_err("a byte more than a gibibyte");
        assert_eq!(over.to_string(), "over budget: the job may write 1.0 GiB in an hour, and asks for more");
    }
}
