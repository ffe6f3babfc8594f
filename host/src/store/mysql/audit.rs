//! Effects as people see them, and what they cost.
//!
//! A page comes from a short range of one index: that of a task, of a job's
//! trash, or of a job's times; of all jobs, it is put together from one a job.

use sqlx::mysql::MySqlRow;
use sqlx::{MySqlConnection, Row as _};

use super::fault::Fault;
use super::sql;
use crate::domain::budget::{Changed, Spent};
use crate::domain::effect::{EffectView, Operation};
use crate::domain::job::JobId;
use crate::domain::time::Timestamp;
use crate::store::EffectFilter;
use crate::store::effects::{Span, StoredRow, Walk, fate_number, merged, operation};

/// A page, in one order, by an index that begins with these columns. The two
/// places are compared as rows, which no index helps with, and for that by
/// their times, which it does. Paths are compared as bytes.
macro_rules! page {
    ($index:literal, $by:literal, $order:literal) => {
        concat!(
            "SELECT journal, number, job, name, task, attempt, digest, operation, mount, path, to_path, to_mount,
                    size, modified, inode, at, result, error, trashed, fate, fate_at, times, written,
                    CASE WHEN spent_files > 0 THEN spent_bytes ELSE size END
             FROM effects FORCE INDEX (",
            $index,
            ") STRAIGHT_JOIN jobs FORCE INDEX (PRIMARY) ON jobs.id = job WHERE ",
            $by,
            " AND at >= ? AND at <= ?
              AND (at, journal, number) > (?, ?, ?) AND (at, journal, number) < (?, ?, ?)
              AND (? IS NULL OR job = ?) AND (? IS NULL OR operation = ?) AND (? IS NULL OR fate = ?)
              AND (? IS NULL
                   OR LEFT(CONCAT(TRIM(TRAILING '/' FROM mount), '/', path), LENGTH(?)) = ?
                   OR LEFT(CONCAT(TRIM(TRAILING '/' FROM COALESCE(to_mount, mount)), '/', to_path), LENGTH(?)) = ?)
             ORDER BY ",
            $order,
            " LIMIT ?"
        )
    };
}

macro_rules! both_orders {
    ($filter:expr, $index:literal, $by:literal) => {
        if $filter.oldest_first {
            page!($index, $by, "at, journal, number")
        } else {
            page!($index, $by, "at DESC, journal DESC, number DESC")
        }
    };
}

/// A page of effects.
pub(super) async fn effects(conn: &mut MySqlConnection, filter: &EffectFilter) -> Result<Vec<EffectView>, Fault> {
    let statement = match Walk::of(filter) {
        Walk::Task(task) => {
            return page(conn, both_orders!(filter, "of_task", "task = ?"), (task, None), filter).await;
        }
        Walk::Trash(_) => both_orders!(filter, "trash", "job = ? AND fate = ?"),
        Walk::Times => both_orders!(filter, "listed", "job = ?"),
    };
    let jobs = match filter.job {
        Some(job) => vec![job.0],
        None => sqlx::query_scalar("SELECT id FROM jobs").fetch_all(&mut *conn).await?,
    };
    let fate = filter.fate.map(fate_number);
    let mut views = Vec::new();
    for job in jobs {
        views.extend(page(conn, statement, (job, fate), filter).await?);
    }
    Ok(merged(views, filter))
}

/// A page of what the statement's index leads to: of a task or job and, where
/// that is a column of it, with this fate.
async fn page(
    conn: &mut MySqlConnection,
    statement: &'static str,
    (of, with): (i64, Option<i16>),
    filter: &EffectFilter,
) -> Result<Vec<EffectView>, Fault> {
    let Span { above, below } = Span::of(filter);
    let (job, operation) = (filter.job.map(|job| job.0), filter.operation.map(operation));
    let (fate, prefix) = (filter.fate.map(fate_number), filter.path_prefix.as_deref().map(str::as_bytes));
    let mut select = sqlx::query(statement).bind(of);
    if with.is_some() {
        select = select.bind(with);
    }
    let rows = select
        .bind(above.0)
        .bind(below.0)
        .bind(above.0)
        .bind(above.1)
        .bind(above.2)
        .bind(below.0)
        .bind(below.1)
        .bind(below.2)
        .bind(job)
        .bind(job)
        .bind(operation)
        .bind(operation)
        .bind(fate)
        .bind(fate)
        .bind(prefix)
        .bind(prefix)
        .bind(prefix)
        .bind(prefix)
        .bind(prefix)
        .bind(filter.limit)
        .fetch_all(conn)
        .await?;
    rows.iter().map(|row| stored(row)?.view().map_err(sql::unreadable)).collect()
}

fn stored(row: &MySqlRow) -> Result<StoredRow, Fault> {
    let text = |column| sql::key(row.try_get(column)?);
    let maybe = |column| row.try_get::<Option<Vec<u8>>, usize>(column)?.map(sql::key).transpose();
    Ok(StoredRow {
        journal: row.try_get(0)?,
        number: row.try_get(1)?,
        job: row.try_get(2)?,
        job_name: row.try_get(3)?,
        task: row.try_get(4)?,
        attempt: row.try_get(5)?,
        digest: row.try_get(6)?,
        operation: row.try_get(7)?,
        mount: text(8)?,
        path: text(9)?,
        to: maybe(10)?,
        to_mount: maybe(11)?,
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
    conn: &mut MySqlConnection,
    job: JobId,
    since: Timestamp,
    except: Option<u64>,
) -> Result<Spent, Fault> {
    let except = except.map(|journal| i64::try_from(journal).unwrap_or(i64::MAX));
    let (files, bytes, made, written): (i64, i64, i64, i64) = sqlx::query_as(
        "SELECT CAST(LEAST(COALESCE(SUM(spent_files), 0), 9223372036854775807) AS SIGNED),
                CAST(LEAST(COALESCE(SUM(spent_bytes), 0), 9223372036854775807) AS SIGNED),
                CAST(LEAST(COALESCE(SUM(made), 0), 9223372036854775807) AS SIGNED),
                CAST(LEAST(COALESCE(SUM(written), 0), 9223372036854775807) AS SIGNED)
         FROM effects FORCE INDEX (listed) WHERE job = ? AND at >= ? AND (? IS NULL OR journal <> ?)",
    )
    .bind(job.0)
    .bind(sql::millis(since))
    .bind(except)
    .bind(except)
    .fetch_one(conn)
    .await?;
    let [files, bytes, made, written] = [files, bytes, made, written].map(i64::unsigned_abs);
    Ok(Spent { files, bytes, made, written })
}

/// About what all effects take of the disk, by the index alone.
pub(super) async fn weight(conn: &mut MySqlConnection) -> Result<u64, Fault> {
    let weight: i64 = sqlx::query_scalar(
        "SELECT CAST(COALESCE(SUM(weight), 0) AS SIGNED) FROM effects FORCE INDEX (listed) WHERE job >= 0",
    )
    .fetch_one(conn)
    .await?;
    Ok(weight.unsigned_abs())
}

/// By how many files the effects of a job changed its mounts in a span of time.
pub(super) async fn changed_files(
    conn: &mut MySqlConnection,
    job: JobId,
    since: Timestamp,
    until: Timestamp,
    except: Option<u64>,
) -> Result<Changed, Fault> {
    let except = except.map(|journal| i64::try_from(journal).unwrap_or(i64::MAX));
    let [remove, create, link] = [Operation::Remove, Operation::Create, Operation::Link].map(operation);
    let (removed, made): (i64, i64) = sqlx::query_as(
        "SELECT CAST(COALESCE(SUM(IF(operation = ?, times, 0)), 0) AS SIGNED),
                CAST(COALESCE(SUM(IF(operation <> ?, times, 0)), 0) AS SIGNED)
         FROM effects FORCE INDEX (listed)
         WHERE job = ? AND at >= ? AND at < ? AND (? IS NULL OR journal <> ?)
           AND result <> 1 AND operation IN (?, ?, ?)",
    )
    .bind(remove)
    .bind(remove)
    .bind(job.0)
    .bind(sql::millis(since))
    .bind(sql::millis(until))
    .bind(except)
    .bind(except)
    .bind(remove)
    .bind(create)
    .bind(link)
    .fetch_one(conn)
    .await?;
    Ok(Changed { removed: removed.unsigned_abs(), made: made.unsigned_abs() })
}
