//! `sweepd migrate`: the schema of the queue, brought up to date by hand.

use std::process::ExitCode;

use clap::Args;

use crate::config::Config;

use super::error::CliError;
use super::screen::Screen;
use super::store;

/// How.
#[derive(Debug, Args)]
#[command(after_long_help = "\
A host migrates its queue when it starts, so this is needed only where that is
to happen at another time or by another user.

Examples:
  sweepd migrate --dry-run
  sweepd migrate")]
pub(super) struct MigrateArgs {
    /// Only say what would be done
    #[arg(long)]
    dry_run: bool,
}

/// Migrates, and says what that was.
pub(super) async fn migrate(config: Config, args: MigrateArgs) -> Result<ExitCode, CliError> {
    let pending = store::pending_migrations(&config).await?;
    if !args.dry_run && !pending.is_empty() {
        store::migrate(&config).await?;
    }
    let done = if args.dry_run { "would apply" } else { "applied" };
    let mut out = Screen::stdout();
    for name in &pending {
        writeln!(out, "{done} {name}")?;
    }
    if pending.is_empty() {
        writeln!(out, "the schema is up to date")?;
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}
