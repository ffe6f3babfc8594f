//! Writing back: tasks end, or wait again, where their fence is still the one
//! of the claim.
//!
//! Where it is not, a record of the same write-back tells that it was applied
//! before: the row of the ended task in `history`, the row that still bears
//! the fence and is pending again, or the failed attempt.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use async_trait::async_trait;
use sqlx::Row as _;

use super::Command;
use super::ending::{self, End, outcome_of};
use super::fault::Fault;
use super::sql;
use super::writing::Work;
use crate::domain::outcome::{Disposition, Finish, Finished};
use crate::domain::task::{Fence, TaskState};
use crate::domain::time::Timestamp;
use crate::faults::{self, Mutant};
use crate::store::{At, WriteBack};

/// [`Store::finish`](crate::store::Store::finish).
pub(super) struct FinishAll {
    pub(super) write_back: WriteBack,
    pub(super) at: At,
}

#[async_trait]
impl Command for FinishAll {
    type Answer = Vec<Finished>;

    async fn apply(&self, work: &mut Work) -> Result<Vec<Finished>, Fault> {
        let now = work.now(self.at);
        let WriteBack { finishes, closed, effects } = &self.write_back;
        let present;
        let finishes = if faults::is(Mutant::NoFenceCheck) {
            present = under_present_fences(work, finishes).await?;
            &present
        } else {
            finishes
        };
        let (answers, applied) = finish(work, finishes, now).await?;
        super::effects::record(work, effects, now).await?;
        close_batches(work, closed, &applied).await?;
        Ok(answers)
    }
}

/// As if no fence were checked: whatever claim the tasks are under.
async fn under_present_fences(work: &mut Work, finishes: &[Finish]) -> Result<Vec<Finish>, Fault> {
    let mut finishes = finishes.to_vec();
    for finish in &mut finishes {
        let present = sqlx::query("SELECT fence FROM tasks WHERE id = $1").bind(sql::id(finish.id));
        if let Some(row) = present.fetch_optional(work.conn()).await? {
            finish.fence = sql::to_fence(row.try_get(0)?);
        }
    }
    Ok(finishes)
}

/// A task under a claim.
type Hold = (i64, i64);

fn hold(finish: &Finish) -> Hold {
    (sql::id(finish.id), sql::fence(finish.fence))
}

/// Applies `finishes`, one answer each; with it what was applied now.
pub(super) async fn finish(
    work: &mut Work,
    finishes: &[Finish],
    now: Timestamp,
) -> Result<(Vec<Finished>, HashSet<Hold>), Fault> {
    let (mut ends, mut waits) = split(finishes);
    if !ends.is_empty() && !waits.is_empty() {
        let mut ids: Vec<_> = ends.iter().map(|end| end.id).chain(waits.iter().map(|wait| wait.hold.0)).collect();
        ids.sort_unstable();
        ending::lock(work, &ids).await?;
    }
    let mut applied = HashSet::with_capacity(finishes.len());
    applied.extend(wait_again(work, &waits, now).await?);
    waits.retain(|wait| !applied.contains(&wait.hold));
    let whys = asked_to_end(work, &waits).await?;
    ends.extend(waits.iter().filter_map(|wait| {
        let (state, why) = whys.get(&wait.hold)?;
        Some(as_end(wait.finish, *state, outcome_of(*state), why.as_deref()))
    }));
    ends.sort_unstable_by_key(|end| end.id);
    let fences: HashMap<_, _> = ends.iter().map(|end| (end.id, end.fence)).collect();
    let ended = ending::end(work, &ends, sql::RUNNING, now).await?;
    if ended.len() == fences.len() && fences.len() == ends.len() {
        applied.extend(fences);
    } else {
        // Of two fences for one task, the row tells which it was.
        applied.extend(recorded(work, &ended).await?);
    }
    let answers = answers(work, finishes, &applied).await?;
    Ok((answers, applied))
}

/// A task that waits again.
struct Wait<'a> {
    hold: Hold,
    finish: &'a Finish,
}

/// What ends and what waits, each once, ascending by id.
fn split(finishes: &[Finish]) -> (Vec<End<'_>>, Vec<Wait<'_>>) {
    let mut seen = HashSet::with_capacity(finishes.len());
    let (mut ends, mut waits) = (Vec::with_capacity(finishes.len()), Vec::new());
    for finish in finishes.iter().filter(|finish| seen.insert(hold(finish))) {
        let (state, outcome, note) = match &finish.disposition {
            Disposition::Done(note) => (TaskState::Done, "done", note.as_deref()),
            Disposition::Skipped(why) => (TaskState::Done, "skipped", Some(why.as_str())),
            Disposition::Bury(error) => (TaskState::Dead, "failed", Some(error.as_str())),
            Disposition::Cancel(why) => (TaskState::Cancelled, "cancelled", Some(why.as_str())),
            Disposition::Retry { .. } | Disposition::Postpone { .. } | Disposition::Release { .. } => {
                waits.push(Wait { hold: hold(finish), finish });
                continue;
            }
        };
        ends.push(as_end(finish, state, outcome, note));
    }
    ends.sort_unstable_by_key(|end| end.id);
    waits.sort_unstable_by_key(|wait| wait.hold);
    (ends, waits)
}

fn as_end<'a>(finish: &Finish, state: TaskState, outcome: &'static str, note: Option<&'a str>) -> End<'a> {
    let attempt = &finish.attempt;
    End {
        id: sql::id(finish.id),
        fence: sql::fence(finish.fence),
        state,
        outcome,
        note,
        // Without a component there was no attempt: a plan's discard.
        attempted: state == TaskState::Done || attempt.digest.is_some(),
        started: attempt.started,
        ended: attempt.ended,
        node: attempt.node,
        digest: attempt.digest,
    }
}

/// A retry is an attempt, and its backoff is not shortened; a postponement has
/// the start of its chain; a release leaves no trace. The successor merges in,
/// as an enqueue of a pending task would.
const WAIT: &str = "
    WITH waits AS (
        UPDATE tasks
        SET state = 0, solo = FALSE, backoff = retried,
            attempt = attempt + retried::int4,
            run_at = CASE WHEN retried THEN due
                          ELSE least(coalesce(due, run_at), next_run_at) END,
            waits_from = CASE WHEN NOT retried AND next_run_at < coalesce(due, run_at) THEN next_waits_from
                              WHEN due IS NOT NULL THEN $10
                              ELSE waits_from END,
            postponed_since = CASE WHEN retried THEN NULL
                                   WHEN postponed AND finish.removed > 0 THEN $10
                                   WHEN postponed THEN coalesce(postponed_since, $10)
                                   ELSE postponed_since END,
            removed = tasks.removed + finish.removed,
            note = CASE WHEN retried OR postponed THEN finish.note ELSE tasks.note END,
            priority = least(priority, next_priority),
            payload = coalesce(next_payload, payload),
            next_enqueued_at = NULL, next_run_at = NULL, next_waits_from = NULL, next_priority = NULL,
            next_payload = NULL
        FROM unnest($1::int8[], $2::int8[], $3::bool[], $4::bool[], $5::int8[], $6::text[],
                    $7::int8[], $8::int8[], $9::int8[], $11::bytea[], $12::int8[])
            AS finish (id, fence, retried, postponed, due, note, started, ended, node, digest, removed)
        WHERE tasks.id = finish.id AND tasks.fence = finish.fence AND state = 1 AND asked = 0
        RETURNING tasks.id, tasks.fence, attempt, retried, started, ended, node, digest, finish.note),
    failed AS (
        INSERT INTO attempts (task, number, fence, started_at, ended_at, node, digest, outcome, error)
        SELECT id, attempt, fence, started, ended, node, digest, 'failed', coalesce(note, '')
        FROM waits WHERE retried)
    SELECT id, fence FROM waits";

/// Makes tasks wait again, except those that a person wants to end; answers
/// which do.
async fn wait_again(work: &mut Work, waits: &[Wait<'_>], now: Timestamp) -> Result<Vec<Hold>, Fault> {
    if waits.is_empty() {
        return Ok(Vec::new());
    }
    let (mut due, mut notes) = (Vec::with_capacity(waits.len()), Vec::with_capacity(waits.len()));
    for wait in waits {
        let (after, note): (Option<Duration>, _) = match &wait.finish.disposition {
            Disposition::Retry { after, error } => (Some(*after), Some(error.as_str())),
            Disposition::Postpone { after, reason } => (Some(*after), reason.as_deref()),
            Disposition::Release { after } => (*after, None),
            Disposition::Done(_) | Disposition::Skipped(_) | Disposition::Bury(_) | Disposition::Cancel(_) => {
                unreachable!("these end")
            }
        };
        due.push(after.map(|after| sql::millis(now.after(after))));
        notes.push(note);
    }
    let is = |what: fn(&Disposition) -> bool| -> Vec<bool> {
        waits.iter().map(|wait| what(&wait.finish.disposition)).collect()
    };
    let attempts = || waits.iter().map(|wait| &wait.finish.attempt);
    let digests = attempts().map(|attempt| attempt.digest.as_ref().map(|digest| digest.as_bytes().as_slice()));
    let rows = sqlx::query(WAIT)
        .bind(waits.iter().map(|wait| wait.hold.0).collect::<Vec<_>>())
        .bind(waits.iter().map(|wait| wait.hold.1).collect::<Vec<_>>())
        .bind(is(|disposition| matches!(disposition, Disposition::Retry { .. })))
        .bind(is(|disposition| matches!(disposition, Disposition::Postpone { .. })))
        .bind(due)
        .bind(notes)
        .bind(attempts().map(|attempt| sql::millis(attempt.started)).collect::<Vec<_>>())
        .bind(attempts().map(|attempt| sql::millis(attempt.ended)).collect::<Vec<_>>())
        .bind(attempts().map(|attempt| attempt.node.0).collect::<Vec<_>>())
        .bind(sql::millis(now))
        .bind(digests.collect::<Vec<_>>())
        .bind(attempts().map(|attempt| i64::try_from(attempt.removed).unwrap_or(i64::MAX)).collect::<Vec<_>>())
        .fetch_all(work.conn())
        .await?;
    rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
}

/// Of tasks that do not wait again: those that a person ended, how and why.
async fn asked_to_end(
    work: &mut Work,
    waits: &[Wait<'_>],
) -> Result<HashMap<Hold, (TaskState, Option<String>)>, Fault> {
    if waits.is_empty() {
        return Ok(HashMap::new());
    }
    let rows = sqlx::query(
        "SELECT tasks.id, tasks.fence, asked, asked_why
         FROM unnest($1::int8[], $2::int8[]) AS finish (id, fence)
         JOIN tasks ON tasks.id = finish.id AND tasks.fence = finish.fence
         WHERE state = 1 AND asked <> 0",
    )
    .bind(waits.iter().map(|wait| wait.hold.0).collect::<Vec<_>>())
    .bind(waits.iter().map(|wait| wait.hold.1).collect::<Vec<_>>())
    .fetch_all(work.conn())
    .await?;
    let asked = |row: &sqlx::postgres::PgRow| {
        let end = (sql::task_state(row.try_get(2)?)?, row.try_get(3)?);
        Ok(((row.try_get(0)?, row.try_get(1)?), end))
    };
    rows.iter().map(asked).collect()
}

/// Under which fences the tasks ended.
async fn recorded(work: &mut Work, ended: &[i64]) -> Result<Vec<Hold>, Fault> {
    if ended.is_empty() {
        return Ok(Vec::new());
    }
    let sql = "SELECT id, fence FROM history WHERE id = ANY ($1::int8[])";
    let rows = sqlx::query(sql).bind(ended).fetch_all(work.conn()).await?;
    rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
}

/// Those that were not applied now may have been before.
async fn answers(work: &mut Work, finishes: &[Finish], applied: &HashSet<Hold>) -> Result<Vec<Finished>, Fault> {
    let others: Vec<Hold> = finishes.iter().map(hold).filter(|hold| !applied.contains(hold)).collect();
    let mut before = HashSet::new();
    if !others.is_empty() {
        let rows = sqlx::query(
            "SELECT id, fence FROM unnest($1::int8[], $2::int8[]) AS finish (id, fence)
             WHERE fence > 0 AND (
                 EXISTS (SELECT FROM history WHERE history.id = finish.id AND history.fence = finish.fence)
                 OR EXISTS (SELECT FROM tasks
                            WHERE tasks.id = finish.id AND tasks.fence = finish.fence AND state = 0)
                 OR EXISTS (SELECT FROM attempts WHERE task = finish.id AND attempts.fence = finish.fence))",
        )
        .bind(others.iter().map(|(id, _)| *id).collect::<Vec<_>>())
        .bind(others.iter().map(|(_, fence)| *fence).collect::<Vec<_>>())
        .fetch_all(work.conn())
        .await?;
        for row in rows {
            before.insert((row.try_get(0)?, row.try_get(1)?));
        }
    }
    let known = |hold: &Hold| applied.contains(hold) || before.contains(hold);
    Ok(finishes.iter().map(|finish| if known(&hold(finish)) { Finished::Applied } else { Finished::Fenced }).collect())
}

/// Forgets batches of which nothing runs any more. A batch that still has a
/// running task stays, or a crash would leave that task running for ever. One
/// that was applied whole just now needs no look at its tasks.
async fn close_batches(work: &mut Work, closed: &[Fence], applied: &HashSet<Hold>) -> Result<(), Fault> {
    if closed.is_empty() {
        return Ok(());
    }
    let mut counts: HashMap<i64, i64> = closed.iter().map(|fence| (sql::fence(*fence), 0)).collect();
    for (_, fence) in applied {
        if let Some(count) = counts.get_mut(fence) {
            *count += 1;
        }
    }
    let (fences, counts): (Vec<i64>, Vec<i64>) = counts.into_iter().unzip();
    sqlx::query(
        "DELETE FROM batches USING unnest($1::int8[], $2::int8[]) AS closed (fence, applied)
         WHERE batches.fence = closed.fence
           AND (cardinality(ids) = applied
                OR NOT EXISTS (SELECT FROM tasks WHERE id = ANY (ids) AND tasks.fence = batches.fence AND state = 1))",
    )
    .bind(fences)
    .bind(counts)
    .execute(work.conn())
    .await?;
    Ok(())
}
