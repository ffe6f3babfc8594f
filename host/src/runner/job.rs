//! One job's loop: when to sweep, and what happens between sweeps.

// length: the job and its loop share all of their state.

use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{Notify, OwnedMutexGuard, mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until};

use crate::domain::breaker::Breaker;
use crate::domain::budget::Spent;
use crate::domain::job::{JobId, JobSpec};
use crate::domain::outcome::cut;
use crate::domain::status::{LastError, SweepReport};
use crate::domain::time::{Clock, Timestamp};
use crate::plugin::{Generation, Slot};
use crate::sandbox::{Custody, Gate};
use crate::stop::told;
use crate::store::{JobRow, SharedStore, StoreError};

use super::claim::Unsure;
use super::clocks::Clocks;
use super::dispatcher::Dispatcher;
use super::executors::Executors;
use super::files::FilesNotReady;
use super::fit::Fit;
use super::lease::Node;
use super::mounts::Marks;
use super::pace::Pace;
use super::phase::Phase;
use super::preflight::preflight;
use super::scans::{Scans, Why};
use super::sweep::{SweepEnd, Swept, Threads, sweep_once};

/// After a failed sweep the next one waits for the interval, then twice that,
/// up to this.
const BACKOFF_AT_MOST: Duration = Duration::from_mins(1);

/// A job, as its loop, its sweeps and the host share it.
pub(super) struct Job {
    pub(super) spec: Arc<JobSpec>,
    pub(super) id: JobId,
    pub(super) slot: Arc<Slot>,
    pub(super) store: SharedStore,
    pub(super) node: Arc<Node>,
    pub(super) clock: Clock,
    pub(super) clocks: Arc<Clocks>,
    pub(super) phase: Phase,
    pub(super) pace: Pace,
    pub(super) fit: Fit,
    pub(super) wake: Notify,
    pub(super) unsure: Unsure,
    /// What stands between its plugins and its files.
    pub(super) custody: Arc<Custody>,
    pub(super) marks: Marks,
    /// Held by whoever takes up the store's holds.
    pub(super) taking_up: tokio::sync::Mutex<()>,
    /// The number of this host's journal of effects.
    pub(super) journal: u64,
    /// Whether a sweep may go over the budget, as far as this node has heard.
    pub(super) may_exceed: AtomicBool,
    /// Tasks that were handed to the executors and not written back.
    pub(super) in_flight: AtomicUsize,
    /// The last time of its schedule that was scanned when the host began.
    pub(super) scheduled: Timestamp,
    breaker: Mutex<Breaker>,
    gate: ArcSwap<Gate>,
    view: Mutex<View>,
}

/// What all jobs of a host share.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) node: Arc<Node>,
    pub(super) store: SharedStore,
    pub(super) clock: Clock,
    pub(super) clocks: Arc<Clocks>,
    pub(super) phase: Phase,
    /// The number of the journal of effects.
    pub(super) journal: u64,
}

/// What status shows of a job besides slot and backlog.
#[derive(Clone, Debug, Default)]
pub(super) struct View {
    pub(super) paused: Option<String>,
    pub(super) waiting: Option<String>,
    pub(super) last_sweep: Option<SweepReport>,
    /// What the last sweep took away and made that did something.
    pub(super) last_taken: Spent,
    /// Why the last sweep failed; `None` where it did not.
    pub(super) failing: Option<String>,
    pub(super) last_error: Option<LastError>,
    /// What keeps the job from changing files, since its last sweep.
    pub(super) hindered: Option<String>,
    /// Since when its sweep is to have ended, and has not.
    pub(super) under_way: Option<Timestamp>,
}

/// What a person asks of a job.
pub(super) enum Control {
    /// A sweep now, which may scan.
    Sweep(oneshot::Sender<SweepReport>),
    /// Stop, and stay so.
    Pause(String, oneshot::Sender<Result<(), StoreError>>),
    /// Go on; one sweep may go over the budget where that is true.
    Resume(bool, oneshot::Sender<Result<(), StoreError>>),
    /// Stop the sweep that is under way, and begin another one.
    Restart(oneshot::Sender<()>),
    /// At another node it was paused or resumed: look.
    Follow {
        /// Why it seemed to be paused, if it did.
        paused: Option<String>,
    },
}

impl Control {
    /// Whether it stops a sweep that is under way.
    fn stops(&self) -> bool {
        matches!(self, Self::Pause(..) | Self::Restart(_) | Self::Follow { paused: Some(_) })
    }
}

impl Job {
    pub(super) fn new(row: JobRow, slot: Arc<Slot>, custody: Arc<Custody>, shared: Shared) -> Arc<Self> {
        let Shared { node, store, clock, clocks, phase, journal } = shared;
        let gate = ArcSwap::new(Gate::new(Arc::clone(node.lease())));
        let view = Mutex::new(View { paused: row.paused, ..View::default() });
        Arc::new(Self {
            breaker: Mutex::new(Breaker::new(custody.job.breaker)),
            spec: Arc::clone(&custody.job),
            id: row.id,
            slot,
            store,
            node,
            clock,
            clocks,
            phase,
            pace: Pace::default(),
            fit: Fit::default(),
            wake: Notify::new(),
            unsure: Unsure::default(),
            custody,
            marks: Marks::default(),
            taking_up: tokio::sync::Mutex::default(),
            journal,
            may_exceed: AtomicBool::new(row.once_over_budget),
            in_flight: AtomicUsize::new(0),
            scheduled: row.scheduled,
            gate,
            view,
        })
    }

    /// Asks for a sweep soon: something may be due.
    pub(super) fn wake(&self) {
        self.wake.notify_one();
    }

    /// The gate under which work may begin now.
    pub(super) fn gate(&self) -> Arc<Gate> {
        self.gate.load_full()
    }

    /// Stops what runs: from this instant no file is changed. Later work gets a
    /// new gate.
    pub(super) fn close_gate(&self) -> Arc<Gate> {
        let closed = self.gate.swap(self.gate.load().successor());
        closed.close();
        closed
    }

    pub(super) fn view(&self) -> View {
        self.locked().clone()
    }

    /// Shown as why the job is paused.
    pub(super) fn note_paused(&self, reason: Option<String>) {
        self.locked().paused = reason;
    }

    /// Shown as what the job waits for.
    pub(super) fn note_waiting(&self, why: Option<String>) {
        self.locked().waiting = why;
    }

    /// Shown as the job's last error, until another plugin serves.
    pub(super) fn say_error(&self, message: String) {
        let mut view = self.locked();
        // A sweep ends with the words of what failed in it, which said whose they are.
        let generation = view.last_error.take().filter(|last| last.message == message).and_then(|last| last.generation);
        view.last_error = Some(LastError { at: self.clock.now(), message, generation });
    }

    /// The same of what a generation did; one that serves no more is past.
    pub(super) fn say_error_of(&self, generation: &Generation, message: String) {
        if self.slot.current().is_some_and(|current| current.number > generation.number) {
            return;
        }
        let (at, generation) = (self.clock.now(), Some(generation.number));
        self.locked().last_error = Some(LastError { at, message, generation });
    }

    /// Another plugin serves: what an earlier one failed at is past.
    fn swapped(&self) {
        let current = self.slot.current().map(|current| current.number);
        let mut view = self.locked();
        let earlier = |last: &mut LastError| last.generation.is_some_and(|number| Some(number) < current);
        if view.last_error.take_if(earlier).is_some() {
            view.failing = None;
        }
    }

    pub(super) fn breaker(&self) -> MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn locked(&self) -> MutexGuard<'_, View> {
        self.view.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether one sweep may go over the budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Exempt(bool);

/// The loop of one job.
pub(super) struct JobRunner {
    job: Arc<Job>,
    threads: Threads,
    control: OwnedMutexGuard<mpsc::Receiver<Control>>,
    /// When the next sweep by the clock is due.
    next_tick: Instant,
    /// Sweeps that failed one after the other.
    failures: u32,
    /// Who waits for a sweep by hand.
    asked: Vec<oneshot::Sender<SweepReport>>,
    scans: Scans,
}

impl JobRunner {
    /// Starts the job's threads.
    pub(super) fn new(job: Arc<Job>, control: OwnedMutexGuard<mpsc::Receiver<Control>>) -> std::io::Result<Self> {
        let room = 2 * job.spec.capacity.max(u32::try_from(job.spec.concurrency).unwrap_or(u32::MAX)) as usize;
        let threads = Threads {
            dispatcher: Dispatcher::start(&job.custody)?,
            executors: Executors::start(&job.custody, &job.clock, room)?,
        };
        let scans = Scans::new(Arc::clone(&job));
        Ok(Self { job, threads, control, next_tick: Instant::now(), failures: 0, asked: Vec::new(), scans })
    }

    /// Runs until `stop` becomes true and the last sweep has ended.
    pub(super) async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let mut swaps = self.job.slot.swaps();
        let mut stranded = self.job.slot.stranded();
        loop {
            let ready = self.job.locked().paused.is_none() && self.job.slot.current().is_some();
            let may_wake = ready && self.failures == 0;
            tokio::select! {
                biased;
                () = told(&mut stop) => return,
                Some(control) = self.control.recv() => self.obey(control).await,
                Ok(()) = swaps.changed() => self.forget_failures(),
                Ok(()) = stranded.changed() => {
                    let why = stranded.borrow_and_update().clone();
                    self.pause_or_back_off(why.unwrap_or_default()).await;
                }
                () = sleep_until(self.next_tick), if ready => self.sweep(Why::Tick).await,
                () = self.job.wake.notified(), if may_wake => self.sweep(Why::Wake).await,
            }
            // A pause may have come between the request and now.
            if self.job.locked().paused.is_some() {
                self.asked.clear();
            }
            if !self.asked.is_empty() {
                self.sweep(Why::Asked).await;
            }
        }
    }

    async fn obey(&mut self, control: Control) {
        match control {
            Control::Sweep(answer) => self.asked.push(answer),
            Control::Pause(reason, answer) => {
                let paused = self.pause(reason).await;
                let _ = answer.send(paused);
            }
            Control::Resume(once_over_budget, answer) => {
                let resumed = self.job.store.resume(self.job.id, once_over_budget).await;
                if resumed.is_ok() {
                    self.job.may_exceed.fetch_or(once_over_budget, Ordering::SeqCst);
                    self.resumed();
                }
                let _ = answer.send(resumed);
            }
            Control::Restart(answer) => {
                // Nothing runs by now, and what did waits for a sweep.
                self.job.wake();
                let _ = answer.send(());
            }
            Control::Follow { .. } => self.follow().await,
        }
    }

    fn resumed(&mut self) {
        tracing::info!(job = %self.job.spec.name, "resumed");
        self.job.marks.forget();
        self.job.note_paused(None);
        (self.failures, self.next_tick) = (0, Instant::now());
        self.scans.forget();
    }

    /// Takes on what the store says of pauses. What asked for this may be older
    /// than a request that was obeyed since.
    async fn follow(&mut self) {
        let rows = match self.job.store.jobs().await {
            Ok(rows) => rows,
            Err(error) => return tracing::warn!("whether the job is paused could not be read: {error}"),
        };
        let paused = rows.into_iter().find(|row| row.id == self.job.id).and_then(|row| row.paused);
        match (paused, self.job.view().paused) {
            (None, Some(_)) => self.resumed(),
            (Some(reason), _) => self.paused_elsewhere(reason),
            (None, None) => {}
        }
    }

    fn paused_elsewhere(&self, reason: String) {
        if self.job.view().paused.as_ref() != Some(&reason) {
            tracing::warn!(job = %self.job.spec.name, "paused at another node: {reason}");
            self.job.note_paused(Some(reason));
        }
    }

    /// Another plugin is another chance: what failed is not waited for.
    fn forget_failures(&mut self) {
        self.job.swapped();
        self.scans.forget();
        if std::mem::take(&mut self.failures) > 0 {
            self.next_tick = Instant::now();
        }
    }

    /// Between sweeps: nothing runs.
    async fn pause(&mut self, reason: String) -> Result<(), StoreError> {
        self.job.store.set_paused(self.job.id, Some(&reason)).await?;
        tracing::warn!(job = %self.job.spec.name, "paused: {reason}");
        self.job.note_paused(Some(reason));
        Ok(())
    }

    /// Sweeps once, and answers requests meanwhile: a pause stops it.
    async fn sweep(&mut self, why: Why) {
        let job = Arc::clone(&self.job);
        let asked = std::mem::take(&mut self.asked);
        let ready = self.make_ready().await;
        if let Err(end) = ready.clone() {
            let report = SweepReport { error: end.error(), ..SweepReport::default() };
            if why != Why::Wake {
                self.next_tick = Instant::now() + self.scans.until_tick();
            }
            self.conclude(&report, end).await;
            for answer in asked {
                let _ = answer.send(report.clone());
            }
            return;
        }
        let scan = self.scans.may(why).await;
        // Before any request is heard: a pause closes the gate of this sweep.
        let gate = job.gate();
        let mut waiting = Vec::new();
        let swept = {
            let preflight_first = job.spec.preflight && ready == Ok(Exempt(false));
            let sweep = async {
                if preflight_first && let Err(end) = preflight(&job, &gate, scan).await {
                    return Swept {
                        report: SweepReport { error: end.error(), ..SweepReport::default() },
                        end,
                        scanned: false,
                    };
                }
                sweep_once(&job, &self.threads, gate, scan).await
            };
            let mut sweep = pin!(sweep);
            loop {
                tokio::select! {
                    swept = &mut sweep => break swept,
                    Some(control) = self.control.recv() => {
                        if control.stops() {
                            job.close_gate();
                            job.locked().under_way.get_or_insert_with(|| job.clock.now());
                        }
                        // Shown now: a call that hangs in the kernel keeps the sweep from its end.
                        if let Control::Follow { paused: Some(reason) } = &control {
                            self.paused_elsewhere(reason.clone());
                        }
                        // At its turn it reads what is so by then: once is enough, however long that takes.
                        if matches!(control, Control::Follow { .. }) {
                            waiting.retain(|earlier| !matches!(earlier, Control::Follow { .. }));
                        }
                        waiting.push(control);
                    }
                }
            }
        };
        job.locked().under_way = None;
        let Swept { mut report, mut end, scanned: has_scanned } = swept;
        if let Some(over) = job.over_budget() {
            report.error = Some(over.to_string());
            end = SweepEnd::FailedForGood(over.to_string());
        }
        if why != Why::Wake {
            self.next_tick = Instant::now() + self.scans.until_tick();
        }
        let failed = matches!(end, SweepEnd::Failed(_) | SweepEnd::FailedForGood(_));
        match scan {
            true if has_scanned => self.scans.ended().await,
            true if failed => self.scans.failed(),
            _ => {}
        }
        if failed {
            // Another node may have more luck.
            self.scans.give_up().await;
        }
        self.conclude(&report, end).await;
        for answer in asked {
            let _ = answer.send(report.clone());
        }
        for control in waiting {
            self.obey(control).await;
        }
    }

    /// Whether the sweep may begin, and go over the budget; where not, how it
    /// ended.
    async fn make_ready(&self) -> Result<Exempt, SweepEnd> {
        let job = &self.job;
        let exempt = job.may_exceed.load(Ordering::SeqCst)
            && job.store.take_allowance(job.id).await.map_err(|error| SweepEnd::Failed(error.to_string()))?;
        job.may_exceed.store(false, Ordering::SeqCst);
        if exempt {
            tracing::warn!(job = %job.spec.name, "this sweep may go over the budget, as somebody allowed");
        }
        let ready = job.make_ready(exempt).await;
        job.note_waiting(match &ready {
            Err(FilesNotReady::Mount(error)) => Some(error.to_string()),
            _ => None,
        });
        ready.map(|()| Exempt(exempt)).map_err(|not_ready| match not_ready {
            FilesNotReady::Another(why) => SweepEnd::FailedForGood(why),
            FilesNotReady::Mount(error) => SweepEnd::Failed(error.to_string()),
            FilesNotReady::Store(error) => SweepEnd::Failed(error.to_string()),
            FilesNotReady::Counting => SweepEnd::Stopped,
        })
    }

    async fn conclude(&mut self, report: &SweepReport, end: SweepEnd) {
        let job = &self.job;
        if report.claimed > 0 || report.discovered > 0 || report.error.is_some() {
            tracing::info!(
                job = %job.spec.name, claimed = report.claimed, done = report.done, skipped = report.skipped,
                retried = report.retried, dead = report.dead, postponed = report.postponed,
                discarded = report.discarded, released = report.released, discovered = report.discovered,
                took_ms = report.took_ms, "swept",
            );
            let mut view = job.locked();
            (view.last_sweep, view.last_taken) = (Some(report.clone()), job.custody.meter.spent());
        }
        job.locked().failing = end.error();
        let hindrance = job.custody.take_hindrance();
        if hindrance.is_some() || report.error.is_none() {
            job.locked().hindered = hindrance;
        }
        match end {
            SweepEnd::Exhausted => self.failures = 0,
            // More is due: go on as soon as requests were heard.
            SweepEnd::Yielded => {
                self.failures = 0;
                job.wake();
            }
            SweepEnd::Stopped => {}
            SweepEnd::Failed(error) => self.back_off(&error),
            SweepEnd::FailedForGood(error) => {
                job.say_error(error.clone());
                self.pause_or_back_off(error).await;
            }
        }
    }

    async fn pause_or_back_off(&mut self, reason: String) {
        if let Err(error) = self.pause(cut(reason)).await {
            self.back_off(&error.to_string());
        }
    }

    fn back_off(&mut self, error: &str) {
        let job = &self.job;
        let wait =
            job.spec.interval.saturating_mul(1 << self.failures.min(16)).min(BACKOFF_AT_MOST.max(job.spec.interval));
        self.failures += 1;
        self.next_tick = Instant::now() + wait;
        tracing::error!(job = %job.spec.name, "the sweep failed, the next one is in {wait:?}: {error}");
        job.say_error(error.to_owned());
    }
}

/// Waits until no mutation is under way. A system call that hangs must not hang
/// the runtime.
pub(super) async fn drain(gate: Arc<Gate>) {
    gate.drained().await;
}
