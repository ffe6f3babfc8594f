//! `sweepd mount`: whether the right directories stand at the mounts of the
//! jobs, and saying that they do.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde::Serialize;

use crate::config::Config;
use crate::domain::job::JobSpec;
use crate::runner::{MountView, NotAccepted, Standing, accept_mount, look_at_mounts};
use crate::store::Store;

use super::error::CliError;
use super::screen::Screen;
use super::{store, table, words};

/// What to do.
#[derive(Debug, Subcommand)]
pub(super) enum MountCommand {
    /// List mounts, and whether the right directories stand there
    List(ListArgs),

    /// Make what stands there now the directory that the job works in
    Accept(AcceptArgs),
}

/// Whose mounts.
#[derive(Debug, Args)]
#[command(after_long_help = "\
A mount is known by the file .sweepd-mount in it, or, where the job may change
nothing, by its file system and inode. Where that is missing or another, the disk
may not be mounted: all files would seem to be gone already, and the job pauses.

Exit codes: 0 all is right, 1 something is not.")]
pub(super) struct ListArgs {
    /// Only of this job
    job: Option<String>,

    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Which mounts.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Do this where the directory is right as it is: a new disk, a database that was
restored or begun anew. It is marked where it has no marker. The job stays paused
until it is resumed.

Examples:
  sweepd mount list video-clear
  sweepd mount accept video-clear && sweepd resume video-clear")]
pub(super) struct AcceptArgs {
    /// The job, as the configuration names it
    job: String,

    /// The directory, or where the plugin sees it [default: all mounts of the job]
    path: Option<PathBuf>,
}

/// Does it.
pub(super) async fn mount(mut config: Config, command: MountCommand) -> Result<ExitCode, CliError> {
    let wanted = match &command {
        MountCommand::List(args) => args.job.as_ref(),
        MountCommand::Accept(args) => Some(&args.job),
    };
    config.look(|job| wanted.is_none_or(|wanted| wanted == job.name.as_str()));
    let store = store::open_existing(&config).await?;
    let done = match command {
        MountCommand::List(args) => list(&config, &*store, args).await,
        MountCommand::Accept(args) => accept(&config, &*store, args).await,
    };
    store.close().await;
    done
}

/// A mount of a job.
#[derive(Serialize)]
struct Row {
    job: String,
    #[serde(flatten)]
    mount: MountView,
}

async fn list(config: &Config, store: &dyn Store, args: ListArgs) -> Result<ExitCode, CliError> {
    let jobs: Vec<&JobSpec> = match &args.job {
        Some(name) => vec![words::job(config, store, name).await?.1],
        None => config.jobs.iter().collect(),
    };
    let mut rows = Vec::new();
    for spec in jobs {
        let (id, _) = words::job(config, store, spec.name.as_str()).await?;
        let views = look_at_mounts(store, id, spec).await?;
        rows.extend(views.into_iter().map(|mount| Row { job: spec.name.to_string(), mount }));
    }
    if args.json {
        let mut out = Screen::stdout();
        out.pretty_json(&serde_json::json!({ "mounts": rows }))?;
        out.flush()?;
    } else {
        table::print(["JOB", "PATH", "AT", "RIGHTS", "KNOWN BY", "STATE"], &[], rows.iter().map(row))?;
    }
    for job in config.jobs.iter().map(|job| job.name.as_str()) {
        if rows.iter().any(|row| row.job == job && row.mount.state.needs_somebody()) {
            super::logging::say(&format!(
                "{job}: is the right disk mounted, and is this the right database? Where it is right as it is: \
                 sweepd mount accept {job}, then sweepd resume {job}"
            ));
        }
    }
    let is_fine = |row: &Row| matches!(row.mount.state, Standing::Right | Standing::New);
    Ok(if rows.iter().all(is_fine) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn row(Row { job, mount }: &Row) -> [String; 6] {
    let state = match &mount.error {
        Some(error) => format!("{}: {error}", mount.state.words()),
        None => mount.state.words().to_owned(),
    };
    [
        job.clone(),
        mount.path.to_string_lossy().into_owned(),
        mount.at.clone(),
        mount.rights.to_string(),
        mount.known_by.clone().unwrap_or_else(|| "-".to_owned()),
        state,
    ]
}

async fn accept(config: &Config, store: &dyn Store, args: AcceptArgs) -> Result<ExitCode, CliError> {
    let (id, spec) = words::job(config, store, &args.job).await?;
    let mut mounts: Vec<_> = spec.mounts.iter().collect();
    if let Some(path) = &args.path {
        let real = path.canonicalize();
        let is_it = |host: &PathBuf| real.as_ref().is_ok_and(|real| real == host) || host == path;
        mounts.retain(|mount| is_it(&mount.host) || path.as_os_str() == mount.guest.as_str());
        if mounts.is_empty() {
            let what = format!("{} is no mount of {}; see: sweepd mount list {1}", path.display(), spec.name);
            return Err(CliError::Refused(what));
        }
    }
    let mut out = Screen::stdout();
    for mount in mounts {
        accept_mount(store, id, mount).await.map_err(|error| match error {
            NotAccepted::Mount(error) => CliError::Refused(error.to_string()),
            NotAccepted::Store(error) => CliError::Store(error),
        })?;
        writeln!(out, "{}: works in {} from now on", spec.name, mount.host.display())?;
    }
    if store.register_job(&spec.name).await?.paused.is_some() {
        writeln!(out, "it is paused; go on with: sweepd resume {}", spec.name)?;
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}
