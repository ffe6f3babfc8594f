//! The trash of a mount: a folder that no guest sees, in which each file stands
//! under the name of the effect that removed it. Its original path is in the
//! database.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::domain::effect::{Effect, EffectId};

use super::alter::rename_at;
use super::mounts::TRASH;

/// Large files are cut down by so many bytes at a time: giving back a terabyte
/// in one call can hold up a whole file system.
const STEP: u64 = 64 << 20;

/// Why a file did not leave the trash.
#[derive(Debug, thiserror::Error)]
pub enum TrashError {
    /// It is not in the trash.
    #[error("it is no longer in the trash")]
    Gone,
    /// Something stands in its place.
    #[error("something stands at {0}: it is not overwritten; move that away first")]
    Occupied(String),
    /// The folder in which it stood cannot be used.
    #[error("its folder cannot be made again: {0}")]
    Folder(io::Error),
    /// The mount or its trash cannot be used.
    #[error("{TRASH} cannot be used: {0}")]
    Unusable(io::Error),
    /// The system refused it.
    #[error(transparent)]
    Io(io::Error),
}

/// The trash of one mount, opened.
#[derive(Debug)]
pub struct TrashFolder {
    root: OwnedFd,
    folder: OwnedFd,
}

impl TrashFolder {
    /// Opens it. It is not made where there is none: the disk may not be mounted.
    pub fn open(mount: &Path) -> Result<Self, TrashError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let unusable = |error: Errno| TrashError::Unusable(error.into());
        let root = rustix::fs::open(mount, flags, Mode::empty()).map_err(unusable)?;
        let folder = rustix::fs::openat(&root, TRASH, flags | OFlags::NOFOLLOW, Mode::empty()).map_err(unusable)?;
        Ok(Self { root, folder })
    }

    /// Puts what the effect removed back in its place; folders that are missing
    /// are made. Never overwrites.
    pub fn restore(&self, effect: &Effect) -> Result<(), TrashError> {
        let (parents, name) = effect.path.rsplit_once('/').unwrap_or(("", &effect.path));
        let folder = make_folders(self.root.as_fd(), parents).map_err(|error| TrashError::Folder(error.into()))?;
        match rename_at(self.folder.as_fd(), &effect.id.to_string(), folder.as_fd(), name) {
            Ok(()) => Ok(()),
            Err(Errno::NOENT) => Err(TrashError::Gone),
            Err(Errno::EXIST) => Err(TrashError::Occupied(effect.full_path().display().to_string())),
            Err(error) => Err(TrashError::Io(error.into())),
        }
    }

    /// Removes a file for good, large ones step by step: `pause` is told of each
    /// step how many bytes it gave back, and returns when the next may follow.
    pub fn purge(&self, id: EffectId, mut pause: impl FnMut(u64)) -> Result<(), TrashError> {
        let name = id.to_string();
        let stat = match rustix::fs::statat(&self.folder, name.as_str(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Err(TrashError::Gone),
            Err(error) => return Err(TrashError::Io(error.into())),
        };
        let mut size = u64::try_from(stat.st_size).unwrap_or(0);
        // Cut down, a file that has another name would be lost there as well.
        let alone = stat.st_nlink == 1 && FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        if alone && size > STEP {
            let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            if let Ok(file) = rustix::fs::openat(&self.folder, name.as_str(), flags, Mode::empty()) {
                let file = File::from(file);
                while size > STEP {
                    size -= STEP;
                    file.set_len(size).map_err(TrashError::Io)?;
                    pause(STEP);
                }
            }
        }
        rustix::fs::unlinkat(&self.folder, name.as_str(), AtFlags::empty())
            .map_err(|error| TrashError::Io(error.into()))?;
        pause(if alone { size } else { 0 });
        Ok(())
    }

    /// Whether it is there.
    #[must_use]
    pub fn has(&self, id: EffectId) -> bool {
        rustix::fs::statat(&self.folder, id.to_string().as_str(), AtFlags::SYMLINK_NOFOLLOW).is_ok()
    }
}

/// Opens the folder at `path`, name by name and without following links; what is
/// missing is made.
fn make_folders(root: BorrowedFd<'_>, path: &str) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut at = rustix::io::dup(root)?;
    for name in path.split('/').filter(|name| !name.is_empty()) {
        if name == ".." {
            return Err(Errno::INVAL);
        }
        match rustix::fs::mkdirat(&at, name, Mode::from_raw_mode(0o777)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error),
        }
        at = rustix::fs::openat(&at, name, flags, Mode::empty())?;
    }
    Ok(at)
}
