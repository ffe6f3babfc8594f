//! Forgetting what ended long ago, and giving its pages back to the disk.

use rusqlite::params;

use super::fault::Fault;
use super::writing::{Command, Writing};
use super::{effects, holds, requests, sql};
use crate::store::{At, Prune, Pruned};

/// Free pages that one call gives back; more would hold up the writer.
pub(super) const PAGES: u32 = 1000;

/// [`Store::prune`](crate::store::Store::prune).
pub(super) struct PruneAt {
    pub(super) prune: Prune,
    pub(super) at: At,
}

impl Command for PruneAt {
    type Answer = Pruned;

    fn rows(&self) -> usize {
        self.prune.limit as usize * 2
    }

    fn apply(&self, writing: &mut Writing<'_>) -> Result<Pruned, Fault> {
        let Prune { ended_before, effects_before, limit } = self.prune;
        let before = sql::millis(ended_before);
        let now = writing.now(self.at);
        writing
            .statement(
                "DELETE FROM attempts WHERE task IN (
                     SELECT id FROM history WHERE finished_at < ?1 ORDER BY finished_at LIMIT ?2)",
            )?
            .execute(params![before, limit])?;
        let tasks = writing
            .statement(
                "DELETE FROM history WHERE id IN (
                     SELECT id FROM history WHERE finished_at < ?1 ORDER BY finished_at LIMIT ?2)",
            )?
            .execute(params![before, limit])?;
        writing
            .statement(
                "DELETE FROM requests WHERE (job, key) IN (SELECT job, key FROM requests WHERE at <= ?1 LIMIT ?2)",
            )?
            .execute(params![sql::millis(requests::forgotten(now)), limit])?;
        let effects = effects::forget(writing, effects_before, limit)?;
        holds::forget(writing, ended_before, limit)?;
        if tasks < limit as usize {
            // No history is left that names them.
            writing.statement("DELETE FROM nodes WHERE ended_at < ?1")?.execute([before])?;
        }
        writing.give_back(PAGES)?;
        let more = tasks.max(effects) == limit as usize;
        Ok(Pruned { tasks: tasks as u64, effects: effects as u64, more })
    }
}
