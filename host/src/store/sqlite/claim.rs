//! Claiming: the next due tasks go to a node, all under one fresh fence.
//!
//! A claim that finds nothing writes nothing. One that finds something writes
//! the rows' state and fence, which no index holds, and one row that lists the
//! batch.

use std::fmt::Write as _;

use rusqlite::{Row, params};

use super::fault::Fault;
use super::sql;
use super::writing::{Command, Writing};
use crate::domain::task::{ClaimedTask, Fence, Key, Payload, Priority};
use crate::store::{At, Claim, ClaimDue};

impl Command for ClaimDue {
    type Answer = Option<Claim>;

    fn rows(&self) -> usize {
        self.limit as usize
    }

    fn apply(&self, writing: &mut Writing<'_>) -> Result<Option<Claim>, Fault> {
        super::nodes::must_live(writing, self.node)?;
        if super::jobs::is_paused(writing, self.job)? {
            return Ok(None);
        }
        let mut tasks = candidates(writing, self)?;
        if tasks.is_empty() {
            return Ok(None);
        }
        let fence = writing.fresh_fence()?;
        take(writing, &mut tasks, fence)?;
        record_batch(writing, self, &tasks, fence)?;
        Ok(Some(Claim { fence, tasks }))
    }
}

/// Most urgent first, oldest first. A task with losses is claimed where the
/// claim allows it and it is the very first, and then alone.
fn candidates(writing: &Writing<'_>, claim: &ClaimDue) -> Result<Vec<ClaimedTask>, Fault> {
    // One range of the index a priority. Rows in flight are in it and skipped.
    let mut select = writing.statement(
        "SELECT id, key, payload, attempt, losses, enqueued_at, postponed_since, removed
         FROM tasks INDEXED BY due
         WHERE job = ?1 AND priority = ?2 AND run_at <= ?3 AND state = 0
         ORDER BY run_at, id",
    )?;
    let mut order = Priority::ALL;
    if claim.lowest_first {
        order.reverse();
    }
    let limit = claim.limit as usize;
    let mut tasks = Vec::new();
    for priority in order {
        let range = params![claim.job.0, sql::priority(priority), sql::millis(claim.horizon)];
        let mut rows = select.query(range)?;
        while tasks.len() < limit
            && let Some(row) = rows.next()?
        {
            let lost = row.get::<_, i64>(4)? > 0;
            if lost && !(claim.suspects && tasks.is_empty()) {
                continue;
            }
            tasks.push(claimed(row)?);
            if lost {
                return Ok(tasks);
            }
        }
    }
    Ok(tasks)
}

/// The task in a row, under no fence yet.
pub(super) fn claimed(row: &Row<'_>) -> rusqlite::Result<ClaimedTask> {
    let unreadable = |error| sql::unreadable(rusqlite::types::Type::Blob, error);
    let payload: Option<String> = row.get(2)?;
    Ok(ClaimedTask {
        id: sql::task_id(row.get(0)?),
        fence: Fence(0),
        key: Key::new(sql::key(row.get(1)?)?).map_err(unreadable)?,
        payload: payload
            .map(Payload::new)
            .transpose()
            .map_err(|error| sql::unreadable(rusqlite::types::Type::Text, error))?,
        attempt: sql::count(row.get(3)?).saturating_add(1),
        losses: sql::count(row.get(4)?),
        enqueued_at: sql::time(row.get(5)?),
        postponed_since: row.get::<_, Option<i64>>(6)?.map(sql::time),
        removed: row.get::<_, i64>(7)?.unsigned_abs(),
    })
}

fn take(writing: &Writing<'_>, tasks: &mut [ClaimedTask], fence: Fence) -> Result<(), Fault> {
    let mut update = writing.statement("UPDATE tasks SET state = 1, fence = ?2, solo = ?3 WHERE id = ?1")?;
    for task in tasks {
        update.execute(params![sql::id(task.id), sql::fence(fence), task.losses > 0])?;
        task.fence = fence;
    }
    Ok(())
}

/// By this row a dead node's tasks are found without a scan.
fn record_batch(writing: &Writing<'_>, claim: &ClaimDue, tasks: &[ClaimedTask], fence: Fence) -> Result<(), Fault> {
    let mut ids = String::with_capacity(tasks.len() * 9 + 2);
    for task in tasks {
        let before = if ids.is_empty() { '[' } else { ',' };
        // Writing into a string cannot fail.
        let _ = write!(ids, "{before}{}", task.id);
    }
    ids.push(']');
    writing
        .statement("INSERT INTO batches (fence, node, job, claimed_at, ids) VALUES (?1, ?2, ?3, ?4, ?5)")?
        .execute(params![sql::fence(fence), claim.node.0, claim.job.0, sql::millis(writing.now(At::Server)), ids])?;
    Ok(())
}
