//! Tasks: what one is about, who may touch it, and what an enqueue answers.

use std::fmt;

use super::time::Timestamp;

/// Longest key, in bytes.
pub const MAX_KEY: usize = 1024;
/// Longest payload, in bytes.
pub const MAX_PAYLOAD: usize = 64 * 1024;

/// The queue's number for a task, unique in one database and never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct TaskId(pub u64);

impl TaskId {
    /// Where the numbers begin that a simulation gives to tasks that are not in
    /// the queue.
    pub const SIMULATED: u64 = 1 << 62;

    /// Itself, where it is the number of a task in the queue.
    #[must_use]
    pub fn in_queue(self) -> Option<Self> {
        Some(self).filter(|id| id.0 < Self::SIMULATED)
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A number that rises with every claim, across all rows of a key. Whoever
/// writes back under an older one is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(transparent)]
pub struct Fence(pub u64);

/// What a task is about: 1 to 1,024 bytes of UTF-8 without NUL, compared byte
/// by byte.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(transparent)]
pub struct Key(String);

/// Why a text is no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadKey {
    /// It has no bytes.
    #[error("the key is empty")]
    Empty,
    /// It is longer than [`MAX_KEY`].
    #[error("the key has {0} bytes, at most {MAX_KEY} are allowed")]
    TooLong(usize),
    /// It has a NUL byte.
    #[error("the key contains a NUL byte")]
    Nul,
}

impl Key {
    /// Checks and takes `text`.
    pub fn new(text: impl Into<String>) -> Result<Self, BadKey> {
        let text = text.into();
        match text.len() {
            0 => Err(BadKey::Empty),
            length if length > MAX_KEY => Err(BadKey::TooLong(length)),
            _ if text.contains('\0') => Err(BadKey::Nul),
            _ => Ok(Self(text)),
        }
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The text, without a copy.
    #[must_use]
    pub fn into_string(self) -> String {
        self.0
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What an enqueuer added, uninterpreted: at most 64 KiB of UTF-8 without NUL.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(transparent)]
pub struct Payload(String);

/// Why a text is no payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadPayload {
    /// It is longer than [`MAX_PAYLOAD`].
    #[error("the payload has {0} bytes, at most {MAX_PAYLOAD} are allowed")]
    TooLong(usize),
    /// It has a NUL byte, which PostgreSQL's text cannot hold.
    #[error("the payload contains a NUL byte")]
    Nul,
}

impl Payload {
    /// Checks and takes `text`.
    pub fn new(text: impl Into<String>) -> Result<Self, BadPayload> {
        let text = text.into();
        match text.len() {
            length if length > MAX_PAYLOAD => Err(BadPayload::TooLong(length)),
            _ if text.contains('\0') => Err(BadPayload::Nul),
            _ => Ok(Self(text)),
        }
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The text, without a copy.
    #[must_use]
    pub fn into_string(self) -> String {
        self.0
    }
}

/// Which due tasks go first; the lowest number is the most urgent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Priority {
    /// Before everything else.
    Urgent,
    /// Before the usual.
    High,
    /// The usual.
    #[default]
    Normal,
    /// When nothing else is due (and in one claim of ten).
    Low,
}

impl Priority {
    /// All, most urgent first.
    pub const ALL: [Self; 4] = [Self::Urgent, Self::High, Self::Normal, Self::Low];
}

/// Where a task stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TaskState {
    /// Waits for its time.
    Pending,
    /// Claimed by a node.
    Running,
    /// Ended well (done or skipped).
    Done,
    /// Buried: failed for good, or its attempts were spent.
    Dead,
    /// Ended by a plan or by a person.
    Cancelled,
}

impl TaskState {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Pending, Self::Running, Self::Done, Self::Dead, Self::Cancelled];

    /// As text: `pending`, `running`, `done`, `dead`, `cancelled`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Done => "done",
            Self::Dead => "dead",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether the task is still to run: it lives in `tasks`, the others in
    /// `history`.
    #[must_use]
    pub fn is_live(self) -> bool {
        matches!(self, Self::Pending | Self::Running)
    }
}

impl fmt::Display for TaskState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A task to be queued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewTask {
    /// What it is about.
    pub key: Key,
    /// Handed to the plugin; replaces the one of a pending task.
    pub payload: Option<Payload>,
    /// Not before; `None` is now.
    pub run_at: Option<Timestamp>,
    /// Which goes first.
    pub priority: Priority,
}

impl NewTask {
    /// A task that is due now, with normal priority and no payload.
    #[must_use]
    pub fn now(key: Key) -> Self {
        Self { key, payload: None, run_at: None, priority: Priority::default() }
    }
}

/// What an enqueue did with one item.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Enqueued {
    /// A new task.
    New(TaskId),
    /// The key was pending: that task answers for it.
    Pending(TaskId),
    /// The key was running: its row now holds one successor, queued when the
    /// run ends.
    Successor(TaskId),
}

impl Enqueued {
    /// The task that answers for the key; a successor gets a number of its own
    /// when it is promoted.
    #[must_use]
    pub fn id(self) -> TaskId {
        let (Self::New(id) | Self::Pending(id) | Self::Successor(id)) = self;
        id
    }
}

/// A task as a node holds it between claim and finish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimedTask {
    /// Its number.
    pub id: TaskId,
    /// The right to write back.
    pub fence: Fence,
    /// What it is about.
    pub key: Key,
    /// What the enqueuer added.
    pub payload: Option<Payload>,
    /// This attempt, from 1.
    pub attempt: u32,
    /// How often a node was lost while it held the task.
    pub losses: u32,
    /// When it was first queued.
    pub enqueued_at: Timestamp,
    /// When the present chain of postponements began.
    pub postponed_since: Option<Timestamp>,
    /// How many files its calls removed before, by the count of the hosts that
    /// wrote back how they ended.
    pub removed: u64,
}

/// A task as people see it, live or ended.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct TaskView {
    /// Its number.
    pub id: TaskId,
    /// The job's name.
    pub job: String,
    /// What it is about.
    pub key: String,
    /// What the enqueuer added.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payload: Option<String>,
    /// Where it stands.
    pub state: TaskState,
    /// Which goes first.
    pub priority: Priority,
    /// When it was first queued.
    pub enqueued_at: Timestamp,
    /// When it is due; the last due time of an ended one.
    pub run_at: Timestamp,
    /// Attempts so far; of a running task, those before this one.
    pub attempts: u32,
    /// How often a node was lost while it held the task.
    pub losses: u32,
    /// Why it waits, failed or was skipped: the last words about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// `done`, `skipped`, `failed`, … of the last attempt of an ended task.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,
    /// The component that ran its last attempt, for ended tasks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<super::digest::Digest>,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Timestamp>,
    /// The node that runs it, or made its last attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Whether a running task has a successor waiting in its row.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub successor: bool,
}

/// One attempt of a task as people see it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct AttemptView {
    /// Its number, from 1.
    pub number: u32,
    /// When it began; of a lost one, when it was claimed.
    pub started_at: Timestamp,
    /// When it ended; of a lost one, when that was noticed.
    pub ended_at: Timestamp,
    /// The node that made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// The component that ran it; absent where that is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<super::digest::Digest>,
    /// `done`, `skipped`, `failed`, `lost` or `cancelled`.
    pub outcome: String,
    /// Why it failed or was skipped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_checked() {
        assert_eq!(Key::new(""), Err(BadKey::Empty));
        assert_eq!(Key::new("a\0b"), Err(BadKey::Nul));
        assert_eq!(Key::new("影".repeat(342)), Err(BadKey::TooLong(1026)));
        assert!(Key::new("x".repeat(MAX_KEY)).is_ok());
        assert!(Payload::new("").is_ok());
        assert_eq!(Payload::new("\0"), Err(BadPayload::Nul));
        assert_eq!(Payload::new("x".repeat(MAX_PAYLOAD + 1)), Err(BadPayload::TooLong(65_537)));
    }
}
