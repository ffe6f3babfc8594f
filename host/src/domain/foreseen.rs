//! What a simulation foresees: what would happen to each task and file, and all
//! of it together.

use std::collections::BTreeMap;

use serde::Serialize;

use super::budget::Spent;
use super::effect::{Effect, Operation};
use super::task::TaskId;

/// One thing that would happen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Foreseen {
    /// A change of a file.
    Effect(ForeseenEffect),
    /// What would become of a task that is not simply done.
    Task(ForeseenTask),
}

/// A change of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ForeseenEffect {
    /// What would be done.
    pub operation: Operation,
    /// To which file, by its path on this machine.
    pub path: String,
    /// The new path of a rename or link.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// Its size, in bytes.
    pub size: u64,
    /// What it takes of the disk, in bytes, where that is not about its size.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allocated: Option<u64>,
    /// For the task of this key.
    pub key: String,
    /// Its number; absent for a task that the policy would find itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task: Option<TaskId>,
    /// Why, as the policy says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Why it was refused, so that it would not happen, or is not simulated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
}

/// What would become of a task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ForeseenTask {
    /// What it is about.
    pub key: String,
    /// Its number; absent for a task that the policy would find itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task: Option<TaskId>,
    /// What would become of it.
    pub end: End,
    /// Why, in the policy's or the host's words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// What would become of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum End {
    /// Done.
    Done,
    /// Done, without anything to do.
    Skipped,
    /// The dispatcher or the executor asks for another time.
    Postponed,
    /// The dispatcher ends it.
    Discarded,
    /// The plan does not name it.
    Unnamed,
    /// It meets a hold.
    Held,
    /// It fails, in its own words.
    Failed,
    /// The plugin crashes.
    Crashed,
    /// The policy finds it, for a later time.
    Later,
}

impl End {
    /// As it is shown.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Skipped => "skipped",
            Self::Postponed => "postponed",
            Self::Discarded => "discarded",
            Self::Unnamed => "not named by the plan",
            Self::Held => "held",
            Self::Failed => "failed",
            Self::Crashed => "crashed",
            Self::Later => "for later",
        }
    }
}

/// All of it together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Tasks of the queue that were due.
    pub due: u64,
    /// Tasks that the policy found itself.
    pub discovered: u64,
    /// Tasks by what would become of them.
    pub ends: BTreeMap<End, u64>,
    /// Changes by what would be done, refused ones left out.
    pub operations: BTreeMap<&'static str, Total>,
    /// What it would cost of the budget.
    pub takes: Spent,
    /// Why it would go over the budget, if it would.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub over_budget: Option<String>,
    /// Why it ended early, if it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_early: Option<String>,
}

/// So many files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Total {
    /// Their number.
    pub files: u64,
    /// Their sizes together, in bytes.
    pub bytes: u64,
    /// What they take of the disk, in bytes.
    pub allocated: u64,
}

impl Summary {
    /// One more task has come to this end.
    pub fn count(&mut self, end: End) {
        *self.ends.entry(end).or_default() += 1;
    }

    /// One more change, which is not refused.
    pub fn add(&mut self, effect: &Effect) {
        let total = self.operations.entry(effect.operation.name()).or_default();
        total.files += 1;
        total.bytes = total.bytes.saturating_add(effect.size);
        total.allocated = total.allocated.saturating_add(effect.allocated);
    }
}
