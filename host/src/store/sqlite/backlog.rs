//! How much waits, and since when.

use rusqlite::{Connection, OptionalExtension as _, params};

use super::fault::Fault;
use super::sql;
use crate::domain::job::JobId;
use crate::domain::status::Backlog;
use crate::domain::task::Priority;
use crate::domain::time::Timestamp;

/// The job's backlog; counts stop at [`Backlog::COUNTED`].
pub(super) fn backlog(conn: &Connection, job: JobId, now: Timestamp) -> Result<Backlog, Fault> {
    let running: i64 = conn
        .prepare_cached(
            "SELECT count(*) FROM batches CROSS JOIN json_each(ids) CROSS JOIN tasks ON tasks.id = value
             WHERE batches.job = ?1 AND tasks.state = 1 AND tasks.fence = batches.fence",
        )?
        .query_row([job.0], |row| row.get(0))?;
    let running = running.unsigned_abs();
    // Counted in the index alone, where running rows are too.
    let live = count(
        conn,
        "SELECT count(*) FROM (SELECT 1 FROM tasks INDEXED BY due WHERE job = ?1 LIMIT ?2)",
        job,
        Backlog::COUNTED + 1 + running,
    )?;
    let dead = count(
        conn,
        "SELECT count(*) FROM (
             SELECT 1 FROM history INDEXED BY history_listed WHERE job = ?1 AND state = 3 LIMIT ?2)",
        job,
        Backlog::COUNTED + 1,
    )?;
    let pending = live.saturating_sub(running);
    let oldest_due = next_due(conn, job)?.filter(|due| *due <= now);
    Ok(Backlog {
        pending: pending.min(Backlog::COUNTED),
        running: running.min(Backlog::COUNTED),
        dead: dead.min(Backlog::COUNTED),
        more: pending.max(running).max(dead) > Backlog::COUNTED,
        oldest_due,
        age_ms: Backlog::age_ms(oldest_due, now),
    })
}

fn count(conn: &Connection, sql: &str, job: JobId, limit: u64) -> Result<u64, Fault> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let counted: i64 = conn.prepare_cached(sql)?.query_row(params![job.0, limit], |row| row.get(0))?;
    Ok(counted.unsigned_abs())
}

/// The due time of the first pending task, whatever its priority.
pub(super) fn next_due(conn: &Connection, job: JobId) -> Result<Option<Timestamp>, Fault> {
    let mut select = conn.prepare_cached(
        "SELECT run_at FROM tasks INDEXED BY due
         WHERE job = ?1 AND priority = ?2 AND state = 0 ORDER BY run_at LIMIT 1",
    )?;
    let mut first: Option<i64> = None;
    for priority in Priority::ALL {
        let due = select.query_row(params![job.0, sql::priority(priority)], |row| row.get(0)).optional()?;
        first = [first, due].into_iter().flatten().min();
    }
    Ok(first.map(sql::time))
}
