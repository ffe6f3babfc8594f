//! What becomes of a successor, the request for a key that came while it ran.
//! Whatever ends the run honours it in the same transaction:
//!
//! - the task ended: the successor is a task of its own, with a fresh number,
//!   in the same row, since a key has one live row;
//! - the task stays live (retried, postponed, released, lost): the successor
//!   merges into it as an enqueue of a pending task would, since the next
//!   execution of that task starts after the successor's commit anyway.

use rusqlite::{CachedStatement, params};

use super::fault::Fault;
use super::sql;
use super::writing::Writing;
use crate::domain::task::TaskId;
use crate::faults::{self, Mutant};

/// The columns of a pending row with its successor merged into it.
macro_rules! merged {
    () => {
        "priority = min(priority, next_priority),
         run_at = iif(backoff, run_at, min(run_at, next_run_at)),
         waits_from = iif(backoff OR run_at <= next_run_at, waits_from, next_waits_from),
         payload = coalesce(next_payload, payload),
         next_enqueued_at = NULL, next_run_at = NULL, next_waits_from = NULL, next_priority = NULL,
         next_payload = NULL"
    };
}

/// Turns the row of the ended task `id` into its successor.
pub(super) fn promote(writing: &mut Writing<'_>, id: TaskId) -> Result<(), Fault> {
    if faults::is(Mutant::DropSuccessor) {
        writing.statement("DELETE FROM tasks WHERE id = ?1")?.execute([sql::id(id)])?;
        return Ok(());
    }
    let fresh = writing.fresh_task()?;
    writing
        .statement(
            "UPDATE tasks
             SET id = ?2, state = 0, priority = next_priority, run_at = next_run_at,
                 waits_from = next_waits_from, attempt = 0, losses = 0, solo = 0, backoff = 0, fence = 0, asked = 0, asked_why = NULL,
                 enqueued_at = next_enqueued_at, postponed_since = NULL, removed = 0, note = NULL,
                 payload = next_payload, next_enqueued_at = NULL, next_run_at = NULL,
                 next_waits_from = NULL, next_priority = NULL, next_payload = NULL
             WHERE id = ?1",
        )?
        .execute(params![sql::id(id), sql::id(fresh)])?;
    Ok(())
}

/// Merges the successors of pending tasks into them; run it with the task's
/// number.
pub(super) fn merge<'c>(writing: &Writing<'c>) -> Result<CachedStatement<'c>, Fault> {
    writing.statement(concat!(
        "UPDATE tasks SET ",
        merged!(),
        " WHERE id = ?1 AND state = 0 AND next_enqueued_at IS NOT NULL"
    ))
}

/// The same for many; run it with a JSON array of their numbers.
pub(super) fn merge_all<'c>(writing: &Writing<'c>) -> Result<CachedStatement<'c>, Fault> {
    writing.statement(concat!(
        "UPDATE tasks SET ",
        merged!(),
        " WHERE id IN (SELECT value FROM json_each(?1)) AND state = 0 AND next_enqueued_at IS NOT NULL"
    ))
}
