//! Tasks as people see them, live and ended.
//!
//! A page is found first as numbers, each from a short range of an index, then
//! read: a page costs the same however long the queue and the history are.

use std::collections::BTreeMap;

use sqlx::mysql::MySqlRow;
use sqlx::{MySqlConnection, Row as _};

use super::fault::Fault;
use super::sql::{self, given, held, json};
use crate::domain::job::JobId;
use crate::domain::task::{TaskId, TaskState, TaskView};
use crate::store::TaskFilter;

/// A page of tasks, ascending by number.
pub(super) async fn tasks(conn: &mut MySqlConnection, filter: &TaskFilter) -> Result<Vec<TaskView>, Fault> {
    let mut ids = numbers(conn, filter).await?;
    ids.sort_unstable();
    ids.dedup();
    ids.truncate(usize::try_from(filter.limit).unwrap_or(usize::MAX));
    read(conn, &ids).await
}

/// One task.
pub(super) async fn task(conn: &mut MySqlConnection, id: TaskId) -> Result<Option<TaskView>, Fault> {
    Ok(read(conn, &[sql::id(id)]).await?.pop())
}

/// The tasks of these numbers, live or ended, ascending.
async fn read(conn: &mut MySqlConnection, ids: &[i64]) -> Result<Vec<TaskView>, Fault> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let live = sqlx::query(concat!(
        "SELECT tasks.id, jobs.name, `key`, payload, state, priority, enqueued_at, run_at, attempt, losses,
                note, NULL, NULL, NULL, next_enqueued_at IS NOT NULL,
                (SELECT nodes.name FROM batches JOIN nodes ON nodes.id = node
                 WHERE batches.fence = tasks.fence AND state = 1)
         FROM ",
        given!(),
        " STRAIGHT_JOIN tasks FORCE INDEX (PRIMARY) ON tasks.id = given.id
          STRAIGHT_JOIN jobs ON jobs.id = tasks.job"
    ))
    .bind(json(&ids)?)
    .fetch_all(&mut *conn)
    .await?;
    let mut found = BTreeMap::new();
    for row in &live {
        found.insert(sql::int(row, 0)?, live_view(row)?);
    }
    // After the live ones: what ends between the two reads is seen.
    let left: Vec<i64> = ids.iter().copied().filter(|id| !found.contains_key(id)).collect();
    if !left.is_empty() {
        let ended = sqlx::query(concat!(
            "SELECT history.id, jobs.name, `key`, payload, state, priority, enqueued_at, run_at, attempt, losses,
                    note, outcome, digest, finished_at,
                    (SELECT nodes.name FROM nodes WHERE nodes.id = history.node)
             FROM ",
            given!(),
            " STRAIGHT_JOIN history FORCE INDEX (PRIMARY) ON history.id = given.id
              STRAIGHT_JOIN jobs ON jobs.id = history.job"
        ))
        .bind(json(&left)?)
        .fetch_all(conn)
        .await?;
        for row in &ended {
            found.insert(sql::int(row, 0)?, ended_view(row)?);
        }
    }
    Ok(found.into_values().collect())
}

fn live_view(row: &MySqlRow) -> Result<TaskView, Fault> {
    Ok(TaskView { successor: row.try_get(14)?, node: row.try_get(15)?, ..view(row)? })
}

fn ended_view(row: &MySqlRow) -> Result<TaskView, Fault> {
    Ok(TaskView {
        outcome: row.try_get(11)?,
        digest: sql::digest(row.try_get(12)?),
        finished_at: row.try_get::<Option<i64>, _>(13)?.map(sql::time),
        node: row.try_get(14)?,
        ..view(row)?
    })
}

/// What live and ended tasks have in common.
fn view(row: &MySqlRow) -> Result<TaskView, Fault> {
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
        outcome: None,
        digest: None,
        finished_at: None,
        node: None,
        successor: false,
    })
}

/// The numbers of the page, and perhaps more.
async fn numbers(conn: &mut MySqlConnection, filter: &TaskFilter) -> Result<Vec<i64>, Fault> {
    let jobs = match filter.job {
        Some(job) => vec![job.0],
        None => sqlx::query_scalar("SELECT id FROM jobs").fetch_all(&mut *conn).await?,
    };
    let mut ids = Vec::new();
    for state in TaskState::ALL.into_iter().filter(|state| filter.state.is_none_or(|only| only == *state)) {
        match state {
            TaskState::Pending => ids.extend(pending(conn, filter).await?),
            TaskState::Running => ids.extend(page(conn, RUNNING, filter).await?),
            ended => {
                for job in &jobs {
                    ids.extend(in_history(conn, *job, ended, filter).await?);
                }
            }
        }
    }
    Ok(ids)
}

/// A job with few tasks may stand behind millions of another's: those are
/// found by their job. Many are found by number, where the page soon is full.
async fn pending(conn: &mut MySqlConnection, filter: &TaskFilter) -> Result<Vec<i64>, Fault> {
    let few = match filter.job {
        Some(job) => is_small(conn, job).await?,
        None => false,
    };
    page(conn, if few { PENDING_OF_FEW } else { PENDING }, filter).await
}

async fn is_small(conn: &mut MySqlConnection, job: JobId) -> Result<bool, Fault> {
    let counted: i64 = sqlx::query_scalar(
        "SELECT COUNT(*) FROM (SELECT 1 FROM tasks FORCE INDEX (due) WHERE job = ? LIMIT 10001) AS counted",
    )
    .bind(job.0)
    .fetch_one(conn)
    .await?;
    Ok(counted <= 10_000)
}

const PENDING: &str = "SELECT id FROM tasks FORCE INDEX (PRIMARY)
     WHERE id > ? AND (? IS NULL OR job = ?) AND state = 0 ORDER BY id LIMIT ?";

const PENDING_OF_FEW: &str = "SELECT id FROM tasks FORCE INDEX (due)
     WHERE id > ? AND ? IS NOT NULL AND job = ? AND state = 0 ORDER BY id LIMIT ?";

/// By the batches, which list all that runs.
const RUNNING: &str = concat!(
    "SELECT tasks.id FROM batches STRAIGHT_JOIN ",
    held!(),
    " STRAIGHT_JOIN tasks FORCE INDEX (PRIMARY) ON tasks.id = held.id
     WHERE tasks.id > ? AND (? IS NULL OR batches.job = ?) AND tasks.fence = batches.fence AND state = 1
     ORDER BY tasks.id LIMIT ?"
);

async fn page(conn: &mut MySqlConnection, select: &'static str, filter: &TaskFilter) -> Result<Vec<i64>, Fault> {
    let job = filter.job.map(|job| job.0);
    let page = sqlx::query_scalar(select).bind(after(filter)).bind(job).bind(job).bind(i64::from(filter.limit));
    Ok(page.fetch_all(conn).await?)
}

async fn in_history(
    conn: &mut MySqlConnection,
    job: i64,
    state: TaskState,
    filter: &TaskFilter,
) -> Result<Vec<i64>, Fault> {
    let page = sqlx::query_scalar(
        "SELECT id FROM history FORCE INDEX (listed)
         WHERE job = ? AND state = ? AND id > ? ORDER BY id LIMIT ?",
    );
    let page = page.bind(job).bind(sql::state(state)).bind(after(filter)).bind(i64::from(filter.limit));
    Ok(page.fetch_all(conn).await?)
}

fn after(filter: &TaskFilter) -> i64 {
    filter.after.map_or(0, sql::id)
}
