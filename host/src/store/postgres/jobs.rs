//! Jobs' rows: names, pauses, and where their scans stand.

use async_trait::async_trait;
use sqlx::Row as _;
use sqlx::postgres::{PgConnection, PgRow};

use super::Command;
use super::fault::Fault;
use super::sql;
use super::writing::Work;
use crate::domain::digest::Digest;
use crate::domain::job::{JobId, JobName};
use crate::domain::node::NodeId;
use crate::store::{At, CursorUpdate, EndScan, JobRow, ScanEnded, ScanLease, TakeScan};

/// [`Store::register_job`](crate::store::Store::register_job).
pub(super) struct RegisterJob(pub(super) JobName);

#[async_trait]
impl Command for RegisterJob {
    type Answer = JobRow;

    async fn apply(&self, work: &mut Work) -> Result<JobRow, Fault> {
        let (name, now) = (self.0.as_str(), sql::millis(work.now(At::Server)));
        let find = "SELECT id, name, paused, scheduled, once_over_budget FROM jobs WHERE name = $1";
        let conn = work.conn();
        if let Some(row) = sqlx::query(find).bind(name).fetch_optional(&mut *conn).await? {
            return job_row(&row);
        }
        sqlx::query("INSERT INTO jobs (name, scheduled) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING")
            .bind(name)
            .bind(now)
            .execute(&mut *conn)
            .await?;
        job_row(&sqlx::query(find).bind(name).fetch_one(conn).await?)
    }
}

/// All jobs.
pub(super) async fn jobs(conn: &mut PgConnection) -> Result<Vec<JobRow>, Fault> {
    let rows = sqlx::query("SELECT id, name, paused, scheduled, once_over_budget FROM jobs ORDER BY id")
        .fetch_all(conn)
        .await?;
    rows.iter().map(job_row).collect()
}

fn job_row(row: &PgRow) -> Result<JobRow, Fault> {
    let (id, name, paused) = (JobId(row.try_get(0)?), row.try_get(1)?, row.try_get(2)?);
    Ok(JobRow { id, name, paused, scheduled: sql::time(row.try_get(3)?), once_over_budget: row.try_get(4)? })
}

/// [`Store::take_scan`](crate::store::Store::take_scan).
#[async_trait]
impl Command for TakeScan {
    type Answer = ScanLease;

    async fn apply(&self, work: &mut Work) -> Result<ScanLease, Fault> {
        must_exist(work, self.job).await?;
        super::nodes::must_live(work.conn(), self.node).await?;
        let scheduled = self.scheduled.map(sql::millis);
        let taken = sqlx::query(
            "UPDATE jobs SET scan_owner = $2
             WHERE id = $1 AND ($3::int8 IS NULL OR scheduled < $3)
               AND (scan_owner IS NULL OR scan_owner = $2 OR NOT EXISTS (
                   SELECT FROM nodes WHERE nodes.id = scan_owner AND ended_at IS NULL))",
        )
        .bind(self.job.0)
        .bind(self.node.0)
        .bind(scheduled)
        .execute(work.conn())
        .await?;
        if taken.rows_affected() == 1 {
            return Ok(ScanLease::Taken);
        }
        let past = sqlx::query("SELECT FROM jobs WHERE id = $1 AND scheduled >= $2")
            .bind(self.job.0)
            .bind(scheduled)
            .fetch_optional(work.conn())
            .await?;
        Ok(if past.is_some() { ScanLease::Past } else { ScanLease::Anothers })
    }
}

/// [`Store::end_scan`](crate::store::Store::end_scan).
#[async_trait]
impl Command for EndScan {
    type Answer = ScanEnded;

    async fn apply(&self, work: &mut Work) -> Result<ScanEnded, Fault> {
        let recorded =
            sqlx::query("UPDATE jobs SET scheduled = greatest(scheduled, $3) WHERE id = $1 AND scan_owner = $2")
                .bind(self.job.0)
                .bind(self.node.0)
                .bind(sql::millis(self.scheduled))
                .execute(work.conn())
                .await?;
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

    async fn apply(&self, work: &mut Work) -> Result<(), Fault> {
        sqlx::query("UPDATE jobs SET scan_owner = NULL WHERE id = $1 AND scan_owner = $2")
            .bind(self.job.0)
            .bind(self.node.0)
            .execute(work.conn())
            .await?;
        Ok(())
    }
}

/// Refuses a node that does not hold the scan, and keeps it from losing it
/// before the transaction ends.
pub(super) async fn must_scan(work: &mut Work, job: JobId, node: NodeId) -> Result<(), Fault> {
    let holds = sqlx::query("SELECT FROM jobs WHERE id = $1 AND scan_owner = $2 FOR NO KEY UPDATE")
        .bind(job.0)
        .bind(node.0)
        .fetch_optional(work.conn())
        .await?;
    match holds {
        Some(_) => Ok(()),
        None => Err(Fault::Refused(format!("node number {node} does not hold the scan of job number {}", job.0))),
    }
}

/// [`Store::set_paused`](crate::store::Store::set_paused).
pub(super) struct SetPaused {
    pub(super) job: JobId,
    pub(super) reason: Option<String>,
}

#[async_trait]
impl Command for SetPaused {
    type Answer = ();

    async fn apply(&self, work: &mut Work) -> Result<(), Fault> {
        must_exist(work, self.job).await?;
        sqlx::query("UPDATE jobs SET paused = $2 WHERE id = $1 AND paused IS DISTINCT FROM $2")
            .bind(self.job.0)
            .bind(&self.reason)
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

    async fn apply(&self, work: &mut Work) -> Result<(), Fault> {
        must_exist(work, self.job).await?;
        sqlx::query("UPDATE jobs SET paused = NULL, once_over_budget = once_over_budget OR $2 WHERE id = $1")
            .bind(self.job.0)
            .bind(self.once_over_budget)
            .execute(work.conn())
            .await?;
        Ok(())
    }
}

/// [`Store::take_allowance`](crate::store::Store::take_allowance).
pub(super) struct TakeAllowance(pub(super) JobId);

#[async_trait]
impl Command for TakeAllowance {
    type Answer = bool;

    async fn apply(&self, work: &mut Work) -> Result<bool, Fault> {
        let taken = sqlx::query("UPDATE jobs SET once_over_budget = FALSE WHERE id = $1 AND once_over_budget")
            .bind(self.0.0)
            .execute(work.conn())
            .await?;
        Ok(taken.rows_affected() == 1)
    }
}

/// Refuses a job that was never registered here. Jobs are never removed, so
/// each is looked for once.
pub(super) async fn must_exist(work: &mut Work, job: JobId) -> Result<(), Fault> {
    if work.shared.knows(job) {
        return Ok(());
    }
    let found = sqlx::query("SELECT FROM jobs WHERE id = $1").bind(job.0).fetch_optional(work.conn()).await?;
    match found {
        Some(_) => {
            work.shared.learn(job);
            Ok(())
        }
        None => Err(Fault::Refused(format!("there is no job number {}", job.0))),
    }
}

/// Stores where a scan stands.
pub(super) async fn set_cursor(work: &mut Work, job: JobId, update: &CursorUpdate) -> Result<(), Fault> {
    sqlx::query("UPDATE jobs SET cursor = $2, cursor_digest = $3 WHERE id = $1")
        .bind(job.0)
        .bind(&update.cursor)
        .bind(update.digest.as_bytes().as_slice())
        .execute(work.conn())
        .await?;
    Ok(())
}

/// Where the scan by `digest` stands; another component's cursor is none.
pub(super) async fn cursor(conn: &mut PgConnection, job: JobId, digest: Digest) -> Result<Option<String>, Fault> {
    let found = sqlx::query("SELECT cursor FROM jobs WHERE id = $1 AND cursor_digest = $2")
        .bind(job.0)
        .bind(digest.as_bytes().as_slice())
        .fetch_optional(conn)
        .await?;
    Ok(found.map(|row| row.try_get(0)).transpose()?.flatten())
}
