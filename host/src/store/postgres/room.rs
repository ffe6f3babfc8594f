//! Whether a disk of the server that was full has room for new tasks again.
//!
//! What is small may fit where new tasks do not, so that nothing but tasks shows
//! it: some are written into their table and taken back. That is done only after
//! the server said that a disk is full, and until it fits.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use async_trait::async_trait;

use super::Command;
use super::fault::Fault;
use super::shared::Shared;
use super::writing::{Work, write};
use crate::store::StoreError;

/// Rows of no job, 64 KiB in all, each in a page of the table itself.
const TRY: &str = "
    INSERT INTO tasks (job, key, priority, run_at, enqueued_at, payload)
    SELECT 0, decode(md5(random()::text || nth), 'hex'), 3, 0, 0, repeat('x', 1900)
    FROM generate_series(1, 34) AS tried (nth)";

/// [`StoreError::Full`] while there is none.
pub(super) async fn check(shared: &Arc<Shared>) -> Result<(), StoreError> {
    if !shared.server.was_full.load(Ordering::Relaxed) {
        return Ok(());
    }
    write(shared, &Try).await?;
    shared.server.was_full.store(false, Ordering::Relaxed);
    tracing::info!("{}: the server's disk has room again", shared.server.place);
    Ok(())
}

struct Try;

#[async_trait]
impl Command for Try {
    type Answer = ();

    async fn apply(&self, work: &mut Work) -> Result<(), Fault> {
        for step in ["SAVEPOINT tried", TRY, "ROLLBACK TO SAVEPOINT tried"] {
            sqlx::raw_sql(step).execute(work.conn()).await?;
        }
        Ok(())
    }
}
