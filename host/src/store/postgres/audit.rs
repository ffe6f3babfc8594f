//! Effects as people see them, and what they cost.
//!
//! A page comes from a short range of one index: that of a task, of a job's
//! trash, or of a job's times; of all jobs, it is put together from one a job.

use sqlx::Row as _;
use sqlx::postgres::{PgConnection, PgRow};

use super::fault::Fault;
use super::sql;
use crate::domain::budget::{Changed, Spent};
use crate::domain::effect::{EffectView, Operation};
use crate::domain::job::JobId;
use crate::domain::time::Timestamp;
use crate::store::EffectFilter;
use crate::store::effects::{Span, StoredRow, Walk, fate_number, merged, operation};

/// A page, in one order, by the index that begins with these columns; between
/// two places, and all else that is asked for.
macro_rules! page {
    ($by:literal, $order:literal) => {
        concat!(
            "SELECT journal, number, job, name, task, attempt, digest, operation, mount, path, to_path, to_mount,
                    size, modified, inode, at, result, error, trashed, fate, fate_at, times, written,
                    CASE WHEN spent_files > 0 THEN spent_bytes ELSE size END
             FROM effects JOIN jobs ON jobs.id = job
             WHERE ",
            $by,
            " AND (at, journal, number) > ($2, $3, $4) AND (at, journal, number) < ($5, $6, $7)
              AND ($8::int8 IS NULL OR job = $8) AND ($9::int2 IS NULL OR operation = $9)
              AND ($10::int2 IS NULL OR fate = $10)
              AND ($11::text IS NULL
                   OR starts_with(rtrim(mount, '/') || '/' || path, $11)
                   OR starts_with(rtrim(coalesce(to_mount, mount), '/') || '/' || to_path, $11))
             ORDER BY ",
            $order,
            " LIMIT $12"
        )
    };
}

macro_rules! both_orders {
    ($filter:expr, $by:literal) => {
        if $filter.oldest_first {
            page!($by, "at, journal, number")
        } else {
            page!($by, "at DESC, journal DESC, number DESC")
        }
    };
}

/// A page of effects.
pub(super) async fn effects(conn: &mut PgConnection, filter: &EffectFilter) -> Result<Vec<EffectView>, Fault> {
    let statement = match Walk::of(filter) {
        Walk::Task(task) => return page(conn, both_orders!(filter, "task = $1"), task, filter).await,
        Walk::Trash(_) => both_orders!(filter, "job = $1 AND fate = $10"),
        Walk::Times => both_orders!(filter, "job = $1"),
    };
    if let Some(job) = filter.job {
        return page(conn, statement, job.0, filter).await;
    }
    let jobs = sqlx::query("SELECT id FROM jobs").fetch_all(&mut *conn).await?;
    let mut views = Vec::new();
    for job in jobs {
        views.extend(page(conn, statement, job.try_get(0)?, filter).await?);
    }
    Ok(merged(views, filter))
}

async fn page(
    conn: &mut PgConnection,
    statement: &'static str,
    of: i64,
    filter: &EffectFilter,
) -> Result<Vec<EffectView>, Fault> {
    let Span { above, below } = Span::of(filter);
    let rows = sqlx::query(statement)
        .bind(of)
        .bind(above.0)
        .bind(above.1)
        .bind(above.2)
        .bind(below.0)
        .bind(below.1)
        .bind(below.2)
        .bind(filter.job.map(|job| job.0))
        .bind(filter.operation.map(operation))
        .bind(filter.fate.map(fate_number))
        .bind(filter.path_prefix.as_deref())
        .bind(i64::from(filter.limit))
        .fetch_all(conn)
        .await?;
    rows.iter().map(|row| stored(row)?.view().map_err(|error| Fault::Refused(error.to_string()))).collect()
}

fn stored(row: &PgRow) -> Result<StoredRow, Fault> {
    Ok(StoredRow {
        journal: row.try_get(0)?,
        number: row.try_get(1)?,
        job: row.try_get(2)?,
        job_name: row.try_get(3)?,
        task: row.try_get(4)?,
        attempt: row.try_get(5)?,
        digest: row.try_get(6)?,
        operation: row.try_get(7)?,
        mount: row.try_get(8)?,
        path: row.try_get(9)?,
        to: row.try_get(10)?,
        to_mount: row.try_get(11)?,
        size: row.try_get(12)?,
        modified: row.try_get(13)?,
        inode: row.try_get(14)?,
        at: row.try_get(15)?,
        result: row.try_get(16)?,
        error: row.try_get(17)?,
        trashed: row.try_get(18)?,
        fate: row.try_get(19)?,
        fate_at: row.try_get(20)?,
        times: row.try_get(21)?,
        written: row.try_get(22)?,
        allocated: row.try_get(23)?,
    })
}

/// What the effects of a job cost together, by the index alone. Sums that no
/// number holds are as good as the largest one.
pub(super) async fn spent(
    conn: &mut PgConnection,
    job: JobId,
    since: Timestamp,
    except: Option<u64>,
) -> Result<Spent, Fault> {
    let except = except.map(|journal| i64::try_from(journal).unwrap_or(i64::MAX));
    let row = sqlx::query(
        "SELECT least(coalesce(sum(spent_files), 0), 9223372036854775807)::int8,
                least(coalesce(sum(spent_bytes), 0), 9223372036854775807)::int8,
                least(coalesce(sum(made), 0), 9223372036854775807)::int8,
                least(coalesce(sum(written), 0), 9223372036854775807)::int8
         FROM effects WHERE job = $1 AND at >= $2 AND ($3::int8 IS NULL OR journal <> $3)",
    )
    .bind(job.0)
    .bind(sql::millis(since))
    .bind(except)
    .fetch_one(conn)
    .await?;
    let sum = |column: usize| row.try_get::<i64, _>(column).map(i64::unsigned_abs);
    Ok(Spent { files: sum(0)?, bytes: sum(1)?, made: sum(2)?, written: sum(3)? })
}

/// About what all effects take of the disk, by the index alone.
pub(super) async fn weight(conn: &mut PgConnection) -> Result<u64, Fault> {
    let row = sqlx::query("SELECT coalesce(sum(weight), 0)::int8 FROM effects WHERE job >= 0").fetch_one(conn).await?;
    Ok(row.try_get::<i64, _>(0)?.unsigned_abs())
}

/// By how many files the effects of a job changed its mounts in a span of time.
pub(super) async fn changed_files(
    conn: &mut PgConnection,
    job: JobId,
    since: Timestamp,
    until: Timestamp,
    except: Option<u64>,
) -> Result<Changed, Fault> {
    let except = except.map(|journal| i64::try_from(journal).unwrap_or(i64::MAX));
    let row = sqlx::query(
        "SELECT coalesce(sum(times) FILTER (WHERE operation = $5), 0)::int8,
                coalesce(sum(times) FILTER (WHERE operation <> $5), 0)::int8
         FROM effects
         WHERE job = $1 AND at >= $2 AND at < $3 AND ($4::int8 IS NULL OR journal <> $4)
           AND result <> 1 AND operation IN ($5, $6, $7)",
    )
    .bind(job.0)
    .bind(sql::millis(since))
    .bind(sql::millis(until))
    .bind(except)
    .bind(operation(Operation::Remove))
    .bind(operation(Operation::Create))
    .bind(operation(Operation::Link))
    .fetch_one(conn)
    .await?;
    let (removed, made): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
    Ok(Changed { removed: removed.unsigned_abs(), made: made.unsigned_abs() })
}
