//! What people do to tasks by hand, a thousand in a transaction.

use std::collections::HashMap;

use async_trait::async_trait;
use sqlx::MySqlConnection;

use super::Shared;
use super::ending::{self, End, outcome_of};
use super::enqueue::{Asked, enqueue};
use super::fault::Fault;
use super::sql::{self, given, json};
use super::writing::{Command, Work};
use crate::domain::intervention::{Action, Effect, Intervened};
use crate::domain::job::JobId;
use crate::domain::node::NodeId;
use crate::domain::task::{Enqueued, Key, NewTask, Payload, TaskId, TaskState};
use crate::domain::time::Timestamp;
use crate::store::{At, Intervene, StoreError};

/// Tasks in one transaction.
const TOGETHER: usize = 1000;

impl Shared {
    /// [`Store::intervene`](crate::store::Store::intervene).
    pub(super) async fn intervene(&self, ask: &Intervene, at: At) -> Result<Vec<Intervened>, StoreError> {
        let mut answers = Vec::with_capacity(ask.ids.len());
        for ids in ask.ids.chunks(TOGETHER) {
            answers.extend(self.write(&Part { action: ask.action, ids, why: &ask.why, at }).await?);
        }
        Ok(answers)
    }
}

struct Part<'a> {
    action: Action,
    ids: &'a [TaskId],
    why: &'a str,
    at: At,
}

#[async_trait]
impl Command for Part<'_> {
    type Answer = Vec<Intervened>;

    /// What it did the first time it would refuse the second.
    const REPEATABLE: bool = false;

    async fn apply(&self, work: &mut Work<'_>) -> Result<Vec<Intervened>, Fault> {
        let now = work.now(self.at);
        let found = find(work.conn(), self.ids).await?;
        let mut done: HashMap<TaskId, Intervened> = HashMap::new();
        let (mut due, mut anew, mut asked, mut ends) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for id in self.ids {
            let Some(found) = found.get(&sql::id(*id)) else { continue };
            if done.contains_key(id) {
                continue;
            }
            done.insert(*id, Intervened::Applied { task: *id });
            match self.action.on(found.state) {
                Effect::Refused => drop(done.insert(*id, Intervened::Refused { state: found.state })),
                Effect::DueNow => due.push(sql::id(*id)),
                Effect::Anew => anew.push(*id),
                Effect::Asked(end) => {
                    done.insert(*id, Intervened::Interrupting);
                    asked.push((end, sql::id(*id)));
                }
                Effect::Ends(end) => ends.push(by_hand(*id, end, self.why, now)),
            }
        }
        make_due(work.conn(), &due, now).await?;
        ask(work.conn(), &asked, self.why).await?;
        ending::end(work.conn(), &ends, now).await?;
        for (id, task) in queue_anew(work, &anew, now).await? {
            done.insert(id, Intervened::Applied { task });
        }
        Ok(self.ids.iter().map(|id| done.get(id).copied().unwrap_or(Intervened::Unknown)).collect())
    }
}

/// The end of a pending task.
fn by_hand(id: TaskId, state: TaskState, why: &str, now: Timestamp) -> End<'_> {
    End {
        id: sql::id(id),
        state,
        outcome: outcome_of(state),
        note: Some(why),
        attempted: false,
        started: now,
        ended: now,
        node: NodeId(0),
        digest: None,
        succeeded: false,
    }
}

struct Found {
    state: TaskState,
}

/// The tasks, by number: live ones, which are locked, and ended ones.
async fn find(conn: &mut MySqlConnection, ids: &[TaskId]) -> Result<HashMap<i64, Found>, Fault> {
    let mut ids: Vec<i64> = ids.iter().map(|id| sql::id(*id)).collect();
    ids.sort_unstable();
    let given = json(&ids)?;
    let live: Vec<(i64, i64)> = sqlx::query_as(concat!(
        "SELECT tasks.id, state FROM ",
        given!(),
        " STRAIGHT_JOIN tasks FORCE INDEX (PRIMARY) ON tasks.id = given.id FOR UPDATE"
    ))
    .bind(&given)
    .fetch_all(&mut *conn)
    .await?;
    let ended: Vec<(i64, i64)> = sqlx::query_as(concat!(
        "SELECT history.id, state FROM ",
        given!(),
        " STRAIGHT_JOIN history FORCE INDEX (PRIMARY) ON history.id = given.id"
    ))
    .bind(&given)
    .fetch_all(conn)
    .await?;
    let mut found = HashMap::new();
    for (id, state) in live.into_iter().chain(ended) {
        found.insert(id, Found { state: sql::task_state(state)? });
    }
    Ok(found)
}

async fn make_due(conn: &mut MySqlConnection, ids: &[i64], now: Timestamp) -> Result<(), Fault> {
    if ids.is_empty() {
        return Ok(());
    }
    sqlx::query(concat!(
        "UPDATE ",
        given!(),
        " STRAIGHT_JOIN tasks FORCE INDEX (PRIMARY) ON tasks.id = given.id
         SET waits_from = IF(run_at > ?, ?, waits_from), run_at = LEAST(run_at, ?), backoff = 0
         WHERE state = 0"
    ))
    .bind(json(&ids)?)
    .bind(sql::millis(now))
    .bind(sql::millis(now))
    .bind(sql::millis(now))
    .execute(conn)
    .await?;
    Ok(())
}

/// Marks running tasks, and lets their nodes know that there is news.
async fn ask(conn: &mut MySqlConnection, asked: &[(TaskState, i64)], why: &str) -> Result<(), Fault> {
    let Some((end, _)) = asked.first() else { return Ok(()) };
    let ids = json(&asked.iter().map(|(_, id)| id).collect::<Vec<_>>())?;
    sqlx::query(concat!(
        "UPDATE ",
        given!(),
        " STRAIGHT_JOIN tasks FORCE INDEX (PRIMARY) ON tasks.id = given.id
         SET asked = ?, asked_why = ? WHERE state = 1"
    ))
    .bind(&ids)
    .bind(sql::state(*end))
    .bind(why)
    .execute(&mut *conn)
    .await?;
    let nodes: Vec<i64> = sqlx::query_scalar(concat!(
        "SELECT DISTINCT node FROM ",
        given!(),
        " STRAIGHT_JOIN tasks FORCE INDEX (PRIMARY) ON tasks.id = given.id
          STRAIGHT_JOIN batches FORCE INDEX (PRIMARY) ON batches.fence = tasks.fence
         WHERE state = 1 ORDER BY node"
    ))
    .bind(&ids)
    .fetch_all(&mut *conn)
    .await?;
    for node in nodes {
        sqlx::query("UPDATE nodes SET asked = asked + 1 WHERE id = ?").bind(node).execute(&mut *conn).await?;
    }
    Ok(())
}

/// Queues the keys of ended tasks; answers which tasks they are now.
async fn queue_anew(work: &mut Work<'_>, ids: &[TaskId], now: Timestamp) -> Result<Vec<(TaskId, TaskId)>, Fault> {
    type Columns = (i64, i64, Vec<u8>, Option<String>, i64);
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let numbers: Vec<i64> = ids.iter().map(|id| sql::id(*id)).collect();
    let rows: Vec<Columns> = sqlx::query_as(concat!(
        "SELECT history.id, job, `key`, payload, priority FROM ",
        given!(),
        " STRAIGHT_JOIN history FORCE INDEX (PRIMARY) ON history.id = given.id"
    ))
    .bind(json(&numbers)?)
    .fetch_all(work.conn())
    .await?;
    let mut tasks = Vec::with_capacity(rows.len());
    for (id, job, key, payload, priority) in rows {
        let task = NewTask {
            key: Key::new(sql::key(key)?).map_err(sql::unreadable)?,
            payload: payload.map(Payload::new).transpose().map_err(sql::unreadable)?,
            run_at: None,
            priority: sql::task_priority(priority)?,
        };
        tasks.push((sql::task_id(id), JobId(job), task));
    }
    let asked: Vec<_> = tasks.iter().map(|(_, job, task)| Asked { job: *job, task, now }).collect();
    let (conn, numbers) = work.conn_and_numbers();
    let queued = enqueue(conn, numbers, &asked).await?;
    Ok(tasks.iter().map(|(id, ..)| *id).zip(queued.into_iter().map(Enqueued::id)).collect())
}
