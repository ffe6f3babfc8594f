//! Tasks as people see them, live and ended.
//!
//! A page is found first as numbers, each from a short range of an index, then
//! read: a page costs the same however long the queue and the history are.

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::fault::Fault;
use super::sql;
use crate::domain::job::JobId;
use crate::domain::node::{Holding, NodeId, NodeView};
use crate::domain::task::{AttemptView, Fence, TaskId, TaskState, TaskView};
use crate::store::{Cancellation, TaskFilter};

/// A page of tasks, ascending by number.
pub(super) fn tasks(conn: &Connection, filter: &TaskFilter) -> Result<Vec<TaskView>, Fault> {
    let mut ids = numbers(conn, filter)?;
    ids.sort_unstable();
    ids.truncate(filter.limit as usize);
    let mut found = Vec::with_capacity(ids.len());
    for id in ids {
        found.extend(task(conn, sql::task_id(id))?);
    }
    Ok(found)
}

/// One task.
pub(super) fn task(conn: &Connection, id: TaskId) -> Result<Option<TaskView>, Fault> {
    let live = conn
        .prepare_cached(
            "SELECT tasks.id, name, key, payload, state, priority, enqueued_at, run_at, attempt, losses,
                    note, NULL, NULL, NULL, next_enqueued_at IS NOT NULL,
                    (SELECT nodes.name FROM batches JOIN nodes ON nodes.id = node
                     WHERE batches.fence = tasks.fence AND state = 1)
             FROM tasks JOIN jobs ON jobs.id = job WHERE tasks.id = ?1",
        )?
        .query_row([sql::id(id)], view)
        .optional()?;
    if live.is_some() {
        return Ok(live);
    }
    let ended = conn
        .prepare_cached(
            "SELECT history.id, name, key, payload, state, priority, enqueued_at, run_at, attempt, losses,
                    note, outcome, digest, finished_at, FALSE,
                    (SELECT nodes.name FROM nodes WHERE nodes.id = history.node)
             FROM history JOIN jobs ON jobs.id = job WHERE history.id = ?1",
        )?
        .query_row([sql::id(id)], view)
        .optional()?;
    Ok(ended)
}

fn view(row: &Row<'_>) -> rusqlite::Result<TaskView> {
    Ok(TaskView {
        id: sql::task_id(row.get(0)?),
        job: row.get(1)?,
        key: sql::key(row.get(2)?)?,
        payload: row.get(3)?,
        state: sql::task_state(row.get(4)?)?,
        priority: sql::task_priority(row.get(5)?)?,
        enqueued_at: sql::time(row.get(6)?),
        run_at: sql::time(row.get(7)?),
        attempts: sql::count(row.get(8)?),
        losses: sql::count(row.get(9)?),
        note: row.get(10)?,
        outcome: row.get(11)?,
        digest: sql::digest(row.get_ref(12)?.as_blob_or_null()?),
        finished_at: row.get::<_, Option<i64>>(13)?.map(sql::time),
        successor: row.get(14)?,
        node: row.get(15)?,
    })
}

/// The attempts of a task: the earlier ones, and the last of an ended one.
pub(super) fn attempts(conn: &Connection, id: TaskId) -> Result<Vec<AttemptView>, Fault> {
    let mut select = conn.prepare_cached(
        "SELECT number, attempts.started_at, attempts.ended_at, nodes.name, digest, outcome, error
         FROM attempts LEFT JOIN nodes ON nodes.id = node WHERE task = ?1
         UNION ALL
         SELECT attempt, history.started_at, history.ended_at, nodes.name, digest, outcome, note
         FROM history LEFT JOIN nodes ON nodes.id = node
         WHERE history.id = ?1 AND attempt > coalesce((SELECT max(number) FROM attempts WHERE task = ?1), 0)
         ORDER BY 1",
    )?;
    let attempt = |row: &Row<'_>| {
        Ok(AttemptView {
            number: sql::count(row.get(0)?),
            started_at: sql::time(row.get(1)?),
            ended_at: sql::time(row.get(2)?),
            node: row.get(3)?,
            digest: sql::digest(row.get_ref(4)?.as_blob_or_null()?),
            outcome: row.get(5)?,
            note: row.get(6)?,
        })
    };
    let rows = select.query_map([sql::id(id)], attempt)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// The numbers of the page, and perhaps more.
fn numbers(conn: &Connection, filter: &TaskFilter) -> Result<Vec<i64>, Fault> {
    let jobs = match filter.job {
        Some(job) => vec![job.0],
        None => all_jobs(conn)?,
    };
    let mut ids = Vec::new();
    for state in TaskState::ALL.into_iter().filter(|state| filter.state.is_none_or(|only| only == *state)) {
        match state {
            TaskState::Pending => ids.extend(pending(conn, filter)?),
            TaskState::Running => ids.extend(running(conn, filter)?),
            ended => {
                for job in &jobs {
                    ids.extend(in_history(conn, *job, ended, filter)?);
                }
            }
        }
    }
    Ok(ids)
}

/// The numbers of all jobs.
pub(super) fn all_jobs(conn: &Connection) -> Result<Vec<i64>, Fault> {
    let mut select = conn.prepare_cached("SELECT id FROM jobs")?;
    let rows = select.query_map([], |row| row.get(0))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// A job with few tasks may stand behind millions of another's: those are
/// found by their job. Many are found by number, where the page soon is full.
fn pending(conn: &Connection, filter: &TaskFilter) -> Result<Vec<i64>, Fault> {
    let few = match filter.job {
        Some(job) => is_small(conn, job)?,
        None => false,
    };
    let sql = if few {
        "SELECT id FROM tasks INDEXED BY due
         WHERE id > ?1 AND state = 0 AND job = ?2 ORDER BY id LIMIT ?3"
    } else {
        "SELECT id FROM tasks NOT INDEXED
         WHERE id > ?1 AND state = 0 AND (?2 IS NULL OR job = ?2) ORDER BY id LIMIT ?3"
    };
    page(conn, sql, filter)
}

fn is_small(conn: &Connection, job: JobId) -> Result<bool, Fault> {
    let sql = "SELECT count(*) <= 10000 FROM (
                   SELECT 1 FROM tasks INDEXED BY due WHERE job = ?1 LIMIT 10001)";
    Ok(conn.prepare_cached(sql)?.query_row([job.0], |row| row.get(0))?)
}

/// By the batches, which list all that runs.
fn running(conn: &Connection, filter: &TaskFilter) -> Result<Vec<i64>, Fault> {
    page(
        conn,
        "SELECT tasks.id FROM batches CROSS JOIN json_each(ids) CROSS JOIN tasks ON tasks.id = value
         WHERE tasks.id > ?1 AND tasks.state = 1 AND tasks.fence = batches.fence
           AND (?2 IS NULL OR batches.job = ?2)
         ORDER BY tasks.id LIMIT ?3",
        filter,
    )
}

fn page(conn: &Connection, sql: &str, filter: &TaskFilter) -> Result<Vec<i64>, Fault> {
    let mut select = conn.prepare_cached(sql)?;
    let job = filter.job.map(|job| job.0);
    let rows = select.query_map(params![after(filter), job, filter.limit], |row| row.get(0))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn in_history(conn: &Connection, job: i64, state: TaskState, filter: &TaskFilter) -> Result<Vec<i64>, Fault> {
    let mut select = conn.prepare_cached(
        "SELECT id FROM history INDEXED BY history_listed
         WHERE job = ?1 AND state = ?2 AND id > ?3 ORDER BY id LIMIT ?4",
    )?;
    let range = params![job, sql::state(state), after(filter), filter.limit];
    let rows = select.query_map(range, |row| row.get(0))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn after(filter: &TaskFilter) -> i64 {
    filter.after.map_or(0, sql::id)
}

/// Running tasks of a node that a person wants to end.
pub(super) fn cancellations(conn: &Connection, node: NodeId) -> Result<Vec<Cancellation>, Fault> {
    let mut select = conn.prepare_cached(
        "SELECT tasks.job, tasks.id, tasks.fence
         FROM batches CROSS JOIN json_each(ids) CROSS JOIN tasks ON tasks.id = value
         WHERE node = ?1 AND tasks.fence = batches.fence AND state = 1 AND asked",
    )?;
    let cancellation = |row: &Row<'_>| {
        let (task, fence) = (sql::task_id(row.get(1)?), Fence(row.get::<_, i64>(2)?.unsigned_abs()));
        Ok(Cancellation { job: JobId(row.get(0)?), task, fence })
    };
    let rows = select.query_map([node.0], cancellation)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Lives that have not ended, with what they hold.
pub(super) fn nodes(conn: &Connection) -> Result<Vec<NodeView>, Fault> {
    let mut select = conn
        .prepare_cached("SELECT id, name, labels, version, started_at FROM nodes WHERE ended_at IS NULL ORDER BY id")?;
    let node = |row: &Row<'_>| {
        Ok(NodeView {
            id: NodeId(row.get(0)?),
            name: row.get(1)?,
            labels: row.get::<_, String>(2)?.split_whitespace().map(str::to_owned).collect(),
            version: row.get(3)?,
            started_at: sql::time(row.get(4)?),
            lease_until: None,
            holds: Vec::new(),
        })
    };
    let mut nodes = select.query_map([], node)?.collect::<Result<Vec<_>, _>>()?;
    for node in &mut nodes {
        node.holds = holds(conn, node.id)?;
    }
    Ok(nodes)
}

fn holds(conn: &Connection, node: NodeId) -> Result<Vec<Holding>, Fault> {
    let mut select = conn.prepare_cached(
        "SELECT name, count(*)
         FROM batches CROSS JOIN json_each(ids) CROSS JOIN tasks ON tasks.id = value JOIN jobs ON jobs.id = tasks.job
         WHERE node = ?1 AND tasks.fence = batches.fence AND state = 1 GROUP BY name ORDER BY name",
    )?;
    let holding = |row: &Row<'_>| Ok(Holding { job: row.get(0)?, tasks: row.get::<_, i64>(1)?.unsigned_abs() });
    let rows = select.query_map([node.0], holding)?;
    Ok(rows.collect::<Result<_, _>>()?)
}
