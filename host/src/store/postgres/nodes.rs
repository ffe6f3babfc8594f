//! Lives of nodes: their leases, and what becomes of what they held.
//!
//! Whoever reaps ends a life first, in a commit of its own: from then on it
//! claims nothing, and its heartbeat tells it that it is over. Its batches are
//! then taken over, and so are those that it committed in the last instant.

use async_trait::async_trait;
use sqlx::Row as _;
use sqlx::postgres::PgConnection;

use super::Command;
use super::ending::{self, End};
use super::fault::Fault;
use super::sql;
use super::writing::Work;
use crate::domain::job::JobId;
use crate::domain::node::{LeaseTerm, NewNode, NodeId};
use crate::domain::task::{Fence, TaskState};
use crate::domain::time::Timestamp;
use crate::store::{At, Heartbeat, Incarnation};

/// Tasks that one transaction puts back, about.
const TOGETHER: usize = 10_000;

/// [`Store::begin_incarnation`](crate::store::Store::begin_incarnation).
pub(super) struct Begin {
    pub(super) node: NewNode,
    pub(super) at: At,
}

#[async_trait]
impl Command for Begin {
    type Answer = Incarnation;

    async fn apply(&self, work: &mut Work) -> Result<Incarnation, Fault> {
        let now = work.now(self.at);
        let NewNode { name, labels, version, lease } = &self.node;
        let row = sqlx::query(
            "INSERT INTO nodes (name, labels, version, started_at, expires, lease)
             VALUES ($1, $2, $3, $4, $5, $6) RETURNING id",
        )
        .bind(name)
        .bind(labels.join(" "))
        .bind(version)
        .bind(sql::millis(now))
        .bind(sql::millis(lease.ends(now)))
        .bind(sql::millis(lease.ends(Timestamp(0))))
        .fetch_one(work.conn())
        .await?;
        Ok(Incarnation { node: NodeId(row.try_get(0)?), recovered: 0 })
    }
}

/// [`Store::heartbeat`](crate::store::Store::heartbeat). A life whose lease has
/// passed is held on to, as long as nobody reaped it.
pub(super) struct Beat {
    pub(super) node: NodeId,
    pub(super) lease: LeaseTerm,
    pub(super) at: At,
}

#[async_trait]
impl Command for Beat {
    type Answer = Heartbeat;

    async fn apply(&self, work: &mut Work) -> Result<Heartbeat, Fault> {
        let expires = self.lease.ends(work.now(self.at));
        let beat = sqlx::query("UPDATE nodes SET expires = $2 WHERE id = $1 AND ended_at IS NULL RETURNING asked")
            .bind(self.node.0)
            .bind(sql::millis(expires))
            .fetch_optional(work.conn())
            .await?;
        Ok(match beat {
            Some(row) => Heartbeat::Held { asked: row.try_get::<i64, _>(0)?.unsigned_abs() },
            None => Heartbeat::Lost,
        })
    }
}

/// [`Store::end_incarnation`](crate::store::Store::end_incarnation).
pub(super) struct Finish {
    pub(super) node: NodeId,
    pub(super) at: At,
}

#[async_trait]
impl Command for Finish {
    type Answer = ();

    async fn apply(&self, work: &mut Work) -> Result<(), Fault> {
        let now = work.now(self.at);
        sqlx::query("UPDATE nodes SET ended_at = $2 WHERE id = $1 AND ended_at IS NULL")
            .bind(self.node.0)
            .bind(sql::millis(now))
            .execute(work.conn())
            .await?;
        let sql = "SELECT fence FROM batches WHERE node = $1 ORDER BY fence FOR UPDATE";
        let rows = sqlx::query(sql).bind(self.node.0).fetch_all(work.conn()).await?;
        let fences = rows.iter().map(|row| row.try_get(0)).collect::<Result<Vec<i64>, _>>()?;
        put_back(work, &fences, PutBack::Released, now).await?;
        Ok(())
    }
}

/// [`Store::release_unheld`](crate::store::Store::release_unheld).
pub(super) struct ReleaseUnheld {
    pub(super) node: NodeId,
    pub(super) job: JobId,
    pub(super) held: Vec<Fence>,
    pub(super) at: At,
}

#[async_trait]
impl Command for ReleaseUnheld {
    type Answer = u64;

    async fn apply(&self, work: &mut Work) -> Result<u64, Fault> {
        let now = work.now(self.at);
        let held: Vec<i64> = self.held.iter().map(|fence| sql::fence(*fence)).collect();
        let rows = sqlx::query(
            "SELECT fence FROM batches WHERE node = $1 AND job = $2 AND fence <> ALL ($3::int8[])
             ORDER BY fence FOR UPDATE",
        )
        .bind(self.node.0)
        .bind(self.job.0)
        .bind(held)
        .fetch_all(work.conn())
        .await?;
        let fences = rows.iter().map(|row| row.try_get(0)).collect::<Result<Vec<i64>, _>>()?;
        put_back(work, &fences, PutBack::Released, now).await
    }
}

/// The first part of [`Store::reap`](crate::store::Store::reap): ends the lives
/// whose lease has; answers how many.
pub(super) struct EndLeases(pub(super) At);

#[async_trait]
impl Command for EndLeases {
    type Answer = u64;

    async fn apply(&self, work: &mut Work) -> Result<u64, Fault> {
        let now = sql::millis(work.now(self.0));
        let ended = sqlx::query("UPDATE nodes SET ended_at = $1 WHERE ended_at IS NULL AND expires <= $1")
            .bind(now)
            .execute(work.conn())
            .await?;
        Ok(ended.rows_affected())
    }
}

/// The second part: takes over some batches of ended lives. Several nodes may
/// do so at once; each batch is taken over by one.
pub(super) struct TakeOver(pub(super) At);

/// What was taken over.
pub(super) struct Taken {
    pub(super) tasks: u64,
    /// There may be more.
    pub(super) more: bool,
}

#[async_trait]
impl Command for TakeOver {
    type Answer = Taken;

    async fn apply(&self, work: &mut Work) -> Result<Taken, Fault> {
        let now = work.now(self.0);
        let rows = sqlx::query(
            "SELECT fence, cardinality(ids) FROM batches
             WHERE NOT EXISTS (SELECT FROM nodes WHERE nodes.id = batches.node AND ended_at IS NULL)
             ORDER BY fence LIMIT 100 FOR UPDATE OF batches SKIP LOCKED",
        )
        .fetch_all(work.conn())
        .await?;
        let (mut fences, mut tasks) = (Vec::new(), 0);
        for row in &rows {
            fences.push(row.try_get(0)?);
            tasks += usize::try_from(row.try_get::<i32, _>(1)?).unwrap_or_default();
            if tasks >= TOGETHER {
                break;
            }
        }
        let tasks = put_back(work, &fences, PutBack::Lost, now).await?;
        Ok(Taken { tasks, more: !fences.is_empty() })
    }
}

/// Refuses a node whose life has ended: nobody would reap what it takes.
pub(super) async fn must_live(conn: &mut PgConnection, node: NodeId) -> Result<(), Fault> {
    let sql = "SELECT FROM nodes WHERE id = $1 AND ended_at IS NULL";
    match sqlx::query(sql).bind(node.0).fetch_optional(conn).await? {
        Some(_) => Ok(()),
        None => Err(Fault::Refused(format!("the life of node number {node} has ended"))),
    }
}

/// Why a node's tasks are pending again.
#[derive(Clone, Copy, PartialEq, Eq)]
enum PutBack {
    /// It gave them up: as if never claimed.
    Released,
    /// It was lost: one more loss, and of a task that ran alone an attempt.
    Lost,
}

/// The running tasks of the batches `$1`.
macro_rules! held {
    () => {
        "FROM batches CROSS JOIN LATERAL unnest(ids) AS listed (id)
         JOIN tasks ON tasks.id = listed.id AND tasks.fence = batches.fence AND tasks.state = 1
         WHERE batches.fence = ANY ($1::int8[])"
    };
}

/// Puts the tasks of locked batches back and forgets the batches. The fence
/// goes, so that a late write-back finds no trace of its claim. Answers how
/// many tasks wait again.
async fn put_back(work: &mut Work, fences: &[i64], why: PutBack, now: Timestamp) -> Result<u64, Fault> {
    if fences.is_empty() {
        return Ok(0);
    }
    let conn = work.conn();
    let lock = concat!("SELECT tasks.id ", held!(), " ORDER BY tasks.id FOR UPDATE OF tasks");
    let rows = sqlx::query(lock).bind(fences).fetch_all(&mut *conn).await?;
    let ids = rows.iter().map(|row| row.try_get(0)).collect::<Result<Vec<i64>, _>>()?;
    end_asked(work, fences, now).await?;
    let conn = work.conn();
    if why == PutBack::Lost {
        let record = concat!(
            "INSERT INTO attempts (task, number, fence, started_at, ended_at, node, digest, outcome, error)
             SELECT tasks.id, attempt + 1, NULL, claimed_at, $2, node, NULL, 'lost',
                    'the host was lost while the task ran' ",
            held!(),
            " AND solo"
        );
        sqlx::query(record).bind(fences).bind(sql::millis(now)).execute(&mut *conn).await?;
    }
    let back = sqlx::query(
        "UPDATE tasks
         SET state = 0, solo = FALSE, backoff = FALSE, fence = 0,
             losses = losses + $3::int4,
             attempt = attempt + CASE WHEN solo THEN $3::int4 ELSE 0 END,
             note = CASE $3::int4 WHEN 0 THEN note ELSE 'the host was lost while it held the task' END,
             priority = least(priority, next_priority),
             run_at = least(run_at, next_run_at),
             waits_from = CASE WHEN next_run_at < run_at THEN next_waits_from ELSE waits_from END,
             payload = coalesce(next_payload, payload),
             next_enqueued_at = NULL, next_run_at = NULL, next_waits_from = NULL, next_priority = NULL,
             next_payload = NULL
         WHERE id = ANY ($2::int8[]) AND fence = ANY ($1::int8[]) AND state = 1",
    )
    .bind(fences)
    .bind(ids)
    .bind(i32::from(why == PutBack::Lost))
    .execute(&mut *conn)
    .await?;
    sqlx::query("DELETE FROM batches WHERE fence = ANY ($1::int8[])").bind(fences).execute(conn).await?;
    Ok(back.rows_affected())
}

/// Tasks of the batches that a person wants to end, end so.
async fn end_asked(work: &mut Work, fences: &[i64], now: Timestamp) -> Result<(), Fault> {
    let asked = concat!(
        "SELECT tasks.id, tasks.fence, asked, asked_why, claimed_at, node ",
        held!(),
        " AND asked <> 0 ORDER BY tasks.id"
    );
    let rows = sqlx::query(asked).bind(fences).fetch_all(work.conn()).await?;
    let mut ends = Vec::with_capacity(rows.len());
    for row in &rows {
        let state: TaskState = sql::task_state(row.try_get(2)?)?;
        ends.push(End {
            id: row.try_get(0)?,
            fence: row.try_get(1)?,
            state,
            outcome: ending::outcome_of(state),
            note: row.try_get(3)?,
            attempted: true,
            started: sql::time(row.try_get(4)?),
            ended: now,
            node: NodeId(row.try_get(5)?),
            digest: None,
        });
    }
    let ended = ending::end(work, &ends, sql::RUNNING, now).await?;
    if !ended.is_empty() {
        // Nobody may write back under their fences any more.
        let forget = "UPDATE history SET fence = 0 WHERE id = ANY ($1)";
        sqlx::query(forget).bind(&ended).execute(work.conn()).await?;
    }
    Ok(())
}
