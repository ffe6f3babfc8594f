//! What all parts of a store use: the server, and what is known of it.

use std::collections::HashSet;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use sqlx::pool::PoolConnection;
use sqlx::postgres::PgConnection;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::claim::Ticket;
use super::fault::Fault;
use super::pool::{LONGEST, PATIENCE, Server};
use crate::domain::job::JobId;
use crate::domain::node::NodeId;
use crate::store::StoreError;
use crate::store::group::closed;

/// What all parts of a store use.
pub(super) struct Shared {
    pub(super) server: Server,
    /// Reads leave most connections to claims and write-backs.
    reads: Semaphore,
    /// By which the store knows its own notifications.
    pub(super) voice: String,
    /// The life that was begun here last; 0 before.
    life: AtomicI64,
    /// Jobs that exist.
    jobs: Mutex<HashSet<i64>>,
    /// Claims whose answer was lost, until they are voided.
    doubtful: Mutex<Vec<Ticket>>,
}

impl Shared {
    pub(super) fn new(server: Server, readers: usize) -> Self {
        Self {
            server,
            reads: Semaphore::new(readers),
            voice: format!("{:032x}", fastrand::u128(..)),
            life: AtomicI64::new(0),
            jobs: Mutex::default(),
            doubtful: Mutex::default(),
        }
    }

    pub(super) fn life(&self) -> i64 {
        self.life.load(Ordering::Relaxed)
    }

    /// A life was begun here.
    pub(super) fn live_as(&self, node: NodeId) {
        self.life.store(node.0, Ordering::Relaxed);
    }

    pub(super) fn knows(&self, job: JobId) -> bool {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner).contains(&job.0)
    }

    pub(super) fn learn(&self, job: JobId) {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner).insert(job.0);
    }

    pub(super) fn doubtful(&self) -> MutexGuard<'_, Vec<Ticket>> {
        self.doubtful.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Refuses a change where the database was opened to be looked at. The
    /// server would, too.
    pub(super) fn must_write(&self) -> Result<(), StoreError> {
        if self.server.read_only { Err(crate::store::read_only(&self.server.place)) } else { Ok(()) }
    }

    /// Reads with a connection, once there is one to read with; once more where
    /// that one's session is gone or in a wrong state.
    pub(super) async fn read<T, F>(&self, read: F) -> Result<T, StoreError>
    where
        F: AsyncFnOnce(&mut PgConnection) -> Result<T, Fault> + Clone,
    {
        let mut is_first = true;
        loop {
            let mut reader = self.reader().await?;
            let answer = tokio::time::timeout(LONGEST, read.clone()(&mut reader.conn)).await;
            if answer.is_err() {
                // The answer may still come, and would be taken for another's.
                reader.conn.close_on_drop();
            }
            match answer.unwrap_or(Err(Fault::Silent(LONGEST))) {
                Ok(answer) => return Ok(answer),
                Err(fault) => {
                    let may_repeat = is_first && fault.costs_session() && !matches!(fault, Fault::Silent(_));
                    let error = self.tell(fault);
                    if !may_repeat {
                        return Err(error);
                    }
                }
            }
            is_first = false;
        }
    }

    /// A connection to read with.
    async fn reader(&self) -> Result<Reader<'_>, StoreError> {
        let turn = tokio::time::timeout(PATIENCE, self.reads.acquire()).await;
        let turn = turn.map_err(|_| self.server.tell(sqlx::Error::PoolTimedOut))?.map_err(|_| closed())?;
        let conn = self.server.connection().await.map_err(|fault| self.server.tell(fault))?;
        Ok(Reader { conn, _turn: turn })
    }

    pub(super) fn tell(&self, fault: Fault) -> StoreError {
        self.server.tell(fault)
    }
}

struct Reader<'a> {
    conn: PoolConnection<sqlx::Postgres>,
    _turn: SemaphorePermit<'a>,
}
