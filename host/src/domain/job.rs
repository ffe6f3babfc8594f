//! A job as it was configured: checked, complete, nothing optional that must
//! be there.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::budget::Budget;
use super::retry::RetryPolicy;
use super::rights::Rights;
use super::schedule::Schedule;
use super::trash::Trash;

/// The store's number for a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct JobId(pub i64);

/// A job's name: 1 to 64 of `a-z`, `0-9` and `-`, beginning with a letter. It
/// stands in routes, tables, metrics and environment variables.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(transparent)]
pub struct JobName(String);

/// The text is no job name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no job name: use 1 to 64 of a-z, 0-9 and `-`, beginning with a letter")]
pub struct BadJobName(pub String);

impl JobName {
    /// Checks and takes `text`.
    pub fn new(text: impl Into<String>) -> Result<Self, BadJobName> {
        let text = text.into();
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let good = text.len() <= 64 && text.starts_with(|c: char| c.is_ascii_lowercase()) && text.chars().all(allowed);
        if good { Ok(Self(text)) } else { Err(BadJobName(text)) }
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for JobName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// What a node has, and a job needs of one, such as a disk: 1 to 64 of `a-z`,
/// `0-9`, `-`, `_`, `.` and `:`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(transparent)]
pub struct Label(String);

/// The text is no label.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no label: use 1 to 64 of a-z, 0-9, `-`, `_`, `.` and `:`")]
pub struct BadLabel(pub String);

impl Label {
    /// Checks and takes `text`.
    pub fn new(text: impl Into<String>) -> Result<Self, BadLabel> {
        let text = text.into();
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.:".contains(c);
        let good = (1..=64).contains(&text.len()) && text.chars().all(allowed);
        if good { Ok(Self(text)) } else { Err(BadLabel(text)) }
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// A directory granted to a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// The directory on this machine, links resolved as far as they were there.
    pub host: PathBuf,
    /// Whether it stood there when the configuration was read. One that comes
    /// later must be reached without links: nobody has checked where they lead.
    pub was_there: bool,
    /// Where the guest sees it: absolute, `/` for the only mount of a job.
    pub guest: String,
    /// What the executor may do there; the dispatcher never has more than
    /// [`Rights::RO`].
    pub rights: Rights,
    /// Whether plugins go into what is mounted below the directory.
    pub cross_mounts: bool,
}

/// How much one guest may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// All linear memories and tables of one instance together, in bytes.
    pub memory: u64,
    /// Linear memories of one instance.
    pub memories: u32,
    /// Tables of one instance.
    pub tables: u32,
    /// Elements of one table.
    pub table_elements: u32,
    /// Core instances of which one instance may consist.
    pub instances: u32,
    /// Instructions of one call, instantiating among them; `None` counts none.
    pub fuel: Option<u64>,
    /// What a guest may hand to the host at once, its answer among it, in
    /// bytes.
    pub answer: u64,
    /// Files, folders and streams that one instance may hold open.
    pub descriptors: u32,
    /// Entries that one stream over a folder hands out.
    pub folder_entries: u32,
    /// One call of `dispatch`, and instantiating for it.
    pub dispatch_deadline: Duration,
    /// One call of `execute`, and instantiating for it.
    pub task_deadline: Duration,
    /// Output that one call may write into the log, in bytes; more is cut.
    pub output: u64,
    /// Output that all instances of the job may write into the log together, in
    /// bytes a second, and at once; more is cut.
    pub output_rate: u64,
    /// Tasks after which an executor instance is made anew.
    pub tasks_per_instance: u32,
    /// Changes of files that one call may ask for; all writes of a call to one
    /// open file are one.
    pub changes: u32,
    /// Bytes that one call may write into files, or by which it may make them
    /// longer.
    pub written: u64,
}

/// How much of an instance the next task may see.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Isolation {
    /// An executor thread keeps its instance from task to task.
    Thread,
    /// Every task gets a fresh instance.
    Task,
}

/// A named, configured piece of work: a plugin, a schedule, mounts, limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobSpec {
    /// Its name, unique in a host.
    pub name: JobName,
    /// The plugin's file; it may be missing, wrong or a link at any time.
    pub plugin: PathBuf,
    /// What a node must have for this job to run on it; sorted, each once.
    pub labels: Vec<Label>,
    /// From the end of a sweep to the next one.
    pub interval: Duration,
    /// When the job scans, where its sweeps by `interval` do not: they then only
    /// take what is queued.
    pub schedule: Option<Schedule>,
    /// Most tasks that one batch claims.
    pub capacity: u32,
    /// Executor threads.
    pub concurrency: usize,
    /// After this time a sweep yields; what is left waits for the next.
    pub max_sweep: Duration,
    /// The longest chain of postponements.
    pub max_postponed: Duration,
    /// What the guest sees of the file system.
    pub mounts: Vec<Mount>,
    /// How much it may take away.
    pub budget: Budget,
    /// Whether every sweep is simulated first, and not begun where it would go
    /// over the budget.
    pub preflight: bool,
    /// Where removed files go first; `None` removes them at once.
    pub trash: Option<Trash>,
    /// What the guest may use.
    pub limits: Limits,
    /// What happens after a failure.
    pub retry: RetryPolicy,
    /// After so many crashes in a row a generation is set aside; 0 never.
    pub breaker: u32,
    /// How instances are shared.
    pub isolation: Isolation,
    /// `[job.config]`, each value as text (numbers and booleans as TOML
    /// writes them).
    pub config: BTreeMap<String, String>,
}

impl JobSpec {
    /// How many guests of it there are at a time on a node, at most: its executors,
    /// one that decides, one that is tried before it serves, and the two of a
    /// preflight.
    #[must_use]
    pub fn guests(&self) -> u64 {
        let executors = u64::try_from(self.concurrency).unwrap_or(u64::MAX);
        executors.saturating_add(if self.preflight { 4 } else { 2 })
    }

    /// Whether a node with these labels may run this job: it has all of the
    /// job's. A job without labels runs everywhere.
    #[must_use]
    pub fn runs_on(&self, node: &[Label]) -> bool {
        self.labels.iter().all(|label| node.contains(label))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for good in ["video-clear", "a", "x1"] {
            assert!(JobName::new(good).is_ok(), "{good}");
        }
        for bad in ["", "1a", "-a", "Video", "a b", "a/b", &"a".repeat(65)] {
            assert!(JobName::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn labels() {
        for good in ["disk-a", "1", "zone:eu_1.b", &"a".repeat(64)] {
            assert_eq!(Label::new(good).expect("a label").as_str(), good);
        }
        for bad in ["", "Disk", "a b", "a,b", "a/b", "é", &"a".repeat(65)] {
            assert_eq!(Label::new(bad), Err(BadLabel(bad.to_owned())));
        }
    }
}
