//! Jobs' rows: names, pauses, and where their scans stand.

use std::collections::BTreeSet;

use async_trait::async_trait;
use sqlx::MySqlConnection;

use super::fault::Fault;
use super::sql::{self, given, json};
use super::writing::{Command, Work};
use crate::domain::digest::Digest;
use crate::domain::job::{JobId, JobName};
use crate::domain::node::NodeId;
use crate::store::{At, CursorUpdate, EndScan, JobRow, ScanEnded, ScanLease, TakeScan};

/// [`Store::register_job`](crate::store::Store::register_job).
pub(super) struct RegisterJob(pub(super) JobName);

#[async_trait]
impl Command for RegisterJob {
    type Answer = JobRow;

    async fn apply(&self, work: &mut Work<'_>) -> Result<JobRow, Fault> {
        let now = sql::millis(work.now(At::Server));
        let name = self.0.as_str();
        if let Some(row) = named(work.conn(), name).await? {
            return Ok(row);
        }
        sqlx::query("INSERT INTO jobs (name, scheduled) VALUES (?, ?) ON DUPLICATE KEY UPDATE id = id")
            .bind(name)
            .bind(now)
            .execute(work.conn())
            .await?;
        named(work.conn(), name).await?.ok_or_else(|| sql::unreadable("a job that was registered is not there"))
    }
}

type Columns = (i64, String, Option<String>, i64, bool);

macro_rules! job_rows {
    () => {
        "SELECT id, name, paused, scheduled, EXISTS (SELECT 1 FROM allowances WHERE job = jobs.id) FROM jobs"
    };
}

async fn named(conn: &mut MySqlConnection, name: &str) -> Result<Option<JobRow>, Fault> {
    let row: Option<Columns> =
        sqlx::query_as(concat!(job_rows!(), " WHERE name = ?")).bind(name).fetch_optional(conn).await?;
    Ok(row.map(job_row))
}

/// All jobs.
pub(super) async fn jobs(conn: &mut MySqlConnection) -> Result<Vec<JobRow>, Fault> {
    let rows: Vec<Columns> = sqlx::query_as(concat!(job_rows!(), " ORDER BY id")).fetch_all(conn).await?;
    Ok(rows.into_iter().map(job_row).collect())
}

fn job_row((id, name, paused, scheduled, once_over_budget): Columns) -> JobRow {
    JobRow { id: JobId(id), name, paused, scheduled: sql::time(scheduled), once_over_budget }
}

/// [`Store::take_scan`](crate::store::Store::take_scan).
pub(super) struct Take(pub(super) TakeScan);

#[async_trait]
impl Command for Take {
    type Answer = ScanLease;

    async fn apply(&self, work: &mut Work<'_>) -> Result<ScanLease, Fault> {
        let TakeScan { job, node, scheduled } = self.0;
        must_exist(work.conn(), job).await?;
        super::nodes::must_live(work.conn(), node).await?;
        let scheduled = scheduled.map(sql::millis);
        let taken = sqlx::query(
            "UPDATE jobs SET scan_owner = ?
             WHERE id = ? AND (? IS NULL OR scheduled < ?)
               AND (scan_owner IS NULL OR scan_owner = ? OR NOT EXISTS (
                   SELECT 1 FROM nodes WHERE nodes.id = scan_owner AND ended_at IS NULL))",
        )
        .bind(node.0)
        .bind(job.0)
        .bind(scheduled)
        .bind(scheduled)
        .bind(node.0)
        .execute(work.conn())
        .await?;
        // Rows that were found, changed or not.
        if taken.rows_affected() == 1 {
            return Ok(ScanLease::Taken);
        }
        let past: bool = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM jobs WHERE id = ? AND scheduled >= ?)")
            .bind(job.0)
            .bind(scheduled)
            .fetch_one(work.conn())
            .await?;
        Ok(if past { ScanLease::Past } else { ScanLease::Anothers })
    }
}

/// [`Store::end_scan`](crate::store::Store::end_scan).
pub(super) struct End(pub(super) EndScan);

#[async_trait]
impl Command for End {
    type Answer = ScanEnded;

    async fn apply(&self, work: &mut Work<'_>) -> Result<ScanEnded, Fault> {
        let EndScan { job, node, scheduled } = self.0;
        let recorded =
            sqlx::query("UPDATE jobs SET scheduled = GREATEST(scheduled, ?) WHERE id = ? AND scan_owner = ?")
                .bind(sql::millis(scheduled))
                .bind(job.0)
                .bind(node.0)
                .execute(work.conn())
                .await?;
        // Rows that were found, changed or not.
        Ok(if recorded.rows_affected() == 1 { ScanEnded::Recorded } else { ScanEnded::Fenced })
    }
}

/// [`Store::give_up_scan`](crate::store::Store::give_up_scan).
pub(super) struct GiveUpScan {
    pub(super) job: JobId,
    pub(super) node: NodeId,
}

#[async_trait]
impl Command for GiveUpScan {
    type Answer = ();

    async fn apply(&self, work: &mut Work<'_>) -> Result<(), Fault> {
        sqlx::query("UPDATE jobs SET scan_owner = NULL WHERE id = ? AND scan_owner = ?")
            .bind(self.job.0)
            .bind(self.node.0)
            .execute(work.conn())
            .await?;
        Ok(())
    }
}

/// Refuses a node that does not hold the scan; it stays with the one that does
/// until the end of the transaction.
pub(super) async fn must_scan(conn: &mut MySqlConnection, job: JobId, node: NodeId) -> Result<(), Fault> {
    let owner: Option<Option<i64>> = sqlx::query_scalar("SELECT scan_owner FROM jobs WHERE id = ? FOR UPDATE")
        .bind(job.0)
        .fetch_optional(conn)
        .await?;
    if owner.flatten() == Some(node.0) {
        return Ok(());
    }
    Err(Fault::Refused(format!("node number {node} does not hold the scan of job number {}", job.0)))
}

/// [`Store::set_paused`](crate::store::Store::set_paused).
pub(super) struct SetPaused {
    pub(super) job: JobId,
    pub(super) reason: Option<String>,
}

#[async_trait]
impl Command for SetPaused {
    type Answer = ();

    async fn apply(&self, work: &mut Work<'_>) -> Result<(), Fault> {
        must_exist(work.conn(), self.job).await?;
        sqlx::query("UPDATE jobs SET paused = ? WHERE id = ?")
            .bind(&self.reason)
            .bind(self.job.0)
            .execute(work.conn())
            .await?;
        Ok(())
    }
}

/// [`Store::resume`](crate::store::Store::resume).
pub(super) struct Resume {
    pub(super) job: JobId,
    pub(super) once_over_budget: bool,
}

#[async_trait]
impl Command for Resume {
    type Answer = ();

    async fn apply(&self, work: &mut Work<'_>) -> Result<(), Fault> {
        must_exist(work.conn(), self.job).await?;
        sqlx::query("UPDATE jobs SET paused = NULL WHERE id = ?").bind(self.job.0).execute(work.conn()).await?;
        if self.once_over_budget {
            sqlx::query("INSERT INTO allowances (job) VALUES (?) ON DUPLICATE KEY UPDATE job = job")
                .bind(self.job.0)
                .execute(work.conn())
                .await?;
        }
        Ok(())
    }
}

/// [`Store::take_allowance`](crate::store::Store::take_allowance).
pub(super) struct TakeAllowance(pub(super) JobId);

#[async_trait]
impl Command for TakeAllowance {
    type Answer = bool;

    /// It is taken once.
    const REPEATABLE: bool = false;

    async fn apply(&self, work: &mut Work<'_>) -> Result<bool, Fault> {
        let taken = sqlx::query("DELETE FROM allowances WHERE job = ?").bind(self.0.0).execute(work.conn()).await?;
        Ok(taken.rows_affected() == 1)
    }
}

/// Those of `jobs` that were registered here.
pub(super) async fn known(conn: &mut MySqlConnection, jobs: impl Iterator<Item = JobId>) -> Result<Vec<JobId>, Fault> {
    let asked: BTreeSet<i64> = jobs.map(|job| job.0).collect();
    if asked.is_empty() {
        return Ok(Vec::new());
    }
    let known: Vec<i64> = sqlx::query_scalar(concat!(
        "SELECT jobs.id FROM ",
        given!(),
        " STRAIGHT_JOIN jobs FORCE INDEX (PRIMARY) ON jobs.id = given.id"
    ))
    .bind(json(&asked)?)
    .fetch_all(conn)
    .await?;
    Ok(known.into_iter().map(JobId).collect())
}

/// Refuses a job that was never registered here.
pub(super) async fn must_exist(conn: &mut MySqlConnection, job: JobId) -> Result<(), Fault> {
    if known(conn, std::iter::once(job)).await?.is_empty() {
        return Err(Fault::Refused(unknown(job)));
    }
    Ok(())
}

/// What is said about a job that was never registered here.
pub(super) fn unknown(job: JobId) -> String {
    format!("there is no job number {}", job.0)
}

/// Stores where a scan stands.
pub(super) async fn set_cursor(conn: &mut MySqlConnection, job: JobId, update: &CursorUpdate) -> Result<(), Fault> {
    sqlx::query("UPDATE jobs SET scan_cursor = ?, cursor_digest = ? WHERE id = ?")
        .bind(&update.cursor)
        .bind(update.digest.as_bytes().as_slice())
        .bind(job.0)
        .execute(conn)
        .await?;
    Ok(())
}

/// Where the scan by `digest` stands; another component's cursor is none.
pub(super) async fn cursor(conn: &mut MySqlConnection, job: JobId, digest: Digest) -> Result<Option<String>, Fault> {
    let found: Option<Option<String>> =
        sqlx::query_scalar("SELECT scan_cursor FROM jobs WHERE id = ? AND cursor_digest = ?")
            .bind(job.0)
            .bind(digest.as_bytes().as_slice())
            .fetch_optional(conn)
            .await?;
    Ok(found.flatten())
}
