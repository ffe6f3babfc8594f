//! Reading a schedule, and saying what is wrong with one.

use cronexpr::{Crontab, FallbackTimezoneOption, MakeTimestamp, ParseOptions};
use jiff::tz::{TimeZone, TimeZoneDatabase};

use crate::domain::nearest::nearest;

/// The fields of an expression, and what may stand in each.
const FIELDS: [(&str, &str); 5] = [
    ("minute", "0-59"),
    ("hour", "0-23"),
    ("day of the month", "1-31, or 15W for the working day nearest to the 15th"),
    ("month", "1-12 or JAN-DEC"),
    ("day of the week", "0-7 or SUN-SAT, or 1#2 for the second Monday of the month"),
];

/// Why there is no such schedule; [`BadSchedule::help`] says what to write.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadSchedule {
    /// The expression has not the five fields.
    #[error("`{cron}` has {}, not five", fields(*found))]
    Fields {
        /// What was given.
        cron: String,
        /// How many fields that is.
        found: usize,
    },
    /// One field cannot be read.
    #[error("`{text}` is no {field}")]
    Field {
        /// What stands in the field.
        text: String,
        /// The field's name.
        field: &'static str,
        /// What may stand there.
        allowed: &'static str,
    },
    /// The last day, of which the cron library forgets those in December.
    #[error("`{0}`: `L`, the last day, is not supported")]
    LastDay(String),
    /// No date fits.
    #[error("`{0}` never comes: no date fits it")]
    Never(String),
    /// The time zone is unknown.
    #[error("`{zone}` is no time zone")]
    Zone {
        /// What was given.
        zone: String,
        /// The known name nearest to it.
        nearest: Option<String>,
    },
}

impl BadSchedule {
    /// What to write instead.
    #[must_use]
    pub fn help(&self) -> String {
        match self {
            Self::Fields { .. } => "write minute, hour, day of the month, month and day of the week, such as \
                                    \"0 3 * * *\" for 03:00 every day; there are no seconds, and the zone has \
                                    a key of its own"
                .to_owned(),
            Self::Field { allowed, .. } => format!(
                "use {allowed}, or `*`; also lists (1,15), ranges (1-5) and steps (*/2), such as \
                 \"0 3 * * MON-FRI\" for 03:00 on working days"
            ),
            Self::LastDay(_) => {
                "take the first day of the next month, such as \"0 3 1 * *\" for 03:00 on it".to_owned()
            }
            Self::Never(_) => "compare its days with its months, such as \"0 3 28 2 *\" for 28 February".to_owned(),
            Self::Zone { nearest: Some(nearest), .. } => format!("did you mean `{nearest}`?"),
            Self::Zone { nearest: None, .. } => {
                "write a name of the IANA time zone database, such as \"Europe/Berlin\" or \"UTC\"".to_owned()
            }
        }
    }
}

fn fields(found: usize) -> String {
    match found {
        0 => "no fields".to_owned(),
        1 => "one field".to_owned(),
        _ => format!("{found} fields"),
    }
}

/// The five fields, with one space between them.
pub(super) fn expression(cron: &str) -> Result<Crontab, BadSchedule> {
    let texts: Vec<_> = cron.split(' ').filter(|text| !text.is_empty()).collect();
    let [_, _, days, _, weekdays] = texts[..] else {
        return Err(BadSchedule::Fields { cron: cron.to_owned(), found: texts.len() });
    };
    if days.contains('L') || weekdays.contains('L') {
        return Err(BadSchedule::LastDay(cron.to_owned()));
    }
    parse(cron).ok_or_else(|| {
        // The library tells a place, not a field; the wrong one is wrong alone as well.
        let is_wrong = |index: &usize| {
            let mut alone = ["*"; FIELDS.len()];
            alone[*index] = texts[*index];
            parse(&alone.join(" ")).is_none()
        };
        let wrong = (0..FIELDS.len()).find(is_wrong).unwrap_or_default();
        let (field, allowed) = FIELDS[wrong];
        BadSchedule::Field { text: texts[wrong].to_owned(), field, allowed }
    })
}

fn parse(cron: &str) -> Option<Crontab> {
    let mut options = ParseOptions::default();
    options.fallback_timezone_option = FallbackTimezoneOption::UTC;
    cronexpr::parse_crontab_with(cron, options).ok()
}

/// Whether the hour field of a good expression admits all of a day's hours.
pub(super) fn names_every_hour(cron: &str) -> bool {
    let hours = cron.split(' ').nth(1).and_then(|hours| parse(&format!("0 {hours} * * *")));
    let admits = |hour: i64| {
        let instant = MakeTimestamp::from_second(hour * 3600).ok()?;
        hours.as_ref()?.matches(instant).ok()
    };
    (0..24).all(|hour| admits(hour) == Some(true))
}

/// The rules of a zone of the IANA database.
pub(super) fn time_zone(name: &str) -> Result<TimeZone, BadSchedule> {
    let built_in = TimeZoneDatabase::bundled();
    let known = jiff::tz::db().get(name).or_else(|_| built_in.get(name));
    known.ok().filter(|zone| !zone.is_unknown()).ok_or_else(|| {
        let names: Vec<_> = built_in.available().map(|name| name.to_string()).collect();
        let nearest = nearest(name, names.iter().map(String::as_str)).map(str::to_owned);
        BadSchedule::Zone { zone: name.to_owned(), nearest }
    })
}
