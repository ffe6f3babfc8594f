//! Points in time as every part of sweepd writes them, and where they are read.

use std::fmt;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Milliseconds since the Unix epoch, UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// This point and `delay` more; saturates.
    #[must_use]
    pub fn after(self, delay: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(delay.as_millis()).unwrap_or(u64::MAX)))
    }

    /// This point and `delay` earlier, at most the epoch.
    #[must_use]
    pub fn before(self, delay: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(delay.as_millis()).unwrap_or(u64::MAX)))
    }

    /// How long before `self` the point `earlier` was; zero if it was not.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// RFC 3339 in UTC with milliseconds, as logs and pages show it.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, in_day) = (self.0 / 86_400_000, self.0 % 86_400_000);
        let (year, month, day) = civil_from_days(days);
        let (seconds, millis) = (in_day / 1000, in_day % 1000);
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{millis:03}Z",
            seconds / 3600,
            seconds / 60 % 60,
            seconds % 60
        )
    }
}

/// Days since 1970-01-01 to a date of the proleptic Gregorian calendar: years
/// are counted from March, so that the leap day is the last of its year.
fn civil_from_days(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

/// How far tests set the machine's clock, in milliseconds.
static SHIFT: OnceLock<fn() -> i64> = OnceLock::new();

/// The one reader of wall-clock time; tests hold one that they move by hand.
/// Clones share what they know.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    manual: Option<Arc<AtomicU64>>,
    /// How far it may be ahead, in milliseconds.
    ahead: Arc<AtomicU64>,
    /// What it showed beyond this process's running time when it was looked at
    /// last, in milliseconds; 0 where it never was.
    looked: Arc<AtomicI64>,
}

impl Clock {
    /// The machine's clock.
    #[must_use]
    pub fn system() -> Self {
        Self::default()
    }

    /// A clock that stands at `start` until [`Clock::advance`] moves it.
    #[must_use]
    pub fn manual(start: Timestamp) -> Self {
        Self { manual: Some(Arc::new(AtomicU64::new(start.0))), ..Self::default() }
    }

    /// Sets the machine's clock in all of this process by what `shift` answers,
    /// in milliseconds; for tests of debug builds, once.
    pub(crate) fn shift_system(shift: fn() -> i64) {
        let _ = SHIFT.set(shift);
    }

    /// The time now.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        if let Some(manual) = &self.manual {
            return Timestamp(manual.load(Ordering::SeqCst));
        }
        let now = Timestamp::default().after(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default());
        let shift = SHIFT.get().filter(|_| cfg!(debug_assertions));
        shift.map_or(now, |shift| Timestamp(now.0.saturating_add_signed(shift())))
    }

    /// The time now, less what the clock may be ahead: for what must not happen
    /// too early, since it cannot be undone.
    #[must_use]
    pub fn careful(&self) -> Timestamp {
        let (now, looked) = (self.now(), self.looked.load(Ordering::SeqCst));
        let expected = if looked == 0 { now } else { Timestamp(running().saturating_add_signed(looked)) };
        // It may have been set since it was looked at.
        now.min(expected).before(self.ahead())
    }

    /// How far the clock may be ahead: it was set forward a short while ago.
    #[must_use]
    pub fn ahead(&self) -> Duration {
        Duration::from_millis(self.ahead.load(Ordering::SeqCst))
    }

    /// The clock shows `now`, and may be so far ahead.
    pub fn doubt(&self, now: Timestamp, ahead: Duration) {
        // Before the other: in between it is the more careful.
        self.ahead.store(u64::try_from(ahead.as_millis()).unwrap_or(u64::MAX), Ordering::SeqCst);
        if !self.is_manual() {
            let beyond = i64::try_from(now.0).unwrap_or(i64::MAX) - i64::try_from(running()).unwrap_or(i64::MAX);
            self.looked.store(beyond, Ordering::SeqCst);
        }
    }

    /// Whether it is moved by hand.
    #[must_use]
    pub fn is_manual(&self) -> bool {
        self.manual.is_some()
    }

    /// Moves a manual clock; the system's stays as it is.
    pub fn advance(&self, by: Duration) {
        if let Some(manual) = &self.manual {
            manual.fetch_add(u64::try_from(by.as_millis()).unwrap_or(u64::MAX), Ordering::SeqCst);
        }
    }
}

/// How long this process has been running, in milliseconds, from about its start.
fn running() -> u64 {
    static BEGAN: OnceLock<Instant> = OnceLock::new();
    u64::try_from(BEGAN.get_or_init(Instant::now).elapsed().as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_was_set_forward_since_the_last_look_ends_nothing() {
        let clock = Clock::system();
        assert!(clock.now().since(clock.careful()) < Duration::from_secs(1), "it was never looked at");
        // As if it had shown ten hours less at the last look.
        let shown = clock.now().before(Duration::from_hours(10));
        clock.doubt(shown, Duration::ZERO);
        assert!(clock.careful().since(shown) < Duration::from_mins(1));
        clock.doubt(clock.now(), Duration::from_hours(10));
        assert!(clock.careful().since(shown) < Duration::from_mins(1), "it is seen, and doubted");
        clock.doubt(clock.now(), Duration::ZERO);
        assert!(clock.now().since(clock.careful()) < Duration::from_mins(1), "it is believed");
    }

    #[test]
    fn dates() {
        for (millis, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_767_225_599_999, "2025-12-31T23:59:59.999Z"),
            (4_107_542_400_123, "2100-03-01T00:00:00.123Z"),
        ] {
            assert_eq!(Timestamp(millis).to_string(), text);
        }
    }
}
