//! A wall clock that is set while a host runs: how that is seen, and what it
//! means for the times that were written before.
//!
//! A clock that nobody sets (the time since the machine was started) runs beside
//! the wall clock. Their difference changes only when somebody sets the wall
//! clock. This module knows neither clock: it is told what both show.
//!
//! ```text
//!  wall ▲            ╱ ── set forward: ages are too high by the jump
//!       │      ╱────╯
//!       │     ╱    ╲── set back: times up to the highest one are in the future
//!       └──────────────▶ machine's running time
//! ```

use std::collections::VecDeque;
use std::time::Duration;

use super::time::Timestamp;

/// Smaller steps are no jump: time servers correct a clock by them, answers of
/// a database take time, and no rule here minds them.
pub const TOLERANCE: Duration = Duration::from_secs(10);

/// So long after a clock was set forward, what cannot be undone still goes by
/// what it showed before: it may be wrong now, or have been wrong before.
pub const DOUBT: Duration = Duration::from_hours(24);

/// Spans that are remembered; of more, the oldest are put together.
const MOST: usize = 64;

/// Which way a clock was set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Way {
    /// It shows an earlier time than it did.
    Back,
    /// It shows a later time than the time that has passed explains.
    Forward,
}

/// A clock was set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Jump {
    /// Which way.
    pub way: Way,
    /// How far.
    pub by: Duration,
}

/// What a clock has shown of late.
#[derive(Clone, Debug, Default)]
pub struct Timeline {
    spans: VecDeque<Span>,
}

/// A time in which the clock was not set.
#[derive(Clone, Copy, Debug)]
struct Span {
    /// On the machine's running time, in milliseconds.
    from: i64,
    until: i64,
    /// What the clock shows beyond that, in milliseconds.
    offset: i64,
}

impl Timeline {
    /// The clock shows `wall` when the machine has been running for `running`,
    /// which never falls from call to call. Answers how it was set since the
    /// last look.
    pub fn look(&mut self, running: Duration, wall: Timestamp) -> Option<Jump> {
        let at = millis(running);
        let offset = shown(wall) - at;
        let Some(last) = self.spans.back_mut() else {
            self.spans.push_back(Span { from: at, until: at, offset });
            return None;
        };
        let step = offset - last.offset;
        if step.unsigned_abs() <= u64::try_from(millis(TOLERANCE)).unwrap_or(u64::MAX) {
            // Followed, for a clock may be slewed for hours.
            (last.until, last.offset) = (at, offset);
            return None;
        }
        let from = last.until;
        self.spans.push_back(Span { from, until: at, offset });
        self.forget(at);
        let way = if step < 0 { Way::Back } else { Way::Forward };
        Some(Jump { way, by: Duration::from_millis(step.unsigned_abs()) })
    }

    /// How far the clock may be ahead, if what it showed within the last
    /// [`DOUBT`] was right.
    #[must_use]
    pub fn ahead(&self, running: Duration) -> Duration {
        let Some(last) = self.spans.back() else { return Duration::ZERO };
        let oldest = millis(running) - millis(DOUBT);
        let lowest = self.spans.iter().filter(|span| span.until >= oldest).map(|span| span.offset).min();
        let ahead = last.offset - lowest.unwrap_or(last.offset);
        Duration::from_millis(u64::try_from(ahead).unwrap_or(0))
    }

    /// How far back from now the clock has shown times that are no longer ago
    /// than `within`: that long where it was not set, and longer where it was
    /// set forward meanwhile.
    #[must_use]
    pub fn reach(&self, running: Duration, within: Duration) -> Duration {
        let Some(last) = self.spans.back() else { return within };
        let now = millis(running);
        let begin = now - millis(within);
        // What was before the first look is taken to be as it was then.
        let first = self.spans.iter().take(1).map(|span| (begin, span.offset));
        let others = self.spans.iter().skip(1).map(|span| (span.from.max(begin), span.offset));
        let ended = self.spans.iter().map(|span| span.until).zip(self.spans.iter().skip(1));
        // A span that ended before that time shows nothing of it.
        let over = ended.filter(|(until, _)| *until < begin).count();
        let earliest = first.chain(others).skip(over).map(|(at, offset)| at + offset).min();
        let reach = now + last.offset - earliest.unwrap_or(begin + last.offset);
        Duration::from_millis(u64::try_from(reach).unwrap_or(0)).max(within)
    }

    /// The latest time that the clock showed before it was set back, as far as
    /// that is remembered.
    #[must_use]
    pub fn latest(&self) -> Option<Timestamp> {
        let earlier = self.spans.iter().rev().skip(1);
        earlier.map(|span| Timestamp(u64::try_from(span.until + span.offset).unwrap_or(0))).max()
    }

    fn forget(&mut self, now: i64) {
        let oldest = now - millis(DOUBT);
        while self.spans.len() > 1 && self.spans[0].until < oldest {
            self.spans.pop_front();
        }
        while self.spans.len() > MOST {
            let Some(first) = self.spans.pop_front() else { return };
            let second = &mut self.spans[0];
            // The smaller is the careful one for all that is asked.
            (second.from, second.offset) = (first.from, second.offset.min(first.offset));
        }
    }
}

/// Whether a time that somebody's clock gave lies in the future of `now`, by
/// more than clocks differ: it was written before the clock was set back.
#[must_use]
pub fn is_ahead(written: Timestamp, now: Timestamp) -> bool {
    written > now.after(TOLERANCE)
}

/// A time that the host wrote as "now": where it lies in the future, it is now.
#[must_use]
pub fn drawn_in(written: Timestamp, now: Timestamp) -> Timestamp {
    if is_ahead(written, now) { now } else { written }
}

/// A time that the host wrote as "so long from `from`": where `from` lies in the
/// future, it is so long from now.
#[must_use]
pub fn wait_drawn_in(until: Timestamp, from: Timestamp, now: Timestamp) -> Timestamp {
    Timestamp(until.0.saturating_sub(from.0 - drawn_in(from, now).0))
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

fn shown(wall: Timestamp) -> i64 {
    i64::try_from(wall.0).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOUR: Duration = Duration::from_hours(1);
    const START: u64 = 1_800_000_000_000;

    fn wall(seconds: i64) -> Timestamp {
        Timestamp(START.saturating_add_signed(seconds * 1000))
    }

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_jump_is_told_once_and_small_steps_are_none() {
        let mut line = Timeline::default();
        for (running, shown, jump) in [
            (0, 0, None),
            (2, 2, None),
            (4, 13, None),
            (6, 6, None),
            (8, 36_008, Some((Way::Forward, 36_000))),
            (10, 36_010, None),
            (12, 12, Some((Way::Back, 36_000))),
            (14, 14, None),
        ] {
            let seen = line.look(secs(running), wall(shown));
            let jump = jump.map(|(way, by)| Jump { way, by: secs(by) });
            assert_eq!(seen, jump, "after {running} s");
        }
        assert_eq!(line.latest(), Some(wall(36_010)));
    }

    #[test]
    fn a_clock_that_is_slewed_is_never_set() {
        let mut line = Timeline::default();
        for minute in 0..10_000_u64 {
            // Half a second in a minute, for days.
            let shown = i64::try_from(minute * 60 + minute / 2).unwrap();
            assert_eq!(line.look(secs(minute * 60), wall(shown)), None);
        }
        assert_eq!((line.ahead(secs(600_000)), line.latest()), (Duration::ZERO, None));
    }

    #[test]
    fn a_clock_set_forward_is_doubted_for_a_day() {
        let mut line = Timeline::default();
        line.look(secs(0), wall(0));
        line.look(secs(10), wall(36_010));
        assert_eq!(line.ahead(secs(10)), secs(36_000));
        assert_eq!(line.ahead(secs(86_400)), secs(36_000));
        assert_eq!(line.ahead(secs(86_401)), Duration::ZERO);
        // Set back again, nothing is left of it.
        line.look(secs(20), wall(20));
        assert_eq!(line.ahead(secs(20)), Duration::ZERO);
    }

    #[test]
    fn the_last_hour_reaches_over_a_jump() {
        let mut line = Timeline::default();
        assert_eq!(line.reach(secs(7000), HOUR), HOUR);
        line.look(secs(7000), wall(0));
        assert_eq!(line.reach(secs(7000), HOUR), HOUR);
        line.look(secs(7060), wall(36_060));
        assert_eq!(line.reach(secs(7060), HOUR), HOUR + secs(36_000));
        assert_eq!(line.reach(secs(7000 + 3600), HOUR), HOUR + secs(36_000));
        assert_eq!(line.reach(secs(7000 + 3601), HOUR), HOUR, "the jump is longer ago");
        let mut line = Timeline::default();
        line.look(secs(7000), wall(36_000));
        line.look(secs(7060), wall(60));
        assert_eq!(line.reach(secs(7060), HOUR), HOUR, "a clock set back shows them in the future");
    }

    #[test]
    fn what_lies_in_the_future_is_drawn_in() {
        let now = wall(0);
        for (written, drawn) in [(-5, -5), (0, 0), (10, 10), (11, 0), (36_000, 0)] {
            assert_eq!(drawn_in(wall(written), now), wall(drawn), "{written}");
        }
        for (until, from, drawn) in [(60, 0, 60), (70, 10, 70), (36_060, 36_000, 60), (36_000, 36_000, 0)] {
            assert_eq!(wait_drawn_in(wall(until), wall(from), now), wall(drawn), "{until} from {from}");
        }
    }

    proptest! {
        /// Whatever is done to the clock: what it showed in the last hour is
        /// within reach, and what it is ahead of the earliest is doubted.
        #[test]
        fn nothing_of_the_last_hour_is_out_of_reach(
            steps in prop::collection::vec((1_u64..2000, prop_oneof![3 => Just(0_i64), 1 => -90_000_i64..90_000]), 1..80),
        ) {
            let mut line = Timeline::default();
            let (mut running, mut offset, mut shown) = (0_u64, 0_i64, Vec::new());
            for (passed, step) in steps {
                running += passed;
                offset += step;
                let now = wall(offset + i64::try_from(running).unwrap());
                line.look(secs(running), now);
                shown.push((running, now));
                let reach = line.reach(secs(running), HOUR);
                let since = now.0.saturating_sub(u64::try_from(reach.as_millis()).unwrap());
                // Steps below the tolerance are followed, and shift what was before.
                let slack = 80 * u64::try_from(TOLERANCE.as_millis()).unwrap();
                for (then, at) in shown.iter().filter(|(then, _)| then + 3600 >= running) {
                    prop_assert!(at.0 + slack >= since, "shown {} s ago", running - then);
                }
                let careful = now.0 - u64::try_from(line.ahead(secs(running)).as_millis()).unwrap();
                for (then, at) in shown.iter().filter(|(then, _)| then + 86_400 >= running) {
                    let aged = at.0 + (running - then) * 1000;
                    prop_assert!(careful <= aged + slack, "shown {} s ago", running - then);
                }
            }
        }

        #[test]
        fn a_wait_never_grows_and_is_never_cut(now in 0_u64..1 << 40, from in 0_u64..1 << 41, wait in 0_u64..1 << 35) {
            let (now, from) = (Timestamp(now), Timestamp(from));
            let until = Timestamp(from.0 + wait);
            let drawn = wait_drawn_in(until, from, now);
            prop_assert!(drawn <= until);
            prop_assert!(drawn == until || drawn == Timestamp(now.0 + wait));
            prop_assert!(drawn.0 <= now.after(TOLERANCE).0 + wait);
        }
    }
}
