//! Connections: how many, how they are opened, what each session is told first,
//! and when one is not used again.
//!
//! Every error of a session passes [`Server::tell`] or [`Server::undone`], which
//! condemn what `fault` blames. Its invariant: a session relies on no default
//! of the server, the database or the user but one, whether it may write.

use std::str::FromStr as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPool, PgPoolOptions};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Postgres, Row as _, SqlSafeStr};

use super::fault::Fault;
use crate::store::StoreError;
use crate::store::group::Undone;
use crate::store::sessions::Sessions;
use crate::store::unreached::{Unreached, WhyNone};

/// How long a caller waits for a connection.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// After so long without an answer to a statement its connection is given up: a
/// server that is silent for so long is out of reach.
pub(super) const LONGEST: Duration = Duration::from_secs(20);

/// A connection that rested for longer is asked whether it still stands.
const FRESH: Duration = Duration::from_secs(1);

/// For so long it may think about that.
const PROBE: Duration = Duration::from_secs(2);

/// A server, and the connections to one of its databases.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) pool: PgPool,
    /// For listening, beside the pool.
    pub(super) ears: PgPool,
    /// Which sessions of both may be used.
    pub(super) sessions: Arc<Sessions>,
    /// Why there was no connection in time.
    unreached: Unreached,
    /// Whether a disk of the server was full, and nothing has shown since that it
    /// has room again.
    pub(super) was_full: AtomicBool,
    /// Whether the server is told to refuse changes.
    pub(super) read_only: bool,
    /// How to connect where a pooler takes no settings with that.
    plain: PgConnectOptions,
    /// What every session is set to.
    settings: Settings,
    /// Whether the URL says in which schema the tables are.
    pub(super) has_search_path: bool,
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
        let has_search_path = options.get_options().is_some_and(|options| options.contains("search_path"));
        let options = match options.get_application_name() {
            Some(_) => options,
            None => options.application_name("sweepd"),
        };
        let settings = Settings::new(read_only);
        // With them a session is right from its first statement on.
        let told = options.clone().options(settings.all());
        let sessions = Arc::new(Sessions::default());
        let ears = pool(&sessions, &settings, 1).max_lifetime(None).idle_timeout(None).connect_lazy_with(told.clone());
        let pool = pool(&sessions, &settings, max_connections.max(1)).connect_lazy_with(told);
        let was_full = AtomicBool::new(false);
        let unreached = Unreached::default();
        let plain = options;
        Ok(Self { pool, ears, sessions, unreached, was_full, read_only, plain, settings, has_search_path, place })
    }

    /// Makes all later sessions look for tables where this one does, whatever
    /// the user's or the database's search path becomes.
    pub(super) async fn keep_search_path(&self) -> Result<(), StoreError> {
        let sql = "SELECT string_agg(quote_ident(name), ', ' ORDER BY nth)
                   FROM unnest(current_schemas(false)) WITH ORDINALITY AS path (name, nth)";
        let path: Option<String> =
            sqlx::query_scalar(sql).fetch_one(&mut *self.free().await?).await.map_err(|error| self.tell(error))?;
        if let Some(path) = path {
            self.settings.add("search_path", path);
        }
        Ok(())
    }

    /// Connects once beside the pool, which would only say that nothing came in
    /// time: why the server cannot be reached is what a person has to know.
    async fn reach(&self) -> Result<(), Fault> {
        let options = self.pool.connect_options();
        let connect = tokio::time::timeout(PATIENCE, options.connect());
        let conn = connect.await.map_err(|_| Fault::Silent(PATIENCE)).and_then(|conn| Ok(conn?));
        // It has done its work, however it ends.
        conn.map(drop)
    }

    /// Makes sure that a session is one: whoever stands between may refuse its
    /// settings, which are made after connecting then, or give each transaction
    /// another session, which is refused. The first call on a server.
    pub(super) async fn must_have_sessions(&self) -> Result<(), StoreError> {
        match self.reach().await {
            Err(Fault::Sql(error)) if refuses_settings(&error) => {
                tracing::info!("{}: a pooler takes no settings with a connection, they are made after it", self.place);
                for pool in [&self.pool, &self.ears] {
                    pool.set_connect_options(self.plain.clone().extra_float_digits(None));
                }
            }
            reached => reached.map_err(|fault| fault.about(&self.place))?,
        }
        let mut first = self.free().await?;
        let mut other = self.of(&self.ears).await.map_err(|fault| self.tell(fault))?;
        let kept = is_kept(&mut first, &mut other).await;
        // The bell listens with one of its own, later: no more than the pool's are left.
        let _ = other.close().await;
        match kept {
            Ok(true) => Ok(()),
            Ok(false) => Err(self.is_no_session()),
            Err(error) if error.to_string().contains("statement pooling") => Err(self.is_no_session()),
            Err(error) => Err(self.tell(error)),
        }
    }

    fn is_no_session(&self) -> StoreError {
        StoreError::Incompatible(format!(
            "{}: a pooler there gives each transaction another session (transaction or statement pooling), and sweepd \
             relies on what its sessions are set to; name PostgreSQL itself in `database.url`, or a pool of whole \
             sessions (pgbouncer: pool_mode = session)",
            self.place
        ))
    }

    /// A connection, once one is free.
    pub(super) async fn connection(&self) -> Result<PoolConnection<Postgres>, Fault> {
        self.of(&self.pool).await
    }

    async fn of(&self, pool: &PgPool) -> Result<PoolConnection<Postgres>, Fault> {
        match pool.acquire().await {
            Err(sqlx::Error::PoolTimedOut) => Err(self.why_none().await),
            acquired => Ok(acquired?),
        }
    }

    /// Why there was no connection in time: the pool only says that there was none,
    /// and hides that the server refuses them.
    async fn why_none(&self) -> Fault {
        match self.unreached.why(PROBE, PgConnection::connect_with(&self.pool.connect_options())).await {
            WhyNone::InUse => sqlx::Error::PoolTimedOut.into(),
            WhyNone::Refused(why) => Fault::Unreached(why),
            WhyNone::Silent => Fault::Silent(PATIENCE + PROBE),
        }
    }

    async fn free(&self) -> Result<PoolConnection<Postgres>, StoreError> {
        self.connection().await.map_err(|fault| self.tell(fault))
    }

    /// Makes sure that the server refuses changes, as it was told to: what
    /// stands between may have kept that to itself.
    pub(super) async fn must_refuse_changes(&self) -> Result<(), StoreError> {
        let mut conn = self.free().await?;
        if super::sql::takes_writes(&mut conn).await.map_err(|fault| self.tell(fault))? {
            return Err(StoreError::Unavailable(format!(
                "{}: the server was told to refuse changes, and takes them; connect to it without a pooler in between",
                self.place
            )));
        }
        Ok(())
    }

    /// Says so when the server is set to lose what it acknowledged.
    pub(super) async fn warn_of_losses(&self) -> Result<(), StoreError> {
        let sql = "SELECT current_setting('fsync'), current_setting('synchronous_commit'),
                          current_setting('full_page_writes')";
        let row = sqlx::query(sql).fetch_one(&mut *self.free().await?).await.map_err(|error| self.tell(error))?;
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
        let fault = fault.into();
        self.judge(&fault);
        fault.about(&self.place)
    }

    /// Why a transaction did not end in an answer. `committing`: the commit was
    /// sent.
    pub(super) fn undone(&self, fault: &Fault, committing: bool) -> Undone {
        self.judge(fault);
        fault.undone(&self.place, committing)
    }

    /// Gives up all sessions that are as old as one in a wrong state: what made
    /// it so, such as a failover, made others so, too.
    fn judge(&self, fault: &Fault) {
        if fault.is_full() {
            self.was_full.store(true, Ordering::Relaxed);
        }
        if fault.costs_session() && self.sessions.condemn() {
            tracing::warn!("{}: {fault}; sweepd opens its connections anew", self.place);
        }
    }
}

/// Connections of which none is lent out that was condemned, or does not answer.
fn pool(sessions: &Arc<Sessions>, settings: &Settings, max_connections: u32) -> PgPoolOptions {
    let (lent, returned, settings) = (Arc::clone(sessions), Arc::clone(sessions), settings.clone());
    PgPoolOptions::new()
        .max_connections(max_connections)
        .acquire_timeout(PATIENCE)
        .test_before_acquire(false)
        .after_connect(move |conn, _| {
            let settings = settings.all();
            Box::pin(async move { set_up(conn, &settings).await })
        })
        .before_acquire(move |conn, session| {
            let sessions = Arc::clone(&lent);
            Box::pin(async move {
                if !sessions.keep(session.age) {
                    return Ok(false);
                }
                if session.idle_for > FRESH
                    && let Err(error) = probe(conn).await
                {
                    // Others that rested are not asked one by one.
                    sessions.condemn();
                    return Err(error);
                }
                Ok(true)
            })
        })
        .after_release(move |_, session| {
            let keep = returned.keep(session.age);
            Box::pin(async move { Ok(keep) })
        })
}

/// Asks whether the server still answers on this connection.
async fn probe(conn: &mut PgConnection) -> Result<(), sqlx::Error> {
    let answered = tokio::time::timeout(PROBE, conn.ping()).await;
    answered.unwrap_or_else(|_| Err(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into())))
}

fn place(options: &PgConnectOptions) -> String {
    let database = options.get_database().unwrap_or_else(|| options.get_username());
    match options.get_socket() {
        Some(socket) => format!("PostgreSQL at {}/{database}", socket.display()),
        None => format!("PostgreSQL at {}:{}/{database}", options.get_host(), options.get_port()),
    }
}

/// Whether somebody in between does not take the settings that come with a
/// connection.
fn refuses_settings(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Database(error) if error.message().contains("unsupported startup parameter"))
}

/// Whether two connections are two sessions, each its own: what the first sets
/// stays with it, while the other is in a transaction. By the simple protocol, for
/// nothing is prepared where nothing is kept.
async fn is_kept(first: &mut PgConnection, other: &mut PgConnection) -> Result<bool, sqlx::Error> {
    const LOOK: &str = "SELECT pg_backend_pid(), coalesce(current_setting('sweepd.session', true), '')";
    let nonce = format!("{:016x}", fastrand::u64(..));
    let set = format!("SELECT pg_backend_pid(), set_config('sweepd.session', '{nonce}', false)");
    let before = look(&mut *first, AssertSqlSafe(set)).await?;
    sqlx::raw_sql("BEGIN").execute(&mut *other).await?;
    let others = look(&mut *other, LOOK).await?;
    let after = look(&mut *first, LOOK).await?;
    sqlx::raw_sql("ROLLBACK").execute(other).await?;
    Ok(before == after && others.1 != nonce && others.0 != after.0)
}

/// The server's process, and a word.
async fn look(conn: &mut PgConnection, sql: impl SqlSafeStr) -> Result<(i32, String), sqlx::Error> {
    let rows = sqlx::raw_sql(sql).fetch_all(conn).await?;
    let row = rows.first().ok_or(sqlx::Error::RowNotFound)?;
    Ok((row.try_get(0)?, row.try_get(1)?))
}

/// What every session is set to: at its beginning, so that it counts for more
/// than what the server, the database and the user are set to.
///
/// Whether it may write is not among it, except for who only looks: a server that
/// is set to be read only must not be written.
///
/// All statements go by an index. Plans are kept, and one that was made while a
/// table was small would otherwise scan it when it has grown: hash joins and
/// scans of whole tables are only taken where nothing else can answer.
///
/// The encoding, the time zone and the style of dates are set by the driver.
#[derive(Clone, Debug)]
struct Settings(Arc<Mutex<Vec<(&'static str, String)>>>);

impl Settings {
    const ALWAYS: [(&'static str, &'static str); 15] = [
        ("default_transaction_isolation", "read committed"),
        ("default_transaction_deferrable", "off"),
        ("standard_conforming_strings", "on"),
        ("enable_seqscan", "off"),
        ("enable_bitmapscan", "off"),
        ("enable_hashjoin", "off"),
        ("enable_mergejoin", "off"),
        ("enable_nestloop", "on"),
        ("enable_indexscan", "on"),
        ("enable_indexonlyscan", "on"),
        ("plan_cache_mode", "auto"),
        ("jit", "off"),
        // A node that was stopped in the middle holds up nobody for longer.
        ("idle_in_transaction_session_timeout", "5s"),
        ("lock_timeout", "10s"),
        // Nobody waits for its answer for so long.
        ("statement_timeout", "30s"),
    ];

    fn new(read_only: bool) -> Self {
        let mut all: Vec<_> = Self::ALWAYS.map(|(name, value)| (name, value.to_owned())).into();
        if read_only {
            all.push(("default_transaction_read_only", "on".to_owned()));
        }
        Self(Arc::new(Mutex::new(all)))
    }

    fn all(&self) -> Vec<(&'static str, String)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// For sessions that begin from now on.
    fn add(&self, name: &'static str, value: String) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push((name, value));
    }
}

/// Sets what did not come with the connection, and what only later versions of the
/// server know.
async fn set_up(conn: &mut PgConnection, settings: &[(&'static str, String)]) -> Result<(), sqlx::Error> {
    let quoted = |text: &str| format!("'{}'", text.replace('\'', "''"));
    let wanted: Vec<_> =
        settings.iter().map(|(name, value)| format!("({}, {})", quoted(name), quoted(value))).collect();
    let sql = format!(
        "SELECT set_config(name, value, false) FROM (VALUES {}) AS wanted (name, value)
         WHERE current_setting(name, true) IS DISTINCT FROM value
         UNION ALL
         SELECT set_config(name, '0', false) FROM pg_settings
         WHERE name IN ('idle_session_timeout', 'transaction_timeout') AND setting <> '0'",
        wanted.join(", ")
    );
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(conn).await?;
    Ok(())
}
