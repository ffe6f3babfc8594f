//! Effects as people see them, and what they cost.
//!
//! A page comes from a short range of one index: that of a task, of a job's
//! trash, or of a job's times; of all jobs, it is put together from one a job.

use rusqlite::{Connection, Row, params};

use super::fault::Fault;
use super::sql;
use crate::domain::budget::{Changed, Spent};
use crate::domain::effect::{EffectView, Operation};
use crate::domain::job::JobId;
use crate::domain::time::Timestamp;
use crate::store::EffectFilter;
use crate::store::effects::{Span, StoredRow, Walk, merged, operation};

macro_rules! columns {
    () => {
        "SELECT journal, number, job, name, task, attempt, digest, operation, mount, path, to_path, to_mount,
                size, modified, inode, at, result, error, trashed, fate, fate_at, times, written,
                CASE WHEN spent_files > 0 THEN spent_bytes ELSE size END
         FROM effects "
    };
}

/// Between two places, and all else that is asked for.
macro_rules! matching {
    () => {
        "AND (at, journal, number) > (?2, ?3, ?4) AND (at, journal, number) < (?5, ?6, ?7)
         AND (?8 IS NULL OR job = ?8) AND (?9 IS NULL OR operation = ?9) AND (?10 IS NULL OR fate = ?10)
         AND (?11 IS NULL
              OR substr(rtrim(mount, '/') || '/' || path, 1, length(?11)) = ?11
              OR substr(rtrim(coalesce(to_mount, mount), '/') || '/' || to_path, 1, length(?11)) = ?11) "
    };
}

macro_rules! oldest_first {
    () => {
        "ORDER BY at, journal, number LIMIT ?12"
    };
}

macro_rules! latest_first {
    () => {
        "ORDER BY at DESC, journal DESC, number DESC LIMIT ?12"
    };
}

macro_rules! of_task {
    () => {
        "INDEXED BY effects_of_task JOIN jobs ON jobs.id = job WHERE task = ?1 "
    };
}

macro_rules! in_trash {
    () => {
        "INDEXED BY effects_trash JOIN jobs ON jobs.id = job WHERE job = ?1 AND fate = ?10 "
    };
}

macro_rules! of_job {
    () => {
        "INDEXED BY effects_listed JOIN jobs ON jobs.id = job WHERE job = ?1 "
    };
}

/// A page of effects.
pub(super) fn effects(conn: &Connection, filter: &EffectFilter) -> Result<Vec<EffectView>, Fault> {
    let (by_task, by_trash, by_time) = if filter.oldest_first {
        (
            concat!(columns!(), of_task!(), matching!(), oldest_first!()),
            concat!(columns!(), in_trash!(), matching!(), oldest_first!()),
            concat!(columns!(), of_job!(), matching!(), oldest_first!()),
        )
    } else {
        (
            concat!(columns!(), of_task!(), matching!(), latest_first!()),
            concat!(columns!(), in_trash!(), matching!(), latest_first!()),
            concat!(columns!(), of_job!(), matching!(), latest_first!()),
        )
    };
    let statement = match Walk::of(filter) {
        Walk::Task(task) => return page(conn, by_task, task, filter),
        Walk::Trash(_) => by_trash,
        Walk::Times => by_time,
    };
    if let Some(job) = filter.job {
        return page(conn, statement, job.0, filter);
    }
    let mut views = Vec::new();
    for job in super::list::all_jobs(conn)? {
        views.extend(page(conn, statement, job, filter)?);
    }
    Ok(merged(views, filter))
}

fn page(conn: &Connection, statement: &str, of: i64, filter: &EffectFilter) -> Result<Vec<EffectView>, Fault> {
    let Span { above, below } = Span::of(filter);
    let fate = filter.fate.map(crate::store::effects::fate_number);
    let parameters = params![
        of,
        above.0,
        above.1,
        above.2,
        below.0,
        below.1,
        below.2,
        filter.job.map(|job| job.0),
        filter.operation.map(operation),
        fate,
        filter.path_prefix,
        filter.limit
    ];
    let mut select = conn.prepare_cached(statement)?;
    let rows = select.query_map(parameters, stored)?;
    let view = |row: rusqlite::Result<StoredRow>| row?.view().map_err(|error| Fault::Refused(error.to_string()));
    rows.map(view).collect()
}

fn stored(row: &Row<'_>) -> rusqlite::Result<StoredRow> {
    Ok(StoredRow {
        journal: row.get(0)?,
        number: row.get(1)?,
        job: row.get(2)?,
        job_name: row.get(3)?,
        task: row.get(4)?,
        attempt: row.get(5)?,
        digest: row.get(6)?,
        operation: row.get(7)?,
        mount: row.get(8)?,
        path: row.get(9)?,
        to: row.get(10)?,
        to_mount: row.get(11)?,
        size: row.get(12)?,
        modified: row.get(13)?,
        inode: row.get(14)?,
        at: row.get(15)?,
        result: row.get(16)?,
        error: row.get(17)?,
        trashed: row.get(18)?,
        fate: row.get(19)?,
        fate_at: row.get(20)?,
        times: row.get(21)?,
        written: row.get(22)?,
        allocated: row.get(23)?,
    })
}

/// What the effects of a job cost together, by the index alone. Sums that no
/// number holds are as good as the largest one.
pub(super) fn spent(conn: &Connection, job: JobId, since: Timestamp, except: Option<u64>) -> Result<Spent, Fault> {
    let except = except.map(|journal| i64::try_from(journal).unwrap_or(i64::MAX));
    let mut sum = conn.prepare_cached(
        "SELECT CAST(total(spent_files) AS INTEGER), CAST(total(spent_bytes) AS INTEGER),
                CAST(total(made) AS INTEGER), CAST(total(written) AS INTEGER)
         FROM effects INDEXED BY effects_listed WHERE job = ?1 AND at >= ?2 AND journal IS NOT ?3",
    )?;
    let sums = |row: &Row<'_>| {
        let sum = |column| row.get::<_, i64>(column).map(i64::unsigned_abs);
        Ok(Spent { files: sum(0)?, bytes: sum(1)?, made: sum(2)?, written: sum(3)? })
    };
    Ok(sum.query_row(params![job.0, sql::millis(since), except], sums)?)
}

/// By how many files the effects of a job changed its mounts in a span of time.
pub(super) fn changed_files(
    conn: &Connection,
    job: JobId,
    since: Timestamp,
    until: Timestamp,
    except: Option<u64>,
) -> Result<Changed, Fault> {
    let except = except.map(|journal| i64::try_from(journal).unwrap_or(i64::MAX));
    let mut count = conn.prepare_cached(
        "SELECT coalesce(sum(times) FILTER (WHERE operation = ?5), 0),
                coalesce(sum(times) FILTER (WHERE operation <> ?5), 0)
         FROM effects INDEXED BY effects_listed
         WHERE job = ?1 AND at >= ?2 AND at < ?3 AND journal IS NOT ?4
           AND result <> 1 AND operation IN (?5, ?6, ?7)",
    )?;
    let [remove, create, link] = [Operation::Remove, Operation::Create, Operation::Link].map(operation);
    let parameters = params![job.0, sql::millis(since), sql::millis(until), except, remove, create, link];
    let counts = |row: &Row<'_>| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?));
    let (removed, made) = count.query_row(parameters, counts)?;
    Ok(Changed { removed: removed.unsigned_abs(), made: made.unsigned_abs() })
}

/// About what all effects take of the disk, job by job, by the index alone.
pub(super) fn weight(conn: &Connection) -> Result<u64, Fault> {
    let jobs: Vec<i64> =
        conn.prepare_cached("SELECT id FROM jobs")?.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
    let mut sum = conn.prepare_cached(
        "SELECT coalesce(sum(weight), 0) FROM effects INDEXED BY effects_listed WHERE job = ?1 AND at >= 0",
    )?;
    let mut weight = 0;
    for job in jobs {
        weight += sum.query_row([job], |row| row.get::<_, i64>(0))?.unsigned_abs();
    }
    Ok(weight)
}
