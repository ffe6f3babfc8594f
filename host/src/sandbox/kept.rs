//! What the host keeps for itself in the mounts of all its jobs, the markers and
//! the trashes, by what they are: device and inode.
//!
//! In its own mount a guest never gets at them by their names
//! (`mounts::is_reserved`). A bind mount, or a mount of another job further down in
//! the same tree, gives them other paths, so that paths tell nothing. The
//! invariant: nothing that is known here is opened or changed for a guest, and
//! nothing in it is.
//!
//! A mount is looked at when it is opened and before every sweep
//! ([`learn`]), and those of all jobs before the first one ([`learn_all`]).

use std::collections::{HashMap, HashSet};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::domain::job;
use crate::supervise;

use super::beneath::{self, Borders};
use super::marker::MARKER;
use super::mounts::{Identity, Mount, TRASH, spells};
use super::view::identity;

/// Longest time that a start waits for mounts that do not answer.
const PATIENCE: Duration = Duration::from_secs(2);

static KEPT: LazyLock<Kept> = LazyLock::new(Kept::default);

/// What is kept in each mount, by its directory: what it is, and its name there.
type Mounts = HashMap<PathBuf, Vec<(Identity, &'static str)>>;

/// What is kept, by mount and all together.
#[derive(Debug, Default)]
struct Kept {
    mounts: Mutex<Mounts>,
    /// Where each stands, in order: they are few, and looked through at every
    /// mutation.
    all: ArcSwap<Vec<(Identity, PathBuf)>>,
}

impl Kept {
    fn publish(&self, mounts: &Mounts) {
        let of = |(host, kept): (&PathBuf, &Vec<(Identity, &'static str)>)| {
            kept.iter().map(|(identity, name)| (*identity, host.join(name))).collect::<Vec<_>>()
        };
        let mut all: Vec<_> = mounts.iter().flat_map(of).collect();
        all.sort_unstable();
        self.all.store(all.into());
    }
}

/// Looks what is kept in a mount now.
pub(super) fn learn(host: &Path, root: BorrowedFd<'_>) {
    let of = |name: &'static str, kind: FileType| {
        let stat = rustix::fs::statat(root, name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
        (FileType::from_raw_mode(stat.st_mode) == kind).then(|| (identity(&stat), name))
    };
    let found: Vec<_> =
        [of(TRASH, FileType::Directory), of(MARKER, FileType::RegularFile)].into_iter().flatten().collect();
    let mut mounts = KEPT.mounts.lock().unwrap_or_else(PoisonError::into_inner);
    if mounts.get(host) != Some(&found) {
        mounts.insert(host.to_owned(), found);
        KEPT.publish(&mounts);
    }
}

/// Somebody removed the directory: its numbers may be given out again.
#[cfg(test)]
pub(super) fn forget(host: &Path) {
    let mut mounts = KEPT.mounts.lock().unwrap_or_else(PoisonError::into_inner);
    mounts.remove(host);
    KEPT.publish(&mounts);
}

/// Looks what is kept in the mounts of all jobs, before any guest runs. One that
/// does not answer is not waited for longer than 2 s: its job looks again before
/// it works there.
pub fn learn_all<'a>(mounts: impl IntoIterator<Item = &'a job::Mount>) {
    let (sender, done) = channel();
    let mut waiting = 0;
    for host in mounts.into_iter().map(|mount| mount.host.clone()).collect::<HashSet<_>>() {
        let sender = sender.clone();
        let look = move || {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            if let Ok(root) = rustix::fs::open(&host, flags, Mode::empty()) {
                learn(&host, root.as_fd());
            }
            // Nobody waits any more: then it is known late.
            let _ = sender.send(());
        };
        waiting += usize::from(supervise::attended_thread("sweepd-look", look).is_ok());
    }
    let until = Instant::now() + PATIENCE;
    while waiting > 0 && done.recv_timeout(until.saturating_duration_since(Instant::now())).is_ok() {
        waiting -= 1;
    }
}

/// Whether it is the marker or the trash of a mount. Where it seems to be, it is
/// looked at: what was removed gave its number back, and another may have it.
pub(super) fn is_kept(of: Identity) -> bool {
    let all = KEPT.all.load();
    let from = all.partition_point(|(identity, _)| *identity < of);
    // Bound to several places, it is kept where it stands in one of them.
    all[from..].iter().take_while(|(identity, _)| *identity == of).any(|(_, path)| match rustix::fs::lstat(path) {
        Ok(stat) => identity(&stat) == of,
        Err(Errno::NOENT | Errno::NOTDIR) => false,
        Err(_) => true,
    })
}

/// The same of what was looked at.
pub(super) fn is_kept_stat(stat: &Stat) -> bool {
    is_kept(identity(stat))
}

/// Whether it could be one by its name.
pub(super) fn may_be_kept(name: &str) -> bool {
    spells(name, TRASH) || spells(name, MARKER)
}

/// Refuses a folder that is a trash or lies in one. `path` is its path within the
/// mount. Only by its name or through another mount is there a way into one, so
/// that any other folder costs no system call.
pub(super) fn must_be_outside(mount: &Mount, folder: BorrowedFd<'_>, path: &str) -> Result<(), Errno> {
    if path.is_empty() || (mount.borders == Borders::Keep && !path.split('/').any(may_be_kept)) {
        return Ok(());
    }
    let mut at = rustix::io::dup(folder)?;
    for _ in path.split('/') {
        if is_kept(Identity::of(at.as_fd())?) {
            return Err(Errno::NOENT);
        }
        at = rustix::fs::openat(&at, "..", OFlags::DIRECTORY | OFlags::CLOEXEC | beneath::only_place(), Mode::empty())?;
    }
    Ok(())
}
