//! A mutation that a plugin made, as it stands on record.

// length: an effect is one record, and most of this is its words.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::digest::Digest;
use super::job::JobId;
use super::task::TaskId;
use super::time::Timestamp;

/// Names an effect for ever: the journal that it was first written to, and its
/// number there. A file in the trash is stored under it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct EffectId {
    /// Drawn at random for each journal; below 2^63, for the databases.
    pub journal: u64,
    /// Counts up from 1 within the journal; below 2^63.
    pub number: u64,
}

/// Sixteen hexadecimal digits, a hyphen and a number.
impl fmt::Display for EffectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{}", self.journal, self.number)
    }
}

/// The text names no effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an effect is named by sixteen hexadecimal digits, a hyphen and a number")]
pub struct NotAnEffectId;

impl std::str::FromStr for EffectId {
    type Err = NotAnEffectId;

    fn from_str(text: &str) -> Result<Self, NotAnEffectId> {
        let (journal, number) = text.split_once('-').filter(|(journal, _)| journal.len() == 16).ok_or(NotAnEffectId)?;
        let journal = u64::from_str_radix(journal, 16).map_err(|_| NotAnEffectId)?;
        let number = number.parse().map_err(|_| NotAnEffectId)?;
        Ok(Self { journal, number })
    }
}

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Operation {
    /// A file or link was removed; into the trash where the job has one.
    Remove,
    /// An empty folder was removed.
    RemoveFolder,
    /// Something was moved; what stood at its new place is an effect of its own.
    Rename,
    /// A file was made.
    Create,
    /// A folder was made.
    CreateFolder,
    /// A file got a second name.
    Link,
    /// The content of a file was changed; all writes of a call to one open file
    /// are one effect.
    Write,
    /// The size of a file was set.
    Truncate,
    /// The times of a file or folder were set.
    SetTimes,
}

impl Operation {
    /// All, in the order of their stored numbers.
    pub const ALL: [Self; 9] = [
        Self::Remove,
        Self::RemoveFolder,
        Self::Rename,
        Self::Create,
        Self::CreateFolder,
        Self::Link,
        Self::Write,
        Self::Truncate,
        Self::SetTimes,
    ];

    /// As it is shown.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Remove => "remove",
            Self::RemoveFolder => "remove-folder",
            Self::Rename => "rename",
            Self::Create => "create",
            Self::CreateFolder => "create-folder",
            Self::Link => "link",
            Self::Write => "write",
            Self::Truncate => "truncate",
            Self::SetTimes => "set-times",
        }
    }
}

/// The text names no operation.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no operation: use remove, remove-folder, rename, create, create-folder, link, write, truncate or set-times"
)]
pub struct NotAnOperation(pub String);

impl std::str::FromStr for Operation {
    type Err = NotAnOperation;

    fn from_str(text: &str) -> Result<Self, NotAnOperation> {
        let known = Self::ALL.into_iter().find(|operation| operation.name() == text);
        known.ok_or_else(|| NotAnOperation(text.to_owned()))
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EffectResult {
    /// It was done.
    Done,
    /// The system refused it, in its words; nothing changed.
    Failed(String),
    /// The host was lost in between, and what is on disk does not tell.
    Unknown,
}

impl EffectResult {
    /// As it is shown.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed(_) => "failed",
            Self::Unknown => "unknown",
        }
    }
}

/// One mutation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Effect {
    /// Its name.
    pub id: EffectId,
    /// The job.
    pub job: JobId,
    /// The task during whose attempt it was made.
    pub task: TaskId,
    /// The attempt, from 1.
    pub attempt: u32,
    /// The component that asked for it.
    pub digest: Digest,
    /// What was done.
    pub operation: Operation,
    /// The mount: its directory on this machine.
    pub mount: Arc<str>,
    /// The path within the mount, without a leading slash.
    pub path: String,
    /// The new path of a rename or link, in `to_mount`.
    pub to: Option<String>,
    /// The mount of `to`, where it is another one.
    pub to_mount: Option<Arc<str>>,
    /// Size before, in bytes; 0 where nothing was there.
    pub size: u64,
    /// What that took of the disk, in bytes: whole blocks, and no holes. It is what
    /// counts where space is meant: against a budget, and when the trash is purged.
    #[serde(skip)]
    pub allocated: u64,
    /// When it was last modified before.
    pub modified: Timestamp,
    /// Its inode before.
    pub inode: u64,
    /// When it was about to be done.
    pub at: Timestamp,
    /// How it ended.
    pub result: EffectResult,
    /// Whether what was removed went into the trash of the mount, under `id`.
    pub trashed: bool,
    /// How often it was done by the same call: more than once where several
    /// effects were folded into one (see [`fold`](super::fold)). The size is
    /// then that of all of them together.
    #[serde(skip, default = "once")]
    pub times: u64,
    /// Bytes that were written, or by which the file was made longer.
    #[serde(skip)]
    pub written: u64,
}

/// A record of an older version tells nothing else.
fn once() -> u64 {
    1
}

/// Longest path that is on record as it is, in bytes, where nothing is to be put
/// back by it.
const LONGEST_PATH: usize = 8 << 10;

/// Longest path by which something can be put back, in bytes: a column takes it.
pub const LONGEST_RESTORABLE: usize = 60_000;

/// Around what stands for the middle of a path that was left out.
const LEFT_OUT: char = '…';

/// A path as it is put on record. One that is very long, of which a deep tree has
/// one in each of its folders, loses the names in its middle: a hash of the whole
/// path stands for them, so that two paths stay two.
#[must_use]
pub fn recorded_path(path: String) -> String {
    use std::hash::{DefaultHasher, Hasher as _};
    if path.len() <= LONGEST_PATH {
        return path;
    }
    let part = LONGEST_PATH / 2;
    let head = &path[..path.floor_char_boundary(part)];
    let tail = &path[path.ceil_char_boundary(path.len() - part)..];
    let head = head.rsplit_once('/').map_or(head, |(names, _)| names);
    let tail = tail.split_once('/').map_or(tail, |(_, names)| names);
    let mut hasher = DefaultHasher::new();
    hasher.write(path.as_bytes());
    format!("{head}/{LEFT_OUT}{:016x}{LEFT_OUT}/{tail}", hasher.finish())
}

/// Whether names in the middle of a path on record were left out: nothing can be
/// looked up by it.
#[must_use]
pub fn is_shortened(path: &str) -> bool {
    let is_left_out = |name: &str| {
        let hash = name.strip_prefix(LEFT_OUT).and_then(|name| name.strip_suffix(LEFT_OUT));
        hash.is_some_and(|hash| hash.len() == 16 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()))
    };
    path.len() > LONGEST_PATH / 2 && path.split('/').any(is_left_out)
}

/// What so many bytes take of the disk, where that is to be told beside them: less
/// than they are, or by a mebibyte more. That the last block is not full is not.
#[must_use]
pub fn differing_allocation(size: u64, allocated: u64) -> Option<u64> {
    (allocated < size || allocated - size >= 1 << 20).then_some(allocated)
}

impl Effect {
    /// The path on this machine.
    #[must_use]
    pub fn full_path(&self) -> PathBuf {
        PathBuf::from(&*self.mount).join(&self.path)
    }

    /// The new path on this machine, of a rename or link.
    #[must_use]
    pub fn full_to(&self) -> Option<PathBuf> {
        let mount = self.to_mount.as_ref().unwrap_or(&self.mount);
        self.to.as_ref().map(|to| PathBuf::from(&**mount).join(to))
    }

    /// What it took of the disk, where that says more than its size: a file with
    /// holes, one that is compressed, or one that was given much more than it has.
    #[must_use]
    pub fn differing_allocation(&self) -> Option<u64> {
        differing_allocation(self.size, self.allocated)
    }

    /// Takes another effect of the same kind into this one.
    pub fn absorb(&mut self, other: &Self) {
        self.allocated = self.allocated.saturating_add(other.allocated);
        self.times = self.times.saturating_add(other.times);
        self.size = self.size.saturating_add(other.size);
        self.written = self.written.saturating_add(other.written);
    }

    /// What it costs of a budget.
    #[must_use]
    pub fn cost(&self) -> super::budget::Spent {
        use super::budget::Spent;
        if matches!(self.result, EffectResult::Failed(_)) {
            return Spent::default();
        }
        let taken = Spent { files: self.times, bytes: self.allocated, ..Spent::default() };
        let cost = match self.operation {
            Operation::Remove | Operation::Rename => taken,
            Operation::Write | Operation::Truncate if self.size > 0 => taken,
            Operation::Create | Operation::CreateFolder | Operation::Link => {
                Spent { made: self.times, ..Spent::default() }
            }
            // An empty folder and an empty file hold nothing.
            Operation::Write | Operation::Truncate | Operation::RemoveFolder | Operation::SetTimes => Spent::default(),
        };
        Spent { written: self.written, ..cost }
    }

    /// Whether it makes something that takes room.
    #[must_use]
    pub fn makes(&self) -> bool {
        matches!(self.operation, Operation::Create | Operation::CreateFolder | Operation::Link | Operation::Write)
            || self.written > 0
    }
}

/// What became of a file in the trash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fate {
    /// It is in the trash.
    Kept,
    /// It is back in its place.
    Restored,
    /// It is gone.
    Purged,
}

/// An effect as people see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EffectView {
    /// The effect.
    pub effect: Effect,
    /// The job's name.
    pub job_name: String,
    /// What became of what it put into the trash; absent where it put nothing
    /// there.
    pub fate: Option<Fate>,
    /// When that came to be.
    pub fate_at: Option<Timestamp>,
}

impl EffectView {
    /// Its place in a listing, from which the next page goes on.
    #[must_use]
    pub fn place(&self) -> EffectPlace {
        EffectPlace(self.effect.at, self.effect.id)
    }
}

/// Flat, with whole paths, and with names as text: a journal's number is more
/// than programs that take all numbers for fractions can hold.
impl Serialize for EffectView {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Flat<'a> {
            id: String,
            job: &'a str,
            task: TaskId,
            attempt: u32,
            digest: Digest,
            operation: Operation,
            path: PathBuf,
            #[serde(skip_serializing_if = "Option::is_none")]
            to: Option<PathBuf>,
            mount: &'a str,
            size: u64,
            /// Absent where it tells nothing that the size does not.
            #[serde(skip_serializing_if = "Option::is_none")]
            allocated: Option<u64>,
            modified: Timestamp,
            inode: u64,
            at: Timestamp,
            /// Absent where it was done once.
            #[serde(skip_serializing_if = "Option::is_none")]
            times: Option<u64>,
            /// Absent where nothing was written.
            #[serde(skip_serializing_if = "Option::is_none")]
            written: Option<u64>,
            result: &'static str,
            #[serde(skip_serializing_if = "Option::is_none")]
            error: Option<&'a str>,
            trashed: bool,
            #[serde(skip_serializing_if = "Option::is_none")]
            fate: Option<Fate>,
            #[serde(skip_serializing_if = "Option::is_none")]
            fate_at: Option<Timestamp>,
        }
        let effect = &self.effect;
        let error = match &effect.result {
            EffectResult::Failed(error) => Some(error.as_str()),
            EffectResult::Done | EffectResult::Unknown => None,
        };
        let flat = Flat {
            id: effect.id.to_string(),
            job: &self.job_name,
            task: effect.task,
            attempt: effect.attempt,
            digest: effect.digest,
            operation: effect.operation,
            path: effect.full_path(),
            to: effect.full_to(),
            mount: &effect.mount,
            size: effect.size,
            allocated: effect.differing_allocation(),
            modified: effect.modified,
            inode: effect.inode,
            at: effect.at,
            times: Some(effect.times).filter(|times| *times > 1),
            written: Some(effect.written).filter(|written| *written > 0),
            result: effect.result.name(),
            error,
            trashed: effect.trashed,
            fate: self.fate,
            fate_at: self.fate_at,
        };
        flat.serialize(serializer)
    }
}

/// The place of an effect in a listing: its time and its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EffectPlace(pub Timestamp, pub EffectId);

/// Milliseconds since 1970, a hyphen and the name.
impl fmt::Display for EffectPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.0.0, self.1)
    }
}

/// The text is no place in a listing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is no place in a listing: take the `next` of the page before")]
pub struct NotAPlace;

impl std::str::FromStr for EffectPlace {
    type Err = NotAPlace;

    fn from_str(text: &str) -> Result<Self, NotAPlace> {
        let (at, id) = text.split_once('-').ok_or(NotAPlace)?;
        Ok(Self(Timestamp(at.parse().map_err(|_| NotAPlace)?), id.parse().map_err(|_| NotAPlace)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_of_a_deep_tree_is_recorded_by_its_ends() {
        let short = "…/".repeat(1000);
        assert_eq!(recorded_path(short.clone()), short);
        assert!(!is_shortened(&short));
        let long = |middle: &str| format!("top/{}{middle}/{}last", "ä/".repeat(5000), "ö/".repeat(5000));
        let [one, other] = ["one", "other"].map(|middle| recorded_path(long(middle)));
        assert!(one.starts_with("top/ä/") && one.ends_with("ö/last"), "{one}");
        assert!(one.len() <= LONGEST_PATH + 64 && one != other);
        assert!(is_shortened(&one) && is_shortened(&other) && !is_shortened(&long("one")));
        assert!(is_shortened(&recorded_path("x".repeat(3 * LONGEST_PATH))), "one name may be as long as a path");
    }

    #[test]
    fn names_and_back() {
        let id = EffectId { journal: 0x0123_4567_89ab_cdef, number: 42 };
        assert_eq!(id.to_string(), "0123456789abcdef-42");
        assert_eq!("0123456789abcdef-42".parse(), Ok(id));
        for bad in ["", "1-1", "0123456789abcdef", "0123456789abcdef-x", "0123456789abcdeg-1"] {
            assert_eq!(bad.parse::<EffectId>(), Err(NotAnEffectId), "{bad}");
        }
        let place = EffectPlace(Timestamp(7), id);
        assert_eq!(place.to_string(), "7-0123456789abcdef-42");
        assert_eq!("7-0123456789abcdef-42".parse(), Ok(place));
        assert_eq!("0123456789abcdef-42".parse::<EffectPlace>(), Err(NotAPlace));
        for (number, operation) in Operation::ALL.into_iter().enumerate() {
            assert_eq!(operation as usize, number, "{operation}");
        }
    }
}
