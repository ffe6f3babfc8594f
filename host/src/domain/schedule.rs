//! When a job scans: a cron expression in a time zone.
//!
//! The expression names *local times*; this module says at which instants they
//! are, so that a change of the clocks loses no run and doubles none:
//!
//! - **Fixed hours** (`0 3 * * *`, `*/10 2 * * *`, `0 */2 * * *`): every local
//!   time of the expression runs once. One that is skipped, because the clocks
//!   go forward over it, runs at the instant of the change; one that comes
//!   twice, because they go back, runs the first time. Times that so fall
//!   together are one run.
//! - **Every hour** (`*/15 * * * *`, `30 * * * *`): a run whenever the clocks show
//!   such a time, so that `*/15` goes on every quarter of an hour through both
//!   changes. There is nothing to make good: an hour that is skipped takes no
//!   time, and one that comes twice takes two hours.
//!
//! The cron library is asked in UTC only, for local times without a zone: in a
//! zone it rounds across changes. A zone's rules are looked up once, in the
//! machine's database or, where that does not know it, in the one built in; after
//! that every answer comes from the values given.

use std::fmt;

use cronexpr::Crontab;
use jiff::ToSpan as _;
use jiff::civil::{DateTime, date};
use jiff::tz::{AmbiguousOffset, Offset, TimeZone};

use super::time::Timestamp;

mod reading;

pub use reading::BadSchedule;

/// Later times have no answer: the calendar of the library ends in 9999, and it
/// looks four years ahead.
const LAST_YEAR: i16 = 9_990;

/// The local times of a cron expression in a time zone; it has at least one.
#[derive(Clone)]
pub struct Schedule {
    /// Five fields, one space between them.
    cron: String,
    /// The zone's name as the database spells it.
    zone: String,
    local_times: Crontab,
    time_zone: TimeZone,
    every_hour: bool,
}

impl Schedule {
    /// The local times of `cron` (minute, hour, day of the month, month, day of
    /// the week) in `zone`, a name of the IANA database such as `Europe/Berlin`.
    /// Looks the zone up; an expression that never comes is refused.
    pub fn new(cron: &str, zone: &str) -> Result<Self, BadSchedule> {
        let cron = cron.split_ascii_whitespace().collect::<Vec<_>>().join(" ");
        let local_times = reading::expression(&cron)?;
        let time_zone = reading::time_zone(zone)?;
        let schedule = Self {
            every_hour: reading::names_every_hour(&cron),
            zone: time_zone.iana_name().unwrap_or(zone).to_owned(),
            cron,
            local_times,
            time_zone,
        };
        if schedule.local_time_after(date(1970, 1, 1).at(0, 0, 0, 0)).is_none() {
            return Err(BadSchedule::Never(schedule.cron));
        }
        Ok(schedule)
    }

    /// The expression, with one space between its fields.
    #[must_use]
    pub fn cron(&self) -> &str {
        &self.cron
    }

    /// The name of the time zone.
    #[must_use]
    pub fn zone(&self) -> &str {
        &self.zone
    }

    /// The first run strictly after `after`; `None` at the end of the calendar,
    /// about the year 9990.
    #[must_use]
    pub fn next_after(&self, after: Timestamp) -> Option<Timestamp> {
        let after = jiff::Timestamp::from_millisecond(i64::try_from(after.0).ok()?).ok()?;
        let next = if self.every_hour { self.next_by_the_wall(after) } else { self.next_once(after) }?;
        u64::try_from(next.as_millisecond()).ok().map(Timestamp)
    }

    /// The latest run in `(last, now]`, if there is one: however many a host
    /// that was down has missed, they are this one run, due as soon as a host is
    /// there.
    ///
    /// Takes about forty steps, however long ago `last` is.
    #[must_use]
    pub fn due(&self, last: Timestamp, now: Timestamp) -> Option<Timestamp> {
        let mut latest = self.next_after(last).filter(|first| *first <= now)?;
        // No run is in (end, now].
        let mut end = now;
        while latest < end {
            let middle = Timestamp(latest.0 + (end.0 - latest.0) / 2);
            match self.next_after(middle).filter(|next| *next <= end) {
                Some(next) => latest = next,
                None => end = middle,
            }
        }
        Some(latest)
    }

    /// Every local time once. Their instants do not fall as the local times
    /// rise, so the first local time beyond `after` is the next run.
    fn next_once(&self, after: jiff::Timestamp) -> Option<jiff::Timestamp> {
        let mut local = self.time_zone.to_datetime(after);
        loop {
            local = self.local_time_after(local)?;
            let instant = self.first_instant_of(local)?;
            if instant > after {
                return Some(instant);
            }
        }
    }

    /// The first instant at which the clocks show `local`, or have just passed
    /// over it.
    fn first_instant_of(&self, local: DateTime) -> Option<jiff::Timestamp> {
        let candidates = self.time_zone.to_ambiguous_timestamp(local);
        let earlier = candidates.earlier().ok()?;
        match candidates.offset() {
            // The reading by the offset after the change is an instant before it.
            AmbiguousOffset::Gap { .. } => Some(self.time_zone.following(earlier).next()?.timestamp()),
            AmbiguousOffset::Unambiguous { .. } | AmbiguousOffset::Fold { .. } => Some(earlier),
        }
    }

    /// Every instant at which the clocks show a local time of the expression,
    /// looked for from one change of the clocks to the next.
    fn next_by_the_wall(&self, after: jiff::Timestamp) -> Option<jiff::Timestamp> {
        let mut since = after;
        let mut local = self.time_zone.to_datetime(after);
        loop {
            let offset = self.time_zone.to_offset(since);
            let found = offset.to_timestamp(self.local_time_after(local)?).ok()?;
            match self.time_zone.following(since).next().map(|change| change.timestamp()) {
                Some(change) if change <= found => {
                    since = change;
                    // What the clocks show at the change itself counts as well.
                    local = self.time_zone.to_datetime(change).checked_sub(1.nanosecond()).ok()?;
                }
                _ => return Some(found),
            }
        }
    }

    /// The expression's first local time strictly after `local`.
    fn local_time_after(&self, local: DateTime) -> Option<DateTime> {
        let mut from = local;
        // The calendar repeats itself after 400 years; the library gives up
        // after four, which is too soon for a 29 February that is a Sunday.
        for _ in 0..=100 {
            if from.year() > LAST_YEAR {
                return None;
            }
            if let Ok(found) = self.local_times.find_next(Offset::UTC.to_timestamp(from).ok()?) {
                return Some(found.datetime());
            }
            from = from.checked_add((4 * 365).days()).ok()?;
        }
        None
    }
}

impl PartialEq for Schedule {
    fn eq(&self, other: &Self) -> bool {
        (&self.cron, &self.zone) == (&other.cron, &other.zone)
    }
}

impl Eq for Schedule {}

/// `0 3 * * * (Europe/Berlin)`.
impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.cron, self.zone)
    }
}

impl fmt::Debug for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Schedule({self})")
    }
}

#[cfg(test)]
mod tests;
