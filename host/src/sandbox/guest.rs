//! What one instance of a plugin may touch, and the call that it is in.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use wasmtime::component::{Linker, ResourceTable};
use wasmtime::{Store, UpdateDeadline};
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};

use crate::domain::job::JobSpec;
use crate::domain::task::TaskId;
use crate::domain::time::{Clock, Timestamp};
use crate::faults::Mutation;

use super::capture::{Capture, Stream};
use super::deadline::SharedDeadline;
use super::gate::{Gate, Permit};
use super::memory::{MemoryLimiter, Refused};
use super::mounts::{self, MountError};
use super::{guard, waits};

/// Most resources (descriptors, streams, pollables) that a guest may hold.
const MAX_RESOURCES: usize = 4096;

/// What an instance is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Decides; its mounts are read-only.
    Dispatcher,
    /// Acts.
    Executor,
}

/// Why the host interrupted a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Interrupt {
    /// Its deadline has passed.
    #[error("interrupted at its deadline of {0:?}")]
    Deadline(Duration),
    /// The gate was closed: a pause, a stop, or the end of the lease.
    #[error("interrupted by the host")]
    Stopped,
    /// A person wants the task to end.
    #[error("interrupted by hand")]
    Asked,
}

/// What ends the right to change files, shared with the streams that a guest
/// holds: the gate of the instance and the deadline of its present call.
#[derive(Clone, Debug)]
pub(super) struct Bounds {
    gate: Arc<Gate>,
    deadline: SharedDeadline,
    limit: Duration,
    /// The task of the present call; 0 for none.
    task: Arc<AtomicU64>,
}

impl Bounds {
    fn task(&self) -> Option<TaskId> {
        Some(TaskId(self.task.load(Ordering::Relaxed))).filter(|task| task.0 > 0)
    }

    /// Whether the call may go on.
    pub(super) fn check(&self) -> Result<(), Interrupt> {
        if !self.gate.is_open() {
            return Err(Interrupt::Stopped);
        }
        if self.deadline.has_passed() {
            return Err(Interrupt::Deadline(self.limit));
        }
        if self.task().is_some_and(|task| self.gate.is_out(task)) {
            return Err(Interrupt::Asked);
        }
        Ok(())
    }

    /// The right to make one mutation now.
    pub(super) fn permit(&self) -> Result<Permit<'_>, Interrupt> {
        let mutation = Mutation::asks();
        let permit = self.gate.enter().ok_or(Interrupt::Stopped)?;
        self.check()?;
        Ok(permit.traced(mutation))
    }
}

/// The call that an instance is in.
#[derive(Debug)]
pub(super) struct Call {
    role: Role,
    bounds: Bounds,
    /// Whether a refused change was logged in this call: one line is enough.
    refused: AtomicBool,
    /// The deadline on the wall clock, for the guest to read.
    until: Timestamp,
    interrupt: Option<Interrupt>,
}

impl Call {
    /// What bounds the streams that are opened in this call.
    pub(super) fn bounds(&self) -> &Bounds {
        &self.bounds
    }

    /// Runs `wait` until it completes, the deadline passes or the gate closes.
    pub(super) async fn bounded<T>(&self, wait: impl Future<Output = T>) -> Result<T, Interrupt> {
        tokio::select! {
            biased;
            done = wait => Ok(done),
            () = self.bounds.gate.closed_for(self.bounds.task()) => Err(self.bounds.check().err().unwrap_or(Interrupt::Stopped)),
            () = tokio::time::sleep(self.bounds.deadline.left()) => Err(Interrupt::Deadline(self.bounds.limit)),
        }
    }

    /// Whether this is the first change that is refused in this call.
    pub(super) fn first_refusal(&self) -> bool {
        !self.refused.swap(true, Ordering::Relaxed)
    }

    pub(super) fn role(&self) -> Role {
        self.role
    }

    pub(super) fn task(&self) -> Option<TaskId> {
        self.bounds.task()
    }
}

/// The state of one store: all that its guest may touch.
pub struct GuestState {
    pub(super) wasi: WasiCtx,
    pub(super) table: ResourceTable,
    pub(super) call: Call,
    pub(super) job: Arc<JobSpec>,
    memory: MemoryLimiter,
    capture: Capture,
    clock: Clock,
}

impl GuestState {
    /// The state of a new instance: its mounts opened for `role`, its output
    /// captured, no environment, no arguments, no network. It is in a call
    /// that ends at the deadline of the role, so that instantiating is bounded
    /// like a call.
    pub fn new(
        job: Arc<JobSpec>,
        role: Role,
        generation: u64,
        gate: Arc<Gate>,
        clock: Clock,
    ) -> Result<Self, MountError> {
        let capture = Capture::new(job.name.to_string(), generation, &job.limits);
        let mut wasi = WasiCtxBuilder::new();
        wasi.stdout(capture.stream(Stream::Stdout))
            .stderr(capture.stream(Stream::Stderr))
            .allow_tcp(false)
            .allow_udp(false)
            .allow_ip_name_lookup(false)
            // The guest has a thread of its own: five times the rate of
            // handing every file call to a pool.
            .allow_blocking_current_thread(true);
        mounts::open(&job.mounts, role, &mut wasi)?;
        let mut table = ResourceTable::new();
        table.set_max_capacity(MAX_RESOURCES);
        let limit = limit_of(&job, role);
        Ok(Self {
            wasi: wasi.build(),
            table,
            call: Call {
                role,
                bounds: Bounds { gate, deadline: SharedDeadline::within(limit), limit, task: Arc::default() },
                refused: AtomicBool::new(false),
                until: clock.now().after(limit),
                interrupt: None,
            },
            memory: MemoryLimiter::new(&job.limits),
            job,
            capture,
            clock,
        })
    }

    /// A store for this state, with its limits and its interruption in place.
    #[must_use]
    pub fn into_store(self, engine: &wasmtime::Engine) -> Store<Self> {
        let mut store = Store::new(engine, self);
        store.limiter(|state| &mut state.memory);
        store.set_hostcall_fuel(usize::try_from(store.data().job.limits.answer).unwrap_or(usize::MAX));
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(|mut context| {
            let state = context.data_mut();
            match state.call.bounds.check() {
                Ok(()) => Ok(UpdateDeadline::Continue(1)),
                Err(interrupt) => Err(state.interrupted(interrupt)),
            }
        });
        store
    }

    /// A call begins: for `task`, with the deadline of its role.
    pub fn begin_call(&mut self, task: Option<TaskId>) {
        let call = &mut self.call;
        call.bounds.deadline.renew(call.bounds.limit);
        call.until = self.clock.now().after(call.bounds.limit);
        call.refused.store(false, Ordering::Relaxed);
        self.memory.forget_refusal();
        call.bounds.task.store(task.map_or(0, |task| task.0), Ordering::Relaxed);
        call.interrupt = None;
        self.capture.begin(task);
    }

    /// The call has ended. Answers why the host interrupted it, if it did.
    pub fn end_call(&mut self) -> Option<Interrupt> {
        self.capture.end();
        self.call.interrupt.take()
    }

    /// Bytes of memory in use.
    #[must_use]
    pub fn memory_used(&self) -> usize {
        self.memory.used()
    }

    /// The gate under which the instance was made; it serves under no other.
    #[must_use]
    pub fn gate(&self) -> &Arc<Gate> {
        &self.call.bounds.gate
    }

    /// The limit of memory that was reached in the present call, if one was.
    #[must_use]
    pub fn refused(&self) -> Option<Refused> {
        self.memory.refused()
    }

    /// The job that the instance serves.
    #[must_use]
    pub fn job(&self) -> &JobSpec {
        &self.job
    }

    /// The deadline of the present call on the wall clock.
    #[must_use]
    pub fn deadline(&self) -> Timestamp {
        self.call.until
    }

    /// Notes why the call is ended, for [`Self::end_call`], and makes the
    /// error that ends it.
    pub(super) fn interrupted(&mut self, interrupt: Interrupt) -> wasmtime::Error {
        self.call.interrupt = Some(interrupt);
        interrupt.into()
    }
}

fn limit_of(job: &JobSpec, role: Role) -> Duration {
    match role {
        Role::Dispatcher => job.limits.dispatch_deadline,
        Role::Executor => job.limits.task_deadline,
    }
}

impl WasiView for GuestState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

/// Links all that a guest may import of WASI: 0.2, with the file system behind
/// the guard and waits that end at the deadline.
pub fn add_to_linker(linker: &mut Linker<GuestState>) -> wasmtime::Result<()> {
    wasmtime_wasi::p2::add_to_linker_sync(linker)?;
    linker.allow_shadowing(true);
    guard::add_to_linker(linker)?;
    waits::add_to_linker(linker)?;
    linker.allow_shadowing(false);
    Ok(())
}
