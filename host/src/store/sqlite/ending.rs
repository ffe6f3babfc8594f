//! A task ends: its row goes to history, and what is left of it is free or its
//! successor's.

use rusqlite::{CachedStatement, params};

use super::fault::Fault;
use super::sql;
use super::successor;
use super::writing::Writing;
use crate::domain::digest::Digest;
use crate::domain::node::NodeId;
use crate::domain::task::{Fence, TaskId, TaskState};
use crate::domain::time::Timestamp;

/// How a task ended.
pub(super) struct End<'a> {
    pub(super) id: TaskId,
    /// The claim under which it did; for a pending one the last it had.
    pub(super) fence: Fence,
    pub(super) state: TaskState,
    pub(super) outcome: &'a str,
    pub(super) note: Option<&'a str>,
    /// Whether this end was an attempt.
    pub(super) attempted: bool,
    pub(super) started: Timestamp,
    pub(super) ended: Timestamp,
    pub(super) node: NodeId,
    pub(super) digest: Option<Digest>,
}

/// The statements that end tasks.
pub(super) struct Endings<'c> {
    record: CachedStatement<'c>,
    delete: CachedStatement<'c>,
}

impl<'c> Endings<'c> {
    pub(super) fn prepare(writing: &Writing<'c>) -> Result<Self, Fault> {
        Ok(Self {
            // OR FAIL: an error rolls back the transaction anyway, and SQLite
            // need not keep copies of pages to undo this statement alone.
            record: writing.statement(
                "INSERT OR FAIL INTO history
                     (id, job, key, state, priority, run_at, attempt, losses, fence, enqueued_at,
                      started_at, ended_at, finished_at, outcome, digest, note, payload, node)
                 SELECT id, job, key, ?3, priority, run_at, attempt + ?4, losses, fence, enqueued_at,
                        ?5, ?6, ?7, ?8, ?9, ?10, payload, ?11
                 FROM tasks WHERE id = ?1 AND fence = ?2 AND state = ?12",
            )?,
            delete: writing.statement("DELETE FROM tasks WHERE id = ?1 AND next_enqueued_at IS NULL")?,
        })
    }

    /// Ends a running task; whether there was one under that fence.
    pub(super) fn end_running(
        &mut self,
        writing: &mut Writing<'_>,
        end: &End<'_>,
        now: Timestamp,
    ) -> Result<bool, Fault> {
        self.end(writing, end, sql::RUNNING, now)
    }

    /// Ends a pending task; whether there was one.
    pub(super) fn end_pending(
        &mut self,
        writing: &mut Writing<'_>,
        end: &End<'_>,
        now: Timestamp,
    ) -> Result<bool, Fault> {
        self.end(writing, end, sql::PENDING, now)
    }

    fn end(&mut self, writing: &mut Writing<'_>, end: &End<'_>, from: i64, now: Timestamp) -> Result<bool, Fault> {
        let recorded = self.record.execute(params![
            sql::id(end.id),
            sql::fence(end.fence),
            sql::state(end.state),
            end.attempted,
            sql::millis(end.started),
            sql::millis(end.ended),
            sql::millis(now),
            end.outcome,
            end.digest.as_ref().map(|digest| digest.as_bytes().as_slice()),
            end.note,
            end.node.0,
            from,
        ])?;
        if recorded == 0 {
            return Ok(false);
        }
        if self.delete.execute([sql::id(end.id)])? == 0 {
            successor::promote(writing, end.id)?;
        }
        Ok(true)
    }
}

/// What a person asked for, in history's words.
pub(super) fn outcome_of(state: TaskState) -> &'static str {
    if state == TaskState::Dead { "failed" } else { "cancelled" }
}
