//! Holds: put in place, ended by their time or by hand.

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::fault::Fault;
use super::sql;
use super::writing::{Command, Writing};
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

impl Command for AddHold {
    type Answer = Hold;

    fn apply(&self, writing: &mut Writing<'_>) -> Result<Hold, Fault> {
        let (NewHold { job, pattern, until, why }, now) = (&self.hold, writing.now(self.at));
        super::jobs::must_exist(writing, *job)?;
        let asked = params![job.0, pattern.as_str(), until.map(sql::millis), why, sql::millis(now)];
        let same = writing
            .statement(
                "SELECT id, job, pattern, held_until, why, since FROM holds INDEXED BY holds_of_job
                 WHERE job = ?1 AND pattern = ?2 AND held_until IS ?3 AND why = ?4
                   AND (held_until IS NULL OR held_until > ?5)",
            )?
            .query_row(asked, hold)
            .optional()?;
        if let Some(same) = same {
            return Ok(same);
        }
        let standing: u32 = writing
            .statement("SELECT count(*) FROM holds WHERE job = ?1 AND (held_until IS NULL OR held_until > ?2)")?
            .query_row(params![job.0, sql::millis(now)], |row| row.get(0))?;
        if standing >= NewHold::MOST {
            return Err(Fault::Refused(NewHold::too_many()));
        }
        Ok(writing
            .statement(
                "INSERT INTO holds (job, pattern, held_until, why, since) VALUES (?1, ?2, ?3, ?4, ?5)
                 RETURNING id, job, pattern, held_until, why, since",
            )?
            .query_row(asked, hold)?)
    }
}

/// [`Store::remove_hold`](crate::store::Store::remove_hold).
pub(super) struct RemoveHold {
    pub(super) job: JobId,
    pub(super) hold: HoldId,
    pub(super) at: At,
}

impl Command for RemoveHold {
    type Answer = HoldRemoved;

    fn apply(&self, writing: &mut Writing<'_>) -> Result<HoldRemoved, Fault> {
        let now = sql::millis(writing.now(self.at));
        let removed = writing
            .statement(
                "SELECT id, job, pattern, held_until, why, since FROM holds
                 WHERE id = ?1 AND job = ?2 AND (held_until IS NULL OR held_until > ?3)",
            )?
            .query_row(params![self.hold.0, self.job.0, now], hold)
            .optional()?;
        let Some(removed) = removed else { return Ok(HoldRemoved::NotThere) };
        writing.statement("UPDATE holds SET held_until = ?2 WHERE id = ?1")?.execute([self.hold.0, REMOVED])?;
        Ok(HoldRemoved::Removed(removed))
    }
}

/// The holds of a job that have not ended.
pub(super) fn holds(conn: &Connection, job: JobId, now: Timestamp) -> Result<Vec<Hold>, Fault> {
    let mut select = conn.prepare_cached(
        "SELECT id, job, pattern, held_until, why, since FROM holds
         WHERE job = ?1 AND (held_until IS NULL OR held_until > ?2) ORDER BY id",
    )?;
    let rows = select.query_map(params![job.0, sql::millis(now)], hold)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Forgets holds that ended before this time.
pub(super) fn forget(writing: &Writing<'_>, before: Timestamp, limit: u32) -> Result<(), Fault> {
    writing
        .statement(
            "DELETE FROM holds WHERE id IN (
                 SELECT id FROM holds WHERE held_until < ?1 ORDER BY held_until LIMIT ?2)",
        )?
        .execute(params![sql::millis(before), limit])?;
    Ok(())
}

fn hold(row: &Row<'_>) -> rusqlite::Result<Hold> {
    Ok(Hold {
        id: HoldId(row.get(0)?),
        job: JobId(row.get(1)?),
        pattern: Pattern::stored(&row.get::<_, String>(2)?),
        until: row.get::<_, Option<i64>>(3)?.map(sql::time),
        why: row.get(4)?,
        since: sql::time(row.get(5)?),
    })
}
