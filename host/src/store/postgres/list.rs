//! Tasks as people see them, live and ended.
//!
//! A page is found first as numbers, each from a short range of an index, then
//! read: a page costs the same however long the queue and the history are.

use sqlx::Row as _;
use sqlx::postgres::{PgConnection, PgRow};

use super::fault::Fault;
use super::sql;
use crate::domain::job::JobId;
use crate::domain::node::{Holding, NodeId, NodeView};
use crate::domain::task::{AttemptView, TaskId, TaskState, TaskView};
use crate::store::{Cancellation, TaskFilter};

/// A page of tasks, ascending by number.
pub(super) async fn tasks(conn: &mut PgConnection, filter: &TaskFilter) -> Result<Vec<TaskView>, Fault> {
    let mut ids = numbers(conn, filter).await?;
    ids.sort_unstable();
    ids.dedup();
    ids.truncate(filter.limit as usize);
    read(conn, ids).await
}

/// One task.
pub(super) async fn task(conn: &mut PgConnection, id: TaskId) -> Result<Option<TaskView>, Fault> {
    Ok(read(conn, vec![sql::id(id)]).await?.pop())
}

/// Looks among the live ones first: a task moves from there to history, never
/// back, so that none is missed between the two looks.
async fn read(conn: &mut PgConnection, mut ids: Vec<i64>) -> Result<Vec<TaskView>, Fault> {
    let live = "SELECT tasks.id, jobs.name, key, payload, state, priority, enqueued_at, run_at, attempt, losses,
                       note, NULL::text, NULL::bytea, NULL::int8, next_enqueued_at IS NOT NULL,
                       (SELECT nodes.name FROM batches JOIN nodes ON nodes.id = node
                        WHERE batches.fence = tasks.fence AND state = 1)
                FROM tasks JOIN jobs ON jobs.id = job WHERE tasks.id = ANY ($1::int8[])";
    let ended = "SELECT history.id, jobs.name, key, payload, state, priority, enqueued_at, run_at, attempt, losses,
                        note, outcome, digest, finished_at, FALSE,
                        (SELECT nodes.name FROM nodes WHERE nodes.id = history.node)
                 FROM history JOIN jobs ON jobs.id = job WHERE history.id = ANY ($1::int8[])";
    let mut views = Vec::with_capacity(ids.len());
    for look in [live, ended] {
        if ids.is_empty() {
            break;
        }
        for row in sqlx::query(look).bind(&ids).fetch_all(&mut *conn).await? {
            views.push(view(&row)?);
        }
        views.sort_unstable_by_key(|view: &TaskView| view.id);
        ids.retain(|id| views.binary_search_by_key(id, |view| sql::id(view.id)).is_err());
    }
    Ok(views)
}

fn view(row: &PgRow) -> Result<TaskView, Fault> {
    Ok(TaskView {
        id: sql::task_id(row.try_get(0)?),
        job: row.try_get(1)?,
        key: sql::key(row.try_get(2)?)?,
        payload: row.try_get(3)?,
        state: sql::task_state(row.try_get(4)?)?,
        priority: sql::task_priority(row.try_get(5)?)?,
        enqueued_at: sql::time(row.try_get(6)?),
        run_at: sql::time(row.try_get(7)?),
        attempts: sql::count(row.try_get(8)?),
        losses: sql::count(row.try_get(9)?),
        note: row.try_get(10)?,
        outcome: row.try_get(11)?,
        digest: sql::digest(row, 12)?,
        finished_at: row.try_get::<Option<i64>, _>(13)?.map(sql::time),
        successor: row.try_get(14)?,
        node: row.try_get(15)?,
    })
}

/// The attempts of a task: the earlier ones, and the last of an ended one.
pub(super) async fn attempts(conn: &mut PgConnection, id: TaskId) -> Result<Vec<AttemptView>, Fault> {
    let rows = sqlx::query(
        "SELECT number, attempts.started_at, attempts.ended_at, nodes.name, digest, outcome, error
         FROM attempts LEFT JOIN nodes ON nodes.id = node WHERE task = $1
         UNION ALL
         SELECT attempt, history.started_at, history.ended_at, nodes.name, digest, outcome, note
         FROM history LEFT JOIN nodes ON nodes.id = node
         WHERE history.id = $1 AND attempt > coalesce((SELECT max(number) FROM attempts WHERE task = $1), 0)
         ORDER BY 1",
    )
    .bind(sql::id(id))
    .fetch_all(conn)
    .await?;
    let attempt = |row: &PgRow| {
        Ok(AttemptView {
            number: sql::count(row.try_get(0)?),
            started_at: sql::time(row.try_get(1)?),
            ended_at: sql::time(row.try_get(2)?),
            node: row.try_get(3)?,
            digest: sql::digest(row, 4)?,
            outcome: row.try_get(5)?,
            note: row.try_get(6)?,
        })
    };
    rows.iter().map(attempt).collect()
}

/// The numbers of the page, and perhaps more.
async fn numbers(conn: &mut PgConnection, filter: &TaskFilter) -> Result<Vec<i64>, Fault> {
    let mut ids = Vec::new();
    for state in TaskState::ALL.into_iter().filter(|state| filter.state.is_none_or(|only| only == *state)) {
        ids.extend(match state {
            TaskState::Pending => pending(conn, filter).await?,
            TaskState::Running => page(conn, RUNNING, filter).await?,
            ended => in_history(conn, ended, filter).await?,
        });
    }
    Ok(ids)
}

/// By the batches, which list all that runs.
const RUNNING: &str = "
    SELECT tasks.id FROM batches CROSS JOIN LATERAL unnest(ids) AS listed (id)
    JOIN tasks ON tasks.id = listed.id AND tasks.fence = batches.fence
    WHERE tasks.id > $1 AND tasks.state = 1 AND ($2::int8 IS NULL OR batches.job = $2)
    ORDER BY tasks.id LIMIT $3";

/// All of one job's tasks, by the job.
const PENDING_OF_FEW: &str = "
    SELECT id FROM (SELECT id, state FROM tasks WHERE job = $2 OFFSET 0) AS few
    WHERE id > $1 AND state = 0 ORDER BY id LIMIT $3";

/// In the order of numbers, until the page is full.
const PENDING_OF_MANY: &str = "
    SELECT id FROM (SELECT id, job, state FROM tasks WHERE id > $1 ORDER BY id OFFSET 0) AS many
    WHERE state = 0 AND ($2::int8 IS NULL OR job = $2) LIMIT $3";

/// A job with few tasks may stand behind millions of another's: those are
/// found by their job. Many are found by number, where the page soon is full.
async fn pending(conn: &mut PgConnection, filter: &TaskFilter) -> Result<Vec<i64>, Fault> {
    let few = match filter.job {
        Some(job) => is_small(conn, job).await?,
        None => false,
    };
    page(conn, if few { PENDING_OF_FEW } else { PENDING_OF_MANY }, filter).await
}

async fn is_small(conn: &mut PgConnection, job: JobId) -> Result<bool, Fault> {
    let sql = "SELECT count(*) <= 10000 FROM (SELECT FROM tasks WHERE job = $1 LIMIT 10001) AS first";
    Ok(sqlx::query(sql).bind(job.0).fetch_one(conn).await?.try_get(0)?)
}

async fn page(conn: &mut PgConnection, sql: &'static str, filter: &TaskFilter) -> Result<Vec<i64>, Fault> {
    let rows = sqlx::query(sql)
        .bind(after(filter))
        .bind(filter.job.map(|job| job.0))
        .bind(i64::from(filter.limit))
        .fetch_all(conn)
        .await?;
    Ok(rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?)
}

/// One range of the index a job.
async fn in_history(conn: &mut PgConnection, state: TaskState, filter: &TaskFilter) -> Result<Vec<i64>, Fault> {
    let rows = sqlx::query(
        "SELECT listed.id FROM jobs CROSS JOIN LATERAL (
             SELECT id FROM history WHERE history.job = jobs.id AND state = $2 AND id > $1 ORDER BY id LIMIT $4) AS listed
         WHERE $3::int8 IS NULL OR jobs.id = $3",
    )
    .bind(after(filter))
    .bind(sql::state(state))
    .bind(filter.job.map(|job| job.0))
    .bind(i64::from(filter.limit))
    .fetch_all(conn)
    .await?;
    Ok(rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?)
}

fn after(filter: &TaskFilter) -> i64 {
    filter.after.map_or(0, sql::id)
}

/// Running tasks of a node that a person wants to end.
pub(super) async fn cancellations(conn: &mut PgConnection, node: NodeId) -> Result<Vec<Cancellation>, Fault> {
    let rows = sqlx::query(
        "SELECT tasks.job, tasks.id, tasks.fence
         FROM batches CROSS JOIN LATERAL unnest(ids) AS listed (id)
         JOIN tasks ON tasks.id = listed.id AND tasks.fence = batches.fence
         WHERE node = $1 AND state = 1 AND asked <> 0",
    )
    .bind(node.0)
    .fetch_all(conn)
    .await?;
    let cancellation = |row: &PgRow| {
        let (task, fence) = (sql::task_id(row.try_get(1)?), sql::to_fence(row.try_get(2)?));
        Ok(Cancellation { job: JobId(row.try_get(0)?), task, fence })
    };
    rows.iter().map(cancellation).collect()
}

/// Lives that have not ended, with what they hold.
pub(super) async fn nodes(conn: &mut PgConnection) -> Result<Vec<NodeView>, Fault> {
    let rows = sqlx::query(
        "SELECT id, name, labels, version, started_at, expires FROM nodes WHERE ended_at IS NULL ORDER BY id",
    )
    .fetch_all(&mut *conn)
    .await?;
    let node = |row: &PgRow| {
        Ok(NodeView {
            id: NodeId(row.try_get(0)?),
            name: row.try_get(1)?,
            labels: row.try_get::<&str, _>(2)?.split_whitespace().map(str::to_owned).collect(),
            version: row.try_get(3)?,
            started_at: sql::time(row.try_get(4)?),
            lease_until: Some(sql::time(row.try_get(5)?)),
            holds: Vec::new(),
        })
    };
    let mut nodes = rows.iter().map(node).collect::<Result<Vec<_>, Fault>>()?;
    let held = sqlx::query(
        "SELECT node, jobs.name, count(*)
         FROM batches CROSS JOIN LATERAL unnest(ids) AS listed (id)
         JOIN tasks ON tasks.id = listed.id AND tasks.fence = batches.fence
         JOIN jobs ON jobs.id = tasks.job
         WHERE state = 1 GROUP BY node, jobs.name ORDER BY node, jobs.name",
    )
    .fetch_all(conn)
    .await?;
    for row in held {
        let id = NodeId(row.try_get(0)?);
        if let Some(node) = nodes.iter_mut().find(|node| node.id == id) {
            node.holds.push(Holding { job: row.try_get(1)?, tasks: row.try_get::<i64, _>(2)?.unsigned_abs() });
        }
    }
    Ok(nodes)
}
