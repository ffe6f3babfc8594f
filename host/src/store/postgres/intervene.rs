//! What people do to tasks by hand.

use std::collections::{HashMap, HashSet};

use async_trait::async_trait;
use sqlx::Row as _;

use super::Command;
use super::ending::{self, End, outcome_of};
use super::enqueue::{self, Asked};
use super::fault::Fault;
use super::sql;
use super::writing::Work;
use crate::domain::intervention::{Effect, Intervened};
use crate::domain::node::NodeId;
use crate::domain::task::{Key, NewTask, Payload, TaskId, TaskState};
use crate::domain::time::Timestamp;
use crate::store::{At, Intervene};

/// [`Store::intervene`](crate::store::Store::intervene).
pub(super) struct InterveneAt {
    pub(super) ask: Intervene,
    pub(super) at: At,
}

#[async_trait]
impl Command for InterveneAt {
    type Answer = Vec<Intervened>;

    async fn apply(&self, work: &mut Work) -> Result<Vec<Intervened>, Fault> {
        let now = work.now(self.at);
        let mut answers = vec![Intervened::Unknown; self.ask.ids.len()];
        let mut left: Vec<usize> = (0..answers.len()).collect();
        // A task that is named twice is treated twice, one after the other.
        while !left.is_empty() {
            let mut seen = HashSet::new();
            let (round, again) = left.into_iter().partition(|place| seen.insert(self.ask.ids[*place]));
            let round: Vec<usize> = round;
            let ids: Vec<TaskId> = round.iter().map(|place| self.ask.ids[*place]).collect();
            for (place, answer) in round.into_iter().zip(self.treat(work, &ids, now).await?) {
                answers[place] = answer;
            }
            left = again;
        }
        Ok(answers)
    }
}

/// Where a task stands, and its last claim.
type Standing = HashMap<i64, (TaskState, i64)>;

impl InterveneAt {
    async fn treat(&self, work: &mut Work, ids: &[TaskId], now: Timestamp) -> Result<Vec<Intervened>, Fault> {
        let standing = find(work, ids).await?;
        let (mut due, mut anew, mut asked, mut ends) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let mut answers = Vec::with_capacity(ids.len());
        for (place, task) in ids.iter().enumerate() {
            let id = sql::id(*task);
            let Some((state, fence)) = standing.get(&id) else {
                answers.push(Intervened::Unknown);
                continue;
            };
            let mut answer = Intervened::Applied { task: *task };
            match self.ask.action.on(*state) {
                Effect::Refused => answer = Intervened::Refused { state: *state },
                Effect::DueNow => due.push(id),
                Effect::Anew => anew.push((place, id)),
                Effect::Asked(end) => {
                    asked.push((id, sql::state(end)));
                    answer = Intervened::Interrupting;
                }
                Effect::Ends(end) => ends.push(self.end(id, *fence, end, now)),
            }
            answers.push(answer);
        }
        ends.sort_unstable_by_key(|end| end.id);
        ending::end(work, &ends, sql::PENDING, now).await?;
        due_now(work, &due, now).await?;
        interrupt(work, &asked, &self.ask.why).await?;
        for (place, task) in queue_anew(work, &anew, now).await? {
            answers[place] = Intervened::Applied { task };
        }
        Ok(answers)
    }

    fn end(&self, id: i64, fence: i64, state: TaskState, now: Timestamp) -> End<'_> {
        End {
            id,
            fence,
            state,
            outcome: outcome_of(state),
            note: Some(&self.ask.why),
            attempted: false,
            started: now,
            ended: now,
            node: NodeId(0),
            digest: None,
        }
    }
}

/// Looks among the live ones first, which are locked: a task moves from there
/// to history, never back.
async fn find(work: &mut Work, ids: &[TaskId]) -> Result<Standing, Fault> {
    let live = "SELECT id, state, fence FROM tasks WHERE id = ANY ($1::int8[]) ORDER BY id FOR UPDATE";
    let ended = "SELECT id, state, fence FROM history WHERE id = ANY ($1::int8[])";
    let mut ids: Vec<i64> = ids.iter().map(|id| sql::id(*id)).collect();
    let mut standing = Standing::new();
    for look in [live, ended] {
        for row in sqlx::query(look).bind(&ids).fetch_all(work.conn()).await? {
            standing.insert(row.try_get(0)?, (sql::task_state(row.try_get(1)?)?, row.try_get(2)?));
        }
        ids.retain(|id| !standing.contains_key(id));
        if ids.is_empty() {
            break;
        }
    }
    Ok(standing)
}

async fn due_now(work: &mut Work, ids: &[i64], now: Timestamp) -> Result<(), Fault> {
    if !ids.is_empty() {
        sqlx::query(
            "UPDATE tasks
             SET run_at = least(run_at, $2), waits_from = CASE WHEN run_at > $2 THEN $2 ELSE waits_from END,
                 backoff = FALSE
             WHERE id = ANY ($1::int8[]) AND state = 0",
        )
        .bind(ids)
        .bind(sql::millis(now))
        .execute(work.conn())
        .await?;
    }
    Ok(())
}

/// Marks running tasks, and lets their nodes know that there is news.
async fn interrupt(work: &mut Work, asked: &[(i64, i16)], why: &str) -> Result<(), Fault> {
    if !asked.is_empty() {
        sqlx::query(
            "WITH marked AS (
                 UPDATE tasks SET asked = ask.state, asked_why = $3
                 FROM unnest($1::int8[], $2::int2[]) AS ask (id, state)
                 WHERE tasks.id = ask.id AND tasks.state = 1
                 RETURNING fence),
             news AS (
                 SELECT node, count(*) AS asked FROM marked JOIN batches ON batches.fence = marked.fence GROUP BY node)
             UPDATE nodes SET asked = nodes.asked + news.asked FROM news WHERE nodes.id = news.node",
        )
        .bind(asked.iter().map(|(id, _)| *id).collect::<Vec<_>>())
        .bind(asked.iter().map(|(_, state)| *state).collect::<Vec<_>>())
        .bind(why)
        .execute(work.conn())
        .await?;
    }
    Ok(())
}

/// Queues the keys of ended tasks; answers which task each is now.
async fn queue_anew(work: &mut Work, ended: &[(usize, i64)], now: Timestamp) -> Result<Vec<(usize, TaskId)>, Fault> {
    if ended.is_empty() {
        return Ok(Vec::new());
    }
    let rows = sqlx::query(
        "SELECT nth, job, key, payload, priority
         FROM unnest($1::int8[]) WITH ORDINALITY AS ended (id, nth) JOIN history ON history.id = ended.id
         ORDER BY nth",
    )
    .bind(ended.iter().map(|(_, id)| *id).collect::<Vec<_>>())
    .fetch_all(work.conn())
    .await?;
    let unreadable = |error: String| Fault::Refused(format!("a task on record cannot be read: {error}"));
    let mut tasks = Vec::with_capacity(rows.len());
    for row in &rows {
        let nth: i64 = row.try_get(0)?;
        let payload: Option<String> = row.try_get(3)?;
        let task = NewTask {
            key: Key::new(sql::key(row.try_get(2)?)?).map_err(|error| unreadable(error.to_string()))?,
            payload: payload.map(Payload::new).transpose().map_err(|error| unreadable(error.to_string()))?,
            run_at: None,
            priority: sql::task_priority(row.try_get(4)?)?,
        };
        tasks.push((ended[usize::try_from(nth - 1).unwrap_or_default()].0, row.try_get(1)?, task));
    }
    let asked: Vec<_> = tasks.iter().map(|(_, job, task)| Asked { job: *job, task, now }).collect();
    let queued = enqueue::enqueue(work, &asked).await?;
    Ok(tasks.iter().zip(queued).map(|((place, ..), queued)| (*place, queued.id())).collect())
}
