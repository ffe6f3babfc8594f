//! The directories granted to a job, opened.

use std::fs::File;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags, StatVfsMountFlags};
use rustix::io::Errno;

use crate::domain::job;
use crate::domain::rights::Rights;

use super::beneath::Borders;
use super::guest::Role;
use super::reconcile::tells;
use super::{kept, marker, wall};

/// The folder of a mount in which removed files are kept.
pub const TRASH: &str = ".sweepd-trash";

/// With this every name begins that the host keeps for itself at the top of a
/// mount.
const RESERVED: &str = ".sweepd-";

/// A mount cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("mount {}: {why}", path.display())]
pub struct MountError {
    /// Its directory on this machine.
    pub path: PathBuf,
    /// What is wrong with it.
    pub why: String,
}

/// What stands at a mount's path, by device and inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Identity(pub(super) u64, pub(super) u64);

impl Identity {
    pub(super) fn of(fd: BorrowedFd<'_>) -> Result<Self, Errno> {
        let stat = rustix::fs::fstat(fd)?;
        #[allow(clippy::unnecessary_cast, clippy::cast_sign_loss, reason = "a device's number is signed elsewhere")]
        Ok(Self(stat.st_dev as u64, stat.st_ino as u64))
    }
}

/// One mount, opened for one role.
#[derive(Debug)]
pub(super) struct Mount {
    /// Its directory on this machine.
    pub(super) host: PathBuf,
    /// The same as text, for records.
    pub(super) name: Arc<str>,
    /// Where the guest sees it.
    pub(super) guest: String,
    /// What the guest may do there.
    pub(super) rights: Rights,
    /// Whether what is mounted below it is entered.
    pub(super) borders: Borders,
    pub(super) root: OwnedFd,
    pub(super) identity: Identity,
    /// The folder of removed files, where the job has one.
    pub(super) trash: Option<OwnedFd>,
}

impl Mount {
    fn open(mount: &job::Mount, role: Role, trash: bool) -> Result<Self, MountError> {
        let refused = |why: String| MountError { path: mount.host.clone(), why };
        let rights = match role {
            Role::Dispatcher => mount.rights.and(Rights::RO),
            Role::Executor => mount.rights,
        };
        let root = open_root(mount)?;
        let trash = (trash && !rights.only_look())
            .then(|| open_trash(root.as_fd()).map_err(|error| refused(format!("{TRASH} cannot be used: {error}"))))
            .transpose()?;
        let identity = Identity::of(root.as_fd()).map_err(|error| refused(std::io::Error::from(error).to_string()))?;
        kept::learn(&mount.host, root.as_fd());
        let (host, name) = (mount.host.clone(), mount.host.to_string_lossy().into());
        let borders = if mount.cross_mounts { Borders::Cross } else { Borders::Keep };
        Ok(Self { host, name, guest: mount.guest.clone(), rights, borders, root, identity, trash })
    }
}

/// Opens the directory of a mount.
fn open_root(mount: &job::Mount) -> Result<OwnedFd, MountError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let refused = |why: String| MountError { path: mount.host.clone(), why };
    if !mount.was_there && mount.host.canonicalize().is_ok_and(|real| real != mount.host) {
        let why = "it was not there when the host started, and its path leads through a link: restart the host, which \
                   then looks where that leads";
        return Err(refused(why.to_owned()));
    }
    let root = rustix::fs::open(&mount.host, flags, Mode::empty()).map_err(|error| {
        refused(match error {
            Errno::NOENT => "it does not exist; is its disk mounted?".to_owned(),
            Errno::NOTDIR => "is not a directory".to_owned(),
            error => wall::keeps_out(&mount.host).unwrap_or_else(|| std::io::Error::from(error).to_string()),
        })
    })?;
    if Identity::of(root.as_fd()).is_ok_and(kept::is_kept) {
        return Err(refused("is the trash of another mount: mount a directory of data".to_owned()));
    }
    Ok(root)
}

/// Opens the trash at the top of a mount; it is made where there is none.
pub(super) fn open_trash(root: BorrowedFd<'_>) -> std::io::Result<OwnedFd> {
    match rustix::fs::mkdirat(root, TRASH, Mode::RWXU) {
        Ok(()) | Err(Errno::EXIST) => {}
        // It may have been made all the same.
        Err(error) if !tells(error) => {}
        Err(error) => return Err(error.into()),
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(root, TRASH, flags, Mode::empty())?)
}

/// Whether the host keeps this name at the top of a mount for itself, in any
/// spelling that a file system could take for it.
pub(super) fn is_reserved(name: &str) -> bool {
    spells(name, RESERVED)
}

/// Whether a name begins with this text, which begins with a dot, in any spelling
/// that a file system could take for it.
pub(super) fn spells(name: &str, text: &str) -> bool {
    if !name.starts_with('.') {
        return false;
    }
    // Where upper and lower case are one, so are the long s and the s; some file
    // systems ignore what has no width.
    let mut folded = name.chars().filter(|c| c.is_ascii() || *c == '\u{17f}').map(|c| match c {
        '\u{17f}' => 's',
        c => c.to_ascii_lowercase(),
    });
    text.chars().all(|c| folded.next() == Some(c))
}

/// The mounts of one instance. An instance that was made for other directories
/// than stand there now is thrown away: one that was removed and made anew would
/// otherwise look empty for ever, and every file in it "already gone".
#[derive(Clone, Debug)]
pub(super) struct Mounts(pub(super) Arc<[Arc<Mount>]>);

impl Mounts {
    /// Opens them for a guest of this role.
    pub(super) fn open(mounts: &[job::Mount], role: Role, trash: bool) -> Result<Self, MountError> {
        let open = |mount| Mount::open(mount, role, trash).map(Arc::new);
        Ok(Self(mounts.iter().map(open).collect::<Result<Vec<_>, _>>()?.into()))
    }

    /// Whether the same directories stand there now.
    pub(super) fn still_stand(&self) -> bool {
        self.0.iter().all(|mount| {
            let there = rustix::fs::stat(&mount.host).map(|stat| (stat.st_dev, stat.st_ino));
            let ours = rustix::fs::fstat(&mount.root).map(|stat| (stat.st_dev, stat.st_ino));
            there.is_ok() && there == ours
        })
    }
}

/// What stands at the directory of a mount: all by which it can be known (see
/// `marker`), and whether it can be worked in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The id in its marker, where it has one. It counts whatever the rights are:
    /// they may be others tomorrow.
    pub marker: Option<String>,
    /// The file system and the inode of its root.
    pub root: String,
    /// Whether nothing can be changed there, whatever the rights are.
    pub is_read_only: bool,
}

/// Looks what the directory at a mount is now.
pub fn look(mount: &job::Mount) -> Result<Found, MountError> {
    let root = open_root(mount)?;
    kept::learn(&mount.host, root.as_fd());
    let refused = |error: std::io::Error| MountError { path: mount.host.clone(), why: error.to_string() };
    let marker = match marker::read(root.as_fd()) {
        // Where nothing is to be changed the folder is known without it.
        Err(_) if mount.rights.only_look() => None,
        marker => marker.map_err(refused)?,
    };
    let about = rustix::fs::fstatvfs(&root).map_err(|error| refused(error.into()))?;
    let is_read_only = about.f_flag.contains(StatVfsMountFlags::RDONLY);
    Ok(Found { marker, root: marker::of_root(&root).map_err(refused)?, is_read_only })
}

/// Whether a mount is known by its root, and not by a marker.
#[must_use]
pub fn is_root_id(id: &str) -> bool {
    marker::is_of_root(id)
}

/// A mark for a mount that has none.
#[must_use]
pub fn new_mark() -> String {
    marker::new_id()
}

/// Marks a mount that has no marker, and answers by what it is known then: by
/// another mark where somebody was faster.
pub fn mark(mount: &job::Mount, id: &str) -> Result<String, MountError> {
    let refused = |error: std::io::Error| MountError {
        path: mount.host.clone(),
        why: format!("it cannot be marked with the file {}: {error}", marker::MARKER),
    };
    let root = open_root(mount)?;
    let marked = marker::write(root.as_fd(), id).map_err(refused);
    kept::learn(&mount.host, root.as_fd());
    marked
}

/// Removes what hosts that were lost while they marked the mount left there. Best
/// effort: it is in nobody's way.
pub fn clear_left_over(mount: &job::Mount) {
    let cleared = open_root(mount)
        .map_err(|error| error.to_string())
        .and_then(|root| marker::clear_left_over(root.as_fd()).map_err(|error| error.to_string()));
    if let Err(error) = cleared {
        tracing::debug!(mount = %mount.host.display(), "what a lost host left there could not be cleared: {error}");
    }
}

/// Makes the folder of removed files at a mount where it is missing, while the
/// disk has room for it: a removal on a full disk then needs none.
pub fn prepare_trash(mount: &job::Mount) -> Result<(), MountError> {
    let refused = |error: std::io::Error| MountError { path: mount.host.clone(), why: format!("{TRASH}: {error}") };
    open_trash(open_root(mount)?.as_fd()).map(drop).map_err(refused)
}

/// The same place, with the links resolved in what exists of the way to its last
/// name: as the directories of mounts are named.
#[must_use]
pub fn resolved(path: &Path) -> PathBuf {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return path.to_owned() };
    let parent = parent.canonicalize().unwrap_or_else(|_| resolved(parent));
    parent.join(name)
}

/// How much space a file system has for whoever is no administrator, in bytes.
pub fn free_space(mount: &Path) -> std::io::Result<u64> {
    let stat = rustix::fs::fstatvfs(File::open(mount)?)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_reserved() {
        for name in
            [".sweepd-trash", ".sweepd-mount", ".sweepd-", ".SweepD-Trash", ".\u{17f}weepd-trash", ".sw\u{200b}eepd-x"]
        {
            assert!(is_reserved(name), "{name}");
        }
        for name in ["sweepd-trash", ".sweep", ".sweepdtrash", "a.sweepd-", "..sweepd-x", "."] {
            assert!(!is_reserved(name), "{name}");
        }
    }
}
