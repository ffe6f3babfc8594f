//! The database of one run: made at its start, removed at its end, whatever the run came to.
//!
//! It knows nothing of any peer. It does know what durable means here: a server that answers a commit only once it is
//! on disk, and SQLite with a write-ahead log and `synchronous = FULL`. Anything less is refused.

use std::path::PathBuf;
use std::str::FromStr;

use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions, PgSslMode};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection, PgPool, SqlitePool};

/// The kinds of database that peers keep jobs in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    PostgreSql,
    Sqlite,
}

/// A database for one run.
pub(crate) enum Scratch {
    PostgreSql { server: Box<PgConnectOptions>, name: String, look: PgPool },
    Sqlite { folder: PathBuf, look: SqlitePool },
}

impl Scratch {
    /// Makes the database on the server, or in the folder, that `place` names.
    pub(crate) async fn create(place: &str) -> Result<Self> {
        let name = format!("peers_{}", std::process::id());
        if let Some(folder) = place.strip_prefix("sqlite:") {
            let folder = PathBuf::from(folder.trim_start_matches("//")).join(name);
            std::fs::create_dir_all(&folder)
                .with_context(|| format!("the folder {} cannot be made", folder.display()))?;
            let look = SqlitePoolOptions::new().max_connections(1).connect_with(sqlite(&folder)).await?;
            return Ok(Self::Sqlite { folder, look });
        }
        if !place.starts_with("postgres") {
            bail!("a database is `postgres://…` or `sqlite:FOLDER`, not `{place}`");
        }
        let mut server = PgConnectOptions::from_str(place)?.disable_statement_logging();
        // Encryption where the server offers it would be measured, too, and not every peer's client falls back alike.
        if matches!(server.get_ssl_mode(), PgSslMode::Prefer) {
            server = server.ssl_mode(PgSslMode::Disable);
        }
        let mut connection = PgConnection::connect_with(&server).await?;
        sqlx::query(AssertSqlSafe(format!("CREATE DATABASE {name}"))).execute(&mut connection).await?;
        let look = PgPoolOptions::new().max_connections(1).connect_with(server.clone().database(&name)).await?;
        Ok(Self::PostgreSql { server: Box::new(server), name, look })
    }

    pub(crate) fn kind(&self) -> Kind {
        match self {
            Self::PostgreSql { .. } => Kind::PostgreSql,
            Self::Sqlite { .. } => Kind::Sqlite,
        }
    }

    /// How to connect to the database, for a peer on PostgreSQL.
    pub(crate) fn postgres(&self) -> Result<PgConnectOptions> {
        match self {
            Self::PostgreSql { server, name, .. } => Ok(server.as_ref().clone().database(name)),
            Self::Sqlite { .. } => bail!("the database of the run is a file"),
        }
    }

    /// How to connect to the file, for a peer on SQLite: write-ahead log, `synchronous = FULL`, waiting when locked.
    pub(crate) fn sqlite(&self) -> Result<SqliteConnectOptions> {
        match self {
            Self::Sqlite { folder, .. } => Ok(sqlite(folder)),
            Self::PostgreSql { .. } => bail!("the database of the run is on a server"),
        }
    }

    /// The address of the file, for a peer that opens it itself. What SQLite does by default is durable.
    pub(crate) fn sqlite_url(&self) -> Result<String> {
        Ok(format!("sqlite://{}", self.sqlite()?.get_filename().display()))
    }

    /// Whether the query finds a row. Beside the peer's own connections, so that it waits for none of them.
    pub(crate) async fn finds(&self, query: &'static str) -> Result<bool> {
        Ok(match self {
            Self::PostgreSql { look, .. } => sqlx::query(query).fetch_optional(look).await?.is_some(),
            Self::Sqlite { look, .. } => sqlx::query(query).fetch_optional(look).await?.is_some(),
        })
    }

    /// Gives the planner its statistics and gets the writes of the preparation out of the way of the measurement.
    pub(crate) async fn settle(&self) -> Result<()> {
        match self {
            Self::PostgreSql { look, .. } => {
                sqlx::query("VACUUM (ANALYZE)").execute(look).await?;
                sqlx::query("CHECKPOINT").execute(look).await.context("a checkpoint needs a superuser")?;
            }
            Self::Sqlite { look, .. } => {
                sqlx::query("ANALYZE").execute(look).await?;
                sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(look).await?;
            }
        }
        Ok(())
    }

    /// What a commit of the run was good for, as the database says; refuses what is not durable.
    pub(crate) async fn durability(&self) -> Result<String> {
        match self {
            Self::PostgreSql { look, .. } => {
                let (commit, sync, version): (String, String, String) = sqlx::query_as(
                    "SELECT current_setting('synchronous_commit'), current_setting('fsync'), current_setting('server_version')",
                )
                .fetch_one(look)
                .await?;
                ensure!(commit == "on" && sync == "on", "the server answers commits before they are on disk");
                Ok(format!("PostgreSQL {version}, synchronous_commit on, fsync on"))
            }
            Self::Sqlite { look, .. } => {
                let version: String = sqlx::query_scalar("SELECT sqlite_version()").fetch_one(look).await?;
                Ok(format!("SQLite {version}, WAL, synchronous FULL"))
            }
        }
    }

    /// Removes the database, with whoever may still be connected.
    pub(crate) async fn remove(self) -> Result<()> {
        match self {
            Self::PostgreSql { server, name, look } => {
                look.close().await;
                let mut connection = PgConnection::connect_with(&server).await?;
                sqlx::query(AssertSqlSafe(format!("DROP DATABASE {name} WITH (FORCE)")))
                    .execute(&mut connection)
                    .await?;
            }
            Self::Sqlite { folder, look } => {
                look.close().await;
                std::fs::remove_dir_all(&folder)?;
            }
        }
        Ok(())
    }
}

fn sqlite(folder: &std::path::Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(folder.join("queue.db"))
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(std::time::Duration::from_secs(30))
        .disable_statement_logging()
}

/// Refuses a pool that an own setup of the peer has made less durable.
pub(crate) async fn ensure_durable(pool: &SqlitePool) -> Result<()> {
    let synchronous: i64 = sqlx::query_scalar("PRAGMA synchronous").fetch_one(pool).await?;
    let journal: String = sqlx::query_scalar("PRAGMA journal_mode").fetch_one(pool).await?;
    ensure!(synchronous == 2 && journal == "wal", "the peer runs with synchronous = {synchronous}, {journal}");
    Ok(())
}
