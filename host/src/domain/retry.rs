//! When a failed task is tried again: exponential backoff with jitter.

use std::time::Duration;

/// How often and how soon a task is tried again after a transient failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// After a failure in this attempt the task is buried; at least 1.
    pub max_attempts: u32,
    /// The wait after the first failure; it doubles with each further one.
    pub backoff: Duration,
    /// The longest wait, before jitter.
    pub max_backoff: Duration,
}

impl RetryPolicy {
    /// How long to wait after attempt number `attempt` failed. `jitter` is a
    /// number in `0.0..1.0` and stretches the wait by up to a quarter, so that
    /// what failed together does not come back together.
    #[must_use]
    pub fn backoff_after(&self, attempt: u32, jitter: f64) -> Duration {
        let doublings = attempt.saturating_sub(1).min(30);
        let wait = self.backoff.saturating_mul(1 << doublings).min(self.max_backoff);
        wait.saturating_add(wait.mul_f64(jitter.clamp(0.0, 1.0) / 4.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn waits_grow_and_stay_within_the_cap(
            attempt in 1_u32..10_000, base in 1_u64..100_000, cap in 1_u64..10_000_000, jitter in 0.0..1.0,
        ) {
            let policy = RetryPolicy {
                max_attempts: 5,
                backoff: Duration::from_millis(base),
                max_backoff: Duration::from_millis(cap),
            };
            let wait = policy.backoff_after(attempt, jitter);
            prop_assert!(wait <= policy.max_backoff.mul_f64(1.25) + Duration::from_millis(1));
            prop_assert!(wait >= policy.backoff.min(policy.max_backoff));
            prop_assert!(policy.backoff_after(attempt + 1, 0.0) >= policy.backoff_after(attempt, 0.0));
        }
    }

    #[test]
    fn doubles() {
        let policy =
            RetryPolicy { max_attempts: 5, backoff: Duration::from_secs(1), max_backoff: Duration::from_mins(1) };
        let waits: Vec<_> = (1..=8).map(|attempt| policy.backoff_after(attempt, 0.0).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
    }
}
