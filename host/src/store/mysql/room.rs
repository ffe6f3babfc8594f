//! Whether a disk of the server that was full has room for new tasks again.
//!
//! What is small may fit where new tasks do not, so that nothing but tasks shows
//! it: some are written into their table and taken back. That is done only after
//! the server said that a disk is full, and until it fits.

use std::sync::atomic::Ordering;

use async_trait::async_trait;
use sqlx::AssertSqlSafe;

use super::Shared;
use super::fault::Fault;
use super::writing::{Command, Work};
use crate::store::StoreError;

/// Rows of no job, 64 KiB in all, each in a page of the table itself: what does
/// not fit into a page ends some versions of the server on a full disk.
const ROWS: u32 = 34;
const BYTES: u32 = 1900;

/// [`StoreError::Full`] while there is none.
pub(super) async fn check(shared: &Shared) -> Result<(), StoreError> {
    if !shared.server.was_full.load(Ordering::Relaxed) {
        return Ok(());
    }
    shared.write(&Try).await?;
    shared.server.was_full.store(false, Ordering::Relaxed);
    tracing::info!("{}: the server's disk has room again", shared.server.place());
    Ok(())
}

struct Try;

#[async_trait]
impl Command for Try {
    type Answer = ();

    async fn apply(&self, work: &mut Work<'_>) -> Result<(), Fault> {
        // Numbers that no task has; two who try at once take others.
        let first = -fastrand::i64(1..1 << 40) * i64::from(ROWS);
        let row = |nth: u32| {
            let id = first + i64::from(nth);
            format!("({id}, 0, '{id}', 3, 0, 0, REPEAT('x', {BYTES}))")
        };
        let rows: Vec<_> = (0..ROWS).map(row).collect();
        let insert = format!(
            "INSERT INTO tasks (id, job, `key`, priority, run_at, enqueued_at, payload) VALUES {}",
            rows.join(", ")
        );
        for step in ["SAVEPOINT tried".to_owned(), insert, "ROLLBACK TO SAVEPOINT tried".to_owned()] {
            sqlx::raw_sql(AssertSqlSafe(step)).execute(work.conn()).await?;
        }
        Ok(())
    }
}
