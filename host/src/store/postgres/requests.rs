//! Requests that are done at most once.
//!
//! Whoever comes first inserts the request's row; the same request at the same
//! time waits for that, and then reads its answer.

use async_trait::async_trait;
use sqlx::Row as _;

use super::Command;
use super::enqueue::{self, Asked};
use super::fault::Fault;
use super::sql;
use super::writing::Work;
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

    async fn apply(&self, work: &mut Work) -> Result<Once, Fault> {
        let (EnqueueOnce { job, request, tasks }, now) = (&self.ask, work.now(self.at));
        super::jobs::must_exist(work, *job).await?;
        let digest = request.digest.as_bytes().as_slice();
        let first = sqlx::query(
            "INSERT INTO requests (job, key, digest, answer, at) VALUES ($1, $2, $3, '', $4)
             ON CONFLICT (job, key) DO UPDATE SET digest = $3, answer = '', at = $4 WHERE requests.at <= $5",
        )
        .bind(job.0)
        .bind(&request.key)
        .bind(digest)
        .bind(sql::millis(now))
        .bind(sql::millis(forgotten(now)))
        .execute(work.conn())
        .await?;
        if first.rows_affected() == 0 {
            return self.repeated(work).await;
        }
        let asked: Vec<_> = tasks.iter().map(|task| Asked { job: job.0, task, now }).collect();
        let queued = enqueue::enqueue(work, &asked).await?;
        let answer = serde_json::to_string(&queued)
            .map_err(|error| Fault::Refused(format!("the answer cannot be recorded: {error}")))?;
        sqlx::query("UPDATE requests SET answer = $3 WHERE job = $1 AND key = $2")
            .bind(job.0)
            .bind(&request.key)
            .bind(answer)
            .execute(work.conn())
            .await?;
        Ok(Once::Queued(queued))
    }
}

impl EnqueueOnceAt {
    async fn repeated(&self, work: &mut Work) -> Result<Once, Fault> {
        let EnqueueOnce { job, request, .. } = &self.ask;
        let row = sqlx::query("SELECT digest, answer FROM requests WHERE job = $1 AND key = $2")
            .bind(job.0)
            .bind(&request.key)
            .fetch_optional(work.conn())
            .await?;
        // Pruned between the two looks.
        let row = row.ok_or(Fault::Contended)?;
        let (digest, answer): (&[u8], &str) = (row.try_get(0)?, row.try_get(1)?);
        if digest != request.digest.as_bytes() {
            return Ok(Once::Mismatch);
        }
        let answer = serde_json::from_str(answer)
            .map_err(|error| Fault::Refused(format!("the answer on record cannot be read: {error}")))?;
        Ok(Once::Repeated(answer))
    }
}

/// What was asked by then is forgotten.
pub(super) fn forgotten(now: Timestamp) -> Timestamp {
    Timestamp(now.0.saturating_sub(u64::try_from(RequestKey::KEPT.as_millis()).unwrap_or(u64::MAX)))
}
