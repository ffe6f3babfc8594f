//! What becomes of a successor, the request for a key that came while it ran.
//! Whatever ends the run honours it in the same transaction:
//!
//! - the task ended: the successor is a task of its own, with a fresh number,
//!   in the same row, since a key has one live row;
//! - the task stays live (retried, postponed, released, lost): the successor
//!   merges into it as an enqueue of a pending task would, since the next
//!   execution of that task starts after the successor's commit anyway.
//!
//! An update of joined tables may read the old row or, from left to right, the
//! new one: every column is read before it is written, so that both are right.

use sqlx::MySqlConnection;

use super::fault::Fault;
use super::numbers;
use super::sql::{given, json};

/// Turns the rows of ended tasks into their successors.
pub(super) async fn promote(conn: &mut MySqlConnection, ids: &[i64]) -> Result<(), Fault> {
    if ids.is_empty() {
        return Ok(());
    }
    // Not from a block taken before: a successor's number is above its
    // predecessor's, whichever node gave that one out.
    let first = numbers::fresh(conn, i64::try_from(ids.len()).unwrap_or(i64::MAX)).await?;
    let renamed: Vec<(i64, i64)> = ids.iter().copied().zip(first..).collect();
    sqlx::query(
        "UPDATE JSON_TABLE(?, '$[*]' COLUMNS (id BIGINT PATH '$[0]', fresh BIGINT PATH '$[1]')) AS given
         STRAIGHT_JOIN tasks FORCE INDEX (PRIMARY) ON tasks.id = given.id
         SET tasks.id = given.fresh, state = 0, priority = next_priority, run_at = next_run_at,
             waits_from = next_waits_from, attempt = 0, losses = 0, solo = 0, backoff = 0, fence = 0, asked = 0, asked_why = NULL,
             enqueued_at = next_enqueued_at, postponed_since = NULL, removed = 0, note = NULL,
             payload = next_payload, next_enqueued_at = NULL, next_run_at = NULL, next_waits_from = NULL,
             next_priority = NULL, next_payload = NULL",
    )
    .bind(json(&renamed)?)
    .execute(conn)
    .await?;
    Ok(())
}

/// Merges the successors of pending tasks into them.
pub(super) async fn merge(conn: &mut MySqlConnection, ids: &[i64]) -> Result<(), Fault> {
    if ids.is_empty() {
        return Ok(());
    }
    sqlx::query(concat!(
        "UPDATE ",
        given!(),
        " STRAIGHT_JOIN tasks FORCE INDEX (PRIMARY) ON tasks.id = given.id
         SET priority = LEAST(priority, next_priority),
             waits_from = IF(backoff OR run_at <= next_run_at, waits_from, next_waits_from),
             run_at = IF(backoff, run_at, LEAST(run_at, next_run_at)),
             payload = COALESCE(next_payload, payload),
             next_enqueued_at = NULL, next_run_at = NULL, next_waits_from = NULL, next_priority = NULL,
             next_payload = NULL
         WHERE state = 0 AND next_enqueued_at IS NOT NULL"
    ))
    .bind(json(&ids)?)
    .execute(conn)
    .await?;
    Ok(())
}
