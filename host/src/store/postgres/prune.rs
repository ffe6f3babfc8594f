//! Forgetting what ended long ago. Several nodes may do so at once.

use async_trait::async_trait;
use sqlx::Row as _;

use super::Command;
use super::fault::Fault;
use super::writing::Work;
use super::{effects, holds, requests, sql};
use crate::store::{At, Prune, Pruned};

/// [`Store::prune`](crate::store::Store::prune).
pub(super) struct PruneAt {
    pub(super) prune: Prune,
    pub(super) at: At,
}

#[async_trait]
impl Command for PruneAt {
    type Answer = Pruned;

    async fn apply(&self, work: &mut Work) -> Result<Pruned, Fault> {
        let Prune { ended_before, effects_before, limit } = self.prune;
        let before = sql::millis(ended_before);
        let forgotten = sql::millis(requests::forgotten(work.now(self.at)));
        let conn = work.conn();
        let row = sqlx::query(
            "WITH old AS (
                 DELETE FROM history WHERE id = ANY (ARRAY (
                     SELECT id FROM history WHERE finished_at < $1 ORDER BY finished_at LIMIT $2
                     FOR UPDATE SKIP LOCKED))
                 RETURNING id),
             earlier AS (DELETE FROM attempts USING old WHERE task = old.id)
             SELECT count(*) FROM old",
        )
        .bind(before)
        .bind(i64::from(limit))
        .fetch_one(&mut *conn)
        .await?;
        let tasks = row.try_get::<i64, _>(0)?.unsigned_abs();
        sqlx::query(
            "DELETE FROM requests USING (
                 SELECT job, key FROM requests WHERE at <= $1 ORDER BY at LIMIT $2 FOR UPDATE SKIP LOCKED) AS old
             WHERE requests.job = old.job AND requests.key = old.key",
        )
        .bind(forgotten)
        .bind(i64::from(limit))
        .execute(&mut *conn)
        .await?;
        let effects = effects::forget(work, effects_before, limit).await?;
        holds::forget(work, ended_before, limit).await?;
        if tasks < u64::from(limit) {
            // No history is left that names them.
            sqlx::query(
                "DELETE FROM nodes
                 WHERE ended_at < $1 AND NOT EXISTS (SELECT FROM batches WHERE batches.node = nodes.id)",
            )
            .bind(before)
            .execute(work.conn())
            .await?;
        }
        Ok(Pruned { tasks, effects, more: tasks.max(effects) == u64::from(limit) })
    }
}
