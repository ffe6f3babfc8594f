//! The embedded store: SQLite in this process, one file, one host.
//!
//! One thread writes, in groups: what arrives while a commit is under way goes
//! into the next, so that many callers share the wait for the disk. A few
//! connections read beside it. `synchronous=FULL`: what is answered is on the
//! disk. The SQL knows one more rule than the trait: a claim changes no
//! indexed column.
//!
//! | module | what it owns |
//! |---|---|
//! | `place`, `lock`, `connection`, `migrate`, `index`, `errno` | the file: where, whose, how it is opened, its schema, its log, what its disk answers |
//! | `writer`, `group`, `writing`, `heal`, `reserve` | the writing thread, its transactions, a file removed below it, a full disk |
//! | `enqueue`, `requests`, `claim`, `finish`, `ending`, `successor`, `nodes`, `plan`, `jobs`, `intervene`, `prune` | one command each, and what they share |
//! | `effects`, `holds`, `mounts` | what the guarded sandbox keeps |
//! | `readers`, `list`, `backlog`, `audit`, `peek` | reading |
//! | `bell` | waking the host from a command beside it |

// length: the trait's methods stand in one place, as the trait has them.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;

use self::bell::Bell;
use self::place::Place;
use self::readers::Readers;
use self::writer::{Commands, Writer};
use self::writing::Command;
use super::{
    ApplyPlan, At, Cancellation, Claim, ClaimDue, DrawnIn, EffectFilter, EndScan, EnqueueOnce, Forgotten, Heartbeat,
    HoldRemoved, Incarnation, Intervene, JobRow, NewHold, Once, PeekDue, Peeked, PlanApplied, Prune, Pruned, Reaped,
    ScanEnded, ScanLease, Store, StoreError, TakeScan, TaskFilter, WriteBack,
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
use crate::domain::time::{Clock, Timestamp};

mod audit;
mod backlog;
mod bell;
mod check;
mod claim;
mod connection;
mod draw_in;
mod effects;
mod ending;
mod enqueue;
mod errno;
mod fault;
mod finish;
mod group;
mod heal;
mod holds;
mod index;
mod intervene;
mod jobs;
mod list;
mod lock;
mod migrate;
mod mounts;
mod nodes;
mod peek;
mod place;
mod plan;
mod prune;
mod readers;
mod requests;
mod reserve;
mod sql;
mod successor;
mod writer;
mod writing;

/// How a database is opened.
#[derive(Clone, Debug)]
pub struct SqliteOptions {
    /// As its host, with the lock that admits only one. Without it: as a tool
    /// that reads and queues beside a running host.
    pub exclusive: bool,
    /// Only to look at what is there: nothing is made, no lock is taken, and
    /// every change is [`StoreError::Rejected`]. It goes before `exclusive`.
    pub read_only: bool,
    /// What [`At::Server`] reads.
    pub clock: Clock,
    /// The most pages of 4 KiB that the file may grow to; beyond them it is as
    /// if the disk were full. `None` leaves that to the disk.
    pub max_pages: Option<u32>,
}

impl SqliteOptions {
    /// For the host: exclusive, by the machine's clock.
    #[must_use]
    pub fn host() -> Self {
        Self { exclusive: true, read_only: false, clock: Clock::system(), max_pages: None }
    }

    /// For a tool that works beside the host.
    #[must_use]
    pub fn beside() -> Self {
        Self { exclusive: false, ..Self::host() }
    }

    /// For a tool that only looks, beside a host or without one.
    #[must_use]
    pub fn read_only() -> Self {
        Self { read_only: true, ..Self::beside() }
    }
}

/// A queue in one SQLite file.
#[derive(Debug)]
pub struct SqliteStore {
    // Dropped first: the writer closes the readers at its end. There is none
    // where nothing may be written.
    commands: Option<Commands>,
    readers: Arc<Readers>,
    clock: Clock,
    place: Place,
    /// Heard by the file's host; a command beside it rings.
    bell: Option<Bell>,
}

impl SqliteStore {
    /// Opens the database at `path`, making it and its folder where there are
    /// none, and brings its schema up to date. Blocks on the disk.
    ///
    /// [`StoreError::Unavailable`] when the file cannot be used now, also
    /// because another host has it; [`StoreError::Incompatible`] when it is
    /// not sweepd's, a newer version's, or, to be only looked at, an older
    /// one's.
    pub fn open(path: &Path, options: SqliteOptions) -> Result<Self, StoreError> {
        if options.read_only {
            return Self::look(path, options.clock);
        }
        let place = Place::prepare(path)?;
        let (clock, exclusive) = (options.clock.clone(), options.exclusive);
        let readers = Arc::new(Readers::new(place.clone()));
        let commands = Writer::open(place.clone(), Arc::clone(&readers), options)?.start()?;
        let bell = exclusive.then(|| Bell::hang(place.database()));
        Ok(Self { commands: Some(commands), readers, clock, place, bell })
    }

    /// Opens what is there with connections that cannot write.
    fn look(path: &Path, clock: Clock) -> Result<Self, StoreError> {
        let place = Place::existing(path)?;
        let pending = migrate::pending(place.database())?;
        if !pending.is_empty() {
            return Err(StoreError::Incompatible(format!(
                "{} lacks {}; run `sweepd migrate`",
                place.database().display(),
                pending.join(", ")
            )));
        }
        let readers = Arc::new(Readers::without_traces(place.clone()));
        Ok(Self { commands: None, readers, clock, place, bell: None })
    }

    /// The names of the steps that the schema of the database at `path` lacks:
    /// what [`Self::open`] would apply. All of them where there is no file;
    /// nothing is made or changed. Blocks on the disk. Errors as of opening.
    pub fn pending_migrations(path: &Path) -> Result<Vec<String>, StoreError> {
        migrate::pending(path)
    }

    /// Asks for a change.
    async fn ask<C: Command>(&self, command: C) -> Result<C::Answer, StoreError> {
        match &self.commands {
            Some(commands) => commands.ask(command).await,
            None => Err(super::read_only(&self.place.database().display())),
        }
    }

    /// Asks for a change that a host beside should hear of.
    async fn ask_and_ring<C: Command>(&self, command: C) -> Result<C::Answer, StoreError> {
        let answer = self.ask(command).await?;
        if self.bell.is_none() {
            bell::ring(self.place.database());
        }
        Ok(answer)
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn now(&self, at: At) -> Result<Timestamp, StoreError> {
        Ok(match at {
            At::Server => self.clock.now(),
            At::Fixed(time) => time,
        })
    }

    async fn check(&self) -> Result<(), StoreError> {
        match &self.commands {
            Some(commands) => commands.ask(check::Check).await,
            None => self.readers.read(check::readable).await,
        }
    }

    async fn begin_incarnation(&self, node: NewNode, at: At) -> Result<Incarnation, StoreError> {
        if self.bell.is_none() && self.commands.is_some() {
            let why = "only the host that has the file's lock may begin a life".to_owned();
            return Err(StoreError::Rejected(why));
        }
        self.ask(nodes::Begin { node, at }).await
    }

    async fn heartbeat(&self, node: NodeId, _: LeaseTerm, _: At) -> Result<Heartbeat, StoreError> {
        self.ask(nodes::Beat(node)).await
    }

    async fn end_incarnation(&self, node: NodeId, at: At) -> Result<(), StoreError> {
        self.ask(nodes::End { node, at }).await
    }

    async fn reap(&self, _: At) -> Result<Reaped, StoreError> {
        // Whoever takes the lock has reaped everybody before.
        Ok(Reaped::default())
    }

    async fn release_unheld(&self, node: NodeId, job: JobId, held: &[Fence], at: At) -> Result<u64, StoreError> {
        self.ask(nodes::ReleaseUnheld { node, job, held: held.to_vec(), at }).await
    }

    async fn cancellations(&self, node: NodeId) -> Result<Vec<Cancellation>, StoreError> {
        self.readers.read(move |conn| list::cancellations(conn, node)).await
    }

    async fn nodes(&self, _: At) -> Result<Vec<NodeView>, StoreError> {
        self.readers.read(list::nodes).await
    }

    async fn register_job(&self, name: &JobName) -> Result<JobRow, StoreError> {
        self.ask(jobs::RegisterJob(name.clone())).await
    }

    async fn jobs(&self) -> Result<Vec<JobRow>, StoreError> {
        self.readers.read(jobs::jobs).await
    }

    async fn set_paused(&self, job: JobId, reason: Option<&str>) -> Result<(), StoreError> {
        self.ask(jobs::SetPaused { job, reason: reason.map(str::to_owned) }).await
    }

    async fn resume(&self, job: JobId, once_over_budget: bool) -> Result<(), StoreError> {
        self.ask(jobs::Resume { job, once_over_budget }).await
    }

    async fn take_allowance(&self, job: JobId) -> Result<bool, StoreError> {
        self.ask(jobs::TakeAllowance(job)).await
    }

    async fn take_scan(&self, take: TakeScan, _: At) -> Result<ScanLease, StoreError> {
        self.ask(take).await
    }

    async fn end_scan(&self, end: EndScan) -> Result<ScanEnded, StoreError> {
        self.ask(end).await
    }

    async fn give_up_scan(&self, job: JobId, node: NodeId) -> Result<(), StoreError> {
        self.ask(jobs::GiveUpScan { job, node }).await
    }

    async fn enqueue(&self, job: JobId, tasks: Vec<NewTask>, at: At) -> Result<Vec<Enqueued>, StoreError> {
        self.ask_and_ring(enqueue::Enqueue { job, tasks, at }).await
    }

    async fn enqueue_once(&self, ask: EnqueueOnce, at: At) -> Result<Once, StoreError> {
        self.ask_and_ring(requests::EnqueueOnceAt { ask, at }).await
    }

    async fn claim_due(&self, claim: ClaimDue) -> Result<Option<Claim>, StoreError> {
        self.ask(claim).await
    }

    async fn peek_due(&self, peek: PeekDue) -> Result<Peeked, StoreError> {
        self.readers.read(move |conn| peek::peek(conn, &peek)).await
    }

    async fn finish(&self, write_back: WriteBack, at: At) -> Result<Vec<Finished>, StoreError> {
        self.ask(finish::FinishAll { write_back, at }).await
    }

    async fn apply_plan(&self, plan: ApplyPlan, at: At) -> Result<PlanApplied, StoreError> {
        self.ask(plan::Apply { plan, at }).await
    }

    async fn cursor(&self, job: JobId, digest: Digest) -> Result<Option<String>, StoreError> {
        self.readers.read(move |conn| jobs::cursor(conn, job, digest)).await
    }

    async fn intervene(&self, ask: Intervene, at: At) -> Result<Vec<Intervened>, StoreError> {
        self.ask_and_ring(intervene::InterveneAt { ask, at }).await
    }

    async fn backlog(&self, job: JobId, at: At) -> Result<Backlog, StoreError> {
        let now = self.now(at).await?;
        self.readers.read(move |conn| backlog::backlog(conn, job, now)).await
    }

    async fn tasks(&self, filter: TaskFilter) -> Result<Vec<TaskView>, StoreError> {
        self.readers.read(move |conn| list::tasks(conn, &filter)).await
    }

    async fn task(&self, id: TaskId) -> Result<Option<TaskView>, StoreError> {
        self.readers.read(move |conn| list::task(conn, id)).await
    }

    async fn attempts(&self, id: TaskId) -> Result<Vec<AttemptView>, StoreError> {
        self.readers.read(move |conn| list::attempts(conn, id)).await
    }

    async fn record_effects(&self, effects: Vec<Effect>, at: At) -> Result<(), StoreError> {
        self.ask(effects::Record { effects, at }).await
    }

    async fn effects(&self, filter: EffectFilter) -> Result<Vec<EffectView>, StoreError> {
        self.readers.read(move |conn| audit::effects(conn, &filter)).await
    }

    async fn spent(&self, job: JobId, since: Timestamp, except: Option<u64>) -> Result<Spent, StoreError> {
        self.readers.read(move |conn| audit::spent(conn, job, since, except)).await
    }

    async fn changed_files(
        &self,
        job: JobId,
        since: Timestamp,
        until: Timestamp,
        except: Option<u64>,
    ) -> Result<Changed, StoreError> {
        self.readers.read(move |conn| audit::changed_files(conn, job, since, until, except)).await
    }

    async fn settle(&self, ids: &[EffectId], fate: Fate, at: At) -> Result<u64, StoreError> {
        self.ask(effects::Settle { ids: ids.to_vec(), fate, at }).await
    }

    async fn add_hold(&self, hold: NewHold, at: At) -> Result<Hold, StoreError> {
        self.ask(holds::AddHold { hold, at }).await
    }

    async fn holds(&self, job: JobId, at: At) -> Result<Vec<Hold>, StoreError> {
        let now = self.now(at).await?;
        self.readers.read(move |conn| holds::holds(conn, job, now)).await
    }

    async fn remove_hold(&self, job: JobId, hold: HoldId, at: At) -> Result<HoldRemoved, StoreError> {
        self.ask(holds::RemoveHold { job, hold, at }).await
    }

    async fn mount_id(&self, job: JobId, at: &str) -> Result<Option<String>, StoreError> {
        let at = at.to_owned();
        self.readers.read(move |conn| mounts::mount_id(conn, job, &at)).await
    }

    async fn knows_mount(&self, id: &str) -> Result<bool, StoreError> {
        let id = id.to_owned();
        self.readers.read(move |conn| mounts::knows_mount(conn, &id)).await
    }

    async fn set_mount_id(&self, job: JobId, at: &str, id: &str) -> Result<(), StoreError> {
        self.ask(mounts::SetMountId { job, at: at.to_owned(), id: id.to_owned() }).await
    }

    async fn next_due(&self, job: JobId) -> Result<Option<Timestamp>, StoreError> {
        self.readers.read(move |conn| backlog::next_due(conn, job)).await
    }

    async fn draw_in(&self, limit: u32, at: At) -> Result<DrawnIn, StoreError> {
        self.ask(draw_in::DrawIn { limit, at }).await
    }

    async fn effects_weight(&self) -> Result<u64, StoreError> {
        self.readers.read(audit::weight).await
    }

    async fn forget_oldest(&self, weight: u64, limit: u32) -> Result<Forgotten, StoreError> {
        self.ask(effects::ForgetOldest { weight, limit }).await
    }

    async fn prune(&self, prune: Prune, at: At) -> Result<Pruned, StoreError> {
        self.ask(prune::PruneAt { prune, at }).await
    }

    async fn woken(&self) {
        match &self.bell {
            Some(bell) => bell.rung().await,
            None => std::future::pending().await,
        }
    }

    async fn close(&self) {
        match &self.commands {
            Some(commands) => commands.close().await,
            None => self.readers.close(),
        }
    }
}
