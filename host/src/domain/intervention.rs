//! What a person may do to tasks, and what came of it.

use serde::{Deserialize, Serialize};

use super::task::{TaskId, TaskState};

/// What a person does to a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// An ended one that did not succeed is queued anew; a pending one is due
    /// now, also out of a backoff.
    Retry,
    /// A live one ends as cancelled; a running one is interrupted first.
    Cancel,
    /// A live one ends as dead; a running one is interrupted first.
    Bury,
}

impl Action {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Retry, Self::Cancel, Self::Bury];

    /// As text: `retry`, `cancel`, `bury`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Retry => "retry",
            Self::Cancel => "cancel",
            Self::Bury => "bury",
        }
    }

    /// What a task in `state` can make of it.
    #[must_use]
    pub fn on(self, state: TaskState) -> Effect {
        match (self, state) {
            (Self::Retry, TaskState::Pending) => Effect::DueNow,
            (Self::Retry, TaskState::Dead | TaskState::Cancelled) => Effect::Anew,
            (Self::Cancel, TaskState::Pending) => Effect::Ends(TaskState::Cancelled),
            (Self::Bury, TaskState::Pending) => Effect::Ends(TaskState::Dead),
            (Self::Cancel, TaskState::Running) => Effect::Asked(TaskState::Cancelled),
            (Self::Bury, TaskState::Running) => Effect::Asked(TaskState::Dead),
            (Self::Retry, TaskState::Running | TaskState::Done)
            | (Self::Cancel | Self::Bury, TaskState::Done | TaskState::Dead | TaskState::Cancelled) => Effect::Refused,
        }
    }
}

/// What an [`Action`] does to a task in some state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Its wait is over.
    DueNow,
    /// Its key is queued, as an enqueue with its payload and priority.
    Anew,
    /// It goes to history in this state.
    Ends(TaskState),
    /// Its node is told; however the run ends, except well, it ends in this
    /// state.
    Asked(TaskState),
    /// Nothing: it makes no sense.
    Refused,
}

/// What came of an [`Action`] for one task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "result")]
pub enum Intervened {
    /// It is done.
    Applied {
        /// The task that answers for the key now: after a retry of an ended
        /// task another one.
        task: TaskId,
    },
    /// It runs: its node was told to interrupt it.
    Interrupting,
    /// It is in a state in which that makes no sense.
    Refused {
        /// In which.
        state: TaskState,
    },
    /// No such task is stored (any more).
    Unknown,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_makes_sense() {
        for state in TaskState::ALL {
            for action in Action::ALL {
                let refused = action.on(state) == Effect::Refused;
                let sensible = match action {
                    Action::Retry => !matches!(state, TaskState::Running | TaskState::Done),
                    Action::Cancel | Action::Bury => state.is_live(),
                };
                assert_eq!(refused, !sensible, "{action:?} of {state:?}");
            }
        }
    }
}
