//! Effects on record: imported each once, and what became of what they put
//! into the trash.

use async_trait::async_trait;
use sqlx::{AssertSqlSafe, MySqlConnection};

use super::fault::Fault;
use super::sql::{self, json};
use super::writing::{Command, Work};
use crate::domain::effect::{Effect, EffectId, Fate};
use crate::domain::time::Timestamp;
use crate::store::effects::{NewRow, Weighed, distinct, fate_number, key, oldest_of, refusal};
use crate::store::{At, Forgotten};

/// Rows and bytes of paths in one statement: far below the smallest packet
/// that servers take by default.
const ROWS: usize = 256;
const BYTES: usize = 1 << 20;

/// Statements of so few rows, or of just as many as there may be, are kept
/// prepared; others are rarely of the same size.
const KEPT: usize = 8;

/// Names of effects from a JSON array, as the table `given`.
macro_rules! named {
    () => {
        "JSON_TABLE(?, '$[*]' COLUMNS (journal BIGINT PATH '$[0]', number BIGINT PATH '$[1]')) AS given"
    };
}
pub(super) use named;

/// [`Store::record_effects`](crate::store::Store::record_effects).
pub(super) struct Record {
    pub(super) effects: Vec<Effect>,
    pub(super) at: At,
}

#[async_trait]
impl Command for Record {
    type Answer = ();

    async fn apply(&self, work: &mut Work<'_>) -> Result<(), Fault> {
        let now = work.now(self.at);
        record(work.conn(), &self.effects, now).await
    }
}

/// Puts `effects` on record, many in a statement.
pub(super) async fn record(conn: &mut MySqlConnection, effects: &[Effect], now: Timestamp) -> Result<(), Fault> {
    let rows: Vec<NewRow<'_>> = distinct(effects).into_iter().map(|effect| NewRow::of(effect, now)).collect();
    let mut left = rows.as_slice();
    while !left.is_empty() {
        let (mut count, mut size) = (0, 0);
        while count < ROWS.min(left.len()) && (count == 0 || size + bytes(&left[count]) <= BYTES) {
            size += bytes(&left[count]);
            count += 1;
        }
        let (now, later) = left.split_at(count);
        insert(conn, now).await?;
        left = later;
    }
    Ok(())
}

fn bytes(row: &NewRow<'_>) -> usize {
    let texts = [Some(row.mount), Some(row.path), row.to, row.to_mount, row.error];
    texts.into_iter().flatten().map(str::len).sum()
}

async fn insert(conn: &mut MySqlConnection, rows: &[NewRow<'_>]) -> Result<(), Fault> {
    let kept = rows.len() <= KEPT || rows.len() == ROWS;
    // Nothing but parameters is added to the text.
    let mut insert = sqlx::query(AssertSqlSafe(statement(rows.len()))).persistent(kept);
    for row in rows {
        insert = insert
            .bind(row.journal)
            .bind(row.number)
            .bind(row.job)
            .bind(row.task)
            .bind(row.attempt)
            .bind(row.digest)
            .bind(row.operation)
            .bind(row.mount.as_bytes())
            .bind(row.path.as_bytes())
            .bind(row.to.map(str::as_bytes))
            .bind(row.to_mount.map(str::as_bytes))
            .bind(row.size)
            .bind(row.modified)
            .bind(row.inode)
            .bind(row.at)
            .bind(row.result)
            .bind(row.error)
            .bind(row.trashed)
            .bind(row.spent_files)
            .bind(row.spent_bytes)
            .bind(row.fate)
            .bind(row.fate_at)
            .bind(row.made)
            .bind(row.written)
            .bind(row.times)
            .bind(row.weight);
    }
    insert.execute(conn).await?;
    Ok(())
}

/// Whether what is told replaces what is on record.
macro_rules! replaces {
    () => {
        "VALUES(result) <> 2 AND (result = 2 OR times < VALUES(times))"
    };
}

/// Each of these columns takes what is told, where that replaces what is on
/// record.
macro_rules! taken_over {
    ($($column:literal),*) => {
        concat!($("", $column, " = IF(", replaces!(), ", VALUES(", $column, "), ", $column, "), "),*)
    };
}

/// Inserts so many rows. One that is on record stays as it is, unless how it
/// ended was not known and is now, or more was folded into it since: then that
/// is taken over, and its fate with it where none is settled.
fn statement(rows: usize) -> String {
    const ROW: &str = "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
    let mut text = "INSERT INTO effects (journal, number, job, task, attempt, digest, operation, mount, path, to_path,
                        to_mount, size, modified, inode, at, result, error, trashed, spent_files, spent_bytes,
                        fate, fate_at, made, written, times, weight) VALUES "
        .to_owned();
    for row in 0..rows {
        text.push_str(if row == 0 { "" } else { ", " });
        text.push_str(ROW);
    }
    // Each assignment reads what earlier ones have written: the time goes
    // before its fate, and what decides about all of them is last.
    text.push_str(concat!(
        " ON DUPLICATE KEY UPDATE ",
        taken_over!("size", "modified", "inode", "error", "trashed", "spent_files", "spent_bytes", "made", "written"),
        "fate_at = IF(",
        replaces!(),
        " AND COALESCE(fate, 0) = 0, VALUES(fate_at), fate_at), fate = IF(",
        replaces!(),
        " AND COALESCE(fate, 0) = 0, VALUES(fate), fate), ",
        taken_over!("result"),
        "times = IF(VALUES(result) <> 2, GREATEST(times, VALUES(times)), times)",
    ));
    text
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

    /// Each is settled and counted once.
    const REPEATABLE: bool = false;

    async fn apply(&self, work: &mut Work<'_>) -> Result<u64, Fault> {
        if let Some(why) = refusal(self.fate) {
            return Err(Fault::Refused(why));
        }
        let now = sql::millis(work.now(self.at));
        let mut keys: Vec<_> = self.ids.iter().map(|id| key(*id)).collect();
        keys.sort_unstable();
        keys.dedup();
        let settled = sqlx::query(concat!(
            "UPDATE ",
            named!(),
            " STRAIGHT_JOIN effects FORCE INDEX (PRIMARY)
                  ON effects.journal = given.journal AND effects.number = given.number
              SET fate = ?, fate_at = ? WHERE fate = 0"
        ))
        .bind(json(&keys)?)
        .bind(fate_number(self.fate))
        .bind(now)
        .execute(work.conn())
        .await?;
        Ok(settled.rows_affected())
    }
}

/// Forgets at most `limit` effects from before this time, of all jobs; none of
/// what is still in a trash. Answers how many.
pub(super) async fn forget(conn: &mut MySqlConnection, before: Timestamp, limit: u32) -> Result<u64, Fault> {
    let jobs: Vec<i64> = sqlx::query_scalar("SELECT id FROM jobs ORDER BY id").fetch_all(&mut *conn).await?;
    let limit = limit as usize;
    let mut keys: Vec<(i64, i64)> = Vec::new();
    for job in jobs {
        if keys.len() == limit {
            break;
        }
        // What another node is forgetting is skipped.
        let old: Vec<(i64, i64)> = sqlx::query_as(
            "SELECT journal, number FROM effects FORCE INDEX (listed)
             WHERE job = ? AND at < ? AND (fate IS NULL OR fate <> 0) ORDER BY at LIMIT ? FOR UPDATE SKIP LOCKED",
        )
        .bind(job)
        .bind(sql::millis(before))
        .bind(i64::try_from(limit - keys.len()).unwrap_or(i64::MAX))
        .fetch_all(&mut *conn)
        .await?;
        keys.extend(old);
    }
    keys.sort_unstable();
    forget_named(conn, &keys).await
}

async fn forget_named(conn: &mut MySqlConnection, keys: &[(i64, i64)]) -> Result<u64, Fault> {
    if keys.is_empty() {
        return Ok(0);
    }
    let gone = sqlx::query(concat!(
        "DELETE effects FROM ",
        named!(),
        " STRAIGHT_JOIN effects FORCE INDEX (PRIMARY)
              ON effects.journal = given.journal AND effects.number = given.number"
    ))
    .bind(json(&keys)?)
    .execute(conn)
    .await?;
    Ok(gone.rows_affected())
}

/// [`Store::forget_oldest`](crate::store::Store::forget_oldest).
pub(super) struct ForgetOldest {
    pub(super) weight: u64,
    pub(super) limit: u32,
}

#[async_trait]
impl Command for ForgetOldest {
    type Answer = Forgotten;

    /// Each call forgets others.
    const REPEATABLE: bool = false;

    async fn apply(&self, work: &mut Work<'_>) -> Result<Forgotten, Fault> {
        let jobs: Vec<i64> = sqlx::query_scalar("SELECT id FROM jobs ORDER BY id").fetch_all(work.conn()).await?;
        let mut found: Vec<Weighed> = Vec::new();
        for job in jobs {
            // What another node is forgetting is skipped.
            let oldest: Vec<Weighed> = sqlx::query_as(
                "SELECT at, journal, number, weight FROM effects FORCE INDEX (listed)
                 WHERE job = ? AND (fate IS NULL OR fate <> 0) ORDER BY at, journal, number LIMIT ?
                 FOR UPDATE SKIP LOCKED",
            )
            .bind(job)
            .bind(i64::from(self.limit))
            .fetch_all(work.conn())
            .await?;
            found.extend(oldest);
        }
        let (names, weight) = oldest_of(found, self.weight, self.limit);
        let effects = forget_named(work.conn(), &names).await?;
        Ok(Forgotten { effects, weight })
    }
}
