//! Lives of nodes. One host has the file, and the lock beside it is its lease:
//! whoever has the lock may take over from every node on record, and a
//! heartbeat has nothing to write.

use rusqlite::{OptionalExtension as _, params};

use super::ending::{self, Endings};
use super::fault::Fault;
use super::sql;
use super::successor;
use super::writing::{Command, Writing};
use crate::domain::job::JobId;
use crate::domain::node::{NewNode, NodeId};
use crate::domain::task::Fence;
use crate::domain::time::Timestamp;
use crate::faults::{self, Mutant};
use crate::store::{At, Heartbeat, Incarnation};

/// [`Store::begin_incarnation`](crate::store::Store::begin_incarnation).
pub(super) struct Begin {
    pub(super) node: NewNode,
    pub(super) at: At,
}

impl Command for Begin {
    type Answer = Incarnation;

    fn apply(&self, writing: &mut Writing<'_>) -> Result<Incarnation, Fault> {
        let now = writing.now(self.at);
        let recovered = reap_all(writing, now)?;
        let NewNode { name, labels, version, .. } = &self.node;
        let node = writing
            .statement("INSERT INTO nodes (name, labels, version, started_at) VALUES (?1, ?2, ?3, ?4)")?
            .insert(params![name, labels.join(" "), version, sql::millis(now)])?;
        Ok(Incarnation { node: NodeId(node), recovered })
    }
}

/// [`Store::heartbeat`](crate::store::Store::heartbeat).
pub(super) struct Beat(pub(super) NodeId);

impl Command for Beat {
    type Answer = Heartbeat;

    fn apply(&self, writing: &mut Writing<'_>) -> Result<Heartbeat, Fault> {
        let asked: Option<i64> = writing
            .statement("SELECT asked FROM nodes WHERE id = ?1 AND ended_at IS NULL")?
            .query_row([self.0.0], |row| row.get(0))
            .optional()?;
        Ok(asked.map_or(Heartbeat::Lost, |asked| Heartbeat::Held { asked: asked.unsigned_abs() }))
    }
}

/// [`Store::end_incarnation`](crate::store::Store::end_incarnation).
pub(super) struct End {
    pub(super) node: NodeId,
    pub(super) at: At,
}

impl Command for End {
    type Answer = ();

    fn apply(&self, writing: &mut Writing<'_>) -> Result<(), Fault> {
        let now = writing.now(self.at);
        writing
            .statement("UPDATE nodes SET ended_at = ?2 WHERE id = ?1 AND ended_at IS NULL")?
            .execute([self.node.0, sql::millis(now)])?;
        for batch in batches(writing, Some(self.node))? {
            release(writing, &batch, now)?;
        }
        Ok(())
    }
}

/// [`Store::release_unheld`](crate::store::Store::release_unheld).
pub(super) struct ReleaseUnheld {
    pub(super) node: NodeId,
    pub(super) job: JobId,
    pub(super) held: Vec<Fence>,
    pub(super) at: At,
}

impl Command for ReleaseUnheld {
    type Answer = u64;

    fn apply(&self, writing: &mut Writing<'_>) -> Result<u64, Fault> {
        let now = writing.now(self.at);
        let mut released = 0;
        for batch in batches(writing, Some(self.node))? {
            if batch.job == self.job.0 && !self.held.iter().any(|fence| sql::fence(*fence) == batch.fence) {
                released += release(writing, &batch, now)?;
            }
        }
        Ok(released)
    }
}

/// Refuses a node whose life has ended: nobody would reap what it takes.
pub(super) fn must_live(writing: &Writing<'_>, node: NodeId) -> Result<(), Fault> {
    if writing.statement("SELECT 1 FROM nodes WHERE id = ?1 AND ended_at IS NULL")?.exists([node.0])? {
        return Ok(());
    }
    Err(Fault::Refused(format!("the life of node number {node} has ended")))
}

/// A batch that a node left.
struct Batch {
    fence: i64,
    node: i64,
    job: i64,
    claimed_at: i64,
    ids: String,
}

fn batches(writing: &Writing<'_>, node: Option<NodeId>) -> Result<Vec<Batch>, Fault> {
    let mut select =
        writing.statement("SELECT fence, node, job, claimed_at, ids FROM batches WHERE ?1 IS NULL OR node = ?1")?;
    let batch = |row: &rusqlite::Row<'_>| {
        let (fence, node, job) = (row.get(0)?, row.get(1)?, row.get(2)?);
        Ok(Batch { fence, node, job, claimed_at: row.get(3)?, ids: row.get(4)? })
    };
    let rows = select.query_map([node.map(|node| node.0)], batch)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Ends every earlier life, then puts its tasks back with a loss.
fn reap_all(writing: &mut Writing<'_>, now: Timestamp) -> Result<u64, Fault> {
    writing.statement("UPDATE nodes SET ended_at = ?1 WHERE ended_at IS NULL")?.execute([sql::millis(now)])?;
    let mut recovered = 0;
    for batch in batches(writing, None)? {
        recovered += lose(writing, &batch, now)?;
    }
    Ok(recovered)
}

/// Running tasks of the batch become pending, with one more loss; of one that
/// ran alone the loss is an attempt. The fence goes, so that a late write-back
/// finds no trace of its claim.
fn lose(writing: &mut Writing<'_>, batch: &Batch, now: Timestamp) -> Result<u64, Fault> {
    end_asked(writing, batch, now)?;
    writing
        .statement(
            "INSERT INTO attempts (task, number, fence, started_at, ended_at, node, digest, outcome, error)
             SELECT id, attempt + 1, NULL, ?3, ?4, ?5, NULL, 'lost', 'the host was lost while the task ran'
             FROM tasks
             WHERE id IN (SELECT value FROM json_each(?1)) AND fence = ?2 AND state = 1 AND solo",
        )?
        .execute(params![batch.ids, batch.fence, batch.claimed_at, sql::millis(now), batch.node])?;
    let lost = writing
        .statement(
            "UPDATE tasks
             SET state = 0, losses = losses + 1, attempt = attempt + max(solo, ?3), solo = 0, backoff = 0,
                 fence = 0, note = 'the host was lost while it held the task'
             WHERE id IN (SELECT value FROM json_each(?1)) AND fence = ?2 AND state = 1",
        )?
        .execute(params![batch.ids, batch.fence, faults::is(Mutant::LossIsAttempt)])?;
    forget(writing, batch)?;
    Ok(lost as u64)
}

/// Running tasks of the batch become pending, as if never claimed.
fn release(writing: &mut Writing<'_>, batch: &Batch, now: Timestamp) -> Result<u64, Fault> {
    end_asked(writing, batch, now)?;
    let released = writing
        .statement(
            "UPDATE tasks SET state = 0, solo = 0, backoff = 0, fence = 0
             WHERE id IN (SELECT value FROM json_each(?1)) AND fence = ?2 AND state = 1",
        )?
        .execute(params![batch.ids, batch.fence])?;
    forget(writing, batch)?;
    Ok(released as u64)
}

/// Tasks of the batch that a person wants to end, end so.
fn end_asked(writing: &mut Writing<'_>, batch: &Batch, now: Timestamp) -> Result<(), Fault> {
    let asked: Vec<(i64, i64, Option<String>)> = writing
        .statement(
            "SELECT id, asked, asked_why FROM tasks
             WHERE id IN (SELECT value FROM json_each(?1)) AND fence = ?2 AND state = 1 AND asked",
        )?
        .query_map(params![batch.ids, batch.fence], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
        .collect::<Result<_, _>>()?;
    if asked.is_empty() {
        return Ok(());
    }
    let mut endings = Endings::prepare(writing)?;
    for (id, state, why) in asked {
        let state = sql::task_state(state)?;
        let end = ending::End {
            id: sql::task_id(id),
            fence: Fence(batch.fence.unsigned_abs()),
            state,
            outcome: ending::outcome_of(state),
            note: why.as_deref(),
            attempted: true,
            started: sql::time(batch.claimed_at),
            ended: now,
            node: NodeId(batch.node),
            digest: None,
        };
        endings.end_running(writing, &end, now)?;
        // Nobody may write back under it any more.
        writing.statement("UPDATE history SET fence = 0 WHERE id = ?1")?.execute([id])?;
    }
    Ok(())
}

fn forget(writing: &Writing<'_>, batch: &Batch) -> Result<(), Fault> {
    successor::merge_all(writing)?.execute([&batch.ids])?;
    writing.statement("DELETE FROM batches WHERE fence = ?1")?.execute([batch.fence])?;
    Ok(())
}
