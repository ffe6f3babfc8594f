//! Connections: how many, how they are opened, and what each is told first.

use std::str::FromStr as _;
use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::{Connection as _, Postgres, Row as _};

use super::fault::Fault;
use crate::store::StoreError;

/// How long a caller waits for a connection.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// A connection that rested for longer is asked whether it still stands.
const FRESH: Duration = Duration::from_secs(1);

/// A server, and the connections to one of its databases.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) pool: PgPool,
    /// For listening, beside the pool.
    pub(super) ears: PgPool,
    /// Whether the server is told to refuse changes.
    pub(super) read_only: bool,
    /// `PostgreSQL at host:port/database`.
    pub(super) place: String,
}

impl Server {
    /// Prepares connections without making one.
    pub(super) fn at(url: &str, max_connections: u32, read_only: bool) -> Result<Self, StoreError> {
        let options = PgConnectOptions::from_str(url).map_err(|error| {
            StoreError::Rejected(format!("the URL of the PostgreSQL database cannot be read: {error}"))
        })?;
        let place = place(&options);
        let options = configured(options);
        let options = if read_only { options.options([("default_transaction_read_only", "on")]) } else { options };
        let ears = PgPoolOptions::new()
            .max_connections(1)
            .acquire_timeout(PATIENCE)
            .max_lifetime(None)
            .idle_timeout(None)
            .connect_lazy_with(options.clone());
        let pool = PgPoolOptions::new()
            .max_connections(max_connections.max(1))
            .acquire_timeout(PATIENCE)
            .test_before_acquire(false)
            .before_acquire(|conn, rested| {
                Box::pin(async move {
                    if rested.idle_for > FRESH {
                        conn.ping().await?;
                    }
                    Ok(true)
                })
            })
            .connect_lazy_with(options);
        Ok(Self { pool, ears, read_only, place })
    }

    /// A connection, once one is free.
    pub(super) async fn connection(&self) -> Result<PoolConnection<Postgres>, Fault> {
        Ok(self.pool.acquire().await?)
    }

    /// Makes sure that the server refuses changes, as it was told to: what
    /// stands between may have kept that to itself.
    pub(super) async fn must_refuse_changes(&self) -> Result<(), StoreError> {
        let mut conn = self.connection().await.map_err(|fault| self.tell(fault))?;
        if super::sql::takes_writes(&mut conn).await.map_err(|fault| self.tell(fault))? {
            return Err(StoreError::Unavailable(format!(
                "{}: the server was not told to refuse changes; connect to it without a pooler in between, which \
                 drops `default_transaction_read_only`",
                self.place
            )));
        }
        Ok(())
    }

    /// Says so when the server is set to lose what it acknowledged.
    pub(super) async fn warn_of_losses(&self) -> Result<(), StoreError> {
        let sql = "SELECT current_setting('fsync'), current_setting('synchronous_commit'),
                          current_setting('full_page_writes')";
        let row = sqlx::query(sql).fetch_one(&self.pool).await.map_err(|error| self.tell(error))?;
        for (column, setting) in ["fsync", "synchronous_commit", "full_page_writes"].into_iter().enumerate() {
            let value: String = row.try_get(column).map_err(|error| self.tell(error))?;
            if value == "off" {
                tracing::warn!(
                    "{}: `{setting}` is off there, so that a crash of the server may lose tasks that sweepd \
                     acknowledged; set it to on",
                    self.place
                );
            }
        }
        Ok(())
    }

    /// An error of a read, or of a write that was not begun.
    pub(super) fn tell(&self, fault: impl Into<Fault>) -> StoreError {
        fault.into().about(&self.place)
    }
}

fn place(options: &PgConnectOptions) -> String {
    let database = options.get_database().unwrap_or_else(|| options.get_username());
    match options.get_socket() {
        Some(socket) => format!("PostgreSQL at {}/{database}", socket.display()),
        None => format!("PostgreSQL at {}:{}/{database}", options.get_host(), options.get_port()),
    }
}

/// What every session is set to.
///
/// All statements go by an index. Plans are kept, and one that was made while a
/// table was small would otherwise scan it when it has grown: hash joins and
/// scans of whole tables are only taken where nothing else can answer.
fn configured(options: PgConnectOptions) -> PgConnectOptions {
    let options = match options.get_application_name() {
        Some(_) => options,
        None => options.application_name("sweepd"),
    };
    options.options([
        ("enable_seqscan", "off"),
        ("enable_bitmapscan", "off"),
        ("enable_hashjoin", "off"),
        ("enable_mergejoin", "off"),
        ("jit", "off"),
        // A node that was stopped in the middle holds up nobody for longer.
        ("idle_in_transaction_session_timeout", "5s"),
        ("lock_timeout", "10s"),
    ])
}
