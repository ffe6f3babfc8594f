//! What people see beside the tasks: attempts, nodes, and who is asked to end
//! what.

use sqlx::MySqlConnection;

use super::fault::Fault;
use super::sql::{self, held};
use crate::domain::job::JobId;
use crate::domain::node::{Holding, NodeId, NodeView};
use crate::domain::task::{AttemptView, TaskId};
use crate::store::Cancellation;

/// The attempts of a task: the earlier ones, and the last of an ended one.
pub(super) async fn attempts(conn: &mut MySqlConnection, id: TaskId) -> Result<Vec<AttemptView>, Fault> {
    type Columns = (i64, i64, i64, Option<String>, Option<Vec<u8>>, String, Option<String>);
    let rows: Vec<Columns> = sqlx::query_as(
        "SELECT number, attempts.started_at, attempts.ended_at, nodes.name, digest, outcome, error
         FROM attempts LEFT JOIN nodes ON nodes.id = node WHERE task = ?
         UNION ALL
         SELECT attempt, history.started_at, history.ended_at, nodes.name, digest, outcome, note
         FROM history LEFT JOIN nodes ON nodes.id = node
         WHERE history.id = ? AND attempt > COALESCE((SELECT MAX(number) FROM attempts WHERE task = ?), 0)
         ORDER BY 1",
    )
    .bind(sql::id(id))
    .bind(sql::id(id))
    .bind(sql::id(id))
    .fetch_all(conn)
    .await?;
    let attempt = |(number, started, ended, node, digest, outcome, note): Columns| AttemptView {
        number: sql::count(number),
        started_at: sql::time(started),
        ended_at: sql::time(ended),
        node,
        digest: sql::digest(digest),
        outcome,
        note,
    };
    Ok(rows.into_iter().map(attempt).collect())
}

/// Running tasks of a node that a person wants to end.
pub(super) async fn cancellations(conn: &mut MySqlConnection, node: NodeId) -> Result<Vec<Cancellation>, Fault> {
    let rows: Vec<(i64, i64, i64)> = sqlx::query_as(concat!(
        "SELECT tasks.job, tasks.id, tasks.fence FROM batches FORCE INDEX (held) STRAIGHT_JOIN ",
        held!(),
        " STRAIGHT_JOIN tasks FORCE INDEX (PRIMARY) ON tasks.id = held.id
         WHERE node = ? AND tasks.fence = batches.fence AND state = 1 AND asked <> 0"
    ))
    .bind(node.0)
    .fetch_all(conn)
    .await?;
    let cancellation =
        |(job, task, fence)| Cancellation { job: JobId(job), task: sql::task_id(task), fence: sql::task_fence(fence) };
    Ok(rows.into_iter().map(cancellation).collect())
}

/// Lives that have not ended, with what they hold.
pub(super) async fn nodes(conn: &mut MySqlConnection) -> Result<Vec<NodeView>, Fault> {
    type Columns = (i64, String, String, String, i64, i64);
    let rows: Vec<Columns> = sqlx::query_as(
        "SELECT id, name, labels, version, started_at, expires FROM nodes WHERE ended_at IS NULL ORDER BY id",
    )
    .fetch_all(&mut *conn)
    .await?;
    let holds: Vec<(i64, String, i64)> = sqlx::query_as(concat!(
        "SELECT node, jobs.name, COUNT(*) FROM batches STRAIGHT_JOIN ",
        held!(),
        " STRAIGHT_JOIN tasks FORCE INDEX (PRIMARY) ON tasks.id = held.id
          STRAIGHT_JOIN jobs ON jobs.id = tasks.job
         WHERE tasks.fence = batches.fence AND state = 1 GROUP BY node, jobs.name ORDER BY node, jobs.name"
    ))
    .fetch_all(conn)
    .await?;
    let node = |(id, name, labels, version, started_at, expires): Columns| NodeView {
        id: NodeId(id),
        name,
        labels: labels.split_whitespace().map(str::to_owned).collect(),
        version,
        started_at: sql::time(started_at),
        lease_until: Some(sql::time(expires)),
        holds: holds
            .iter()
            .filter(|(node, ..)| *node == id)
            .map(|(_, job, tasks)| Holding { job: job.clone(), tasks: tasks.unsigned_abs() })
            .collect(),
    };
    Ok(rows.into_iter().map(node).collect())
}
