//! Words that several commands share: a job of the configuration, a time, how a
//! path begins, and whether somebody at the terminal agrees.

use std::io::{self, BufRead as _, IsTerminal as _};
use std::time::Duration;

use crate::config::Config;
use crate::domain::job::{JobId, JobSpec};
use crate::domain::time::Timestamp;
use crate::http::instant;
use crate::store::Store;

use super::error::CliError;
use super::logging;

/// A job that the configuration names, and its number in the queue.
pub(super) async fn job<'a>(
    config: &'a Config,
    store: &dyn Store,
    name: &str,
) -> Result<(JobId, &'a JobSpec), CliError> {
    let names = config.jobs.iter().map(|job| job.name.as_str());
    let Some(job) = config.jobs.iter().find(|job| job.name.as_str() == name) else {
        return Err(CliError::unknown_job(name, names));
    };
    Ok((store.register_job(&job.name).await?.id, job))
}

/// When running hosts hear of what was changed in the queue.
pub(super) fn heard(config: &Config) -> String {
    let beat = humantime::format_duration(config.lease / 3);
    format!("a running host takes it up at its next heartbeat (within {beat})")
}

/// A time as an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moment {
    /// This one.
    At(Timestamp),
    /// So far from now.
    Away(Duration),
}

/// Reads one.
pub(super) fn moment(text: &str) -> Result<Moment, String> {
    if let Ok(at) = instant::parse(text) {
        return Ok(Moment::At(at));
    }
    humantime::parse_duration(text).map(Moment::Away).map_err(|_| {
        format!("`{text}` is no time: write RFC 3339 (2026-01-31T12:00:00Z), or how far it is from now (2h, 30d)")
    })
}

impl Moment {
    /// Where a duration goes back from `now`.
    pub(super) fn before(self, now: Timestamp) -> Timestamp {
        match self {
            Self::At(at) => at,
            Self::Away(ago) => Timestamp(now.0.saturating_sub(Timestamp(0).after(ago).0)),
        }
    }

    /// Where a duration goes on from `now`; an error where that is too far.
    pub(super) fn after(self, now: Timestamp) -> Result<Timestamp, CliError> {
        match self {
            Self::At(at) => Ok(at),
            Self::Away(ahead) => instant::from_millis(now.after(ahead).0).map_err(CliError::Usage),
        }
    }
}

/// The number of a task or a hold.
pub(super) fn number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| "it is a number, as the list shows it".to_owned())
}

/// A time in the largest unit that divides it, so that 90 days are 90 days and not
/// two months and some hours.
pub(super) fn span(time: Duration) -> String {
    let seconds = time.as_secs();
    if time.subsec_nanos() == 0 {
        for (unit, one, many) in [(86_400, "day", "days"), (3600, "hour", "hours"), (60, "minute", "minutes")] {
            match seconds / unit {
                0 => {}
                count if seconds.is_multiple_of(unit) => {
                    return format!("{count} {}", if count == 1 { one } else { many });
                }
                _ => {}
            }
        }
    }
    humantime::format_duration(time).to_string()
}

/// How whole paths begin: what is relative counts from this folder, and links
/// on the way are followed, as they were for the mounts. A slash at its end
/// stays.
pub(super) fn prefix(text: &str) -> Result<String, String> {
    if text.is_empty() {
        return Err("it is empty; write how the paths begin".to_owned());
    }
    let path = std::path::absolute(text).map_err(|error| format!("`{text}` is no path: {error}"))?;
    let resolved = crate::sandbox::resolved(&path);
    let shown = resolved.to_str().ok_or("is no UTF-8: give the part before that")?;
    let slash = if text.ends_with('/') && !shown.ends_with('/') { "/" } else { "" };
    Ok(format!("{shown}{slash}"))
}

/// Whether the person at the terminal agrees to `verb` this; nobody there is
/// wrong usage.
pub(super) fn agreed(verb: &str, what: &str) -> Result<bool, CliError> {
    if !(io::stdin().is_terminal() && logging::is_watched()) {
        return Err(CliError::Usage(format!("{what} match: repeat it with --yes to {verb} all of them")));
    }
    logging::ask(&format!("{verb} {what}? [y/N]"))?;
    let mut answer = String::new();
    let failed = |error| CliError::Stream("reading the answer", error);
    io::stdin().lock().read_line(&mut answer).map_err(failed)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        let now = Timestamp(10_000_000);
        assert_eq!(moment("1970-01-01T00:00:01Z").map(|time| time.before(now)), Ok(Timestamp(1000)));
        assert_eq!(moment("2h").map(|time| time.before(now)), Ok(Timestamp(2_800_000)));
        assert_eq!(moment("30d").map(|time| time.before(now)), Ok(Timestamp(0)));
        assert!(matches!(moment("2h").map(|time| time.after(now)), Ok(Ok(Timestamp(17_200_000)))));
        assert!(matches!(moment("9000000d").map(|time| time.after(now)), Ok(Err(CliError::Usage(_)))));
        assert!(moment("soon").is_err());
    }

    #[test]
    fn spans_are_told_as_they_are_meant() {
        for (text, told) in [
            ("90d", "90 days"),
            ("24h", "1 day"),
            ("12h", "12 hours"),
            ("1m", "1 minute"),
            ("3s", "3s"),
            ("1h 1s", "1h 1s"),
            ("0s", "0s"),
            ("400ms", "400ms"),
        ] {
            assert_eq!(span(humantime::parse_duration(text).expect("a time")), told, "{text}");
        }
    }

    #[test]
    fn paths_are_whole() {
        let folder = tempfile::tempdir().expect("a folder");
        let top = folder.path().canonicalize().expect("its path");
        std::fs::create_dir(top.join("real")).expect("a folder");
        std::os::unix::fs::symlink("real", top.join("link")).expect("a link");
        let top = top.to_str().expect("text");
        for (given, meant) in [
            ("link/2024-", "real/2024-"),
            ("link/gone/2024/", "real/gone/2024/"),
            ("real/", "real/"),
            ("./real/a", "real/a"),
        ] {
            assert_eq!(prefix(&format!("{top}/{given}")), Ok(format!("{top}/{meant}")));
        }
        assert!(prefix("").is_err_and(|why| why.starts_with("it is empty")));
        assert_eq!(prefix("/"), Ok("/".to_owned()));
        assert!(prefix("x").is_ok_and(|path| path.starts_with('/') && path.ends_with("/x")));
    }
}
