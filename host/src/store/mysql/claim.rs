//! Claiming: the next due tasks go to a node, all under one fresh fence.
//!
//! What another node is claiming or writing back at this instant is skipped,
//! not waited for. A claim that finds nothing writes nothing. One that finds
//! something writes the rows' state and fence, which no index holds, and one
//! row that lists the batch and gives the fence. That row is written when the
//! tasks are locked: of two claims of a key the later has the higher fence.

use async_trait::async_trait;
use sqlx::mysql::MySqlRow;
use sqlx::{MySqlConnection, Row as _};

use super::fault::Fault;
use super::sql::{self, given, json};
use super::writing::{Command, Work};
use crate::domain::task::{ClaimedTask, Fence, Key, Payload, Priority};
use crate::store::{At, Claim, ClaimDue};

/// The due tasks of one priority, oldest first: one range of the index. Rows
/// in flight are in it and skipped.
macro_rules! due {
    ($which:literal) => {
        concat!(
            "SELECT id, `key`, payload, attempt, losses, enqueued_at, postponed_since, removed
             FROM tasks FORCE INDEX (due)
             WHERE job = ? AND priority = ? AND run_at <= ? AND state = 0",
            $which,
            " ORDER BY run_at, id LIMIT ? FOR UPDATE SKIP LOCKED"
        )
    };
}

#[async_trait]
impl Command for ClaimDue {
    type Answer = Option<Claim>;

    /// What a lost answer leaves is found by
    /// [`Store::release_unheld`](crate::store::Store::release_unheld).
    const REPEATABLE: bool = false;

    async fn apply(&self, work: &mut Work<'_>) -> Result<Option<Claim>, Fault> {
        let now = sql::millis(work.now(At::Server));
        let conn = work.conn();
        if !may_claim(conn, self).await? {
            return Ok(None);
        }
        let mut tasks = candidates(conn, self).await?;
        if tasks.is_empty() {
            return Ok(None);
        }
        let ids: Vec<i64> = tasks.iter().map(|task| sql::id(task.id)).collect();
        let fence = record_batch(conn, self, &ids, now).await?;
        take(conn, ids, fence).await?;
        let fence = sql::task_fence(fence);
        for task in &mut tasks {
            task.fence = fence;
        }
        Ok(Some(Claim { fence, tasks }))
    }
}

/// Whether the node lives, or it is refused, and the job goes on.
async fn may_claim(conn: &mut MySqlConnection, claim: &ClaimDue) -> Result<bool, Fault> {
    let (lives, paused): (bool, bool) = sqlx::query_as(
        "SELECT EXISTS (SELECT 1 FROM nodes WHERE id = ? AND ended_at IS NULL),
                EXISTS (SELECT 1 FROM jobs WHERE id = ? AND paused IS NOT NULL)",
    )
    .bind(claim.node.0)
    .bind(claim.job.0)
    .fetch_one(conn)
    .await?;
    if lives { Ok(!paused) } else { Err(super::nodes::has_ended(claim.node)) }
}

/// Most urgent first, oldest first. A task with losses is claimed where the
/// claim allows it and it is the very first, and then alone.
async fn candidates(conn: &mut MySqlConnection, claim: &ClaimDue) -> Result<Vec<ClaimedTask>, Fault> {
    let mut order = Priority::ALL;
    if claim.lowest_first {
        order.reverse();
    }
    let limit = usize::try_from(claim.limit).unwrap_or(usize::MAX);
    let (mut tasks, mut may_be_lost) = (Vec::new(), claim.suspects);
    for priority in order {
        let wanted = limit - tasks.len();
        if wanted == 0 {
            break;
        }
        if !may_be_lost {
            tasks.extend(due(conn, due!(" AND losses = 0"), claim, priority, wanted).await?);
            continue;
        }
        // Read once, for the range begins with what was finished and is not
        // yet purged: those with losses, of which there rarely are any, are
        // left out below.
        let mut found = due(conn, due!(""), claim, priority, wanted).await?;
        match found.first() {
            None => continue,
            Some(first) if first.losses > 0 => {
                found.truncate(1);
                return Ok(found);
            }
            Some(_) => may_be_lost = false,
        }
        if found.iter().any(|task| task.losses > 0) {
            found = due(conn, due!(" AND losses = 0"), claim, priority, wanted).await?;
        }
        tasks = found;
    }
    Ok(tasks)
}

async fn due(
    conn: &mut MySqlConnection,
    select: &'static str,
    claim: &ClaimDue,
    priority: Priority,
    limit: usize,
) -> Result<Vec<ClaimedTask>, Fault> {
    let rows = sqlx::query(select)
        .bind(claim.job.0)
        .bind(sql::priority(priority))
        .bind(sql::millis(claim.horizon))
        .bind(i64::try_from(limit).unwrap_or(i64::MAX))
        .fetch_all(conn)
        .await?;
    rows.iter().map(claimed).collect()
}

/// The task in a row, under no fence yet.
pub(super) fn claimed(row: &MySqlRow) -> Result<ClaimedTask, Fault> {
    let payload: Option<String> = row.try_get(2)?;
    Ok(ClaimedTask {
        id: sql::task_id(row.try_get(0)?),
        fence: Fence(0),
        key: Key::new(sql::key(row.try_get(1)?)?).map_err(sql::unreadable)?,
        payload: payload.map(Payload::new).transpose().map_err(sql::unreadable)?,
        attempt: sql::count(row.try_get(3)?).saturating_add(1),
        losses: sql::count(row.try_get(4)?),
        enqueued_at: sql::time(row.try_get(5)?),
        postponed_since: row.try_get::<Option<i64>, _>(6)?.map(sql::time),
        removed: row.try_get::<i64, _>(7)?.unsigned_abs(),
    })
}

/// By this row a dead node's tasks are found without a scan.
async fn record_batch(conn: &mut MySqlConnection, claim: &ClaimDue, ids: &[i64], now: i64) -> Result<i64, Fault> {
    let recorded = sqlx::query("INSERT INTO batches (node, job, claimed_at, ids) VALUES (?, ?, ?, ?)")
        .bind(claim.node.0)
        .bind(claim.job.0)
        .bind(now)
        .bind(json(&ids)?)
        .execute(conn)
        .await?;
    Ok(i64::try_from(recorded.last_insert_id()).unwrap_or(i64::MAX))
}

async fn take(conn: &mut MySqlConnection, mut ids: Vec<i64>, fence: i64) -> Result<(), Fault> {
    ids.sort_unstable();
    sqlx::query(concat!(
        "UPDATE ",
        given!(),
        " STRAIGHT_JOIN tasks FORCE INDEX (PRIMARY) ON tasks.id = given.id
         SET state = 1, fence = ?, solo = losses > 0"
    ))
    .bind(json(&ids)?)
    .bind(fence)
    .execute(conn)
    .await?;
    Ok(())
}
