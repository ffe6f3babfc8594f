//! By what the directories of jobs are known.

use async_trait::async_trait;
use sqlx::MySqlConnection;

use super::fault::Fault;
use super::writing::{Command, Work};
use crate::domain::job::JobId;

/// [`Store::set_mount_id`](crate::store::Store::set_mount_id).
pub(super) struct SetMountId {
    pub(super) job: JobId,
    pub(super) at: String,
    pub(super) id: String,
}

#[async_trait]
impl Command for SetMountId {
    type Answer = ();

    async fn apply(&self, work: &mut Work<'_>) -> Result<(), Fault> {
        super::jobs::must_exist(work.conn(), self.job).await?;
        sqlx::query("INSERT INTO mounts (job, at, id) VALUES (?, ?, ?) ON DUPLICATE KEY UPDATE id = VALUES(id)")
            .bind(self.job.0)
            .bind(self.at.as_bytes())
            .bind(&self.id)
            .execute(work.conn())
            .await?;
        Ok(())
    }
}

/// By what the directory is known.
pub(super) async fn mount_id(conn: &mut MySqlConnection, job: JobId, at: &str) -> Result<Option<String>, Fault> {
    let id = sqlx::query_scalar("SELECT id FROM mounts WHERE job = ? AND at = ?");
    Ok(id.bind(job.0).bind(at.as_bytes()).fetch_optional(conn).await?)
}

/// Whether any job knows a directory by it.
pub(super) async fn knows_mount(conn: &mut MySqlConnection, id: &str) -> Result<bool, Fault> {
    let known = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM mounts WHERE id = ?)");
    Ok(known.bind(id).fetch_one(conn).await?)
}
