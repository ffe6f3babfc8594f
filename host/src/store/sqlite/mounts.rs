//! By what the directories of jobs are known.

use rusqlite::{Connection, OptionalExtension as _, params};

use super::fault::Fault;
use super::writing::{Command, Writing};
use crate::domain::job::JobId;

/// [`Store::set_mount_id`](crate::store::Store::set_mount_id).
pub(super) struct SetMountId {
    pub(super) job: JobId,
    pub(super) at: String,
    pub(super) id: String,
}

impl Command for SetMountId {
    type Answer = ();

    fn apply(&self, writing: &mut Writing<'_>) -> Result<(), Fault> {
        super::jobs::must_exist(writing, self.job)?;
        writing
            .statement(
                "INSERT INTO mounts (job, at, id) VALUES (?1, ?2, ?3)
                 ON CONFLICT (job, at) DO UPDATE SET id = excluded.id",
            )?
            .execute(params![self.job.0, self.at, self.id])?;
        Ok(())
    }
}

/// By what the directory is known.
pub(super) fn mount_id(conn: &Connection, job: JobId, at: &str) -> Result<Option<String>, Fault> {
    Ok(conn
        .prepare_cached("SELECT id FROM mounts WHERE job = ?1 AND at = ?2")?
        .query_row(params![job.0, at], |row| row.get(0))
        .optional()?)
}

/// Whether any job knows a directory by it.
pub(super) fn knows_mount(conn: &Connection, id: &str) -> Result<bool, Fault> {
    Ok(conn.prepare_cached("SELECT EXISTS (SELECT 1 FROM mounts WHERE id = ?1)")?.query_row([id], |row| row.get(0))?)
}
