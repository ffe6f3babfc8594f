//! What people do to tasks by hand.

use rusqlite::{OptionalExtension as _, params};

use super::ending::{End, Endings, outcome_of};
use super::fault::Fault;
use super::writing::{Command, Writing};
use super::{enqueue, sql};
use crate::domain::intervention::{Action, Effect, Intervened};
use crate::domain::job::JobId;
use crate::domain::node::NodeId;
use crate::domain::task::{Fence, Key, NewTask, Payload, TaskId, TaskState};
use crate::domain::time::Timestamp;
use crate::store::{At, Intervene};

/// [`Store::intervene`](crate::store::Store::intervene).
pub(super) struct InterveneAt {
    pub(super) ask: Intervene,
    pub(super) at: At,
}

impl Command for InterveneAt {
    type Answer = Vec<Intervened>;

    fn rows(&self) -> usize {
        self.ask.ids.len()
    }

    fn apply(&self, writing: &mut Writing<'_>) -> Result<Vec<Intervened>, Fault> {
        let now = writing.now(self.at);
        self.ask.ids.iter().map(|id| one(writing, self.ask.action, *id, &self.ask.why, now)).collect()
    }
}

fn one(writing: &mut Writing<'_>, action: Action, id: TaskId, why: &str, now: Timestamp) -> Result<Intervened, Fault> {
    let Some((state, fence)) = find(writing, id)? else { return Ok(Intervened::Unknown) };
    match action.on(state) {
        Effect::Refused => return Ok(Intervened::Refused { state }),
        Effect::DueNow => {
            writing
                .statement(
                    "UPDATE tasks
                     SET run_at = min(run_at, ?2), waits_from = iif(run_at > ?2, ?2, waits_from), backoff = 0
                     WHERE id = ?1 AND state = 0",
                )?
                .execute(params![sql::id(id), sql::millis(now)])?;
        }
        Effect::Anew => return anew(writing, id, now),
        Effect::Asked(end) => {
            ask(writing, id, end, why)?;
            return Ok(Intervened::Interrupting);
        }
        Effect::Ends(end) => {
            let end = End {
                id,
                fence,
                state: end,
                outcome: outcome_of(end),
                note: Some(why),
                attempted: false,
                started: now,
                ended: now,
                node: NodeId(0),
                digest: None,
            };
            Endings::prepare(writing)?.end_pending(writing, &end, now)?;
        }
    }
    Ok(Intervened::Applied { task: id })
}

fn find(writing: &Writing<'_>, id: TaskId) -> Result<Option<(TaskState, Fence)>, Fault> {
    let row =
        |row: &rusqlite::Row<'_>| Ok((sql::task_state(row.get(0)?)?, Fence(row.get::<_, i64>(1)?.unsigned_abs())));
    let live =
        writing.statement("SELECT state, fence FROM tasks WHERE id = ?1")?.query_row([sql::id(id)], row).optional()?;
    if live.is_some() {
        return Ok(live);
    }
    let mut ended = writing.statement("SELECT state, fence FROM history WHERE id = ?1")?;
    Ok(ended.query_row([sql::id(id)], row).optional()?)
}

/// Queues the key of an ended task.
fn anew(writing: &mut Writing<'_>, id: TaskId, now: Timestamp) -> Result<Intervened, Fault> {
    let (job, key, payload, priority): (i64, Vec<u8>, Option<String>, i64) = writing
        .statement("SELECT job, key, payload, priority FROM history WHERE id = ?1")?
        .query_row([sql::id(id)], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))?;
    let unreadable = |error: String| Fault::Refused(format!("task {id}: {error}"));
    let task = NewTask {
        key: Key::new(sql::key(key)?).map_err(|error| unreadable(error.to_string()))?,
        payload: payload.map(Payload::new).transpose().map_err(|error| unreadable(error.to_string()))?,
        run_at: None,
        priority: sql::task_priority(priority)?,
    };
    let queued = enqueue::enqueue(writing, JobId(job), &[task], now)?;
    let task = queued.first().map_or(id, |queued| queued.id());
    Ok(Intervened::Applied { task })
}

/// Marks a running task, and lets its node know that there is news.
fn ask(writing: &Writing<'_>, id: TaskId, end: TaskState, why: &str) -> Result<(), Fault> {
    writing.statement("UPDATE tasks SET asked = ?2, asked_why = ?3 WHERE id = ?1 AND state = 1")?.execute(params![
        sql::id(id),
        sql::state(end),
        why
    ])?;
    writing
        .statement(
            "UPDATE nodes SET asked = asked + 1
             WHERE id = (SELECT node FROM batches JOIN tasks USING (fence) WHERE tasks.id = ?1)",
        )?
        .execute([sql::id(id)])?;
    Ok(())
}
