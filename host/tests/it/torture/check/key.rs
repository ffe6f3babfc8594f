//! What a trace says of one key.

use std::collections::{HashMap, HashSet};

use super::super::line::Allowed;
use super::{Seen, Violation};

/// One execution.
struct Run {
    at: u64,
    payload: Option<u64>,
    /// What had been acknowledged when it started.
    acked: u64,
    ended: bool,
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

    pub(super) fn acked(&mut self, number: u64) {
        self.unanswered.remove(&number);
        self.acked = self.acked.max(number);
    }

    pub(super) fn refused(&mut self, key: &str, number: u64) -> Option<Violation> {
        self.unanswered.remove(&number);
        self.refused.insert(number);
        let ran = self.runs.values().any(|run| run.payload == Some(number));
        ran.then(|| Violation::Refused { key: key.to_owned(), number })
    }

    pub(super) fn start(
        &mut self,
        line: &str,
        key: &str,
        allowed: Allowed,
        payload: Option<u64>,
        seen: &mut Seen,
    ) -> Option<Violation> {
        let run = Run { at: allowed.at, payload, acked: self.acked, ended: false };
        if self.runs.insert(allowed.fence, run).is_some() {
            return Some(Violation::Twice { line: line.to_owned() });
        }
        if let Some(number) = payload.filter(|number| self.refused.contains(number)) {
            return Some(Violation::Refused { key: key.to_owned(), number });
        }
        self.rises(line, allowed, seen)
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
        let Some(run) = self.runs.get_mut(&fence).filter(|run| !run.ended) else {
            return Some(Violation::Unreadable { line: format!("{line} (without a start)") });
        };
        run.ended = true;
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
        self.runs.retain(|_, run| !run.ended);
        self.refused.clear();
        self.unanswered.clear();
        self.served = self.served.max(self.acked);
        self.runs.len() as u64
    }
}
