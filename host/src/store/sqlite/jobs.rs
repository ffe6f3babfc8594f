//! Jobs' rows: names, pauses, and where their scans stand.

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::fault::Fault;
use super::sql;
use super::writing::{Command, Writing};
use crate::domain::digest::Digest;
use crate::domain::job::{JobId, JobName};
use crate::domain::node::NodeId;
use crate::store::{At, CursorUpdate, EndScan, JobRow, ScanEnded, ScanLease, TakeScan};

/// [`Store::register_job`](crate::store::Store::register_job).
pub(super) struct RegisterJob(pub(super) JobName);

impl Command for RegisterJob {
    type Answer = JobRow;

    fn apply(&self, writing: &mut Writing<'_>) -> Result<JobRow, Fault> {
        let name = self.0.as_str();
        let now = sql::millis(writing.now(At::Server));
        writing
            .statement("INSERT INTO jobs (name, scheduled) VALUES (?1, ?2) ON CONFLICT (name) DO NOTHING")?
            .execute(params![name, now])?;
        Ok(writing
            .statement("SELECT id, name, paused, scheduled, once_over_budget FROM jobs WHERE name = ?1")?
            .query_row([name], job_row)?)
    }
}

/// All jobs.
pub(super) fn jobs(conn: &Connection) -> Result<Vec<JobRow>, Fault> {
    let mut select =
        conn.prepare_cached("SELECT id, name, paused, scheduled, once_over_budget FROM jobs ORDER BY id")?;
    let rows = select.query_map([], job_row)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn job_row(row: &Row<'_>) -> rusqlite::Result<JobRow> {
    let (id, name, paused) = (JobId(row.get(0)?), row.get(1)?, row.get(2)?);
    Ok(JobRow { id, name, paused, scheduled: sql::time(row.get(3)?), once_over_budget: row.get(4)? })
}

/// Whether a job may be claimed from.
pub(super) fn is_paused(writing: &Writing<'_>, job: JobId) -> Result<bool, Fault> {
    Ok(writing.statement("SELECT 1 FROM jobs WHERE id = ?1 AND paused IS NOT NULL")?.exists([job.0])?)
}

/// [`Store::take_scan`](crate::store::Store::take_scan).
impl Command for TakeScan {
    type Answer = ScanLease;

    fn apply(&self, writing: &mut Writing<'_>) -> Result<ScanLease, Fault> {
        must_exist(writing, self.job)?;
        super::nodes::must_live(writing, self.node)?;
        let scheduled = self.scheduled.map(sql::millis);
        let taken = writing
            .statement(
                "UPDATE jobs SET scan_owner = ?2
                 WHERE id = ?1 AND (?3 IS NULL OR scheduled < ?3)
                   AND (scan_owner IS NULL OR scan_owner = ?2 OR NOT EXISTS (
                       SELECT 1 FROM nodes WHERE nodes.id = scan_owner AND ended_at IS NULL))",
            )?
            .execute(params![self.job.0, self.node.0, scheduled])?;
        if taken == 1 {
            return Ok(ScanLease::Taken);
        }
        let past = writing
            .statement("SELECT 1 FROM jobs WHERE id = ?1 AND scheduled >= ?2")?
            .exists(params![self.job.0, scheduled])?;
        Ok(if past { ScanLease::Past } else { ScanLease::Anothers })
    }
}

/// [`Store::end_scan`](crate::store::Store::end_scan).
impl Command for EndScan {
    type Answer = ScanEnded;

    fn apply(&self, writing: &mut Writing<'_>) -> Result<ScanEnded, Fault> {
        let recorded = writing
            .statement("UPDATE jobs SET scheduled = max(scheduled, ?3) WHERE id = ?1 AND scan_owner = ?2")?
            .execute(params![self.job.0, self.node.0, sql::millis(self.scheduled)])?;
        Ok(if recorded == 1 { ScanEnded::Recorded } else { ScanEnded::Fenced })
    }
}

/// [`Store::give_up_scan`](crate::store::Store::give_up_scan).
pub(super) struct GiveUpScan {
    pub(super) job: JobId,
    pub(super) node: NodeId,
}

impl Command for GiveUpScan {
    type Answer = ();

    fn apply(&self, writing: &mut Writing<'_>) -> Result<(), Fault> {
        writing
            .statement("UPDATE jobs SET scan_owner = NULL WHERE id = ?1 AND scan_owner = ?2")?
            .execute([self.job.0, self.node.0])?;
        Ok(())
    }
}

/// Refuses a node that does not hold the scan.
pub(super) fn must_scan(writing: &Writing<'_>, job: JobId, node: NodeId) -> Result<(), Fault> {
    if writing.statement("SELECT 1 FROM jobs WHERE id = ?1 AND scan_owner = ?2")?.exists([job.0, node.0])? {
        return Ok(());
    }
    Err(Fault::Refused(format!("node number {node} does not hold the scan of job number {}", job.0)))
}

/// [`Store::set_paused`](crate::store::Store::set_paused).
pub(super) struct SetPaused {
    pub(super) job: JobId,
    pub(super) reason: Option<String>,
}

impl Command for SetPaused {
    type Answer = ();

    fn apply(&self, writing: &mut Writing<'_>) -> Result<(), Fault> {
        must_exist(writing, self.job)?;
        writing
            .statement("UPDATE jobs SET paused = ?2 WHERE id = ?1 AND paused IS NOT ?2")?
            .execute(params![self.job.0, self.reason])?;
        Ok(())
    }
}

/// [`Store::resume`](crate::store::Store::resume).
pub(super) struct Resume {
    pub(super) job: JobId,
    pub(super) once_over_budget: bool,
}

impl Command for Resume {
    type Answer = ();

    fn apply(&self, writing: &mut Writing<'_>) -> Result<(), Fault> {
        must_exist(writing, self.job)?;
        writing
            .statement("UPDATE jobs SET paused = NULL, once_over_budget = once_over_budget OR ?2 WHERE id = ?1")?
            .execute(params![self.job.0, self.once_over_budget])?;
        Ok(())
    }
}

/// [`Store::take_allowance`](crate::store::Store::take_allowance).
pub(super) struct TakeAllowance(pub(super) JobId);

impl Command for TakeAllowance {
    type Answer = bool;

    fn apply(&self, writing: &mut Writing<'_>) -> Result<bool, Fault> {
        let taken = writing
            .statement("UPDATE jobs SET once_over_budget = 0 WHERE id = ?1 AND once_over_budget")?
            .execute([self.0.0])?;
        Ok(taken == 1)
    }
}

/// Refuses a job that was never registered here.
pub(super) fn must_exist(writing: &Writing<'_>, job: JobId) -> Result<(), Fault> {
    if writing.statement("SELECT 1 FROM jobs WHERE id = ?1")?.exists([job.0])? {
        return Ok(());
    }
    Err(Fault::Refused(format!("there is no job number {}", job.0)))
}

/// Stores where a scan stands.
pub(super) fn set_cursor(writing: &Writing<'_>, job: JobId, update: &CursorUpdate) -> Result<(), Fault> {
    writing.statement("UPDATE jobs SET cursor = ?2, cursor_digest = ?3 WHERE id = ?1")?.execute(params![
        job.0,
        update.cursor,
        update.digest.as_bytes()
    ])?;
    Ok(())
}

/// Where the scan by `digest` stands; another component's cursor is none.
pub(super) fn cursor(conn: &Connection, job: JobId, digest: Digest) -> Result<Option<String>, Fault> {
    let found = conn
        .prepare_cached("SELECT cursor FROM jobs WHERE id = ?1 AND cursor_digest = ?2")?
        .query_row(params![job.0, digest.as_bytes()], |row| row.get(0))
        .optional()?;
    Ok(found.flatten())
}
