//! Forgetting what ended long ago.

use async_trait::async_trait;

use super::fault::Fault;
use super::sql::{self, given, json};
use super::writing::{Command, Work};
use super::{effects, holds, requests};
use crate::store::{At, Prune, Pruned};

/// [`Store::prune`](crate::store::Store::prune).
pub(super) struct PruneAt {
    pub(super) prune: Prune,
    pub(super) at: At,
}

#[async_trait]
impl Command for PruneAt {
    type Answer = Pruned;

    async fn apply(&self, work: &mut Work<'_>) -> Result<Pruned, Fault> {
        let Prune { ended_before, effects_before, limit } = self.prune;
        let before = sql::millis(ended_before);
        let now = work.now(self.at);
        // What another node is forgetting is skipped.
        let mut ids: Vec<i64> = sqlx::query_scalar(
            "SELECT id FROM history FORCE INDEX (finished) WHERE finished_at < ?
             ORDER BY finished_at LIMIT ? FOR UPDATE SKIP LOCKED",
        )
        .bind(before)
        .bind(i64::from(limit))
        .fetch_all(work.conn())
        .await?;
        ids.sort_unstable();
        if !ids.is_empty() {
            let ids = json(&ids)?;
            for forget in [ATTEMPTS, HISTORY] {
                sqlx::query(forget).bind(&ids).execute(work.conn()).await?;
            }
        }
        sqlx::query("DELETE FROM requests WHERE at <= ? ORDER BY at LIMIT ?")
            .bind(sql::millis(requests::forgotten(now)))
            .bind(i64::from(limit))
            .execute(work.conn())
            .await?;
        let effects = effects::forget(work.conn(), effects_before, limit).await?;
        holds::forget(work.conn(), ended_before, limit).await?;
        let tasks = ids.len() as u64;
        if tasks < u64::from(limit) {
            // No history is left that names them.
            sqlx::query(
                "DELETE FROM nodes WHERE ended_at < ?
                 AND NOT EXISTS (SELECT 1 FROM batches WHERE batches.node = nodes.id)",
            )
            .bind(before)
            .execute(work.conn())
            .await?;
        }
        Ok(Pruned { tasks, effects, more: tasks.max(effects) == u64::from(limit) })
    }
}

const ATTEMPTS: &str = concat!(
    "DELETE attempts FROM ",
    given!(),
    " STRAIGHT_JOIN attempts FORCE INDEX (PRIMARY) ON attempts.task = given.id"
);

/// By another name: `DELETE HISTORY` would be a statement about versions.
const HISTORY: &str = concat!(
    "DELETE ended FROM ",
    given!(),
    " STRAIGHT_JOIN history AS ended FORCE INDEX (PRIMARY) ON ended.id = given.id"
);
