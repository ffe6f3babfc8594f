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
//! | `shared`, `writing` | what all use; transactions, and how often they are tried |
//! | `enqueue`, `requests`, `claim`, `finish`, `ending`, `nodes`, `plan`, `jobs`, `intervene`, `prune` | one command each, and what they share |
//! | `effects`, `holds`, `mounts` | what the guarded sandbox keeps |
//! | `list`, `backlog`, `audit`, `peek` | reading |
//! | `room` | whether a disk that was full has room again |
//! | `listen` | hearing of what other nodes queue |

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use sqlx::postgres::PgConnection;

use self::enqueue::{Enqueue, Enqueues};
use self::fault::Fault;
use self::listen::Ears;
use self::pool::{PATIENCE, Server};
use self::shared::Shared;
use self::writing::{Command, write};
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

mod audit;
mod backlog;
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
mod listen;
mod migrate;
mod mounts;
mod nodes;
mod peek;
mod plan;
mod pool;
mod prune;
mod requests;
mod room;
mod shared;
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
    /// Only to look at what is there: the server is told to refuse changes,
    /// each is [`StoreError::Rejected`], and the schema is left as it is.
    pub read_only: bool,
    /// How long another one's migration is waited for before that is
    /// [`StoreError::Unavailable`].
    pub patience: Duration,
}

impl Default for PostgresOptions {
    fn default() -> Self {
        Self { max_connections: 8, migrate: true, read_only: false, patience: turns::PATIENCE }
    }
}

/// A queue in one PostgreSQL database.
pub struct PostgresStore {
    shared: Arc<Shared>,
    enqueues: Group<Enqueues>,
    ears: Ears,
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
        let server = Server::at(url, options.max_connections, options.read_only)?;
        server.must_have_sessions().await?;
        if options.migrate && !options.read_only {
            migrate::migrate(&server, options.patience).await?;
        } else {
            must_be_current(&server).await?;
        }
        if options.read_only {
            server.must_refuse_changes().await?;
        } else {
            server.warn_of_losses().await?;
        }
        server.keep_search_path().await?;
        let readers = (options.max_connections as usize / 4).max(1);
        let shared = Arc::new(Shared::new(server, readers));
        let enqueues = Group::start(Enqueues(Arc::clone(&shared)));
        Ok(Self { shared, enqueues, ears: Ears::default() })
    }

    /// The names of the migrations that [`Self::open`] would apply to the
    /// database, oldest first; nothing is changed. Errors as there.
    pub async fn pending_migrations(url: &str) -> Result<Vec<String>, StoreError> {
        let server = Server::at(url, 1, true)?;
        server.must_have_sessions().await?;
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
            At::Server => self.shared.read(async |conn| sql::server_clock(conn).await).await,
        }
    }

    async fn check(&self) -> Result<(), StoreError> {
        let may_refuse = self.shared.server.read_only;
        let check = async |conn: &mut PgConnection| {
            if sql::takes_writes(conn).await? || may_refuse { Ok(()) } else { Err(Fault::ReadOnly) }
        };
        self.shared.read(check).await?;
        room::check(&self.shared).await
    }

    async fn begin_incarnation(&self, node: NewNode, at: At) -> Result<Incarnation, StoreError> {
        let begun = write(&self.shared, &nodes::Begin { node, at }).await?;
        self.shared.live_as(begun.node);
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
        self.shared.read(async |conn| list::cancellations(conn, node).await).await
    }

    async fn nodes(&self, _: At) -> Result<Vec<NodeView>, StoreError> {
        self.shared.read(async |conn| list::nodes(conn).await).await
    }

    async fn register_job(&self, name: &JobName) -> Result<JobRow, StoreError> {
        write(&self.shared, &jobs::RegisterJob(name.clone())).await
    }

    async fn jobs(&self) -> Result<Vec<JobRow>, StoreError> {
        self.shared.read(async |conn| jobs::jobs(conn).await).await
    }

    async fn set_paused(&self, job: JobId, reason: Option<&str>) -> Result<(), StoreError> {
        write(&self.shared, &jobs::SetPaused { job, reason: reason.map(str::to_owned) }).await
    }

    async fn resume(&self, job: JobId, once_over_budget: bool) -> Result<(), StoreError> {
        write(&self.shared, &jobs::Resume { job, once_over_budget }).await
    }

    async fn take_allowance(&self, job: JobId) -> Result<bool, StoreError> {
        write(&self.shared, &jobs::TakeAllowance(job)).await
    }

    async fn take_scan(&self, take: TakeScan, _: At) -> Result<ScanLease, StoreError> {
        write(&self.shared, &take).await
    }

    async fn end_scan(&self, end: EndScan) -> Result<ScanEnded, StoreError> {
        write(&self.shared, &end).await
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

    async fn peek_due(&self, peek: PeekDue) -> Result<Peeked, StoreError> {
        self.shared.read(async |conn| peek::peek(conn, &peek).await).await
    }

    async fn finish(&self, write_back: WriteBack, at: At) -> Result<Vec<Finished>, StoreError> {
        write(&self.shared, &finish::FinishAll { write_back, at }).await
    }

    async fn apply_plan(&self, plan: ApplyPlan, at: At) -> Result<PlanApplied, StoreError> {
        write(&self.shared, &plan::Apply { plan, at }).await
    }

    async fn cursor(&self, job: JobId, digest: Digest) -> Result<Option<String>, StoreError> {
        self.shared.read(async |conn| jobs::cursor(conn, job, digest).await).await
    }

    async fn intervene(&self, ask: Intervene, at: At) -> Result<Vec<Intervened>, StoreError> {
        write(&self.shared, &intervene::InterveneAt { ask, at }).await
    }

    async fn backlog(&self, job: JobId, at: At) -> Result<Backlog, StoreError> {
        let now = self.now(at).await?;
        self.shared.read(async |conn| backlog::backlog(conn, job, now).await).await
    }

    async fn tasks(&self, filter: TaskFilter) -> Result<Vec<TaskView>, StoreError> {
        self.shared.read(async |conn| list::tasks(conn, &filter).await).await
    }

    async fn task(&self, id: TaskId) -> Result<Option<TaskView>, StoreError> {
        self.shared.read(async |conn| list::task(conn, id).await).await
    }

    async fn attempts(&self, id: TaskId) -> Result<Vec<AttemptView>, StoreError> {
        self.shared.read(async |conn| list::attempts(conn, id).await).await
    }

    async fn record_effects(&self, effects: Vec<Effect>, at: At) -> Result<(), StoreError> {
        write(&self.shared, &effects::Record { effects, at }).await
    }

    async fn effects(&self, filter: EffectFilter) -> Result<Vec<EffectView>, StoreError> {
        self.shared.read(async |conn| audit::effects(conn, &filter).await).await
    }

    async fn spent(&self, job: JobId, since: Timestamp, except: Option<u64>) -> Result<Spent, StoreError> {
        self.shared.read(async |conn| audit::spent(conn, job, since, except).await).await
    }

    async fn changed_files(
        &self,
        job: JobId,
        since: Timestamp,
        until: Timestamp,
        except: Option<u64>,
    ) -> Result<Changed, StoreError> {
        self.shared.read(async |conn| audit::changed_files(conn, job, since, until, except).await).await
    }

    async fn settle(&self, ids: &[EffectId], fate: Fate, at: At) -> Result<u64, StoreError> {
        write(&self.shared, &effects::Settle { ids: ids.to_vec(), fate, at }).await
    }

    async fn add_hold(&self, hold: NewHold, at: At) -> Result<Hold, StoreError> {
        write(&self.shared, &holds::AddHold { hold, at }).await
    }

    async fn holds(&self, job: JobId, at: At) -> Result<Vec<Hold>, StoreError> {
        let now = self.now(at).await?;
        self.shared.read(async |conn| holds::holds(conn, job, now).await).await
    }

    async fn remove_hold(&self, job: JobId, hold: HoldId, at: At) -> Result<HoldRemoved, StoreError> {
        write(&self.shared, &holds::RemoveHold { job, hold, at }).await
    }

    async fn mount_id(&self, job: JobId, at: &str) -> Result<Option<String>, StoreError> {
        self.shared.read(async |conn| mounts::mount_id(conn, job, at).await).await
    }

    async fn knows_mount(&self, id: &str) -> Result<bool, StoreError> {
        self.shared.read(async |conn| mounts::knows_mount(conn, id).await).await
    }

    async fn set_mount_id(&self, job: JobId, at: &str, id: &str) -> Result<(), StoreError> {
        write(&self.shared, &mounts::SetMountId { job, at: at.to_owned(), id: id.to_owned() }).await
    }

    async fn next_due(&self, job: JobId) -> Result<Option<Timestamp>, StoreError> {
        self.shared.read(async |conn| backlog::next_due(conn, job).await).await
    }

    async fn draw_in(&self, limit: u32, at: At) -> Result<DrawnIn, StoreError> {
        write(&self.shared, &draw_in::DrawIn { limit, at }).await
    }

    async fn effects_weight(&self) -> Result<u64, StoreError> {
        self.shared.read(async |conn| audit::weight(conn).await).await
    }

    async fn forget_oldest(&self, weight: u64, limit: u32) -> Result<Forgotten, StoreError> {
        write(&self.shared, &effects::ForgetOldest { weight, limit }).await
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
