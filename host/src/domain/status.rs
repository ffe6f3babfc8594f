//! What sweepd says of itself: plain data, made by the runner, shown by HTTP
//! and the command line.

use std::time::Duration;

use serde::Serialize;

use super::budget::{Budget, Spent};
use super::clock::{Jump, Way};
use super::digest::Digest;
use super::node::NodeView;
use super::plugin_history::{Listed, SetAside};
use super::readiness::{CannotWork, PluginFacts};
use super::time::Timestamp;
use super::wall::WallStatus;

/// One host and its jobs.
#[derive(Clone, Debug, Serialize)]
pub struct HostStatus {
    /// The version of sweepd.
    pub version: &'static str,
    /// The node's name.
    pub node: String,
    /// When this incarnation began.
    pub started_at: Timestamp,
    /// How long it has been up, in milliseconds, whatever the clock was set to
    /// meanwhile.
    pub up_ms: u64,
    /// What confines it.
    pub wall: WallStatus,
    /// How a clock was set last; absent where none was, as far as this
    /// incarnation knows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clock: Option<ClockNotice>,
    /// Why guests may make nothing now; absent while they may.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub no_room: Option<String>,
    /// The nodes that share its queue, itself among them.
    pub nodes: Vec<NodeView>,
    /// Its parts that ended though they should go on; none in good health.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<PartStatus>,
    /// What its log lost; absent while that is nothing.
    #[serde(skip_serializing_if = "LogStatus::is_whole")]
    pub log: LogStatus,
    /// Its jobs, in the order of the configuration.
    pub jobs: Vec<JobStatus>,
}

/// Lines of the log that standard error did not take.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LogStatus {
    /// How many were lost since the host began.
    pub lost: u64,
    /// Why lines are being lost now; absent while they are not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub losing: Option<String>,
}

impl LogStatus {
    /// Whether nothing was lost.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.lost == 0
    }
}

/// A part of a host, a loop or a thread, that panicked or ended too early.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PartStatus {
    /// What it is called.
    pub name: String,
    /// Whether it is down now.
    pub down: bool,
    /// How often it was started again.
    pub restarts: u32,
    /// Why it ended last.
    pub why: String,
    /// When it ended last.
    pub at: Timestamp,
}

/// A clock was set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ClockNotice {
    /// When that was noticed, by the machine's clock.
    pub at: Timestamp,
    /// Which way.
    pub set: Way,
    /// How far, in milliseconds.
    pub by_ms: u64,
    /// Whose clock, which way, and what follows.
    pub message: String,
}

impl ClockNotice {
    /// Noticed `at`. `found`: not seen, but told by times in the future, so that
    /// it may have been further.
    #[must_use]
    pub fn new(whose: &str, jump: Jump, at: Timestamp, found: bool) -> Self {
        // To the second: what is read in between takes its time.
        let by = humantime::format_duration(Duration::from_secs((jump.by + Duration::from_millis(500)).as_secs()));
        let message = match jump.way {
            Way::Back if found => format!(
                "{whose} was set back by {by} or more before this host began, or a node's clock is so far ahead: times \
                 in the future count from now"
            ),
            Way::Back => format!("{whose} was set back by {by}: times in the future count from now"),
            Way::Forward => format!(
                "{whose} was set forward by {by}: for a day, trash, history and holds still go by what it showed \
                 before; a restart takes what it shows now"
            ),
        };
        Self { at, set: jump.way, by_ms: u64::try_from(jump.by.as_millis()).unwrap_or(u64::MAX), message }
    }
}

/// One job.
#[derive(Clone, Debug, Serialize)]
pub struct JobStatus {
    /// Its name.
    pub name: String,
    /// What a node must be labelled with to run it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<String>,
    /// What keeps it from its work at this node; absent while nothing does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cannot_work: Option<CannotWork>,
    /// Why it is paused; absent while it runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paused: Option<String>,
    /// What the job waits for: which mount cannot be used now, and why; absent
    /// while it can sweep.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waiting: Option<String>,
    /// What waits.
    pub backlog: Backlog,
    /// What serves.
    pub slot: SlotStatus,
    /// What its plugin took away and made of late.
    pub taken: TakenStatus,
    /// How many holds are in place.
    pub holds: usize,
    /// The last sweep that did something or failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_sweep: Option<SweepReport>,
    /// What keeps it from changing files, such as a full disk; absent where
    /// nothing does. Its tasks wait and are not charged for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hindered: Option<String>,
    /// Since when the job's sweep is to have ended, by a pause or another plugin,
    /// and has not: a system call is under way that hangs. Nothing new begins.
    /// Absent where nothing hangs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub under_way: Option<Timestamp>,
    /// The last failure of a sweep, a task or the store, as the job saw it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<LastError>,
}

/// What a job took away and made, and how much it may. Of the hour, what other nodes and
/// earlier lives did is as it was when the last sweep began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TakenStatus {
    /// In the present sweep at this node, or in the last one that did something.
    pub sweep: Spent,
    /// In the last sixty minutes.
    pub hour: Spent,
    /// The bounds; absent where there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget: Option<Budget>,
}

/// Something that was said, and when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Event {
    /// When.
    pub at: Timestamp,
    /// What.
    pub message: String,
}

/// Something that failed, and under which plugin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LastError {
    /// When.
    pub at: Timestamp,
    /// What.
    pub message: String,
    /// The generation whose doing it was; absent where it was the store's, a
    /// mount's or the host's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<u64>,
}

/// How many tasks of a job are live. Counts stop at [`Backlog::COUNTED`], so
/// that a page of status costs the same at any size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Backlog {
    /// Waiting, due or not.
    pub pending: u64,
    /// Claimed by a node.
    pub running: u64,
    /// Buried and still in history.
    pub dead: u64,
    /// Whether a count stopped at [`Backlog::COUNTED`].
    pub more: bool,
    /// The due time of the task that has been due longest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oldest_due: Option<Timestamp>,
    /// How long that task has been due, in milliseconds by the store's clock:
    /// how far the job is behind. 0 where nothing is due.
    pub age_ms: u64,
}

impl Backlog {
    /// Where counting stops.
    pub const COUNTED: u64 = 1_000_000;

    /// What [`Backlog::age_ms`] is at `now`.
    #[must_use]
    pub fn age_ms(oldest_due: Option<Timestamp>, now: Timestamp) -> u64 {
        oldest_due.map_or(0, |due| now.0.saturating_sub(due.0))
    }
}

/// The seat of a job that holds its current generation.
#[derive(Clone, Debug, Default, Serialize)]
pub struct SlotStatus {
    /// The plugin file.
    pub file: String,
    /// What serves; absent while nothing does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<GenerationStatus>,
    /// What is being compiled, to serve if it can; absent while nothing is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compiling: Option<CompilingStatus>,
    /// Why the file's present content does not serve; absent while it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<Event>,
    /// Why something of the plugin is not kept for a restart (yet); absent while
    /// all is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unkept: Option<Event>,
    /// Why it is not known what the file is now, so that a change of it is not
    /// taken; absent while it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unseen: Option<Event>,
    /// The component that is pinned; absent while none is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pinned: Option<Digest>,
    /// What was set aside last; absent where nothing is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub set_aside: Option<SetAsideStatus>,
    /// Swaps since the host began, the first load included.
    pub swaps: u64,
}

impl SlotStatus {
    /// Whether a plugin serves. An earlier one does while a newer one is compiled.
    #[must_use]
    pub fn plugin(&self) -> PluginFacts<'_> {
        match (&self.generation, &self.compiling, &self.error) {
            (Some(_), ..) => PluginFacts::Serves,
            (None, Some(_), _) => PluginFacts::Compiling,
            (None, None, error) => PluginFacts::Missing(error.as_ref().map(|error| error.message.as_str())),
        }
    }
}

/// A component that is being compiled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CompilingStatus {
    /// Since when.
    pub since: Timestamp,
    /// SHA-256 of its bytes.
    pub digest: Digest,
}

/// A component that does not serve until somebody says otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SetAsideStatus {
    /// SHA-256 of its bytes.
    pub digest: Digest,
    /// Since when, and why.
    #[serde(flatten)]
    pub mark: SetAside,
}

/// The plugin of a job: what serves, and what did.
#[derive(Clone, Debug, Serialize)]
pub struct PluginStatus {
    /// The job.
    pub job: String,
    /// What serves, and why nothing else does.
    #[serde(flatten)]
    pub slot: SlotStatus,
    /// What was accepted, in the order in which it last took the slot, the
    /// newest first.
    pub history: Vec<Listed>,
}

/// One loaded version of a plugin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GenerationStatus {
    /// Counts up with each swap of the slot.
    pub number: u64,
    /// SHA-256 of its bytes.
    pub digest: Digest,
    /// When it took the slot.
    pub loaded_at: Timestamp,
    /// How long ago that was, in milliseconds, whatever the clock was set to
    /// meanwhile.
    pub age_ms: u64,
    /// Its size in bytes.
    pub size: u64,
    /// `job` or `executor-only`.
    pub world: &'static str,
    /// Whether it came from the state folder: the file is unusable, its content
    /// is set aside, or another component is pinned.
    pub kept: bool,
}

/// What one sweep did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SweepReport {
    /// When it began, by the store's clock.
    pub started_at: Timestamp,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
    /// Batches.
    pub batches: u64,
    /// Tasks that were claimed.
    pub claimed: u64,
    /// Ended as done.
    pub done: u64,
    /// Ended without anything to do; not among those that are done.
    pub skipped: u64,
    /// To be tried again.
    pub retried: u64,
    /// Buried.
    pub dead: u64,
    /// Postponed by the dispatcher or the executor.
    pub postponed: u64,
    /// Discarded by the dispatcher.
    pub discarded: u64,
    /// Put back unrun: not named by the plan, stopped, or never started.
    pub released: u64,
    /// New tasks that the plan's discoveries made.
    pub discovered: u64,
    /// Write-backs refused because the task was another's by then.
    pub fenced: u64,
    /// Why the sweep ended early; absent where it went to its end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}
