//! PostgreSQL: one database, any number of nodes.
//!
//! Every write is one transaction, and mostly one statement; many rows travel
//! as arrays. Enqueues share commits (`store::group`); write-backs
//! come in batches already. The SQL knows rules beyond the trait's: a claim
//! changes no indexed column; whoever locks several tasks does so in the order
//! of their numbers; a fence is taken when its rows are locked; the clock is
//! the server's, read in the statement or with its transaction's BEGIN.
//!
//! | module | what it owns |
//! |---|---|
//! | `pool`, `migrate`, `fault` | connections and their settings, the schema, errors |
//! | `writing` | transactions, and how often they are tried |
//! | `enqueue`, `requests`, `claim`, `finish`, `ending`, `nodes`, `plan`, `jobs`, `intervene`, `prune` | one command each, and what they share |
//! | `list`, `backlog` | reading |
//! | `listen` | hearing of what other nodes queue |

use std::collections::HashSet;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use sqlx::Row as _;
use sqlx::pool::PoolConnection;
use tokio::sync::{Semaphore, SemaphorePermit};

use self::claim::Ticket;
use self::enqueue::{Enqueue, Enqueues};
use self::fault::Fault;
use self::listen::Ears;
use self::pool::{PATIENCE, Server};
use self::writing::{Command, write};
use super::group::{Group, closed};
use super::{
    ApplyPlan, At, Cancellation, Claim, ClaimDue, EnqueueOnce, Heartbeat, Incarnation, Intervene, JobRow, Once,
    PlanApplied, Prune, Pruned, Reaped, ScanLease, Store, StoreError, TakeScan, TaskFilter, WriteBack,
};
use crate::domain::digest::Digest;
use crate::domain::intervention::Intervened;
use crate::domain::job::{JobId, JobName};
use crate::domain::node::{LeaseTerm, NewNode, NodeId, NodeView};
use crate::domain::outcome::Finished;
use crate::domain::status::Backlog;
use crate::domain::task::{AttemptView, Enqueued, Fence, NewTask, TaskId, TaskView};
use crate::domain::time::Timestamp;

mod backlog;
mod claim;
mod ending;
mod enqueue;
mod fault;
mod finish;
mod intervene;
mod jobs;
mod list;
mod listen;
mod migrate;
mod nodes;
mod plan;
mod pool;
mod prune;
mod requests;
mod sql;
mod writing;

/// How a database is opened.
#[derive(Clone, Debug)]
pub struct PostgresOptions {
    /// The most connections, at least one; one more listens. Callers beyond
    /// them wait, for 5 s at most.
    pub max_connections: u32,
    /// Whether to bring the schema up to date, or to refuse an older one.
    pub migrate: bool,
}

impl Default for PostgresOptions {
    fn default() -> Self {
        Self { max_connections: 8, migrate: true }
    }
}

/// A queue in one PostgreSQL database.
pub struct PostgresStore {
    shared: Arc<Shared>,
    enqueues: Group<Enqueues>,
    ears: Ears,
}

/// What all parts of a store use.
struct Shared {
    server: Server,
    /// Reads leave most connections to claims and write-backs.
    reads: Semaphore,
    /// By which the store knows its own notifications.
    voice: String,
    /// The life that was begun here last; 0 before.
    life: AtomicI64,
    /// Jobs that exist.
    jobs: Mutex<HashSet<i64>>,
    /// Claims whose answer was lost, until they are voided.
    doubtful: Mutex<Vec<Ticket>>,
}

impl Shared {
    fn life(&self) -> i64 {
        self.life.load(Ordering::Relaxed)
    }

    fn knows(&self, job: JobId) -> bool {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner).contains(&job.0)
    }

    fn learn(&self, job: JobId) {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner).insert(job.0);
    }

    fn doubtful(&self) -> MutexGuard<'_, Vec<Ticket>> {
        self.doubtful.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection to read with.
    async fn reader(&self) -> Result<Reader<'_>, StoreError> {
        let turn = tokio::time::timeout(PATIENCE, self.reads.acquire()).await;
        let turn = turn.map_err(|_| self.server.tell(sqlx::Error::PoolTimedOut))?.map_err(|_| closed())?;
        let conn = self.server.connection().await.map_err(|fault| self.server.tell(fault))?;
        Ok(Reader { conn, _turn: turn })
    }

    fn tell(&self, fault: Fault) -> StoreError {
        self.server.tell(fault)
    }
}

struct Reader<'a> {
    conn: PoolConnection<sqlx::Postgres>,
    _turn: SemaphorePermit<'a>,
}

impl PostgresStore {
    /// Opens the database that `url` names (`postgres://user@host/database`),
    /// and brings its schema up to date. Cancel safe.
    ///
    /// [`StoreError::Unavailable`] when the server cannot be reached now;
    /// [`StoreError::Incompatible`] when the schema is a newer version's,
    /// another program's, or older and not to be changed;
    /// [`StoreError::Rejected`] when the URL cannot be read.
    pub async fn open(url: &str, options: PostgresOptions) -> Result<Self, StoreError> {
        let server = Server::at(url, options.max_connections)?;
        if options.migrate {
            migrate::migrate(&server).await?;
        } else {
            must_be_current(&server).await?;
        }
        server.warn_of_losses().await?;
        let readers = (options.max_connections as usize / 4).max(1);
        let shared = Arc::new(Shared {
            server,
            reads: Semaphore::new(readers),
            voice: format!("{:032x}", fastrand::u128(..)),
            life: AtomicI64::new(0),
            jobs: Mutex::default(),
            doubtful: Mutex::default(),
        });
        let enqueues = Group::start(Enqueues(Arc::clone(&shared)));
        Ok(Self { shared, enqueues, ears: Ears::default() })
    }

    /// The names of the migrations that [`Self::open`] would apply to the
    /// database, oldest first; nothing is changed. Errors as there.
    pub async fn pending_migrations(url: &str) -> Result<Vec<String>, StoreError> {
        let server = Server::at(url, 1)?;
        let pending = migrate::pending(&server).await;
        server.pool.close().await;
        pending
    }
}

async fn must_be_current(server: &Server) -> Result<(), StoreError> {
    let pending = migrate::pending(server).await?;
    if pending.is_empty() {
        return Ok(());
    }
    Err(StoreError::Incompatible(format!("{} lacks {}; run `sweepd migrate`", server.place, pending.join(", "))))
}

#[async_trait]
impl Store for PostgresStore {
    async fn now(&self, at: At) -> Result<Timestamp, StoreError> {
        match at {
            At::Fixed(time) => Ok(time),
            At::Server => {
                let mut reader = self.shared.reader().await?;
                let row = sqlx::query(concat!("SELECT ", sql::server_now!())).fetch_one(&mut *reader.conn).await;
                let now = row.and_then(|row| row.try_get(0)).map_err(|error| self.shared.tell(error.into()))?;
                Ok(sql::time(now))
            }
        }
    }

    async fn check(&self) -> Result<(), StoreError> {
        let mut reader = self.shared.reader().await?;
        let sql = "SELECT current_setting('transaction_read_only'), (SELECT min(id) FROM jobs)";
        let row = sqlx::query(sql).fetch_one(&mut *reader.conn).await;
        let row = row.map_err(|error| self.shared.tell(error.into()))?;
        match row.try_get(0).map_err(|error| self.shared.tell(error.into()))? {
            "off" => Ok(()),
            _ => Err(self.shared.tell(Fault::ReadOnly)),
        }
    }

    async fn begin_incarnation(&self, node: NewNode, at: At) -> Result<Incarnation, StoreError> {
        let begun = write(&self.shared, &nodes::Begin { node, at }).await?;
        self.shared.life.store(begun.node.0, Ordering::Relaxed);
        Ok(begun)
    }

    async fn heartbeat(&self, node: NodeId, lease: LeaseTerm, at: At) -> Result<Heartbeat, StoreError> {
        write(&self.shared, &nodes::Beat { node, lease, at }).await
    }

    async fn end_incarnation(&self, node: NodeId, at: At) -> Result<(), StoreError> {
        write(&self.shared, &nodes::Finish { node, at }).await
    }

    async fn reap(&self, at: At) -> Result<Reaped, StoreError> {
        let nodes = write(&self.shared, &nodes::EndLeases(at)).await?;
        let mut reaped = Reaped { nodes, tasks: 0 };
        loop {
            let taken = write(&self.shared, &nodes::TakeOver(at)).await?;
            reaped.tasks += taken.tasks;
            if !taken.more {
                return Ok(reaped);
            }
        }
    }

    async fn release_unheld(&self, node: NodeId, job: JobId, held: &[Fence], at: At) -> Result<u64, StoreError> {
        let doubtful = self.shared.doubtful().clone();
        if !doubtful.is_empty() {
            write(&self.shared, &claim::Void(doubtful.clone())).await?;
            self.shared.doubtful().retain(|ticket| !doubtful.contains(ticket));
        }
        write(&self.shared, &nodes::ReleaseUnheld { node, job, held: held.to_vec(), at }).await
    }

    async fn cancellations(&self, node: NodeId) -> Result<Vec<Cancellation>, StoreError> {
        let mut reader = self.shared.reader().await?;
        list::cancellations(&mut reader.conn, node).await.map_err(|fault| self.shared.tell(fault))
    }

    async fn nodes(&self, _: At) -> Result<Vec<NodeView>, StoreError> {
        let mut reader = self.shared.reader().await?;
        list::nodes(&mut reader.conn).await.map_err(|fault| self.shared.tell(fault))
    }

    async fn register_job(&self, name: &JobName) -> Result<JobRow, StoreError> {
        write(&self.shared, &jobs::RegisterJob(name.clone())).await
    }

    async fn jobs(&self) -> Result<Vec<JobRow>, StoreError> {
        let mut reader = self.shared.reader().await?;
        jobs::jobs(&mut reader.conn).await.map_err(|fault| self.shared.tell(fault))
    }

    async fn set_paused(&self, job: JobId, reason: Option<&str>) -> Result<(), StoreError> {
        write(&self.shared, &jobs::SetPaused { job, reason: reason.map(str::to_owned) }).await
    }

    async fn take_scan(&self, take: TakeScan, _: At) -> Result<ScanLease, StoreError> {
        write(&self.shared, &take).await
    }

    async fn give_up_scan(&self, job: JobId, node: NodeId) -> Result<(), StoreError> {
        write(&self.shared, &jobs::GiveUpScan { job, node }).await
    }

    async fn enqueue(&self, job: JobId, tasks: Vec<NewTask>, at: At) -> Result<Vec<Enqueued>, StoreError> {
        self.enqueues.ask(Enqueue { job, tasks, at }).await
    }

    async fn enqueue_once(&self, ask: EnqueueOnce, at: At) -> Result<Once, StoreError> {
        write(&self.shared, &requests::EnqueueOnceAt { ask, at }).await
    }

    async fn claim_due(&self, claim: ClaimDue) -> Result<Option<Claim>, StoreError> {
        claim::claim(&self.shared, &claim).await
    }

    async fn finish(&self, write_back: WriteBack, at: At) -> Result<Vec<Finished>, StoreError> {
        write(&self.shared, &finish::FinishAll { write_back, at }).await
    }

    async fn apply_plan(&self, plan: ApplyPlan, at: At) -> Result<PlanApplied, StoreError> {
        write(&self.shared, &plan::Apply { plan, at }).await
    }

    async fn cursor(&self, job: JobId, digest: Digest) -> Result<Option<String>, StoreError> {
        let mut reader = self.shared.reader().await?;
        jobs::cursor(&mut reader.conn, job, digest).await.map_err(|fault| self.shared.tell(fault))
    }

    async fn intervene(&self, ask: Intervene, at: At) -> Result<Vec<Intervened>, StoreError> {
        write(&self.shared, &intervene::InterveneAt { ask, at }).await
    }

    async fn backlog(&self, job: JobId, at: At) -> Result<Backlog, StoreError> {
        let now = self.now(at).await?;
        let mut reader = self.shared.reader().await?;
        backlog::backlog(&mut reader.conn, job, now).await.map_err(|fault| self.shared.tell(fault))
    }

    async fn tasks(&self, filter: TaskFilter) -> Result<Vec<TaskView>, StoreError> {
        let mut reader = self.shared.reader().await?;
        list::tasks(&mut reader.conn, &filter).await.map_err(|fault| self.shared.tell(fault))
    }

    async fn task(&self, id: TaskId) -> Result<Option<TaskView>, StoreError> {
        let mut reader = self.shared.reader().await?;
        list::task(&mut reader.conn, id).await.map_err(|fault| self.shared.tell(fault))
    }

    async fn attempts(&self, id: TaskId) -> Result<Vec<AttemptView>, StoreError> {
        let mut reader = self.shared.reader().await?;
        list::attempts(&mut reader.conn, id).await.map_err(|fault| self.shared.tell(fault))
    }

    async fn next_due(&self, job: JobId) -> Result<Option<Timestamp>, StoreError> {
        let mut reader = self.shared.reader().await?;
        backlog::next_due(&mut reader.conn, job).await.map_err(|fault| self.shared.tell(fault))
    }

    async fn prune(&self, prune: Prune, at: At) -> Result<Pruned, StoreError> {
        write(&self.shared, &prune::PruneAt { prune, at }).await
    }

    async fn woken(&self) {
        self.ears.wait(&self.shared).await;
    }

    async fn close(&self) {
        self.enqueues.close().await;
        self.ears.close();
        // A connection that does not answer any more is not waited for.
        let closing = async { tokio::join!(self.shared.server.pool.close(), self.shared.server.ears.close()) };
        let _ = tokio::time::timeout(PATIENCE, closing).await;
    }
}
