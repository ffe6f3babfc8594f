//! Batches that a node left: their tasks are pending again, with a loss or
//! without. A batch is a transaction of its own.

use async_trait::async_trait;
use sqlx::MySqlConnection;

use super::ending::{self, End};
use super::fault::Fault;
use super::sql::{self, given, json};
use super::successor;
use super::writing::{Command, Work};
use crate::domain::node::NodeId;
use crate::domain::time::Timestamp;
use crate::store::At;

/// What becomes of a batch's tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Left {
    /// Its node is dead: one more loss, and of a task that ran alone the loss
    /// is an attempt.
    Lost,
    /// Its node gave it up: as if never claimed.
    Released,
}

/// Puts the tasks of one batch back. Answers how many; none where the batch is
/// gone, or another is at it.
pub(super) struct PutBack {
    pub(super) fence: i64,
    pub(super) left: Left,
    pub(super) at: At,
}

#[async_trait]
impl Command for PutBack {
    type Answer = u64;

    async fn apply(&self, work: &mut Work<'_>) -> Result<u64, Fault> {
        let now = work.now(self.at);
        put_back(work.conn(), self.fence, self.left, now).await
    }
}

/// Puts the tasks of one batch back, within a transaction.
pub(super) async fn put_back(conn: &mut MySqlConnection, fence: i64, left: Left, now: Timestamp) -> Result<u64, Fault> {
    // A dead node's batches are shared among those who reap. The holder itself
    // waits for whoever writes back what it still holds.
    let batch = match left {
        Left::Lost => {
            sqlx::query_as("SELECT node, claimed_at, ids FROM batches WHERE fence = ? FOR UPDATE SKIP LOCKED")
        }
        Left::Released => sqlx::query_as("SELECT node, claimed_at, ids FROM batches WHERE fence = ? FOR UPDATE"),
    };
    let batch: Option<(i64, i64, String)> = batch.bind(fence).fetch_optional(&mut *conn).await?;
    let Some((node, claimed_at, ids)) = batch else { return Ok(0) };
    let mut ids: Vec<i64> = serde_json::from_str(&ids).map_err(sql::unreadable)?;
    ids.sort_unstable();
    let batch = Batch { fence, node, claimed_at };
    let running = lock(conn, &batch, &ids).await?;
    end_asked(conn, &batch, &running, now).await?;
    let rest: Vec<&Running> = running.iter().filter(|task| task.asked == 0).collect();
    let waiting: Vec<i64> = rest.iter().map(|task| task.id).collect();
    if !waiting.is_empty() {
        match left {
            Left::Lost => {
                let solo: Vec<i64> = rest.iter().filter(|task| task.solo).map(|task| task.id).collect();
                record_losses(conn, &batch, &solo, now).await?;
                update(conn, LOSE, &waiting).await?;
            }
            Left::Released => update(conn, RELEASE, &waiting).await?,
        }
        let succeeded: Vec<i64> = rest.iter().filter(|task| task.succeeded).map(|task| task.id).collect();
        successor::merge(conn, &succeeded).await?;
    }
    forget(conn, &[fence]).await?;
    Ok(waiting.len() as u64)
}

/// Forgets batches of which nothing runs.
pub(super) async fn forget(conn: &mut MySqlConnection, fences: &[i64]) -> Result<(), Fault> {
    if fences.is_empty() {
        return Ok(());
    }
    sqlx::query(concat!(
        "DELETE batches FROM ",
        given!(),
        " STRAIGHT_JOIN batches FORCE INDEX (PRIMARY) ON batches.fence = given.id"
    ))
    .bind(json(&fences)?)
    .execute(conn)
    .await?;
    Ok(())
}

struct Batch {
    fence: i64,
    node: i64,
    claimed_at: i64,
}

/// A task of the batch that runs.
struct Running {
    id: i64,
    solo: bool,
    asked: i64,
    asked_why: Option<String>,
    succeeded: bool,
}

async fn lock(conn: &mut MySqlConnection, batch: &Batch, ids: &[i64]) -> Result<Vec<Running>, Fault> {
    let rows: Vec<(i64, bool, i64, Option<String>, bool)> = sqlx::query_as(concat!(
        "SELECT tasks.id, solo, asked, asked_why, next_enqueued_at IS NOT NULL FROM ",
        given!(),
        " STRAIGHT_JOIN tasks FORCE INDEX (PRIMARY) ON tasks.id = given.id
         WHERE fence = ? AND state = 1 FOR UPDATE"
    ))
    .bind(json(&ids)?)
    .bind(batch.fence)
    .fetch_all(conn)
    .await?;
    let running = |(id, solo, asked, asked_why, succeeded)| Running { id, solo, asked, asked_why, succeeded };
    Ok(rows.into_iter().map(running).collect())
}

/// Tasks of the batch that a person wants to end, end so.
async fn end_asked(
    conn: &mut MySqlConnection,
    batch: &Batch,
    running: &[Running],
    now: Timestamp,
) -> Result<(), Fault> {
    let mut ends = Vec::new();
    for task in running.iter().filter(|task| task.asked != 0) {
        let state = sql::task_state(task.asked)?;
        ends.push(End {
            id: task.id,
            state,
            outcome: ending::outcome_of(state),
            note: task.asked_why.as_deref(),
            attempted: true,
            started: sql::time(batch.claimed_at),
            ended: now,
            node: NodeId(batch.node),
            digest: None,
            succeeded: task.succeeded,
        });
    }
    ending::end(conn, &ends, now).await?;
    for end in &ends {
        // Nobody may write back under it any more.
        sqlx::query("UPDATE history SET fence = 0 WHERE id = ?").bind(end.id).execute(&mut *conn).await?;
    }
    Ok(())
}

async fn record_losses(conn: &mut MySqlConnection, batch: &Batch, ids: &[i64], now: Timestamp) -> Result<(), Fault> {
    if ids.is_empty() {
        return Ok(());
    }
    sqlx::query(concat!(
        "INSERT INTO attempts (task, number, fence, started_at, ended_at, node, digest, outcome, error)
         SELECT tasks.id, attempt + 1, NULL, ?, ?, ?, NULL, 'lost', 'the host was lost while the task ran' FROM ",
        given!(),
        " STRAIGHT_JOIN tasks FORCE INDEX (PRIMARY) ON tasks.id = given.id"
    ))
    .bind(batch.claimed_at)
    .bind(sql::millis(now))
    .bind(batch.node)
    .bind(json(&ids)?)
    .execute(conn)
    .await?;
    Ok(())
}

/// The fence goes, so that a late write-back finds no trace of its claim.
const LOSE: &str = concat!(
    "UPDATE ",
    given!(),
    " STRAIGHT_JOIN tasks FORCE INDEX (PRIMARY) ON tasks.id = given.id
     SET state = 0, losses = losses + 1, attempt = attempt + solo, solo = 0, backoff = 0,
         fence = 0, note = 'the host was lost while it held the task'"
);

const RELEASE: &str = concat!(
    "UPDATE ",
    given!(),
    " STRAIGHT_JOIN tasks FORCE INDEX (PRIMARY) ON tasks.id = given.id
     SET state = 0, solo = 0, backoff = 0, fence = 0"
);

async fn update(conn: &mut MySqlConnection, sql: &'static str, ids: &[i64]) -> Result<(), Fault> {
    sqlx::query(sql).bind(json(&ids)?).execute(conn).await?;
    Ok(())
}
