//! `sweepd tasks list`.

use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;

use clap::Args;
use comfy_table::{CellAlignment, Table, presets};
use serde_json::json;

use crate::config::Config;
use crate::domain::task::{TaskId, TaskState, TaskView};
use crate::store::TaskFilter;

use super::super::words::{self, printable};
use super::super::{error::CliError, store};
use super::state;

/// Longest note in a table, in characters.
const NOTE: usize = 60;

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
    let mut out = io::stdout().lock();
    if args.json {
        for task in &mut tasks {
            task.payload = None;
        }
        serde_json::to_writer_pretty(&mut out, &json!({ "tasks": tasks, "next": next })).map_err(io::Error::from)?;
        writeln!(out)?;
        return Ok(ExitCode::SUCCESS);
    }
    let table = table(&tasks, io::stdout().is_terminal());
    for line in table.lines() {
        writeln!(out, "{}", line.trim_end())?;
    }
    if let Some(next) = next {
        super::super::logging::say(&format!("there may be more: --after {next}"));
    }
    Ok(ExitCode::SUCCESS)
}

fn table(tasks: &[TaskView], terminal: bool) -> Table {
    let mut table = Table::new();
    table.load_preset(if terminal { presets::UTF8_FULL_CONDENSED } else { presets::NOTHING });
    table.set_header(["ID", "JOB", "STATE", "ATTEMPTS", "DUE OR ENDED", "KEY", "NOTE"]);
    for column in [0, 3] {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    for task in tasks {
        table.add_row([
            task.id.to_string(),
            task.job.clone(),
            task.state.to_string(),
            task.attempts.to_string(),
            task.finished_at.unwrap_or(task.run_at).to_string(),
            printable(&task.key),
            note(task.note.as_deref().unwrap_or_default()),
        ]);
    }
    table
}

fn note(text: &str) -> String {
    let text = printable(text);
    match text.char_indices().nth(NOTE) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_are_short() {
        assert_eq!(note("影".repeat(60).as_str()), "影".repeat(60));
        assert_eq!(note("影".repeat(61).as_str()), "影".repeat(60) + "…");
    }
}
