//! Queueing: a new row, or the one that answers for the key already.
//!
//! ```text
//!  insert what is new ─▶ all new: done
//!        ▲      │ some keys exist
//!        │      ▼
//!        │   lock their rows in order ─▶ merge into pending ones,
//!        │      │ some ended meanwhile    or into successors of running ones
//!        └──────┘
//! ```
//! A pending row takes what is more urgent: a payload given replaces, the
//! higher priority and the earlier run-at win, except that a backoff is never
//! shortened. A running row keeps one successor, merged in the same way.

use std::borrow::Cow;
use std::collections::HashMap;

use async_trait::async_trait;
use sqlx::Row as _;

use super::fault::Fault;
use super::sql;
use super::writing::{Work, attempt};
use super::{Command, Shared};
use crate::domain::job::JobId;
use crate::domain::task::{Enqueued, NewTask, Payload};
use crate::domain::time::Timestamp;
use crate::store::group::{Commit, Size, Undone};
use crate::store::{At, StoreError};

/// How often keys may come and go between two looks.
const ROUNDS: u32 = 8;

/// [`Store::enqueue`](crate::store::Store::enqueue).
pub(super) struct Enqueue {
    pub(super) job: JobId,
    pub(super) tasks: Vec<NewTask>,
    pub(super) at: At,
}

/// Enqueues that share a commit.
pub(super) struct Enqueues(pub(super) std::sync::Arc<Shared>);

#[async_trait]
impl Commit for Enqueues {
    type Ask = Enqueue;
    type Answer = Vec<Enqueued>;

    fn size(ask: &Enqueue) -> Size {
        let bytes = |task: &NewTask| {
            task.key.as_str().len() + task.payload.as_ref().map_or(0, |payload| payload.as_str().len())
        };
        Size { rows: ask.tasks.len(), bytes: ask.tasks.iter().map(bytes).sum() }
    }

    async fn commit(&self, asks: &[Enqueue]) -> Result<Vec<Result<Vec<Enqueued>, StoreError>>, Undone> {
        attempt(&self.0, &Together(asks)).await
    }
}

struct Together<'a>(&'a [Enqueue]);

#[async_trait]
impl Command for Together<'_> {
    type Answer = Vec<Result<Vec<Enqueued>, StoreError>>;

    async fn apply(&self, work: &mut Work) -> Result<Self::Answer, Fault> {
        let mut asked = Vec::new();
        let mut unknown = vec![None; self.0.len()];
        for (ask, unknown) in self.0.iter().zip(&mut unknown) {
            if let Err(Fault::Refused(why)) = known(work, ask).await? {
                *unknown = Some(why);
                continue;
            }
            let now = work.now(ask.at);
            asked.extend(ask.tasks.iter().map(|task| Asked { job: ask.job.0, task, now }));
        }
        let mut queued = enqueue(work, &asked).await?.into_iter();
        Ok(self
            .0
            .iter()
            .zip(unknown)
            .map(|(ask, unknown)| match unknown {
                Some(why) => Err(StoreError::Rejected(why)),
                None => Ok(queued.by_ref().take(ask.tasks.len()).collect()),
            })
            .collect())
    }
}

/// Whether the ask's job is; the outer error is the server's.
async fn known(work: &mut Work, ask: &Enqueue) -> Result<Result<(), Fault>, Fault> {
    if ask.tasks.is_empty() {
        return Ok(Ok(()));
    }
    match super::jobs::must_exist(work, ask.job).await {
        Err(Fault::Refused(why)) => Ok(Err(Fault::Refused(why))),
        Err(fault) => Err(fault),
        Ok(()) => Ok(Ok(())),
    }
}

/// A task to be queued for a job.
#[derive(Clone, Copy)]
pub(super) struct Asked<'a> {
    pub(super) job: i64,
    pub(super) task: &'a NewTask,
    pub(super) now: Timestamp,
}

/// Queues them, one answer each. Their jobs must exist.
pub(super) async fn enqueue(work: &mut Work, asked: &[Asked<'_>]) -> Result<Vec<Enqueued>, Fault> {
    let (rows, places) = distinct(asked);
    let mut answers = vec![None; rows.len()];
    let mut left: Vec<usize> = (0..rows.len()).collect();
    for _ in 0..ROUNDS {
        if left.is_empty() {
            break;
        }
        let fresh = insert(work, &rows, &left).await?;
        if fresh.len() == left.len() {
            for (row, id) in left.drain(..).zip(fresh) {
                answers[row] = Some(Enqueued::New(sql::task_id(id)));
            }
        } else {
            merge(work, &rows, &left, &fresh, &mut answers).await?;
            left.retain(|row| answers[*row].is_none());
        }
    }
    if !left.is_empty() {
        return Err(Fault::Contended);
    }
    Ok(places.into_iter().filter_map(|row| answer_again(&mut answers[row])).collect())
}

/// The answer for a key; the next time it is asked for, the task is pending.
fn answer_again(answer: &mut Option<Enqueued>) -> Option<Enqueued> {
    let first = *answer;
    if let Some(Enqueued::New(id)) = first {
        *answer = Some(Enqueued::Pending(id));
    }
    first
}

/// One key of one job, with all that was asked about it.
struct Row<'a> {
    job: i64,
    now: Timestamp,
    task: Cow<'a, NewTask>,
}

impl Row<'_> {
    fn run_at(&self) -> i64 {
        sql::millis(self.task.run_at.unwrap_or(self.now))
    }

    fn waits_from(&self) -> Option<i64> {
        self.task.waits_from(self.now).map(sql::millis)
    }

    fn priority(&self) -> i16 {
        sql::priority(self.task.priority)
    }

    fn payload(&self) -> Option<&str> {
        self.task.payload.as_ref().map(Payload::as_str)
    }

    fn key(&self) -> &[u8] {
        self.task.key.as_str().as_bytes()
    }
}

/// A row a key, and for each ask the row that answers it.
fn distinct<'a>(asked: &[Asked<'a>]) -> (Vec<Row<'a>>, Vec<usize>) {
    let mut known = HashMap::with_capacity(asked.len());
    let mut rows: Vec<Row<'a>> = Vec::with_capacity(asked.len());
    let places = asked.iter().map(|&Asked { job, task, now }| {
        let place = *known.entry((job, task.key.as_str())).or_insert(rows.len());
        match rows.get_mut(place) {
            None => rows.push(Row { job, now, task: Cow::Borrowed(task) }),
            Some(row) => row.task = Cow::Owned(row.task.as_ref().clone().merged(task.clone(), now)),
        }
        place
    });
    let places = places.collect();
    (rows, places)
}

/// Numbers are given in the order of asking; rows are written in the order of
/// keys, in which two callers with the same keys wait for each other and never
/// in a circle. Nodes that may be waiting are told, if there are any.
const INSERT: &str = "
    WITH new AS (
        INSERT INTO tasks (id, job, key, priority, run_at, enqueued_at, payload, waits_from)
        SELECT * FROM (
            SELECT nextval('task_ids'), asked.*
            FROM unnest($1::int8[], $2::bytea[], $3::int2[], $4::int8[], $5::int8[], $6::text[], $9::int8[])
                AS asked (job, key, priority, run_at, enqueued_at, payload, waits_from)
            OFFSET 0) AS numbered
        ORDER BY job, key
        ON CONFLICT (job, key) DO NOTHING
        RETURNING id),
    told AS (
        SELECT pg_notify('sweepd', $7)
        WHERE EXISTS (SELECT FROM nodes WHERE ended_at IS NULL AND id <> $8))
    SELECT coalesce(array_agg(id), '{}'), (SELECT count(*) FROM told) FROM new";

/// The numbers of what was inserted, ascending.
async fn insert(work: &mut Work, rows: &[Row<'_>], which: &[usize]) -> Result<Vec<i64>, Fault> {
    let rows = || which.iter().map(|row| &rows[*row]);
    let (voice, life) = (work.shared.voice.clone(), work.shared.life());
    let row = sqlx::query(INSERT)
        .bind(rows().map(|row| row.job).collect::<Vec<_>>())
        .bind(rows().map(Row::key).collect::<Vec<_>>())
        .bind(rows().map(Row::priority).collect::<Vec<_>>())
        .bind(rows().map(Row::run_at).collect::<Vec<_>>())
        .bind(rows().map(|row| sql::millis(row.now)).collect::<Vec<_>>())
        .bind(rows().map(Row::payload).collect::<Vec<_>>())
        .bind(voice)
        .bind(life)
        .bind(rows().map(Row::waits_from).collect::<Vec<_>>())
        .fetch_one(work.conn())
        .await?;
    let mut ids: Vec<i64> = row.try_get(0)?;
    ids.sort_unstable();
    Ok(ids)
}

/// Answers for those whose key has a row now, `fresh` or older, and merges
/// into the older ones.
async fn merge(
    work: &mut Work,
    rows: &[Row<'_>],
    which: &[usize],
    fresh: &[i64],
    answers: &mut [Option<Enqueued>],
) -> Result<(), Fault> {
    let found = sqlx::query(
        "SELECT asked.nth, tasks.id, tasks.state
         FROM unnest($1::int8[], $2::bytea[]) WITH ORDINALITY AS asked (job, key, nth)
         JOIN tasks ON tasks.job = asked.job AND tasks.key = asked.key
         ORDER BY tasks.id FOR UPDATE OF tasks",
    )
    .bind(which.iter().map(|row| rows[*row].job).collect::<Vec<_>>())
    .bind(which.iter().map(|row| rows[*row].key()).collect::<Vec<_>>())
    .fetch_all(work.conn())
    .await?;
    let (mut pending, mut running) = (Vec::new(), Vec::new());
    for found in found {
        let (nth, id, state): (i64, i64, i16) = (found.try_get(0)?, found.try_get(1)?, found.try_get(2)?);
        let row = which[usize::try_from(nth - 1).unwrap_or_default()];
        let task = sql::task_id(id);
        answers[row] = Some(if fresh.binary_search(&id).is_ok() {
            Enqueued::New(task)
        } else if state == sql::RUNNING {
            running.push((id, &rows[row]));
            Enqueued::Successor(task)
        } else {
            pending.push((id, &rows[row]));
            Enqueued::Pending(task)
        });
    }
    update(work, MERGE, &pending).await?;
    update(work, SUCCEED, &running).await
}

macro_rules! asked_of_rows {
    () => {
        " FROM unnest($1::int8[], $2::int2[], $3::int8[], $4::text[], $5::int8[], $6::int8[])
              AS asked (id, priority, run_at, payload, enqueued_at, waits_from)
          WHERE tasks.id = asked.id "
    };
}

const MERGE: &str = concat!(
    "UPDATE tasks
     SET priority = least(tasks.priority, asked.priority),
         run_at = CASE WHEN backoff THEN tasks.run_at ELSE least(tasks.run_at, asked.run_at) END,
         waits_from = CASE WHEN backoff OR tasks.run_at <= asked.run_at THEN tasks.waits_from
                           ELSE asked.waits_from END,
         payload = coalesce(asked.payload, tasks.payload)",
    asked_of_rows!(),
    "AND (tasks.priority > asked.priority OR (tasks.run_at > asked.run_at AND NOT backoff)
          OR asked.payload IS NOT NULL)"
);

const SUCCEED: &str = concat!(
    "UPDATE tasks
     SET next_priority = least(next_priority, asked.priority),
         next_run_at = least(next_run_at, asked.run_at),
         next_waits_from = CASE WHEN next_run_at <= asked.run_at THEN next_waits_from ELSE asked.waits_from END,
         next_payload = coalesce(asked.payload, next_payload),
         next_enqueued_at = coalesce(next_enqueued_at, asked.enqueued_at)",
    asked_of_rows!()
);

async fn update(work: &mut Work, sql: &'static str, rows: &[(i64, &Row<'_>)]) -> Result<(), Fault> {
    if rows.is_empty() {
        return Ok(());
    }
    sqlx::query(sql)
        .bind(rows.iter().map(|(id, _)| *id).collect::<Vec<_>>())
        .bind(rows.iter().map(|(_, row)| row.priority()).collect::<Vec<_>>())
        .bind(rows.iter().map(|(_, row)| row.run_at()).collect::<Vec<_>>())
        .bind(rows.iter().map(|(_, row)| row.payload()).collect::<Vec<_>>())
        .bind(rows.iter().map(|(_, row)| sql::millis(row.now)).collect::<Vec<_>>())
        .bind(rows.iter().map(|(_, row)| row.waits_from()).collect::<Vec<_>>())
        .execute(work.conn())
        .await?;
    Ok(())
}
