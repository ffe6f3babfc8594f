//! The server's clock was set back, or another server with an earlier one took
//! over: times of the future that were given are drawn in.

use async_trait::async_trait;
use sqlx::MySqlConnection;

use super::effects::named;
use super::fault::Fault;
use super::sql::{self, given, held, json};
use super::writing::{Command, Work};
use crate::domain::clock::TOLERANCE;
use crate::domain::task::Priority;
use crate::domain::time::Timestamp;
use crate::store::asks::Squeezed;
use crate::store::{At, DrawnIn};

/// [`Store::draw_in`](crate::store::Store::draw_in).
pub(super) struct DrawIn {
    pub(super) limit: u32,
    pub(super) at: At,
}

#[async_trait]
impl Command for DrawIn {
    type Answer = DrawnIn;

    async fn apply(&self, work: &mut Work<'_>) -> Result<DrawnIn, Fault> {
        let time = work.now(self.at);
        let (now, edge) = (sql::millis(time), sql::millis(time.after(TOLERANCE)));
        let conn = work.conn();
        let mut future = Future { conn, time, now, edge, limit: i64::from(self.limit), drawn: DrawnIn::default() };
        future.schedules_and_lives().await?;
        future.tasks().await?;
        future.effects().await?;
        future.records().await?;
        Ok(future.drawn)
    }
}

/// What lies beyond `edge`, and is drawn in to `now`.
struct Future<'w> {
    conn: &'w mut MySqlConnection,
    time: Timestamp,
    now: i64,
    edge: i64,
    limit: i64,
    drawn: DrawnIn,
}

impl Future<'_> {
    async fn schedules_and_lives(&mut self) -> Result<(), Fault> {
        self.see("SELECT MAX(scheduled) FROM jobs").await?;
        self.drawn.schedules += self.few("UPDATE jobs SET scheduled = ? WHERE scheduled > ?").await?;
        self.drawn.leases +=
            self.few("UPDATE nodes SET expires = ? + lease WHERE ended_at IS NULL AND expires > ? + lease").await?;
        for few in [
            "UPDATE nodes SET started_at = ? WHERE started_at > ?",
            "UPDATE nodes SET ended_at = ? WHERE ended_at > ?",
            "UPDATE batches SET claimed_at = ? WHERE claimed_at > ?",
            "UPDATE holds SET since = ? WHERE since > ?",
        ] {
            self.drawn.records += self.few(few).await?;
        }
        Ok(())
    }

    async fn see(&mut self, latest: &'static str) -> Result<(), Fault> {
        let latest: Option<i64> = sqlx::query_scalar(latest).fetch_one(&mut *self.conn).await?;
        self.drawn.saw(latest, self.time);
        Ok(())
    }

    async fn few(&mut self, update: &'static str) -> Result<u64, Fault> {
        let done = sqlx::query(update).bind(self.now).bind(self.edge).execute(&mut *self.conn).await?;
        Ok(done.rows_affected())
    }

    /// Both the due times that lie in the future because their waits do, which
    /// are behind the edge in the index, and those of successors, which are found
    /// by what nodes hold. What another transaction is at is left for the next
    /// time.
    async fn tasks(&mut self) -> Result<(), Fault> {
        let mut found: Vec<(i64, i64)> = Vec::new();
        let jobs: Vec<i64> = sqlx::query_scalar("SELECT id FROM jobs ORDER BY id").fetch_all(&mut *self.conn).await?;
        for job in jobs {
            for priority in Priority::ALL {
                let left = self.limit - i64::try_from(found.len()).unwrap_or(i64::MAX);
                let ahead: Vec<(i64, i64)> = sqlx::query_as(
                    "SELECT id, waits_from FROM tasks FORCE INDEX (due)
                     WHERE job = ? AND priority = ? AND run_at > ? AND waits_from > ? LIMIT ? FOR UPDATE SKIP LOCKED",
                )
                .bind(job)
                .bind(sql::priority(priority))
                .bind(self.edge)
                .bind(self.edge)
                .bind(left)
                .fetch_all(&mut *self.conn)
                .await?;
                found.extend(ahead);
            }
        }
        self.wait_from_now(
            found,
            concat!(
                "UPDATE ",
                given!(),
                " STRAIGHT_JOIN tasks FORCE INDEX (PRIMARY) ON tasks.id = given.id
                 SET run_at = run_at - (waits_from - ?), enqueued_at = LEAST(enqueued_at, ?), waits_from = ?,
                     postponed_since = LEAST(postponed_since, ?)"
            ),
            4,
        )
        .await?;
        let held: Vec<(i64, i64)> = sqlx::query_as(concat!(
            "SELECT tasks.id, next_waits_from FROM batches STRAIGHT_JOIN ",
            held!(),
            " STRAIGHT_JOIN tasks FORCE INDEX (PRIMARY) ON tasks.id = held.id
              WHERE tasks.fence = batches.fence AND state = 1 AND next_waits_from > ? LIMIT ?"
        ))
        .bind(self.edge)
        .bind(self.limit)
        .fetch_all(&mut *self.conn)
        .await?;
        self.wait_from_now(
            held,
            concat!(
                "UPDATE ",
                given!(),
                " STRAIGHT_JOIN tasks FORCE INDEX (PRIMARY) ON tasks.id = given.id
                 SET next_run_at = next_run_at - (next_waits_from - ?),
                     next_enqueued_at = LEAST(next_enqueued_at, ?), next_waits_from = ?"
            ),
            3,
        )
        .await
    }

    /// `update` takes the numbers, and `times` times what is now.
    async fn wait_from_now(
        &mut self,
        mut found: Vec<(i64, i64)>,
        update: &'static str,
        times: usize,
    ) -> Result<(), Fault> {
        if found.is_empty() {
            return Ok(());
        }
        found.sort_unstable();
        self.drawn.saw(found.iter().map(|(_, from)| *from).max(), self.time);
        let ids: Vec<i64> = found.iter().map(|(id, _)| *id).collect();
        let mut drawn = sqlx::query(update).bind(json(&ids)?);
        for _ in 0..times {
            drawn = drawn.bind(self.now);
        }
        drawn.execute(&mut *self.conn).await?;
        self.count(found.len(), |drawn| &mut drawn.tasks);
        Ok(())
    }

    /// They keep their order: see [`Squeezed`].
    async fn effects(&mut self) -> Result<(), Fault> {
        let Squeezed { edge, to } = Squeezed::at(self.time);
        let jobs: Vec<i64> = sqlx::query_scalar("SELECT id FROM jobs ORDER BY id").fetch_all(&mut *self.conn).await?;
        for job in jobs {
            let latest: Option<i64> =
                sqlx::query_scalar("SELECT MAX(at) FROM effects FORCE INDEX (listed) WHERE job = ?")
                    .bind(job)
                    .fetch_one(&mut *self.conn)
                    .await?;
            self.drawn.saw(latest, self.time);
            if let Some(latest) = latest.filter(|latest| *latest > edge) {
                let found: Vec<(i64, i64)> = sqlx::query_as(
                    "SELECT journal, number FROM effects FORCE INDEX (listed)
                     WHERE job = ? AND at > ? ORDER BY at, journal, number LIMIT ? FOR UPDATE SKIP LOCKED",
                )
                .bind(job)
                .bind(edge)
                .bind(self.limit)
                .fetch_all(&mut *self.conn)
                .await?;
                sqlx::query(concat!(
                    "UPDATE ",
                    named!(),
                    " STRAIGHT_JOIN effects FORCE INDEX (PRIMARY)
                          ON effects.journal = given.journal AND effects.number = given.number
                      SET at = ? + (at - ?) * ? DIV (? - ?)"
                ))
                .bind(json(&found)?)
                .bind(to)
                .bind(edge)
                .bind(Squeezed::ROOM)
                .bind(latest)
                .bind(edge)
                .execute(&mut *self.conn)
                .await?;
                self.count(found.len(), |drawn| &mut drawn.effects);
            }
            let kept: Vec<(i64, i64)> = sqlx::query_as(
                "SELECT journal, number FROM effects FORCE INDEX (trash)
                 WHERE job = ? AND fate = 0 AND fate_at > ? LIMIT ? FOR UPDATE SKIP LOCKED",
            )
            .bind(job)
            .bind(self.edge)
            .bind(self.limit)
            .fetch_all(&mut *self.conn)
            .await?;
            if !kept.is_empty() {
                sqlx::query(concat!(
                    "UPDATE ",
                    named!(),
                    " STRAIGHT_JOIN effects FORCE INDEX (PRIMARY)
                          ON effects.journal = given.journal AND effects.number = given.number
                      SET fate_at = ?"
                ))
                .bind(json(&kept)?)
                .bind(self.now)
                .execute(&mut *self.conn)
                .await?;
                self.count(kept.len(), |drawn| &mut drawn.effects);
            }
        }
        Ok(())
    }

    async fn records(&mut self) -> Result<(), Fault> {
        self.see("SELECT MAX(finished_at) FROM history").await?;
        let ended: Vec<i64> = sqlx::query_scalar(
            "SELECT id FROM history FORCE INDEX (finished) WHERE finished_at > ? LIMIT ? FOR UPDATE SKIP LOCKED",
        )
        .bind(self.edge)
        .bind(self.limit)
        .fetch_all(&mut *self.conn)
        .await?;
        if !ended.is_empty() {
            sqlx::query(concat!(
                "UPDATE ",
                given!(),
                " STRAIGHT_JOIN history FORCE INDEX (PRIMARY) ON history.id = given.id
                 SET finished_at = ?, ended_at = LEAST(ended_at, ?), started_at = LEAST(started_at, ?),
                     enqueued_at = LEAST(enqueued_at, ?)"
            ))
            .bind(json(&ended)?)
            .bind(self.now)
            .bind(self.now)
            .bind(self.now)
            .bind(self.now)
            .execute(&mut *self.conn)
            .await?;
            self.count(ended.len(), |drawn| &mut drawn.records);
        }
        self.see("SELECT MAX(at) FROM requests").await?;
        let asked = sqlx::query("UPDATE requests SET at = ? WHERE at > ? LIMIT ?")
            .bind(self.now)
            .bind(self.edge)
            .bind(self.limit)
            .execute(&mut *self.conn)
            .await?;
        self.count(usize::try_from(asked.rows_affected()).unwrap_or(usize::MAX), |drawn| &mut drawn.records);
        Ok(())
    }

    fn count(&mut self, changed: usize, kind: impl FnOnce(&mut DrawnIn) -> &mut u64) {
        let changed = u64::try_from(changed).unwrap_or(u64::MAX);
        *kind(&mut self.drawn) += changed;
        self.drawn.more |= changed >= self.limit.unsigned_abs();
    }
}
