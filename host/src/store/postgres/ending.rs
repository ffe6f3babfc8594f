//! Tasks end: their rows go to history, and what is left of them is free or
//! their successors'.
//!
//! The successor of an ended task, the request for its key that came while it
//! ran, is a task of its own with a fresh number: the same statement deletes
//! the row and inserts the successor's, so that the key always has one.

use sqlx::Row as _;

use super::fault::Fault;
use super::sql;
use super::writing::Work;
use crate::domain::digest::Digest;
use crate::domain::node::NodeId;
use crate::domain::task::TaskState;
use crate::domain::time::Timestamp;

/// How a task ended.
pub(super) struct End<'a> {
    pub(super) id: i64,
    /// The claim under which it did; for a pending one the last it had.
    pub(super) fence: i64,
    pub(super) state: TaskState,
    pub(super) outcome: &'static str,
    pub(super) note: Option<&'a str>,
    /// Whether this end was an attempt.
    pub(super) attempted: bool,
    pub(super) started: Timestamp,
    pub(super) ended: Timestamp,
    pub(super) node: NodeId,
    pub(super) digest: Option<Digest>,
}

const END: &str = "
    WITH gone AS (
        DELETE FROM tasks USING
            unnest($1::int8[], $2::int8[], $3::int2[], $4::text[], $5::text[], $6::bool[],
                   $7::int8[], $8::int8[], $9::int8[], $10::bytea[])
                AS finish (id, fence, state, outcome, note, attempted, started, ended, node, digest)
        WHERE tasks.id = finish.id AND tasks.fence = finish.fence AND tasks.state = $11
        RETURNING tasks.id, job, key, priority, run_at, attempt, losses, tasks.fence, enqueued_at, payload,
                  next_enqueued_at, next_run_at, next_waits_from, next_priority, next_payload,
                  finish.state, outcome, finish.note, attempted, started, ended, node, digest),
    kept AS (
        INSERT INTO history
            (id, job, key, state, priority, run_at, attempt, losses, fence, enqueued_at,
             started_at, ended_at, finished_at, outcome, digest, note, payload, node)
        SELECT id, job, key, state, priority, run_at, attempt + attempted::int4, losses, fence, enqueued_at,
               started, ended, $12, outcome, digest, note, payload, node
        FROM gone),
    next AS (
        INSERT INTO tasks (job, key, priority, run_at, waits_from, enqueued_at, payload)
        SELECT job, key, next_priority, next_run_at, next_waits_from, next_enqueued_at, next_payload
        FROM gone WHERE next_enqueued_at IS NOT NULL)
    SELECT coalesce(array_agg(id), '{}') FROM gone";

/// Ends tasks that are in state `from` under their fences; answers the numbers
/// of those that were. `ends` ascend by id.
pub(super) async fn end(work: &mut Work, ends: &[End<'_>], from: i16, now: Timestamp) -> Result<Vec<i64>, Fault> {
    if ends.is_empty() {
        return Ok(Vec::new());
    }
    let digests = ends.iter().map(|end| end.digest.as_ref().map(|digest| digest.as_bytes().as_slice()));
    let row = sqlx::query(END)
        .bind(ends.iter().map(|end| end.id).collect::<Vec<_>>())
        .bind(ends.iter().map(|end| end.fence).collect::<Vec<_>>())
        .bind(ends.iter().map(|end| sql::state(end.state)).collect::<Vec<_>>())
        .bind(ends.iter().map(|end| end.outcome).collect::<Vec<_>>())
        .bind(ends.iter().map(|end| end.note).collect::<Vec<_>>())
        .bind(ends.iter().map(|end| end.attempted).collect::<Vec<_>>())
        .bind(ends.iter().map(|end| sql::millis(end.started)).collect::<Vec<_>>())
        .bind(ends.iter().map(|end| sql::millis(end.ended)).collect::<Vec<_>>())
        .bind(ends.iter().map(|end| end.node.0).collect::<Vec<_>>())
        .bind(digests.collect::<Vec<_>>())
        .bind(from)
        .bind(sql::millis(now))
        .fetch_one(work.conn())
        .await?;
    Ok(row.try_get(0)?)
}

/// Locks live tasks in the order of their numbers, in which callers who lock
/// several wait for each other and never in a circle.
pub(super) async fn lock(work: &mut Work, ids: &[i64]) -> Result<(), Fault> {
    sqlx::query("SELECT FROM tasks WHERE id = ANY ($1::int8[]) ORDER BY id FOR UPDATE")
        .bind(ids)
        .execute(work.conn())
        .await?;
    Ok(())
}

/// What a person asked for, in history's words.
pub(super) fn outcome_of(state: TaskState) -> &'static str {
    if state == TaskState::Dead { "failed" } else { "cancelled" }
}
