//! The lines of a trace: the nodes' own (see `host/src/faults.rs`), and those
//! of the writers and of whoever breaks things, in the same file.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

/// When and by whom something was allowed to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Allowed {
    pub(super) fence: u64,
    pub(super) pid: u32,
    /// Nanoseconds of boot time.
    pub(super) at: u64,
}

/// One line, its key apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Said<'l> {
    /// The writer is about to queue the key for the time of this number.
    Sent(&'l str, u64),
    /// It was told that this is durable; and whether the task is a new one, so
    /// that none was live when it was committed.
    Acked { key: &'l str, number: u64, new: bool },
    /// It was told that nothing was stored.
    Refused(&'l str, u64),
    /// A guest is called.
    Start { key: &'l str, allowed: Allowed, task: u64, attempt: u32, payload: Option<u64> },
    /// A mutation is made.
    Work(&'l str, Allowed),
    /// A mutation is made although this other one has the key's lock.
    Held(&'l str, Allowed, Allowed),
    /// A guest's call has ended.
    End { key: &'l str, fence: u64, task: u64, outcome: &'l str },
    /// A node was told that its lease was lost.
    Lost(u32),
    /// A node is killed.
    Kill(u32),
    /// A node is stopped past its lease.
    Stop,
    /// The database server is stopped.
    Server,
    /// Something else that was done to them, for whoever reads the trace.
    Other,
}

impl<'l> Said<'l> {
    /// `None` where it is no line of a trace.
    pub(super) fn read(line: &'l str) -> Option<Self> {
        let mut words = line.split(' ');
        let mut word = move || words.next();
        let said = match word()? {
            "sent" => Self::Sent(word()?, word()?.parse().ok()?),
            "acked" => Self::Acked { key: word()?, number: word()?.parse().ok()?, new: new(word()?)? },
            "refused" => Self::Refused(word()?, word()?.parse().ok()?),
            "start" => Self::Start {
                key: word()?,
                allowed: allowed(&mut word)?,
                task: word()?.parse().ok()?,
                attempt: word()?.parse().ok()?,
                payload: word().map(|payload| payload.parse().ok())?,
            },
            "work" => Self::Work(word()?, allowed(&mut word)?),
            "held" => Self::Held(word()?, allowed(&mut word)?, allowed(&mut word)?),
            "end" => {
                let (key, Allowed { fence, .. }) = (word()?, allowed(&mut word)?);
                Self::End { key, fence, task: word()?.parse().ok()?, outcome: word()? }
            }
            "lost" => Self::Lost(word()?.parse().ok()?),
            "kill" => Self::Kill(word()?.parse().ok()?),
            "stop" => Self::Stop,
            "server" => Self::Server,
            "continue" | "cut" | "calm" | "trouble" | "over" => Self::Other,
            _ => return None,
        };
        Some(said)
    }
}

fn new(word: &str) -> Option<bool> {
    match word {
        "new" => Some(true),
        "live" => Some(false),
        _ => None,
    }
}

fn allowed<'l>(word: &mut impl FnMut() -> Option<&'l str>) -> Option<Allowed> {
    Some(Allowed { fence: word()?.parse().ok()?, pid: word()?.parse().ok()?, at: word()?.parse().ok()? })
}

/// The file, as those outside of the nodes write it.
pub(super) struct Trace {
    path: PathBuf,
    file: File,
}

impl Trace {
    pub(super) fn at(path: PathBuf) -> Self {
        let file = OpenOptions::new().create(true).append(true).open(&path).expect("the trace opens");
        Self { path, file }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Appends whole lines at once.
    pub(super) fn say(&self, lines: &str) {
        (&self.file).write_all(lines.as_bytes()).expect("the trace is written");
    }
}

/// The file, as it is read while it grows.
pub(super) struct Tail {
    file: File,
    /// Up to here whole lines were read.
    read: u64,
}

impl Tail {
    pub(super) fn of(path: &Path) -> Self {
        Self { file: File::open(path).expect("the trace opens"), read: 0 }
    }

    /// The whole lines that were appended since.
    pub(super) fn more(&mut self) -> String {
        let mut text = String::new();
        self.file.seek(SeekFrom::Start(self.read)).expect("the trace is read");
        self.file.read_to_string(&mut text).expect("the trace is read");
        text.truncate(text.rfind('\n').map_or(0, |end| end + 1));
        self.read += text.len() as u64;
        text
    }
}
