//! Requests that are done at most once.
//!
//! A request takes its row before it does anything: of many at once the first
//! does it, and the others wait for its answer.

use async_trait::async_trait;

use super::enqueue::{Asked, enqueue};
use super::fault::Fault;
use super::writing::{Command, Work};
use super::{jobs, sql};
use crate::domain::time::Timestamp;
use crate::store::{At, EnqueueOnce, Once, RequestKey};

/// [`Store::enqueue_once`](crate::store::Store::enqueue_once).
pub(super) struct EnqueueOnceAt {
    pub(super) ask: EnqueueOnce,
    pub(super) at: At,
}

#[async_trait]
impl Command for EnqueueOnceAt {
    type Answer = Once;

    fn numbers(&self) -> usize {
        self.ask.tasks.len()
    }

    async fn apply(&self, work: &mut Work<'_>) -> Result<Once, Fault> {
        let (EnqueueOnce { job, request, tasks }, now) = (&self.ask, work.now(self.at));
        jobs::must_exist(work.conn(), *job).await?;
        let digest = request.digest.as_bytes().as_slice();
        sqlx::query(
            "INSERT INTO requests (job, `key`, digest, answer, at) VALUES (?, ?, ?, '', ?)
             ON DUPLICATE KEY UPDATE job = job",
        )
        .bind(job.0)
        .bind(request.key.as_bytes())
        .bind(digest)
        .bind(sql::millis(now))
        .execute(work.conn())
        .await?;
        let (known, answer, at): (Vec<u8>, String, i64) =
            sqlx::query_as("SELECT digest, answer, at FROM requests WHERE job = ? AND `key` = ? FOR UPDATE")
                .bind(job.0)
                .bind(request.key.as_bytes())
                .fetch_one(work.conn())
                .await?;
        if !answer.is_empty() && at > sql::millis(forgotten(now)) {
            if known != digest {
                return Ok(Once::Mismatch);
            }
            return Ok(Once::Repeated(serde_json::from_str(&answer).map_err(sql::unreadable)?));
        }
        let asked: Vec<_> = tasks.iter().map(|task| Asked { job: *job, task, now }).collect();
        let (conn, numbers) = work.conn_and_numbers();
        let queued = enqueue(conn, numbers, &asked).await?;
        sqlx::query("UPDATE requests SET digest = ?, answer = ?, at = ? WHERE job = ? AND `key` = ?")
            .bind(digest)
            .bind(sql::json(&queued)?)
            .bind(sql::millis(now))
            .bind(job.0)
            .bind(request.key.as_bytes())
            .execute(work.conn())
            .await?;
        Ok(Once::Queued(queued))
    }
}

/// What was asked by then is forgotten.
pub(super) fn forgotten(now: Timestamp) -> Timestamp {
    Timestamp(now.0.saturating_sub(u64::try_from(RequestKey::KEPT.as_millis()).unwrap_or(u64::MAX)))
}
