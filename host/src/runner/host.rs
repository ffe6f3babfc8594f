//! One running host, as HTTP and the command line see it.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::domain::job::{JobSpec, Label};
use crate::domain::nearest::nearest;
use crate::domain::node::{NewNode, NodeView};
use crate::domain::status::{HostStatus, JobStatus, SweepReport};
use crate::domain::task::{AttemptView, Enqueued, NewTask, TaskId, TaskState, TaskView};
use crate::domain::time::{Clock, Timestamp};
use crate::domain::wall::WallStatus;
use crate::plugin::{Compiler, Kept, Slot};
use crate::sandbox::{self, Custody, Journal, Room};
use crate::store::{At, EnqueueOnce, Once, RequestKey, SharedStore, StoreError, TaskFilter};
use crate::supervise;

use super::clocks::Clocks;
use super::error::{HostError, elsewhere};
use super::files::{CHUNKS, joined, reconcile};
use super::housekeeping::Ages;
use super::job::{Control, Job, Shared, drain};
use super::lease::Node;
use super::phase::Phase;
use super::readiness::{Writable, status_of};
use super::running::Running;

/// After the grace, what still runs is interrupted and gets this long to end.
const AFTER_HALT: Duration = Duration::from_secs(5);

/// What a host is started with.
#[derive(Clone, Debug)]
pub struct HostSpec {
    /// What the node says of itself.
    pub node: NewNode,
    /// What this node is labelled with; jobs that ask for more run elsewhere.
    pub labels: Vec<Label>,
    /// What confines this process.
    pub wall: WallStatus,
    /// How long ended tasks are kept.
    pub history: Duration,
    /// How long effects are kept on record.
    pub effects: Duration,
    /// About how many bytes of the disk they may take.
    pub effects_max: u64,
    /// Where accepted components are kept.
    pub state: PathBuf,
    /// With fewer bytes free on the file system of `state` guests make nothing.
    pub state_min_free: u64,
    /// The jobs.
    pub jobs: Vec<JobSpec>,
}

/// Which tasks to list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TaskQuery {
    /// Only of this job.
    pub job: Option<String>,
    /// Only in this state.
    pub state: Option<TaskState>,
    /// Only after this one, in ascending order of ids.
    pub after: Option<TaskId>,
    /// At most so many.
    pub limit: u32,
}

/// A running host: the jobs, the store, and the way to stop them.
pub struct Host {
    started: (Timestamp, Instant),
    wall: WallStatus,
    room: Arc<Room>,
    pub(super) store: SharedStore,
    pub(super) journal: Journal,
    /// Whether the journal can be written.
    pub(super) writable: Writable,
    /// Where accepted components are kept.
    pub(super) state: PathBuf,
    pub(super) node: Arc<Node>,
    clocks: Arc<Clocks>,
    pub(super) phase: Phase,
    pub(super) jobs: Arc<[Seat]>,
    /// Something was asked of a running task.
    pub(super) asked: Arc<Notify>,
    stop: watch::Sender<bool>,
    stop_node: watch::Sender<bool>,
    running: Mutex<Option<Running>>,
}

/// A job and the way to its loop.
pub(super) struct Seat {
    pub(super) job: Arc<Job>,
    /// Holds sixteen requests; whoever asks waits while it is full. `None`
    /// where the job is bound to other nodes.
    pub(super) control: Option<mpsc::Sender<Control>>,
}

impl Host {
    /// Begins an incarnation, and starts every job. Plugins are loaded beside:
    /// a job sweeps as soon as it has one.
    pub async fn start(
        spec: HostSpec,
        store: SharedStore,
        compiler: Arc<Compiler>,
        clock: Clock,
    ) -> Result<Arc<Self>, StoreError> {
        let clocks = Arc::new(Clocks::new(Arc::clone(&store), clock.clone(), spec.node.lease));
        let node = Node::begin(spec.node, Arc::clone(&store)).await?;
        let (stop, stopped) = watch::channel(false);
        let (stop_node, node_stopped) = watch::channel(false);
        let phase = Phase::default();
        let mut jobs = Vec::new();
        let mut running = Running::default();
        let folder = spec.state.join("journal");
        reconcile(&store, &folder).await?;
        // Before a job reads when it was last scanned.
        clocks.look().await?;
        let journal = Journal::begin(&folder)
            .map_err(|error| StoreError::Unavailable(format!("{}: {error}", folder.display())))?;
        // Before any guest runs.
        let mounts: Vec<_> = spec.jobs.iter().flat_map(|job| job.mounts.iter().cloned()).collect();
        joined(spawn_blocking(move || sandbox::learn_all(&mounts)).await);
        let unusable = |error| StoreError::Unavailable(format!("{}: {error}", spec.state.display()));
        let room = Arc::new(Room::of(&spec.state, spec.state_min_free).map_err(unusable)?);
        let (chunks, handed_over) = mpsc::channel(CHUNKS);
        running.keep_record(&store, handed_over, &node_stopped);
        let shared = Shared { node, store, clock, clocks, phase, journal: journal.id() };
        for job in spec.jobs {
            let row = shared.store.register_job(&job.name).await?;
            let slot = Arc::new(Slot::new(job.plugin.clone(), shared.clock.clone()));
            let (room, clock) = (Arc::clone(&room), shared.clock.clone());
            let custody = Custody::new(Arc::new(job), row.id, journal.clone(), room, clock, chunks.clone());
            let job = Job::new(row, Arc::clone(&slot), custody, shared.clone());
            let (control, requests) = mpsc::channel(16);
            if !job.spec.runs_on(&spec.labels) {
                jobs.push(Seat { job, control: None });
                continue;
            }
            // Before anything of it runs.
            job.take_up_holds().await?;
            running.keep_files(&job, &stopped);
            running.keep_job(&job, requests, &stopped);
            running.keep_plugin(&job, &compiler, Kept::of(&spec.state, job.spec.name.as_str()), &stopped);
            jobs.push(Seat { job, control: Some(control) });
        }
        let Shared { node, store, clock, clocks, phase, .. } = shared;
        let (jobs, asked): (Arc<[Seat]>, _) = (jobs.into(), Arc::new(Notify::new()));
        running.keep_node(&node, &jobs, &asked, &node_stopped);
        let ages = Ages { history: spec.history, effects: spec.effects, effects_max: spec.effects_max };
        running.keep_store(&store, &clocks, &jobs, ages, &stopped);
        Ok(Arc::new(Self {
            started: (clock.now(), Instant::now()),
            wall: spec.wall,
            room,
            store,
            journal,
            writable: Writable::default(),
            state: spec.state,
            node,
            clocks,
            phase,
            jobs,
            asked,
            stop,
            stop_node,
            running: Mutex::new(Some(running)),
        }))
    }

    /// Queues tasks for `job`; durable when it answers, one answer a task, in
    /// order. Dropped, it may have queued them.
    pub async fn enqueue(&self, job: &str, tasks: Vec<NewTask>) -> Result<Vec<Enqueued>, HostError> {
        if self.phase.is_stopping() {
            return Err(HostError::Stopping);
        }
        let job = &self.seat(job)?.job;
        let waits_for_time = all_wait(&tasks, job.clock.now());
        let queued = job.store.enqueue(job.id, tasks, At::Server).await?;
        if !waits_for_time {
            job.wake();
        }
        Ok(queued)
    }

    /// The same, unless the same request did so before.
    pub async fn enqueue_once(&self, job: &str, request: RequestKey, tasks: Vec<NewTask>) -> Result<Once, HostError> {
        if self.phase.is_stopping() {
            return Err(HostError::Stopping);
        }
        let job = &self.seat(job)?.job;
        let waits_for_time = all_wait(&tasks, job.clock.now());
        let once = job.store.enqueue_once(EnqueueOnce { job: job.id, request, tasks }, At::Server).await?;
        if !waits_for_time {
            job.wake();
        }
        Ok(once)
    }

    /// The host and all its jobs.
    pub async fn status(&self) -> Result<HostStatus, HostError> {
        let unwritable = self.cannot_write_down().await;
        let mut jobs = Vec::with_capacity(self.jobs.len());
        for seat in self.jobs.iter() {
            jobs.push(status_of(seat, unwritable.as_deref()).await?);
        }
        Ok(HostStatus {
            version: env!("CARGO_PKG_VERSION"),
            node: self.node.about().name.clone(),
            started_at: self.started.0,
            up_ms: u64::try_from(self.started.1.elapsed().as_millis()).unwrap_or(u64::MAX),
            wall: self.wall.clone(),
            clock: self.clocks.notice(),
            no_room: (!self.room.is_there()).then(|| self.room.to_string()),
            nodes: self.nodes().await?,
            parts: supervise::fallen(),
            log: supervise::log_status(),
            jobs,
        })
    }

    /// The nodes that share the queue, this one among them, and what each runs.
    pub async fn nodes(&self) -> Result<Vec<NodeView>, HostError> {
        Ok(self.store.nodes(At::Server).await?)
    }

    /// One job.
    pub async fn job(&self, name: &str) -> Result<JobStatus, HostError> {
        let seat = self.seat(name)?;
        status_of(seat, self.cannot_write_down().await.as_deref()).await
    }

    /// Tasks, ascending by id.
    pub async fn tasks(&self, query: TaskQuery) -> Result<Vec<TaskView>, HostError> {
        let job = query.job.map(|name| self.seat(&name).map(|seat| seat.job.id)).transpose()?;
        let TaskQuery { state, after, limit, .. } = query;
        Ok(self.store.tasks(TaskFilter { job, state, after, limit }).await?)
    }

    /// One task, live or ended.
    pub async fn task(&self, id: TaskId) -> Result<TaskView, HostError> {
        self.store.task(id).await?.ok_or(HostError::UnknownTask(id))
    }

    /// The attempts of a task, in order.
    pub async fn attempts(&self, id: TaskId) -> Result<Vec<AttemptView>, HostError> {
        Ok(self.store.attempts(id).await?)
    }

    /// Asks for a sweep now, a scan included; the receiver gets its report when
    /// it has ended.
    pub async fn sweep(&self, job: &str) -> Result<oneshot::Receiver<SweepReport>, HostError> {
        let seat = self.seat(job)?;
        if seat.control.is_none() {
            return Err(elsewhere(&seat.job.spec));
        }
        if let Some(reason) = seat.job.view().paused {
            return Err(HostError::Paused { job: job.to_owned(), reason });
        }
        if seat.job.slot.current().is_none() {
            let error = seat.job.slot.status().error;
            let why = error.map_or_else(|| "it is being loaded".to_owned(), |error| error.message);
            return Err(HostError::NoPlugin { job: job.to_owned(), why });
        }
        let (answer, report) = oneshot::channel();
        self.ask(seat, Control::Sweep(answer)).await?;
        Ok(report)
    }

    /// Stops: intake ends, running tasks may end within `grace`, the rest is
    /// interrupted and queued again, the store is closed.
    pub async fn shut_down(&self, grace: Duration) {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(Running { mut runners, mut helpers }) = running else { return };
        self.phase.stop();
        self.stop.send_replace(true);
        if timeout(grace, runners.all()).await.is_err() {
            tracing::warn!("interrupting what still runs after {grace:?}");
            self.phase.halt();
            // All at once: none goes on while another hangs in the kernel.
            let gates: Vec<_> = self.jobs.iter().map(|seat| seat.job.close_gate()).collect();
            let ended = async {
                runners.all().await;
                for gate in gates {
                    drain(gate).await;
                }
            };
            if timeout(AFTER_HALT, ended).await.is_err() {
                tracing::error!("tasks hang: they are queued again at the next start");
            }
        }
        self.stop_node.send_replace(true);
        if timeout(AFTER_HALT, helpers.all()).await.is_err() {
            tracing::warn!("a compile, or the count of a mount that does not answer, is dropped");
        }
        if let Err(error) = self.node.end().await {
            tracing::error!("the node could not be signed off: {error}");
        }
        self.store.close().await;
    }

    /// A job's loop dropped a request.
    pub(super) fn unanswered(&self) -> HostError {
        if self.phase.is_stopping() {
            return HostError::Stopping;
        }
        HostError::Store(StoreError::Unknown("the job's loop failed before it answered".to_owned()))
    }

    pub(super) async fn ask(&self, seat: &Seat, control: Control) -> Result<(), HostError> {
        let Some(sender) = &seat.control else { return Err(elsewhere(&seat.job.spec)) };
        sender.send(control).await.map_err(|_| HostError::Stopping)
    }

    pub(super) fn seat(&self, name: &str) -> Result<&Seat, HostError> {
        self.jobs.iter().find(|seat| seat.job.spec.name.as_str() == name).ok_or_else(|| {
            let nearest = nearest(name, self.jobs.iter().map(|seat| seat.job.spec.name.as_str()));
            HostError::UnknownJob { name: name.to_owned(), nearest: nearest.map(str::to_owned) }
        })
    }
}

/// Whether none of them is due by then.
fn all_wait(tasks: &[NewTask], now: Timestamp) -> bool {
    tasks.iter().all(|task| task.run_at.is_some_and(|at| at > now))
}
