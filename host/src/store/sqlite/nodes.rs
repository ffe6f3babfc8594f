//! Lives of nodes. One host has the file, and the lock beside it is its lease:
//! whoever has the lock may take over from every node on record, and a
//! heartbeat has nothing to write.

use rusqlite::params;

use super::fault::Fault;
use super::sql;
use super::successor;
use super::writing::{Command, Writing};
use crate::domain::time::Timestamp;
use crate::faults::{self, Mutant};
use crate::store::{At, Heartbeat, Incarnation, NodeId};

/// [`Store::begin_incarnation`](crate::store::Store::begin_incarnation).
pub(super) struct Begin {
    pub(super) name: String,
    pub(super) at: At,
}

impl Command for Begin {
    type Answer = Incarnation;

    fn apply(&self, writing: &mut Writing<'_>) -> Result<Incarnation, Fault> {
        let now = writing.now(self.at);
        let recovered = reap_all(writing, now)?;
        let node = writing
            .statement("INSERT INTO nodes (name, started_at) VALUES (?1, ?2)")?
            .insert(params![self.name, sql::millis(now)])?;
        Ok(Incarnation { node: NodeId(node), recovered })
    }
}

/// [`Store::heartbeat`](crate::store::Store::heartbeat).
pub(super) struct Beat(pub(super) NodeId);

impl Command for Beat {
    type Answer = Heartbeat;

    fn apply(&self, writing: &mut Writing<'_>) -> Result<Heartbeat, Fault> {
        Ok(if lives(writing, self.0)? { Heartbeat::Held } else { Heartbeat::Lost })
    }
}

/// [`Store::end_incarnation`](crate::store::Store::end_incarnation).
pub(super) struct End(pub(super) NodeId);

impl Command for End {
    type Answer = ();

    fn apply(&self, writing: &mut Writing<'_>) -> Result<(), Fault> {
        writing.statement("DELETE FROM nodes WHERE id = ?1")?.execute([self.0.0])?;
        for batch in batches(writing, Some(self.0))? {
            release(writing, &batch)?;
        }
        Ok(())
    }
}

/// Refuses a node whose life has ended: nobody would reap what it takes.
pub(super) fn must_live(writing: &Writing<'_>, node: NodeId) -> Result<(), Fault> {
    if lives(writing, node)? {
        return Ok(());
    }
    Err(Fault::Refused(format!("the life of node number {} has ended", node.0)))
}

fn lives(writing: &Writing<'_>, node: NodeId) -> Result<bool, Fault> {
    Ok(writing.statement("SELECT 1 FROM nodes WHERE id = ?1")?.exists([node.0])?)
}

/// A batch that a node left.
struct Batch {
    fence: i64,
    claimed_at: i64,
    ids: String,
}

fn batches(writing: &Writing<'_>, node: Option<NodeId>) -> Result<Vec<Batch>, Fault> {
    let mut select = writing.statement("SELECT fence, claimed_at, ids FROM batches WHERE ?1 IS NULL OR node = ?1")?;
    let batch = |row: &rusqlite::Row<'_>| Ok(Batch { fence: row.get(0)?, claimed_at: row.get(1)?, ids: row.get(2)? });
    let rows = select.query_map([node.map(|node| node.0)], batch)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Fences every earlier life, then puts its tasks back with a loss.
fn reap_all(writing: &Writing<'_>, now: Timestamp) -> Result<u64, Fault> {
    writing.statement("DELETE FROM nodes")?.execute([])?;
    let mut recovered = 0;
    for batch in batches(writing, None)? {
        recovered += lose(writing, &batch, now)?;
    }
    Ok(recovered)
}

/// Running tasks of the batch become pending, with one more loss; of one that
/// ran alone the loss is an attempt. The fence goes, so that a late write-back
/// finds no trace of its claim.
fn lose(writing: &Writing<'_>, batch: &Batch, now: Timestamp) -> Result<u64, Fault> {
    writing
        .statement(
            "INSERT INTO attempts (task, number, fence, started_at, ended_at, digest, error)
             SELECT id, attempt + 1, NULL, ?3, ?4, NULL, 'the host was lost while the task ran'
             FROM tasks
             WHERE id IN (SELECT value FROM json_each(?1)) AND fence = ?2 AND state = 1 AND solo",
        )?
        .execute(params![batch.ids, batch.fence, batch.claimed_at, sql::millis(now)])?;
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
fn release(writing: &Writing<'_>, batch: &Batch) -> Result<(), Fault> {
    writing
        .statement(
            "UPDATE tasks SET state = 0, solo = 0, backoff = 0, fence = 0
             WHERE id IN (SELECT value FROM json_each(?1)) AND fence = ?2 AND state = 1",
        )?
        .execute(params![batch.ids, batch.fence])?;
    forget(writing, batch)
}

fn forget(writing: &Writing<'_>, batch: &Batch) -> Result<(), Fault> {
    successor::merge_all(writing)?.execute([&batch.ids])?;
    writing.statement("DELETE FROM batches WHERE fence = ?1")?.execute([batch.fence])?;
    Ok(())
}
