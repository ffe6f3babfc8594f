//! `sweepd config`: whether the configuration is right, and what it means.

use std::io::{self, Write};
use std::process::ExitCode;

use bytesize::ByteSize;
use clap::Subcommand;

use crate::config::{Backend, Config, DatabaseConfig, Found};
use crate::domain::budget::Allowance;
use crate::domain::job::{JobSpec, Label};
use crate::domain::time::Clock;
use crate::domain::trash::Trash;
use crate::domain::wall::WallPolicy;

use super::error::CliError;
use super::screen::Screen;
use super::words::span;

#[derive(Debug, Subcommand)]
pub(super) enum ConfigCommand {
    /// Check the configuration and show what it means
    ///
    /// Reads the file and the SWEEPD_… of the environment, and starts nothing.
    /// Exit code 0: the host would start with it, perhaps with a warning; 1: it
    /// would not, and all that is wrong is told.
    Check,
}

/// Shows a configuration that was found right.
pub(super) fn check(config: &Config) -> Result<ExitCode, CliError> {
    let mut out = Screen::stdout();
    write(&mut out, config)?;
    for warning in warnings(config) {
        writeln!(out, "warning: {warning}")?;
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

fn write(out: &mut Screen<impl Write>, config: &Config) -> io::Result<()> {
    writeln!(out, "ok: {}", config.file.display())?;
    writeln!(out, "node      {}", config.node)?;
    if !config.labels.is_empty() {
        writeln!(out, "labels    {}", join(&config.labels))?;
    }
    writeln!(out, "listens   http://{}", config.server.listen)?;
    if let Some(job) = &config.server.video_delete_record {
        writeln!(out, "          /video-delete-record/{{id}} queues for {job}")?;
    }
    write_database(out, &config.database)?;
    let min_free = ByteSize(config.state_min_free).display().iec();
    writeln!(out, "state     {}, guests make nothing below {min_free} free", config.state.display())?;
    writeln!(out, "cache     {}, at most {}", config.cache.display(), ByteSize(config.cache_max).display().iec())?;
    writeln!(out, "compiled  {} at most, of one component", ByteSize(config.sandbox.max_compiled).display().iec())?;
    writeln!(out, "landlock  {}", config.sandbox.landlock)?;
    config.jobs.iter().try_for_each(|job| write_job(out, job))
}

fn write_database(out: &mut Screen<impl Write>, database: &DatabaseConfig) -> io::Result<()> {
    match &database.backend {
        Backend::Sqlite(file) => writeln!(out, "database  {}", file.display())?,
        Backend::Postgres(url) | Backend::MySql(url) => {
            writeln!(out, "database  {url}, {} connections at most", database.max_connections)?;
        }
    }
    writeln!(out, "history   kept for {}", span(database.history))?;
    let most = ByteSize(database.effects_max).display().iec();
    writeln!(out, "effects   kept for {}, at most {most} of them", span(database.effects))
}

fn join(labels: &[Label]) -> String {
    labels.iter().map(Label::as_str).collect::<Vec<_>>().join(", ")
}

fn write_job(out: &mut Screen<impl Write>, job: &JobSpec) -> io::Result<()> {
    writeln!(out, "job       {}", job.name)?;
    writeln!(out, "  plugin  {}", job.plugin.display())?;
    for mount in &job.mounts {
        let crosses = if mount.cross_mounts { ", with what is mounted below" } else { "" };
        writeln!(out, "  mount   {} at {} ({}{crosses})", mount.host.display(), mount.guest, mount.rights)?;
    }
    if !job.labels.is_empty() {
        writeln!(out, "  labels  {}", join(&job.labels))?;
    }
    writeln!(
        out,
        "  sweeps  every {}, {} tasks a batch, {} executors",
        span(job.interval),
        job.capacity,
        job.concurrency
    )?;
    if let Some(schedule) = &job.schedule {
        let next = schedule.next_after(Clock::system().now());
        let next = next.map_or_else(String::new, |next| format!(", next at {next}"));
        writeln!(out, "  scans   {schedule}{next}")?;
    }
    writeln!(
        out,
        "  limits  {} of memory, {} a task, {} a dispatch; {} changes and {} written a call",
        ByteSize(job.limits.memory).display().iec(),
        span(job.limits.task_deadline),
        span(job.limits.dispatch_deadline),
        job.limits.changes,
        ByteSize(job.limits.written).display().iec()
    )?;
    if job.budget.is_none() {
        writeln!(out, "  budget  none: it may take away and make whatever its plugin asks for")?;
    }
    write_budget(out, "a sweep", &job.budget.sweep)?;
    write_budget(out, "an hour", &job.budget.hour)?;
    writeln!(out, "  plans   {}", planned(job))?;
    writeln!(out, "  trash   {}", kept_for(job.trash.as_ref()))?;
    writeln!(
        out,
        "  retry   {} attempts, {} to {} apart",
        job.retry.max_attempts,
        span(job.retry.backoff),
        span(job.retry.max_backoff)
    )?;
    job.config.iter().try_for_each(|(key, value)| writeln!(out, "  config  {key} = {value:?}"))
}

/// Whether a sweep is simulated first.
fn planned(job: &JobSpec) -> &'static str {
    match (job.preflight, job.budget.is_none()) {
        (true, false) => "each sweep first, and pauses before one that would go over the budget (preflight)",
        (true, true) => "each sweep first (preflight), which stops nothing without a budget",
        (false, _) => "no sweep first (preflight = false)",
    }
}

/// What becomes of what is removed.
fn kept_for(trash: Option<&Trash>) -> String {
    let Some(Trash { keep, min_free, rate }) = trash else {
        return "none: what is removed is gone at once".to_owned();
    };
    let size = |bytes: u64| ByteSize(bytes).display().iec();
    let free =
        min_free.map_or_else(String::new, |bytes| format!(", the oldest less where under {} are free", size(bytes)));
    let (keep, bytes) = (span(*keep), size(rate.bytes));
    format!("keeps what is removed for {keep}{free}; purges at most {} files and {bytes} a second", rate.files)
}

/// What may be taken away and made in one period, where that is bounded.
fn write_budget(out: &mut Screen<impl Write>, period: &str, allowed: &Allowance) -> io::Result<()> {
    let Allowance { files, bytes, share, made, written } = allowed;
    let size = |bytes: &u64| ByteSize(*bytes).display().iec().to_string();
    let taken =
        [files.map(|files| format!("{files} files")), bytes.as_ref().map(size), share.map(|share| share.to_string())];
    let makes = [made.map(|made| format!("{made} files and folders")), written.as_ref().map(size)];
    for (does, bounds) in [("takes away", taken.as_slice()), ("makes", makes.as_slice())] {
        let bounds: Vec<_> = bounds.iter().flatten().map(String::as_str).collect();
        if !bounds.is_empty() {
            writeln!(out, "  budget  {does} at most {} {period}", bounds.join(" and "))?;
        }
    }
    Ok(())
}

/// What a host would start with, though it is hardly meant.
fn warnings(config: &Config) -> Vec<String> {
    let mut warnings = Vec::new();
    for (index, job) in config.jobs.iter().enumerate() {
        let (name, plugin) = (&job.name, job.plugin.display());
        let unreadable = |why: &str| {
            format!("job {name}: the plugin {plugin} cannot be read ({why}); the job starts when it is there")
        };
        match config.plugin_found(index) {
            Some(Found::Directory(_)) => warnings.push(format!("job {name}: {plugin} is no file")),
            // It answered just now.
            Some(Found::Other(file)) => match std::fs::metadata(file) {
                Ok(file) if file.is_file() => {}
                Ok(_) => warnings.push(format!("job {name}: {plugin} is no file")),
                Err(error) => warnings.push(unreadable(&error.to_string())),
            },
            Some(Found::Nothing(_)) => warnings.push(unreadable("it does not exist")),
            Some(Found::Silent) => warnings.push(unreadable("it does not answer")),
            Some(Found::Unusable(why)) => warnings.push(unreadable(why)),
            None => {}
        }
        if !job.runs_on(&config.labels) {
            let missing = job.labels.iter().filter(|label| !config.labels.contains(label)).map(Label::as_str);
            let missing = missing.collect::<Vec<_>>().join(", ");
            warnings.push(format!("job {name}: this node does not run it: it lacks the labels {missing}"));
        }
        if job.mounts.is_empty() {
            warnings.push(format!("job {name}: no mounts, its plugin sees no files"));
        }
    }
    if config.sandbox.landlock != WallPolicy::Off {
        let told = config.openings().warnings();
        warnings.extend(told.into_iter().map(|warning| format!("sandbox.landlock: {warning}")));
    }
    if !config.server.listen.ip().is_loopback() {
        warnings.push(format!(
            "server.listen: {} can be reached from other machines, and the API has no authentication",
            config.server.listen
        ));
    }
    warnings
}
