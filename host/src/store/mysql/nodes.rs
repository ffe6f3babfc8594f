//! Lives of nodes and their leases. Whoever takes over from a node ends its
//! life first: from then on it claims nothing more, and what it claimed is
//! found by its batches, also what it committed at that very moment.

use async_trait::async_trait;
use sqlx::MySqlConnection;

use super::Shared;
use super::batches::{self, Left, PutBack};
use super::fault::Fault;
use super::sql;
use super::writing::{Command, Work};
use crate::domain::job::JobId;
use crate::domain::node::{LeaseTerm, NewNode, NodeId};
use crate::domain::task::Fence;
use crate::domain::time::Timestamp;
use crate::store::{At, Heartbeat, Incarnation, Reaped, StoreError};

/// [`Store::begin_incarnation`](crate::store::Store::begin_incarnation).
pub(super) struct Begin {
    pub(super) node: NewNode,
    pub(super) at: At,
}

#[async_trait]
impl Command for Begin {
    type Answer = Incarnation;

    const REPEATABLE: bool = false;

    async fn apply(&self, work: &mut Work<'_>) -> Result<Incarnation, Fault> {
        let now = work.now(self.at);
        let NewNode { name, labels, version, lease } = &self.node;
        let begun = sqlx::query(
            "INSERT INTO nodes (name, labels, version, started_at, expires, lease) VALUES (?, ?, ?, ?, ?, ?)",
        )
        .bind(name)
        .bind(labels.join(" "))
        .bind(version)
        .bind(sql::millis(now))
        .bind(sql::millis(lease.ends(now)))
        .bind(sql::millis(lease.ends(Timestamp(0))))
        .execute(work.conn())
        .await?;
        let node = NodeId(i64::try_from(begun.last_insert_id()).unwrap_or(i64::MAX));
        Ok(Incarnation { node, recovered: 0 })
    }
}

/// [`Store::heartbeat`](crate::store::Store::heartbeat).
pub(super) struct Beat {
    pub(super) node: NodeId,
    pub(super) lease: LeaseTerm,
    pub(super) at: At,
}

#[async_trait]
impl Command for Beat {
    type Answer = Heartbeat;

    async fn apply(&self, work: &mut Work<'_>) -> Result<Heartbeat, Fault> {
        let expires = self.lease.ends(work.now(self.at));
        // A lease that has passed but was not ended is still the node's.
        let held = sqlx::query("UPDATE nodes SET expires = ? WHERE id = ? AND ended_at IS NULL")
            .bind(sql::millis(expires))
            .bind(self.node.0)
            .execute(work.conn())
            .await?;
        // Rows that were found, changed or not.
        if held.rows_affected() == 0 {
            return Ok(Heartbeat::Lost);
        }
        let asked: i64 =
            sqlx::query_scalar("SELECT asked FROM nodes WHERE id = ?").bind(self.node.0).fetch_one(work.conn()).await?;
        Ok(Heartbeat::Held { asked: asked.unsigned_abs() })
    }
}

/// Ends a life, with what it still holds.
struct End {
    node: NodeId,
    at: At,
}

#[async_trait]
impl Command for End {
    type Answer = ();

    async fn apply(&self, work: &mut Work<'_>) -> Result<(), Fault> {
        let now = work.now(self.at);
        sqlx::query("UPDATE nodes SET ended_at = ? WHERE id = ? AND ended_at IS NULL")
            .bind(sql::millis(now))
            .bind(self.node.0)
            .execute(work.conn())
            .await?;
        for (fence, _) in of_node(work.conn(), self.node).await? {
            batches::put_back(work.conn(), fence, Left::Released, now).await?;
        }
        Ok(())
    }
}

/// Ends the lives whose leases have ended; answers how many.
struct EndExpired(At);

#[async_trait]
impl Command for EndExpired {
    type Answer = u64;

    async fn apply(&self, work: &mut Work<'_>) -> Result<u64, Fault> {
        let now = sql::millis(work.now(self.0));
        let ended = sqlx::query("UPDATE nodes SET ended_at = ? WHERE ended_at IS NULL AND expires <= ?")
            .bind(now)
            .bind(now)
            .execute(work.conn())
            .await?;
        Ok(ended.rows_affected())
    }
}

impl Shared {
    /// [`Store::end_incarnation`](crate::store::Store::end_incarnation).
    pub(super) async fn end_incarnation(&self, node: NodeId, at: At) -> Result<(), StoreError> {
        // Batch by batch while it lives, and the rest with its end: what is
        // left of a life that has ended would be taken for lost.
        for (fence, _) in self.batches(node).await? {
            self.write(&PutBack { fence, left: Left::Released, at }).await?;
        }
        self.write(&End { node, at }).await
    }

    /// [`Store::release_unheld`](crate::store::Store::release_unheld).
    pub(super) async fn release_unheld(
        &self,
        node: NodeId,
        job: JobId,
        held: &[Fence],
        at: At,
    ) -> Result<u64, StoreError> {
        let mut released = 0;
        for (fence, of) in self.batches(node).await? {
            if of == job.0 && !held.contains(&sql::task_fence(fence)) {
                released += self.write(&PutBack { fence, left: Left::Released, at }).await?;
            }
        }
        Ok(released)
    }

    /// [`Store::reap`](crate::store::Store::reap).
    pub(super) async fn reap(&self, at: At) -> Result<Reaped, StoreError> {
        let nodes = self.write(&EndExpired(at)).await?;
        let mut tasks = 0;
        for fence in self.server.read(async |conn| of_the_dead(conn).await).await? {
            tasks += self.write(&PutBack { fence, left: Left::Lost, at }).await?;
        }
        Ok(Reaped { nodes, tasks })
    }

    async fn batches(&self, node: NodeId) -> Result<Vec<(i64, i64)>, StoreError> {
        self.server.read(async |conn| of_node(conn, node).await).await
    }
}

/// The batches of a node, each with its job.
async fn of_node(conn: &mut MySqlConnection, node: NodeId) -> Result<Vec<(i64, i64)>, Fault> {
    let select = sqlx::query_as("SELECT fence, job FROM batches FORCE INDEX (held) WHERE node = ? ORDER BY fence");
    Ok(select.bind(node.0).fetch_all(conn).await?)
}

/// The batches of nodes whose lives have ended.
async fn of_the_dead(conn: &mut MySqlConnection) -> Result<Vec<i64>, Fault> {
    let select = sqlx::query_scalar(
        "SELECT fence FROM batches JOIN nodes ON nodes.id = node WHERE ended_at IS NOT NULL ORDER BY fence",
    );
    Ok(select.fetch_all(conn).await?)
}

/// Refuses a node whose life has ended.
pub(super) async fn must_live(conn: &mut MySqlConnection, node: NodeId) -> Result<(), Fault> {
    let lives: bool = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM nodes WHERE id = ? AND ended_at IS NULL)")
        .bind(node.0)
        .fetch_one(conn)
        .await?;
    if lives { Ok(()) } else { Err(has_ended(node)) }
}

/// Somebody took over from it, or it ended itself.
pub(super) fn has_ended(node: NodeId) -> Fault {
    Fault::Refused(format!("the life of node number {node} has ended"))
}
