//! One pass over a job: claim, dispatch, execute, again, until what was due at
//! its start has been offered.
//!
//! ```text
//!  feed:  room? ─▶ claim ─▶ decide ─▶ apply the plan ─▶ executor threads
//!  write:                              finish ◀─ completions ◀┘
//! ```
//! Both run side by side: while a batch executes, the next is claimed.

// length: what happens to a task, in order, is read in one piece.

use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use crate::domain::breaker::{Call, Sign};
use crate::domain::outcome::{self, Attempt, Disposition, Finish, Progress};
use crate::domain::plan::{Decided, SweepCall};
use crate::domain::status::SweepReport;
use crate::domain::task::{ClaimedTask, Enqueued, Fence};
use crate::domain::time::Timestamp;
use crate::plugin::{Generation, World};
use crate::sandbox::Gate;
use crate::store::{ApplyPlan, At, Claim, CursorUpdate, StoreError, WriteBack};

use super::batch::{Batch, Completions, Work};
use super::dispatcher::{DispatchError, Dispatcher};
use super::executors::Executors;
use super::fit::Size;
use super::job::Job;
use super::write_back::{Flow, stored, write_back};

/// One claim in so many goes lowest priority first.
const LOWEST_FIRST_EVERY: u64 = 10;

/// Why a sweep ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum SweepEnd {
    /// All that was due has been offered.
    Exhausted,
    /// Its time was up; more is due.
    Yielded,
    /// The job was paused, the host stops, or nothing is in the slot.
    Stopped,
    /// The store, a mount or the plugin failed.
    Failed(String),
    /// The dispatcher asks for a pause.
    FailedForGood(String),
}

impl SweepEnd {
    /// What went wrong, if anything did.
    pub(super) fn error(&self) -> Option<String> {
        match self {
            Self::Failed(error) | Self::FailedForGood(error) => Some(error.clone()),
            Self::Exhausted | Self::Yielded | Self::Stopped => None,
        }
    }
}

/// What came of a sweep.
pub(super) struct Swept {
    pub(super) report: SweepReport,
    pub(super) end: SweepEnd,
    /// Whether its scan went to its end; all that was found is stored.
    pub(super) scanned: bool,
}

/// The threads of a job.
pub(super) struct Threads {
    pub(super) dispatcher: Dispatcher,
    pub(super) executors: Executors,
}

/// Sweeps once. With `scan` the dispatcher is called even where nothing is due,
/// and may look for work of its own.
/// Runs under `gate`, which whoever calls took before it could be closed.
pub(super) async fn sweep_once(job: &Arc<Job>, threads: &Threads, gate: Arc<Gate>, scan: bool) -> Swept {
    let began = Instant::now();
    let now = match job.store.now(At::Server).await {
        Ok(now) => now,
        Err(error) => return failed(&error),
    };
    let flow = Flow::new(SweepReport { started_at: now, ..SweepReport::default() });
    // Each message carries at least one task in flight, so that a thread never waits here.
    let (completions, completed) = mpsc::channel(2 * job.spec.capacity as usize + 1);
    let sweep = Sweep { job, threads, flow: &flow, gate };
    let window = Window { horizon: now, began };
    let flowing = async { tokio::join!(sweep.feed(window, scan, completions), write_back(job, &flow, completed)).0 };
    let end = tokio::select! {
        end = flowing => end,
        // What a thread finished must not wait for the slow task after it.
        () = threads.executors.hand_over_late() => unreachable!("it goes on for ever"),
    };
    let (mut report, scanned) = flow.into_report();
    report.took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    let end = match (end, report.error.clone()) {
        (SweepEnd::Exhausted | SweepEnd::Yielded, Some(error)) => SweepEnd::Failed(error),
        (end, _) => end,
    };
    if let SweepEnd::Failed(error) | SweepEnd::FailedForGood(error) = &end {
        report.error = Some(error.clone());
    }
    Swept { report, end, scanned }
}

fn failed(error: &StoreError) -> Swept {
    let error = error.to_string();
    let report = SweepReport { error: Some(error.clone()), ..SweepReport::default() };
    Swept { report, end: SweepEnd::Failed(error), scanned: false }
}

pub(super) struct Sweep<'a> {
    pub(super) job: &'a Arc<Job>,
    threads: &'a Threads,
    pub(super) flow: &'a Flow,
    pub(super) gate: Arc<Gate>,
}

/// What is offered: all that was due at its horizon, each task once.
#[derive(Clone, Copy, Debug)]
struct Window {
    horizon: Timestamp,
    began: Instant,
}

/// Where this sweep's scan stands.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Scan {
    /// The next call may scan, from this cursor.
    From(Option<String>),
    /// It has ended, or this sweep has none.
    Over,
}

impl Sweep<'_> {
    async fn feed(&self, window: Window, scan: bool, completions: mpsc::Sender<Completions>) -> SweepEnd {
        match self.feed_until_end(window, scan, &completions).await {
            Ok(end) => end,
            Err(error) => SweepEnd::Failed(error.to_string()),
        }
    }

    async fn feed_until_end(
        &self,
        mut window: Window,
        scan: bool,
        completions: &mpsc::Sender<Completions>,
    ) -> Result<SweepEnd, StoreError> {
        self.release_late_claims().await;
        let Some(mut generation) = self.job.slot.current() else { return Ok(SweepEnd::Stopped) };
        let mut scan = self.begin_scan(scan, &generation).await?;
        for number in 0_u64.. {
            let limit = self.job.fit.tasks(self.job.pace.batch(&self.job.spec));
            self.flow.room_for(limit).await;
            if let Some(end) = self.must_end() {
                return Ok(end);
            }
            if window.began.elapsed() >= self.job.spec.max_sweep {
                if timeout(self.job.spec.interval, self.flow.room_for(0)).await.is_ok() {
                    return Ok(SweepEnd::Yielded);
                }
                window = self.window().await?;
            }
            // The batch begins: from here to its last finish it keeps this generation.
            let Some(current) = self.job.slot.current() else { return Ok(SweepEnd::Stopped) };
            if current.plugin.digest != generation.plugin.digest && scan != Scan::Over {
                scan = self.begin_scan(true, &current).await?;
            }
            generation = current;
            let lowest_first = number % LOWEST_FIRST_EVERY == LOWEST_FIRST_EVERY - 1;
            let suspects = self.flow.is_idle();
            let claim = self.claim(window.horizon, limit, lowest_first, suspects).await?;
            if claim.is_none() && scan == Scan::Over {
                if suspects {
                    return Ok(SweepEnd::Exhausted);
                }
                window = self.wait_for_more(window).await?;
                continue;
            }
            let alone = claim.as_ref().is_some_and(|claim| claim.tasks.iter().any(|task| task.losses > 0));
            scan = match self.batch(&generation, window.horizon, claim, scan, completions).await? {
                Ok(scan) => scan,
                Err(end) => return Ok(end),
            };
            if alone {
                self.flow.room_for(0).await;
            }
        }
        Ok(SweepEnd::Yielded)
    }

    fn must_end(&self) -> Option<SweepEnd> {
        if self.job.phase.is_stopping() || !self.gate.is_open() || self.job.custody.meter.over().is_some() {
            return Some(SweepEnd::Stopped);
        }
        // A batch that could not start its plugin has said why.
        self.flow.has_failed().then_some(SweepEnd::Exhausted)
    }

    async fn window(&self) -> Result<Window, StoreError> {
        Ok(Window { horizon: self.job.store.now(At::Server).await?, began: Instant::now() })
    }

    /// All of the window is offered, and something still runs: until it is done
    /// (what is left, if anything, must run alone) or something may be due that
    /// was not. A slow task holds up no other.
    async fn wait_for_more(&self, window: Window) -> Result<Window, StoreError> {
        tokio::select! {
            () = self.flow.room_for(0) => Ok(window),
            () = self.job.wake.notified() => self.window().await,
            () = sleep(self.job.spec.interval) => self.window().await,
        }
    }

    async fn begin_scan(&self, scan: bool, generation: &Generation) -> Result<Scan, StoreError> {
        if !scan {
            return Ok(Scan::Over);
        }
        if generation.plugin.world() == World::ExecutorOnly {
            self.flow.end_scan();
            return Ok(Scan::Over);
        }
        Ok(Scan::From(self.job.store.cursor(self.job.id, generation.plugin.digest).await?))
    }

    /// Decides about one claim and hands on what is to run. Answers where the
    /// scan stands, or why the sweep ends here.
    async fn batch(
        &self,
        generation: &Arc<Generation>,
        now: Timestamp,
        claim: Option<Claim>,
        scan: Scan,
        completions: &mpsc::Sender<Completions>,
    ) -> Result<Result<Scan, SweepEnd>, StoreError> {
        let (fence, due) = claim.map_or((None, Vec::new()), |claim| (Some(claim.fence), claim.tasks));
        let call = SweepCall {
            now,
            capacity: self.job.spec.capacity,
            scan: scan != Scan::Over,
            cursor: match &scan {
                Scan::From(cursor) => cursor.clone(),
                Scan::Over => None,
            },
        };
        let (given, size, component) = (call.cursor.clone(), Size::of(&due), generation.plugin.digest);
        let decided = self.threads.dispatcher.decide(generation, &self.gate, call, due).await;
        let sign = decided.as_ref().map_or_else(|(error, _)| error.sign(), |_| Sign::Answer);
        self.job.heard(generation, Call::Dispatch, sign, || {
            decided.as_ref().err().map_or_else(String::new, |(error, _)| error.to_string())
        });
        let decided = match decided {
            Ok(decided) => {
                self.job.fit.decided(component, size, self.job.spec.capacity);
                decided
            }
            Err((error, due)) => {
                if matches!(error, DispatchError::Crash(_) | DispatchError::Refused(_)) {
                    self.job.fit.crashed(component, size);
                }
                if !matches!(error, DispatchError::Stopped | DispatchError::Gone) {
                    self.job.say_error_of(generation, error.to_string());
                }
                if matches!(error, DispatchError::Gone) {
                    self.release_unheld(self.job.node.id()).await;
                } else {
                    self.release(fence, due).await;
                }
                return Ok(Err(match error {
                    DispatchError::Stopped => SweepEnd::Stopped,
                    DispatchError::Permanent(_) => SweepEnd::FailedForGood(error.to_string()),
                    _ => SweepEnd::Failed(error.to_string()),
                }));
            }
        };
        let next = match (&scan, &decided.cursor) {
            (Scan::From(_), Some(cursor)) if Some(cursor) != given.as_ref() => Scan::From(Some(cursor.clone())),
            _ => Scan::Over,
        };
        let cursor_changed = scan != Scan::Over && decided.cursor != given;
        let run = self.apply(generation, fence, decided, cursor_changed).await?;
        if scan != Scan::Over && next == Scan::Over {
            self.flow.end_scan();
        }
        if let Some(fence) = fence.filter(|_| !run.is_empty()) {
            self.execute(generation, fence, run, completions);
        }
        Ok(Ok(next))
    }

    /// Writes what the plan asks for, and answers what is to run. A plan of
    /// nothing but `run` writes nothing.
    async fn apply(
        &self,
        generation: &Generation,
        fence: Option<Fence>,
        decided: Decided,
        cursor_changed: bool,
    ) -> Result<Vec<ClaimedTask>, StoreError> {
        let job = self.job;
        let now = job.clock.now();
        let Decided { run, postpone, discard, unnamed, discoveries, cursor } = decided;
        if !unnamed.is_empty() {
            tracing::warn!(job = %job.spec.name, tasks = unnamed.len(), "the plan does not name them: held back until the next sweep");
        }
        let counts = (postpone.len() as u64, discard.len() as u64, unnamed.len() as u64);
        let finish = |task: &ClaimedTask, disposition| {
            // A verdict is no attempt: nothing of the plugin acted.
            Finish { id: task.id, fence: task.fence, disposition, attempt: self.no_attempt(task.attempt, now) }
        };
        let mut finishes = Vec::with_capacity(postpone.len() + discard.len() + unnamed.len());
        for (task, ask) in postpone {
            finishes.push(finish(&task, outcome::postpone(ask, Progress::default(), &task, &job.spec, now)));
        }
        for (task, why) in discard {
            finishes.push(finish(&task, Disposition::Cancel(outcome::cut(why))));
        }
        for task in unnamed {
            finishes.push(finish(&task, Disposition::Release { after: Some(job.spec.interval) }));
        }
        if !discoveries.is_empty() || cursor_changed {
            let cursor = cursor_changed.then_some(CursorUpdate { digest: generation.plugin.digest, cursor });
            let node = job.node.id();
            let plan = ApplyPlan { job: job.id, node, finishes: finishes.clone(), discoveries, cursor };
            let applied = match job.store.apply_plan(plan, At::Server).await {
                Ok(applied) => applied,
                Err(error) => {
                    // Nothing of the plan is applied, so nothing of the batch is run.
                    finishes.extend(run.iter().map(|task| finish(task, Disposition::Release { after: None })));
                    self.put_back(fence, finishes).await;
                    return Err(error);
                }
            };
            finishes.clear();
            let new = applied.enqueued.iter().filter(|queued| matches!(queued, Enqueued::New(_))).count();
            self.flow.report(|report| report.discovered += new as u64);
            if new > 0 {
                job.wake();
            }
        }
        self.flow.report(|report| {
            report.postponed += counts.0;
            report.discarded += counts.1;
            report.released += counts.2;
        });
        let closed: Vec<_> = fence.filter(|_| run.is_empty()).into_iter().collect();
        if !finishes.is_empty() || !closed.is_empty() {
            stored(job, self.flow, WriteBack { finishes, closed, effects: Vec::new() }).await;
        }
        Ok(run)
    }

    fn execute(
        &self,
        generation: &Arc<Generation>,
        fence: Fence,
        run: Vec<ClaimedTask>,
        completions: &mpsc::Sender<Completions>,
    ) {
        self.flow.begin(fence, run.len());
        self.job.in_flight.fetch_add(run.len(), Ordering::SeqCst);
        let batch = Arc::new(Batch {
            job: Arc::clone(self.job),
            fence,
            node: self.job.node.id(),
            generation: Arc::clone(generation),
            gate: Arc::clone(&self.gate),
            not_started: OnceLock::new(),
            completions: completions.clone(),
        });
        for task in run {
            self.threads.executors.send(Work { task, batch: Arc::clone(&batch) });
        }
    }

    /// Puts a batch back unrun; without the fence, a part of it.
    pub(super) async fn release(&self, fence: Option<Fence>, due: Vec<ClaimedTask>) {
        let (now, disposition) = (self.job.clock.now(), Disposition::Release { after: None });
        let finish = |task: ClaimedTask| {
            let attempt = self.no_attempt(task.attempt, now);
            Finish { id: task.id, fence: task.fence, disposition: disposition.clone(), attempt }
        };
        self.put_back(fence, due.into_iter().map(finish).collect()).await;
    }

    /// Releases tasks, whatever was to become of them. It is tried until it is
    /// stored: nobody else would.
    async fn put_back(&self, fence: Option<Fence>, mut finishes: Vec<Finish>) {
        for finish in &mut finishes {
            finish.disposition = Disposition::Release { after: None };
        }
        self.flow.report(|report| report.released += finishes.len() as u64);
        let closed = fence.into_iter().collect();
        stored(self.job, self.flow, WriteBack { finishes, closed, effects: Vec::new() }).await;
    }

    fn no_attempt(&self, number: u32, now: Timestamp) -> Attempt {
        Attempt { number, node: self.job.node.id(), started: now, ended: now, digest: None, removed: 0 }
    }
}
