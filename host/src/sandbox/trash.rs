//! The trash of a mount: a folder that no guest sees, in which each file stands
//! under the name of the effect that removed it. Its original path is in the
//! database.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::domain::effect::{Effect, EffectId};

use super::alter::rename_at;
use super::beneath::{self, Borders};
use super::mounts::TRASH;
use super::reconcile::{look_beneath, tells};
use super::view::allocated;

mod cutting;

/// Large files are cut down by so many bytes at a time: giving back a terabyte
/// in one call can hold up a whole file system.
const STEP: u64 = 64 << 20;

/// Why a file did not leave the trash.
#[derive(Debug, thiserror::Error)]
pub enum TrashError {
    /// It is not in the trash.
    #[error("it is no longer in the trash")]
    Gone,
    /// It is being purged.
    #[error("it is being purged, and no longer whole")]
    Going,
    /// Something stands in its place.
    #[error("something stands at {0}: it is not overwritten; move that away first")]
    Occupied(String),
    /// Its old folder is not on the mount any more.
    #[error("something else is mounted at {0}: it is not put back into that; unmount it first")]
    Mounted(String),
    /// The folder in which it stood cannot be used.
    #[error("its folder cannot be made again: {0}")]
    Folder(io::Error),
    /// The mount or its trash cannot be used.
    #[error("its folder {TRASH} cannot be used: {0}")]
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
    /// The largest step in which a file is cut down, in bytes.
    pub const STEP: u64 = STEP;

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
        let folder = make_folders(self.root.as_fd(), parents).map_err(|error| match error {
            Errno::XDEV => TrashError::Mounted(effect.full_path().display().to_string()),
            error => TrashError::Folder(error.into()),
        })?;
        match rename_at(self.folder.as_fd(), &effect.id.to_string(), folder.as_fd(), name) {
            Ok(()) => Ok(()),
            // It may have been answered after it was done.
            Err(error) if !tells(error) && self.has_left(&effect.id.to_string()) && self.is_back(effect) => Ok(()),
            Err(Errno::NOENT) if self.stat(&going(effect.id)).is_ok() => Err(TrashError::Going),
            Err(Errno::NOENT) => Err(TrashError::Gone),
            Err(Errno::EXIST) => Err(TrashError::Occupied(effect.full_path().display().to_string())),
            Err(error) => Err(TrashError::Io(error.into())),
        }
    }

    /// Removes a file for good, one that takes more than `step` of the disk in steps where
    /// nobody else has it open: `go_on` is told of each step how many bytes it gave
    /// back, and answers, when the next may follow, whether it is to. Answers
    /// whether the file is gone.
    pub fn purge(&self, id: EffectId, step: u64, mut go_on: impl FnMut(u64) -> bool) -> Result<bool, TrashError> {
        let mut name = id.to_string();
        let stat = match self.stat(&name) {
            Err(TrashError::Gone) => {
                name = going(id);
                self.stat(&name)?
            }
            found => found?,
        };
        let mut space = allocated(&stat);
        // Cut down, a file that has another name would be lost there as well, and so
        // would one under whoever reads it.
        let alone = stat.st_nlink == 1 && FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        if alone && space > step {
            let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let file = rustix::fs::openat(&self.folder, name.as_str(), flags, Mode::empty()).map(File::from);
            if let Ok(file) = file
                && cutting::is_ours_alone(&file)
            {
                // Nobody may put back what is cut down already.
                match rustix::fs::renameat(&self.folder, name.as_str(), &self.folder, going(id).as_str()) {
                    Ok(()) => {}
                    Err(Errno::NOENT) => return Err(TrashError::Gone),
                    Err(error) if !tells(error) && self.has_left(&name) && self.stat(&going(id)).is_ok() => {}
                    Err(error) => return Err(io_error(error)),
                }
                name = going(id);
                match cutting::cut_down(&file, step, &mut go_on).map_err(TrashError::Io)? {
                    Some(left) => space = left,
                    None => return Ok(false),
                }
            }
        }
        match rustix::fs::unlinkat(&self.folder, name.as_str(), AtFlags::empty()) {
            Ok(()) => {}
            // Put back meanwhile, or another was faster.
            Err(Errno::NOENT) => return Err(TrashError::Gone),
            Err(error) if !tells(error) && self.has_left(&name) => {}
            Err(error) => return Err(io_error(error)),
        }
        go_on(if alone { space } else { 0 });
        Ok(true)
    }

    fn stat(&self, name: &str) -> Result<Stat, TrashError> {
        rustix::fs::statat(&self.folder, name, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|error| if error == Errno::NOENT { TrashError::Gone } else { io_error(error) })
    }

    /// Whether what the effect removed stands in its old place.
    #[must_use]
    pub fn is_back(&self, effect: &Effect) -> bool {
        let there = look_beneath(&self.root, &effect.path);
        #[allow(clippy::unnecessary_cast, reason = "an inode has another width elsewhere")]
        there.is_ok_and(|found| found.is_some_and(|stat| stat.st_ino as u64 == effect.inode))
    }

    /// Whether it is for sure not there under this name.
    fn has_left(&self, name: &str) -> bool {
        matches!(self.stat(name), Err(TrashError::Gone))
    }

    /// Whether it is there.
    #[cfg(test)]
    fn has(&self, id: EffectId) -> bool {
        self.stat(&id.to_string()).is_ok()
    }
}

/// The name of a large file in the trash while it is cut down.
fn going(id: EffectId) -> String {
    format!("{id}.going")
}

fn io_error(error: Errno) -> TrashError {
    TrashError::Io(error.into())
}

/// Opens the folder at `path`, name by name and without following links; what is
/// missing is made. What is mounted on the way is [`Errno::XDEV`].
fn make_folders(root: BorrowedFd<'_>, path: &str) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    let mut at = rustix::io::dup(root)?;
    for name in path.split('/').filter(|name| !name.is_empty()) {
        if name == ".." {
            return Err(Errno::INVAL);
        }
        match rustix::fs::mkdirat(&at, name, Mode::from_raw_mode(0o777)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) if !tells(error) => {}
            Err(error) => return Err(error),
        }
        at = beneath::open_name(at.as_fd(), name, flags, Borders::Keep)?;
    }
    Ok(at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::digest::Digest;
    use crate::domain::effect::{EffectResult, Operation};
    use crate::domain::job::JobId;
    use crate::domain::task::TaskId;
    use crate::domain::time::Timestamp;
    use std::fs;
    use std::os::unix::fs::MetadataExt as _;

    /// A file of this size in the trash of a new mount, as if it had been
    /// removed from `a/b/x`.
    /// Its blocks are on disk.
    fn removed(size: u64) -> (tempfile::TempDir, TrashFolder, Effect) {
        let (mount, trash, effect) = removed_with_holes(size);
        let file = File::options().write(true).open(mount.path().join(TRASH).join(effect.id.to_string())).unwrap();
        if size > 0 {
            rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, size).unwrap();
        }
        (mount, trash, effect)
    }

    /// The same without any.
    fn removed_with_holes(size: u64) -> (tempfile::TempDir, TrashFolder, Effect) {
        let mount = tempfile::tempdir().unwrap();
        let id = EffectId { journal: 7, number: 1 };
        fs::create_dir(mount.path().join(TRASH)).unwrap();
        let file = File::create(mount.path().join(TRASH).join(id.to_string())).unwrap();
        file.set_len(size).unwrap();
        let effect = Effect {
            id,
            job: JobId(1),
            task: TaskId(1),
            attempt: 1,
            digest: Digest::of(b""),
            operation: Operation::Remove,
            mount: mount.path().to_str().unwrap().into(),
            path: "a/b/x".to_owned(),
            to: None,
            to_mount: None,
            size,
            allocated: size,
            modified: Timestamp(0),
            inode: file.metadata().unwrap().ino(),
            at: Timestamp(0),
            result: EffectResult::Done,
            trashed: true,
            times: 1,
            written: 0,
        };
        let trash = TrashFolder::open(mount.path()).unwrap();
        (mount, trash, effect)
    }

    #[test]
    fn what_is_put_back_makes_its_folders_and_overwrites_nothing() {
        let (mount, trash, effect) = removed(3);
        fs::create_dir_all(mount.path().join("a/b")).unwrap();
        fs::write(mount.path().join("a/b/x"), "other").unwrap();
        assert!(matches!(trash.restore(&effect), Err(TrashError::Occupied(path)) if path.ends_with("a/b/x")));
        assert_eq!(fs::read(mount.path().join("a/b/x")).unwrap(), b"other");
        fs::remove_dir_all(mount.path().join("a")).unwrap();
        assert!(!trash.is_back(&effect));
        trash.restore(&effect).unwrap();
        assert!(trash.is_back(&effect) && !trash.has(effect.id));
        assert!(matches!(trash.restore(&effect), Err(TrashError::Gone)));
        assert!(matches!(trash.purge(effect.id, STEP, |_| true), Err(TrashError::Gone)));
    }

    #[test]
    fn no_folder_is_made_through_a_link() {
        let (mount, trash, effect) = removed(3);
        let outside = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(outside.path(), mount.path().join("a")).unwrap();
        assert!(matches!(trash.restore(&effect), Err(TrashError::Folder(_))));
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
        assert!(trash.has(effect.id));
    }

    #[test]
    fn a_large_file_goes_in_steps_and_is_not_put_back_half() {
        let (_mount, trash, effect) = removed(2 * STEP + 5);
        let mut steps = Vec::new();
        let gone = trash.purge(effect.id, STEP, |bytes| {
            steps.push(bytes);
            false
        });
        assert!(matches!(gone, Ok(false)));
        assert!(matches!(trash.restore(&effect), Err(TrashError::Going)));
        let gone = trash.purge(effect.id, STEP, |bytes| {
            steps.push(bytes);
            true
        });
        assert!(matches!(gone, Ok(true)));
        assert!(steps[..2] == [STEP, STEP] && steps[2..].iter().sum::<u64>() < 1 << 20, "{steps:?}");
        assert!(matches!(trash.restore(&effect), Err(TrashError::Gone)));
    }

    #[test]
    fn what_takes_nothing_of_the_disk_goes_at_once() {
        let (_mount, trash, effect) = removed_with_holes(8 << 40);
        let mut steps = Vec::new();
        let gone = trash.purge(effect.id, STEP, |bytes| {
            steps.push(bytes);
            true
        });
        assert!(matches!(gone, Ok(true)));
        assert_eq!(steps, [0]);
    }

    /// Where the data of a file with holes is, and not where the holes are, it is
    /// cut.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_file_with_holes_goes_by_what_it_takes() {
        let (mount, trash, effect) = removed_with_holes(4 << 40);
        let file = File::options().write(true).open(mount.path().join(TRASH).join(effect.id.to_string())).unwrap();
        let data = vec![7; usize::try_from(STEP).unwrap()];
        for part in 0..3 {
            std::os::unix::fs::FileExt::write_all_at(&file, &data, (1 << 40) + part * STEP).unwrap();
        }
        drop(file);
        let mut steps = Vec::new();
        let gone = trash.purge(effect.id, STEP, |bytes| {
            steps.push(bytes);
            true
        });
        assert!(matches!(gone, Ok(true)));
        let all: u64 = steps.iter().sum();
        assert!(steps.len() <= 5 && steps.iter().all(|step| *step <= STEP + (1 << 20)), "{steps:?}");
        assert!((3 * STEP..3 * STEP + (8 << 20)).contains(&all), "{steps:?}");
    }

    /// Whoever reads it, perhaps through a mapping, reads it to its end.
    #[cfg(target_os = "linux")]
    #[test]
    fn what_somebody_else_has_open_goes_whole() {
        let (mount, trash, effect) = removed(3 * STEP);
        let reader = File::open(mount.path().join(TRASH).join(effect.id.to_string())).unwrap();
        let mut steps = Vec::new();
        let gone = trash.purge(effect.id, STEP, |bytes| {
            steps.push(bytes);
            true
        });
        assert!(matches!(gone, Ok(true)) && steps.len() == 1, "{steps:?}");
        assert_eq!(reader.metadata().unwrap().len(), 3 * STEP);
    }

    #[test]
    fn a_file_with_another_name_is_not_cut_down() {
        let (mount, trash, effect) = removed(2 * STEP + 1);
        let other = mount.path().join("other");
        fs::hard_link(mount.path().join(TRASH).join(effect.id.to_string()), &other).unwrap();
        assert!(trash.purge(effect.id, STEP, |_| true).unwrap());
        assert_eq!(fs::metadata(other).unwrap().len(), 2 * STEP + 1);
    }
}
