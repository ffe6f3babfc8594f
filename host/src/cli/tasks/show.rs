//! `sweepd tasks show`.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use crate::config::Config;
use crate::domain::task::{AttemptView, TaskId, TaskView};
use crate::domain::time::Timestamp;

use super::super::screen::Screen;
use super::super::{error::CliError, store, words};

/// Which task.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  sweepd tasks show 17
  sweepd tasks show 17 --json | jq '.attempt_log[-1]'")]
pub(in crate::cli) struct ShowArgs {
    /// The task's id
    #[arg(value_parser = words::number)]
    id: u64,

    /// Print one JSON object, as GET /v1/tasks/{id} answers
    #[arg(long)]
    json: bool,
}

/// Shows it.
pub(super) async fn show(config: Config, args: ShowArgs) -> Result<ExitCode, CliError> {
    let store = store::open_existing(&config).await?;
    let id = TaskId(args.id);
    let found = async { Ok((store.task(id).await?, store.attempts(id).await?)) }.await;
    store.close().await;
    let (task, attempts) = found.map_err(CliError::Store)?;
    let Some(task) = task else { return Err(CliError::UnknownTask(id)) };
    let mut out = Screen::stdout();
    if args.json {
        let mut document = json!(task);
        document["attempt_log"] = json!(attempts);
        out.pretty_json(&document)?;
    } else {
        write(&mut out, &task, &attempts)?;
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

fn write(out: &mut Screen<impl Write>, task: &TaskView, attempts: &[AttemptView]) -> io::Result<()> {
    let mut line = |name: &str, value: Option<String>| match value {
        Some(value) => writeln!(out, "{name:<9} {value}"),
        None => Ok(()),
    };
    line("task", Some(task.id.to_string()))?;
    line("job", Some(task.job.clone()))?;
    line("key", Some(task.key.clone()))?;
    line("state", Some(task.state.to_string()))?;
    line("priority", Some(format!("{:?}", task.priority).to_lowercase()))?;
    line("queued", Some(task.enqueued_at.to_string()))?;
    line("due", Some(task.run_at.to_string()))?;
    line("ended", task.finished_at.as_ref().map(Timestamp::to_string))?;
    line("outcome", task.outcome.clone())?;
    line("attempts", Some(task.attempts.to_string()))?;
    line("losses", (task.losses > 0).then(|| task.losses.to_string()))?;
    line("node", task.node.clone())?;
    line("plugin", task.digest.map(|digest| digest.to_string()))?;
    line("successor", task.successor.then(|| "the key is queued again when it ends".to_owned()))?;
    line("note", task.note.clone())?;
    line("payload", task.payload.clone())?;
    for AttemptView { number, started_at, ended_at, node, digest, outcome, note } in attempts {
        let took = humantime::format_duration(ended_at.since(*started_at));
        let place = node.as_deref().map(|node| format!(" on {node}")).unwrap_or_default();
        let digest = digest.map(|digest| format!(" by {}", digest.short())).unwrap_or_default();
        let why = note.as_deref().map(|note| format!(": {note}")).unwrap_or_default();
        writeln!(out, "attempt {number} began {started_at}, took {took}{place}{digest}, {outcome}{why}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::domain::digest::Digest;
    use crate::domain::task::{Priority, TaskState};

    use super::*;

    #[test]
    fn what_people_see() {
        let digest = Digest::of(b"abc");
        let task = TaskView {
            id: TaskId(7),
            job: "clear".to_owned(),
            key: "a\nb".to_owned(),
            payload: Some("p".to_owned()),
            state: TaskState::Dead,
            priority: Priority::High,
            enqueued_at: Timestamp(0),
            run_at: Timestamp(1000),
            attempts: 1,
            losses: 2,
            note: Some("it is stuck".to_owned()),
            outcome: Some("failed".to_owned()),
            digest: Some(digest),
            finished_at: Some(Timestamp(3500)),
            node: Some("n1".to_owned()),
            successor: false,
        };
        let attempt = AttemptView {
            number: 1,
            started_at: Timestamp(2000),
            ended_at: Timestamp(3500),
            node: Some("n1".to_owned()),
            digest: Some(digest),
            outcome: "failed".to_owned(),
            note: Some("it is stuck".to_owned()),
        };
        let mut out = Screen::new(Vec::new());
        write(&mut out, &task, &[attempt]).expect("written");
        let text = out.into_text();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(
            lines[..6].join("|"),
            "task      7|job       clear|key       a\\nb|state     dead|priority  high|queued    1970-01-01T00:00:00.000Z"
        );
        assert_eq!(lines[10], "losses    2");
        assert_eq!(
            lines.last(),
            Some(&"attempt 1 began 1970-01-01T00:00:02.000Z, took 1s 500ms on n1 by ba7816bf8f01, failed: it is stuck")
        );
    }
}
