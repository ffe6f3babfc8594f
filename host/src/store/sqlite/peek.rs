//! What is due, without taking it.

use rusqlite::{Connection, params};

use super::claim::claimed;
use super::fault::Fault;
use super::sql;
use crate::domain::task::Priority;
use crate::store::{DuePlace, PeekDue, Peeked};

/// The next due tasks in the order of claims.
pub(super) fn peek(conn: &Connection, peek: &PeekDue) -> Result<Peeked, Fault> {
    // One range of the index a priority. Rows in flight are in it and skipped.
    let mut select = conn.prepare_cached(
        "SELECT id, key, payload, attempt, losses, enqueued_at, postponed_since, removed, run_at
         FROM tasks INDEXED BY due
         WHERE job = ?1 AND priority = ?2 AND run_at <= ?3 AND (run_at, id) > (?4, ?5) AND state = 0
         ORDER BY run_at, id LIMIT ?6",
    )?;
    let limit = peek.limit as usize;
    let mut peeked = Peeked { tasks: Vec::new(), next: None };
    let mut last = peek.after;
    for priority in Priority::ALL {
        let Some((run_at, id)) = peek.above(priority) else { continue };
        let left = i64::try_from(limit - peeked.tasks.len()).unwrap_or(i64::MAX);
        let range = params![peek.job.0, sql::priority(priority), sql::millis(peek.horizon), run_at, id, left];
        let mut rows = select.query(range)?;
        while let Some(row) = rows.next()? {
            let task = claimed(row)?;
            last = Some(DuePlace { priority, run_at: sql::time(row.get(8)?), id: task.id });
            peeked.tasks.push(task);
        }
        if peeked.tasks.len() == limit {
            peeked.next = last;
            break;
        }
    }
    Ok(peeked)
}
