//! `sweepd pause` and `sweepd resume`: on the queue itself; running hosts follow
//! at their next heartbeat.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;

use crate::config::Config;
use crate::domain::outcome::cut;

use super::error::CliError;
use super::{screen, store, words};

/// How long after the next heartbeat a job may take to end what it does, before it
/// is said that it has not.
const AFTER: Duration = Duration::from_secs(5);
/// Between two looks at that.
const BETWEEN: Duration = Duration::from_millis(100);

/// Which job, and why.
#[derive(Debug, Args)]
#[command(after_long_help = "\
The job stays paused through restarts, on all nodes, until it is resumed. What is
queued waits. Where the host of this configuration runs, the command waits until
nothing of the job runs there any more, for a few seconds at most, and says where
a system call hangs.

Examples:
  sweepd pause video-clear --why 'the archive is being moved'")]
pub(super) struct PauseArgs {
    /// The job, as the configuration names it
    job: String,

    /// Why, for whoever asks
    #[arg(long, value_name = "TEXT", default_value = "by hand", hide_default_value = true)]
    why: String,
}

/// Which job.
#[derive(Debug, Args)]
#[command(after_long_help = "\
A job that paused itself because it asked for more than its budget pauses again
where it still does. With --once-over-budget its next sweep, and only that, may go
over; look first at what it would do.

Examples:
  sweepd resume video-clear
  sweepd resume video-clear --once-over-budget")]
pub(super) struct ResumeArgs {
    /// The job, as the configuration names it
    job: String,

    /// Let one sweep go over the budget
    #[arg(long)]
    once_over_budget: bool,
}

/// Pauses.
pub(super) async fn pause(config: Config, args: PauseArgs) -> Result<ExitCode, CliError> {
    let store = store::open(&config).await?;
    let why = cut(args.why);
    let done = async {
        let (id, spec) = words::job(&config, &*store, &args.job).await?;
        store.set_paused(id, Some(&why)).await?;
        Ok::<_, CliError>(spec)
    };
    let done = done.await;
    store.close().await;
    let name = &done?.name;
    let told = told_by_host(&config, name.as_str(), &why).await;
    screen::print(&format!("{name} is paused: {why}; {}", told.unwrap_or_else(|| words::heard(&config))))?;
    Ok(ExitCode::SUCCESS)
}

/// What the host of this configuration says of the job once it has heard of the
/// pause; `None` where none answers, or it has not heard in time.
async fn told_by_host(config: &Config, job: &str, why: &str) -> Option<String> {
    let end = Instant::now() + config.lease / 3 + AFTER;
    loop {
        let document = super::status::ask(config.server.listen).ok()?;
        let view = document["jobs"].as_array()?.iter().find(|view| view["name"] == job)?;
        let is_paused = view["paused"] == why;
        match (is_paused, view["under_way"].is_null()) {
            (true, true) => return Some("at this node nothing of it runs any more".to_owned()),
            (true, false) if Instant::now() >= end => {
                let told =
                    "a system call of it that was under way at this node hangs and may complete; no other begins";
                return Some(told.to_owned());
            }
            (false, _) if Instant::now() >= end => return None,
            _ => tokio::time::sleep(BETWEEN).await,
        }
    }
}

/// Resumes.
pub(super) async fn resume(config: Config, args: ResumeArgs) -> Result<ExitCode, CliError> {
    let store = store::open_existing(&config).await?;
    let done = async {
        let (id, spec) = words::job(&config, &*store, &args.job).await?;
        let paused = store.register_job(&spec.name).await?.paused;
        store.resume(id, args.once_over_budget).await?;
        Ok::<_, CliError>((spec, paused))
    };
    let done = done.await;
    store.close().await;
    let (spec, paused) = done?;
    let name = &spec.name;
    let was = match paused {
        Some(why) => format!("{name} is resumed; it was paused: {why}"),
        None => format!("{name} was not paused"),
    };
    let once = if args.once_over_budget { "; its next sweep may go over the budget" } else { "" };
    screen::print(&format!("{was}{once}; {}", words::heard(&config)))?;
    Ok(ExitCode::SUCCESS)
}
