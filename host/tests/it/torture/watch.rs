//! Watches the trace for the worst moment to let a stopped node go on: when
//! another one has begun what it was at.

use std::collections::{HashMap, HashSet};

use super::line::{Said, Tail};

pub(super) struct Watch {
    trace: Tail,
    /// Who executes each key, under which fence.
    at_work: HashMap<String, (u64, u32)>,
}

impl Watch {
    pub(super) fn over(trace: Tail) -> Self {
        Self { trace, at_work: HashMap::new() }
    }

    /// Whether this process executes something.
    pub(super) fn is_at_work(&self, pid: u32) -> bool {
        self.at_work.values().any(|(_, worker)| *worker == pid)
    }

    /// Which processes were overtaken since the last look.
    pub(super) fn overtaken(&mut self) -> HashSet<u32> {
        let mut overtaken = HashSet::new();
        for line in self.trace.more().lines() {
            match Said::read(line) {
                Some(Said::Start { key, allowed, .. }) => {
                    let before = self.at_work.insert(key.to_owned(), (allowed.fence, allowed.pid));
                    overtaken.extend(before.map(|(_, pid)| pid));
                }
                Some(Said::End { key, fence, .. }) if self.at_work.get(key).is_some_and(|(at, _)| *at == fence) => {
                    self.at_work.remove(key);
                }
                _ => {}
            }
        }
        overtaken
    }
}
