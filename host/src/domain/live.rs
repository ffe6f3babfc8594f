//! A live task and all that may happen to it: the rules that every store
//! keeps in its SQL, as functions over one value.
//!
//! ```text
//!         enqueue              claim                finish
//!  (none) ───────▶ pending ───────────▶ running ───────────▶ ended, or its successor
//!                     ▲                    │
//!                     └─ waits · lost · released
//! ```
//! The stores are checked against these functions step by step (the property
//! test of the conformance suite), and the model checker explores them with
//! leases, crashes and late nodes. Their invariant: a row changes hands only by
//! a claim, under a fence above all that the key ever had.

use super::clock;
use super::outcome::Disposition;
use super::task::{Enqueued, Fence, NewTask, Payload, Priority, TaskId, TaskState};
use super::time::Timestamp;

/// One row of the queue.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Live {
    /// Its number.
    pub id: TaskId,
    /// Which goes first.
    pub priority: Priority,
    /// When it is due.
    pub run_at: Timestamp,
    /// When the store's clock gave that time, as "now" or as a wait from then;
    /// `None` where whoever queued it named the time.
    pub waits_from: Option<Timestamp>,
    /// Attempts used.
    pub attempts: u32,
    /// Nodes lost while they held it.
    pub losses: u32,
    /// Waits after a failed attempt: an enqueue does not shorten that.
    pub backoff: bool,
    /// When the present chain of postponements began.
    pub postponed_since: Option<Timestamp>,
    /// How many files its calls removed.
    pub removed: u64,
    /// What the enqueuer added.
    pub payload: Option<Payload>,
    /// The run, while it runs.
    pub run: Option<Run>,
    /// Asked for while it ran.
    pub successor: Option<Successor>,
}

/// The hold of a node on a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Run {
    /// The claim.
    pub fence: Fence,
    /// Claimed alone after a loss: another loss is an attempt.
    pub alone: bool,
    /// How a person wants it to end.
    pub asked: Option<TaskState>,
}

/// A request for a key that came while it ran.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Successor {
    /// Which goes first.
    pub priority: Priority,
    /// When it is due.
    pub run_at: Timestamp,
    /// As [`Live::waits_from`].
    pub waits_from: Option<Timestamp>,
    /// What the enqueuer added.
    pub payload: Option<Payload>,
}

/// What a write-back did to a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The row is not held under that fence; nothing changed.
    Fenced,
    /// It is pending again.
    Waits,
    /// It ended in this state, and the row goes.
    Ended(TaskState),
    /// It ended in this state, and its successor needs the row, under a fresh
    /// number: [`Live::promoted`].
    Succeeded(TaskState),
}

impl Live {
    /// The row of a task whose key had none.
    #[must_use]
    pub fn new(id: TaskId, task: &NewTask, now: Timestamp) -> Self {
        Self {
            id,
            priority: task.priority,
            run_at: task.run_at.unwrap_or(now),
            waits_from: task.waits_from(now),
            attempts: 0,
            losses: 0,
            backoff: false,
            postponed_since: None,
            removed: 0,
            payload: task.payload.clone(),
            run: None,
            successor: None,
        }
    }

    /// Its key is asked for again.
    pub fn enqueue(&mut self, task: &NewTask, now: Timestamp) -> Enqueued {
        let run_at = task.run_at.unwrap_or(now);
        let waits_from = task.waits_from(now);
        let asked = Successor { priority: task.priority, run_at, waits_from, payload: task.payload.clone() };
        if self.run.is_none() {
            self.take_in(asked);
            return Enqueued::Pending(self.id);
        }
        match &mut self.successor {
            None => self.successor = Some(asked),
            Some(successor) => {
                successor.priority = successor.priority.min(asked.priority);
                if asked.run_at < successor.run_at {
                    (successor.run_at, successor.waits_from) = (asked.run_at, asked.waits_from);
                }
                successor.payload = asked.payload.or(successor.payload.take());
            }
        }
        Enqueued::Successor(self.id)
    }

    /// A payload given replaces; the higher priority and the earlier due time
    /// win, but not against a backoff.
    fn take_in(&mut self, asked: Successor) {
        self.priority = self.priority.min(asked.priority);
        if !self.backoff && asked.run_at < self.run_at {
            (self.run_at, self.waits_from) = (asked.run_at, asked.waits_from);
        }
        if asked.payload.is_some() {
            self.payload = asked.payload;
        }
    }

    /// Whether a claim may take it.
    #[must_use]
    pub fn is_due(&self, horizon: Timestamp) -> bool {
        self.run.is_none() && self.run_at <= horizon
    }

    /// A node takes it. A task with losses is claimed alone.
    pub fn claim(&mut self, fence: Fence) {
        self.run = Some(Run { fence, alone: self.losses > 0, asked: None });
    }

    /// A person wants it to be due now.
    pub fn make_due(&mut self, now: Timestamp) {
        if self.run_at > now {
            (self.run_at, self.waits_from) = (now, Some(now));
        }
        self.backoff = false;
    }

    /// The store's clock was set back: what waits from a time in the future
    /// waits from now. A time that somebody named stays.
    pub fn draw_in(&mut self, now: Timestamp) {
        if self.waits_from.is_some_and(|from| clock::is_ahead(from, now)) {
            (self.run_at, self.waits_from) = drawn_in_due(self.run_at, self.waits_from, now);
            self.postponed_since = self.postponed_since.map(|since| since.min(now));
        }
        if let Some(successor) = &mut self.successor {
            (successor.run_at, successor.waits_from) = drawn_in_due(successor.run_at, successor.waits_from, now);
        }
    }

    /// A person wants a running task to end so.
    pub fn ask(&mut self, end: TaskState) {
        if let Some(run) = &mut self.run {
            run.asked = Some(end);
        }
    }

    /// What was made of the run under `fence`, which `removed` so many files, is
    /// written back. A task that a person ended does not wait again.
    pub fn finish(&mut self, fence: Fence, disposition: &Disposition, removed: u64, now: Timestamp) -> Step {
        let Some(run) = self.run.filter(|run| run.fence == fence) else { return Step::Fenced };
        let end = disposition.end().or(run.asked);
        if let Some(end) = end {
            return self.end(end);
        }
        match disposition {
            Disposition::Retry { after, .. } => {
                (self.attempts, self.backoff, self.postponed_since) = (self.attempts + 1, true, None);
                (self.run_at, self.waits_from) = (now.after(*after), Some(now));
            }
            Disposition::Postpone { after, .. } => {
                self.backoff = false;
                self.postponed_since = self.postponed_since.filter(|_| removed == 0).or(Some(now));
                (self.run_at, self.waits_from) = (now.after(*after), Some(now));
            }
            Disposition::Release { after } => {
                self.backoff = false;
                if let Some(after) = after {
                    (self.run_at, self.waits_from) = (now.after(*after), Some(now));
                }
            }
            Disposition::Done(_) | Disposition::Skipped(_) | Disposition::Bury(_) | Disposition::Cancel(_) => {
                unreachable!("these end, and were taken above")
            }
        }
        self.removed += removed;
        self.wait()
    }

    /// Its node was lost: one more loss. Of a task that ran alone that is an
    /// attempt.
    pub fn lose(&mut self) -> Step {
        let Some(run) = self.run else { return Step::Fenced };
        if let Some(end) = run.asked {
            return self.end(end);
        }
        self.losses += 1;
        self.attempts += u32::from(run.alone);
        self.backoff = false;
        self.wait()
    }

    fn wait(&mut self) -> Step {
        self.run = None;
        if let Some(successor) = self.successor.take() {
            self.take_in(successor);
        }
        Step::Waits
    }

    fn end(&mut self, state: TaskState) -> Step {
        if self.successor.is_some() { Step::Succeeded(state) } else { Step::Ended(state) }
    }

    /// The successor as a task of its own; `None` where there is none.
    #[must_use]
    pub fn promoted(self, id: TaskId) -> Option<Self> {
        let Successor { priority, run_at, waits_from, payload } = self.successor?;
        Some(Self {
            id,
            priority,
            run_at,
            waits_from,
            attempts: 0,
            losses: 0,
            backoff: false,
            postponed_since: None,
            removed: 0,
            payload,
            run: None,
            successor: None,
        })
    }
}

fn drawn_in_due(run_at: Timestamp, waits_from: Option<Timestamp>, now: Timestamp) -> (Timestamp, Option<Timestamp>) {
    match waits_from {
        Some(from) => (clock::wait_drawn_in(run_at, from, now), Some(clock::drawn_in(from, now))),
        None => (run_at, None),
    }
}

impl NewTask {
    /// As [`Live::waits_from`], where it is queued now.
    #[must_use]
    pub fn waits_from(&self, now: Timestamp) -> Option<Timestamp> {
        if self.run_at.is_none() { Some(now) } else { None }
    }

    /// The same key was asked for twice at once: what the second changes is
    /// what it would change in a pending row.
    #[must_use]
    pub fn merged(self, later: Self, now: Timestamp) -> Self {
        // A time that comes before now is the earlier one; without one it is now.
        let run_at = match (self.run_at, later.run_at) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other).filter(|named| *named < now),
        };
        Self {
            priority: self.priority.min(later.priority),
            run_at,
            payload: later.payload.or(self.payload),
            key: self.key,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::domain::task::Key;

    fn asked(run_at: u64) -> NewTask {
        NewTask { run_at: Some(Timestamp(run_at)), ..NewTask::now(Key::new("k").expect("a key")) }
    }

    fn retry() -> Disposition {
        Disposition::Retry { after: Duration::from_secs(1), error: String::new() }
    }

    #[test]
    fn a_run_ends_in_its_successor() {
        let mut live = Live::new(TaskId(1), &asked(5), Timestamp(0));
        live.claim(Fence(7));
        assert_eq!(live.enqueue(&asked(9), Timestamp(0)), Enqueued::Successor(TaskId(1)));
        assert_eq!(live.finish(Fence(6), &retry(), 0, Timestamp(9)), Step::Fenced);
        assert_eq!(live.finish(Fence(7), &Disposition::Done(None), 0, Timestamp(9)), Step::Succeeded(TaskState::Done));
        let next = live.promoted(TaskId(2)).expect("a successor");
        assert_eq!((next.id, next.run_at, next.attempts), (TaskId(2), Timestamp(9), 0));
    }

    #[test]
    fn a_clock_set_back_leaves_waits_as_long_as_they_were() {
        let hour = 3_600_000;
        let (ahead, now) = (Timestamp(20 * hour), Timestamp(10 * hour));
        let by_now = NewTask { run_at: None, ..asked(0) };
        let fresh = |task: &NewTask, at| Live::new(TaskId(1), task, at);
        let waits = |disposition| {
            let mut live = fresh(&by_now, ahead);
            live.claim(Fence(1));
            live.finish(Fence(1), &disposition, 0, ahead);
            live
        };
        let later = Duration::from_mins(5);
        let postponed = waits(Disposition::Postpone { after: later, reason: None });
        assert_eq!(postponed.postponed_since, Some(ahead));
        for (what, mut live, due) in [
            ("queued by now", fresh(&by_now, ahead), now),
            ("queued before", fresh(&by_now, Timestamp(hour)), Timestamp(hour)),
            ("a time that was named", fresh(&asked(30 * hour), ahead), Timestamp(30 * hour)),
            ("retried", waits(retry()), Timestamp(now.0 + 1000)),
            ("postponed", postponed, now.after(later)),
            ("released", waits(Disposition::Release { after: Some(later) }), now.after(later)),
        ] {
            live.draw_in(now);
            assert_eq!(live.run_at, due, "{what}");
            assert!(live.postponed_since.is_none_or(|since| since == now), "{what}");
            let drawn = live.clone();
            live.draw_in(now);
            assert_eq!(live, drawn, "once is enough: {what}");
        }
        let mut running = fresh(&by_now, Timestamp(hour));
        running.claim(Fence(1));
        running.enqueue(&by_now, ahead);
        running.draw_in(now);
        let next = running.promoted(TaskId(2)).expect("a successor");
        assert_eq!((next.run_at, next.waits_from), (now, Some(now)));
    }

    #[test]
    fn a_key_twice_in_one_call_keeps_a_time_that_was_named() {
        let now = Timestamp(100);
        let by_now = NewTask { run_at: None, ..asked(0) };
        for (one, other, run_at) in [
            (asked(50), asked(200), Some(Timestamp(50))),
            (asked(300), asked(200), Some(Timestamp(200))),
            (asked(50), by_now.clone(), Some(Timestamp(50))),
            (by_now.clone(), asked(200), None),
            (by_now.clone(), by_now.clone(), None),
        ] {
            assert_eq!(one.merged(other, now).run_at, run_at);
        }
    }

    #[test]
    fn a_loss_is_an_attempt_only_alone() {
        let mut live = Live::new(TaskId(1), &asked(5), Timestamp(0));
        for (losses, attempts) in [(1, 0), (2, 1), (3, 2)] {
            live.claim(Fence(1));
            assert_eq!(live.lose(), Step::Waits);
            assert_eq!((live.losses, live.attempts), (losses, attempts));
        }
    }

    #[test]
    fn a_person_ends_what_would_wait() {
        for end in [TaskState::Cancelled, TaskState::Dead] {
            let mut live = Live::new(TaskId(1), &asked(5), Timestamp(0));
            live.claim(Fence(1));
            live.ask(end);
            assert_eq!(live.clone().finish(Fence(1), &retry(), 0, Timestamp(9)), Step::Ended(end));
            assert_eq!(live.clone().lose(), Step::Ended(end));
            let done = live.finish(Fence(1), &Disposition::Done(None), 0, Timestamp(9));
            assert_eq!(done, Step::Ended(TaskState::Done), "what was done is done");
        }
    }
}
