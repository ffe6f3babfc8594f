//! Holds: put in place, ended by their time or by hand.

use async_trait::async_trait;
use sqlx::MySqlConnection;

use super::fault::Fault;
use super::sql;
use super::writing::{Command, Work};
use crate::domain::hold::{Hold, HoldId, Pattern};
use crate::domain::job::JobId;
use crate::domain::time::Timestamp;
use crate::store::{At, HoldRemoved, NewHold};

/// As a row has it; the pattern in bytes, which no collation compares.
type Columns = (i64, i64, Vec<u8>, Option<i64>, String, i64);

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

    async fn apply(&self, work: &mut Work<'_>) -> Result<Hold, Fault> {
        let (NewHold { job, pattern, until, why }, now) = (&self.hold, work.now(self.at));
        let conn = work.conn();
        // Whoever adds to a job's holds waits here for the others.
        let found: Option<i64> = sqlx::query_scalar("SELECT id FROM jobs WHERE id = ? FOR UPDATE")
            .bind(job.0)
            .fetch_optional(&mut *conn)
            .await?;
        if found.is_none() {
            return Err(Fault::Refused(super::jobs::unknown(*job)));
        }
        let standing = holds(conn, *job, now).await?;
        let is_same = |hold: &Hold| hold.pattern == *pattern && hold.until == *until && hold.why == *why;
        if let Some(same) = standing.iter().find(|hold| is_same(hold)) {
            return Ok(same.clone());
        }
        if standing.len() >= NewHold::MOST as usize {
            return Err(Fault::Refused(NewHold::too_many()));
        }
        let added = sqlx::query("INSERT INTO holds (job, pattern, held_until, why, since) VALUES (?, ?, ?, ?, ?)")
            .bind(job.0)
            .bind(pattern.as_str().as_bytes())
            .bind(until.map(sql::millis))
            .bind(why)
            .bind(sql::millis(now))
            .execute(conn)
            .await?;
        let id = HoldId(i64::try_from(added.last_insert_id()).unwrap_or(i64::MAX));
        Ok(Hold { id, job: *job, pattern: pattern.clone(), until: *until, why: why.clone(), since: now })
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

    /// It is removed once, and not there any more when asked again.
    const REPEATABLE: bool = false;

    async fn apply(&self, work: &mut Work<'_>) -> Result<HoldRemoved, Fault> {
        let now = sql::millis(work.now(self.at));
        let removed: Option<Columns> = sqlx::query_as(
            "SELECT id, job, pattern, held_until, why, since FROM holds FORCE INDEX (PRIMARY)
             WHERE id = ? AND job = ? AND (held_until IS NULL OR held_until > ?) FOR UPDATE",
        )
        .bind(self.hold.0)
        .bind(self.job.0)
        .bind(now)
        .fetch_optional(work.conn())
        .await?;
        let Some(removed) = removed else { return Ok(HoldRemoved::NotThere) };
        sqlx::query("UPDATE holds SET held_until = ? WHERE id = ?")
            .bind(REMOVED)
            .bind(self.hold.0)
            .execute(work.conn())
            .await?;
        Ok(HoldRemoved::Removed(hold(removed)?))
    }
}

/// The holds of a job that have not ended.
pub(super) async fn holds(conn: &mut MySqlConnection, job: JobId, now: Timestamp) -> Result<Vec<Hold>, Fault> {
    let rows: Vec<Columns> = sqlx::query_as(
        "SELECT id, job, pattern, held_until, why, since FROM holds FORCE INDEX (of_job)
         WHERE job = ? AND (held_until IS NULL OR held_until > ?) ORDER BY id",
    )
    .bind(job.0)
    .bind(sql::millis(now))
    .fetch_all(conn)
    .await?;
    rows.into_iter().map(hold).collect()
}

/// Forgets holds that ended before this time.
pub(super) async fn forget(conn: &mut MySqlConnection, before: Timestamp, limit: u32) -> Result<(), Fault> {
    sqlx::query("DELETE FROM holds WHERE held_until < ? ORDER BY held_until LIMIT ?")
        .bind(sql::millis(before))
        .bind(i64::from(limit))
        .execute(conn)
        .await?;
    Ok(())
}

fn hold((id, job, pattern, until, why, since): Columns) -> Result<Hold, Fault> {
    Ok(Hold {
        id: HoldId(id),
        job: JobId(job),
        pattern: Pattern::stored(&sql::key(pattern)?),
        until: until.map(sql::time),
        why,
        since: sql::time(since),
    })
}
