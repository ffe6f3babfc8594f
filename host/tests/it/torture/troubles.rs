//! What a machine does to a node without ending it: its log is not read or is
//! closed, its disk is full, its clock jumps, it has no descriptor left.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::ChildStderr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread;
use std::time::Duration;

use fastrand::Rng;
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// Nobody reads the log's pipe.
    LogStalls,
    /// Nobody will ever read it again.
    LogCloses,
    /// The disk of the state folder has no room.
    DiskFull,
    /// The machine's clock is set, and set back.
    ClockJumps,
    /// Nothing more can be opened.
    NoDescriptors,
}

impl Trouble {
    /// How long it lasts: what costs attempts, less than a task has.
    pub(super) fn lasts(self, random: &mut Rng) -> Duration {
        Duration::from_millis(match self {
            Self::NoDescriptors => random.u64(50..300),
            _ => random.u64(100..2000),
        })
    }
}

/// Who reads the log of one life of a node.
#[derive(Clone, Default)]
pub(super) struct LogReader(Arc<AtomicU8>);

const READS: u8 = 0;
const STALLS: u8 = 1;
const CLOSED: u8 = 2;

impl LogReader {
    /// Appends what comes to the file at `to`.
    pub(super) fn of(mut log: ChildStderr, to: &Path) -> Self {
        let reader = Self::default();
        let (mode, mut file) =
            (reader.clone(), File::options().create(true).append(true).open(to).expect("the log opens"));
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            loop {
                match mode.0.load(Ordering::SeqCst) {
                    READS => match log.read(&mut bytes) {
                        Ok(0) | Err(_) => return,
                        Ok(read) => file.write_all(&bytes[..read]).expect("the log is written"),
                    },
                    STALLS => thread::sleep(Duration::from_millis(5)),
                    _ => return,
                }
            }
        });
        reader
    }

    pub(super) fn stall(&self) {
        let _ = self.0.compare_exchange(READS, STALLS, Ordering::SeqCst, Ordering::SeqCst);
    }

    pub(super) fn close(&self) {
        self.0.store(CLOSED, Ordering::SeqCst);
    }

    pub(super) fn go_on(&self) {
        let _ = self.0.compare_exchange(STALLS, READS, Ordering::SeqCst, Ordering::SeqCst);
    }
}

const FILL: &str = "fill";

/// Fills the disk of this folder.
pub(super) fn fill(folder: &Path) {
    let Ok(mut file) = File::options().create(true).append(true).open(folder.join(FILL)) else { return };
    for size in [1 << 20, 4096, 1] {
        let bytes = vec![7; size];
        while file.write_all(&bytes).is_ok() {}
    }
}

/// Makes room again.
pub(super) fn empty(folder: &Path) {
    let _ = fs::remove_file(folder.join(FILL));
}

/// Sets the clock of a node that reads it from this file; a full disk keeps it as
/// it is.
pub(super) fn set_clock(file: &Path, ahead: i64) {
    let new = file.with_extension("new");
    if fs::write(&new, ahead.to_string()).is_ok() {
        let _ = fs::rename(new, file);
    }
}

/// How many descriptors a process may have, before it was in trouble.
pub(super) type Before = Rlimit;

/// Lets a process open nothing more; `None` where it is gone.
pub(super) fn take_descriptors(pid: u32) -> Option<Before> {
    let open = fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count() as u64;
    // What the process has inherited from this one.
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    prlimit(Pid::from_raw(pid.cast_signed()), Resource::Nofile, Rlimit { current: Some(open), maximum }).ok()
}

/// Lets it open as many as before; it may be gone.
pub(super) fn give_descriptors(pid: u32, before: Before) {
    if let Some(pid) = Pid::from_raw(pid.cast_signed()) {
        let _ = prlimit(Some(pid), Resource::Nofile, before);
    }
}
