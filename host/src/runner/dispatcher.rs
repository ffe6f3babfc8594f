//! The thread on which a job's dispatcher runs, one call at a time.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, mpsc as std_mpsc};

use tokio::runtime::Handle;
use tokio::sync::oneshot;

use crate::domain::breaker::Sign;
use crate::domain::outcome::{Crash, Failure};
use crate::domain::plan::{Decided, Plan, PlanRefused, SweepCall};
use crate::domain::task::ClaimedTask;
use crate::faults;
use crate::plugin::{CallFailed, DispatcherInstance, Generation, StartFailed, World};
use crate::sandbox::{Custody, Gate};
use crate::supervise;

/// Why there is no plan. The batch comes back: no task is charged.
#[derive(Debug, thiserror::Error)]
pub(super) enum DispatchError {
    /// The plugin asks to be paused.
    #[error("the dispatcher failed for good: {0}")]
    Permanent(String),
    /// The dispatcher says that it cannot now.
    #[error("the dispatcher failed: {0}")]
    Transient(String),
    /// The plugin crashed.
    #[error("dispatch: {0}")]
    Crash(Crash),
    /// The plan breaks the contract.
    #[error("the plan was refused: {0}")]
    Refused(PlanRefused),
    /// A mount cannot be used, or the machine lacks something.
    #[error("{0}")]
    Hindered(String),
    /// The host stopped it.
    #[error("stopped by the host")]
    Stopped,
    /// Its thread panicked with the batch, whose tasks are known to the store
    /// alone.
    #[error("the host panicked while it read the plan; this is a bug in sweepd")]
    Gone,
}

impl DispatchError {
    /// What it says about the plugin: a refusal is an answer.
    pub(super) fn sign(&self) -> Sign {
        match self {
            Self::Permanent(_) | Self::Transient(_) | Self::Refused(_) => Sign::Answer,
            Self::Crash(_) => Sign::Crash,
            Self::Hindered(_) | Self::Stopped | Self::Gone => Sign::Neither,
        }
    }
}

/// A refusal with the tasks that were offered.
pub(super) type Undecided = (DispatchError, Vec<ClaimedTask>);

struct Question {
    generation: Arc<Generation>,
    gate: Arc<Gate>,
    call: SweepCall,
    due: Vec<ClaimedTask>,
    answer: oneshot::Sender<Result<Decided, Undecided>>,
}

/// Asks the dispatcher's thread, which ends when this is dropped.
pub(super) struct Dispatcher {
    /// Holds one question: a sweep waits for the answer before the next.
    questions: std_mpsc::SyncSender<Question>,
}

impl Dispatcher {
    /// Starts the thread.
    pub(super) fn start(custody: &Arc<Custody>) -> std::io::Result<Self> {
        let (questions, receiver) = std_mpsc::sync_channel::<Question>(1);
        let (custody, runtime) = (Arc::clone(custody), Handle::current());
        // Kept: what runs the guest is caught by itself, so that no question is lost,
        // and the instance is made anew.
        supervise::kept_thread(format!("plan-{}", custody.job.name), move || {
            let _entered = runtime.enter();
            let mut thread = DispatcherThread { custody: Arc::clone(&custody), instance: None };
            while let Ok(question) = receiver.recv() {
                let Question { generation, gate, call, due, answer } = question;
                let decided = thread.decide(&generation, &gate, &call, due);
                // Whoever asked may be gone; its lease brings the tasks back.
                let _ = answer.send(decided);
                faults::die_here_if_asked();
            }
        })?;
        Ok(Self { questions })
    }

    /// What is to become of `due`. A plugin that only acts is not asked: first
    /// in, first out.
    pub(super) async fn decide(
        &self,
        generation: &Arc<Generation>,
        gate: &Arc<Gate>,
        call: SweepCall,
        due: Vec<ClaimedTask>,
    ) -> Result<Decided, Undecided> {
        if generation.plugin.world() == World::ExecutorOnly {
            return Ok(Decided::run_all(due));
        }
        let (answer, answered) = oneshot::channel();
        let (generation, gate) = (Arc::clone(generation), Arc::clone(gate));
        let question = Question { generation, gate, call, due, answer };
        if let Err(unsent) = self.questions.try_send(question) {
            let (std_mpsc::TrySendError::Full(question) | std_mpsc::TrySendError::Disconnected(question)) = unsent;
            return Err((DispatchError::Transient("its thread is busy or gone".to_owned()), question.due));
        }
        answered.await.unwrap_or_else(|_| Err((DispatchError::Gone, Vec::new())))
    }
}

struct DispatcherThread {
    custody: Arc<Custody>,
    instance: Option<DispatcherInstance>,
}

impl DispatcherThread {
    fn decide(
        &mut self,
        generation: &Arc<Generation>,
        gate: &Arc<Gate>,
        call: &SweepCall,
        due: Vec<ClaimedTask>,
    ) -> Result<Decided, Undecided> {
        // A panic of the host's own code must neither end the thread nor lose the batch.
        let asked = catch_unwind(AssertUnwindSafe(|| self.ask(generation, gate, call, &due)));
        let plan = asked.unwrap_or_else(|_| {
            let why = "the host panicked while it ran the dispatcher; this is a bug in sweepd".to_owned();
            Err(DispatchError::Crash(Crash::Trap(why)))
        });
        match plan {
            Ok(None) => Ok(Decided::run_all(due)),
            Ok(Some(plan)) => plan.decide(call, due).map_err(|(refused, due)| (DispatchError::Refused(refused), due)),
            Err(error) => Err((error, due)),
        }
    }

    /// The guest's plan; `None` where it has no dispatcher.
    fn ask(
        &mut self,
        generation: &Arc<Generation>,
        gate: &Arc<Gate>,
        call: &SweepCall,
        due: &[ClaimedTask],
    ) -> Result<Option<Plan>, DispatchError> {
        let kept = self.instance.take().filter(|instance| instance.serves(generation, gate));
        let started = match kept {
            Some(instance) => Ok(Some(instance)),
            None => DispatcherInstance::start(&self.custody, generation, gate),
        };
        let mut instance = match started {
            Ok(Some(instance)) => instance,
            Ok(None) => return Ok(None),
            Err(StartFailed::Stopped) => return Err(DispatchError::Stopped),
            Err(StartFailed::Plugin(crash)) => return Err(DispatchError::Crash(crash)),
            Err(failed @ (StartFailed::Mount(_) | StartFailed::Machine(_))) => {
                return Err(DispatchError::Hindered(failed.to_string()));
            }
        };
        let plan = match instance.dispatch(call, due) {
            Ok(plan) => plan,
            // A dispatcher has no task that somebody could end, and takes nothing away.
            Err(CallFailed::Stopped | CallFailed::Asked | CallFailed::OverBudget | CallFailed::Hindered(_)) => {
                return Err(DispatchError::Stopped);
            }
            Err(CallFailed::Crash(crash)) => return Err(DispatchError::Crash(crash)),
        };
        self.instance = Some(instance);
        match plan {
            Ok(plan) => Ok(Some(plan)),
            Err(Failure::Transient(why)) => Err(DispatchError::Transient(why)),
            Err(Failure::Permanent(why)) => Err(DispatchError::Permanent(why)),
        }
    }
}
