//! Queueing: a new row, or the one that answers for the key already.
//!
//! A pending row takes what is more urgent: a payload given replaces, the
//! higher priority and the earlier run-at win, except that a backoff is never
//! shortened. A running row keeps one successor, merged in the same way. Both
//! are one statement, which locks the rows that it finds: what is read after
//! it in the transaction cannot change. Rows are sorted by key, so that two
//! who queue the same keys wait for each other and do not stand in a circle.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use sqlx::{AssertSqlSafe, MySqlConnection};

use super::fault::Fault;
use super::numbers::Numbers;
use super::sql::{self, json};
use super::writing::{Command, Work};
use super::{Shared, jobs};
use crate::domain::job::JobId;
use crate::domain::task::{Enqueued, NewTask, Payload};
use crate::domain::time::Timestamp;
use crate::store::group::{Commit, Size, Undone};
use crate::store::{At, StoreError};

/// Rows and bytes in one statement: far below the smallest packet that servers
/// take by default.
const TOGETHER: Size = Size { rows: 1000, bytes: 1 << 20 };

/// Statements of so few rows are kept prepared; larger ones are rarely of the
/// same size.
const KEPT: usize = 8;

/// [`Store::enqueue`](crate::store::Store::enqueue).
pub(super) struct Enqueue {
    pub(super) job: JobId,
    pub(super) tasks: Vec<NewTask>,
    pub(super) at: At,
}

/// Enqueues that share a commit.
pub(super) struct Enqueues(pub(super) Arc<Shared>);

#[async_trait]
impl Commit for Enqueues {
    type Ask = Enqueue;
    type Answer = Vec<Enqueued>;

    fn size(ask: &Enqueue) -> Size {
        Size { rows: ask.tasks.len(), bytes: ask.tasks.iter().map(bytes).sum() }
    }

    async fn commit(&self, asks: &[Enqueue]) -> Result<Vec<Result<Vec<Enqueued>, StoreError>>, Undone> {
        self.0.attempt(&Together(asks)).await
    }
}

fn bytes(task: &NewTask) -> usize {
    task.key.as_str().len() + task.payload.as_ref().map_or(0, |payload| payload.as_str().len())
}

struct Together<'a>(&'a [Enqueue]);

#[async_trait]
impl Command for Together<'_> {
    type Answer = Vec<Result<Vec<Enqueued>, StoreError>>;

    fn numbers(&self) -> usize {
        self.0.iter().map(|ask| ask.tasks.len()).sum()
    }

    async fn apply(&self, work: &mut Work<'_>) -> Result<Self::Answer, Fault> {
        let asked_for = self.0.iter().filter(|ask| !ask.tasks.is_empty()).map(|ask| ask.job);
        let known = jobs::known(work.conn(), asked_for).await?;
        let is_known = |ask: &Enqueue| ask.tasks.is_empty() || known.contains(&ask.job);
        let mut asked = Vec::new();
        for ask in self.0.iter().filter(|ask| is_known(ask)) {
            let now = work.now(ask.at);
            asked.extend(ask.tasks.iter().map(|task| Asked { job: ask.job, task, now }));
        }
        let (conn, numbers) = work.conn_and_numbers();
        let mut queued = enqueue(conn, numbers, &asked).await?.into_iter();
        let answer = |ask: &Enqueue| {
            if is_known(ask) {
                Ok(queued.by_ref().take(ask.tasks.len()).collect())
            } else {
                Err(StoreError::Rejected(jobs::unknown(ask.job)))
            }
        };
        Ok(self.0.iter().map(answer).collect())
    }
}

/// A task to be queued for a job that exists.
#[derive(Clone, Copy)]
pub(super) struct Asked<'a> {
    pub(super) job: JobId,
    pub(super) task: &'a NewTask,
    pub(super) now: Timestamp,
}

/// Queues them, one answer each.
pub(super) async fn enqueue(
    conn: &mut MySqlConnection,
    numbers: &Numbers,
    asked: &[Asked<'_>],
) -> Result<Vec<Enqueued>, Fault> {
    if asked.is_empty() {
        return Ok(Vec::new());
    }
    let (mut rows, places) = distinct(asked);
    let first = numbers.take(conn, rows.len()).await?;
    for (row, id) in rows.iter_mut().zip(first..) {
        row.id = id;
    }
    insert(conn, &rows).await?;
    let mut answers = answers(conn, &rows).await?;
    let again = |row: usize| {
        let first = answers[row];
        // Whoever asks for the key next finds its task pending.
        if let Enqueued::New(id) = first {
            answers[row] = Enqueued::Pending(id);
        }
        first
    };
    Ok(places.into_iter().map(again).collect())
}

/// One key of one job, with all that was asked about it.
struct Row<'a> {
    id: i64,
    job: i64,
    task: Cow<'a, NewTask>,
    now: Timestamp,
}

impl Row<'_> {
    fn key(&self) -> &[u8] {
        self.task.key.as_str().as_bytes()
    }
}

/// One row a key, in the order of asking, and the row of each ask.
fn distinct<'a>(asked: &[Asked<'a>]) -> (Vec<Row<'a>>, Vec<usize>) {
    let mut rows: Vec<Row<'a>> = Vec::with_capacity(asked.len());
    let mut places = Vec::with_capacity(asked.len());
    let mut seen: HashMap<(i64, &[u8]), usize> = HashMap::with_capacity(asked.len());
    for Asked { job, task, now } in asked {
        let place = *seen.entry((job.0, task.key.as_str().as_bytes())).or_insert(rows.len());
        places.push(place);
        match rows.get_mut(place) {
            None => rows.push(Row { id: 0, job: job.0, task: Cow::Borrowed(task), now: *now }),
            Some(row) => row.task = Cow::Owned(row.task.as_ref().clone().merged((*task).clone(), *now)),
        }
    }
    (rows, places)
}

async fn insert(conn: &mut MySqlConnection, rows: &[Row<'_>]) -> Result<(), Fault> {
    let mut sorted: Vec<&Row<'_>> = rows.iter().collect();
    sorted.sort_unstable_by_key(|row| (row.job, row.key()));
    let mut left = sorted.as_slice();
    while !left.is_empty() {
        let (mut count, mut size) = (0, 0);
        while count < TOGETHER.rows.min(left.len()) && (count == 0 || size + bytes(&left[count].task) <= TOGETHER.bytes)
        {
            size += bytes(&left[count].task);
            count += 1;
        }
        let (now, later) = left.split_at(count);
        insert_some(conn, now).await?;
        left = later;
    }
    Ok(())
}

async fn insert_some(conn: &mut MySqlConnection, rows: &[&Row<'_>]) -> Result<(), Fault> {
    // Nothing but parameters is added to the text.
    let mut insert = sqlx::query(AssertSqlSafe(statement(rows.len()))).persistent(rows.len() <= KEPT);
    for row in rows {
        insert = insert
            .bind(row.id)
            .bind(row.job)
            .bind(row.key())
            .bind(sql::priority(row.task.priority))
            .bind(sql::millis(row.task.run_at.unwrap_or(row.now)))
            .bind(sql::millis(row.now))
            .bind(row.task.payload.as_ref().map(Payload::as_str))
            .bind(row.task.waits_from(row.now).map(sql::millis));
    }
    insert.execute(conn).await?;
    Ok(())
}

/// Inserts so many rows, or merges them into those that have their keys.
fn statement(rows: usize) -> String {
    const ROW: &str = "(?, ?, ?, ?, ?, ?, ?, ?)";
    let mut text =
        "INSERT INTO tasks (id, job, `key`, priority, run_at, enqueued_at, payload, waits_from) VALUES ".to_owned();
    for row in 0..rows {
        text.push_str(if row == 0 { "" } else { ", " });
        text.push_str(ROW);
    }
    // Each assignment reads its own column, and two that none of them writes;
    // what a due time waits from is decided before the due time is written.
    // The payload's comes last: MariaDB gives `VALUES` of a text the memory of
    // its column, and what was assigned there is what it then reads.
    text.push_str(
        " ON DUPLICATE KEY UPDATE
             next_priority = IF(state = 0, next_priority,
                                LEAST(COALESCE(next_priority, VALUES(priority)), VALUES(priority))),
             next_waits_from = IF(state = 0 OR next_run_at <= VALUES(run_at), next_waits_from, VALUES(waits_from)),
             next_run_at = IF(state = 0, next_run_at,
                              LEAST(COALESCE(next_run_at, VALUES(run_at)), VALUES(run_at))),
             next_payload = IF(state = 0, next_payload, COALESCE(VALUES(payload), next_payload)),
             next_enqueued_at = IF(state = 0, next_enqueued_at, COALESCE(next_enqueued_at, VALUES(enqueued_at))),
             priority = IF(state = 0, LEAST(priority, VALUES(priority)), priority),
             waits_from = IF(state = 0 AND backoff = 0 AND run_at > VALUES(run_at), VALUES(waits_from), waits_from),
             run_at = IF(state = 0 AND backoff = 0, LEAST(run_at, VALUES(run_at)), run_at),
             payload = IF(state = 0, COALESCE(VALUES(payload), payload), payload)",
    );
    text
}

/// What became of the rows, which this transaction has locked.
async fn answers(conn: &mut MySqlConnection, rows: &[Row<'_>]) -> Result<Vec<Enqueued>, Fault> {
    let new = || rows.iter().map(|row| Enqueued::New(sql::task_id(row.id))).collect::<Vec<_>>();
    let (Some(first), Some(last)) = (rows.first(), rows.last()) else { return Ok(Vec::new()) };
    let inserted: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM tasks FORCE INDEX (PRIMARY) WHERE id BETWEEN ? AND ?")
        .bind(first.id)
        .bind(last.id)
        .fetch_one(&mut *conn)
        .await?;
    if usize::try_from(inserted) == Ok(rows.len()) {
        return Ok(new());
    }
    let mut answers = new();
    for (start, rows) in (0..).step_by(TOGETHER.rows).zip(rows.chunks(TOGETHER.rows)) {
        let keys: Vec<_> = rows.iter().map(|row| (row.job, sql::hex(row.key()))).collect();
        let found: Vec<(i64, i64, i64)> = sqlx::query_as(
            "SELECT CAST(asked.place AS SIGNED), tasks.id, state
             FROM JSON_TABLE(?, '$[*]' COLUMNS (
                      place FOR ORDINALITY, job BIGINT PATH '$[0]', `key` VARCHAR(2048) PATH '$[1]')) AS asked
             STRAIGHT_JOIN tasks FORCE INDEX (keyed) ON tasks.job = asked.job AND tasks.`key` = UNHEX(asked.`key`)
             FOR UPDATE",
        )
        .bind(json(&keys)?)
        .fetch_all(&mut *conn)
        .await?;
        if found.len() != rows.len() {
            return Err(sql::unreadable("a key that was queued is not there"));
        }
        for (place, id, state) in found {
            let place = start + usize::try_from(place - 1).unwrap_or_default();
            let answer = answers.get_mut(place).ok_or_else(|| sql::unreadable("more keys than asked for"))?;
            if answer.id() != sql::task_id(id) {
                let id = sql::task_id(id);
                *answer = if state == sql::RUNNING { Enqueued::Successor(id) } else { Enqueued::Pending(id) };
            }
        }
    }
    Ok(answers)
}
