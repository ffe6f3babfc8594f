//! Judges a trace, line by line. Pure: it knows neither files nor nodes.
//!
//! What is demanded of whom:
//!
//! - **An acknowledged enqueue is executed after its commit.** The writer gives
//!   each enqueue of a key a rising number as its payload, and a payload given
//!   replaces the one of a pending task or of a successor. So an execution with
//!   this number or a higher one was claimed after the commit, wherever its
//!   lines stand among `sent` and `acked`; the order of lines alone would count
//!   an execution that was claimed before, and could not count one that ended
//!   before the answer arrived. It counts when it has ended well. One exception:
//!   an enqueue that was given up unanswered may be committed late and put its
//!   lower number in the place of a higher one. Of an execution with such a
//!   number only the order of the lines is demanded: that it started after
//!   `acked`.
//!   It is due at the latest when an enqueue is answered as a new task: then
//!   none was live any more (guarantee 2).
//! - **What was refused is not executed**: whoever is told that nothing was
//!   stored must not find it done.
//! - **Fences of a key rise, and its lock is free**, except for what had been
//!   allowed before the execution with the higher fence was: a node that is
//!   stopped between the check and the system call makes that one call when it
//!   goes on (guarantee 5). Lines are therefore compared by the time at which
//!   they were allowed. `end` lines change no file and may come at any time.
//! - **A loss is no attempt**, but for the one task that a node ran alone when
//!   it was lost: there are never more attempts without an execution that
//!   failed than nodes that were lost.
//! - **Nothing is executed again or beside itself** while the node of the
//!   earlier execution lives: a key is claimed again only when its execution
//!   has ended, and a task that is done is done. Whether a node was lost is known
//!   when all is calm: it learns of it later than others do.
//! - **Nothing is stuck, nothing is buried** when all is calm: see
//!   [`Checker::settle`].

mod key;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fmt;

use self::key::{Follows, KeyTrace, Start};
use super::line::Said;

/// What must not happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Violation {
    /// Acknowledged, and never executed after its commit.
    Lost { key: String, number: u64 },
    /// Executed, although the writer was told that nothing was stored.
    Refused { key: String, number: u64 },
    /// Begun under a lower fence after a higher one.
    OldFence { line: String, highest: u64 },
    /// One claim was executed twice.
    Twice { line: String },
    /// Executed beside another execution of its key, or after it was done,
    /// though the node of that one was not lost.
    Again { line: String },
    /// Two changed files of a key at the same time.
    LockHeld { line: String },
    /// More tasks were charged with a lost node than nodes were lost.
    Charged { charged: u64, losses: u64, last: String },
    /// The queue does not get empty.
    Stuck { pending: u64, running: u64 },
    /// Tasks that do nothing wrong are dead.
    Buried { tasks: u64 },
    /// A node does not come back.
    Gone { node: String },
    /// A line that nobody writes.
    Unreadable { line: String },
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost { key, number } => write!(f, "{key} {number} was acknowledged and never executed afterwards"),
            Self::Refused { key, number } => write!(f, "{key} {number} was executed, but answered as not stored"),
            Self::OldFence { line, highest } => write!(f, "after the fence {highest}: {line}"),
            Self::Twice { line } => write!(f, "one claim was executed twice: {line}"),
            Self::Again { line } => write!(f, "executed again, but nothing was lost: {line}"),
            Self::LockHeld { line } => write!(f, "two work on a key at once: {line}"),
            Self::Charged { charged, losses, last } => {
                write!(f, "{losses} lost nodes cost {charged} tasks an attempt; the last: {last}")
            }
            Self::Stuck { pending, running } => write!(f, "stuck: {pending} pending, {running} running"),
            Self::Buried { tasks } => write!(f, "{tasks} innocent tasks are dead"),
            Self::Gone { node } => write!(f, "node {node} does not come back"),
            Self::Unreadable { line } => write!(f, "not a line of a trace: {line}"),
        }
    }
}

/// What was seen, to tell a run that tested something from one that did not.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    pub(super) sent: u64,
    pub(super) sent_hot: u64,
    pub(super) acked: u64,
    pub(super) refused: u64,
    pub(super) started: u64,
    pub(super) mutations: u64,
    /// Executions that failed, as the guest's policy is.
    pub(super) failed: u64,
    /// Executions that were stopped, because the lease had ended.
    pub(super) stopped: u64,
    /// Executions without an end: their node was killed.
    pub(super) cut: u64,
    /// Lines that came late but had been allowed in time.
    pub(super) late: u64,
    pub(super) killed: u64,
    /// Nodes that were stopped past their lease, and continued.
    pub(super) paused: u64,
    /// Stops of the database server.
    pub(super) servers: u64,
    /// Leases that were lost by nodes that lived on.
    pub(super) leases: u64,
    /// Tasks that were charged an attempt for a lost node.
    pub(super) charged: u64,
}

/// What the queue says when all is calm.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Queue {
    pub(super) pending: u64,
    pub(super) running: u64,
    pub(super) dead: u64,
}

/// Attempts of a live task.
#[derive(Default)]
struct Attempts {
    failed: u32,
    charged: u32,
}

/// What was read so far, and what was wrong with it.
#[derive(Default)]
pub(super) struct Checker {
    keys: HashMap<String, KeyTrace>,
    tasks: HashMap<u64, Attempts>,
    last_charged: String,
    /// Lines so far.
    read: u64,
    /// Where each node was lost last.
    losses: HashMap<u32, u64>,
    follows: Vec<Follows>,
    pub(super) seen: Seen,
    pub(super) violations: Vec<Violation>,
}

impl Checker {
    /// Reads whole lines.
    pub(super) fn read(&mut self, text: &str) {
        text.lines().for_each(|line| self.line(line));
    }

    fn line(&mut self, line: &str) {
        self.read += 1;
        let Some(said) = Said::read(line) else {
            self.violations.push(Violation::Unreadable { line: line.to_owned() });
            return;
        };
        let broken = match said {
            Said::Sent(key, number) => {
                self.seen.sent += 1;
                self.seen.sent_hot += u64::from(key.starts_with("hot-"));
                self.key(key).sent(number);
                None
            }
            Said::Acked { key, number, new } => {
                self.seen.acked += 1;
                self.key(key).acked(key, number, new)
            }
            Said::Refused(key, number) => {
                self.seen.refused += 1;
                self.key(key).refused(key, number)
            }
            Said::Start { key, allowed, task, attempt, payload } => {
                self.seen.started += 1;
                self.charge(line, task, attempt);
                let start = Start { line, place: self.read, key, allowed, task, payload };
                let (trace, seen) = self.key_and_seen(key);
                let (broken, follows) = (trace.start(&start, seen), trace.follows(&start));
                self.follows.extend(follows);
                broken
            }
            Said::Work(key, allowed) => {
                self.seen.mutations += 1;
                let (trace, seen) = self.key_and_seen(key);
                trace.work(line, allowed, seen)
            }
            Said::Held(key, allowed, other) => {
                self.seen.mutations += 1;
                let (trace, seen) = self.key_and_seen(key);
                trace.held(line, allowed, other, seen)
            }
            Said::End { key, fence, task, outcome } => {
                self.ended(task, outcome);
                self.key(key).end(fence, outcome == "done", line)
            }
            Said::Lost(pid) => {
                self.seen.leases += 1;
                self.losses.insert(pid, self.read);
                None
            }
            Said::Kill(pid) => {
                self.seen.killed += 1;
                self.losses.insert(pid, self.read);
                None
            }
            Said::Stop => {
                self.seen.paused += 1;
                None
            }
            Said::Server => {
                self.seen.servers += 1;
                None
            }
            Said::Other => None,
        };
        self.violations.extend(broken);
    }

    fn key(&mut self, key: &str) -> &mut KeyTrace {
        self.key_and_seen(key).0
    }

    fn key_and_seen(&mut self, key: &str) -> (&mut KeyTrace, &mut Seen) {
        if !self.keys.contains_key(key) {
            self.keys.insert(key.to_owned(), KeyTrace::default());
        }
        (self.keys.get_mut(key).expect("it was inserted"), &mut self.seen)
    }

    /// Attempts beyond the first that no execution failed were charged for a
    /// lost node. A failure whose write-back was lost with its node counts as
    /// one that was not: then this sees too few.
    fn charge(&mut self, line: &str, task: u64, attempt: u32) {
        let attempts = self.tasks.entry(task).or_default();
        let more = attempt.saturating_sub(1 + attempts.failed + attempts.charged);
        if more > 0 {
            attempts.charged += more;
            self.seen.charged += u64::from(more);
            line.clone_into(&mut self.last_charged);
        }
    }

    fn ended(&mut self, task: u64, outcome: &str) {
        match outcome {
            "failed" | "crashed" => {
                self.seen.failed += 1;
                self.tasks.entry(task).or_default().failed += 1;
            }
            "stopped" => self.seen.stopped += 1,
            _ => {}
        }
    }

    /// Whether something acknowledged was not executed yet.
    pub(super) fn is_owed(&self) -> bool {
        self.keys.values().any(|key| key.owed().is_some())
    }

    /// Whether something was seen that only a lost node explains, and none is
    /// known to be lost. On a slow server the answer to a heartbeat takes longer
    /// than a lease: the node that it tells so is the last to know.
    pub(super) fn lacks_a_loss(&self) -> bool {
        self.seen.charged > self.losses_seen() || self.follows.iter().any(|follows| !self.is_explained(follows))
    }

    fn losses_seen(&self) -> u64 {
        self.seen.killed + self.seen.leases
    }

    fn is_explained(&self, follows: &Follows) -> bool {
        self.losses.get(&follows.pid).is_some_and(|lost| *lost >= follows.place)
    }

    /// Nothing is sent, broken or executed any more, all nodes are there and
    /// know whether their leases hold, and this is what the queue says: now all
    /// is due. What is given up unanswered is over by now, too.
    pub(super) fn settle(&mut self, queue: Queue) {
        let Queue { pending, running, dead } = queue;
        if pending + running > 0 {
            self.violations.push(Violation::Stuck { pending, running });
        }
        if dead > 0 {
            self.violations.push(Violation::Buried { tasks: dead });
        }
        let losses = self.losses_seen();
        if self.seen.charged > losses {
            let (charged, last) = (self.seen.charged, self.last_charged.clone());
            self.violations.push(Violation::Charged { charged, losses, last });
        }
        for follows in std::mem::take(&mut self.follows) {
            if !self.is_explained(&follows) {
                self.violations.push(Violation::Again { line: follows.line });
            }
        }
        self.seen.cut = 0;
        for (key, trace) in &mut self.keys {
            if let Some(number) = trace.owed() {
                self.violations.push(Violation::Lost { key: key.clone(), number });
            }
            self.seen.cut += trace.settle();
        }
        self.tasks.clear();
    }
}
