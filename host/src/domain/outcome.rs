//! How one attempt of a task ended, and what the host makes of it.
//!
//! An answer of the guest (an [`Outcome`] or a [`Failure`]) and a crash of the
//! plugin (a [`Crash`]) are different types all the way; [`dispose`] is the one
//! place where they meet.

use std::time::Duration;

use super::digest::Digest;
use super::job::JobSpec;
use super::node::NodeId;
use super::task::{ClaimedTask, Fence, TaskId, TaskState};
use super::time::Timestamp;

/// Longest note, reason or message that is kept, in bytes; more is cut.
pub const MAX_NOTE: usize = 4096;

/// Longest name of a component's that is shown, in bytes.
pub const MAX_NAME: usize = 120;

/// How a task ended without failing, in the executor's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Done; with a note for the operator.
    Done(Option<String>),
    /// On a second look nothing was to be done, and why.
    Skipped(String),
    /// Not now.
    Postpone(Postponement),
}

/// Ask again later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Postponement {
    /// How long from now; less than a second counts as a second.
    pub delay: Duration,
    /// For the operator.
    pub reason: Option<String>,
}

/// Why a guest's call did not succeed, in its own words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// May succeed later.
    Transient(String),
    /// Never will.
    Permanent(String),
}

/// What a guest's system calls a mount in which it may only look. The disk is not
/// read-only, and nobody should go and look there.
const READ_ONLY: &str = "Read-only file system";

impl Failure {
    /// The same, with what the host had refused before: the guest saw no more of
    /// that than an error's number.
    #[must_use]
    pub fn after(self, refusal: Option<String>) -> Self {
        let told = |why: String| match refusal {
            Some(refusal) => format!("{refusal}; the plugin says: {}", why.replace(READ_ONLY, "refused")),
            None => why,
        };
        match self {
            Self::Transient(why) => Self::Transient(told(why)),
            Self::Permanent(why) => Self::Permanent(told(why)),
        }
    }
}

/// A failure of the plugin itself: it gave no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Crash {
    /// A WebAssembly trap: a panic, an out-of-bounds access, memory refused.
    #[error("the plugin trapped: {0}")]
    Trap(String),
    /// Interrupted at its deadline.
    #[error("interrupted at its deadline of {0:?}")]
    Deadline(Duration),
    /// It used up the instructions of one call.
    #[error("it is out of fuel: one call may take {0} instructions (job.limits.fuel)")]
    Fuel(u64),
    /// It handed more to the host than one call may.
    #[error("it handed over more than {0} bytes at once (job.limits.answer)")]
    Answer(u64),
    /// It asked for more changes of files than one call may.
    #[error("it made more changes than one call may make, {0} (job.limits.changes)")]
    Changes(u32),
    /// It asked to write more than one call may.
    #[error("it wrote more than one call may write, {} (job.limits.written)", bytesize::ByteSize(*.0).display().iec())]
    Written(u64),
    /// It could not be instantiated.
    #[error("the plugin could not be started: {0}")]
    Start(String),
}

/// How one attempt ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The guest answered.
    Answered(Result<Outcome, Failure>),
    /// The plugin crashed.
    Crashed(Crash),
    /// The host interrupted it to stop or to pause; it costs no attempt.
    Stopped,
    /// A person ended it; the store knows how and why.
    Interrupted,
    /// It met a hold: whatever it answered, it is not done.
    Held {
        /// What is held, and why.
        reason: String,
        /// When the hold ends, if it does.
        until: Option<Timestamp>,
    },
    /// It would have gone over the job's budget; it costs no attempt.
    OverBudget,
    /// The plugin's code could not be started, so that no attempt was made.
    NotStarted(Crash),
    /// No attempt was made, or one that the host could not go on with, for
    /// something that is no fault of the plugin's, or that another task of the
    /// batch met before; and what.
    Untried(String),
    /// The trouble of one mount of several kept the host from going on; it costs no
    /// attempt, and is in the way of no task that is about another mount.
    Hindered,
}

/// What becomes of a task: the store's side of an ending or a verdict. Delays
/// count from the store's clock at the time of writing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Disposition {
    /// Ends as done, with a note.
    Done(Option<String>),
    /// Ends as done without anything to do, and why.
    Skipped(String),
    /// Waits for its next attempt.
    Retry {
        /// How long.
        after: Duration,
        /// What failed.
        error: String,
    },
    /// Waits because somebody asked it to; no attempt is counted.
    Postpone {
        /// How long.
        after: Duration,
        /// Why.
        reason: Option<String>,
    },
    /// Ends as dead.
    Bury(String),
    /// Ends as cancelled.
    Cancel(String),
    /// Back into the queue as if never claimed.
    Release {
        /// Due again after this time; `None` leaves its due time.
        after: Option<Duration>,
    },
}

impl Disposition {
    /// The state in which it ends the task; `None` where the task waits again.
    #[must_use]
    pub fn end(&self) -> Option<TaskState> {
        match self {
            Self::Done(_) | Self::Skipped(_) => Some(TaskState::Done),
            Self::Bury(_) => Some(TaskState::Dead),
            Self::Cancel(_) => Some(TaskState::Cancelled),
            Self::Retry { .. } | Self::Postpone { .. } | Self::Release { .. } => None,
        }
    }
}

/// The record of one attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// Its number, from 1.
    pub number: u32,
    /// The life of the node that made it.
    pub node: NodeId,
    /// When it began.
    pub started: Timestamp,
    /// When it ended.
    pub ended: Timestamp,
    /// The component that ran it; `None` where none did (a plan's discard).
    pub digest: Option<Digest>,
    /// How many files it removed: see [`Progress::removed`].
    pub removed: u64,
}

/// What one call did to files, by the host's own count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Changes that were made.
    pub changes: u64,
    /// How many files fewer there are: those that were removed, less those that
    /// were made. A call that removes only what it made itself gets nowhere.
    pub removed: u64,
}

/// One write-back: applied only while the fence is unchanged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finish {
    /// The task.
    pub id: TaskId,
    /// Under which claim.
    pub fence: Fence,
    /// What becomes of it.
    pub disposition: Disposition,
    /// The attempt that led to it.
    pub attempt: Attempt,
}

/// Whether a write-back was applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finished {
    /// It is applied, now or by an earlier try of the same write-back.
    Applied,
    /// The task is another's by now; nothing was written.
    Fenced,
}

/// What the host makes of an ending after this `progress`. `jitter` is a number
/// in `0.0..1.0`.
#[must_use]
pub fn dispose(
    ending: Ending,
    progress: Progress,
    task: &ClaimedTask,
    job: &JobSpec,
    now: Timestamp,
    jitter: f64,
) -> Disposition {
    match ending {
        Ending::Answered(Ok(Outcome::Done(note))) => Disposition::Done(note.map(cut)),
        Ending::Answered(Ok(Outcome::Skipped(why))) => Disposition::Skipped(cut(why)),
        Ending::Answered(Ok(Outcome::Postpone(ask))) => postpone(ask, progress, task, job, now),
        Ending::Answered(Err(Failure::Permanent(error))) => Disposition::Bury(cut(error)),
        Ending::Answered(Err(Failure::Transient(error))) => retry(error, task, job, jitter),
        Ending::Crashed(crash) => retry(crash.to_string(), task, job, jitter),
        // The store makes of it what was asked for.
        Ending::Stopped | Ending::Interrupted | Ending::OverBudget => Disposition::Release { after: None },
        Ending::Held { reason, until } => held(reason, until, now),
        Ending::NotStarted(_) | Ending::Untried(_) => Disposition::Release { after: Some(job.interval) },
        Ending::Hindered => Disposition::Release { after: Some(HINDERED_FOR.max(job.interval)) },
    }
}

/// A postponement, bounded: at least a second, and no chain of them longer
/// than the job's `max_postponed`. A call that removed files begins the chain
/// anew: their number bounds how often that happens.
#[must_use]
pub fn postpone(
    ask: Postponement,
    progress: Progress,
    task: &ClaimedTask,
    job: &JobSpec,
    now: Timestamp,
) -> Disposition {
    let left = chain_left(task.postponed_since, progress, job.max_postponed, now);
    if left.is_zero() {
        let why = ask.reason.map_or_else(String::new, |reason| format!("; last reason: {reason}"));
        return Disposition::Bury(cut(format!(
            "postponed for longer than max_postponed ({:?}){why}",
            job.max_postponed
        )));
    }
    let after = ask.delay.min(left).max(Duration::from_secs(1));
    Disposition::Postpone { after, reason: ask.reason.map(cut) }
}

/// How long the chain of postponements that began at `since` may still be.
fn chain_left(since: Option<Timestamp>, progress: Progress, most: Duration, now: Timestamp) -> Duration {
    let chain = since.filter(|_| progress.removed == 0);
    most.saturating_sub(chain.map_or(Duration::ZERO, |since| now.since(since)))
}

/// So long after the trouble of a mount was met the task is tried again.
pub const HINDERED_FOR: Duration = Duration::from_secs(10);

/// So long after a hold was met, or as soon as it ends, the task is tried again.
const HELD_FOR: Duration = Duration::from_mins(10);

/// However long it is held, the task waits: `max_postponed` bounds a plugin, not
/// a person.
fn held(reason: String, until: Option<Timestamp>, now: Timestamp) -> Disposition {
    let left = until.map_or(HELD_FOR, |until| until.since(now));
    Disposition::Postpone { after: left.clamp(Duration::from_secs(1), HELD_FOR), reason: Some(cut(reason)) }
}

fn retry(error: String, task: &ClaimedTask, job: &JobSpec, jitter: f64) -> Disposition {
    if task.attempt >= job.retry.max_attempts {
        return Disposition::Bury(cut(error));
    }
    Disposition::Retry { after: job.retry.backoff_after(task.attempt, jitter), error: cut(error) }
}

/// At most [`MAX_NOTE`] bytes of `text`, without the NUL bytes that some
/// databases cannot hold.
#[must_use]
pub fn cut(text: String) -> String {
    cut_to(text, MAX_NOTE)
}

/// The same, with at most so many bytes, of which three say that it was cut.
#[must_use]
pub fn cut_to(mut text: String, most: usize) -> String {
    if text.len() > most {
        text.truncate(text.floor_char_boundary(most.saturating_sub('…'.len_utf8())));
        text.push('…');
    }
    if text.contains('\0') {
        text = text.replace('\0', "\u{fffd}");
        // The sign is longer than what it stands for.
        return cut_to(text, most);
    }
    text
}

/// The first names of a list for a message, each cut, and how many more there are.
#[must_use]
pub fn some_of<'a>(names: impl ExactSizeIterator<Item = &'a str>) -> String {
    const SHOWN: usize = 20;
    let more = names.len().saturating_sub(SHOWN);
    let shown = names.take(SHOWN).map(|name| cut_to(name.to_owned(), MAX_NAME)).collect::<Vec<_>>().join(", ");
    if more == 0 { shown } else { format!("{shown} and {more} more") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_after_a_refusal_begins_with_the_right_that_is_missing() {
        let failure = || Failure::Transient("v.mp4: Read-only file system".to_owned());
        assert_eq!(failure().after(None), failure());
        let refusal = "unlink refused: the plugin does not have the right `delete` in /srv".to_owned();
        let told = format!("{refusal}; the plugin says: v.mp4: refused");
        assert_eq!(failure().after(Some(refusal)), Failure::Transient(told));
    }

    #[test]
    fn a_chain_of_postponements_is_bounded_and_one_that_gets_on_begins_anew() {
        let (most, now) = (Duration::from_secs(10), Timestamp(60_000));
        let left = |since: Option<u64>, changes, removed| {
            chain_left(since.map(Timestamp), Progress { changes, removed }, most, now).as_secs()
        };
        assert_eq!(left(None, 0, 0), 10);
        assert_eq!(left(Some(57_000), 0, 0), 7);
        assert_eq!(left(Some(1000), 0, 0), 0);
        assert_eq!(left(Some(1000), 9, 0), 0, "changing things is not getting on");
        assert_eq!(left(Some(1000), 1, 1), 10);
    }
}
