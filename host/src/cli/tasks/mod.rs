//! `sweepd tasks`: looking at tasks, and taking them in hand. All of it works
//! on the queue itself, whether or not a host is running; a running one is
//! woken, and hears of its next heartbeat what it is to interrupt.

use std::process::ExitCode;

use clap::Subcommand;

use crate::config::Config;
use crate::domain::intervention::Action;
use crate::domain::task::TaskState;

use super::error::CliError;

mod by_hand;
mod list;
mod show;

/// What to do.
#[derive(Debug, Subcommand)]
pub(super) enum TasksCommand {
    /// List tasks, live and ended, by ascending id
    List(list::ListArgs),

    /// Show one task and its attempts
    Show(show::ShowArgs),

    /// Queue ended tasks again; make waiting ones due now
    ///
    /// A task that is dead or cancelled stays on record as that; its key is
    /// queued as a new task. A pending one is due at once, also out of a
    /// backoff.
    Retry(by_hand::ByHandArgs),

    /// End tasks as cancelled; interrupt them where they run
    Cancel(by_hand::ByHandArgs),

    /// End tasks as dead; interrupt them where they run
    Bury(by_hand::ByHandArgs),
}

/// Does it.
pub(super) async fn tasks(config: Config, command: TasksCommand) -> Result<ExitCode, CliError> {
    match command {
        TasksCommand::List(args) => list::list(config, args).await,
        TasksCommand::Show(args) => show::show(config, args).await,
        TasksCommand::Retry(args) => by_hand::by_hand(config, Action::Retry, args).await,
        TasksCommand::Cancel(args) => by_hand::by_hand(config, Action::Cancel, args).await,
        TasksCommand::Bury(args) => by_hand::by_hand(config, Action::Bury, args).await,
    }
}

/// A state as an argument.
fn state(text: &str) -> Result<TaskState, String> {
    TaskState::ALL
        .into_iter()
        .find(|state| state.as_str() == text)
        .ok_or_else(|| "use pending, running, done, dead or cancelled".to_owned())
}
