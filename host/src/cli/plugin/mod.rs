//! `sweepd plugin`: what a plugin file is, what a job accepted, and what is to
//! serve.

use std::process::ExitCode;

use clap::Subcommand;

use crate::config::Config;

use super::error::CliError;

mod inspect;
mod kept;

#[derive(Debug, Subcommand)]
pub(super) enum PluginCommand {
    /// Show what a file holds and whether this host would take it
    ///
    /// Nothing of it is run. Exit code 0: the host would take it; 1: it would
    /// not, and why.
    Inspect(inspect::InspectArgs),

    /// Show the components that a job accepted at this node, the newest first
    History(kept::HistoryArgs),

    /// Set the component that serves aside, and go back to an earlier one
    Rollback(kept::RollbackArgs),

    /// Let one component serve, whatever the plugin file holds
    Pin(kept::PinArgs),

    /// Let the plugin file count again
    Unpin(kept::UnpinArgs),
}

/// Does it. Only what concerns a job needs the configuration; where there is one,
/// a file is looked at by its limits.
pub(super) fn plugin(
    command: &PluginCommand,
    config: impl FnOnce() -> Result<Config, CliError>,
) -> Result<ExitCode, CliError> {
    match command {
        PluginCommand::Inspect(args) => inspect::inspect(args, config().ok().as_ref()),
        PluginCommand::History(args) => kept::history(&config()?, args),
        PluginCommand::Rollback(args) => kept::roll_back(&config()?, args),
        PluginCommand::Pin(args) => kept::pin(&config()?, args),
        PluginCommand::Unpin(args) => kept::unpin(&config()?, args),
    }
}
