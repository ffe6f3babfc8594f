//! Writing back: a task ends, or waits again, if its fence is still the one of
//! the claim.
//!
//! Where it is not, a record of the same write-back tells that it was applied
//! before: the row of the ended task in `history`, the row that still bears
//! the fence and is pending again, or the failed attempt.

use rusqlite::{CachedStatement, OptionalExtension as _, params};

use super::ending::{End, Endings, outcome_of};
use super::fault::Fault;
use super::sql;
use super::successor;
use super::writing::{Command, Writing};
use crate::domain::outcome::{Attempt, Disposition, Finish, Finished};
use crate::domain::task::{Fence, TaskId, TaskState};
use crate::domain::time::Timestamp;
use crate::faults::{self, Mutant};
use crate::store::{At, WriteBack};

/// [`Store::finish`](crate::store::Store::finish).
pub(super) struct FinishAll {
    pub(super) write_back: WriteBack,
    pub(super) at: At,
}

impl Command for FinishAll {
    type Answer = Vec<Finished>;

    fn rows(&self) -> usize {
        self.write_back.finishes.len() + self.write_back.effects.len()
    }

    fn apply(&self, writing: &mut Writing<'_>) -> Result<Vec<Finished>, Fault> {
        let now = writing.now(self.at);
        let finished = finish(writing, &self.write_back.finishes, now)?;
        super::effects::record(writing, &self.write_back.effects, now)?;
        close_batches(writing, &self.write_back.closed)?;
        Ok(finished)
    }
}

/// Applies `finishes`, one answer each.
pub(super) fn finish(writing: &mut Writing<'_>, finishes: &[Finish], now: Timestamp) -> Result<Vec<Finished>, Fault> {
    if finishes.is_empty() {
        return Ok(Vec::new());
    }
    let mut statements = Statements::prepare(writing)?;
    finishes.iter().map(|finish| statements.finish(writing, finish, now)).collect()
}

/// Forgets batches of which nothing runs any more. A batch that still has a
/// running task stays, or a crash would leave that task running for ever.
fn close_batches(writing: &Writing<'_>, closed: &[Fence]) -> Result<(), Fault> {
    let mut close = writing.statement(
        "DELETE FROM batches
         WHERE fence = ?1 AND NOT EXISTS (
             SELECT 1 FROM json_each(batches.ids) CROSS JOIN tasks ON tasks.id = value
             WHERE tasks.fence = ?1 AND tasks.state = 1)",
    )?;
    for fence in closed {
        close.execute([sql::fence(*fence)])?;
    }
    Ok(())
}

/// Under which fence a write-back applies: that of its claim.
fn fence_of(writing: &Writing<'_>, finish: &Finish) -> Result<i64, Fault> {
    if faults::is(Mutant::NoFenceCheck) {
        let mut present = writing.statement("SELECT fence FROM tasks WHERE id = ?1")?;
        let present = present.query_row([sql::id(finish.id)], |row| row.get(0)).optional()?;
        return Ok(present.unwrap_or_else(|| sql::fence(finish.fence)));
    }
    Ok(sql::fence(finish.fence))
}

struct Statements<'c> {
    endings: Endings<'c>,
    retry: CachedStatement<'c>,
    record_attempt: CachedStatement<'c>,
    postpone: CachedStatement<'c>,
    release: CachedStatement<'c>,
    asked: CachedStatement<'c>,
    merge: CachedStatement<'c>,
    applied: CachedStatement<'c>,
}

impl<'c> Statements<'c> {
    fn prepare(writing: &Writing<'c>) -> Result<Self, Fault> {
        Ok(Self {
            endings: Endings::prepare(writing)?,
            retry: writing.statement(
                "UPDATE tasks
                 SET state = 0, run_at = ?3, waits_from = ?5, attempt = attempt + 1, solo = 0, backoff = 1,
                     postponed_since = NULL, note = ?4, removed = removed + ?6
                 WHERE id = ?1 AND fence = ?2 AND state = 1 AND asked = 0",
            )?,
            record_attempt: writing.statement(
                "INSERT INTO attempts (task, number, fence, started_at, ended_at, node, digest, outcome, error)
                 SELECT id, attempt, fence, ?2, ?3, ?4, ?5, 'failed', ?6 FROM tasks WHERE id = ?1",
            )?,
            postpone: writing.statement(
                "UPDATE tasks
                 SET state = 0, run_at = ?3, waits_from = ?4, solo = 0, backoff = 0,
                     postponed_since = iif(?6 > 0, ?4, coalesce(postponed_since, ?4)), note = ?5,
                     removed = removed + ?6
                 WHERE id = ?1 AND fence = ?2 AND state = 1 AND asked = 0",
            )?,
            release: writing.statement(
                "UPDATE tasks
                 SET state = 0, run_at = coalesce(?3, run_at), waits_from = iif(?3 IS NULL, waits_from, ?4),
                     solo = 0, backoff = 0, removed = removed + ?5
                 WHERE id = ?1 AND fence = ?2 AND state = 1 AND asked = 0",
            )?,
            asked: writing
                .statement("SELECT asked, asked_why FROM tasks WHERE id = ?1 AND fence = ?2 AND state = 1")?,
            merge: successor::merge(writing)?,
            applied: writing.statement(
                "SELECT 1 FROM history WHERE id = ?1 AND fence = ?2
                 UNION ALL SELECT 1 FROM tasks WHERE id = ?1 AND fence = ?2 AND fence > 0 AND state = 0
                 UNION ALL SELECT 1 FROM attempts WHERE task = ?1 AND fence = ?2",
            )?,
        })
    }

    fn finish(&mut self, writing: &mut Writing<'_>, finish: &Finish, now: Timestamp) -> Result<Finished, Fault> {
        let (id, fence) = (sql::id(finish.id), fence_of(writing, finish)?);
        let due = |after| sql::millis(now.after(after));
        let removed = i64::try_from(finish.attempt.removed).unwrap_or(i64::MAX);
        let (state, outcome, note) = match &finish.disposition {
            Disposition::Done(note) => (TaskState::Done, "done", note.as_deref()),
            Disposition::Skipped(why) => (TaskState::Done, "skipped", Some(why.as_str())),
            Disposition::Bury(error) => (TaskState::Dead, "failed", Some(error.as_str())),
            Disposition::Cancel(why) => (TaskState::Cancelled, "cancelled", Some(why.as_str())),
            Disposition::Retry { after, error } => {
                let retried = self.retry.execute(params![id, fence, due(*after), error, sql::millis(now), removed])?;
                if retried == 1 {
                    self.record_attempt(finish, error)?;
                }
                return self.waits_again(writing, finish, retried, now);
            }
            Disposition::Postpone { after, reason } => {
                let since = sql::millis(now);
                let row = params![id, fence, due(*after), since, reason, removed];
                let postponed = self.postpone.execute(row)?;
                return self.waits_again(writing, finish, postponed, now);
            }
            Disposition::Release { after } => {
                let released = self.release.execute(params![id, fence, after.map(due), sql::millis(now), removed])?;
                return self.waits_again(writing, finish, released, now);
            }
        };
        if self.end(writing, finish, state, outcome, note, now)? {
            return Ok(Finished::Applied);
        }
        self.applied_before(finish.id, finish.fence)
    }

    fn end(
        &mut self,
        writing: &mut Writing<'_>,
        finish: &Finish,
        state: TaskState,
        outcome: &str,
        note: Option<&str>,
        now: Timestamp,
    ) -> Result<bool, Fault> {
        let Attempt { started, ended, node, digest, .. } = finish.attempt;
        // Without a component there was no attempt: a plan's discard.
        let attempted = state == TaskState::Done || digest.is_some();
        let (id, fence) = (finish.id, finish.fence);
        let end = End { id, fence, state, outcome, note, attempted, started, ended, node, digest };
        self.endings.end_running(writing, &end, now)
    }

    fn record_attempt(&mut self, finish: &Finish, error: &str) -> Result<(), Fault> {
        let attempt = &finish.attempt;
        self.record_attempt.execute(params![
            sql::id(finish.id),
            sql::millis(attempt.started),
            sql::millis(attempt.ended),
            attempt.node.0,
            attempt.digest.as_ref().map(|digest| digest.as_bytes().as_slice()),
            error
        ])?;
        Ok(())
    }

    /// After an update that made the task pending again, if it did. A task
    /// that a person ended does not wait again.
    fn waits_again(
        &mut self,
        writing: &mut Writing<'_>,
        finish: &Finish,
        updated: usize,
        now: Timestamp,
    ) -> Result<Finished, Fault> {
        if updated == 1 {
            self.merge.execute([sql::id(finish.id)])?;
            return Ok(Finished::Applied);
        }
        let held = params![sql::id(finish.id), sql::fence(finish.fence)];
        let asked = self.asked.query_row(held, |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
        let Some((state, why)): Option<(i64, Option<String>)> = asked else {
            return self.applied_before(finish.id, finish.fence);
        };
        let state = sql::task_state(state)?;
        self.end(writing, finish, state, outcome_of(state), why.as_deref(), now)?;
        Ok(Finished::Applied)
    }

    fn applied_before(&mut self, id: TaskId, fence: Fence) -> Result<Finished, Fault> {
        let known = self.applied.exists([sql::id(id), sql::fence(fence)])?;
        Ok(if known { Finished::Applied } else { Finished::Fenced })
    }
}
