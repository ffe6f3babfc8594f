//! The contract's records and variants as plain Rust, with constructors that
//! read as the policy means them. Knows nothing of how they cross the boundary.

use std::fmt::Display;

/// The queue's number for a task; opaque.
pub type TaskId = u64;

/// Milliseconds since the Unix epoch, UTC.
pub type Timestamp = u64;

/// One row of the queue, as the plugin sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// Its number, unique in one database.
    pub id: TaskId,
    /// What it is about: 1 to 1,024 bytes of UTF-8 without NUL.
    pub key: String,
    /// What the enqueuer added, uninterpreted: at most 64 KiB.
    pub payload: Option<String>,
    /// This attempt, from 1. Postponing is not an attempt.
    pub attempt: u32,
    /// After a failure in this attempt the task is buried.
    pub max_attempts: u32,
    /// When it was first queued.
    pub enqueued_at: Timestamp,
}

impl Task {
    /// A first attempt, as a test needs it.
    #[must_use]
    pub fn new(id: TaskId, key: impl Into<String>) -> Self {
        Self { id, key: key.into(), payload: None, attempt: 1, max_attempts: 1, enqueued_at: 0 }
    }
}

/// Why a call did not succeed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// May succeed later: tried again after a backoff.
    Transient(String),
    /// Never will: not tried again.
    Permanent(String),
}

impl Failure {
    /// May succeed later: tried again after a backoff.
    #[must_use]
    pub fn transient(why: impl Display) -> Self {
        Self::Transient(why.to_string())
    }

    /// Never will succeed: not tried again. From a dispatcher, it pauses the job.
    #[must_use]
    pub fn permanent(why: impl Display) -> Self {
        Self::Permanent(why.to_string())
    }
}

/// Ask again later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Postponement {
    /// How many seconds from now, by the store's clock; at least one.
    pub delay: u32,
    /// For the operator.
    pub reason: Option<String>,
}

impl Postponement {
    /// Ask again in `delay` seconds, for this reason.
    #[must_use]
    pub fn new(delay: u32, reason: impl Into<String>) -> Self {
        Self { delay: delay.max(1), reason: Some(reason.into()) }
    }
}

/// How a task ended without failing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Done; with a note for the operator.
    Done(Option<String>),
    /// On a second look nothing was to be done, and why.
    Skipped(String),
    /// Not now.
    Postpone(Postponement),
}

impl Outcome {
    /// Done, and nothing to say about it.
    #[must_use]
    pub const fn done() -> Self {
        Self::Done(None)
    }

    /// Done, with a note for the operator.
    #[must_use]
    pub fn done_with(note: impl Into<String>) -> Self {
        Self::Done(Some(note.into()))
    }

    /// On a second look nothing was to be done, and why.
    #[must_use]
    pub fn skipped(why: impl Into<String>) -> Self {
        Self::Skipped(why.into())
    }

    /// Not now: ask again in `delay` seconds, for this reason.
    #[must_use]
    pub fn postpone(delay: u32, reason: impl Into<String>) -> Self {
        Self::Postpone(Postponement::new(delay, reason))
    }
}

/// One call of a sweep.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sweep {
    /// The store's clock when the sweep began.
    pub now: Timestamp,
    /// Most tasks that are offered in one call.
    pub capacity: u32,
    /// Whether this call may look for work of its own: discoveries and a cursor
    /// are accepted only then.
    pub scan: bool,
    /// Most entries that [`Plan::discoveries`] may have.
    pub max_discoveries: u32,
    /// What the last accepted plan of this scan left; none at its start.
    pub cursor: Option<String>,
}

/// What is to become of a due task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Execute it now.
    Run,
    /// Not now.
    Postpone(Postponement),
    /// Never: it ends as `cancelled`, with this reason.
    Discard(String),
}

/// A verdict and the task that it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// One of the due tasks, at most once.
    pub task: TaskId,
    /// What is to happen.
    pub verdict: Verdict,
}

/// Work that the policy found itself; a live key is not queued twice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Discovery {
    /// The key to queue.
    pub key: String,
    /// Handed to the executor.
    pub payload: Option<String>,
    /// Not before; none is now.
    pub run_at: Option<Timestamp>,
    /// Shown in `sweepd plan` and on the task.
    pub reason: Option<String>,
}

impl Discovery {
    /// Queue this key for now.
    #[must_use]
    pub fn new(key: impl Into<String>) -> Self {
        Self { key: key.into(), ..Self::default() }
    }

    /// And why, for whoever reads `sweepd plan`.
    #[must_use]
    pub fn because(self, reason: impl Into<String>) -> Self {
        Self { reason: Some(reason.into()), ..self }
    }
}

/// A dispatcher's answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// A due task without a decision is held back until the next sweep.
    pub decisions: Vec<Decision>,
    /// At most [`Sweep::max_discoveries`], and only where [`Sweep::scan`] is set.
    pub discoveries: Vec<Discovery>,
    /// Where the scan goes on, in the next call of this sweep; none ends it.
    pub cursor: Option<String>,
}

impl Plan {
    /// Decides about each due task.
    #[must_use]
    pub fn decide(due: &[Task], mut verdict: impl FnMut(&Task) -> Verdict) -> Self {
        Self {
            decisions: due.iter().map(|task| Decision { task: task.id, verdict: verdict(task) }).collect(),
            ..Self::default()
        }
    }

    /// Executes every due task now.
    #[must_use]
    pub fn run_all(due: &[Task]) -> Self {
        Self::decide(due, |_| Verdict::Run)
    }

    /// Asks again about every due task in `delay` seconds.
    #[must_use]
    pub fn postpone_all(due: &[Task], delay: u32, reason: &str) -> Self {
        Self::decide(due, |_| Verdict::Postpone(Postponement::new(delay, reason)))
    }

    /// Cancels every due task.
    #[must_use]
    pub fn discard_all(due: &[Task], why: &str) -> Self {
        Self::decide(due, |_| Verdict::Discard(why.to_owned()))
    }
}
