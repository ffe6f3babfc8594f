//! The schema's versions, applied in order and never changed afterwards.
//!
//! The server commits every change of a schema by itself, so a migration makes
//! one change that may be repeated: whoever finds a step done but not on record
//! does it again.

use std::time::Duration;

use sqlx::{Connection as _, MySqlConnection};

use super::address::Address;
use super::sql::server_now;
use crate::domain::digest::Digest;
use crate::store::StoreError;
use crate::store::turns::Turns;

/// One step of the schema.
struct Migration {
    name: &'static str,
    sql: &'static str,
}

macro_rules! migration {
    ($name:literal) => {
        Migration { name: $name, sql: include_str!(concat!("../../../migrations/mysql/", $name, ".sql")) }
    };
}

/// Version N is the Nth.
const MIGRATIONS: [Migration; 17] = [
    migration!("0001_sequences"),
    migration!("0002_task_numbers"),
    migration!("0003_jobs"),
    migration!("0004_nodes"),
    migration!("0005_tasks"),
    migration!("0006_batches"),
    migration!("0007_history"),
    migration!("0008_attempts"),
    migration!("0009_requests"),
    migration!("0010_effects"),
    migration!("0011_holds"),
    migration!("0012_mounts"),
    migration!("0013_allowances"),
    migration!("0014_waits"),
    migration!("0015_lease_terms"),
    migration!("0016_removed"),
    migration!("0017_made"),
];

/// The lock of those who migrate this database; names of locks are the whole
/// server's, and short.
const LOCK: &str = "SELECT GET_LOCK(CONCAT('sweepd.', MD5(DATABASE())), 0)";
/// Whose it is: the number of a connection.
const HOLDER: &str = "SELECT CAST(IS_USED_LOCK(CONCAT('sweepd.', MD5(DATABASE()))) AS SIGNED)";
/// A migration, and that of another node before it, may take its time.
const PATIENTLY: &str = "SET SESSION lock_wait_timeout = 60 /*M! , max_statement_time = 0 */";

const UNLOCK: &str = "SELECT RELEASE_LOCK(CONCAT('sweepd.', MD5(DATABASE())))";

/// Brings the database up to this binary's version. Nodes that start at once
/// wait for each other, at most for `patience`.
pub(super) async fn migrate(
    conn: &mut MySqlConnection,
    address: &Address,
    patience: Duration,
) -> Result<(), StoreError> {
    // Looks without the lock first, so that opening an up-to-date database
    // waits for nobody.
    if applied(conn, address).await? == MIGRATIONS.len() {
        return Ok(());
    }
    let about = |error| address.about(error);
    sqlx::raw_sql(PATIENTLY).execute(&mut *conn).await.map_err(about)?;
    let mut turns = Turns::new(address.place(), patience);
    // Anything but 1 is no lock: null for an error, 0 while another has it.
    while sqlx::query_scalar::<_, Option<i64>>(LOCK).fetch_one(&mut *conn).await.map_err(about)? != Some(1) {
        let holder: Option<i64> = sqlx::query_scalar(HOLDER).fetch_one(&mut *conn).await.map_err(about)?;
        let holder = holder.map(|id| format!("connection {id} of the server"));
        turns.wait(holder.as_deref()).await?;
    }
    let migrated = apply_missing(conn, address).await;
    let unlocked = sqlx::query_scalar::<_, Option<i64>>(UNLOCK).fetch_one(conn).await.map_err(about);
    migrated.and(unlocked.map(drop))
}

/// The names of the migrations that [`migrate`] would apply.
pub(super) async fn pending(address: &Address) -> Result<Vec<String>, StoreError> {
    let mut conn = address.connect().await?;
    let done = applied(&mut conn, address).await;
    // What was asked is answered, however the connection ends.
    let _ = conn.close().await;
    Ok(MIGRATIONS.iter().skip(done?).map(|migration| migration.name.to_owned()).collect())
}

/// Refuses a database that lacks migrations.
pub(super) async fn must_be_current(conn: &mut MySqlConnection, address: &Address) -> Result<(), StoreError> {
    let done = applied(conn, address).await?;
    match MIGRATIONS.get(done) {
        None => Ok(()),
        Some(missing) => Err(StoreError::Incompatible(format!(
            "{} lacks migration {} and perhaps later ones; run `sweepd migrate`",
            address.place(),
            missing.name
        ))),
    }
}

async fn apply_missing(conn: &mut MySqlConnection, address: &Address) -> Result<(), StoreError> {
    let about = |error| address.about(error);
    let done = applied(conn, address).await?;
    if done == 0 {
        sqlx::raw_sql(
            "CREATE TABLE IF NOT EXISTS schema_migrations (
                 version    BIGINT NOT NULL PRIMARY KEY,
                 name       VARCHAR(255) NOT NULL,
                 checksum   VARBINARY(32) NOT NULL,
                 applied_at BIGINT NOT NULL
             ) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
        )
        .execute(&mut *conn)
        .await
        .map_err(about)?;
    }
    for (version, migration) in (1_i64..).zip(&MIGRATIONS).skip(done) {
        sqlx::raw_sql(migration.sql).execute(&mut *conn).await.map_err(about)?;
        sqlx::query(concat!(
            "INSERT INTO schema_migrations (version, name, checksum, applied_at) VALUES (?, ?, ?, ",
            server_now!(),
            ")"
        ))
        .bind(version)
        .bind(migration.name)
        .bind(Digest::of(migration.sql.as_bytes()).as_bytes().as_slice())
        .execute(&mut *conn)
        .await
        .map_err(about)?;
    }
    Ok(())
}

/// How many migrations the database has; an error where they are not ours.
async fn applied(conn: &mut MySqlConnection, address: &Address) -> Result<usize, StoreError> {
    let about = |error| address.about(error);
    // Tables of these names, and how many columns of ours the record has.
    let (tables, columns): (i64, i64) = sqlx::query_as(
        "SELECT (SELECT COUNT(*) FROM information_schema.tables
                 WHERE table_schema = DATABASE() AND table_name IN
                     ('schema_migrations', 'sequences', 'jobs', 'nodes', 'tasks', 'batches', 'history',
                      'attempts', 'requests', 'effects', 'holds', 'mounts', 'allowances')),
                (SELECT COUNT(*) FROM information_schema.columns
                 WHERE table_schema = DATABASE() AND table_name = 'schema_migrations'
                   AND column_name IN ('version', 'name', 'checksum', 'applied_at'))",
    )
    .fetch_one(&mut *conn)
    .await
    .map_err(about)?;
    match (tables, columns) {
        (0, _) => Ok(0),
        (_, 4) => check(conn, address).await,
        _ => Err(StoreError::Incompatible(format!(
            "{} has another program's tables of the names that sweepd's have; name a database of its own",
            address.place()
        ))),
    }
}

/// Compares the recorded checksums with the embedded ones.
async fn check(conn: &mut MySqlConnection, address: &Address) -> Result<usize, StoreError> {
    let recorded: Vec<(i64, Vec<u8>)> =
        sqlx::query_as("SELECT version, checksum FROM schema_migrations ORDER BY version")
            .fetch_all(conn)
            .await
            .map_err(|error| address.about(error))?;
    let newest = usize::try_from(recorded.last().map_or(0, |(version, _)| *version)).unwrap_or_default();
    let (known, place) = (MIGRATIONS.len(), address.place());
    if newest > known {
        return Err(StoreError::Incompatible(format!(
            "{place} has schema version {newest}, and this sweepd knows versions up to {known}; \
             run the newer sweepd, or restore a backup from before its first start"
        )));
    }
    for (version, migration) in (1_i64..).zip(&MIGRATIONS).take(newest) {
        let checksum = recorded.iter().find(|(known, _)| *known == version).map(|(_, checksum)| checksum.as_slice());
        if checksum != Some(Digest::of(migration.sql.as_bytes()).as_bytes()) {
            return Err(StoreError::Incompatible(format!(
                "{place} was made by another build of sweepd: its migration {} differs from this one's",
                migration.name
            )));
        }
    }
    Ok(newest)
}
