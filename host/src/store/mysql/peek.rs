//! What is due, without taking it.

use sqlx::{MySqlConnection, Row as _};

use super::claim::claimed;
use super::fault::Fault;
use super::sql;
use crate::domain::task::Priority;
use crate::store::{DuePlace, PeekDue, Peeked};

/// The next due tasks in the order of claims: one range of the index a
/// priority. Rows in flight are in it and skipped.
const PEEK: &str = "
    SELECT id, `key`, payload, attempt, losses, enqueued_at, postponed_since, removed, run_at
    FROM tasks FORCE INDEX (due)
    WHERE job = ? AND priority = ? AND run_at <= ? AND run_at >= ? AND (run_at > ? OR id > ?) AND state = 0
    ORDER BY run_at, id LIMIT ?";

/// A page of due tasks.
pub(super) async fn peek(conn: &mut MySqlConnection, peek: &PeekDue) -> Result<Peeked, Fault> {
    let limit = peek.limit as usize;
    let mut peeked = Peeked { tasks: Vec::new(), next: None };
    let mut last = peek.after;
    for priority in Priority::ALL {
        let Some((run_at, id)) = peek.above(priority) else { continue };
        let rows = sqlx::query(PEEK)
            .bind(peek.job.0)
            .bind(sql::priority(priority))
            .bind(sql::millis(peek.horizon))
            .bind(run_at)
            .bind(run_at)
            .bind(id)
            .bind(i64::try_from(limit - peeked.tasks.len()).unwrap_or(i64::MAX))
            .fetch_all(&mut *conn)
            .await?;
        for row in &rows {
            let task = claimed(row)?;
            last = Some(DuePlace { priority, run_at: sql::time(row.try_get(8)?), id: task.id });
            peeked.tasks.push(task);
        }
        if peeked.tasks.len() == limit {
            peeked.next = last;
            break;
        }
    }
    Ok(peeked)
}
