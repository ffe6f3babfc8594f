//! Effects on record: imported each once, and what became of what they put
//! into the trash.

use rusqlite::params;

use super::fault::Fault;
use super::prune::PAGES;
use super::sql;
use super::writing::{Command, Writing};
use crate::domain::effect::{Effect, EffectId, Fate};
use crate::domain::time::Timestamp;
use crate::store::effects::{NewRow, Weighed, fate_number, key, oldest_of, refusal};
use crate::store::{At, Forgotten};

/// [`Store::record_effects`](crate::store::Store::record_effects).
pub(super) struct Record {
    pub(super) effects: Vec<Effect>,
    pub(super) at: At,
}

impl Command for Record {
    type Answer = ();

    fn rows(&self) -> usize {
        self.effects.len()
    }

    fn apply(&self, writing: &mut Writing<'_>) -> Result<(), Fault> {
        let now = writing.now(self.at);
        record(writing, &self.effects, now)
    }
}

/// One that is on record stays as it is, unless how it ended was not known and
/// is now, or more was folded into it since: then that is taken over, and its
/// fate with it where none is settled.
const RECORD: &str = "
    INSERT INTO effects (journal, number, job, task, attempt, digest, operation, mount, path, to_path, to_mount,
                         size, modified, inode, at, result, error, trashed, spent_files, spent_bytes, fate, fate_at,
                         made, written, times, weight)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22,
            ?23, ?24, ?25, ?26)
    ON CONFLICT (journal, number) DO UPDATE
    SET size = excluded.size, modified = excluded.modified, inode = excluded.inode,
        result = excluded.result, error = excluded.error, trashed = excluded.trashed,
        spent_files = excluded.spent_files, spent_bytes = excluded.spent_bytes,
        made = excluded.made, written = excluded.written, times = max(times, excluded.times),
        fate = iif(coalesce(fate, 0) = 0, excluded.fate, fate),
        fate_at = iif(coalesce(fate, 0) = 0, excluded.fate_at, fate_at)
    WHERE excluded.result <> 2 AND (result = 2 OR times < excluded.times)";

/// Puts `effects` on record.
pub(super) fn record(writing: &Writing<'_>, effects: &[Effect], now: Timestamp) -> Result<(), Fault> {
    if effects.is_empty() {
        return Ok(());
    }
    let mut insert = writing.statement(RECORD)?;
    for effect in effects {
        let row = NewRow::of(effect, now);
        insert.execute(params![
            row.journal,
            row.number,
            row.job,
            row.task,
            row.attempt,
            row.digest,
            row.operation,
            row.mount,
            row.path,
            row.to,
            row.to_mount,
            row.size,
            row.modified,
            row.inode,
            row.at,
            row.result,
            row.error,
            row.trashed,
            row.spent_files,
            row.spent_bytes,
            row.fate,
            row.fate_at,
            row.made,
            row.written,
            row.times,
            row.weight
        ])?;
    }
    Ok(())
}

/// [`Store::settle`](crate::store::Store::settle).
pub(super) struct Settle {
    pub(super) ids: Vec<EffectId>,
    pub(super) fate: Fate,
    pub(super) at: At,
}

impl Command for Settle {
    type Answer = u64;

    fn rows(&self) -> usize {
        self.ids.len()
    }

    fn apply(&self, writing: &mut Writing<'_>) -> Result<u64, Fault> {
        if let Some(why) = refusal(self.fate) {
            return Err(Fault::Refused(why));
        }
        let now = sql::millis(writing.now(self.at));
        let mut settle = writing
            .statement("UPDATE effects SET fate = ?3, fate_at = ?4 WHERE journal = ?1 AND number = ?2 AND fate = 0")?;
        let mut settled = 0;
        for id in &self.ids {
            let (journal, number) = key(*id);
            settled += settle.execute(params![journal, number, fate_number(self.fate), now])?;
        }
        Ok(settled as u64)
    }
}

/// Forgets at most `limit` effects from before this time, of all jobs; none of
/// what is still in a trash. Answers how many.
pub(super) fn forget(writing: &Writing<'_>, before: Timestamp, limit: u32) -> Result<usize, Fault> {
    let jobs = jobs(writing)?;
    let mut forget = writing.statement(
        "DELETE FROM effects WHERE (journal, number) IN (
             SELECT journal, number FROM effects INDEXED BY effects_listed
             WHERE job = ?1 AND at < ?2 AND fate IS NOT 0 ORDER BY at LIMIT ?3)",
    )?;
    let limit = limit as usize;
    let mut forgotten = 0;
    for job in jobs {
        if forgotten == limit {
            break;
        }
        let left = i64::try_from(limit - forgotten).unwrap_or(i64::MAX);
        forgotten += forget.execute(params![job, sql::millis(before), left])?;
    }
    Ok(forgotten)
}

/// [`Store::forget_oldest`](crate::store::Store::forget_oldest).
pub(super) struct ForgetOldest {
    pub(super) weight: u64,
    pub(super) limit: u32,
}

impl Command for ForgetOldest {
    type Answer = Forgotten;

    fn rows(&self) -> usize {
        self.limit as usize
    }

    fn apply(&self, writing: &mut Writing<'_>) -> Result<Forgotten, Fault> {
        let mut oldest = writing.statement(
            "SELECT at, journal, number, weight FROM effects INDEXED BY effects_listed
             WHERE job = ?1 AND fate IS NOT 0 ORDER BY at, journal, number LIMIT ?2",
        )?;
        let mut found: Vec<Weighed> = Vec::new();
        for job in jobs(writing)? {
            let rows = oldest
                .query_map(params![job, self.limit], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))?;
            found.extend(rows.collect::<Result<Vec<_>, _>>()?);
        }
        let (names, weight) = oldest_of(found, self.weight, self.limit);
        let mut forget = writing.statement("DELETE FROM effects WHERE journal = ?1 AND number = ?2")?;
        for (journal, number) in &names {
            forget.execute(params![journal, number])?;
        }
        writing.give_back(PAGES)?;
        Ok(Forgotten { effects: names.len() as u64, weight })
    }
}

fn jobs(writing: &Writing<'_>) -> Result<Vec<i64>, Fault> {
    Ok(writing.statement("SELECT id FROM jobs")?.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?)
}
