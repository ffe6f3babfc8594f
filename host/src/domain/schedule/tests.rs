//! Schedules around changes of the clocks, in real zones, and as properties.

use std::collections::BTreeSet;

use jiff::civil::DateTime;
use jiff::tz::TimeZoneDatabase;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;

const BERLIN: &str = "Europe/Berlin";
const NEW_YORK: &str = "America/New_York";
const LORD_HOWE: &str = "Australia/Lord_Howe";
const TOKYO: &str = "Asia/Tokyo";

fn schedule(cron: &str, zone: &str) -> Schedule {
    Schedule::new(cron, zone).unwrap_or_else(|error| panic!("{error}"))
}

fn millis(instant: jiff::Timestamp) -> Timestamp {
    Timestamp(u64::try_from(instant.as_millisecond()).expect("after 1970"))
}

/// Midnight of `day` on the clocks of `zone`.
fn midnight(day: &str, zone: &str) -> Timestamp {
    let day: DateTime = format!("{day}T00:00").parse().expect("a day");
    millis(day.in_tz(zone).expect("a zone").timestamp())
}

/// The runs from midnight on for so many real hours, as the clocks show them:
/// `03:00+02`.
fn runs(cron: &str, zone: &str, day: &str, hours: u64) -> Vec<String> {
    let schedule = schedule(cron, zone);
    let start = midnight(day, zone);
    let end = Timestamp(start.0 + hours * 3_600_000);
    let mut runs = Vec::new();
    let mut last = Timestamp(start.0 - 1);
    while let Some(next) = schedule.next_after(last).filter(|next| *next < end) {
        let instant = jiff::Timestamp::from_millisecond(i64::try_from(next.0).expect("soon")).expect("in range");
        let local = instant.in_tz(zone).expect("a zone").strftime("%H:%M%:::z").to_string();
        runs.push(local);
        last = next;
    }
    runs
}

#[test]
fn a_skipped_time_runs_once_when_the_clocks_change() {
    for (cron, zone, day, wanted) in [
        ("30 2 * * *", BERLIN, "2026-03-29", &["03:00+02"][..]),
        ("0 2 * * *", BERLIN, "2026-03-29", &["03:00+02"]),
        ("0,20,40 2 * * *", BERLIN, "2026-03-29", &["03:00+02"]),
        ("*/10 2 * * *", BERLIN, "2026-03-29", &["03:00+02"]),
        ("30 2,3 * * *", BERLIN, "2026-03-29", &["03:00+02", "03:30+02"]),
        ("0 2,3 * * *", BERLIN, "2026-03-29", &["03:00+02"]),
        ("0 */2 * * *", BERLIN, "2026-03-29", &["00:00+01", "03:00+02", "04:00+02", "06:00+02"]),
        ("59 1 * * *", BERLIN, "2026-03-29", &["01:59+01"]),
        ("30 2 * * *", NEW_YORK, "2026-03-08", &["03:00-04"]),
        ("15 2 * * *", LORD_HOWE, "2026-10-04", &["02:30+11"]),
        ("45 2 * * *", LORD_HOWE, "2026-10-04", &["02:45+11"]),
        ("30 2 * * *", TOKYO, "2026-03-29", &["02:30+09"]),
    ] {
        assert_eq!(runs(cron, zone, day, 7), wanted, "{cron} in {zone} on {day}");
    }
}

#[test]
fn a_time_that_comes_twice_runs_the_first_time() {
    for (cron, zone, day, wanted) in [
        ("30 2 * * *", BERLIN, "2026-10-25", &["02:30+02"][..]),
        ("0 3 * * *", BERLIN, "2026-10-25", &["03:00+01"]),
        ("*/20 2 * * *", BERLIN, "2026-10-25", &["02:00+02", "02:20+02", "02:40+02"]),
        ("0 */2 * * *", BERLIN, "2026-10-25", &["00:00+02", "02:00+02", "04:00+01"]),
        ("30 1 * * *", NEW_YORK, "2026-11-01", &["01:30-04"]),
        ("45 1 * * *", LORD_HOWE, "2026-04-05", &["01:45+11"]),
        ("15 1 * * *", LORD_HOWE, "2026-04-05", &["01:15+11"]),
        ("0 2 * * *", LORD_HOWE, "2026-04-05", &["02:00+10:30"]),
        ("30 2 * * *", TOKYO, "2026-10-25", &["02:30+09"]),
    ] {
        assert_eq!(runs(cron, zone, day, 6), wanted, "{cron} in {zone} on {day}");
    }
}

#[test]
fn every_hour_follows_the_clock_on_the_wall() {
    for (cron, zone, day, wanted) in [
        ("30 * * * *", BERLIN, "2026-03-29", &["00:30+01", "01:30+01", "03:30+02", "04:30+02"][..]),
        ("30 0-23 * * *", BERLIN, "2026-10-25", &["00:30+02", "01:30+02", "02:30+02", "02:30+01"]),
        ("0 * * * *", NEW_YORK, "2026-03-08", &["00:00-05", "01:00-05", "03:00-04", "04:00-04"]),
        ("0 */1 * * *", NEW_YORK, "2026-11-01", &["00:00-04", "01:00-04", "01:00-05", "02:00-05"]),
        ("0 * * * *", LORD_HOWE, "2026-10-04", &["00:00+10:30", "01:00+10:30", "03:00+11", "04:00+11"]),
        ("45 * * * *", LORD_HOWE, "2026-04-05", &["00:45+11", "01:45+11", "01:45+10:30", "02:45+10:30"]),
        ("30 * * * *", TOKYO, "2026-03-29", &["00:30+09", "01:30+09", "02:30+09", "03:30+09"]),
    ] {
        assert_eq!(runs(cron, zone, day, 4), wanted, "{cron} in {zone} on {day}");
    }
}

#[test]
fn every_quarter_of_an_hour_is_every_quarter_of_an_hour() {
    for zone in [BERLIN, NEW_YORK, LORD_HOWE, TOKYO, "UTC"] {
        let schedule = schedule("*/15 * * * *", zone);
        let start = midnight("2026-01-01", "UTC");
        let mut last = start;
        for quarter in 1..=365 * 24 * 4 {
            last = schedule.next_after(last).expect("there is always one");
            assert_eq!(last.0, start.0 + quarter * 900_000, "{zone}");
        }
    }
}

#[test]
fn ordinary_days() {
    for (cron, zone, after, wanted) in [
        ("0 3 * * *", BERLIN, "2026-11-23T02:00:00Z", "2026-11-24T02:00:00Z"),
        ("0 3 * * *", BERLIN, "2026-11-23T01:59:59.999Z", "2026-11-23T02:00:00Z"),
        ("  0\t3 * *  * ", "europe/berlin", "2026-07-01T00:00:00Z", "2026-07-01T01:00:00Z"),
        ("0 3 * * MON-FRI", "UTC", "2026-11-20T03:00:00Z", "2026-11-23T03:00:00Z"),
        ("0 3 15W * *", "UTC", "2026-11-01T00:00:00Z", "2026-11-16T03:00:00Z"),
        ("0 3 * * 1#2", "UTC", "2026-12-01T00:00:00Z", "2026-12-14T03:00:00Z"),
        ("0 3 31 12 *", "UTC", "2026-01-01T00:00:00Z", "2026-12-31T03:00:00Z"),
        ("0 0 29 2 *", "UTC", "2096-03-01T00:00:00Z", "2104-02-29T00:00:00Z"),
        ("0 0 29 2 */7", "UTC", "2088-03-01T00:00:00Z", "2128-02-29T00:00:00Z"),
        // Samoa crossed the date line and had no 30 December.
        ("0 3 30 12 *", "Pacific/Apia", "2011-12-01T00:00:00Z", "2011-12-30T10:00:00Z"),
    ] {
        let after = millis(after.parse().expect("an instant"));
        let wanted = millis(wanted.parse().expect("an instant"));
        assert_eq!(schedule(cron, zone).next_after(after), Some(wanted), "{cron} in {zone} after {after}");
    }
}

#[test]
fn the_calendar_has_an_end() {
    for cron in ["0 3 * * *", "*/15 * * * *"] {
        let schedule = schedule(cron, BERLIN);
        for after in [u64::MAX, i64::MAX as u64, 253_402_207_200_999, 253_402_207_200_999 + 1_000_000_000] {
            assert_eq!(schedule.next_after(Timestamp(after)), None);
        }
        assert_eq!(schedule.due(Timestamp(u64::MAX), Timestamp(u64::MAX)), None);
        assert!(schedule.due(Timestamp(0), Timestamp(u64::MAX)).is_some());
    }
}

#[test]
fn missed_runs_are_one_run() {
    let daily = schedule("0 3 * * *", BERLIN);
    let at = |text: &str| millis(text.parse().expect("an instant"));
    let run = at("2026-11-23T02:00:00Z");
    for (last, now, wanted) in [
        ("2026-11-22T02:00:00Z", "2026-11-23T01:59:59.999Z", None),
        ("2026-11-22T02:00:00Z", "2026-11-23T02:00:00Z", Some(run)),
        ("2026-11-22T02:00:00Z", "2026-11-23T17:00:00Z", Some(run)),
        ("1970-01-01T00:00:00Z", "2026-11-23T17:00:00Z", Some(run)),
        ("2026-11-23T02:00:00Z", "2026-11-23T17:00:00Z", None),
        ("2026-11-23T17:00:00Z", "2026-11-23T01:00:00Z", None),
    ] {
        assert_eq!(daily.due(at(last), at(now)), wanted, "({last}, {now}]");
    }
    let minutely = schedule("* * * * *", BERLIN);
    assert_eq!(minutely.due(Timestamp(0), at("2026-11-23T17:00:59.999Z")), Some(at("2026-11-23T17:00:00Z")));
}

#[test]
fn what_is_wrong_is_said() {
    for (cron, zone, error, help) in [
        ("", "UTC", "`` has no fields, not five", "such as \"0 3 * * *\" for 03:00"),
        ("@daily", "UTC", "`@daily` has one field, not five", "such as"),
        ("0 0 3 * * *", "UTC", "`0 0 3 * * *` has 6 fields, not five", "there are no seconds"),
        ("0 3 * * * UTC", "UTC", "`0 3 * * * UTC` has 6 fields, not five", "the zone has a key of its own"),
        ("60 3 * * *", "UTC", "`60` is no minute", "use 0-59, or `*`; also lists"),
        ("0 24 * * *", "UTC", "`24` is no hour", "0-23"),
        ("0 3 0 * *", "UTC", "`0` is no day of the month", "1-31"),
        ("0 3 * Janury *", "UTC", "`Janury` is no month", "JAN-DEC"),
        ("0 3 * * 5-1", "UTC", "`5-1` is no day of the week", "SUN-SAT"),
        ("H 3 * * *", "UTC", "`H` is no minute", "0-59"),
        ("*/0 3 * * *", "UTC", "`*/0` is no minute", "0-59"),
        ("é 3 * * *", "UTC", "`é` is no minute", "0-59"),
        ("0 3 30 2 *", "UTC", "`0 3 30 2 *` never comes: no date fits it", "\"0 3 28 2 *\""),
        ("0 3 31 4,6 *", "UTC", "`0 3 31 4,6 *` never comes", "\"0 3 28 2 *\""),
        ("0 3 L * *", "UTC", "`0 3 L * *`: `L`, the last day, is not supported", "\"0 3 1 * *\""),
        ("0 3 * * 5L", "UTC", "`0 3 * * 5L`: `L`, the last day, is not supported", "the first day"),
        ("0 3 * * *", "Europe/Berln", "`Europe/Berln` is no time zone", "did you mean `Europe/Berlin`?"),
        ("0 3 * * *", "", "`` is no time zone", "such as \"Europe/Berlin\" or \"UTC\""),
        ("0 3 * * *", "+02:00", "`+02:00` is no time zone", ""),
        ("0 3 * * *", "Etc/Unknown", "`Etc/Unknown` is no time zone", ""),
        ("0 3 * * *", "../../etc/passwd", "`../../etc/passwd` is no time zone", ""),
    ] {
        let Err(bad) = Schedule::new(cron, zone) else { panic!("accepted: {cron} in {zone}") };
        assert!(bad.to_string().starts_with(error), "{bad}");
        assert!(bad.help().contains(help), "{}", bad.help());
    }
}

#[test]
fn schedules_are_what_was_written() {
    let berlin = schedule("0  3 * * *", "europe/berlin");
    assert_eq!(berlin, schedule("0 3 * * *", BERLIN));
    assert_ne!(berlin, schedule("0 3 * * *", "UTC"));
    assert_ne!(berlin, schedule("0 4 * * *", BERLIN));
    assert_eq!((berlin.cron(), berlin.zone()), ("0 3 * * *", BERLIN));
    assert_eq!(format!("{berlin} {berlin:?}"), "0 3 * * * (Europe/Berlin) Schedule(0 3 * * * (Europe/Berlin))");
}

#[test]
fn the_zones_are_built_in() {
    for zone in [BERLIN, NEW_YORK, LORD_HOWE, TOKYO, "UTC"] {
        TimeZoneDatabase::bundled().get(zone).unwrap_or_else(|error| panic!("{error}"));
    }
}

/// The runs in `(start, start + days]`, found by asking of every instant which
/// local time it shows: slow, and without the code under test.
fn by_every_minute(schedule: &Schedule, start: Timestamp, days: u64) -> BTreeSet<Timestamp> {
    let minutes = (1..=days * 24 * 60).map(|minute| Timestamp(start.0 / 60_000 * 60_000 + minute * 60_000));
    let mut shown = BTreeSet::new();
    let mut runs = BTreeSet::new();
    for minute in minutes {
        let instant = jiff::Timestamp::from_millisecond(i64::try_from(minute.0).expect("soon")).expect("in range");
        let local = schedule.time_zone.to_datetime(instant);
        let as_utc = Offset::UTC.to_timestamp(local).expect("in range");
        let fits = schedule.local_times.matches(as_utc).expect("in range");
        let is_first = shown.insert(local);
        if fits && (schedule.every_hour || is_first) {
            runs.insert(minute);
        }
    }
    runs
}

fn schedules() -> impl Strategy<Value = Schedule> {
    let minute = select(vec!["0", "7", "30", "59", "*/15", "*/7", "10-20", "*"]);
    let hour = select(vec!["*", "*/2", "0-23", "0", "1", "2", "3", "1-4", "23"]);
    let day = select(vec!["*", "*", "*", "1", "29", "31", "*/2", "25-31", "15W"]);
    let month = select(vec!["*", "*", "*", "3", "10,11", "1-12/3"]);
    let weekday = select(vec!["*", "*", "*", "0", "SUN", "MON-FRI", "0#5"]);
    let zone = select(vec![BERLIN, NEW_YORK, LORD_HOWE, TOKYO, "UTC", "Pacific/Apia", "America/St_Johns"]);
    let text = (minute, hour, day, month, weekday).prop_map(|(a, b, c, d, e)| format!("{a} {b} {c} {d} {e}"));
    (text, zone).prop_filter_map("it never comes", |(cron, zone)| Schedule::new(&cron, zone).ok())
}

/// Near a change of the clocks of one of the zones as often as anywhere else.
fn instants() -> impl Strategy<Value = Timestamp> {
    let anywhere = 0_u64..4_102_444_800_000;
    let days = ["2026-03-29", "2026-10-25", "2026-03-08", "2026-11-01", "2026-10-04", "2026-04-05", "2011-12-30"];
    let near = (select(days.to_vec()), 0_u64..3 * 86_400_000)
        .prop_map(|(day, later)| midnight(day, "UTC").0 - 86_400_000 + later);
    prop_oneof![anywhere, near].prop_map(Timestamp)
}

proptest! {
    #[test]
    fn the_next_run_is_later_and_there_is_none_between(schedule in schedules(), a in instants(), b in instants()) {
        let (a, b) = (a.min(b), a.max(b));
        let (after_a, after_b) = (schedule.next_after(a).expect("one"), schedule.next_after(b).expect("one"));
        prop_assert!(after_a > a && after_b > b);
        prop_assert!(after_a <= after_b);
        prop_assert_eq!(schedule.next_after(Timestamp(after_a.0 - 1)), Some(after_a));
        if b < after_a {
            prop_assert_eq!(after_a, after_b);
        }
    }

    #[test]
    fn due_is_the_last_of_the_runs_one_by_one(
        schedule in schedules(), last in instants(), span in 0_u64..40 * 86_400_000,
    ) {
        let now = Timestamp(last.0 + span);
        let mut latest = None;
        let mut from = last;
        while let Some(next) = schedule.next_after(from).filter(|next| *next <= now) {
            latest = Some(next);
            from = next;
        }
        prop_assert_eq!(schedule.due(last, now), latest);
    }
}

#[test]
fn no_run_is_lost_or_doubled_minute_by_minute() {
    let crons = ["*/15 * * * *", "7 * * * *", "* * * * *", "30 2 * * *", "0 */2 * * *", "*/20 1-3 * * *"];
    for (zone, day) in [
        (BERLIN, "2026-03-28"),
        (BERLIN, "2026-10-24"),
        (NEW_YORK, "2026-03-07"),
        (NEW_YORK, "2026-10-31"),
        (LORD_HOWE, "2026-10-03"),
        (LORD_HOWE, "2026-04-04"),
        (TOKYO, "2026-03-28"),
        ("America/St_Johns", "2026-03-07"),
    ] {
        for schedule in crons.map(|cron| schedule(cron, zone)) {
            let start = midnight(day, zone);
            let end = start.0 + 3 * 86_400_000;
            let mut found = BTreeSet::new();
            let mut last = start;
            while let Some(next) = schedule.next_after(last).filter(|next| next.0 <= end) {
                assert!(found.insert(next), "{schedule}: {next} twice");
                last = next;
            }
            let wanted = by_every_minute(&schedule, start, 3);
            assert_eq!(wanted.difference(&found).collect::<Vec<_>>(), [] as [&Timestamp; 0], "{schedule} on {day}");
            // What was skipped is made good at the change, where the clocks show another time.
            let made_good: Vec<_> = found.difference(&wanted).copied().collect();
            let at_changes = made_good.iter().all(|run| is_change(&schedule, *run));
            assert!(at_changes && made_good.len() <= usize::from(!schedule.every_hour), "{schedule}: {made_good:?}");
        }
    }
}

fn is_change(schedule: &Schedule, instant: Timestamp) -> bool {
    let before = jiff::Timestamp::from_millisecond(i64::try_from(instant.0).expect("soon") - 1).expect("in range");
    schedule.time_zone.following(before).next().is_some_and(|change| millis(change.timestamp()) == instant)
}
