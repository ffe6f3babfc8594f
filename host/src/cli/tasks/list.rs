//! `sweepd tasks list`.

use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use crate::config::Config;
use crate::domain::task::{TaskId, TaskState, TaskView};
use crate::store::TaskFilter;

use super::super::screen::Screen;
use super::super::{error::CliError, store, table, words};
use super::state;

/// Longest note in a table, in characters: enough for the cause of a crash.
const NOTE: usize = 120;

/// Which tasks.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  sweepd tasks list --job video-clear --state dead
  sweepd tasks list --state pending --limit 20 --after 1000
  sweepd tasks list --state dead --json | jq -r '.tasks[].key'")]
pub(in crate::cli) struct ListArgs {
    /// Only of this job
    #[arg(long)]
    job: Option<String>,

    /// Only in this state: pending, running, done, dead, cancelled
    #[arg(long, value_parser = state)]
    state: Option<TaskState>,

    /// At most so many
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,

    /// Only tasks after this one
    #[arg(long, value_name = "ID")]
    after: Option<u64>,

    /// Print one JSON object, as GET /v1/tasks answers
    #[arg(long)]
    json: bool,
}

/// Lists.
pub(super) async fn list(config: Config, args: ListArgs) -> Result<ExitCode, CliError> {
    let store = store::open_existing(&config).await?;
    let job = match &args.job {
        Some(name) => Some(words::job(&config, &*store, name).await?.0),
        None => None,
    };
    let filter = TaskFilter { job, state: args.state, after: args.after.map(TaskId), limit: args.limit };
    let listed = store.tasks(filter).await;
    store.close().await;
    let mut tasks = listed?;
    let next = tasks.last().filter(|_| tasks.len() >= args.limit as usize).map(|task| task.id);
    if args.json {
        for task in &mut tasks {
            task.payload = None;
        }
        let mut out = Screen::stdout();
        out.pretty_json(&json!({ "tasks": tasks, "next": next }))?;
        out.flush()?;
        return Ok(ExitCode::SUCCESS);
    }
    let headers = ["ID", "JOB", "STATE", "ATTEMPTS", "DUE OR ENDED", "KEY", "NOTE"];
    table::print(headers, &[0, 3], tasks.iter().map(row))?;
    if let Some(next) = next {
        super::super::logging::say(&format!("there may be more: --after {next}"));
    }
    Ok(ExitCode::SUCCESS)
}

fn row(task: &TaskView) -> [String; 7] {
    [
        task.id.to_string(),
        task.job.clone(),
        task.state.to_string(),
        task.attempts.to_string(),
        task.finished_at.unwrap_or(task.run_at).to_string(),
        task.key.clone(),
        note(task.note.as_deref().unwrap_or_default()),
    ]
}

fn note(text: &str) -> String {
    match text.char_indices().nth(NOTE) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_are_short() {
        assert_eq!(note("影".repeat(NOTE).as_str()), "影".repeat(NOTE));
        assert_eq!(note("影".repeat(NOTE + 1).as_str()), "影".repeat(NOTE) + "…");
    }
}
