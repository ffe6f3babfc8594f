//! Where the log goes and how it looks.

use std::io::IsTerminal as _;

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;

use super::error::CliError;

/// How the log looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// Human on a terminal, JSON otherwise.
    Auto,
    /// Lines for people.
    Human,
    /// One object a line.
    Json,
}

/// Sends the log to standard error, by this filter. Once a process.
pub(super) fn init(filter: &str, format: Format) -> Result<(), CliError> {
    let parsed = EnvFilter::try_new(filter).map_err(|source| CliError::Log { filter: filter.to_owned(), source })?;
    let terminal = std::io::stderr().is_terminal();
    let builder = tracing_subscriber::fmt().with_env_filter(parsed).with_writer(std::io::stderr);
    let human = format == Format::Human || (format == Format::Auto && terminal);
    if human {
        let colours = terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        builder.with_ansi(colours).with_target(false).init();
    } else {
        builder.json().flatten_event(true).init();
    }
    Ok(())
}
