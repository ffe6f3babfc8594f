//! How fast a job may print: one bucket for all its instances in this process,
//! filled at the job's rate, and holding what one second fills.
//!
//! Instances know their job by name only; a bucket lives as long as one of them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Instant;

static BUCKETS: Mutex<Option<HashMap<String, Weak<OutputRate>>>> = Mutex::new(None);

/// The rate of one job's output.
#[derive(Debug)]
pub(super) struct OutputRate {
    /// Bytes a second, and at once.
    rate: u64,
    bucket: Mutex<Bucket>,
}

#[derive(Debug)]
struct Bucket {
    left: u64,
    filled: Instant,
}

impl OutputRate {
    /// The one of this job, made where no other instance of it is alive.
    pub(super) fn of(job: &str, rate: u64) -> Arc<Self> {
        let mut buckets = BUCKETS.lock().unwrap_or_else(PoisonError::into_inner);
        let buckets = buckets.get_or_insert_default();
        if let Some(shared) = buckets.get(job).and_then(Weak::upgrade).filter(|shared| shared.rate == rate) {
            return shared;
        }
        let made = Arc::new(Self::full(rate, Instant::now()));
        buckets.insert(job.to_owned(), Arc::downgrade(&made));
        made
    }

    fn full(rate: u64, now: Instant) -> Self {
        Self { rate, bucket: Mutex::new(Bucket { left: rate, filled: now }) }
    }

    /// Bytes a second.
    pub(super) fn rate(&self) -> u64 {
        self.rate
    }

    /// Takes `wanted` bytes, or as many as there are.
    pub(super) fn take(&self, wanted: u64, now: Instant) -> u64 {
        let mut bucket = self.bucket.lock().unwrap_or_else(PoisonError::into_inner);
        let passed = now.saturating_duration_since(bucket.filled).as_nanos();
        let filled = u64::try_from(passed * u128::from(self.rate) / 1_000_000_000).unwrap_or(u64::MAX);
        // Time for less than a byte is kept for the next one.
        if filled > 0 {
            bucket.left = bucket.left.saturating_add(filled).min(self.rate);
            bucket.filled = now;
        }
        let taken = wanted.min(bucket.left);
        bucket.left -= taken;
        taken
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_second_is_had_at_once_and_then_the_rate() {
        let begin = Instant::now();
        let at = |millis| begin + Duration::from_millis(millis);
        let rate = OutputRate::full(1000, begin);
        assert_eq!(rate.take(1500, at(0)), 1000);
        assert_eq!(rate.take(1500, at(0)), 0);
        assert_eq!(rate.take(1500, at(500)), 500);
        assert_eq!(rate.take(100, at(10_000)), 100);
        assert_eq!(rate.take(1500, at(10_000)), 900);
    }

    #[test]
    fn slow_filling_is_not_lost() {
        let begin = Instant::now();
        let rate = OutputRate::full(10, begin);
        assert_eq!(rate.take(10, begin), 10);
        let taken: u64 = (1..=1000).map(|milli| rate.take(10, begin + Duration::from_millis(milli))).sum();
        assert_eq!(taken, 10);
    }

    #[test]
    fn all_instances_of_a_job_share_one() {
        let one = OutputRate::of("shared-by-a-test", 10);
        let other = OutputRate::of("shared-by-a-test", 10);
        assert!(Arc::ptr_eq(&one, &other));
        assert!(!Arc::ptr_eq(&one, &OutputRate::of("another-of-a-test", 10)));
    }
}
