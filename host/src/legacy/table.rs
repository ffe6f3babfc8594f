//! Reading the old table, and removing rows of it.

use std::time::Duration;

use sqlx::mysql::{MySqlConnectOptions, MySqlDatabaseError, MySqlPool, MySqlPoolOptions};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, MySqlConnection, Row as _};
use tokio::time::timeout;

use super::{LegacyError, LegacyUrl, TableName};

/// How long the server may take to give a connection.
const PATIENCE: Duration = Duration::from_secs(10);

/// The session the same, whatever the server's defaults are: what is removed is
/// removed, a value that does not fit is an error, and nothing is left out.
const SET_UP: &str = "
    SET SESSION sql_mode = 'STRICT_ALL_TABLES,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION';
    SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED;
    SET SESSION autocommit = 1, completion_type = 'NO_CHAIN', sql_auto_is_null = 0, sql_safe_updates = 0,
        sql_select_limit = 18446744073709551615, sql_big_selects = 1, lock_wait_timeout = 10";

/// The one column.
const COLUMN: &str = "video_id";

/// The old table, at the end of one connection, which is made anew when it
/// breaks.
#[derive(Debug)]
pub struct LegacyTable {
    pool: MySqlPool,
    server: String,
    table: String,
    /// A bound text as the column has it: in its character set, compared by its
    /// collation, so that its index is used.
    parameter: String,
}

impl LegacyTable {
    /// Most rows that are read or removed at a time.
    pub const PAGE: usize = 1000;

    /// Connects, and checks that the table is the old service's. Cancel safe.
    ///
    /// [`LegacyError::NotTheTable`] where it is missing, or its `video_id` is
    /// no text or not its key.
    pub async fn open(url: &LegacyUrl, table: &TableName) -> Result<Self, LegacyError> {
        // Its statements are long lists of ids, of no use in a log.
        let options = url.options.clone().disable_statement_logging();
        // The mode is set below, as a whole.
        let options = options.pipes_as_concat(false).no_engine_substitution(false);
        let pool = MySqlPoolOptions::new().max_connections(1).acquire_timeout(PATIENCE);
        let pool = pool.after_connect(|conn, _| Box::pin(set_up(conn))).connect_lazy_with(options.clone());
        let mut opened = Self { pool, server: url.server(), table: table.quoted(), parameter: String::new() };
        opened.try_out(&options).await?;
        opened.parameter = opened.inspect(table).await?;
        Ok(opened)
    }

    /// How many rows it has.
    pub async fn rows(&self) -> Result<u64, LegacyError> {
        let sql = format!("SELECT count(*) FROM {}", self.table);
        let rows: i64 = self.ask(async |conn| sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(conn).await).await?;
        Ok(rows.unsigned_abs())
    }

    /// The next ids after `after` in the order of the primary key, at most
    /// [`Self::PAGE`]; fewer at the end. Cancel safe.
    pub async fn page(&self, after: Option<&str>) -> Result<Vec<String>, LegacyError> {
        let Self { table, parameter, .. } = self;
        let bound = if after.is_some() { format!("WHERE {COLUMN} > {parameter}") } else { String::new() };
        let sql = format!("SELECT {UTF8} FROM {table} {bound} ORDER BY {COLUMN} LIMIT {}", Self::PAGE);
        let mut query = sqlx::query_scalar(AssertSqlSafe(sql));
        if let Some(after) = after {
            query = query.bind(after);
        }
        let ids: Vec<Vec<u8>> = self.ask(async |conn| query.fetch_all(conn).await).await?;
        let text = |id| String::from_utf8(id).map_err(|_| self.other("it has an id that is no UTF-8".to_owned()));
        ids.into_iter().map(text).collect()
    }

    /// Removes the rows whose ids have exactly these bytes; answers how many
    /// there were. At most [`Self::PAGE`] at a time. Dropped, it may have.
    pub async fn remove(&self, ids: &[String]) -> Result<u64, LegacyError> {
        if ids.is_empty() {
            return Ok(0);
        }
        // By the index, which may take two ids for one; then by their bytes.
        let alike = vec![self.parameter.as_str(); ids.len()].join(", ");
        let same = vec!["?"; ids.len()].join(", ");
        let sql = format!("DELETE FROM {} WHERE {COLUMN} IN ({alike}) AND {UTF8} IN ({same})", self.table);
        let mut query = sqlx::query(AssertSqlSafe(sql)).persistent(false);
        for id in ids {
            query = query.bind(id.as_str());
        }
        for id in ids {
            query = query.bind(id.as_bytes());
        }
        Ok(self.ask(async |conn| query.execute(conn).await).await?.rows_affected())
    }

    /// Asks the server. The session of a call that failed is not used again: it
    /// may be gone, or be one that only reads since a failover.
    async fn ask<T>(
        &self,
        ask: impl AsyncFnOnce(&mut MySqlConnection) -> Result<T, sqlx::Error>,
    ) -> Result<T, LegacyError> {
        let mut session = self.pool.acquire().await.map_err(|error| self.failed(&error))?;
        ask(&mut session).await.map_err(|error| {
            session.close_on_drop();
            self.failed(&error)
        })
    }

    /// Connects once apart from the pool, which would try again for as long as
    /// it may and forget why it could not.
    async fn try_out(&self, options: &MySqlConnectOptions) -> Result<(), LegacyError> {
        let unavailable = |why: String| LegacyError::Unavailable { server: self.server.clone(), why };
        let connected = timeout(PATIENCE, options.connect()).await;
        let connection = connected.map_err(|_| unavailable(format!("no answer within {PATIENCE:?}")))?;
        // What it says at its end is of no more interest.
        let _ = connection.map_err(|error| self.failed(&error))?.close().await;
        Ok(())
    }

    /// Looks at the table's definition; answers with `parameter`.
    async fn inspect(&self, table: &TableName) -> Result<String, LegacyError> {
        // Each looks at one table only: with a join the server would open every
        // table that it has.
        let column = sqlx::query(
            "SELECT lower(data_type), character_set_name, collation_name FROM information_schema.columns
             WHERE table_schema = database() AND table_name = ? AND column_name = ?",
        );
        let column = column.bind(table.as_str()).bind(COLUMN);
        let Some(row) = self.ask(async |conn| column.fetch_optional(conn).await).await? else {
            return Err(self.other(format!("there is no table {} with a column {COLUMN}", table.as_str())));
        };
        let keys = sqlx::query_scalar(
            "SELECT count(*) FROM (
                 SELECT index_name FROM information_schema.statistics
                 WHERE table_schema = database() AND table_name = ?
                 GROUP BY index_name
                 HAVING max(non_unique) = 0 AND max(seq_in_index) = 1 AND max(column_name) = ? AND max(sub_part) IS NULL
             ) alone",
        );
        let keys = keys.bind(table.as_str()).bind(COLUMN);
        let unique: i64 = self.ask(async |conn| keys.fetch_one(conn).await).await?;
        let read = |error: sqlx::Error| self.failed(&error);
        let text = |index: usize| -> Result<Option<String>, LegacyError> {
            let bytes: Option<Vec<u8>> = row.try_get_unchecked(index).map_err(read)?;
            Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
        };
        let kind = text(0)?.unwrap_or_default();
        let (Some(set), Some(collation)) = (text(1)?, text(2)?) else {
            return Err(self.other(format!("{COLUMN} is {kind}, and no text: it is another service's table")));
        };
        let plain = |name: &str| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if unique == 0 || !plain(&set) || !plain(&collation) {
            return Err(self.other(format!("{COLUMN} is not the table's key: it is another service's table")));
        }
        Ok(format!("CONVERT(? USING {set}) COLLATE {collation}"))
    }

    fn other(&self, why: String) -> LegacyError {
        LegacyError::NotTheTable { server: self.server.clone(), why }
    }

    fn failed(&self, error: &sqlx::Error) -> LegacyError {
        let (server, why) = (self.server.clone(), error.to_string());
        let number = error.as_database_error().and_then(|error| error.try_downcast_ref::<MySqlDatabaseError>());
        match number.map(MySqlDatabaseError::number) {
            None
            | Some(
                1040
                | 1047
                | 1053
                | 1152
                | 1154..=1161
                | 1203
                | 1205
                | 1213
                | 1243
                | 1290
                | 1317
                | 1461
                | 1615
                | 1792
                | 1836
                | 1927
                | 2006
                | 2013,
            ) => LegacyError::Unavailable { server, why },
            Some(_) => LegacyError::Refused { server, why },
        }
    }
}

async fn set_up(conn: &mut MySqlConnection) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(SET_UP).execute(conn).await?;
    Ok(())
}

/// The column's exact text in UTF-8, as bytes.
const UTF8: &str = "CAST(CONVERT(video_id USING utf8mb4) AS BINARY)";
