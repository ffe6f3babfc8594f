//! Telling the trouble of a mount from that of a file in it: what is wrong with the
//! whole file system is no task's fault, and costs none an attempt.
//!
//! ```text
//!  a change ──refused──▶ read-only, full, or broken? ──▶ the call ends, its task goes back
//!  a look ───failed────▶ noted ──the call fails──▶ broken? ──▶ the same
//! ```
//! An error of one file, such as a bad sector, is that file's: whether a mount is
//! broken is asked of its root.

use std::os::fd::AsFd as _;
use std::sync::{Arc, MutexGuard, PoisonError};

use rustix::fs::{Dir, Mode, OFlags, StatVfsMountFlags};
use rustix::io::Errno;

use super::beneath::Borders;
use super::call::{Call, Hindrance, Interrupt};
use super::deeds::NotDone;
use super::mounts::Mount;
use super::reconcile::tells;

/// A mount, and what it answered.
pub(super) type Trouble = Option<(Arc<Mount>, Errno)>;

impl Call {
    /// What a change of the mount is answered with: an error that is the mount's
    /// own ends the call.
    pub(super) fn refused_by(&self, mount: &Mount, error: Errno) -> NotDone {
        match self.hindrance_of(mount, error) {
            Some(hindrance) => {
                NotDone::Interrupted(Interrupt::Hindered(self.custody.hinder(hindrance, Some(mount), &error)))
            }
            None => NotDone::Refused(error),
        }
    }

    fn hindrance_of(&self, mount: &Mount, error: Errno) -> Option<Hindrance> {
        if self.custody.is_simulated() {
            return None;
        }
        match error {
            Errno::ROFS if is_read_only(mount) => Some(Hindrance::MountReadOnly),
            // A quota is in no answer of the file system.
            Errno::DQUOT => Some(Hindrance::MountFull),
            Errno::NOSPC if is_full(mount) => Some(Hindrance::MountFull),
            error if !tells(error) && is_broken(mount) => Some(Hindrance::MountBroken),
            _ => None,
        }
    }

    /// Notes what a look at something in the mount was answered with, where that
    /// may be the mount's own trouble. The guest is told of it, and may go on.
    pub(super) fn told<T>(&self, mount: &Arc<Mount>, answer: Result<T, Errno>) -> Result<T, Errno> {
        if let Err(error) = answer
            && !tells(error)
        {
            self.trouble().get_or_insert_with(|| (Arc::clone(mount), error));
        }
        answer
    }

    /// Whether a look met the trouble of a mount since this was last asked, which
    /// it still has.
    pub(super) fn take_trouble(&self) -> Option<Hindrance> {
        let (mount, error) = self.trouble().take()?;
        let hindrance = self.hindrance_of(&mount, error)?;
        Some(self.custody.hinder(hindrance, Some(&mount), &error))
    }

    fn trouble(&self) -> MutexGuard<'_, Trouble> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the file system of a mount's root takes no changes. What is mounted below
/// it, where plugins may go there, may be another one: that is the task's trouble.
fn is_read_only(mount: &Mount) -> bool {
    // Where nobody can tell, the error is believed.
    rustix::fs::fstatvfs(&mount.root).map_or(true, |system| system.f_flag.contains(StatVfsMountFlags::RDONLY))
}

/// Whether the file system of a mount's root has no room, as an error says. Only
/// where plugins may go into others below it can that be untrue.
fn is_full(mount: &Mount) -> bool {
    mount.borders == Borders::Keep
        || rustix::fs::fstatvfs(&mount.root).map_or(true, |system| system.f_bavail == 0 || system.f_favail == 0)
}

/// Whether the root of a mount cannot be listed, or does not keep what is done in
/// it: then nothing that is done there can succeed.
fn is_broken(mount: &Mount) -> bool {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let asked = rustix::fs::openat(mount.root.as_fd(), ".", flags, Mode::empty()).and_then(|root| {
        if let Some(entry) = Dir::read_from(&root)?.read() {
            entry?;
        }
        rustix::fs::fsync(&root)
    });
    asked.is_err_and(|error| !tells(error) || error == Errno::ROFS)
}
