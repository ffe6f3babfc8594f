//! Effects on record: imported each once, and what became of what they put
//! into the trash.

use async_trait::async_trait;
use sqlx::Row as _;

use super::Command;
use super::fault::Fault;
use super::sql;
use super::writing::Work;
use crate::domain::effect::{Effect, EffectId, Fate};
use crate::domain::time::Timestamp;
use crate::store::effects::{NewRow, Weighed, distinct, fate_number, key, oldest_of, refusal};
use crate::store::{At, Forgotten};

/// [`Store::record_effects`](crate::store::Store::record_effects).
pub(super) struct Record {
    pub(super) effects: Vec<Effect>,
    pub(super) at: At,
}

#[async_trait]
impl Command for Record {
    type Answer = ();

    async fn apply(&self, work: &mut Work) -> Result<(), Fault> {
        let now = work.now(self.at);
        record(work, &self.effects, now).await
    }
}

/// One that is on record stays as it is, unless how it ended was not known and
/// is now, or more was folded into it since: then that is taken over, and its
/// fate with it where none is settled.
const RECORD: &str = "
    INSERT INTO effects (journal, number, job, task, attempt, digest, operation, mount, path, to_path, to_mount,
                         size, modified, inode, at, result, error, trashed, spent_files, spent_bytes, fate, fate_at,
                         made, written, times, weight)
    SELECT * FROM unnest($1::int8[], $2::int8[], $3::int8[], $4::int8[], $5::int8[], $6::bytea[], $7::int2[],
                         $8::text[], $9::text[], $10::text[], $11::text[], $12::int8[], $13::int8[], $14::int8[],
                         $15::int8[], $16::int2[], $17::text[], $18::bool[], $19::int8[], $20::int8[],
                         $21::int2[], $22::int8[], $23::int8[], $24::int8[], $25::int8[],
                         $26::int8[])
    ON CONFLICT (journal, number) DO UPDATE
    SET size = excluded.size, modified = excluded.modified, inode = excluded.inode,
        result = excluded.result, error = excluded.error, trashed = excluded.trashed,
        spent_files = excluded.spent_files, spent_bytes = excluded.spent_bytes,
        made = excluded.made, written = excluded.written,
        times = greatest(effects.times, excluded.times),
        fate = CASE WHEN coalesce(effects.fate, 0) = 0 THEN excluded.fate ELSE effects.fate END,
        fate_at = CASE WHEN coalesce(effects.fate, 0) = 0 THEN excluded.fate_at ELSE effects.fate_at END
    WHERE excluded.result <> 2 AND (effects.result = 2 OR effects.times < excluded.times)";

/// Puts `effects` on record, in one statement.
pub(super) async fn record(work: &mut Work, effects: &[Effect], now: Timestamp) -> Result<(), Fault> {
    if effects.is_empty() {
        return Ok(());
    }
    let rows: Vec<NewRow<'_>> = distinct(effects).into_iter().map(|effect| NewRow::of(effect, now)).collect();
    let (numbers, small, texts) = (Columns(&rows), Columns(&rows), Columns(&rows));
    sqlx::query(RECORD)
        .bind(numbers.of(|row| row.journal))
        .bind(numbers.of(|row| row.number))
        .bind(numbers.of(|row| row.job))
        .bind(numbers.of(|row| row.task))
        .bind(numbers.of(|row| row.attempt))
        .bind(texts.of(|row| row.digest))
        .bind(small.of(|row| row.operation))
        .bind(texts.of(|row| row.mount))
        .bind(texts.of(|row| row.path))
        .bind(texts.of(|row| row.to))
        .bind(texts.of(|row| row.to_mount))
        .bind(numbers.of(|row| row.size))
        .bind(numbers.of(|row| row.modified))
        .bind(numbers.of(|row| row.inode))
        .bind(numbers.of(|row| row.at))
        .bind(small.of(|row| row.result))
        .bind(texts.of(|row| row.error))
        .bind(small.of(|row| row.trashed))
        .bind(numbers.of(|row| row.spent_files))
        .bind(numbers.of(|row| row.spent_bytes))
        .bind(small.of(|row| row.fate))
        .bind(numbers.of(|row| row.fate_at))
        .bind(numbers.of(|row| row.made))
        .bind(numbers.of(|row| row.written))
        .bind(numbers.of(|row| row.times))
        .bind(numbers.of(|row| row.weight))
        .execute(work.conn())
        .await?;
    Ok(())
}

/// Rows, to be sent as one array a column.
struct Columns<'r, 'a>(&'r [NewRow<'a>]);

impl<'a> Columns<'_, 'a> {
    fn of<T>(&self, column: impl Fn(&NewRow<'a>) -> T) -> Vec<T> {
        self.0.iter().map(column).collect()
    }
}

/// [`Store::settle`](crate::store::Store::settle).
pub(super) struct Settle {
    pub(super) ids: Vec<EffectId>,
    pub(super) fate: Fate,
    pub(super) at: At,
}

#[async_trait]
impl Command for Settle {
    type Answer = u64;

    async fn apply(&self, work: &mut Work) -> Result<u64, Fault> {
        if let Some(why) = refusal(self.fate) {
            return Err(Fault::Refused(why));
        }
        let now = sql::millis(work.now(self.at));
        let mut keys: Vec<_> = self.ids.iter().map(|id| key(*id)).collect();
        keys.sort_unstable();
        let (journals, numbers): (Vec<i64>, Vec<i64>) = keys.into_iter().unzip();
        // Locked in the order of their names, as whoever records them does.
        let settled = sqlx::query(
            "WITH kept AS MATERIALIZED (
                 SELECT effects.journal, effects.number
                 FROM unnest($1::int8[], $2::int8[]) AS asked (journal, number)
                 JOIN effects ON effects.journal = asked.journal AND effects.number = asked.number
                 WHERE fate = 0 FOR UPDATE OF effects)
             UPDATE effects SET fate = $3, fate_at = $4 FROM kept
             WHERE effects.journal = kept.journal AND effects.number = kept.number",
        )
        .bind(journals)
        .bind(numbers)
        .bind(fate_number(self.fate))
        .bind(now)
        .execute(work.conn())
        .await?;
        Ok(settled.rows_affected())
    }
}

/// Forgets at most `limit` effects from before this time, of all jobs; none of
/// what is still in a trash. Answers how many.
pub(super) async fn forget(work: &mut Work, before: Timestamp, limit: u32) -> Result<u64, Fault> {
    let row = sqlx::query(
        "WITH old AS MATERIALIZED (
             SELECT found.journal, found.number FROM jobs CROSS JOIN LATERAL (
                 SELECT journal, number FROM effects
                 WHERE job = jobs.id AND at < $1 AND fate IS DISTINCT FROM 0
                 ORDER BY at, journal, number LIMIT $2 FOR UPDATE SKIP LOCKED) AS found
             LIMIT $2),
         gone AS (
             DELETE FROM effects USING old
             WHERE effects.journal = old.journal AND effects.number = old.number RETURNING 1)
         SELECT count(*) FROM gone",
    )
    .bind(sql::millis(before))
    .bind(i64::from(limit))
    .fetch_one(work.conn())
    .await?;
    Ok(row.try_get::<i64, _>(0)?.unsigned_abs())
}

/// [`Store::forget_oldest`](crate::store::Store::forget_oldest).
pub(super) struct ForgetOldest {
    pub(super) weight: u64,
    pub(super) limit: u32,
}

#[async_trait]
impl Command for ForgetOldest {
    type Answer = Forgotten;

    async fn apply(&self, work: &mut Work) -> Result<Forgotten, Fault> {
        let found: Vec<Weighed> = sqlx::query_as(
            "SELECT found.at, found.journal, found.number, found.weight FROM jobs CROSS JOIN LATERAL (
                 SELECT at, journal, number, weight FROM effects
                 WHERE job = jobs.id AND fate IS DISTINCT FROM 0 ORDER BY at, journal, number LIMIT $1) AS found",
        )
        .bind(i64::from(self.limit))
        .fetch_all(work.conn())
        .await?;
        let (names, _) = oldest_of(found, self.weight, self.limit);
        let (journals, numbers): (Vec<i64>, Vec<i64>) = names.into_iter().unzip();
        // What another node forgets is skipped.
        let row = sqlx::query(
            "WITH old AS MATERIALIZED (
                 SELECT effects.journal, effects.number
                 FROM unnest($1::int8[], $2::int8[]) AS asked (journal, number)
                 JOIN effects ON effects.journal = asked.journal AND effects.number = asked.number
                 WHERE fate IS DISTINCT FROM 0 FOR UPDATE OF effects SKIP LOCKED),
             gone AS (
                 DELETE FROM effects USING old
                 WHERE effects.journal = old.journal AND effects.number = old.number RETURNING weight)
             SELECT count(*), coalesce(sum(weight), 0)::int8 FROM gone",
        )
        .bind(journals)
        .bind(numbers)
        .fetch_one(work.conn())
        .await?;
        let (effects, weight): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
        Ok(Forgotten { effects: effects.unsigned_abs(), weight: weight.unsigned_abs() })
    }
}
