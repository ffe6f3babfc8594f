//! Jobs' rows: names, pauses, and where their scans stand.

use rusqlite::{Connection, OptionalExtension as _, params};

use super::fault::Fault;
use super::writing::{Command, Writing};
use crate::domain::digest::Digest;
use crate::domain::job::{JobId, JobName};
use crate::store::{CursorUpdate, JobRow};

/// [`Store::register_job`](crate::store::Store::register_job).
pub(super) struct RegisterJob(pub(super) JobName);

impl Command for RegisterJob {
    type Answer = JobRow;

    fn apply(&self, writing: &mut Writing<'_>) -> Result<JobRow, Fault> {
        let name = self.0.as_str();
        let found = writing
            .statement("SELECT id, paused FROM jobs WHERE name = ?1")?
            .query_row([name], |row| Ok(JobRow { id: JobId(row.get(0)?), paused: row.get(1)? }))
            .optional()?;
        if let Some(row) = found {
            return Ok(row);
        }
        let id = writing.statement("INSERT INTO jobs (name) VALUES (?1)")?.insert([name])?;
        Ok(JobRow { id: JobId(id), paused: None })
    }
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
