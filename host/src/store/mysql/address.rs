//! Where the database is, and how a connection to it is set up and checked.

use std::str::FromStr as _;

use sqlx::mysql::MySqlConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _, MySqlConnection};

use super::fault::Fault;
use super::server::PATIENCE;
use crate::store::StoreError;

/// Every session the same, whatever the server's defaults are and whatever its
/// `init_connect` did: rows are locked where they are and not the gaps between
/// them, values that do not fit are errors, every statement outside of a
/// transaction commits itself, nothing is left out of an answer, and nobody
/// waits for a lock for longer than callers do.
///
/// Whether it may write is not among it: a server that is set to be read only
/// must not be written. The time zone and the character set are set by the
/// driver. What stands in `/*M! */` is MariaDB's alone, in `/*!80000 */` MySQL's.
const SET_UP: &str = "
    SET SESSION sql_mode = 'STRICT_ALL_TABLES,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION';
    SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED;
    SET SESSION autocommit = 1, completion_type = 'NO_CHAIN', foreign_key_checks = 1, unique_checks = 1,
        sql_auto_is_null = 0, sql_safe_updates = 0, sql_select_limit = 18446744073709551615, sql_big_selects = 1,
        innodb_lock_wait_timeout = 5, lock_wait_timeout = 10, wait_timeout = 900,
        net_read_timeout = 30, net_write_timeout = 60
        /*M! , max_statement_time = 30, idle_transaction_timeout = 5 */
        /*!80000 , max_execution_time = 30000 */";

/// A server and a database there.
#[derive(Clone, Debug)]
pub(super) struct Address {
    options: MySqlConnectOptions,
    place: String,
    read_only: bool,
}

impl Address {
    /// Reads `mysql://user:password@host:port/database`; `mariadb://` is the
    /// same. `read_only`: the server is told to refuse changes.
    pub(super) fn parse(url: &str, read_only: bool) -> Result<Self, StoreError> {
        let rejected = |why: &str| StoreError::Rejected(format!("database.url is no address of a database: {why}"));
        let options = MySqlConnectOptions::from_str(url).map_err(|error| rejected(&error.to_string()))?;
        let Some(database) = options.get_database() else {
            return Err(rejected("it names no database; write mysql://user:password@host:3306/database"));
        };
        let place = match options.get_socket() {
            Some(socket) => format!("mysql at {}, database {database}", socket.display()),
            None => format!("mysql://{}:{}/{database}", options.get_host(), options.get_port()),
        };
        // The mode is set below, as a whole.
        let options = options.collation("utf8mb4_bin").pipes_as_concat(false).no_engine_substitution(false);
        let options = options.timezone(Some("+00:00".to_owned())).disable_statement_logging();
        Ok(Self { options, place, read_only })
    }

    pub(super) fn options(&self) -> MySqlConnectOptions {
        self.options.clone()
    }

    /// Server and database, for people; without user and password.
    pub(super) fn place(&self) -> &str {
        &self.place
    }

    /// Whether the server is told to refuse changes.
    pub(super) fn read_only(&self) -> bool {
        self.read_only
    }

    /// A connection of its own, beside those of the pool, to a server that
    /// this version can use.
    pub(super) async fn connect(&self) -> Result<MySqlConnection, StoreError> {
        let connect = async {
            let mut conn = self.options.connect().await?;
            set_up(&mut conn, self.read_only).await?;
            Ok::<_, sqlx::Error>(conn)
        };
        let mut conn = match tokio::time::timeout(PATIENCE, connect).await {
            Ok(connected) => connected.map_err(|error| self.about(error))?,
            Err(_) => return Err(self.about(sqlx::Error::PoolTimedOut)),
        };
        match self.check(&mut conn).await {
            Ok(()) => Ok(conn),
            Err(error) => {
                // It is of no use any more, however it ends.
                let _ = conn.close().await;
                Err(error)
            }
        }
    }

    /// An error of this database.
    pub(super) fn about(&self, error: sqlx::Error) -> StoreError {
        Fault::from(error).about(&self.place)
    }

    async fn check(&self, conn: &mut MySqlConnection) -> Result<(), StoreError> {
        let version: String =
            sqlx::query_scalar("SELECT VERSION()").fetch_one(conn).await.map_err(|error| self.about(error))?;
        if is_new_enough(&version) {
            return Ok(());
        }
        let place = &self.place;
        Err(StoreError::Incompatible(format!("{place} is version {version}; use MariaDB 10.6 or MySQL 8, or later")))
    }

    /// Says in the log if the server may lose what it confirmed.
    pub(super) async fn warn_if_not_durable(&self, conn: &mut MySqlConnection) -> Result<(), StoreError> {
        let settings = "SELECT CAST(@@GLOBAL.innodb_flush_log_at_trx_commit AS SIGNED),
                               CAST(@@GLOBAL.log_bin AS SIGNED), CAST(@@GLOBAL.sync_binlog AS SIGNED)";
        let (flush, binlog, sync): (i64, i64, i64) =
            sqlx::query_as(settings).fetch_one(conn).await.map_err(|error| self.about(error))?;
        let database = &self.place;
        if flush != 1 {
            tracing::warn!(
                %database,
                "innodb_flush_log_at_trx_commit is {flush}: tasks that were acknowledged are lost when the server's \
                 machine fails; set it to 1"
            );
        }
        if binlog != 0 && sync != 1 {
            tracing::warn!(
                %database,
                "sync_binlog is {sync}: tasks that were acknowledged may be lost when the server's machine fails; \
                 set it to 1"
            );
        }
        Ok(())
    }
}

/// Brings a new connection into shape.
pub(super) async fn set_up(conn: &mut MySqlConnection, read_only: bool) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(SET_UP).execute(&mut *conn).await?;
    if read_only {
        sqlx::raw_sql("SET SESSION TRANSACTION READ ONLY").execute(conn).await?;
    }
    Ok(())
}

/// Whether the server knows `JSON_TABLE` and `SKIP LOCKED`.
fn is_new_enough(version: &str) -> bool {
    // Old clients were told `5.5.5-` before the version of a MariaDB.
    let version = version.strip_prefix("5.5.5-").unwrap_or(version);
    let mut numbers = version.split(['.', '-']).map(|part| part.parse::<u32>().unwrap_or_default());
    let number = (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default());
    number >= if version.contains("MariaDB") { (10, 6) } else { (8, 0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        for good in
            ["10.11.19-MariaDB-0+deb12u1", "10.6.0-MariaDB", "5.5.5-10.11.2-MariaDB-log", "8.0.36", "11.4.2-MariaDB"]
        {
            assert!(is_new_enough(good), "{good}");
        }
        for old in ["10.5.23-MariaDB", "5.7.44-log", "5.5.5-10.3.39-MariaDB", "nonsense"] {
            assert!(!is_new_enough(old), "{old}");
        }
    }

    #[test]
    fn a_place_has_no_password() {
        let address = Address::parse("mysql://ada:secret@db.example:3307/queue", false).expect("an address");
        assert_eq!(address.place(), "mysql://db.example:3307/queue");
        for wrong in ["mysql://ada:secret@db.example", "secret"] {
            let refused = Address::parse(wrong, false).expect_err("no address of a database");
            assert!(matches!(&refused, StoreError::Rejected(why) if !why.contains("secret")), "{refused}");
        }
    }
}
