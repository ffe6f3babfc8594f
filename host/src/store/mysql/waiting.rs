//! Tasks wait again: for their next attempt, because somebody asked them to,
//! or as if never claimed.

use sqlx::MySqlConnection;

use super::fault::Fault;
use super::sql::{self, json};
use super::successor;
use crate::domain::outcome::{Disposition, Finish};
use crate::domain::time::Timestamp;

/// Tasks in one statement; with the longest errors they fit the smallest
/// packet that servers take by default.
const TOGETHER: usize = 500;

/// A task that waits again. Whoever makes one has locked its row.
pub(super) struct Wait<'a> {
    pub(super) finish: &'a Finish,
    /// Whether a successor waits in its row.
    pub(super) succeeded: bool,
}

/// What an update of the row needs: its number, when it is due if that
/// changes, whether it failed, whether it is postponed, what is noted, and how
/// many files were removed.
type Row<'a> = (i64, Option<i64>, i64, i64, Option<&'a str>, i64);

/// Makes tasks pending again whose rows are locked.
pub(super) async fn wait(conn: &mut MySqlConnection, mut waits: Vec<Wait<'_>>, now: Timestamp) -> Result<(), Fault> {
    waits.sort_unstable_by_key(|wait| wait.finish.id);
    for waits in waits.chunks(TOGETHER) {
        let rows: Vec<Row<'_>> = waits.iter().filter_map(|wait| row(wait.finish, now)).collect();
        update(conn, &rows, now).await?;
        record_attempts(conn, waits).await?;
        let succeeded: Vec<i64> =
            waits.iter().filter(|wait| wait.succeeded).map(|wait| sql::id(wait.finish.id)).collect();
        successor::merge(conn, &succeeded).await?;
    }
    Ok(())
}

fn row(finish: &Finish, now: Timestamp) -> Option<Row<'_>> {
    let id = sql::id(finish.id);
    let due = |after| sql::millis(now.after(after));
    let removed = i64::try_from(finish.attempt.removed).unwrap_or(i64::MAX);
    match &finish.disposition {
        Disposition::Retry { after, error } => Some((id, Some(due(*after)), 1, 0, Some(error), removed)),
        Disposition::Postpone { after, reason } => Some((id, Some(due(*after)), 0, 1, reason.as_deref(), removed)),
        Disposition::Release { after } => Some((id, after.map(due), 0, 0, None, removed)),
        Disposition::Done(_) | Disposition::Skipped(_) | Disposition::Bury(_) | Disposition::Cancel(_) => None,
    }
}

async fn update(conn: &mut MySqlConnection, rows: &[Row<'_>], now: Timestamp) -> Result<(), Fault> {
    sqlx::query(
        "UPDATE JSON_TABLE(?, '$[*]' COLUMNS (
                    id BIGINT PATH '$[0]', run_at BIGINT PATH '$[1]', failed TINYINT PATH '$[2]',
                    postponed TINYINT PATH '$[3]', note TEXT PATH '$[4]', removed BIGINT PATH '$[5]')) AS waits
         STRAIGHT_JOIN tasks FORCE INDEX (PRIMARY) ON tasks.id = waits.id
         SET state = 0, solo = 0, backoff = waits.failed, attempt = attempt + waits.failed,
             waits_from = IF(waits.run_at IS NULL, waits_from, ?),
             tasks.run_at = COALESCE(waits.run_at, tasks.run_at),
             postponed_since = CASE WHEN waits.failed THEN NULL
                                    WHEN waits.postponed AND waits.removed > 0 THEN ?
                                    WHEN waits.postponed THEN COALESCE(postponed_since, ?)
                                    ELSE postponed_since END,
             tasks.removed = tasks.removed + waits.removed,
             tasks.note = IF(waits.failed OR waits.postponed, waits.note, tasks.note)",
    )
    .bind(json(&rows)?)
    .bind(sql::millis(now))
    .bind(sql::millis(now))
    .bind(sql::millis(now))
    .execute(conn)
    .await?;
    Ok(())
}

/// A failed attempt, after its task was updated.
async fn record_attempts(conn: &mut MySqlConnection, waits: &[Wait<'_>]) -> Result<(), Fault> {
    let rows: Vec<_> = waits
        .iter()
        .filter_map(|wait| {
            let Disposition::Retry { error, .. } = &wait.finish.disposition else { return None };
            let attempt = &wait.finish.attempt;
            let digest = attempt.digest.as_ref().map(|digest| sql::hex(digest.as_bytes()));
            let (started, ended) = (sql::millis(attempt.started), sql::millis(attempt.ended));
            Some((sql::id(wait.finish.id), started, ended, attempt.node.0, digest, error))
        })
        .collect();
    if rows.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "INSERT INTO attempts (task, number, fence, started_at, ended_at, node, digest, outcome, error)
         SELECT tasks.id, attempt, fence, failed.started_at, failed.ended_at, failed.node, UNHEX(failed.digest),
                'failed', failed.error
         FROM JSON_TABLE(?, '$[*]' COLUMNS (
                  id BIGINT PATH '$[0]', started_at BIGINT PATH '$[1]', ended_at BIGINT PATH '$[2]',
                  node BIGINT PATH '$[3]', digest VARCHAR(64) PATH '$[4]', error TEXT PATH '$[5]')) AS failed
         STRAIGHT_JOIN tasks FORCE INDEX (PRIMARY) ON tasks.id = failed.id",
    )
    .bind(json(&rows)?)
    .execute(conn)
    .await?;
    Ok(())
}
