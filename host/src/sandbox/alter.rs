//! Every change of the tree that a guest may ask for: looked at, allowed, and
//! made through [`Call::perform`]. In a simulation the overlay takes it instead
//! of the disk.
// length: it is one list of operations, in the order of the interface.

use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::{Arc, MutexGuard};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RenameFlags, Stat, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT};
use rustix::io::Errno;

use crate::domain::effect::{EffectId, LONGEST_RESTORABLE, Operation};
use crate::domain::rights::Right;
use crate::domain::time::Timestamp;

use super::beneath::{self, Borders};
use super::call::Call;
use super::deeds::{Deed, NotDone};
use super::entries::Entries;
use super::mounts::Mount;
use super::overlay::{Entry, Full, Overlay, RealPlace, Times};
use super::place::{At, Folder, Place, Spot};
use super::view::{Stands, identity};

/// A time to set.
#[derive(Clone, Copy, Debug)]
pub(super) enum NewTime {
    Keep,
    Now,
    At(Timespec),
}

impl From<Full> for Errno {
    fn from(_: Full) -> Self {
        Self::NOMEM
    }
}

impl Call {
    /// Removes a file or link.
    pub(super) fn remove_file(&self, from: &Folder, path: &str) -> Result<(), NotDone> {
        self.must_have(&from.mount, Right::Delete, "unlink")?;
        let Spot::Name(place) = self.locate(from, path, false)? else { return Err(Errno::ISDIR.into()) };
        let stands = self.stands(&place)?;
        if stands.is_folder() {
            return Err(Errno::ISDIR.into());
        }
        if place.must_be_folder {
            return Err(Errno::NOTDIR.into());
        }
        self.must_be_free(&place, false)?;
        self.take_away(&place, &stands).map_err(|error| self.told_if_mounted(error, &place))
    }

    /// Removes what stands there, into the trash where there is one.
    fn take_away(&self, place: &Place, stands: &Stands) -> Result<(), NotDone> {
        let trash = place.mount().trash.as_ref();
        if trash.is_some() {
            self.must_be_restorable(place)?;
        }
        let before = stands.stat().copied();
        let deed = Deed { before, trashed: trash.is_some(), ..Deed::new(Operation::Remove, place) };
        self.perform(&deed, |id| match self.custody.overlay() {
            Some(mut overlay) => {
                self.would_go(place, stands, self.custody.job.trash.is_some())?;
                Ok(overlay.set(place.folder.key()?, &place.name, Entry::Gone)?)
            }
            None => match trash {
                Some(trash) => into_trash(place, trash, id),
                None => rustix::fs::unlinkat(place.folder.disk()?, place.name.as_str(), AtFlags::empty()),
            },
        })
    }

    /// Refuses what could not be put back: its path is too long to be kept whole.
    fn must_be_restorable(&self, place: &Place) -> Result<(), NotDone> {
        if place.folder.path.len() + 1 + place.name.len() <= LONGEST_RESTORABLE {
            return Ok(());
        }
        let why = format!(
            "its path is longer than {LONGEST_RESTORABLE} bytes, by which nothing could be put back from the trash: \
             remove it by hand, or take out the trash of the job"
        );
        self.say_refused("unlink", &why);
        Err(Errno::NAMETOOLONG.into())
    }

    /// Makes a folder.
    pub(super) fn create_folder(&self, from: &Folder, path: &str) -> Result<(), NotDone> {
        self.must_have(&from.mount, Right::Create, "create-directory")?;
        let Spot::Name(place) = self.locate(from, path, false)? else { return Err(Errno::EXIST.into()) };
        self.must_be_free(&place, false)?;
        let fresh = self.stands_if_any(&place)?.is_none();
        if self.custody.is_simulated() && !fresh {
            return Err(Errno::EXIST.into());
        }
        self.perform(&Deed { fresh, ..Deed::new(Operation::CreateFolder, &place) }, |_| match self.custody.overlay() {
            Some(mut overlay) => {
                self.would_come(&place)?;
                let made = overlay.make();
                Ok(overlay.set(place.folder.key()?, &place.name, made)?)
            }
            None => rustix::fs::mkdirat(place.folder.disk()?, place.name.as_str(), Mode::from_raw_mode(0o777)),
        })
    }

    /// Removes an empty folder.
    pub(super) fn remove_folder(&self, from: &Folder, path: &str) -> Result<(), NotDone> {
        self.must_have(&from.mount, Right::Delete, "remove-directory")?;
        let Spot::Name(place) = self.locate(from, path, false)? else { return Err(Errno::INVAL.into()) };
        let stands = self.stands(&place)?;
        if !stands.is_folder() {
            return Err(Errno::NOTDIR.into());
        }
        self.must_be_free(&place, false)?;
        let deed = Deed { before: stands.stat().copied(), ..Deed::new(Operation::RemoveFolder, &place) };
        let removed = self.perform(&deed, |_| match self.custody.overlay() {
            Some(mut overlay) => {
                self.would_go(&place, &stands, false)?;
                if !is_empty(&open_folder(&place, &stands)?, &overlay)? {
                    return Err(Errno::NOTEMPTY);
                }
                Ok(overlay.set(place.folder.key()?, &place.name, Entry::Gone)?)
            }
            None => rustix::fs::unlinkat(place.folder.disk()?, place.name.as_str(), AtFlags::REMOVEDIR),
        });
        removed.map_err(|error| self.told_if_unnamable(self.told_if_mounted(error, &place), &place, &stands))
    }

    /// Moves something. What it replaces goes as if it were removed.
    pub(super) fn rename(&self, from: &Folder, path: &str, to: &Folder, to_path: &str) -> Result<(), NotDone> {
        self.must_have(&from.mount, Right::Rename, "rename")?;
        self.must_have(&to.mount, Right::Rename, "rename")?;
        if !Arc::ptr_eq(&from.mount, &to.mount) {
            // Gone from the one, and new in the other, where other rights are.
            self.must_have(&from.mount, Right::Delete, "rename into another mount")?;
            self.must_have(&to.mount, Right::Create, "rename from another mount")?;
        }
        let spots = (self.locate(from, path, false)?, self.locate(to, to_path, false)?);
        let (Spot::Name(old), Spot::Name(new)) = spots else { return Err(Errno::BUSY.into()) };
        let stands = self.stands(&old)?;
        if new.must_be_folder && !stands.is_folder() {
            return Err(Errno::NOTDIR.into());
        }
        let place = Place { must_be_folder: false, ..new.clone() };
        let replaced = self.stands_if_any(&place)?;
        self.must_be_free(&old, stands.is_folder())?;
        self.must_be_free(&new, stands.is_folder())?;
        if let Some(replaced) = &replaced {
            if same(&stands, replaced) {
                return Ok(());
            }
            self.must_have(&new.folder.mount, Right::Delete, "rename over what is there")?;
            match (stands.is_folder(), replaced.is_folder()) {
                (true, false) => return Err(Errno::NOTDIR.into()),
                (false, true) => return Err(Errno::ISDIR.into()),
                (true, true) => self.remove_folder(to, to_path)?,
                (false, false) if self.custody.is_simulated() || new.folder.mount.trash.is_some() => {
                    must_reach(&old, &new)?;
                    self.take_away(&place, replaced)?;
                }
                (false, false) => return self.replace(&old, &stands, &place, replaced),
            }
        }
        let deed = Deed { to: Some(&new), before: stands.stat().copied(), ..Deed::new(Operation::Rename, &old) };
        let moved = self.perform(&deed, |_| match self.custody.overlay() {
            Some(mut overlay) => {
                self.would_go(&old, &stands, false)?;
                self.would_come(&new)?;
                move_in(&mut overlay, &old, &new, &stands)
            }
            None => rename_onto_nothing(&old, &new),
        });
        moved.map_err(|error| self.told_if_mounted(error, &old))
    }

    /// A mount cannot be removed or moved: the log says that it is one.
    fn told_if_mounted(&self, not_done: NotDone, place: &Place) -> NotDone {
        let is_busy = matches!(not_done, NotDone::Refused(Errno::BUSY));
        if is_busy && place.folder.disk().and_then(|folder| beneath::is_mounted(folder, &place.name)) == Ok(true) {
            self.say_mounted(place.mount(), &place.path());
        }
        not_done
    }

    /// Puts one file in the place of another, which is gone then: two effects, and
    /// one system call.
    fn replace(&self, old: &Place, stands: &Stands, new: &Place, replaced: &Stands) -> Result<(), NotDone> {
        let removed = Deed { before: replaced.stat().copied(), ..Deed::new(Operation::Remove, new) };
        let moved = Deed { to: Some(new), before: stands.stat().copied(), ..Deed::new(Operation::Rename, old) };
        self.perform_both(&removed, &moved, |_| {
            rustix::fs::renameat(old.folder.disk()?, old.name.as_str(), new.folder.disk()?, new.name.as_str())
        })
    }

    /// Gives a file a second name in the same mount.
    pub(super) fn link(&self, from: &Folder, path: &str, to: &Folder, to_path: &str) -> Result<(), NotDone> {
        self.must_have(&to.mount, Right::Create, "link")?;
        if !Arc::ptr_eq(&from.mount, &to.mount) {
            self.say_refused("link", "a second name in another mount would have that one's rights");
            return Err(Errno::XDEV.into());
        }
        let spots = (self.locate(from, path, false)?, self.locate(to, to_path, false)?);
        let (Spot::Name(old), Spot::Name(new)) = spots else { return Err(Errno::PERM.into()) };
        let stands = self.stands(&old)?;
        if stands.is_folder() {
            return Err(Errno::PERM.into());
        }
        if stands.kind() != FileType::RegularFile {
            return Err(Errno::PERM.into());
        }
        if new.must_be_folder {
            return Err(Errno::NOENT.into());
        }
        // Whoever writes by the second name would write what is held by the first.
        self.must_be_free(&old, false)?;
        self.must_be_free(&new, false)?;
        let deed = Deed { to: Some(&new), before: stands.stat().copied(), ..Deed::new(Operation::Link, &old) };
        self.perform(&deed, |_| {
            self.must_be_real()?;
            let (old_folder, new_folder) = (old.folder.disk()?, new.folder.disk()?);
            rustix::fs::linkat(old_folder, old.name.as_str(), new_folder, new.name.as_str(), AtFlags::empty())
        })
    }

    /// Sets the times of what stands at a path.
    pub(super) fn set_times_at(
        &self,
        from: &Folder,
        path: &str,
        follow: bool,
        times: [NewTime; 2],
    ) -> Result<(), NotDone> {
        self.must_have(&from.mount, Right::Write, "set-times")?;
        match self.locate(from, path, follow)? {
            Spot::Folder(folder) => self.set_folder_times(&folder, times),
            Spot::Name(place) => {
                let stands = self.stands(&place)?;
                self.must_be_free(&place, false)?;
                let deed = Deed { before: stands.stat().copied(), ..Deed::new(Operation::SetTimes, &place) };
                self.perform(&deed, |_| {
                    if let Some(overlay) = self.custody.overlay() {
                        return self.pretend_times(overlay, stands.stat(), times);
                    }
                    let (folder, name) = (place.folder.disk()?, place.name.as_str());
                    if place.mount().borders == Borders::Keep && beneath::is_mounted(folder, name)? {
                        self.say_mounted(place.mount(), &place.path());
                        return Err(Errno::XDEV);
                    }
                    rustix::fs::utimensat(folder, name, &timestamps(times), AtFlags::SYMLINK_NOFOLLOW)
                })
            }
        }
    }

    /// Sets the times of an open folder.
    pub(super) fn set_folder_times(&self, folder: &Folder, times: [NewTime; 2]) -> Result<(), NotDone> {
        self.must_have(&folder.mount, Right::Write, "set-times")?;
        let place = Place { folder: folder.clone(), name: ".".to_owned(), must_be_folder: true };
        self.must_be_free(&place, false)?;
        let before = folder.fd().map(rustix::fs::fstat).transpose()?;
        let deed = Deed { before, ..Deed::new(Operation::SetTimes, &place) };
        self.perform(&deed, |_| match self.custody.overlay() {
            Some(overlay) => self.pretend_times(overlay, before.as_ref(), times),
            None => rustix::fs::utimensat(folder.disk()?, ".", &timestamps(times), AtFlags::empty()),
        })
    }

    /// Makes an empty file, which was not there, and opens it.
    pub(super) fn create_file(&self, place: &Place, flags: OFlags) -> Result<OwnedFd, NotDone> {
        self.must_have(place.mount(), Right::Create, "create")?;
        self.must_be_free(place, false)?;
        self.perform(&Deed { fresh: true, ..Deed::new(Operation::Create, place) }, |_| {
            self.must_be_real()?;
            let flags = flags | OFlags::CREATE | OFlags::EXCL;
            rustix::fs::openat(place.folder.disk()?, place.name.as_str(), flags, Mode::from_raw_mode(0o666))
        })
    }

    /// Sets the size of an open file.
    pub(super) fn set_size(&self, file: &super::descriptor::OpenFile, size: u64) -> Result<(), NotDone> {
        self.must_have(file.place.mount(), Right::Write, "set-size")?;
        if !file.writes {
            return Err(Errno::INVAL.into());
        }
        if i64::try_from(size).is_err() {
            // No file is so long: nothing is charged for it.
            return Err(Errno::INVAL.into());
        }
        let place = file.found_again();
        self.must_be_free(&place, false)?;
        let before = file.stat()?;
        let longer = size.saturating_sub(u64::try_from(before.st_size).unwrap_or(0));
        let deed = Deed { before: Some(before), written: longer, ..Deed::new(Operation::Truncate, &place) };
        self.perform(&deed, |_| {
            self.must_be_real()?;
            rustix::fs::ftruncate(file.fd(), size)
        })
    }

    /// Sets the times of an open file.
    pub(super) fn set_file_times(
        &self,
        file: &super::descriptor::OpenFile,
        times: [NewTime; 2],
    ) -> Result<(), NotDone> {
        self.must_have(file.place.mount(), Right::Write, "set-times")?;
        let place = file.found_again();
        self.must_be_free(&place, false)?;
        let stat = file.stat()?;
        let deed = Deed { before: Some(stat), ..Deed::new(Operation::SetTimes, &place) };
        self.perform(&deed, |_| match self.custody.overlay() {
            Some(overlay) => self.pretend_times(overlay, Some(&stat), times),
            None => rustix::fs::futimens(file.fd(), &timestamps(times)),
        })
    }

    fn pretend_times(
        &self,
        mut overlay: MutexGuard<'_, Overlay>,
        of: Option<&Stat>,
        times: [NewTime; 2],
    ) -> Result<(), Errno> {
        if let Some(stat) = of {
            overlay.set_times(identity(stat), simulated(times, self.custody.clock.now()))?;
        }
        Ok(())
    }

    /// Content is not simulated: what would change it is refused, and on record.
    pub(super) fn must_be_real(&self) -> Result<(), Errno> {
        if self.custody.is_simulated() { Err(Errno::ROFS) } else { Ok(()) }
    }
}

impl<'a> Deed<'a> {
    pub(super) fn new(operation: Operation, place: &'a Place) -> Self {
        Self { operation, place, to: None, before: None, trashed: false, fresh: false, written: 0 }
    }
}

/// Whether something at `old` can be moved to `new` at all: what it is to
/// replace must not go in vain.
fn must_reach(old: &Place, new: &Place) -> Result<(), Errno> {
    let mount = |folder: &Folder| folder.fd().map(beneath::mount_of).transpose();
    match (mount(&old.folder)?, mount(&new.folder)?) {
        (Some(old), Some(new)) if old != new => Err(Errno::XDEV),
        _ => Ok(()),
    }
}

/// Renames, never deletes: where the trash is on another file system, the file
/// stays where it is.
fn into_trash(place: &Place, trash: &OwnedFd, id: EffectId) -> Result<(), Errno> {
    let (folder, name, new) = (place.folder.disk()?, place.name.as_str(), id.to_string());
    rename_at(folder, name, trash.as_fd(), &new)
}

fn rename_onto_nothing(old: &Place, new: &Place) -> Result<(), Errno> {
    rename_at(old.folder.disk()?, &old.name, new.folder.disk()?, &new.name)
}

/// Renames to a name at which nothing stands.
pub(super) fn rename_at(
    folder: std::os::fd::BorrowedFd<'_>,
    name: &str,
    to: std::os::fd::BorrowedFd<'_>,
    to_name: &str,
) -> Result<(), Errno> {
    #[cfg(target_os = "linux")]
    match rustix::fs::renameat_with(folder, name, to, to_name, RenameFlags::NOREPLACE) {
        // Some file systems cannot be asked to replace nothing, and a sandbox above may
        // refuse the call as such. What the file system itself refuses, it does again.
        Err(Errno::INVAL | Errno::NOSYS | Errno::PERM) => {}
        renamed => return renamed,
    }
    match rustix::fs::statat(to, to_name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => rustix::fs::renameat(folder, name, to, to_name),
        Ok(_) => Err(Errno::EXIST),
        Err(error) => Err(error),
    }
}

fn same(a: &Stands, b: &Stands) -> bool {
    match (a.stat(), b.stat()) {
        (Some(a), Some(b)) => identity(a) == identity(b),
        _ => false,
    }
}

/// Opens the folder that stands there, only to look into it.
pub(super) fn open_folder(place: &Place, stands: &Stands) -> Result<Folder, Errno> {
    let (mount, path): (&Arc<Mount>, _) = (place.mount(), place.path());
    let at = if let Stands::Made(id) = stands {
        At::Made(*id)
    } else {
        let (folder, name) = stands.on_disk(place)?;
        let flags = OFlags::DIRECTORY | beneath::only_place();
        At::Real(Arc::new(beneath::open_name(folder, name, flags, mount.borders)?))
    };
    Ok(Folder { mount: Arc::clone(mount), at, path })
}

fn is_empty(folder: &Folder, overlay: &Overlay) -> Result<bool, Errno> {
    let mut entries = Entries::of(folder, Some(overlay), u64::MAX)?;
    let first = entries.next(|| Ok(())).map_err(|_| Errno::IO)?;
    Ok(first.is_none() && entries.unreadable == 0)
}

fn move_in(overlay: &mut Overlay, old: &Place, new: &Place, stands: &Stands) -> Result<(), Errno> {
    let entry = match stands {
        Stands::Made(id) => Entry::Made(*id),
        Stands::Elsewhere(real, _) => Entry::Moved(Box::new(real.clone())),
        Stands::Here(_) => {
            let folder = match &old.folder.at {
                At::Real(fd) => Arc::clone(fd),
                _ => Arc::new(rustix::io::dup(old.folder.disk()?)?),
            };
            Entry::Moved(Box::new(RealPlace { folder, name: old.name.clone() }))
        }
    };
    if stands.is_folder() && new.folder.path.starts_with(&old.path()) {
        let below = &new.folder.path[old.path().len()..];
        if below.is_empty() || below.starts_with('/') {
            return Err(Errno::INVAL);
        }
    }
    overlay.set(new.folder.key()?, &new.name, entry)?;
    Ok(overlay.set(old.folder.key()?, &old.name, Entry::Gone)?)
}

fn timestamps([accessed, modified]: [NewTime; 2]) -> Timestamps {
    let spec = |time| match time {
        NewTime::Keep => Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        NewTime::Now => Timespec { tv_sec: 0, tv_nsec: UTIME_NOW },
        NewTime::At(at) => at,
    };
    Timestamps { last_access: spec(accessed), last_modification: spec(modified) }
}

fn simulated([accessed, modified]: [NewTime; 2], now: Timestamp) -> Times {
    let at = |time| match time {
        NewTime::Keep => None,
        NewTime::Now => Some(now),
        NewTime::At(at) => {
            let seconds = u64::try_from(at.tv_sec).unwrap_or(0);
            let milliseconds = u64::try_from(at.tv_nsec).unwrap_or(0) / 1_000_000;
            Some(Timestamp(seconds.saturating_mul(1000).saturating_add(milliseconds)))
        }
    };
    Times { accessed: at(accessed), modified: at(modified) }
}
