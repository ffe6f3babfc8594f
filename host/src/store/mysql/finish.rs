//! Writing back: a task ends, or waits again, if its fence is still the one of
//! the claim.
//!
//! The rows are locked first, in the order of their numbers; what then is to
//! be written is known, and written in bulk. Where a fence is another one, a
//! record of the same write-back tells that it was applied before: the row of
//! the ended task in `history`, the row that still bears the fence and is
//! pending again, or the failed attempt.

use std::collections::{HashMap, HashSet};

use async_trait::async_trait;
use sqlx::MySqlConnection;

use super::ending::{self, End, outcome_of};
use super::fault::Fault;
use super::sql::{self, given, held, json};
use super::waiting::{self, Wait};
use super::writing::{Command, Work};
use crate::domain::outcome::{Disposition, Finish, Finished};
use crate::domain::task::{Fence, TaskState};
use crate::domain::time::Timestamp;
use crate::store::{At, WriteBack};

/// [`Store::finish`](crate::store::Store::finish).
pub(super) struct FinishAll {
    pub(super) write_back: WriteBack,
    pub(super) at: At,
}

#[async_trait]
impl Command for FinishAll {
    type Answer = Vec<Finished>;

    async fn apply(&self, work: &mut Work<'_>) -> Result<Vec<Finished>, Fault> {
        let now = work.now(self.at);
        let finished = finish(work.conn(), &self.write_back.finishes, now).await?;
        super::effects::record(work.conn(), &self.write_back.effects, now).await?;
        close_batches(work.conn(), &self.write_back.closed).await?;
        Ok(finished)
    }
}

/// Applies `finishes`, one answer each.
pub(super) async fn finish(
    conn: &mut MySqlConnection,
    finishes: &[Finish],
    now: Timestamp,
) -> Result<Vec<Finished>, Fault> {
    if finishes.is_empty() {
        return Ok(Vec::new());
    }
    let running = lock(conn, finishes).await?;
    let (mut ends, mut waits, mut elsewhere) = (Vec::new(), Vec::new(), Vec::new());
    let mut taken = HashSet::with_capacity(finishes.len());
    for (place, finish) in finishes.iter().enumerate() {
        let id = sql::id(finish.id);
        match running.get(&id) {
            // The second of two in one call finds what the first did.
            Some(row) if row.fence == sql::fence(finish.fence) && taken.insert(id) => match end_of(finish, row) {
                Some(end) => ends.push(end),
                None => waits.push(Wait { finish, succeeded: row.succeeded }),
            },
            _ => elsewhere.push((place, id, sql::fence(finish.fence))),
        }
    }
    ends.sort_unstable_by_key(|end| end.id);
    ending::end(conn, &ends, now).await?;
    waiting::wait(conn, waits, now).await?;
    let mut answers = vec![Finished::Applied; finishes.len()];
    let applied = applied_before(conn, &elsewhere).await?;
    for (place, ..) in elsewhere {
        if !applied.contains(&place) {
            answers[place] = Finished::Fenced;
        }
    }
    Ok(answers)
}

/// A row that runs, as the finish of it needs it.
struct Running {
    fence: i64,
    /// How a person wants it to end, and why.
    asked: Option<TaskState>,
    asked_why: Option<String>,
    succeeded: bool,
}

async fn lock(conn: &mut MySqlConnection, finishes: &[Finish]) -> Result<HashMap<i64, Running>, Fault> {
    let mut ids: Vec<i64> = finishes.iter().map(|finish| sql::id(finish.id)).collect();
    ids.sort_unstable();
    ids.dedup();
    let rows: Vec<(i64, i64, i64, Option<String>, bool)> = sqlx::query_as(concat!(
        "SELECT tasks.id, fence, asked, asked_why, next_enqueued_at IS NOT NULL FROM ",
        given!(),
        " STRAIGHT_JOIN tasks FORCE INDEX (PRIMARY) ON tasks.id = given.id
         WHERE state = 1 FOR UPDATE"
    ))
    .bind(json(&ids)?)
    .fetch_all(conn)
    .await?;
    let mut running = HashMap::with_capacity(rows.len());
    for (id, fence, asked, asked_why, succeeded) in rows {
        let asked = if asked == 0 { None } else { Some(sql::task_state(asked)?) };
        running.insert(id, Running { fence, asked, asked_why, succeeded });
    }
    Ok(running)
}

/// How the task ends; `None` where it waits again. A task that a person ended
/// does not.
fn end_of<'a>(finish: &'a Finish, row: &'a Running) -> Option<End<'a>> {
    let (state, outcome, note) = match &finish.disposition {
        Disposition::Done(note) => (TaskState::Done, "done", note.as_deref()),
        Disposition::Skipped(why) => (TaskState::Done, "skipped", Some(why.as_str())),
        Disposition::Bury(error) => (TaskState::Dead, "failed", Some(error.as_str())),
        Disposition::Cancel(why) => (TaskState::Cancelled, "cancelled", Some(why.as_str())),
        Disposition::Retry { .. } | Disposition::Postpone { .. } | Disposition::Release { .. } => {
            let state = row.asked?;
            (state, outcome_of(state), row.asked_why.as_deref())
        }
    };
    let attempt = &finish.attempt;
    Some(End {
        id: sql::id(finish.id),
        state,
        outcome,
        note,
        // Without a component there was no attempt: a plan's discard.
        attempted: state == TaskState::Done || attempt.digest.is_some(),
        started: attempt.started,
        ended: attempt.ended,
        node: attempt.node,
        digest: attempt.digest,
        succeeded: row.succeeded,
    })
}

/// The places of those write-backs that are on record.
async fn applied_before(conn: &mut MySqlConnection, elsewhere: &[(usize, i64, i64)]) -> Result<HashSet<usize>, Fault> {
    if elsewhere.is_empty() {
        return Ok(HashSet::new());
    }
    let places: Vec<i64> = sqlx::query_scalar(
        "SELECT place
         FROM JSON_TABLE(?, '$[*]' COLUMNS (
                  place BIGINT PATH '$[0]', id BIGINT PATH '$[1]', fence BIGINT PATH '$[2]')) AS given
         WHERE EXISTS (SELECT 1 FROM history FORCE INDEX (PRIMARY)
                       WHERE history.id = given.id AND history.fence = given.fence)
            OR EXISTS (SELECT 1 FROM tasks FORCE INDEX (PRIMARY)
                       WHERE tasks.id = given.id AND tasks.fence = given.fence AND tasks.fence > 0 AND state = 0)
            OR EXISTS (SELECT 1 FROM attempts FORCE INDEX (PRIMARY)
                       WHERE attempts.task = given.id AND attempts.fence = given.fence)",
    )
    .bind(json(&elsewhere)?)
    .fetch_all(conn)
    .await?;
    Ok(places.into_iter().filter_map(|place| usize::try_from(place).ok()).collect())
}

/// Forgets batches of which nothing runs any more. A batch that still has a
/// running task stays, or a crash would leave that task running for ever.
async fn close_batches(conn: &mut MySqlConnection, closed: &[Fence]) -> Result<(), Fault> {
    if closed.is_empty() {
        return Ok(());
    }
    let mut fences: Vec<i64> = closed.iter().map(|fence| sql::fence(*fence)).collect();
    fences.sort_unstable();
    // Under its fence nothing begins to run again: what is seen to be over
    // stays so.
    let open: Vec<i64> = sqlx::query_scalar(concat!(
        "SELECT DISTINCT batches.fence FROM ",
        given!(),
        " STRAIGHT_JOIN batches FORCE INDEX (PRIMARY) ON batches.fence = given.id STRAIGHT_JOIN ",
        held!(),
        " STRAIGHT_JOIN tasks FORCE INDEX (PRIMARY) ON tasks.id = held.id
         WHERE tasks.fence = batches.fence AND state = 1"
    ))
    .bind(json(&fences)?)
    .fetch_all(&mut *conn)
    .await?;
    fences.retain(|fence| !open.contains(fence));
    super::batches::forget(conn, &fences).await
}
