//! What a dispatcher answers, and the host's check of it: a plugin proposes,
//! the host decides.

use std::collections::HashMap;

use super::outcome::Postponement;
use super::task::{ClaimedTask, Key, NewTask, Payload, Priority, TaskId};
use super::time::Timestamp;

/// Most discoveries in a plan.
pub const MAX_DISCOVERIES: usize = 10_000;
/// Longest cursor, in bytes.
pub const MAX_CURSOR: usize = 64 * 1024;

/// One call of a sweep, as the dispatcher sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SweepCall {
    /// The store's clock when the sweep began.
    pub now: Timestamp,
    /// Most tasks in `due`.
    pub capacity: u32,
    /// Whether the call may look for work of its own.
    pub scan: bool,
    /// What the last accepted plan of this scan left.
    pub cursor: Option<String>,
}

/// What is to become of a due task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Execute it now.
    Run,
    /// Not now.
    Postpone(Postponement),
    /// Never, and why.
    Discard(String),
}

/// Work that the policy found itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Discovery {
    /// The key to queue.
    pub key: String,
    /// Handed to the executor.
    pub payload: Option<String>,
    /// Not before; none is now.
    pub run_at: Option<Timestamp>,
    /// For the operator.
    pub reason: Option<String>,
}

/// A dispatcher's answer, unchecked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Verdicts by task.
    pub decisions: Vec<(TaskId, Verdict)>,
    /// Work that the policy found.
    pub discoveries: Vec<Discovery>,
    /// Where the scan goes on.
    pub cursor: Option<String>,
}

/// Why a plan was refused; nothing of it was applied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanRefused {
    /// It decides about a task that was not offered.
    #[error("the plan names task {0}, which was not offered")]
    Unknown(TaskId),
    /// It decides twice about a task.
    #[error("the plan names task {0} twice")]
    Repeated(TaskId),
    /// It has discoveries or a cursor where it may not scan.
    #[error("the plan has discoveries or a cursor, but this call may not scan")]
    NoScan,
    /// It has too many discoveries.
    #[error("the plan has {0} discoveries, at most {MAX_DISCOVERIES} are allowed")]
    TooMany(usize),
    /// Its cursor is too long.
    #[error("the cursor has {0} bytes, at most {MAX_CURSOR} are allowed")]
    LongCursor(usize),
    /// A discovery cannot be queued.
    #[error("discovery {index} cannot be queued: {why}")]
    BadDiscovery {
        /// Its place in the list, from 0.
        index: usize,
        /// What is wrong with it.
        why: String,
    },
}

/// A plan that was checked and sorted into what the host does with it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decided {
    /// To be executed, in the order of the batch.
    pub run: Vec<ClaimedTask>,
    /// Not now.
    pub postpone: Vec<(ClaimedTask, Postponement)>,
    /// Never, and why.
    pub discard: Vec<(ClaimedTask, String)>,
    /// Not named: held back until the next sweep.
    pub unnamed: Vec<ClaimedTask>,
    /// To be queued.
    pub discoveries: Vec<NewTask>,
    /// Where the scan goes on.
    pub cursor: Option<String>,
}

impl Decided {
    /// First in, first out: what the host decides for a plugin that only acts.
    #[must_use]
    pub fn run_all(due: Vec<ClaimedTask>) -> Self {
        Self { run: due, ..Self::default() }
    }
}

impl Plan {
    /// Checks the plan against what was offered in `call` and sorts `due` by
    /// verdict. The tasks come back with the refusal.
    pub fn decide(self, call: &SweepCall, due: Vec<ClaimedTask>) -> Result<Decided, (PlanRefused, Vec<ClaimedTask>)> {
        match self.check(call, &due) {
            Ok((verdicts, discoveries, cursor)) => Ok(sort(due, verdicts, discoveries, cursor)),
            Err(refused) => Err((refused, due)),
        }
    }

    fn check(self, call: &SweepCall, due: &[ClaimedTask]) -> Result<Checked, PlanRefused> {
        let mut verdicts: HashMap<TaskId, Option<Verdict>> = due.iter().map(|task| (task.id, None)).collect();
        for (id, verdict) in self.decisions {
            let seat = verdicts.get_mut(&id).ok_or(PlanRefused::Unknown(id))?;
            if seat.replace(verdict).is_some() {
                return Err(PlanRefused::Repeated(id));
            }
        }
        if !call.scan && (self.cursor.is_some() || !self.discoveries.is_empty()) {
            return Err(PlanRefused::NoScan);
        }
        if self.discoveries.len() > MAX_DISCOVERIES {
            return Err(PlanRefused::TooMany(self.discoveries.len()));
        }
        if let Some(cursor) = self.cursor.as_ref().filter(|cursor| cursor.len() > MAX_CURSOR) {
            return Err(PlanRefused::LongCursor(cursor.len()));
        }
        let discoveries = self.discoveries.into_iter().enumerate().map(new_task).collect::<Result<_, _>>()?;
        Ok((verdicts, discoveries, self.cursor))
    }
}

type Checked = (HashMap<TaskId, Option<Verdict>>, Vec<NewTask>, Option<String>);

fn new_task((index, discovery): (usize, Discovery)) -> Result<NewTask, PlanRefused> {
    let bad = |why: String| PlanRefused::BadDiscovery { index, why };
    Ok(NewTask {
        key: Key::new(discovery.key).map_err(|error| bad(error.to_string()))?,
        payload: discovery.payload.map(Payload::new).transpose().map_err(|error| bad(error.to_string()))?,
        run_at: discovery.run_at,
        priority: Priority::default(),
    })
}

fn sort(
    due: Vec<ClaimedTask>,
    mut verdicts: HashMap<TaskId, Option<Verdict>>,
    discoveries: Vec<NewTask>,
    cursor: Option<String>,
) -> Decided {
    let mut decided = Decided { discoveries, cursor, ..Decided::default() };
    for task in due {
        match verdicts.remove(&task.id).flatten() {
            Some(Verdict::Run) => decided.run.push(task),
            Some(Verdict::Postpone(ask)) => decided.postpone.push((task, ask)),
            Some(Verdict::Discard(why)) => decided.discard.push((task, why)),
            None => decided.unnamed.push(task),
        }
    }
    decided
}
