//! The server: a bounded number of connections, each set up alike, and when one
//! is not used again.
//!
//! Every error of a session passes [`Server::tell`] or [`Server::undone`], which
//! condemn what `fault` blames.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sqlx::mysql::MySqlPoolOptions;
use sqlx::pool::PoolConnection;
use sqlx::{Connection as _, MySql, MySqlConnection, MySqlPool};
use tokio::sync::Semaphore;

use super::address::{Address, set_up};
use super::fault::Fault;
use crate::store::StoreError;
use crate::store::group::Undone;
use crate::store::sessions::Sessions;
use crate::store::unreached::{Unreached, WhyNone};

/// How long a caller waits for a free connection, or for the server to take
/// one.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// How long a transaction or a read may take before its connection is given
/// up: a server that is silent for so long is out of reach.
pub(super) const LONGEST: Duration = Duration::from_secs(20);

/// Unused connections are closed after this time.
const IDLE: Duration = Duration::from_mins(10);

/// A connection that rested for longer is asked whether it still stands.
const FRESH: Duration = Duration::from_secs(1);

/// For so long it may think about that.
const PROBE: Duration = Duration::from_secs(2);

/// The way to the server.
#[derive(Debug)]
pub(super) struct Server {
    pool: MySqlPool,
    /// Which sessions of the pool may be used.
    sessions: Arc<Sessions>,
    /// Why there was no connection in time.
    unreached: Unreached,
    /// Reads take at most half of the connections, so that claims never wait
    /// for them; a reader beyond waits for as long as for a connection.
    reads: Semaphore,
    place: String,
    read_only: bool,
    /// Whether a disk of the server was full, and nothing has shown since that it
    /// has room again.
    pub(super) was_full: AtomicBool,
}

impl Server {
    /// Connects lazily: the pool is empty until something is asked.
    pub(super) fn new(address: &Address, max_connections: u32) -> Self {
        let (max_connections, read_only) = (max_connections.max(2), address.read_only());
        let sessions = Arc::new(Sessions::default());
        let (lent, returned) = (Arc::clone(&sessions), Arc::clone(&sessions));
        let pool = MySqlPoolOptions::new()
            .max_connections(max_connections)
            .acquire_timeout(PATIENCE)
            .idle_timeout(IDLE)
            .test_before_acquire(false)
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
            .after_connect(move |conn, _| Box::pin(set_up(conn, read_only)))
            .connect_lazy_with(address.options());
        let reads = usize::try_from(max_connections / 2).unwrap_or(1);
        let (reads, place) = (Semaphore::new(reads), address.place().to_owned());
        let (unreached, was_full) = (Unreached::default(), AtomicBool::new(false));
        Self { pool, sessions, unreached, reads, place, read_only, was_full }
    }

    /// Server and database, for people.
    pub(super) fn place(&self) -> &str {
        &self.place
    }

    /// Whether the server is told to refuse changes.
    pub(super) fn read_only(&self) -> bool {
        self.read_only
    }

    /// A connection, once one is free.
    pub(super) async fn lease(&self) -> Result<Lease, Fault> {
        match self.pool.acquire().await {
            Err(sqlx::Error::PoolTimedOut) => Err(self.why_none().await),
            acquired => Ok(Lease { conn: acquired?, clean: false }),
        }
    }

    /// Why there was no connection in time: the pool only says that there was none,
    /// and hides that the server refuses them.
    async fn why_none(&self) -> Fault {
        match self.unreached.why(PROBE, MySqlConnection::connect_with(&self.pool.connect_options())).await {
            WhyNone::InUse => sqlx::Error::PoolTimedOut.into(),
            WhyNone::Refused(why) => Fault::Unreached(why),
            WhyNone::Silent => Fault::Silent(PATIENCE + PROBE),
        }
    }

    /// Reads with one connection, outside of a transaction; once more where its
    /// session is gone or in a wrong state.
    pub(super) async fn read<T, F>(&self, read: F) -> Result<T, StoreError>
    where
        F: AsyncFnOnce(&mut MySqlConnection) -> Result<T, Fault> + Clone,
    {
        let timed_out = |_| Fault::from(sqlx::Error::PoolTimedOut);
        let mut is_first = true;
        loop {
            let answer = async {
                let _permit = tokio::time::timeout(PATIENCE, self.reads.acquire()).await.map_err(timed_out)?;
                let mut lease = self.lease().await?;
                let answer = tokio::time::timeout(LONGEST, read.clone()(&mut lease.conn)).await;
                let answer = answer.unwrap_or(Err(Fault::Silent(LONGEST)))?;
                lease.give_back();
                Ok(answer)
            };
            match answer.await {
                Ok(answer) => return Ok(answer),
                Err(fault) => {
                    let fault: Fault = fault;
                    let may_repeat = is_first && fault.costs_session() && !matches!(fault, Fault::Silent(_));
                    let error = self.tell(&fault);
                    if !may_repeat {
                        return Err(error);
                    }
                }
            }
            is_first = false;
        }
    }

    /// An error of a read, or of a write that was not begun.
    pub(super) fn tell(&self, fault: &Fault) -> StoreError {
        self.judge(fault);
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

    /// Closes all connections, when what is under way on them is done.
    pub(super) async fn close(&self) {
        self.pool.close().await;
    }
}

/// Asks whether the server still answers on this connection.
async fn probe(conn: &mut MySqlConnection) -> Result<(), sqlx::Error> {
    let answered = tokio::time::timeout(PROBE, conn.ping()).await;
    answered.unwrap_or_else(|_| Err(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into())))
}

/// A connection in use. One that is dropped in the middle is closed: an answer
/// left unread in it would be taken for that of the next statement, and the
/// server rolls back what was open on it.
pub(super) struct Lease {
    conn: PoolConnection<MySql>,
    clean: bool,
}

impl Lease {
    pub(super) fn conn(&mut self) -> &mut MySqlConnection {
        &mut self.conn
    }

    /// Everything asked on it was answered, and no transaction is open.
    pub(super) fn give_back(mut self) {
        self.clean = true;
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if !self.clean {
            self.conn.close_on_drop();
        }
    }
}
