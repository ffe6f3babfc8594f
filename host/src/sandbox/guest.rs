//! What one instance of a plugin may touch, and the call that it is in.

use std::sync::Arc;
use std::time::Duration;

use wasmtime::component::{Linker, ResourceTable};
use wasmtime::{Store, UpdateDeadline};
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};

use crate::domain::digest::Digest;
use crate::domain::job::JobSpec;
use crate::domain::outcome::Progress;
use crate::domain::task::ClaimedTask;
use crate::domain::time::Timestamp;

use super::call::{Call, Held, Hindrance, Interrupt};
use super::capture::{Capture, Stream};
use super::custody::Custody;
use super::done::Recorded;
use super::gate::Gate;
use super::guard::{self, AskedLast};
use super::listing::Readers;
use super::memory::{MemoryLimiter, Refused};
use super::mounts::{MountError, Mounts};
use super::waits;

/// What an instance is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Decides; its mounts are read-only.
    Dispatcher,
    /// Acts.
    Executor,
}

/// The state of one store: all that its guest may touch.
pub struct GuestState {
    pub(super) wasi: WasiCtx,
    pub(super) table: ResourceTable,
    pub(super) mounts: Mounts,
    pub(super) readers: Readers,
    pub(super) call: Arc<Call>,
    pub(super) asked: Option<AskedLast>,
    pub(super) listed: Vec<u32>,
    /// How many files earlier calls for the task of this one removed.
    removed_before: u64,
    interrupt: Option<Interrupt>,
    memory: MemoryLimiter,
    capture: Capture,
}

impl GuestState {
    /// The state of a new instance of the component `digest`: its mounts opened
    /// for `role`, its output captured, no environment, no arguments, no network.
    /// It is in a call that ends at the deadline of the role, so that
    /// instantiating is bounded like a call.
    pub fn new(
        custody: &Arc<Custody>,
        role: Role,
        generation: u64,
        digest: Digest,
        gate: Arc<Gate>,
    ) -> Result<Self, MountError> {
        let job = &custody.job;
        let capture = Capture::new(job.name.to_string(), generation, &job.limits);
        let mut wasi = WasiCtxBuilder::new();
        wasi.stdout(capture.stream(Stream::Stdout))
            .stderr(capture.stream(Stream::Stderr))
            .allow_tcp(false)
            .allow_udp(false)
            .allow_ip_name_lookup(false);
        let mounts = custody.open(role)?;
        let mut table = ResourceTable::new();
        table.set_max_capacity(job.limits.descriptors as usize);
        let limit = limit_of(job, role);
        Ok(Self {
            wasi: wasi.build(),
            table,
            mounts,
            readers: Readers::default(),
            call: Call::new(role, digest, Arc::clone(custody), gate, limit),
            asked: None,
            listed: Vec::new(),
            removed_before: 0,
            interrupt: None,
            memory: MemoryLimiter::new(&job.limits),
            capture,
        })
    }

    /// A store for this state, with its limits and its interruption in place.
    #[must_use]
    pub fn into_store(self, engine: &wasmtime::Engine) -> Store<Self> {
        let mut store = Store::new(engine, self);
        store.limiter(|state| &mut state.memory);
        store.set_hostcall_fuel(usize::try_from(store.data().job().limits.answer).unwrap_or(usize::MAX));
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(|mut context| {
            let state = context.data_mut();
            match state.call.check() {
                Ok(()) => Ok(UpdateDeadline::Continue(1)),
                Err(interrupt) => Err(state.interrupted(interrupt)),
            }
        });
        store
    }

    /// A call begins: for this attempt of a task, with the deadline of its role.
    pub fn begin_call(&mut self, task: Option<&ClaimedTask>) {
        self.call.renew(task.map(|task| (task.id, task.attempt)));
        self.removed_before = task.map_or(0, |task| task.removed);
        self.asked = None;
        self.memory.forget_refusal();
        self.interrupt = None;
        self.capture.begin(task.and_then(|task| task.id.in_queue()));
    }

    /// The call has ended. Answers why the host interrupted it, if it did.
    pub fn end_call(&mut self) -> Option<Interrupt> {
        self.capture.end();
        self.interrupt.take()
    }

    /// What was changed since this was last asked, as far as it was not handed
    /// over before.
    pub fn take_effects(&mut self) -> Vec<Recorded> {
        self.call.end_deeds()
    }

    /// How much the present call has changed. To be asked when its effects were
    /// taken: what goes on until then has no end before.
    #[must_use]
    pub fn progress(&self) -> Progress {
        self.call.progress()
    }

    /// How many files earlier calls for the task of this one removed.
    #[must_use]
    pub fn removed_before(&self) -> u64 {
        self.removed_before
    }

    /// The hold that was met since this was last asked, if any.
    pub fn take_held(&mut self) -> Option<Held> {
        self.call.take_held()
    }

    /// What is wrong with a mount as a whole that a look at it met since this was
    /// last asked, if anything is.
    pub fn take_trouble(&mut self) -> Option<Hindrance> {
        self.call.take_trouble()
    }

    /// Bytes of memory in use.
    #[must_use]
    pub fn memory_used(&self) -> usize {
        self.memory.used()
    }

    /// The gate under which the instance was made; it serves under no other.
    #[must_use]
    pub fn gate(&self) -> &Arc<Gate> {
        self.call.gate()
    }

    /// The custody under which it was made.
    #[must_use]
    pub fn custody(&self) -> &Arc<Custody> {
        &self.call.custody
    }

    /// Whether the directories for which it was made stand there still.
    #[must_use]
    pub fn mounts_stand(&self) -> bool {
        self.mounts.still_stand()
    }

    /// Whether changes are simulated.
    #[must_use]
    pub fn is_simulated(&self) -> bool {
        self.call.custody.is_simulated()
    }

    /// The last thing that the host refused the present call, and why.
    #[must_use]
    pub fn refusal(&self) -> Option<String> {
        self.call.refusal()
    }

    /// The last lines that the present call, or the one that just ended, wrote to
    /// standard error, as one line.
    #[must_use]
    pub fn last_words(&self) -> Option<String> {
        self.capture.last_words()
    }

    /// The limit of memory that was reached in the present call, if one was.
    #[must_use]
    pub fn refused(&self) -> Option<Refused> {
        self.memory.refused()
    }

    /// The job that the instance serves.
    #[must_use]
    pub fn job(&self) -> &JobSpec {
        &self.call.custody.job
    }

    /// The deadline of the present call on the wall clock.
    #[must_use]
    pub fn deadline(&self) -> Timestamp {
        self.call.custody.clock.now().after(self.call.left())
    }

    /// Notes why the call is ended, for [`Self::end_call`], and makes the
    /// error that ends it.
    pub(super) fn interrupted(&mut self, interrupt: Interrupt) -> wasmtime::Error {
        self.interrupt = Some(interrupt);
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
