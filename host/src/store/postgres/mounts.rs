//! By what the directories of jobs are known.

use async_trait::async_trait;
use sqlx::postgres::PgConnection;

use super::Command;
use super::fault::Fault;
use super::writing::Work;
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

    async fn apply(&self, work: &mut Work) -> Result<(), Fault> {
        super::jobs::must_exist(work, self.job).await?;
        sqlx::query(
            "INSERT INTO mounts (job, at, id) VALUES ($1, $2, $3)
             ON CONFLICT (job, at) DO UPDATE SET id = excluded.id",
        )
        .bind(self.job.0)
        .bind(&self.at)
        .bind(&self.id)
        .execute(work.conn())
        .await?;
        Ok(())
    }
}

/// By what the directory is known.
pub(super) async fn mount_id(conn: &mut PgConnection, job: JobId, at: &str) -> Result<Option<String>, Fault> {
    let id = sqlx::query_scalar("SELECT id FROM mounts WHERE job = $1 AND at = $2");
    Ok(id.bind(job.0).bind(at).fetch_optional(conn).await?)
}

/// Whether any job knows a directory by it.
pub(super) async fn knows_mount(conn: &mut PgConnection, id: &str) -> Result<bool, Fault> {
    let known = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM mounts WHERE id = $1)");
    Ok(known.bind(id).fetch_one(conn).await?)
}
