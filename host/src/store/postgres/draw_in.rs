//! The server's clock was set back, or another server with an earlier one took
//! over: times of the future that were given are drawn in.

use async_trait::async_trait;
use sqlx::Row as _;

use super::Command;
use super::fault::Fault;
use super::sql;
use super::writing::Work;
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

    async fn apply(&self, work: &mut Work) -> Result<DrawnIn, Fault> {
        let time = work.now(self.at);
        let (now, edge) = (sql::millis(time), sql::millis(time.after(TOLERANCE)));
        let mut future = Future { work, time, now, edge, limit: i64::from(self.limit), drawn: DrawnIn::default() };
        future.schedules_and_lives().await?;
        future.tasks().await?;
        future.effects().await?;
        future.records().await?;
        Ok(future.drawn)
    }
}

/// What lies beyond `edge`, and is drawn in to `now`.
struct Future<'w> {
    work: &'w mut Work,
    time: Timestamp,
    now: i64,
    edge: i64,
    limit: i64,
    drawn: DrawnIn,
}

/// Both the due times that lie in the future because their waits do, which are
/// behind the edge in the index, and those of successors, which are found by
/// what nodes hold. What another transaction is at is left for the next time.
const TASKS: &str = "
    WITH found AS MATERIALIZED (
        SELECT tasks.id FROM tasks
        WHERE id IN (
            SELECT ahead.id FROM jobs CROSS JOIN unnest($4::int2[]) AS every (priority) CROSS JOIN LATERAL (
                SELECT id FROM tasks
                WHERE job = jobs.id AND tasks.priority = every.priority AND run_at > $2 AND waits_from > $2
                LIMIT $3) AS ahead
            UNION ALL
            SELECT listed.id FROM batches CROSS JOIN LATERAL unnest(ids) AS listed (id))
          AND (waits_from > $2 OR next_waits_from > $2)
        ORDER BY tasks.id LIMIT $3 FOR UPDATE SKIP LOCKED),
    latest AS (
        SELECT max(greatest(waits_from, next_waits_from)) AS latest FROM tasks JOIN found ON found.id = tasks.id),
    drawn AS (
        UPDATE tasks
        SET run_at = CASE WHEN waits_from > $2 THEN run_at - (waits_from - $1) ELSE run_at END,
            waits_from = CASE WHEN waits_from > $2 THEN $1 ELSE waits_from END,
            enqueued_at = CASE WHEN waits_from > $2 THEN least(enqueued_at, $1) ELSE enqueued_at END,
            postponed_since = CASE WHEN waits_from > $2 AND postponed_since > $1 THEN $1 ELSE postponed_since END,
            next_run_at = CASE WHEN next_waits_from > $2 THEN next_run_at - (next_waits_from - $1)
                               ELSE next_run_at END,
            next_waits_from = CASE WHEN next_waits_from > $2 THEN $1 ELSE next_waits_from END,
            next_enqueued_at = CASE WHEN next_enqueued_at > $1 THEN $1 ELSE next_enqueued_at END
        FROM found WHERE tasks.id = found.id RETURNING 1)
    SELECT (SELECT count(*) FROM drawn), (SELECT latest FROM latest)";

/// They keep their order: see [`Squeezed`].
const EFFECTS: &str = "
    WITH latest AS (SELECT max(at) AS at FROM effects WHERE job = $5),
    found AS MATERIALIZED (
        SELECT journal, number FROM effects
        WHERE job = $5 AND at > $2 ORDER BY at, journal, number LIMIT $4 FOR UPDATE SKIP LOCKED),
    drawn AS (
        UPDATE effects SET at = $1 + (effects.at - $2) * $3 / (latest.at - $2)
        FROM found, latest
        WHERE effects.journal = found.journal AND effects.number = found.number
        RETURNING 1)
    SELECT (SELECT count(*) FROM drawn), (SELECT at FROM latest)";

const KEPT: &str = "
    WITH found AS MATERIALIZED (
        SELECT journal, number FROM effects
        WHERE job = $3 AND fate = 0 AND fate_at > $2 LIMIT $4 FOR UPDATE SKIP LOCKED),
    drawn AS (
        UPDATE effects SET fate_at = $1 FROM found
        WHERE effects.journal = found.journal AND effects.number = found.number
        RETURNING 1)
    SELECT (SELECT count(*) FROM drawn), NULL::int8";

const HISTORY: &str = "
    WITH latest AS (SELECT max(finished_at) AS at FROM history),
    drawn AS (
        UPDATE history
        SET finished_at = $1, ended_at = least(ended_at, $1), started_at = least(started_at, $1),
            enqueued_at = least(enqueued_at, $1)
        WHERE id = ANY (ARRAY (
            SELECT id FROM history WHERE finished_at > $2 LIMIT $3 FOR UPDATE SKIP LOCKED))
        RETURNING 1)
    SELECT (SELECT count(*) FROM drawn), (SELECT at FROM latest)";

const REQUESTS: &str = "
    WITH latest AS (SELECT max(at) AS at FROM requests),
    found AS MATERIALIZED (
        SELECT job, key FROM requests WHERE at > $2 LIMIT $3 FOR UPDATE SKIP LOCKED),
    drawn AS (
        UPDATE requests SET at = $1 FROM found
        WHERE requests.job = found.job AND requests.key = found.key
        RETURNING 1)
    SELECT (SELECT count(*) FROM drawn), (SELECT at FROM latest)";

impl Future<'_> {
    async fn schedules_and_lives(&mut self) -> Result<(), Fault> {
        let latest = sqlx::query_scalar("SELECT max(scheduled) FROM jobs").fetch_one(self.work.conn()).await?;
        self.drawn.saw(latest, self.time);
        self.drawn.schedules += self.few("UPDATE jobs SET scheduled = $1 WHERE scheduled > $2").await?;
        self.drawn.leases += self
            .few(
                "UPDATE nodes SET expires = $1 + lease
                 WHERE ended_at IS NULL AND expires > $2 + lease",
            )
            .await?;
        for few in [
            "UPDATE nodes
             SET started_at = least(started_at, $1), ended_at = CASE WHEN ended_at > $1 THEN $1 ELSE ended_at END
             WHERE started_at > $2 OR ended_at > $2",
            "UPDATE batches SET claimed_at = $1 WHERE claimed_at > $2",
            "UPDATE holds SET since = $1 WHERE since > $2",
        ] {
            self.drawn.records += self.few(few).await?;
        }
        Ok(())
    }

    async fn few(&mut self, update: &'static str) -> Result<u64, Fault> {
        let done = sqlx::query(update).bind(self.now).bind(self.edge).execute(self.work.conn()).await?;
        Ok(done.rows_affected())
    }

    async fn tasks(&mut self) -> Result<(), Fault> {
        let row = sqlx::query(TASKS)
            .bind(self.now)
            .bind(self.edge)
            .bind(self.limit)
            .bind(Priority::ALL.map(sql::priority).to_vec())
            .fetch_one(self.work.conn())
            .await?;
        self.count(row.try_get(0)?, row.try_get(1)?, |drawn| &mut drawn.tasks);
        Ok(())
    }

    async fn effects(&mut self) -> Result<(), Fault> {
        let Squeezed { edge, to } = Squeezed::at(self.time);
        let jobs: Vec<i64> = sqlx::query_scalar("SELECT id FROM jobs ORDER BY id").fetch_all(self.work.conn()).await?;
        for job in jobs {
            let row = sqlx::query(EFFECTS)
                .bind(to)
                .bind(edge)
                .bind(Squeezed::ROOM)
                .bind(self.limit)
                .bind(job)
                .fetch_one(self.work.conn())
                .await?;
            self.count(row.try_get(0)?, row.try_get(1)?, |drawn| &mut drawn.effects);
            let row = sqlx::query(KEPT)
                .bind(self.now)
                .bind(self.edge)
                .bind(job)
                .bind(self.limit)
                .fetch_one(self.work.conn())
                .await?;
            self.count(row.try_get(0)?, None, |drawn| &mut drawn.effects);
        }
        Ok(())
    }

    async fn records(&mut self) -> Result<(), Fault> {
        for records in [HISTORY, REQUESTS] {
            let row = sqlx::query(records)
                .bind(self.now)
                .bind(self.edge)
                .bind(self.limit)
                .fetch_one(self.work.conn())
                .await?;
            self.count(row.try_get(0)?, row.try_get(1)?, |drawn| &mut drawn.records);
        }
        Ok(())
    }

    fn count(&mut self, changed: i64, latest: Option<i64>, kind: impl FnOnce(&mut DrawnIn) -> &mut u64) {
        *kind(&mut self.drawn) += changed.unsigned_abs();
        self.drawn.saw(latest, self.time);
        self.drawn.more |= changed >= self.limit;
    }
}
