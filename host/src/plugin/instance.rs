//! Calling a guest: one instance, one store, one call at a time, on the thread
//! that holds it.
//!
//! After a guest's own error the instance stays; after a trap it is dead and
//! must be dropped.

use std::sync::Arc;

use wasmtime::Store;

use crate::domain::job::{JobId, JobSpec};
use crate::domain::outcome::{Crash, Failure, Outcome, Progress};
use crate::domain::plan::{Plan, SweepCall};
use crate::domain::task::ClaimedTask;
use crate::domain::time::Clock;
use crate::sandbox::{Custody, Gate, GuestState, Held, Hindrance, Interrupt, MountError, Recorded, Role};

use super::bindings::{self, Dispatcher, Executor};
use super::blame;
use super::crash::{crash_of, started_badly};
use super::generation::{Generation, Plugin, in_one_line};

/// An instance could not be made.
#[derive(Debug, thiserror::Error)]
pub enum StartFailed {
    /// A mount cannot be used now.
    #[error(transparent)]
    Mount(#[from] MountError),
    /// The plugin failed while it started.
    #[error(transparent)]
    Plugin(Crash),
    /// The machine lacks what an instance needs: it may start later.
    #[error("no guest can be started now: {0}")]
    Machine(String),
    /// The host stopped it.
    #[error("stopped by the host")]
    Stopped,
}

/// A call that gave no answer; the instance is dead.
#[derive(Debug, thiserror::Error)]
pub enum CallFailed {
    /// The plugin failed.
    #[error(transparent)]
    Crash(Crash),
    /// The host stopped it; nobody is to blame.
    #[error("stopped by the host")]
    Stopped,
    /// A person wants the task to end.
    #[error("interrupted by hand")]
    Asked,
    /// It would have gone over the job's budget.
    #[error("interrupted before it went over the budget")]
    OverBudget,
    /// The host could not make a change that it asked for.
    #[error("{0}")]
    Hindered(Hindrance),
}

/// One attempt of a task: its answer, and what it did to files.
pub struct Attempted {
    /// What the guest answered.
    pub answer: Result<Result<Outcome, Failure>, CallFailed>,
    /// What it changed, as far as that was not handed over before.
    pub effects: Vec<Recorded>,
    /// All that it changed.
    pub progress: Progress,
    /// The hold that it met, if it met one.
    pub held: Option<Held>,
}

/// What both roles share: the store, and what the instance was made for.
struct Seat {
    store: Store<GuestState>,
    generation: Arc<Generation>,
}

impl Seat {
    /// Instantiates, with the mounts that stand there now.
    fn start(
        custody: &Arc<Custody>,
        role: Role,
        generation: &Arc<Generation>,
        gate: &Arc<Gate>,
    ) -> Result<(Self, wasmtime::component::Instance), StartFailed> {
        let plugin = &generation.plugin;
        let state = GuestState::new(custody, role, generation.number, plugin.digest, Arc::clone(gate))?;
        let mut store = state.into_store(&plugin.engine.wasmtime);
        let running = plugin.engine.guest_runs();
        let started = refuel(&mut store).and_then(|()| plugin.pre.instantiate(&mut store));
        drop(running);
        let interrupt = store.data_mut().end_call();
        match started.map_err(|error| (interrupt.or_else(|| interrupt_in(&error)), error)) {
            Ok(instance) => {
                generation.note_lack(None);
                Ok((Self { store, generation: Arc::clone(generation) }, instance))
            }
            Err((interrupt, error)) => Err(match interrupt {
                Some(Interrupt::Stopped | Interrupt::Asked | Interrupt::OverBudget | Interrupt::Hindered(_)) => {
                    StartFailed::Stopped
                }
                Some(Interrupt::Deadline(limit)) => StartFailed::Plugin(Crash::Deadline(limit)),
                Some(Interrupt::Changes(limit)) => StartFailed::Plugin(Crash::Changes(limit)),
                Some(Interrupt::Written(limit)) => StartFailed::Plugin(Crash::Written(limit)),
                None => match blame::of_the_machine(&error) {
                    Some(why) => {
                        generation.note_lack(Some(&why));
                        StartFailed::Machine(format!("{why} ({})", in_one_line(&error)))
                    }
                    None => StartFailed::Plugin(started_badly(store.data(), &error)),
                },
            }),
        }
    }

    fn serves(&self, generation: &Arc<Generation>, gate: &Arc<Gate>) -> bool {
        Arc::ptr_eq(&self.generation, generation)
            && Arc::ptr_eq(self.store.data().gate(), gate)
            && self.store.data().mounts_stand()
    }

    /// Makes one call and sorts how it ended.
    fn call<T, E: Into<Failure>>(
        &mut self,
        task: Option<&ClaimedTask>,
        call: impl FnOnce(&mut Store<GuestState>) -> wasmtime::Result<Result<T, E>>,
    ) -> Result<Result<T, Failure>, CallFailed> {
        self.store.data_mut().begin_call(task);
        self.store.set_epoch_deadline(1);
        let running = self.generation.plugin.engine.guest_runs();
        let answer = refuel(&mut self.store).and_then(|()| call(&mut self.store));
        drop(running);
        let interrupt = self.store.data_mut().end_call();
        match answer {
            Ok(answer) => Ok(answer.map_err(|failure| {
                let failure: Failure = failure.into();
                failure.after(self.store.data().refusal())
            })),
            Err(error) => Err(match interrupt.or_else(|| interrupt_in(&error)) {
                Some(Interrupt::Stopped) => CallFailed::Stopped,
                Some(Interrupt::Asked) => CallFailed::Asked,
                Some(Interrupt::OverBudget) => CallFailed::OverBudget,
                Some(Interrupt::Hindered(hindrance)) => CallFailed::Hindered(hindrance),
                Some(Interrupt::Deadline(limit)) => CallFailed::Crash(Crash::Deadline(limit)),
                Some(Interrupt::Changes(limit)) => CallFailed::Crash(Crash::Changes(limit)),
                Some(Interrupt::Written(limit)) => CallFailed::Crash(Crash::Written(limit)),
                None => CallFailed::Crash(crash_of(self.store.data(), &error)),
            }),
        }
    }
}

/// Gives the guest the fuel of one call, where its job counts it.
fn refuel(store: &mut Store<GuestState>) -> wasmtime::Result<()> {
    store.data().job().limits.fuel.map_or(Ok(()), |fuel| store.set_fuel(fuel))
}

/// The interrupt that a file call met, where one did: it ends the call without
/// a chance to note it.
fn interrupt_in(error: &wasmtime::Error) -> Option<Interrupt> {
    error.downcast_ref::<Interrupt>().copied()
}

/// An instance that decides. It serves until it fails or the slot changes.
pub struct DispatcherInstance {
    seat: Seat,
    exports: Dispatcher,
}

impl DispatcherInstance {
    /// Makes one; `None` where the plugin has no dispatcher.
    pub fn start(
        custody: &Arc<Custody>,
        generation: &Arc<Generation>,
        gate: &Arc<Gate>,
    ) -> Result<Option<Self>, StartFailed> {
        let Some(indices) = &generation.plugin.dispatcher else { return Ok(None) };
        let (mut seat, instance) = Seat::start(custody, Role::Dispatcher, generation, gate)?;
        let exports = indices.load(&mut seat.store, &instance).map_err(|error| not_loaded(&error))?;
        Ok(Some(Self { seat, exports }))
    }

    /// Whether it may be used for this generation, under this gate, with the
    /// mounts that stand there now.
    #[must_use]
    pub fn serves(&self, generation: &Arc<Generation>, gate: &Arc<Gate>) -> bool {
        self.seat.serves(generation, gate)
    }

    /// Asks what is to become of `due`.
    pub fn dispatch(&mut self, call: &SweepCall, due: &[ClaimedTask]) -> Result<Result<Plan, Failure>, CallFailed> {
        let Self { seat, exports } = self;
        let max_attempts = seat.store.data().job().retry.max_attempts;
        let due: Vec<_> = due.iter().map(|task| bindings::task(task, max_attempts)).collect();
        let sweep = bindings::sweep(call);
        let plan = seat.call(None, |store| exports.call_dispatch(store, &sweep, &due))?;
        Ok(plan.map(Into::into))
    }
}

/// An instance that acts. It serves one thread's tasks until it fails, the slot
/// changes, or it has served enough.
pub struct ExecutorInstance {
    seat: Seat,
    exports: Executor,
    served: u32,
}

impl ExecutorInstance {
    /// Makes one.
    pub fn start(custody: &Arc<Custody>, generation: &Arc<Generation>, gate: &Arc<Gate>) -> Result<Self, StartFailed> {
        let (mut seat, instance) = Seat::start(custody, Role::Executor, generation, gate)?;
        let exports =
            generation.plugin.executor.load(&mut seat.store, &instance).map_err(|error| not_loaded(&error))?;
        Ok(Self { seat, exports, served: 0 })
    }

    /// Whether it may be used for this generation, under this gate, with the
    /// mounts that stand there now. Looks at the mounts: ask once a batch.
    #[must_use]
    pub fn serves(&self, generation: &Arc<Generation>, gate: &Arc<Gate>) -> bool {
        self.seat.serves(generation, gate)
    }

    /// Whether it has served so much, or holds so much memory, that the next
    /// task should get a fresh one.
    #[must_use]
    pub fn is_worn(&self) -> bool {
        let state = self.seat.store.data();
        let limits = &state.job().limits;
        self.served >= limits.tasks_per_instance || state.memory_used() as u64 > limits.memory / 2
    }

    /// Makes one attempt of `task`.
    pub fn execute(&mut self, task: &ClaimedTask) -> Attempted {
        let Self { seat, exports, served } = self;
        *served += 1;
        let max_attempts = seat.store.data().job().retry.max_attempts;
        let given = bindings::task(task, max_attempts);
        let outcome = seat.call(Some(task), |store| exports.call_execute(store, &given));
        let state = seat.store.data_mut();
        // What it could not even look at is not the task's fault.
        let outcome = match outcome {
            Ok(Err(failure)) => {
                state.take_trouble().map_or(Ok(Err(failure)), |trouble| Err(CallFailed::Hindered(trouble)))
            }
            outcome => outcome,
        };
        let (effects, progress, held) = (state.take_effects(), state.progress(), state.take_held());
        Attempted { answer: outcome.map(|answer| answer.map(Into::into)), effects, progress, held }
    }
}

fn not_loaded(error: &wasmtime::Error) -> StartFailed {
    StartFailed::Plugin(Crash::Start(in_one_line(error)))
}

impl Plugin {
    /// Instantiates once without mounts and with the dispatcher's deadline:
    /// what cannot start is not taken.
    pub fn try_start(&self, job: &JobSpec, gate: &Arc<Gate>, clock: &Clock) -> Result<(), StartFailed> {
        let job = Arc::new(JobSpec { mounts: Vec::new(), ..job.clone() });
        let custody = Custody::simulated(job, JobId(0), clock.clone());
        let trial = Arc::new(Generation::new(0, self.clone(), clock.now(), false));
        Seat::start(&custody, Role::Dispatcher, &trial, gate).map(drop)
    }
}
