//! `[[job]]`: one checked [`JobSpec`] each.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use crate::domain::job::{Isolation, JobName, JobSpec};
use crate::domain::retry::RetryPolicy;
use crate::domain::schedule::{BadSchedule, Schedule};

use super::mounts;
use super::paths::absolute;
use super::raw::{RawJob, RawRetry};
use super::resolved::{LONGEST, Resolver, text};
use super::settle::Written;
use super::{budget, limits, schema};

const MILLISECOND: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// All jobs that are right, and where their mounts were written; what is wrong
/// with the others is reported.
pub(super) fn resolve(resolver: &mut Resolver, raw: Vec<RawJob>) -> (Vec<JobSpec>, Vec<Vec<Written>>) {
    if raw.is_empty() {
        let help = "write at least [[job]], name = \"video-clear\", plugin = \"plugins/video-clear.wasm\"";
        resolver.refuse("job", "there is no job".to_owned(), Some(help.to_owned()));
    }
    let (mut jobs, mut all_written): (Vec<JobSpec>, _) = (Vec::new(), Vec::new());
    for (index, raw) in raw.into_iter().enumerate() {
        let path = format!("job[{index}]");
        resolver.enter_job(raw.name.clone());
        let Some((job, written)) = one(resolver, &path, raw) else { continue };
        if jobs.iter().any(|other| other.name == job.name) {
            let message = format!("there are two jobs `{}`", job.name);
            resolver.refuse(&format!("{path}.name"), message, Some("give each job its own name".to_owned()));
        } else {
            jobs.push(job);
            all_written.push(written);
        }
    }
    resolver.enter_job(None);
    (jobs, all_written)
}

fn one(resolver: &mut Resolver, path: &str, raw: RawJob) -> Option<(JobSpec, Vec<Written>)> {
    let at = |key: &str| format!("{path}.{key}");
    let name = name(resolver, path, raw.name);
    let plugin = plugin(resolver, path, raw.plugin.as_deref());
    let (mounts, written) = mounts::resolve(resolver, &at("mounts"), raw.mounts);
    let spec = JobSpec {
        labels: resolver.labels(&at("labels"), raw.labels),
        schedule: schedule(resolver, path, raw.schedule.as_deref(), raw.time_zone.as_deref()),
        interval: resolver.duration(&at("interval"), raw.interval.as_deref(), 10 * MILLISECOND..=LONGEST),
        capacity: resolver.integer(&at("capacity"), raw.capacity, 1..=10_000),
        concurrency: resolver.integer(&at("concurrency"), raw.concurrency, 1..=256) as usize,
        max_sweep: resolver.duration(&at("max_sweep"), raw.max_sweep.as_deref(), 10 * MILLISECOND..=LONGEST),
        max_postponed: resolver.duration(&at("max_postponed"), raw.max_postponed.as_deref(), SECOND..=LONGEST),
        mounts,
        budget: budget::resolve(resolver, &at("budget"), &raw.budget),
        preflight: raw.preflight.unwrap_or(schema::default("job.preflight") == "true"),
        trash: budget::trash(
            resolver,
            path,
            raw.trash.as_deref(),
            raw.trash_min_free.as_deref(),
            raw.purge_rate.as_deref(),
        ),
        limits: limits::resolve(resolver, &at("limits"), &raw.limits),
        retry: retry(resolver, &at("retry"), &raw.retry),
        breaker: resolver.integer(&at("breaker"), raw.breaker, 0..=1_000_000),
        isolation: isolation(resolver, &at("isolation"), raw.isolation.as_deref()),
        config: values(raw.config),
        name: name?,
        plugin: plugin?,
    };
    Some((spec, written))
}

fn name(resolver: &mut Resolver, path: &str, raw: Option<String>) -> Option<JobName> {
    let Some(raw) = raw else {
        resolver.missing(path, "name", "name = \"video-clear\"");
        return None;
    };
    JobName::new(raw).map_err(|error| resolver.refuse(&format!("{path}.name"), error.to_string(), None)).ok()
}

fn plugin(resolver: &mut Resolver, path: &str, raw: Option<&str>) -> Option<PathBuf> {
    match raw {
        None => resolver.missing(path, "plugin", "plugin = \"plugins/video-clear.wasm\""),
        Some("") => resolver.refuse(&format!("{path}.plugin"), "is empty".to_owned(), None),
        Some(file) => return Some(absolute(resolver.folder(), file)),
    }
    None
}

fn schedule(resolver: &mut Resolver, path: &str, cron: Option<&str>, zone: Option<&str>) -> Option<Schedule> {
    let at_zone = format!("{path}.time_zone");
    let Some(cron) = cron else {
        if zone.is_some() {
            let help = "write schedule = \"0 3 * * *\" for 03:00 every day, or leave time_zone out";
            resolver.refuse(&at_zone, "stands without `schedule`".to_owned(), Some(help.to_owned()));
        }
        return None;
    };
    let told = |bad: BadSchedule| {
        let at = if matches!(bad, BadSchedule::Zone { .. }) { at_zone.clone() } else { format!("{path}.schedule") };
        resolver.refuse(&at, bad.to_string(), Some(bad.help()));
    };
    Schedule::new(cron, text(&at_zone, zone)).map_err(told).ok()
}

fn retry(resolver: &mut Resolver, path: &str, raw: &RawRetry) -> RetryPolicy {
    let at = |key: &str| format!("{path}.{key}");
    let policy = RetryPolicy {
        max_attempts: resolver.integer(&at("max_attempts"), raw.max_attempts, 1..=1_000_000),
        backoff: resolver.duration(&at("backoff"), raw.backoff.as_deref(), MILLISECOND..=LONGEST),
        max_backoff: resolver.duration(&at("max_backoff"), raw.max_backoff.as_deref(), MILLISECOND..=LONGEST),
    };
    if policy.max_backoff < policy.backoff {
        let help = "make max_backoff at least as long as backoff";
        resolver.refuse(&at("max_backoff"), "is shorter than `backoff`".to_owned(), Some(help.to_owned()));
    }
    policy
}

fn isolation(resolver: &mut Resolver, path: &str, raw: Option<&str>) -> Isolation {
    match text(path, raw) {
        "thread" => Isolation::Thread,
        "task" => Isolation::Task,
        other => {
            let help = "\"thread\" keeps an instance from task to task, \"task\" makes a fresh one for each";
            resolver.refuse(path, format!("`{other}` is no isolation"), Some(help.to_owned()));
            Isolation::Task
        }
    }
}

fn values(raw: toml::Table) -> BTreeMap<String, String> {
    raw.into_iter()
        .map(|(key, value)| match value {
            toml::Value::String(text) => (key, text),
            other => (key, other.to_string()),
        })
        .collect()
}
