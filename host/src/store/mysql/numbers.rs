//! Numbers of tasks: they rise, and none is given out twice.
//!
//! The sequence is one row of the database. A queueing store takes numbers
//! from it by the block, before its transaction begins: the row is then locked
//! for one short commit, and not by everybody who queues until theirs.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use sqlx::MySqlConnection;

use super::fault::Fault;
use super::writing::{Command, Work};

/// The least that is taken at once, so that a task queued alone rarely pays
/// for a second commit.
const BLOCK: i64 = 256;

/// Numbers that this store took and has not given out.
#[derive(Debug, Default)]
pub(super) struct Numbers(Mutex<Range<i64>>);

impl Numbers {
    /// Makes sure that `count` are there, outside of a transaction.
    pub(super) async fn fill(&self, conn: &mut MySqlConnection, count: usize) -> Result<(), Fault> {
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        let there = self.with(|numbers| numbers.end - numbers.start);
        if there >= count {
            return Ok(());
        }
        let size = count.max(BLOCK);
        let first = fresh(conn, size).await?;
        self.with(|numbers| {
            // Numbers rise within a store: an older block is not gone back to.
            if first >= numbers.end {
                *numbers = first..first + size;
            }
        });
        Ok(())
    }

    /// The first of `count` in a row; within the transaction where they are
    /// not there any more.
    pub(super) async fn take(&self, conn: &mut MySqlConnection, count: usize) -> Result<i64, Fault> {
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        let taken = self.with(|numbers| {
            let first = numbers.start;
            (numbers.end - first >= count).then(|| {
                numbers.start += count;
                first
            })
        });
        match taken {
            Some(first) => Ok(first),
            None => fresh(conn, count).await,
        }
    }

    fn with<T>(&self, look: impl FnOnce(&mut Range<i64>) -> T) -> T {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The first of `count` numbers above all that were given out.
pub(super) async fn fresh(conn: &mut MySqlConnection, count: i64) -> Result<i64, Fault> {
    let taken = sqlx::query("UPDATE sequences SET value = LAST_INSERT_ID(value + ?) WHERE name = 'task'")
        .bind(count)
        .execute(conn)
        .await?;
    let last = i64::try_from(taken.last_insert_id()).unwrap_or(i64::MAX);
    if last < count {
        return Err(Fault::Refused("the sequence of task numbers is gone; restore a backup".to_owned()));
    }
    Ok(last - count + 1)
}

/// Whether the store can be read and written: takes the sequence's row as a
/// write does, and asks the server whether it would let one pass.
pub(super) struct Check;

#[async_trait]
impl Command for Check {
    type Answer = ();

    async fn apply(&self, work: &mut Work<'_>) -> Result<(), Fault> {
        // The session's own setting has another name in MySQL.
        let locked: (i64, bool) = sqlx::query_as(
            "SELECT value, @@GLOBAL.read_only OR /*M! @@SESSION.tx_read_only */
                                                 /*!80000 @@SESSION.transaction_read_only */
             FROM sequences WHERE name = 'task' FOR UPDATE",
        )
        .fetch_one(work.conn())
        .await?;
        if locked.1 { Err(Fault::ReadOnly) } else { Ok(()) }
    }
}
