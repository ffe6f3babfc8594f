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

    /// The state of tasks that are meant where a filter names none.
    #[must_use]
    pub fn natural_state(self) -> TaskState {
        match self {
            Self::Retry => TaskState::Dead,
            Self::Cancel | Self::Bury => TaskState::Pending,
        }
    }

    /// The states in which it makes sense.
    pub fn states(self) -> impl Iterator<Item = TaskState> {
        TaskState::ALL.into_iter().filter(move |state| self.on(*state) != Effect::Refused)
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

impl std::fmt::Display for Action {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
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

/// How many tasks an [`Action`] came to what with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// Done.
    pub applied: u64,
    /// They run: their nodes were told to interrupt them.
    pub interrupting: u64,
    /// In a state in which it makes no sense.
    pub refused: u64,
    /// Not stored (any more).
    pub unknown: u64,
}

impl Tally {
    /// Counts one more.
    pub fn count(&mut self, intervened: Intervened) {
        *match intervened {
            Intervened::Applied { .. } => &mut self.applied,
            Intervened::Interrupting => &mut self.interrupting,
            Intervened::Refused { .. } => &mut self.refused,
            Intervened::Unknown => &mut self.unknown,
        } += 1;
    }

    /// Counts all that `other` counted.
    pub fn add(&mut self, other: Self) {
        self.applied += other.applied;
        self.interrupting += other.interrupting;
        self.refused += other.refused;
        self.unknown += other.unknown;
    }

    /// How many tasks were counted.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.applied + self.interrupting + self.refused + self.unknown
    }
}

impl FromIterator<Intervened> for Tally {
    fn from_iter<I: IntoIterator<Item = Intervened>>(all: I) -> Self {
        let mut tally = Self::default();
        all.into_iter().for_each(|one| tally.count(one));
        tally
    }
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
                assert_eq!(action.states().any(|takes| takes == state), sensible);
            }
        }
        assert!(Action::ALL.iter().all(|action| action.states().any(|state| state == action.natural_state())));
    }
}
