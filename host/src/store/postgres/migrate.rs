//! The schema's versions, applied in order and never changed afterwards.
//!
//! Nodes that open an empty database at once take turns by an advisory lock,
//! and a migration is one transaction, as PostgreSQL's definitions can be.

use std::time::Duration;

use sqlx::{Connection as _, PgConnection, Row as _};

use super::fault::Fault;
use super::pool::Server;
use super::sql::server_now;
use crate::domain::digest::Digest;
use crate::store::StoreError;
use crate::store::turns::Turns;

/// One step of the schema.
struct Migration {
    name: &'static str,
    sql: &'static str,
}

/// Version N is the Nth.
const MIGRATIONS: [Migration; 5] = [
    Migration { name: "0001_queue", sql: include_str!("../../../migrations/postgres/0001_queue.sql") },
    Migration { name: "0002_guard", sql: include_str!("../../../migrations/postgres/0002_guard.sql") },
    Migration { name: "0003_clock", sql: include_str!("../../../migrations/postgres/0003_clock.sql") },
    Migration { name: "0004_removed", sql: include_str!("../../../migrations/postgres/0004_removed.sql") },
    Migration { name: "0005_made", sql: include_str!("../../../migrations/postgres/0005_made.sql") },
];

/// `sweepd` in ASCII: whoever migrates holds the advisory lock of this number.
const LOCK: i64 = 0x7377_6565_7064;

/// Brings the database up to this binary's version.
pub(super) async fn migrate(server: &Server, patience: Duration) -> Result<(), StoreError> {
    let mut conn = server.connection().await.map_err(|fault| server.tell(fault))?;
    // Without a lock first: opening an up-to-date database waits for nobody.
    if applied(server, &mut conn).await? == MIGRATIONS.len() {
        return Ok(());
    }
    let tell = |error: sqlx::Error| server.tell(error);
    let mut turns = Turns::new(&server.place, patience);
    loop {
        let mut turn = conn.begin().await.map_err(tell)?;
        // A migration, and what it waits for, may take its time.
        sqlx::raw_sql("SET LOCAL lock_timeout = '60s'; SET LOCAL statement_timeout = 0")
            .execute(&mut *turn)
            .await
            .map_err(tell)?;
        let taken = sqlx::query_scalar("SELECT pg_try_advisory_xact_lock($1)").bind(LOCK).fetch_one(&mut *turn);
        if taken.await.map_err(tell)? {
            apply_missing(server, &mut turn).await?;
            return turn.commit().await.map_err(tell);
        }
        let holder = holder(&mut turn).await.map_err(tell)?;
        turn.rollback().await.map_err(tell)?;
        // By asking again, and not in the server: so this end can say what it waits for.
        turns.wait(holder.as_deref()).await?;
    }
}

/// Who has the lock of migrations, for people.
async fn holder(conn: &mut PgConnection) -> Result<Option<String>, sqlx::Error> {
    let sql = "SELECT format('process %s of the server (%s, user %s, from %s)', pid, coalesce(application_name, '?'),
                             coalesce(usename, '?'), coalesce(host(client_addr), 'its own machine'))
               FROM pg_locks JOIN pg_stat_activity USING (pid)
               WHERE locktype = 'advisory' AND granted
                 AND pg_locks.database = (SELECT oid FROM pg_database WHERE datname = current_database())
                 AND classid::bigint = $1 >> 32 AND objid::bigint = $1 & 4294967295 AND objsubid = 1
               LIMIT 1";
    sqlx::query_scalar(sql).bind(LOCK).fetch_optional(conn).await
}

/// The names of the migrations that the database lacks, oldest first.
pub(super) async fn pending(server: &Server) -> Result<Vec<String>, StoreError> {
    let mut conn = server.connection().await.map_err(|fault| server.tell(fault))?;
    let done = applied(server, &mut conn).await?;
    Ok(MIGRATIONS.iter().skip(done).map(|migration| migration.name.to_owned()).collect())
}

async fn apply_missing(server: &Server, conn: &mut PgConnection) -> Result<(), StoreError> {
    let tell = |error: sqlx::Error| server.tell(error);
    let done = applied(server, conn).await?;
    if done == 0 {
        sqlx::raw_sql(
            "CREATE TABLE schema_migrations (
                 version    BIGINT PRIMARY KEY,
                 name       TEXT NOT NULL,
                 checksum   BYTEA NOT NULL,
                 applied_at BIGINT NOT NULL
             )",
        )
        .execute(&mut *conn)
        .await
        .map_err(tell)?;
    }
    for (version, migration) in (1_i64..).zip(&MIGRATIONS).skip(done) {
        sqlx::raw_sql(migration.sql).execute(&mut *conn).await.map_err(tell)?;
        let checksum = Digest::of(migration.sql.as_bytes());
        sqlx::query(concat!("INSERT INTO schema_migrations VALUES ($1, $2, $3, ", server_now!(), ")"))
            .bind(version)
            .bind(migration.name)
            .bind(checksum.as_bytes().as_slice())
            .execute(&mut *conn)
            .await
            .map_err(tell)?;
    }
    Ok(())
}

/// How many migrations the database has; an error where they are not ours.
async fn applied(server: &Server, conn: &mut PgConnection) -> Result<usize, StoreError> {
    let found = tables(conn).await.map_err(|fault| server.tell(fault))?;
    match found {
        // Anything else may stand beside ours, as long as no name clashes.
        Tables { ours: true, .. } => check(server, conn).await,
        Tables { elsewhere: Some(schema), here, .. } if !server.has_search_path => {
            let here = here.map_or_else(|| "no schema".to_owned(), |here| format!("the schema `{here}`"));
            Err(StoreError::Incompatible(format!(
                "{}: sweepd's tables are in the schema `{schema}`, and the search path leads to {here}; name one of \
                 them by `?options=-c search_path=NAME` in `database.url`",
                server.place
            )))
        }
        Tables { clash: None, .. } => Ok(0),
        Tables { clash: Some(table), .. } => Err(StoreError::Incompatible(format!(
            "{} has a table `{table}` of another program; name another database, or another schema by \
             `?options=-c search_path=NAME`",
            server.place
        ))),
    }
}

struct Tables {
    /// `schema_migrations` stands there and is ours.
    ours: bool,
    /// A table that has the name of one of ours.
    clash: Option<String>,
    /// Another schema that has tables of ours.
    elsewhere: Option<String>,
    /// The schema in which tables are made.
    here: Option<String>,
}

async fn tables(conn: &mut PgConnection) -> Result<Tables, Fault> {
    let row = sqlx::query(
        "SELECT (SELECT count(*) = 4 FROM information_schema.columns
                 WHERE table_schema = current_schema() AND table_name = 'schema_migrations'
                   AND column_name IN ('version', 'name', 'checksum', 'applied_at')),
                (SELECT min(table_name::text) FROM information_schema.tables
                 WHERE table_schema = current_schema() AND table_name IN
                     ('schema_migrations', 'jobs', 'nodes', 'tasks', 'batches', 'history', 'attempts', 'requests',
                      'effects', 'holds', 'mounts')),
                (SELECT min(table_schema::text) FROM information_schema.columns
                 WHERE table_schema IS DISTINCT FROM current_schema() AND table_name = 'schema_migrations'
                   AND column_name = 'checksum'
                   AND EXISTS (SELECT FROM information_schema.tables AS beside
                               WHERE beside.table_schema = columns.table_schema AND beside.table_name = 'batches')),
                current_schema()::text",
    )
    .fetch_one(conn)
    .await?;
    let [clash, elsewhere, here] = [row.try_get(1)?, row.try_get(2)?, row.try_get(3)?];
    Ok(Tables { ours: row.try_get(0)?, clash, elsewhere, here })
}

/// Compares the recorded checksums with the embedded ones.
async fn check(server: &Server, conn: &mut PgConnection) -> Result<usize, StoreError> {
    let tell = |error: sqlx::Error| server.tell(error);
    let place = &server.place;
    let recorded = sqlx::query("SELECT version, checksum FROM schema_migrations ORDER BY version")
        .fetch_all(conn)
        .await
        .map_err(tell)?;
    let known = MIGRATIONS.len();
    let newest: i64 = recorded.last().map_or(Ok(0), |row| row.try_get(0)).map_err(tell)?;
    let newest = usize::try_from(newest).unwrap_or_default();
    if newest > known {
        return Err(StoreError::Incompatible(format!(
            "{place} has schema version {newest}, and this sweepd knows versions up to {known}; \
             run the newer sweepd, or restore a backup from before its first start"
        )));
    }
    for (row, migration) in recorded.iter().zip(&MIGRATIONS) {
        let checksum: &[u8] = row.try_get(1).map_err(tell)?;
        if checksum != Digest::of(migration.sql.as_bytes()).as_bytes() {
            return Err(StoreError::Incompatible(format!(
                "{place} was made by another build of sweepd: its migration {} differs from this one's",
                migration.name
            )));
        }
    }
    Ok(newest)
}
