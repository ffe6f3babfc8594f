//! A sweep that changes nothing: the real dispatcher and executor over the real
//! queue and files, with every change simulated.
//!
//! ```text
//!  due tasks ─┐
//!             ├─▶ DISPATCH ─▶ EXECUTE ─▶ effects, told as they come
//!  found ◀────┘  (discoveries come back as due tasks, as in the next sweep)
//! ```
//! Nothing changes by construction: the queue is only looked at (`peek_due`), and
//! a simulating [`Custody`] has no way to a system call that changes a file.
//! Memory is bounded by what one dispatch may discover and by what the overlay
//! keeps.

use std::collections::{HashSet, VecDeque};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;

use tokio::runtime::Handle;

use crate::domain::effect::{Effect, EffectResult};
use crate::domain::foreseen::{End, Foreseen, ForeseenEffect, ForeseenTask, Summary};
use crate::domain::outcome::{Failure, Outcome};
use crate::domain::plan::{Decided, Plan, SweepCall};
use crate::domain::task::{ClaimedTask, Fence, NewTask, TaskId};
use crate::domain::time::Timestamp;
use crate::plugin::{Attempted, CallFailed, DispatcherInstance, ExecutorInstance, Generation, StartFailed};
use crate::sandbox::{Custody, Gate};
use crate::store::{DuePlace, PeekDue, SharedStore, StoreError};

/// What is simulated.
pub struct Simulation {
    /// The queue; `None` where there is none yet.
    pub store: Option<SharedStore>,
    /// A simulating custody of the job's files.
    pub custody: Arc<Custody>,
    /// Whose decisions.
    pub generation: Arc<Generation>,
    /// The store's time, or the machine's where there is no queue.
    pub now: Timestamp,
    /// Whether the policy may look for work of its own.
    pub scan: bool,
    /// At most so many tasks are executed.
    pub limit: Option<u64>,
    /// Closed, it ends the simulation.
    pub gate: Arc<Gate>,
}

/// Why a simulation could not go on.
#[derive(Debug, thiserror::Error)]
pub enum SimulationError {
    /// The queue cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The plugin could not be started.
    #[error(transparent)]
    Start(#[from] StartFailed),
    /// The dispatcher gave no plan, or one that the host refuses.
    #[error("dispatch: {0}")]
    Dispatch(String),
}

impl Simulation {
    /// Runs it, and tells what it foresees as it comes. Blocks the thread, which
    /// must not be one of the runtime's workers.
    pub fn run(self, runtime: &Handle, tell: &mut dyn FnMut(Foreseen)) -> Result<Summary, SimulationError> {
        let _entered = runtime.enter();
        let dispatcher = DispatcherInstance::start(&self.custody, &self.generation, &self.gate)?;
        let cursor = match &self.store {
            Some(store) if self.scan => {
                runtime.block_on(store.cursor(self.custody.id, self.generation.plugin.digest))?
            }
            _ => None,
        };
        let scan = if self.scan && dispatcher.is_some() { Scan::From(cursor) } else { Scan::Over };
        let run = Run {
            simulation: &self,
            runtime,
            dispatcher,
            executor: None,
            tell,
            queue: if self.store.is_some() { Place::Begin } else { Place::End },
            found: VecDeque::new(),
            keys: HashSet::new(),
            scan,
            executed: 0,
            summary: Summary::default(),
        };
        run.finish()
    }
}

/// Where the scan stands.
#[derive(PartialEq, Eq)]
enum Scan {
    From(Option<String>),
    Over,
}

/// Where the look at the queue stands.
enum Place {
    Begin,
    After(DuePlace),
    End,
}

struct Run<'a> {
    simulation: &'a Simulation,
    runtime: &'a Handle,
    dispatcher: Option<DispatcherInstance>,
    executor: Option<ExecutorInstance>,
    tell: &'a mut dyn FnMut(Foreseen),
    queue: Place,
    /// Tasks that the policy found, each with its reason.
    found: VecDeque<(ClaimedTask, Option<String>)>,
    /// Of the keys that were seen: a live key is not queued twice.
    keys: HashSet<u64>,
    scan: Scan,
    executed: u64,
    summary: Summary,
}

impl Run<'_> {
    fn finish(mut self) -> Result<Summary, SimulationError> {
        loop {
            let due = self.next_due()?;
            if due.is_empty() && self.scan == Scan::Over {
                break;
            }
            let may_scan = due.iter().all(|(task, _)| task.id.in_queue().is_some());
            let (tasks, reasons): (Vec<_>, Vec<_>) = due.into_iter().unzip();
            let reasons: Vec<_> = tasks.iter().map(|task| task.id).zip(reasons).collect();
            let run = self.dispatch(tasks, may_scan, &reasons)?;
            for task in run {
                let reason = reasons.iter().find(|(id, _)| *id == task.id).and_then(|(_, reason)| reason.clone());
                if self.simulation.limit.is_some_and(|limit| self.executed >= limit) {
                    self.summary.ended_early = Some(format!("after {} tasks, as --limit asks", self.executed));
                    return Ok(self.conclude());
                }
                self.execute(&task, reason.as_deref())?;
                if self.simulation.custody.meter.over().is_some() {
                    self.summary.ended_early = Some("it would go over the budget".to_owned());
                    return Ok(self.conclude());
                }
            }
        }
        Ok(self.conclude())
    }

    /// What is offered next: the queue first, then what the policy found.
    fn next_due(&mut self) -> Result<Vec<(ClaimedTask, Option<String>)>, SimulationError> {
        let limit = self.simulation.custody.job.capacity;
        let after = match &self.queue {
            Place::End => {
                let count = self.found.len().min(limit as usize);
                return Ok(self.found.drain(..count).collect());
            }
            Place::Begin => None,
            Place::After(place) => Some(*place),
        };
        let (job, horizon) = (self.simulation.custody.id, self.simulation.now);
        let Some(store) = &self.simulation.store else { return Ok(Vec::new()) };
        let peeked = self.runtime.block_on(store.peek_due(PeekDue { job, horizon, after, limit }))?;
        self.queue = peeked.next.map_or(Place::End, Place::After);
        self.summary.due += peeked.tasks.len() as u64;
        for task in &peeked.tasks {
            self.keys.insert(hash(task.key.as_str()));
        }
        if peeked.tasks.is_empty() {
            self.next_due()
        } else {
            Ok(peeked.tasks.into_iter().map(|task| (task, None)).collect())
        }
    }

    fn dispatch(
        &mut self,
        due: Vec<ClaimedTask>,
        may_scan: bool,
        reasons: &[(TaskId, Option<String>)],
    ) -> Result<Vec<ClaimedTask>, SimulationError> {
        let cursor = match &self.scan {
            Scan::From(cursor) if may_scan => Some(cursor.clone()),
            _ => None,
        };
        let call = SweepCall {
            now: self.simulation.now,
            capacity: self.simulation.custody.job.capacity,
            scan: cursor.is_some(),
            cursor: cursor.flatten(),
        };
        let (decided, found) = self.decide(&call, due)?;
        if call.scan {
            let goes_on = decided.cursor.is_some() && decided.cursor != call.cursor;
            self.scan = if goes_on { Scan::From(decided.cursor.clone()) } else { Scan::Over };
        }
        let reason_of = |task: &ClaimedTask, own: Option<String>| {
            own.or_else(|| reasons.iter().find(|(id, _)| *id == task.id).and_then(|(_, reason)| reason.clone()))
        };
        for (task, ask) in decided.postpone {
            let reason = reason_of(&task, ask.reason);
            self.end(&task, End::Postponed, reason);
        }
        for (task, why) in decided.discard {
            self.end(&task, End::Discarded, Some(why));
        }
        for task in decided.unnamed {
            self.end(&task, End::Unnamed, None);
        }
        for (task, reason) in decided.discoveries.into_iter().zip(found) {
            self.find(task, reason);
        }
        Ok(decided.run)
    }

    /// The plan, checked as in a sweep, and the reasons of its discoveries.
    fn decide(
        &mut self,
        call: &SweepCall,
        due: Vec<ClaimedTask>,
    ) -> Result<(Decided, Vec<Option<String>>), SimulationError> {
        let Some(dispatcher) = &mut self.dispatcher else { return Ok((Decided::run_all(due), Vec::new())) };
        let failed = |why: String| SimulationError::Dispatch(why);
        let plan: Plan = match dispatcher.dispatch(call, &due).map_err(|error| failed(error.to_string()))? {
            Ok(plan) => plan,
            Err(Failure::Transient(why) | Failure::Permanent(why)) => return Err(failed(why)),
        };
        let reasons = plan.discoveries.iter().map(|found| found.reason.clone()).collect();
        let decided = plan.decide(call, due).map_err(|(refused, _)| failed(refused.to_string()))?;
        Ok((decided, reasons))
    }

    fn find(&mut self, task: NewTask, reason: Option<String>) {
        if !self.keys.insert(hash(task.key.as_str())) {
            return;
        }
        self.summary.discovered += 1;
        let later = task.run_at.is_some_and(|at| at > self.simulation.now);
        let task = ClaimedTask {
            id: TaskId(TaskId::SIMULATED + self.summary.discovered),
            fence: Fence(0),
            key: task.key,
            payload: task.payload,
            attempt: 1,
            losses: 0,
            enqueued_at: self.simulation.now,
            postponed_since: None,
            removed: 0,
        };
        if later { self.end(&task, End::Later, reason) } else { self.found.push_back((task, reason)) }
    }

    fn execute(&mut self, task: &ClaimedTask, reason: Option<&str>) -> Result<(), SimulationError> {
        self.executed += 1;
        let mut executor = match self.executor.take() {
            Some(executor) => executor,
            None => {
                ExecutorInstance::start(&self.simulation.custody, &self.simulation.generation, &self.simulation.gate)?
            }
        };
        let Attempted { answer, effects, held, .. } = executor.execute(task);
        for recorded in effects {
            let (effect, _) = recorded.part();
            self.tell_effect(&effect, task, reason);
        }
        let answered = answer.is_ok();
        let (end, why) = match (answer, held) {
            (_, Some(held)) => (End::Held, Some(held.reason)),
            (Ok(Ok(Outcome::Done(note))), _) => (End::Done, note),
            (Ok(Ok(Outcome::Skipped(why))), _) => (End::Skipped, Some(why)),
            (Ok(Ok(Outcome::Postpone(ask))), _) => (End::Postponed, ask.reason),
            (Ok(Err(Failure::Transient(why) | Failure::Permanent(why))), _) => (End::Failed, Some(why)),
            // The budget is told of by the caller.
            (Err(CallFailed::OverBudget), _) => return Ok(()),
            (Err(failed), _) => (End::Crashed, Some(failed.to_string())),
        };
        self.end(task, end, why);
        if answered && !executor.is_worn() {
            self.executor = Some(executor);
        }
        Ok(())
    }

    fn tell_effect(&mut self, effect: &Effect, task: &ClaimedTask, reason: Option<&str>) {
        let refused = match &effect.result {
            EffectResult::Failed(why) => Some(why.clone()),
            EffectResult::Done | EffectResult::Unknown => None,
        };
        if refused.is_none() {
            self.summary.add(effect);
            self.summary.takes = self.summary.takes.plus(effect.cost());
        }
        let path = effect.full_path().to_string_lossy().into_owned();
        let to = effect.to.as_ref().map(|to| {
            let mount = effect.to_mount.as_ref().unwrap_or(&effect.mount);
            std::path::Path::new(&**mount).join(to).to_string_lossy().into_owned()
        });
        (self.tell)(Foreseen::Effect(ForeseenEffect {
            operation: effect.operation,
            path,
            to,
            size: effect.size,
            allocated: effect.differing_allocation(),
            key: task.key.as_str().to_owned(),
            task: task.id.in_queue(),
            reason: reason.map(str::to_owned),
            refused,
        }));
    }

    fn end(&mut self, task: &ClaimedTask, end: End, reason: Option<String>) {
        self.summary.count(end);
        if end != End::Done {
            let key = task.key.as_str().to_owned();
            (self.tell)(Foreseen::Task(ForeseenTask { key, task: task.id.in_queue(), end, reason }));
        }
    }

    /// What goes over the budget is told also where the simulation was let do so.
    fn conclude(mut self) -> Summary {
        self.summary.over_budget = self.simulation.custody.meter.would_be_over().map(|over| over.to_string());
        self.summary
    }
}

fn hash(key: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    hasher.finish()
}
