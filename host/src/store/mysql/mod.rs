//! The store on a MariaDB server (10.6 or later), which any number of nodes
//! share; by the subset that MySQL 8 has in common, also on that.
//!
//! Rows are locked by the server for the length of a transaction, and every
//! transaction is short. Concurrent enqueues share one. `READ COMMITTED`: what
//! a transaction has locked it has also read. A claim changes no indexed
//! column. Every statement names its index, so that no plan depends on the
//! server's idea of how large a table is.
//!
//! | module | what it owns |
//! |---|---|
//! | `address`, `server`, `migrate` | where the database is, connections, its schema |
//! | `writing`, `fault` | transactions, how often they are tried, what errors mean |
//! | `numbers`, `sql` | numbers of tasks; values and lists of them as columns and parameters |
//! | `enqueue`, `requests`, `claim`, `finish`, `ending`, `waiting`, `successor`, `nodes`, `batches`, `plan`, `jobs`, `intervene`, `prune` | one command each, and what they share |
//! | `effects`, `holds`, `mounts` | what the guarded sandbox keeps |
//! | `room` | whether a disk that was full has room again |
//! | `list`, `views`, `backlog`, `audit`, `peek` | reading |

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use sqlx::Connection as _;

use self::address::Address;
use self::enqueue::{Enqueue, Enqueues};
use self::numbers::Numbers;
use self::server::Server;
use super::group::Group;
use super::{
    ApplyPlan, At, Cancellation, Claim, ClaimDue, DrawnIn, EffectFilter, EndScan, EnqueueOnce, Forgotten, Heartbeat,
    HoldRemoved, Incarnation, Intervene, JobRow, NewHold, Once, PeekDue, Peeked, PlanApplied, Prune, Pruned, Reaped,
    ScanEnded, ScanLease, Store, StoreError, TakeScan, TaskFilter, WriteBack, turns,
};
use crate::domain::budget::{Changed, Spent};
use crate::domain::digest::Digest;
use crate::domain::effect::{Effect, EffectId, EffectView, Fate};
use crate::domain::hold::{Hold, HoldId};
use crate::domain::intervention::Intervened;
use crate::domain::job::{JobId, JobName};
use crate::domain::node::{LeaseTerm, NewNode, NodeId, NodeView};
use crate::domain::outcome::Finished;
use crate::domain::status::Backlog;
use crate::domain::task::{AttemptView, Enqueued, Fence, NewTask, TaskId, TaskView};
use crate::domain::time::Timestamp;

mod address;
mod audit;
mod backlog;
mod batches;
mod claim;
mod draw_in;
mod effects;
mod ending;
mod enqueue;
mod fault;
mod finish;
mod holds;
mod intervene;
mod jobs;
mod list;
mod migrate;
mod mounts;
mod nodes;
mod numbers;
mod peek;
mod plan;
mod prune;
mod requests;
mod room;
mod server;
mod sql;
mod successor;
mod views;
mod waiting;
mod writing;

/// How a database is opened.
#[derive(Clone, Copy, Debug)]
pub struct MySqlOptions {
    /// The most connections at a time, at least two; half of them may read.
    /// Who needs one more waits 5 s for it and is then told
    /// [`StoreError::Unavailable`].
    pub max_connections: u32,
    /// Whether to bring the schema up to date; without it a database that is
    /// not is [`StoreError::Incompatible`].
    pub migrate: bool,
    /// Only to look at what is there: the server is told to refuse changes,
    /// each is [`StoreError::Rejected`], and the schema is left as it is.
    pub read_only: bool,
    /// How long another one's migration is waited for before that is
    /// [`StoreError::Unavailable`].
    pub patience: Duration,
}

impl Default for MySqlOptions {
    fn default() -> Self {
        Self { max_connections: 8, migrate: true, read_only: false, patience: turns::PATIENCE }
    }
}

/// A queue in one database of a MariaDB server.
pub struct MySqlStore {
    shared: Arc<Shared>,
    enqueues: Group<Enqueues>,
}

impl std::fmt::Debug for MySqlStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("MySqlStore").field(&self.shared.server.place()).finish()
    }
}

/// What all commands use.
struct Shared {
    server: Server,
    numbers: Numbers,
}

impl MySqlStore {
    /// Opens the database that `url` names,
    /// `mysql://user:password@host:port/database`, and brings its schema up to
    /// date. Any number of nodes may do so at once.
    ///
    /// [`StoreError::Unavailable`] when the server cannot be used now,
    /// [`StoreError::Incompatible`] when the database is another program's, a
    /// newer version's, or the server too old, [`StoreError::Rejected`] for
    /// an address that is none. Cancel safe: a migration that was begun is
    /// gone on with by whoever opens the database next.
    pub async fn open(url: &str, options: MySqlOptions) -> Result<Self, StoreError> {
        let address = Address::parse(url, options.read_only)?;
        let mut conn = address.connect().await?;
        if options.migrate && !options.read_only {
            migrate::migrate(&mut conn, &address, options.patience).await?;
        } else {
            migrate::must_be_current(&mut conn, &address).await?;
        }
        address.warn_if_not_durable(&mut conn).await?;
        // It has done its work, however it ends.
        let _ = conn.close().await;
        let server = Server::new(&address, options.max_connections);
        let shared = Arc::new(Shared { server, numbers: Numbers::default() });
        Ok(Self { enqueues: Group::start(Enqueues(Arc::clone(&shared))), shared })
    }

    /// The names of the migrations that opening the database would apply,
    /// without applying them; errors as of [`Self::open`]. Cancel safe: it
    /// only reads.
    pub async fn pending_migrations(url: &str) -> Result<Vec<String>, StoreError> {
        migrate::pending(&Address::parse(url, true)?).await
    }
}

#[async_trait]
impl Store for MySqlStore {
    async fn now(&self, at: At) -> Result<Timestamp, StoreError> {
        match at {
            At::Fixed(time) => Ok(time),
            At::Server => self.shared.server.read(async |conn| sql::server_clock(conn).await).await,
        }
    }

    async fn check(&self) -> Result<(), StoreError> {
        if self.shared.server.read_only() {
            return self.shared.server.read(async |conn| jobs::jobs(conn).await.map(drop)).await;
        }
        self.shared.write(&numbers::Check).await?;
        room::check(&self.shared).await
    }

    async fn begin_incarnation(&self, node: NewNode, at: At) -> Result<Incarnation, StoreError> {
        self.shared.write(&nodes::Begin { node, at }).await
    }

    async fn heartbeat(&self, node: NodeId, lease: LeaseTerm, at: At) -> Result<Heartbeat, StoreError> {
        self.shared.write(&nodes::Beat { node, lease, at }).await
    }

    async fn end_incarnation(&self, node: NodeId, at: At) -> Result<(), StoreError> {
        self.shared.end_incarnation(node, at).await
    }

    async fn reap(&self, at: At) -> Result<Reaped, StoreError> {
        self.shared.reap(at).await
    }

    async fn release_unheld(&self, node: NodeId, job: JobId, held: &[Fence], at: At) -> Result<u64, StoreError> {
        self.shared.release_unheld(node, job, held, at).await
    }

    async fn cancellations(&self, node: NodeId) -> Result<Vec<Cancellation>, StoreError> {
        self.shared.server.read(async |conn| views::cancellations(conn, node).await).await
    }

    async fn nodes(&self, _: At) -> Result<Vec<NodeView>, StoreError> {
        self.shared.server.read(async |conn| views::nodes(conn).await).await
    }

    async fn register_job(&self, name: &JobName) -> Result<JobRow, StoreError> {
        self.shared.write(&jobs::RegisterJob(name.clone())).await
    }

    async fn jobs(&self) -> Result<Vec<JobRow>, StoreError> {
        self.shared.server.read(async |conn| jobs::jobs(conn).await).await
    }

    async fn set_paused(&self, job: JobId, reason: Option<&str>) -> Result<(), StoreError> {
        self.shared.write(&jobs::SetPaused { job, reason: reason.map(str::to_owned) }).await
    }

    async fn resume(&self, job: JobId, once_over_budget: bool) -> Result<(), StoreError> {
        self.shared.write(&jobs::Resume { job, once_over_budget }).await
    }

    async fn take_allowance(&self, job: JobId) -> Result<bool, StoreError> {
        self.shared.write(&jobs::TakeAllowance(job)).await
    }

    async fn take_scan(&self, take: TakeScan, _: At) -> Result<ScanLease, StoreError> {
        self.shared.write(&jobs::Take(take)).await
    }

    async fn end_scan(&self, end: EndScan) -> Result<ScanEnded, StoreError> {
        self.shared.write(&jobs::End(end)).await
    }

    async fn give_up_scan(&self, job: JobId, node: NodeId) -> Result<(), StoreError> {
        self.shared.write(&jobs::GiveUpScan { job, node }).await
    }

    async fn enqueue(&self, job: JobId, tasks: Vec<NewTask>, at: At) -> Result<Vec<Enqueued>, StoreError> {
        self.enqueues.ask(Enqueue { job, tasks, at }).await
    }

    async fn enqueue_once(&self, ask: EnqueueOnce, at: At) -> Result<Once, StoreError> {
        self.shared.write(&requests::EnqueueOnceAt { ask, at }).await
    }

    async fn claim_due(&self, claim: ClaimDue) -> Result<Option<Claim>, StoreError> {
        self.shared.write(&claim).await
    }

    async fn peek_due(&self, peek: PeekDue) -> Result<Peeked, StoreError> {
        self.shared.server.read(async |conn| peek::peek(conn, &peek).await).await
    }

    async fn finish(&self, write_back: WriteBack, at: At) -> Result<Vec<Finished>, StoreError> {
        self.shared.write(&finish::FinishAll { write_back, at }).await
    }

    async fn apply_plan(&self, plan: ApplyPlan, at: At) -> Result<PlanApplied, StoreError> {
        self.shared.write(&plan::Apply { plan, at }).await
    }

    async fn cursor(&self, job: JobId, digest: Digest) -> Result<Option<String>, StoreError> {
        self.shared.server.read(async |conn| jobs::cursor(conn, job, digest).await).await
    }

    async fn intervene(&self, ask: Intervene, at: At) -> Result<Vec<Intervened>, StoreError> {
        self.shared.intervene(&ask, at).await
    }

    async fn backlog(&self, job: JobId, at: At) -> Result<Backlog, StoreError> {
        let now = self.now(at).await?;
        self.shared.server.read(async |conn| backlog::backlog(conn, job, now).await).await
    }

    async fn tasks(&self, filter: TaskFilter) -> Result<Vec<TaskView>, StoreError> {
        self.shared.server.read(async |conn| list::tasks(conn, &filter).await).await
    }

    async fn task(&self, id: TaskId) -> Result<Option<TaskView>, StoreError> {
        self.shared.server.read(async |conn| list::task(conn, id).await).await
    }

    async fn attempts(&self, id: TaskId) -> Result<Vec<AttemptView>, StoreError> {
        self.shared.server.read(async |conn| views::attempts(conn, id).await).await
    }

    async fn record_effects(&self, effects: Vec<Effect>, at: At) -> Result<(), StoreError> {
        self.shared.write(&effects::Record { effects, at }).await
    }

    async fn effects(&self, filter: EffectFilter) -> Result<Vec<EffectView>, StoreError> {
        self.shared.server.read(async |conn| audit::effects(conn, &filter).await).await
    }

    async fn spent(&self, job: JobId, since: Timestamp, except: Option<u64>) -> Result<Spent, StoreError> {
        self.shared.server.read(async |conn| audit::spent(conn, job, since, except).await).await
    }

    async fn changed_files(
        &self,
        job: JobId,
        since: Timestamp,
        until: Timestamp,
        except: Option<u64>,
    ) -> Result<Changed, StoreError> {
        self.shared.server.read(async |conn| audit::changed_files(conn, job, since, until, except).await).await
    }

    async fn settle(&self, ids: &[EffectId], fate: Fate, at: At) -> Result<u64, StoreError> {
        self.shared.write(&effects::Settle { ids: ids.to_vec(), fate, at }).await
    }

    async fn add_hold(&self, hold: NewHold, at: At) -> Result<Hold, StoreError> {
        self.shared.write(&holds::AddHold { hold, at }).await
    }

    async fn holds(&self, job: JobId, at: At) -> Result<Vec<Hold>, StoreError> {
        let now = self.now(at).await?;
        self.shared.server.read(async |conn| holds::holds(conn, job, now).await).await
    }

    async fn remove_hold(&self, job: JobId, hold: HoldId, at: At) -> Result<HoldRemoved, StoreError> {
        self.shared.write(&holds::RemoveHold { job, hold, at }).await
    }

    async fn mount_id(&self, job: JobId, at: &str) -> Result<Option<String>, StoreError> {
        self.shared.server.read(async |conn| mounts::mount_id(conn, job, at).await).await
    }

    async fn knows_mount(&self, id: &str) -> Result<bool, StoreError> {
        self.shared.server.read(async |conn| mounts::knows_mount(conn, id).await).await
    }

    async fn set_mount_id(&self, job: JobId, at: &str, id: &str) -> Result<(), StoreError> {
        self.shared.write(&mounts::SetMountId { job, at: at.to_owned(), id: id.to_owned() }).await
    }

    async fn next_due(&self, job: JobId) -> Result<Option<Timestamp>, StoreError> {
        self.shared.server.read(async |conn| backlog::next_due(conn, job).await).await
    }

    async fn draw_in(&self, limit: u32, at: At) -> Result<DrawnIn, StoreError> {
        self.shared.write(&draw_in::DrawIn { limit, at }).await
    }

    async fn effects_weight(&self) -> Result<u64, StoreError> {
        self.shared.server.read(async |conn| audit::weight(conn).await).await
    }

    async fn forget_oldest(&self, weight: u64, limit: u32) -> Result<Forgotten, StoreError> {
        self.shared.write(&effects::ForgetOldest { weight, limit }).await
    }

    async fn prune(&self, prune: Prune, at: At) -> Result<Pruned, StoreError> {
        self.shared.write(&prune::PruneAt { prune, at }).await
    }

    async fn woken(&self) {
        // The server tells nobody what others queued.
        std::future::pending::<()>().await;
    }

    async fn close(&self) {
        self.enqueues.close().await;
        self.shared.server.close().await;
    }
}
