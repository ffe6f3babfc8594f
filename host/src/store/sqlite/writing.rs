//! What a command sees of the transaction that it shares with others.

use rusqlite::{CachedStatement, Connection};

use super::fault::Fault;
use crate::domain::task::{Fence, TaskId};
use crate::domain::time::{Clock, Timestamp};
use crate::store::At;

/// One method of the store, as the writer applies it.
///
/// It may be applied more than once, after a rollback each time, so it keeps
/// nothing from a try that failed.
pub(super) trait Command: Send + 'static {
    /// What the caller learns.
    type Answer: Send + 'static;

    /// About how many rows it writes; bounds a group.
    fn rows(&self) -> usize {
        1
    }

    /// Whether it brings in new tasks: on a full disk these are refused first.
    fn is_intake(&self) -> bool {
        false
    }

    /// Does it, within the transaction of its group.
    fn apply(&self, writing: &mut Writing<'_>) -> Result<Self::Answer, Fault>;
}

/// An open transaction.
pub(super) struct Writing<'c> {
    conn: &'c Connection,
    clock: &'c Clock,
    tasks: Sequence,
    fences: Sequence,
    in_doubt: bool,
}

impl<'c> Writing<'c> {
    /// A transaction that was just begun on `conn`. `in_doubt`: the last write
    /// failed.
    pub(super) fn new(conn: &'c Connection, clock: &'c Clock, in_doubt: bool) -> Self {
        let (tasks, fences) = (Sequence::named("task"), Sequence::named("fence"));
        Self { conn, clock, tasks, fences, in_doubt }
    }

    /// Whether the last write failed, so that writing now must be tried to be
    /// known.
    pub(super) fn in_doubt(&self) -> bool {
        self.in_doubt
    }

    /// A statement that is prepared once a connection.
    pub(super) fn statement(&self, sql: &str) -> Result<CachedStatement<'c>, Fault> {
        Ok(self.conn.prepare_cached(sql)?)
    }

    /// The time that the caller goes by.
    pub(super) fn now(&self, at: At) -> Timestamp {
        match at {
            At::Server => self.clock.now(),
            At::Fixed(time) => time,
        }
    }

    /// A number that no task ever had.
    pub(super) fn fresh_task(&mut self) -> Result<TaskId, Fault> {
        Ok(super::sql::task_id(self.tasks.next(self.conn)?))
    }

    /// A fence above all earlier ones.
    pub(super) fn fresh_fence(&mut self) -> Result<Fence, Fault> {
        Ok(Fence(self.fences.next(self.conn)?.try_into().unwrap_or_default()))
    }

    /// Gives free pages at the file's end back to the disk, at most so many.
    pub(super) fn give_back(&self, pages: u32) -> Result<(), Fault> {
        // It answers a row for each page, and does nothing until it is asked.
        let mut vacuum = self.conn.prepare(&format!("PRAGMA incremental_vacuum({pages})"))?;
        let mut rows = vacuum.query([])?;
        while rows.next()?.is_some() {}
        Ok(())
    }

    /// Stores what was given out; before the commit.
    pub(super) fn finish(self) -> Result<(), Fault> {
        self.tasks.store(self.conn)?;
        self.fences.store(self.conn)
    }
}

/// A sequence of the database, read and written once a transaction; rolling
/// back to a savepoint leaves a gap in it.
struct Sequence {
    name: &'static str,
    last: Option<i64>,
}

impl Sequence {
    fn named(name: &'static str) -> Self {
        Self { name, last: None }
    }

    fn next(&mut self, conn: &Connection) -> rusqlite::Result<i64> {
        let last = match self.last {
            Some(last) => last,
            None => conn
                .prepare_cached("SELECT value FROM sequences WHERE name = ?1")?
                .query_row([self.name], |row| row.get(0))?,
        };
        self.last = Some(last + 1);
        Ok(last + 1)
    }

    fn store(&self, conn: &Connection) -> Result<(), Fault> {
        if let Some(last) = self.last {
            conn.prepare_cached("UPDATE sequences SET value = ?2 WHERE name = ?1")?.execute((self.name, last))?;
        }
        Ok(())
    }
}
