//! How much a job may take away and make, and where what is removed goes first.

use std::time::Duration;

use crate::domain::budget::{Allowance, Budget, Share};
use crate::domain::trash::{PurgeRate, Trash};

use super::raw::RawBudget;
use super::resolved::{LONGEST, Resolver, text};
use super::units;

/// `[job.budget]`.
pub(super) fn resolve(resolver: &mut Resolver, path: &str, raw: &RawBudget) -> Budget {
    let sweep = RawAllowance {
        period: "sweep",
        files: raw.sweep_files,
        bytes: raw.sweep_bytes.as_deref(),
        share: raw.sweep_share.as_deref(),
        made: raw.sweep_made,
        written: raw.sweep_written.as_deref(),
    };
    let hour = RawAllowance {
        period: "hour",
        files: raw.hour_files,
        bytes: raw.hour_bytes.as_deref(),
        share: raw.hour_share.as_deref(),
        made: raw.hour_made,
        written: raw.hour_written.as_deref(),
    };
    Budget { sweep: allowance(resolver, path, &sweep), hour: allowance(resolver, path, &hour) }
}

/// What is written of one period.
struct RawAllowance<'a> {
    period: &'static str,
    files: Option<i64>,
    bytes: Option<&'a str>,
    share: Option<&'a str>,
    made: Option<i64>,
    written: Option<&'a str>,
}

fn allowance(resolver: &mut Resolver, path: &str, raw: &RawAllowance<'_>) -> Allowance {
    let at = |what: &str| format!("{path}.{}_{what}", raw.period);
    let mut number = |what: &str, given: Option<i64>| {
        given.map(|number| resolver.integer(&at(what), Some(number), 0..=u32::MAX).into())
    };
    let (files, made) = (number("files", raw.files), number("made", raw.made));
    let mut size =
        |what: &str, given: Option<&str>| given.map(|size| resolver.size(&at(what), Some(size), 0..=u64::MAX));
    let (bytes, written) = (size("bytes", raw.bytes), size("written", raw.written));
    Allowance {
        files,
        bytes,
        share: raw.share.and_then(|share| percentage(resolver, &at("share"), share)),
        made,
        written,
    }
}

fn percentage(resolver: &mut Resolver, path: &str, text: &str) -> Option<Share> {
    let number = text.trim().strip_suffix('%').and_then(|number| number.trim().parse::<f64>().ok());
    let Some(percent) = number.filter(|percent| (0.0..=100.0).contains(percent)) else {
        let help = "write a part of the files in the mounts, such as \"5%\"";
        resolver.refuse(path, format!("`{text}` is no share from 0% to 100%"), Some(help.to_owned()));
        return None;
    };
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it lies between 0 and 1,000,000")]
    Some(Share((percent * 10_000.0).round() as u32))
}

/// `trash`, `trash_min_free` and `purge_rate` of the job at `path`.
pub(super) fn trash(
    resolver: &mut Resolver,
    path: &str,
    keep: Option<&str>,
    min_free: Option<&str>,
    rate: Option<&str>,
) -> Option<Trash> {
    let at = |key: &str| format!("{path}.{key}");
    let rate_of = purge_rate(resolver, &at("purge_rate"), rate);
    let Some(keep) = keep else {
        for (key, raw) in [("trash_min_free", min_free), ("purge_rate", rate)] {
            if raw.is_some() {
                let help = "write trash = \"24h\" to keep what is removed for a day, or leave it out";
                resolver.refuse(&at(key), "stands without `trash`".to_owned(), Some(help.to_owned()));
            }
        }
        return None;
    };
    Some(Trash {
        keep: resolver.duration(&at("trash"), Some(keep), Duration::from_secs(1)..=LONGEST),
        min_free: min_free.map(|size| resolver.size(&at("trash_min_free"), Some(size), 0..=u64::MAX)),
        rate: rate_of,
    })
}

/// `1000 files, 1GiB`: the most in a second.
fn purge_rate(resolver: &mut Resolver, path: &str, raw: Option<&str>) -> PurgeRate {
    let written = text(path, raw);
    let read = || {
        let (files, bytes) = written.split_once(',')?;
        let files = files.trim().strip_suffix("files")?.trim().parse().ok().filter(|files| *files > 0)?;
        let bytes = units::size(bytes.trim()).ok().filter(|bytes| *bytes > 0)?;
        Some(PurgeRate { files, bytes })
    };
    read().unwrap_or_else(|| {
        let help = "write the most files and bytes of one second: \"1000 files, 1GiB\"";
        resolver.refuse(path, format!("`{written}` is no rate"), Some(help.to_owned()));
        PurgeRate { files: 1, bytes: 1 }
    })
}
