//! How much waits, and since when.

use sqlx::MySqlConnection;

use super::fault::Fault;
use super::sql::{self, held};
use crate::domain::job::JobId;
use crate::domain::status::Backlog;
use crate::domain::time::Timestamp;

/// The job's backlog; counts stop at [`Backlog::COUNTED`].
pub(super) async fn backlog(conn: &mut MySqlConnection, job: JobId, now: Timestamp) -> Result<Backlog, Fault> {
    let running: i64 = sqlx::query_scalar(concat!(
        "SELECT COUNT(*) FROM batches STRAIGHT_JOIN ",
        held!(),
        " STRAIGHT_JOIN tasks FORCE INDEX (PRIMARY) ON tasks.id = held.id
         WHERE batches.job = ? AND tasks.fence = batches.fence AND state = 1"
    ))
    .bind(job.0)
    .fetch_one(&mut *conn)
    .await?;
    let running = running.unsigned_abs();
    // Counted in the index alone, where running rows are too.
    let live = count(
        conn,
        "SELECT COUNT(*) FROM (SELECT 1 FROM tasks FORCE INDEX (due) WHERE job = ? LIMIT ?) AS counted",
        job,
        Backlog::COUNTED + 1 + running,
    )
    .await?;
    let dead = count(
        conn,
        "SELECT COUNT(*) FROM (
             SELECT 1 FROM history FORCE INDEX (listed) WHERE job = ? AND state = 3 LIMIT ?) AS counted",
        job,
        Backlog::COUNTED + 1,
    )
    .await?;
    let pending = live.saturating_sub(running);
    let oldest_due = next_due(conn, job).await?.filter(|due| *due <= now);
    Ok(Backlog {
        pending: pending.min(Backlog::COUNTED),
        running: running.min(Backlog::COUNTED),
        dead: dead.min(Backlog::COUNTED),
        more: pending.max(running).max(dead) > Backlog::COUNTED,
        oldest_due,
        age_ms: Backlog::age_ms(oldest_due, now),
    })
}

async fn count(conn: &mut MySqlConnection, select: &'static str, job: JobId, limit: u64) -> Result<u64, Fault> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let counted: i64 = sqlx::query_scalar(select).bind(job.0).bind(limit).fetch_one(conn).await?;
    Ok(counted.unsigned_abs())
}

/// The first due time of one priority.
macro_rules! first {
    ($priority:literal) => {
        concat!(
            "(SELECT run_at FROM tasks FORCE INDEX (due) WHERE job = ? AND priority = ",
            $priority,
            " AND state = 0 ORDER BY run_at LIMIT 1)"
        )
    };
}

/// The due time of the first pending task, whatever its priority.
pub(super) async fn next_due(conn: &mut MySqlConnection, job: JobId) -> Result<Option<Timestamp>, Fault> {
    let firsts: Vec<i64> = sqlx::query_scalar(concat!(
        first!("0"),
        " UNION ALL ",
        first!("1"),
        " UNION ALL ",
        first!("2"),
        " UNION ALL ",
        first!("3")
    ))
    .bind(job.0)
    .bind(job.0)
    .bind(job.0)
    .bind(job.0)
    .fetch_all(conn)
    .await?;
    Ok(firsts.into_iter().min().map(sql::time))
}
