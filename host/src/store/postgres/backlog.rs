//! How much waits, and since when.

use sqlx::Row as _;
use sqlx::postgres::PgConnection;

use super::fault::Fault;
use super::sql;
use crate::domain::job::JobId;
use crate::domain::status::Backlog;
use crate::domain::task::Priority;
use crate::domain::time::Timestamp;

/// The job's backlog; counts stop at [`Backlog::COUNTED`].
pub(super) async fn backlog(conn: &mut PgConnection, job: JobId, now: Timestamp) -> Result<Backlog, Fault> {
    let running = count(
        conn,
        "SELECT count(*) FROM batches CROSS JOIN LATERAL unnest(ids) AS listed (id)
         JOIN tasks ON tasks.id = listed.id AND tasks.fence = batches.fence
         WHERE batches.job = $1 AND tasks.state = 1 AND $2::int8 > 0",
        job,
        Backlog::COUNTED,
    )
    .await?;
    // Counted in the index alone, where running rows are too.
    let live = count(
        conn,
        "SELECT count(*) FROM (SELECT FROM tasks WHERE job = $1 LIMIT $2) AS live",
        job,
        Backlog::COUNTED + 1 + running,
    )
    .await?;
    let dead = count(
        conn,
        "SELECT count(*) FROM (SELECT FROM history WHERE job = $1 AND state = 3 LIMIT $2) AS dead",
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

async fn count(conn: &mut PgConnection, sql: &'static str, job: JobId, limit: u64) -> Result<u64, Fault> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let row = sqlx::query(sql).bind(job.0).bind(limit).fetch_one(conn).await?;
    Ok(row.try_get::<i64, _>(0)?.unsigned_abs())
}

/// The due time of the first pending task, whatever its priority.
pub(super) async fn next_due(conn: &mut PgConnection, job: JobId) -> Result<Option<Timestamp>, Fault> {
    let row = sqlx::query(
        "SELECT min(first.run_at) FROM unnest($2::int2[]) AS every (priority)
         CROSS JOIN LATERAL (
             SELECT run_at FROM tasks
             WHERE job = $1 AND tasks.priority = every.priority AND state = 0 ORDER BY run_at, id LIMIT 1) AS first",
    )
    .bind(job.0)
    .bind(Priority::ALL.map(sql::priority).to_vec())
    .fetch_one(conn)
    .await?;
    Ok(row.try_get::<Option<i64>, _>(0)?.map(sql::time))
}
