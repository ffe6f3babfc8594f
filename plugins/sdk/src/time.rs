//! Whether there is time for more in the present call.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::run;

/// Of the time that a call has, this part is for its steps: three quarters. The
/// rest is for the last step, which may take long on a slow disk, and for the
/// answer.
const FOR_STEPS: (u32, u32) = (3, 4);

/// Between two looks at the clock pass at most so many steps, and about this
/// part of the call's time: a disk that becomes slow in between does not use up
/// what is kept back.
const MOST_STEPS: u32 = 64;
const BETWEEN_LOOKS: u32 = 64;

/// Says whether a call that works in many steps has time for one more. Make it
/// at the beginning of the call, and ask before each step but the first, so that
/// every call gets on.
///
/// Asking is cheap: it looks at the clock only now and then, the more often the
/// longer the steps take.
///
/// ```
/// use sweepd_sdk::{Outcome, TimeLeft};
///
/// fn work(steps: u32) -> Outcome {
///     let mut time = TimeLeft::of_call();
///     for step in 0..steps {
///         if step > 0 && !time.is_enough() {
///             return Outcome::postpone(1, format!("{step} steps done, going on"));
///         }
///         // One step.
///     }
///     Outcome::done()
/// }
/// # assert_eq!(work(1000), Outcome::done());
/// ```
#[derive(Clone, Debug)]
pub struct TimeLeft {
    began: Instant,
    looks: Looks,
}

impl TimeLeft {
    /// Of the present call, by its [`deadline`](run::deadline).
    #[must_use]
    pub fn of_call() -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let left = Duration::from_millis(run::deadline()).saturating_sub(now);
        Self { began: Instant::now(), looks: Looks::within(left) }
    }

    /// Whether there is time for one more step.
    #[must_use]
    pub fn is_enough(&mut self) -> bool {
        self.looks.is_enough(|| self.began.elapsed())
    }
}

/// When to look at the clock, and what it said.
#[derive(Clone, Debug)]
struct Looks {
    /// The time for all steps, and for those between two looks.
    all: Duration,
    between: Duration,
    /// When it looked last.
    at: Duration,
    /// Steps since then, and how many there may be before it looks again.
    steps: u32,
    every: u32,
    is_over: bool,
}

impl Looks {
    fn within(left: Duration) -> Self {
        let (part, of) = FOR_STEPS;
        Self {
            all: left / of * part,
            between: left / BETWEEN_LOOKS,
            at: Duration::ZERO,
            steps: 0,
            every: 1,
            is_over: left.is_zero(),
        }
    }

    /// `elapsed` is the time since the call began.
    fn is_enough(&mut self, elapsed: impl FnOnce() -> Duration) -> bool {
        self.steps += 1;
        if self.is_over || self.steps < self.every {
            return !self.is_over;
        }
        let now = elapsed();
        let step = now.saturating_sub(self.at) / self.steps;
        let fit = self.between.as_nanos().checked_div(step.as_nanos()).unwrap_or(u128::MAX);
        // It grows slowly: the first steps may have been quick by chance.
        let most = self.every.saturating_mul(2).min(MOST_STEPS);
        self.every = u32::try_from(fit).unwrap_or(u32::MAX).clamp(1, most);
        (self.at, self.steps, self.is_over) = (now, 0, now >= self.all);
        !self.is_over
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Run;

    /// How many steps of these lengths fit into a call, after how long it ends,
    /// and how often the clock was looked at.
    fn steps(left: Duration, mut length: impl FnMut(u32) -> Duration) -> (u32, Duration, u32) {
        let (mut looks, mut now, mut asked) = (Looks::within(left), Duration::ZERO, 0);
        for step in 0.. {
            now += length(step);
            let enough = looks.is_enough(|| {
                asked += 1;
                now
            });
            if !enough {
                return (step + 1, now, asked);
            }
        }
        unreachable!("time passes")
    }

    #[test]
    fn steps_of_any_length_end_before_the_deadline() {
        for (left, step) in [
            (Duration::from_secs(30), Duration::from_micros(5)),
            (Duration::from_secs(30), Duration::from_millis(20)),
            (Duration::from_secs(30), Duration::from_secs(5)),
            (Duration::from_millis(100), Duration::from_micros(20)),
            (Duration::from_millis(100), Duration::from_millis(4)),
            (Duration::from_millis(100), Duration::from_millis(20)),
        ] {
            let (_, ended, _) = steps(left, |_| step);
            assert!(ended < left, "{step:?} of {left:?}: {ended:?}");
            assert!(ended >= left * 3 / 4, "{step:?} of {left:?}: {ended:?}");
        }
    }

    #[test]
    fn quick_steps_look_rarely() {
        let (steps, _, looks) = steps(Duration::from_secs(30), |_| Duration::from_micros(5));
        assert!(looks < steps / 60, "{looks} looks at {steps} steps");
    }

    #[test]
    fn a_disk_that_becomes_slow_is_noticed_in_time() {
        let (left, quick) = (Duration::from_millis(100), Duration::from_micros(20));
        let (_, ended, _) = steps(left, |step| if step < 1000 { quick } else { quick * 15 });
        assert!(ended < left, "{ended:?}");
    }

    #[test]
    fn a_call_without_time_says_so_at_once() {
        let mut looks = Looks::within(Duration::ZERO);
        assert!(!looks.is_enough(|| unreachable!("the clock is not asked")));
        Run::new().deadline(0).enter(|| assert!(!TimeLeft::of_call().is_enough()));
        Run::new().enter(|| {
            let mut time = TimeLeft::of_call();
            assert!((0..1000).all(|_| time.is_enough()), "without a deadline there is always time");
        });
    }
}
