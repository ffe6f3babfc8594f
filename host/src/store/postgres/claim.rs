//! Claiming: the next due tasks go to a node, all under one fresh fence, in
//! one statement that commits itself.
//!
//! A claim that finds nothing writes nothing. One that finds something writes
//! the rows' state and fence, which no index holds, and one row that lists the
//! batch. The fence is taken from its sequence only when the rows are locked:
//! so it is above those of all earlier claims of the same keys.

use async_trait::async_trait;
use sqlx::Row as _;
use sqlx::postgres::PgRow;

use super::fault::Fault;
use super::pool::LONGEST;
use super::sql::{self, server_now};
use super::writing::Work;
use super::{Command, Shared, nodes};
use crate::domain::node::NodeId;
use crate::domain::task::{ClaimedTask, Key, Payload, Priority};
use crate::store::group::{Tries, Undone, reason};
use crate::store::{Claim, ClaimDue, StoreError};

/// One range of the index a priority. Rows in flight are in it and skipped, as
/// are those that another claim has locked. Tasks with losses are left out,
/// except that where the claim allows it the very first comes, alone.
macro_rules! range {
    ($name:literal, $nth:literal, $before:literal) => {
        concat!(
            $name,
            " AS MATERIALIZED (
                 SELECT id FROM tasks
                 WHERE job = $1 AND priority = ($5::int2[])[",
            $nth,
            "] AND run_at <= $3 AND state = 0 AND losses = 0 AND EXISTS (SELECT FROM may)
                 ORDER BY run_at, id
                 LIMIT CASE WHEN EXISTS (SELECT FROM alone) THEN 0 ELSE $4",
            $before,
            " END FOR UPDATE SKIP LOCKED), "
        )
    };
}

const CLAIM: &str = concat!(
    "WITH may AS MATERIALIZED (
         SELECT 1 FROM nodes, jobs
         WHERE nodes.id = $2 AND nodes.ended_at IS NULL AND jobs.id = $1 AND jobs.paused IS NULL),
     first AS MATERIALIZED (
         SELECT found.id, found.losses
         FROM unnest($5::int2[]) WITH ORDINALITY AS asked (priority, nth)
         CROSS JOIN LATERAL (
             SELECT id, losses FROM tasks
             WHERE job = $1 AND tasks.priority = asked.priority AND run_at <= $3 AND state = 0
             ORDER BY run_at, id LIMIT 1) AS found
         WHERE $6 AND $4 > 0 ORDER BY nth LIMIT 1),
     alone AS MATERIALIZED (
         SELECT id FROM tasks
         WHERE id = (SELECT id FROM first WHERE losses > 0) AND state = 0 AND EXISTS (SELECT FROM may)
         FOR UPDATE SKIP LOCKED), ",
    range!("a", "1", ""),
    range!("b", "2", " - (SELECT count(*) FROM a)"),
    range!("c", "3", " - (SELECT count(*) FROM a) - (SELECT count(*) FROM b)"),
    range!("d", "4", " - (SELECT count(*) FROM a) - (SELECT count(*) FROM b) - (SELECT count(*) FROM c)"),
    "picked AS MATERIALIZED (
         SELECT array_agg(id) AS ids
         FROM (SELECT id FROM alone UNION ALL SELECT id FROM a UNION ALL SELECT id FROM b
               UNION ALL SELECT id FROM c UNION ALL SELECT id FROM d) AS locked),
     batch AS (
         INSERT INTO batches (node, job, claimed_at, ticket, ids)
         SELECT $2, $1, ",
    server_now!(),
    ", $7, ids FROM picked WHERE ids IS NOT NULL
         RETURNING fence)
     UPDATE tasks SET state = 1, fence = (SELECT fence FROM batch), solo = losses > 0
     WHERE id = ANY ((SELECT ids FROM picked)::int8[])
     RETURNING id, key, payload, attempt, losses, enqueued_at, postponed_since, priority, run_at, fence,
         removed"
);

/// [`Store::claim_due`](crate::store::Store::claim_due).
pub(super) async fn claim(shared: &Shared, claim: &ClaimDue) -> Result<Option<Claim>, StoreError> {
    shared.must_write()?;
    let mut tries = Tries::default();
    loop {
        match attempt(shared, claim).await {
            Ok(claimed) => return Ok(claimed),
            // Any other failure is not repeated here, for the next claim comes soon.
            Err(stale @ Undone::Stale(_)) => tries.again(stale).await?,
            Err(Undone::Unconfirmed(error)) => return Err(StoreError::Unknown(reason(error))),
            Err(Undone::Again(error) | Undone::Lost(error) | Undone::Failed(error)) => return Err(error),
        }
    }
}

async fn attempt(shared: &Shared, claim: &ClaimDue) -> Result<Option<Claim>, Undone> {
    let server = &shared.server;
    let mut conn = server.connection().await.map_err(|fault| server.undone(&fault, false))?;
    let order = order(claim);
    let ticket = Ticket { node: claim.node, number: fastrand::i64(..) };
    let rows = sqlx::query(CLAIM)
        .bind(claim.job.0)
        .bind(claim.node.0)
        .bind(sql::millis(claim.horizon))
        .bind(i64::from(claim.limit))
        .bind(order.map(sql::priority).to_vec())
        .bind(claim.suspects)
        .bind(ticket.number)
        .fetch_all(&mut *conn);
    let doubt = Doubt { shared, ticket: Some(ticket) };
    let rows = match tokio::time::timeout(LONGEST, rows).await {
        Ok(Ok(rows)) => rows,
        Ok(Err(error)) => return Err(doubt.unanswered(&error.into())),
        Err(_) => {
            conn.close_on_drop();
            return Err(doubt.unanswered(&Fault::Silent(LONGEST)));
        }
    };
    doubt.answered();
    let answer = if rows.is_empty() {
        nodes::must_live(&mut conn, claim.node).await.map(|()| None)
    } else {
        in_order(&rows, order)
    };
    // It is answered: what fails from here on is no reason to claim again.
    answer.map_err(|fault| Undone::Failed(server.tell(fault)))
}

fn order(claim: &ClaimDue) -> [Priority; 4] {
    let mut order = Priority::ALL;
    if claim.lowest_first {
        order.reverse();
    }
    order
}

/// A claim as its claimer knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ticket {
    pub(super) node: NodeId,
    pub(super) number: i64,
}

/// A claim that is under way. The statement commits itself, so that without
/// its answer nobody knows, and the server may still be at it: dropped so, it
/// is left to [`Void`].
struct Doubt<'a> {
    shared: &'a Shared,
    ticket: Option<Ticket>,
}

impl Doubt<'_> {
    fn answered(mut self) {
        self.ticket = None;
    }

    fn unanswered(self, fault: &Fault) -> Undone {
        let undone = self.shared.server.undone(fault, !fault.is_refusal());
        if !matches!(undone, Undone::Unconfirmed(_)) {
            self.answered();
        }
        undone
    }
}

impl Drop for Doubt<'_> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            self.shared.doubtful().push(ticket);
        }
    }
}

/// Makes claims whose answer was lost certain: what is not committed now never
/// will be. A claim that the server is still at is waited for, by the unique
/// index of tickets.
pub(super) struct Void(pub(super) Vec<Ticket>);

#[async_trait]
impl Command for Void {
    type Answer = ();

    async fn apply(&self, work: &mut Work) -> Result<(), Fault> {
        let (tickets, nodes): (Vec<i64>, Vec<i64>) = self.0.iter().map(|ticket| (ticket.number, ticket.node.0)).unzip();
        sqlx::query(concat!(
            "INSERT INTO batches (node, job, claimed_at, ticket, ids)
             SELECT node, 0, ",
            server_now!(),
            ", ticket, '{}' FROM unnest($1::int8[], $2::int8[]) AS doubtful (ticket, node)
             ON CONFLICT (ticket) DO NOTHING"
        ))
        .bind(tickets)
        .bind(nodes)
        .execute(work.conn())
        .await?;
        Ok(())
    }
}

fn in_order(rows: &[PgRow], order: [Priority; 4]) -> Result<Option<Claim>, Fault> {
    let mut placed = Vec::with_capacity(rows.len());
    for row in rows {
        let priority = sql::task_priority(row.try_get(7)?)?;
        let place = order.iter().position(|other| *other == priority);
        let run_at: i64 = row.try_get(8)?;
        placed.push((place, run_at, claimed(row)?));
    }
    placed.sort_unstable_by_key(|(place, run_at, task)| (*place, *run_at, task.id));
    let tasks: Vec<_> = placed.into_iter().map(|(.., task)| task).collect();
    Ok(tasks.first().map(|task| task.fence).map(|fence| Claim { fence, tasks }))
}

/// The task in a row.
pub(super) fn claimed(row: &PgRow) -> Result<ClaimedTask, Fault> {
    let unreadable = |error: String| Fault::Refused(format!("a task in the database cannot be read: {error}"));
    let payload: Option<String> = row.try_get(2)?;
    Ok(ClaimedTask {
        id: sql::task_id(row.try_get(0)?),
        fence: sql::to_fence(row.try_get(9)?),
        key: Key::new(sql::key(row.try_get(1)?)?).map_err(|error| unreadable(error.to_string()))?,
        payload: payload.map(Payload::new).transpose().map_err(|error| unreadable(error.to_string()))?,
        attempt: sql::count(row.try_get(3)?).saturating_add(1),
        losses: sql::count(row.try_get(4)?),
        enqueued_at: sql::time(row.try_get(5)?),
        postponed_since: row.try_get::<Option<i64>, _>(6)?.map(sql::time),
        removed: row.try_get::<i64, _>(10)?.unsigned_abs(),
    })
}
