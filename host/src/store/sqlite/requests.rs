//! Requests that are done at most once.

use rusqlite::{OptionalExtension as _, params};

use super::fault::Fault;
use super::writing::{Command, Writing};
use super::{enqueue, sql};
use crate::domain::time::Timestamp;
use crate::store::{At, EnqueueOnce, Once, RequestKey};

/// [`Store::enqueue_once`](crate::store::Store::enqueue_once).
pub(super) struct EnqueueOnceAt {
    pub(super) ask: EnqueueOnce,
    pub(super) at: At,
}

impl Command for EnqueueOnceAt {
    type Answer = Once;

    fn rows(&self) -> usize {
        self.ask.tasks.len() + 1
    }

    fn is_intake(&self) -> bool {
        true
    }

    fn apply(&self, writing: &mut Writing<'_>) -> Result<Once, Fault> {
        let (EnqueueOnce { job, request, tasks }, now) = (&self.ask, writing.now(self.at));
        let found: Option<(Vec<u8>, String)> = writing
            .statement("SELECT digest, answer FROM requests WHERE job = ?1 AND key = ?2 AND at > ?3")?
            .query_row(params![job.0, request.key, sql::millis(forgotten(now))], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        if let Some((digest, answer)) = found {
            if digest != request.digest.as_bytes() {
                return Ok(Once::Mismatch);
            }
            let answer = serde_json::from_str(&answer)
                .map_err(|error| Fault::Refused(format!("the answer on record cannot be read: {error}")))?;
            return Ok(Once::Repeated(answer));
        }
        let queued = enqueue::enqueue(writing, *job, tasks, now)?;
        let answer = serde_json::to_string(&queued)
            .map_err(|error| Fault::Refused(format!("the answer cannot be recorded: {error}")))?;
        writing
            .statement("INSERT OR REPLACE INTO requests (job, key, digest, answer, at) VALUES (?1, ?2, ?3, ?4, ?5)")?
            .execute(params![job.0, request.key, request.digest.as_bytes(), answer, sql::millis(now)])?;
        Ok(Once::Queued(queued))
    }
}

/// What was asked by then is forgotten.
pub(super) fn forgotten(now: Timestamp) -> Timestamp {
    Timestamp(now.0.saturating_sub(u64::try_from(RequestKey::KEPT.as_millis()).unwrap_or(u64::MAX)))
}
