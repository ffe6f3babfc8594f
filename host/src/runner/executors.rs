//! The executor threads of one job. Each keeps an instance from task to task
//! until it fails, the slot changes, or it is worn.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

use crate::domain::breaker::{Call, Sign};
use crate::domain::job::Isolation;
use crate::domain::outcome::{Crash, Ending, Progress};
use crate::domain::task::ClaimedTask;
use crate::domain::time::Clock;
use crate::faults::{self, Execution};
use crate::plugin::{Attempted, CallFailed, ExecutorInstance, StartFailed};
use crate::sandbox::{Custody, Recorded};
use crate::supervise;

use super::batch::{Batch, Completion, Completions, Work};

/// Completions are handed over when so many wait, when the oldest of them has
/// waited so long, or when there is nothing else to do.
const HAND_OVER: usize = 256;
const HAND_OVER_AFTER: Duration = Duration::from_millis(10);
/// An idle thread drops its instance: it holds descriptors of the mounts, which
/// would keep a disk from being unmounted.
const IDLE: Duration = Duration::from_secs(10);

/// Sends work to the executor threads of a job; they end when it is dropped.
pub(super) struct Executors {
    work: Sender<Work>,
    finished: Vec<Arc<Mutex<Finished>>>,
}

impl Executors {
    /// Starts the job's threads. The channel holds `room` tasks, which is as
    /// many as the feeder ever has in flight: it is never full.
    pub(super) fn start(custody: &Arc<Custody>, clock: &Clock, room: usize) -> std::io::Result<Self> {
        let job = &custody.job;
        let (work, receiver) = crossbeam_channel::bounded(room);
        let mut all_finished = Vec::with_capacity(job.concurrency);
        for number in 0..job.concurrency {
            let finished = Arc::new(Mutex::new(Finished::default()));
            all_finished.push(Arc::clone(&finished));
            let mut executor = Executor {
                custody: Arc::clone(custody),
                clock: clock.clone(),
                work: receiver.clone(),
                instance: None,
                finished,
            };
            let runtime = Handle::current();
            // Vital: a panic outside of an attempt leaves a task in flight whose end
            // nobody would tell.
            supervise::vital_thread(format!("exec-{number}-{}", job.name), move || {
                // Guests wait and print through the runtime.
                let _entered = runtime.enter();
                executor.run();
            })?;
        }
        Ok(Self { work, finished: all_finished })
    }

    /// Hands over, again and again, what a thread finished and holds while it
    /// is busy with a slow task. Never completes; cancel safe.
    pub(super) async fn hand_over_late(&self) {
        let mut tick = tokio::time::interval(HAND_OVER_AFTER * 2);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            self.finished.iter().for_each(|finished| locked(finished).hand_over());
        }
    }

    /// Hands a task to whichever thread is free next.
    pub(super) fn send(&self, work: Work) {
        self.work.try_send(work).unwrap_or_else(|_| {
            unreachable!("the channel has room for all tasks in flight, and threads live as long as it");
        });
    }
}

/// How an attempt ended, what it did that the database does not have yet, and
/// how much it did in all.
type Ended = (Ending, Vec<Recorded>, Progress);

/// One thread.
struct Executor {
    custody: Arc<Custody>,
    clock: Clock,
    work: Receiver<Work>,
    instance: Option<Seated>,
    /// Shared with [`Executors::hand_over_late`].
    finished: Arc<Mutex<Finished>>,
}

/// An instance and the batch for which it was last found fit to serve.
struct Seated {
    instance: ExecutorInstance,
    batch: crate::domain::task::Fence,
}

/// Completions that were not handed over yet.
#[derive(Default)]
struct Finished {
    tasks: Vec<Completion>,
    busy: Duration,
    since: Option<Instant>,
    to: Option<mpsc::Sender<Completions>>,
}

impl Executor {
    fn run(&mut self) {
        while let Some(Work { task, batch }) = self.next() {
            faults::die_here_if_asked();
            let (began, started) = (Instant::now(), self.clock.now());
            let (ending, effects, progress) = self.attempt_without_panic(&task, &batch);
            let ended = self.clock.now();
            // Here, not where results are written back: the next task must not
            // be begun under a generation that just broke.
            batch.job.heard(&batch.generation, Call::Execute, Sign::of(&ending, progress), || match &ending {
                Ending::Crashed(crash) | Ending::NotStarted(crash) => crash.to_string(),
                _ => String::new(),
            });
            let completion = Completion {
                task,
                fence: batch.fence,
                node: batch.node,
                generation: Arc::clone(&batch.generation),
                ending,
                effects,
                progress,
                started,
                ended,
            };
            locked(&self.finished).push(completion, began, &batch.completions);
        }
    }

    /// The next task; `None` when the job has ended.
    fn next(&mut self) -> Option<Work> {
        match self.work.try_recv() {
            Ok(work) => return Some(work),
            Err(TryRecvError::Disconnected) => return None,
            Err(TryRecvError::Empty) => locked(&self.finished).hand_over(),
        }
        match self.work.recv_timeout(IDLE) {
            Ok(work) => Some(work),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => {
                self.instance = None;
                self.work.recv().ok()
            }
        }
    }

    /// A panic of the host's own code costs an attempt, not the thread: the
    /// sweep waits for every task that it handed over.
    fn attempt_without_panic(&mut self, task: &ClaimedTask, batch: &Batch) -> Ended {
        let execution = Execution::of(task);
        let attempt = std::panic::AssertUnwindSafe(|| self.attempt(task, batch, &execution));
        let ended = std::panic::catch_unwind(attempt).unwrap_or_else(|_| {
            self.instance = None;
            let why = "the host panicked while it ran the task; this is a bug in sweepd".to_owned();
            // What it did is in the journal, and imported at the next start.
            (Ending::Crashed(Crash::Trap(why)), Vec::new(), Progress::default())
        });
        execution.end(&ended.0);
        ended
    }

    fn attempt(&mut self, task: &ClaimedTask, batch: &Batch, execution: &Execution<'_>) -> Ended {
        let mut seated = match self.seat_for(task, batch) {
            Ok(seated) => seated,
            Err(ending) => return (ending, Vec::new(), Progress::default()),
        };
        execution.start();
        let Attempted { answer, effects, progress, held } = seated.instance.execute(task);
        let ending = match answer {
            Ok(answer) => {
                if self.custody.job.isolation == Isolation::Thread && !seated.instance.is_worn() {
                    self.instance = Some(seated);
                }
                match held {
                    Some(held) => Ending::Held { reason: held.reason, until: held.until },
                    None => Ending::Answered(answer),
                }
            }
            Err(CallFailed::Crash(crash)) => Ending::Crashed(crash),
            Err(CallFailed::Stopped) => Ending::Stopped,
            Err(CallFailed::Asked) => Ending::Interrupted,
            Err(CallFailed::OverBudget) => Ending::OverBudget,
            Err(CallFailed::Hindered(hindrance)) if hindrance.is_of_a_mount() && self.custody.job.mounts.len() > 1 => {
                Ending::Hindered
            }
            // It hinders the other tasks of the batch, too.
            Err(CallFailed::Hindered(hindrance)) => {
                Ending::Untried(batch.not_started.get_or_init(|| self.custody.in_words(hindrance)).clone())
            }
        };
        (ending, effects, progress)
    }

    /// An instance for the task, or why it is not executed.
    fn seat_for(&mut self, task: &ClaimedTask, batch: &Batch) -> Result<Seated, Ending> {
        if let Some(why) = batch.not_started.get() {
            return Err(Ending::Untried(why.clone()));
        }
        if batch.job.phase.is_stopping() || !batch.gate.is_open() {
            return Err(Ending::Stopped);
        }
        if self.custody.meter.over().is_some() {
            return Err(Ending::OverBudget);
        }
        if batch.gate.is_out(task.id) {
            return Err(Ending::Interrupted);
        }
        self.seat(batch).map_err(|failed| match failed {
            StartFailed::Stopped => Ending::Stopped,
            // Of the threads that met it together, one says so: it is one failure.
            StartFailed::Plugin(crash) => match batch.not_started.set(crash.to_string()) {
                Ok(()) => Ending::NotStarted(crash),
                Err(why) => Ending::Untried(why),
            },
            failed @ (StartFailed::Mount(_) | StartFailed::Machine(_)) => {
                Ending::Untried(batch.not_started.get_or_init(|| failed.to_string()).clone())
            }
        })
    }

    /// The instance for a task of `batch`. Whether an old one may serve is
    /// asked once a batch, for it looks at the mounts.
    fn seat(&mut self, batch: &Batch) -> Result<Seated, StartFailed> {
        let kept = self
            .instance
            .take()
            .filter(|seated| seated.batch == batch.fence || seated.instance.serves(&batch.generation, &batch.gate));
        let instance = match kept {
            Some(seated) => seated.instance,
            None => ExecutorInstance::start(&self.custody, &batch.generation, &batch.gate)?,
        };
        Ok(Seated { instance, batch: batch.fence })
    }
}

fn locked(finished: &Mutex<Finished>) -> MutexGuard<'_, Finished> {
    finished.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Finished {
    fn push(&mut self, completion: Completion, began: Instant, to: &mpsc::Sender<Completions>) {
        let now = Instant::now();
        self.busy += now - began;
        self.to.get_or_insert_with(|| to.clone());
        self.tasks.push(completion);
        let since = *self.since.get_or_insert(now);
        if self.tasks.len() >= HAND_OVER || now - since >= HAND_OVER_AFTER {
            self.hand_over();
        }
    }

    fn hand_over(&mut self) {
        let Self { tasks, busy, to, .. } = std::mem::take(self);
        if let Some(to) = to {
            // It has room for all tasks in flight, and the receiver outlives
            // them; if its sweep was torn down all the same, the next start
            // brings the tasks back.
            let _ = to.try_send(Completions { tasks, busy });
        }
    }
}
