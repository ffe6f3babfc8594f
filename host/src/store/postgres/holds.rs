//! Holds: put in place, ended by their time or by hand.

use async_trait::async_trait;
use sqlx::Row as _;
use sqlx::postgres::{PgConnection, PgRow};

use super::Command;
use super::fault::Fault;
use super::sql;
use super::writing::Work;
use crate::domain::hold::{Hold, HoldId, Pattern};
use crate::domain::job::JobId;
use crate::domain::time::Timestamp;
use crate::store::{At, HoldRemoved, NewHold};

/// When a hold ended that a person removed: at a time that no clock shows again.
const REMOVED: i64 = 0;

/// [`Store::add_hold`](crate::store::Store::add_hold).
pub(super) struct AddHold {
    pub(super) hold: NewHold,
    pub(super) at: At,
}

#[async_trait]
impl Command for AddHold {
    type Answer = Hold;

    async fn apply(&self, work: &mut Work) -> Result<Hold, Fault> {
        let (NewHold { job, pattern, until, why }, now) = (&self.hold, sql::millis(work.now(self.at)));
        // Whoever adds to a job's holds waits here for the others.
        let found = sqlx::query("SELECT FROM jobs WHERE id = $1 FOR NO KEY UPDATE")
            .bind(job.0)
            .fetch_optional(work.conn())
            .await?;
        if found.is_none() {
            return Err(Fault::Refused(format!("there is no job number {}", job.0)));
        }
        let same = sqlx::query(
            "SELECT id, job, pattern, held_until, why, since FROM holds
             WHERE job = $1 AND pattern = $2 AND held_until IS NOT DISTINCT FROM $3 AND why = $4
               AND (held_until IS NULL OR held_until > $5) ORDER BY id LIMIT 1",
        )
        .bind(job.0)
        .bind(pattern.as_str())
        .bind(until.map(sql::millis))
        .bind(why)
        .bind(now)
        .fetch_optional(work.conn())
        .await?;
        if let Some(same) = same {
            return hold(&same);
        }
        let standing = "SELECT count(*) FROM holds WHERE job = $1 AND (held_until IS NULL OR held_until > $2)";
        let standing: i64 = sqlx::query_scalar(standing).bind(job.0).bind(now).fetch_one(work.conn()).await?;
        if standing >= i64::from(NewHold::MOST) {
            return Err(Fault::Refused(NewHold::too_many()));
        }
        let added = sqlx::query(
            "INSERT INTO holds (job, pattern, held_until, why, since) VALUES ($1, $2, $3, $4, $5)
             RETURNING id, job, pattern, held_until, why, since",
        )
        .bind(job.0)
        .bind(pattern.as_str())
        .bind(until.map(sql::millis))
        .bind(why)
        .bind(now)
        .fetch_one(work.conn())
        .await?;
        hold(&added)
    }
}

/// [`Store::remove_hold`](crate::store::Store::remove_hold).
pub(super) struct RemoveHold {
    pub(super) job: JobId,
    pub(super) hold: HoldId,
    pub(super) at: At,
}

#[async_trait]
impl Command for RemoveHold {
    type Answer = HoldRemoved;

    async fn apply(&self, work: &mut Work) -> Result<HoldRemoved, Fault> {
        let now = sql::millis(work.now(self.at));
        let removed = sqlx::query(
            "SELECT id, job, pattern, held_until, why, since FROM holds
             WHERE id = $1 AND job = $2 AND (held_until IS NULL OR held_until > $3) FOR UPDATE",
        )
        .bind(self.hold.0)
        .bind(self.job.0)
        .bind(now)
        .fetch_optional(work.conn())
        .await?;
        let Some(removed) = removed else { return Ok(HoldRemoved::NotThere) };
        sqlx::query("UPDATE holds SET held_until = $2 WHERE id = $1")
            .bind(self.hold.0)
            .bind(REMOVED)
            .execute(work.conn())
            .await?;
        Ok(HoldRemoved::Removed(hold(&removed)?))
    }
}

/// The holds of a job that have not ended.
pub(super) async fn holds(conn: &mut PgConnection, job: JobId, now: Timestamp) -> Result<Vec<Hold>, Fault> {
    let rows = sqlx::query(
        "SELECT id, job, pattern, held_until, why, since FROM holds
         WHERE job = $1 AND (held_until IS NULL OR held_until > $2) ORDER BY id",
    )
    .bind(job.0)
    .bind(sql::millis(now))
    .fetch_all(conn)
    .await?;
    rows.iter().map(hold).collect()
}

/// Forgets holds that ended before this time.
pub(super) async fn forget(work: &mut Work, before: Timestamp, limit: u32) -> Result<(), Fault> {
    sqlx::query(
        "DELETE FROM holds WHERE id = ANY (ARRAY (
             SELECT id FROM holds WHERE held_until < $1 ORDER BY held_until LIMIT $2 FOR UPDATE SKIP LOCKED))",
    )
    .bind(sql::millis(before))
    .bind(i64::from(limit))
    .execute(work.conn())
    .await?;
    Ok(())
}

fn hold(row: &PgRow) -> Result<Hold, Fault> {
    Ok(Hold {
        id: HoldId(row.try_get(0)?),
        job: JobId(row.try_get(1)?),
        pattern: Pattern::stored(&row.try_get::<String, _>(2)?),
        until: row.try_get::<Option<i64>, _>(3)?.map(sql::time),
        why: row.try_get(4)?,
        since: sql::time(row.try_get(5)?),
    })
}
