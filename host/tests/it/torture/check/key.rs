//! What a trace says of one key.

use std::collections::{HashMap, HashSet};

use super::super::line::Allowed;
use super::{Seen, Violation};

/// One execution.
struct Run {
    task: u64,
    pid: u32,
    /// Where in the trace it started.
    place: u64,
    at: u64,
    payload: Option<u64>,
    /// What had been acknowledged when it started.
    acked: u64,
    end: Option<End>,
    /// Another one followed that is to be accounted for.
    followed: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Well,
    Otherwise,
}

/// A call of a guest, as the trace has it.
pub(super) struct Start<'l> {
    pub(super) line: &'l str,
    pub(super) place: u64,
    pub(super) key: &'l str,
    pub(super) allowed: Allowed,
    pub(super) task: u64,
    pub(super) payload: Option<u64>,
}

/// An execution that may only be where the node of an earlier one was lost
/// after that had started.
pub(super) struct Follows {
    pub(super) line: String,
    pub(super) pid: u32,
    pub(super) place: u64,
}

#[derive(Default)]
pub(super) struct KeyTrace {
    /// Sent, and neither acknowledged nor refused.
    unanswered: HashSet<u64>,
    refused: HashSet<u64>,
    /// The highest number that was acknowledged, and the highest one whose
    /// execution is known to have ended well after its commit.
    acked: u64,
    served: u64,
    /// The highest fence, and when its execution was allowed.
    highest: Option<(u64, u64)>,
    runs: HashMap<u64, Run>,
}

impl KeyTrace {
    pub(super) fn sent(&mut self, number: u64) {
        self.unanswered.insert(number);
    }

    /// A new task says that none was live before: all that had been
    /// acknowledged is executed by now. What is in doubt may have hidden it.
    pub(super) fn acked(&mut self, key: &str, number: u64, new: bool) -> Option<Violation> {
        self.unanswered.remove(&number);
        let lost = self.owed().filter(|_| new && self.unanswered.is_empty());
        self.acked = self.acked.max(number);
        lost.map(|number| Violation::Lost { key: key.to_owned(), number })
    }

    pub(super) fn refused(&mut self, key: &str, number: u64) -> Option<Violation> {
        self.unanswered.remove(&number);
        self.refused.insert(number);
        let ran = self.runs.values().any(|run| run.payload == Some(number));
        ran.then(|| Violation::Refused { key: key.to_owned(), number })
    }

    pub(super) fn start(&mut self, start: &Start<'_>, seen: &mut Seen) -> Option<Violation> {
        let Start { line, place, key, allowed, task, payload } = *start;
        let Allowed { pid, at, .. } = allowed;
        let run = Run { task, pid, place, at, payload, acked: self.acked, end: None, followed: false };
        if self.runs.insert(allowed.fence, run).is_some() {
            return Some(Violation::Twice { line: line.to_owned() });
        }
        if let Some(number) = payload.filter(|number| self.refused.contains(number)) {
            return Some(Violation::Refused { key: key.to_owned(), number });
        }
        self.rises(line, allowed, seen)
    }

    /// Earlier executions that have not ended yet, or that ended this very task
    /// well: only the loss of their nodes explains another one.
    pub(super) fn follows(&mut self, start: &Start<'_>) -> Vec<Follows> {
        let mut follows = Vec::new();
        for (_, run) in self.runs.iter_mut().filter(|(fence, run)| **fence < start.allowed.fence && !run.followed) {
            if run.end.is_none() || (run.end == Some(End::Well) && run.task == start.task) {
                run.followed = true;
                follows.push(Follows { line: start.line.to_owned(), pid: run.pid, place: run.place });
            }
        }
        follows
    }

    pub(super) fn work(&mut self, line: &str, allowed: Allowed, seen: &mut Seen) -> Option<Violation> {
        self.rises(line, allowed, seen)
    }

    /// Two at a time: only where the one with the lower fence had been allowed
    /// before the other execution was.
    pub(super) fn held(&mut self, line: &str, allowed: Allowed, other: Allowed, seen: &mut Seen) -> Option<Violation> {
        let (low, high) = if allowed.fence < other.fence { (allowed, other) } else { (other, allowed) };
        let began = self.runs.get(&high.fence).map_or(high.at, |run| run.at);
        if low.fence == high.fence || low.at >= began {
            return Some(Violation::LockHeld { line: line.to_owned() });
        }
        seen.late += 1;
        None
    }

    pub(super) fn end(&mut self, fence: u64, well: bool, line: &str) -> Option<Violation> {
        let Some(run) = self.runs.get_mut(&fence).filter(|run| run.end.is_none()) else {
            return Some(Violation::Unreadable { line: format!("{line} (without a start)") });
        };
        run.end = Some(if well { End::Well } else { End::Otherwise });
        if let Some(number) = run.payload.filter(|_| well) {
            // Only of a number in doubt the order of lines has to do.
            let in_doubt = self.unanswered.contains(&number);
            let followed = if in_doubt { number.max(run.acked) } else { number };
            self.served = self.served.max(followed);
        }
        None
    }

    fn rises(&mut self, line: &str, allowed: Allowed, seen: &mut Seen) -> Option<Violation> {
        match self.highest {
            Some((highest, began)) if allowed.fence < highest => {
                if allowed.at >= began {
                    return Some(Violation::OldFence { line: line.to_owned(), highest });
                }
                seen.late += 1;
            }
            Some((highest, _)) if allowed.fence == highest => {}
            _ => self.highest = Some((allowed.fence, allowed.at)),
        }
        None
    }

    /// The number that was acknowledged and not executed yet.
    pub(super) fn owed(&self) -> Option<u64> {
        (self.served < self.acked).then_some(self.acked)
    }

    /// Forgets what is over; answers how many executions have not ended. The
    /// highest fence stays for ever, and so do they: a node that was stopped
    /// for long may still say how they ended.
    pub(super) fn settle(&mut self) -> u64 {
        self.runs.retain(|_, run| run.end.is_none());
        self.refused.clear();
        self.unanswered.clear();
        self.served = self.served.max(self.acked);
        self.runs.len() as u64
    }
}
