//! The schema's versions, applied in order and never changed afterwards.

use std::io::ErrorKind;
use std::path::Path;

use rusqlite::{Connection, OpenFlags, OptionalExtension as _};

use super::fault::Fault;
use super::readers::Traces;
use crate::domain::digest::Digest;
use crate::domain::time::Timestamp;
use crate::store::StoreError;

/// `SWEP`: marks the file as sweepd's for `file(1)` and for us.
const APPLICATION_ID: i64 = 0x5357_4550;

/// One step of the schema.
struct Migration {
    name: &'static str,
    sql: &'static str,
}

/// Version N is the Nth.
const MIGRATIONS: [Migration; 5] = [
    Migration { name: "0001_queue", sql: include_str!("../../../migrations/sqlite/0001_queue.sql") },
    Migration { name: "0002_guard", sql: include_str!("../../../migrations/sqlite/0002_guard.sql") },
    Migration { name: "0003_clock", sql: include_str!("../../../migrations/sqlite/0003_clock.sql") },
    Migration { name: "0004_removed", sql: include_str!("../../../migrations/sqlite/0004_removed.sql") },
    Migration { name: "0005_made", sql: include_str!("../../../migrations/sqlite/0005_made.sql") },
];

/// Brings the database up to this binary's version, in one transaction.
pub(super) fn migrate(conn: &Connection, path: &Path, now: Timestamp) -> Result<(), StoreError> {
    let about = |error: rusqlite::Error| Fault::from(error).on(conn).about(path);
    if is_current(conn, path)? {
        return Ok(());
    }
    conn.execute_batch("BEGIN IMMEDIATE").map_err(about)?;
    let migrated = apply_missing(conn, path, now);
    let end = if migrated.is_ok() { "COMMIT" } else { "ROLLBACK" };
    let ended = conn.execute_batch(end).map_err(about);
    migrated.and(ended)
}

/// The names of the steps that the database at `path` lacks; all of them where
/// there is no file. Nothing is written.
pub(super) fn pending(path: &Path) -> Result<Vec<String>, StoreError> {
    let done = match std::fs::metadata(path) {
        // An empty file is what opening a new database leaves for an instant.
        Ok(file) if file.len() > 0 => {
            let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            // Dropped after the connection.
            let _traces = Traces::beside(path);
            let conn = Connection::open_with_flags(path, flags).map_err(|error| Fault::from(error).about(path))?;
            conn.busy_timeout(super::connection::BUSY).map_err(|error| Fault::from(error).about(path))?;
            applied(&conn, path)?
        }
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(StoreError::Unavailable(format!("{}: {error}; check the path and its rights", path.display())));
        }
        Ok(_) | Err(_) => 0,
    };
    Ok(MIGRATIONS.iter().skip(done).map(|migration| migration.name.to_owned()).collect())
}

/// Looks without a lock, so that opening an up-to-date database waits for
/// nobody.
fn is_current(conn: &Connection, path: &Path) -> Result<bool, StoreError> {
    Ok(applied(conn, path)? == MIGRATIONS.len())
}

fn apply_missing(conn: &Connection, path: &Path, now: Timestamp) -> Result<(), StoreError> {
    let about = |error: rusqlite::Error| Fault::from(error).on(conn).about(path);
    let done = applied(conn, path)?;
    if done == 0 {
        conn.execute_batch(
            "CREATE TABLE schema_migrations (
                 version    INTEGER PRIMARY KEY,
                 name       TEXT NOT NULL,
                 checksum   BLOB NOT NULL,
                 applied_at INTEGER NOT NULL
             ) STRICT",
        )
        .map_err(about)?;
        conn.pragma_update(None, "application_id", APPLICATION_ID).map_err(about)?;
    }
    for (version, migration) in (1_i64..).zip(&MIGRATIONS).skip(done) {
        conn.execute_batch(migration.sql).map_err(about)?;
        let checksum = Digest::of(migration.sql.as_bytes());
        let row = (version, migration.name, checksum.as_bytes(), super::sql::millis(now));
        conn.execute("INSERT INTO schema_migrations VALUES (?1, ?2, ?3, ?4)", row).map_err(about)?;
    }
    Ok(())
}

/// How many migrations the database has; an error where they are not ours.
fn applied(conn: &Connection, path: &Path) -> Result<usize, StoreError> {
    let about = |error: rusqlite::Error| Fault::from(error).on(conn).about(path);
    let tables = "SELECT count(*), count(*) FILTER (WHERE name = 'schema_migrations') \
                  FROM sqlite_schema WHERE type = 'table'";
    let (tables, ours): (i64, i64) = conn.query_row(tables, [], |row| Ok((row.get(0)?, row.get(1)?))).map_err(about)?;
    let id: i64 = conn.pragma_query_value(None, "application_id", |row| row.get(0)).map_err(about)?;
    if ours == 0 || id != APPLICATION_ID {
        return match tables {
            0 => Ok(0),
            _ => Err(StoreError::Incompatible(format!(
                "{} is another program's SQLite database; name another file",
                path.display()
            ))),
        };
    }
    check(conn, path)
}

/// Compares the recorded checksums with the embedded ones.
fn check(conn: &Connection, path: &Path) -> Result<usize, StoreError> {
    let about = |error: rusqlite::Error| Fault::from(error).on(conn).about(path);
    let newest: i64 = conn
        .query_row("SELECT coalesce(max(version), 0) FROM schema_migrations", [], |row| row.get(0))
        .map_err(about)?;
    let newest = usize::try_from(newest).unwrap_or_default();
    let known = MIGRATIONS.len();
    if newest > known {
        return Err(StoreError::Incompatible(format!(
            "{} has schema version {newest}, and this sweepd knows versions up to {known}; \
             run the newer sweepd, or restore a backup from before its first start",
            path.display()
        )));
    }
    for (version, migration) in (1_i64..).zip(&MIGRATIONS).take(newest) {
        let recorded: Option<Vec<u8>> = conn
            .query_row("SELECT checksum FROM schema_migrations WHERE version = ?1", [version], |row| row.get(0))
            .optional()
            .map_err(about)?;
        if recorded.as_deref() != Some(Digest::of(migration.sql.as_bytes()).as_bytes()) {
            return Err(StoreError::Incompatible(format!(
                "{} was made by another build of sweepd: its migration {} differs from this one's",
                path.display(),
                migration.name
            )));
        }
    }
    Ok(newest)
}
