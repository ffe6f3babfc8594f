//! Queueing: a new row, or the one that answers for the key already.
//!
//! A pending row takes what is more urgent: a payload given replaces, the
//! higher priority and the earlier run-at win, except that a backoff is never
//! shortened. A running row keeps one successor, merged in the same way.

use rusqlite::params;

use super::fault::Fault;
use super::sql;
use super::writing::{Command, Writing};
use crate::domain::job::JobId;
use crate::domain::task::{Enqueued, NewTask, Payload};
use crate::domain::time::Timestamp;
use crate::store::At;

/// [`Store::enqueue`](crate::store::Store::enqueue).
pub(super) struct Enqueue {
    pub(super) job: JobId,
    pub(super) tasks: Vec<NewTask>,
    pub(super) at: At,
}

impl Command for Enqueue {
    type Answer = Vec<Enqueued>;

    fn rows(&self) -> usize {
        self.tasks.len()
    }

    fn is_intake(&self) -> bool {
        true
    }

    fn apply(&self, writing: &mut Writing<'_>) -> Result<Vec<Enqueued>, Fault> {
        let now = writing.now(self.at);
        enqueue(writing, self.job, &self.tasks, now)
    }
}

/// Queues `tasks` for `job`, one answer each.
pub(super) fn enqueue(
    writing: &mut Writing<'_>,
    job: JobId,
    tasks: &[NewTask],
    now: Timestamp,
) -> Result<Vec<Enqueued>, Fault> {
    if tasks.is_empty() {
        return Ok(Vec::new());
    }
    super::jobs::must_exist(writing, job)?;
    let mut insert = writing.statement(INSERT)?;
    let mut answers = Vec::with_capacity(tasks.len());
    for task in tasks {
        let row = Row::of(job, task, now);
        let id = writing.fresh_task()?;
        let inserted = insert.execute(params![
            sql::id(id),
            row.job,
            row.key,
            row.priority,
            row.run_at,
            row.now,
            row.payload,
            row.waits_from
        ])?;
        answers.push(match inserted {
            1 => Enqueued::New(id),
            _ => row.merge(writing)?,
        });
    }
    Ok(answers)
}

const INSERT: &str = "
    INSERT INTO tasks (id, job, key, priority, run_at, enqueued_at, payload, waits_from)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
    ON CONFLICT (job, key) DO NOTHING";

const MERGE: &str = "
    UPDATE tasks
    SET priority = min(priority, ?2),
        run_at = iif(backoff, run_at, min(run_at, ?3)),
        waits_from = iif(backoff OR run_at <= ?3, waits_from, ?5),
        payload = coalesce(?4, payload)
    WHERE id = ?1 AND (priority > ?2 OR (run_at > ?3 AND NOT backoff) OR ?4 IS NOT NULL)";

const SUCCEED: &str = "
    UPDATE tasks
    SET next_priority = min(coalesce(next_priority, ?2), ?2),
        next_run_at = min(coalesce(next_run_at, ?3), ?3),
        next_waits_from = iif(next_run_at <= ?3, next_waits_from, ?6),
        next_payload = coalesce(?4, next_payload),
        next_enqueued_at = coalesce(next_enqueued_at, ?5)
    WHERE id = ?1";

/// A new task as its row would be.
struct Row<'t> {
    job: i64,
    key: &'t [u8],
    priority: i64,
    run_at: i64,
    waits_from: Option<i64>,
    now: i64,
    payload: Option<&'t str>,
}

impl<'t> Row<'t> {
    fn of(job: JobId, task: &'t NewTask, now: Timestamp) -> Self {
        Self {
            job: job.0,
            key: task.key.as_str().as_bytes(),
            priority: sql::priority(task.priority),
            run_at: sql::millis(task.run_at.unwrap_or(now)),
            waits_from: task.waits_from(now).map(sql::millis),
            now: sql::millis(now),
            payload: task.payload.as_ref().map(Payload::as_str),
        }
    }

    /// Into the row that has the key already.
    fn merge(&self, writing: &Writing<'_>) -> Result<Enqueued, Fault> {
        let (id, state): (i64, i64) = writing
            .statement("SELECT id, state FROM tasks WHERE job = ?1 AND key = ?2")?
            .query_row(params![self.job, self.key], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let (priority, run_at, payload) = (self.priority, self.run_at, self.payload);
        if state == sql::RUNNING {
            let row = params![id, priority, run_at, payload, self.now, self.waits_from];
            writing.statement(SUCCEED)?.execute(row)?;
            Ok(Enqueued::Successor(sql::task_id(id)))
        } else {
            writing.statement(MERGE)?.execute(params![id, priority, run_at, payload, self.waits_from])?;
            Ok(Enqueued::Pending(sql::task_id(id)))
        }
    }
}
