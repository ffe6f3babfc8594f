//! Tasks end: their rows go to history, and what is left of them is free or
//! their successors'.

use sqlx::MySqlConnection;

use super::fault::Fault;
use super::sql::{self, given, json};
use super::successor;
use crate::domain::digest::Digest;
use crate::domain::node::NodeId;
use crate::domain::task::TaskState;
use crate::domain::time::Timestamp;

/// Ends in one statement; with the longest notes they fit the smallest packet
/// that servers take by default.
const TOGETHER: usize = 500;

/// How a task ends. Whoever makes one has locked its row.
pub(super) struct End<'a> {
    pub(super) id: i64,
    pub(super) state: TaskState,
    pub(super) outcome: &'static str,
    pub(super) note: Option<&'a str>,
    /// Whether this end was an attempt.
    pub(super) attempted: bool,
    pub(super) started: Timestamp,
    pub(super) ended: Timestamp,
    pub(super) node: NodeId,
    pub(super) digest: Option<Digest>,
    /// Whether a successor waits in its row.
    pub(super) succeeded: bool,
}

/// Ends tasks whose rows are locked.
pub(super) async fn end(conn: &mut MySqlConnection, ends: &[End<'_>], now: Timestamp) -> Result<(), Fault> {
    for ends in ends.chunks(TOGETHER) {
        record(conn, ends, now).await?;
        let (succeeded, gone): (Vec<_>, Vec<_>) = ends.iter().partition(|end| end.succeeded);
        let numbers = |ends: Vec<&End<'_>>| ends.iter().map(|end| end.id).collect::<Vec<_>>();
        delete(conn, &numbers(gone)).await?;
        successor::promote(conn, &numbers(succeeded)).await?;
    }
    Ok(())
}

async fn record(conn: &mut MySqlConnection, ends: &[End<'_>], now: Timestamp) -> Result<(), Fault> {
    // What many ends have in common is sent once: taking a list apart costs
    // the server as much as all else about it.
    let (mut kinds, mut rows) = (Vec::new(), Vec::with_capacity(ends.len()));
    for end in ends {
        let digest = end.digest.as_ref().map(|digest| sql::hex(digest.as_bytes()));
        let kind = (sql::state(end.state), i64::from(end.attempted), end.node.0, end.outcome, digest, end.note);
        // The last one's, as a rule.
        let place = kinds.iter().rposition(|known| *known == kind).unwrap_or_else(|| {
            kinds.push(kind);
            kinds.len() - 1
        });
        rows.push((end.id, place + 1, sql::millis(end.started), sql::millis(end.ended)));
    }
    sqlx::query(
        "INSERT INTO history
             (id, job, `key`, state, priority, run_at, attempt, losses, fence, enqueued_at,
              started_at, ended_at, finished_at, node, outcome, digest, note, payload)
         SELECT tasks.id, job, `key`, kinds.state, priority, run_at, attempt + kinds.attempted, losses, fence,
                enqueued_at, ends.started_at, ends.ended_at, ?, kinds.node, kinds.outcome, UNHEX(kinds.digest),
                kinds.note, payload
         FROM JSON_TABLE(?, '$[*]' COLUMNS (
                  id BIGINT PATH '$[0]', kind BIGINT PATH '$[1]',
                  started_at BIGINT PATH '$[2]', ended_at BIGINT PATH '$[3]')) AS ends
         STRAIGHT_JOIN JSON_TABLE(?, '$[*]' COLUMNS (
                  place FOR ORDINALITY, state TINYINT PATH '$[0]', attempted TINYINT PATH '$[1]',
                  node BIGINT PATH '$[2]', outcome VARCHAR(16) PATH '$[3]', digest VARCHAR(64) PATH '$[4]',
                  note TEXT PATH '$[5]')) AS kinds ON kinds.place = ends.kind
         STRAIGHT_JOIN tasks FORCE INDEX (PRIMARY) ON tasks.id = ends.id",
    )
    .bind(sql::millis(now))
    .bind(json(&rows)?)
    .bind(json(&kinds)?)
    .execute(conn)
    .await?;
    Ok(())
}

async fn delete(conn: &mut MySqlConnection, ids: &[i64]) -> Result<(), Fault> {
    if ids.is_empty() {
        return Ok(());
    }
    sqlx::query(concat!(
        "DELETE tasks FROM ",
        given!(),
        " STRAIGHT_JOIN tasks FORCE INDEX (PRIMARY) ON tasks.id = given.id"
    ))
    .bind(json(&ids)?)
    .execute(conn)
    .await?;
    Ok(())
}

/// What a person asked for, in history's words.
pub(super) fn outcome_of(state: TaskState) -> &'static str {
    if state == TaskState::Dead { "failed" } else { "cancelled" }
}
