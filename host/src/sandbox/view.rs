//! What a guest sees at a place: what is on disk, or what a simulation put in
//! its stead.

use std::hash::{DefaultHasher, Hash, Hasher as _};
use std::os::fd::{AsFd as _, BorrowedFd};

use rustix::fs::{AtFlags, FileType, Stat};
use rustix::io::Errno;
use wasmtime_wasi::p2::bindings::clocks::wall_clock::Datetime;
use wasmtime_wasi::p2::bindings::sync::filesystem::types::{DescriptorStat, DescriptorType, MetadataHashValue};

use crate::domain::time::Timestamp;

use super::call::Call;
use super::entries::descriptor_type;
use super::kept;
use super::mounts::Identity;
use super::overlay::{Entry, RealPlace, Times};
use super::place::{self, Folder, Place, Spot};

/// What stands at a place.
#[derive(Debug)]
pub(super) enum Stands {
    /// What is on disk there.
    Here(Stat),
    /// What is on disk at another place: it was moved in a simulation.
    Elsewhere(RealPlace, Stat),
    /// A folder that a simulation made.
    Made(u64),
}

impl Stands {
    /// What is on disk.
    pub(super) fn stat(&self) -> Option<&Stat> {
        match self {
            Self::Here(stat) | Self::Elsewhere(_, stat) => Some(stat),
            Self::Made(_) => None,
        }
    }

    pub(super) fn kind(&self) -> FileType {
        self.stat().map_or(FileType::Directory, |stat| FileType::from_raw_mode(stat.st_mode))
    }

    pub(super) fn is_folder(&self) -> bool {
        self.kind() == FileType::Directory
    }

    /// Where that is on disk.
    pub(super) fn on_disk<'a>(&'a self, place: &'a Place) -> Result<(BorrowedFd<'a>, &'a str), Errno> {
        match self {
            Self::Here(_) => Ok((place.folder.disk()?, &place.name)),
            Self::Elsewhere(real, _) => Ok((real.folder.as_fd(), &real.name)),
            Self::Made(_) => Err(Errno::NOENT),
        }
    }
}

impl Call {
    /// Finds the place of a guest's path; `follow` also follows a link that
    /// stands there.
    pub(super) fn locate(&self, from: &Folder, path: &str, follow: bool) -> Result<Spot, Errno> {
        let found = self.told(&from.mount, self.find(from, path, follow));
        if found.as_ref().err() == Some(&Errno::XDEV) {
            self.say_mounted(&from.mount, &place::join(&from.path, path));
        }
        found
    }

    fn find(&self, from: &Folder, path: &str, follow: bool) -> Result<Spot, Errno> {
        let overlay = self.custody.overlay();
        let spot = place::locate(from, path, overlay.as_deref())?;
        match spot {
            Spot::Name(place) if follow => {
                let is_link = place.folder.fd().is_some_and(|folder| {
                    rustix::fs::statat(folder, place.name.as_str(), AtFlags::SYMLINK_NOFOLLOW)
                        .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Symlink)
                });
                let simulated = overlay.as_ref().is_some_and(|overlay| !overlay.is_empty());
                if is_link || simulated { place::follow(&place, overlay.as_deref()) } else { Ok(Spot::Name(place)) }
            }
            spot => Ok(spot),
        }
    }

    /// What stands at a place, itself rather than where a link leads.
    pub(super) fn stands(&self, place: &Place) -> Result<Stands, Errno> {
        self.told(place.mount(), self.stands_by(place, || place.stat()))
    }

    /// The same, where `on_disk` says what is on disk there.
    pub(super) fn stands_by(
        &self,
        place: &Place,
        on_disk: impl FnOnce() -> Result<Stat, Errno>,
    ) -> Result<Stands, Errno> {
        let Some(overlay) = self.custody.overlay().filter(|overlay| !overlay.is_empty()) else {
            let stands = Stands::Here(on_disk()?);
            return must_not_be_kept(&stands, &place.name).map(|()| stands);
        };
        let mut stands = match overlay.get(place.folder.key()?, &place.name) {
            None => Stands::Here(on_disk()?),
            Some(Entry::Gone) => return Err(Errno::NOENT),
            Some(Entry::Made(id)) => return Ok(Stands::Made(*id)),
            Some(Entry::Moved(real)) => {
                let stat = rustix::fs::statat(&real.folder, real.name.as_str(), AtFlags::SYMLINK_NOFOLLOW)?;
                Stands::Elsewhere((**real).clone(), stat)
            }
        };
        must_not_be_kept(&stands, &place.name)?;
        if let Stands::Here(stat) | Stands::Elsewhere(_, stat) = &mut stands
            && let Some(times) = overlay.times(identity(stat))
        {
            set(stat, times);
        }
        if place.must_be_folder && !stands.is_folder() { Err(Errno::NOTDIR) } else { Ok(stands) }
    }

    /// Nothing or something: whatever else goes wrong stays wrong.
    pub(super) fn stands_if_any(&self, place: &Place) -> Result<Option<Stands>, Errno> {
        match self.stands(place) {
            Err(Errno::NOENT) => Ok(None),
            stands => stands.map(Some),
        }
    }
}

/// A marker or trash that is listed nowhere is not there. One that is bound to a
/// name of its own is, and nothing can be done to it.
fn must_not_be_kept(stands: &Stands, name: &str) -> Result<(), Errno> {
    let is_kept = kept::may_be_kept(name) && stands.stat().is_some_and(kept::is_kept_stat);
    if is_kept { Err(Errno::NOENT) } else { Ok(()) }
}

#[allow(clippy::unnecessary_cast, clippy::cast_sign_loss, reason = "these have other types elsewhere")]
pub(super) fn identity(stat: &Stat) -> Identity {
    Identity(stat.st_dev as u64, stat.st_ino as u64)
}

#[allow(clippy::unnecessary_cast, clippy::cast_possible_wrap, reason = "these have other types elsewhere")]
fn set(stat: &mut Stat, times: Times) {
    if let Some(at) = times.accessed {
        stat.st_atime = (at.0 / 1000) as _;
        stat.st_atime_nsec = (at.0 % 1000 * 1_000_000) as _;
    }
    if let Some(at) = times.modified {
        stat.st_mtime = (at.0 / 1000) as _;
        stat.st_mtime_nsec = (at.0 % 1000 * 1_000_000) as _;
    }
}

/// What a file takes of the disk, in bytes: whole blocks, and no holes. Blocks are
/// of 512 bytes here, whatever those of the file system are.
#[allow(clippy::unnecessary_cast, clippy::cast_sign_loss, reason = "it has other types elsewhere")]
pub(super) fn allocated(stat: &Stat) -> u64 {
    u64::try_from(stat.st_blocks as i64).unwrap_or(0).saturating_mul(512)
}

/// When a file was last modified, to the millisecond; before 1970 is 1970.
#[allow(clippy::unnecessary_cast, clippy::cast_sign_loss, reason = "both are of another width elsewhere")]
pub(super) fn modified(stat: &Stat) -> Timestamp {
    let seconds = u64::try_from(stat.st_mtime as i64).unwrap_or(0);
    Timestamp(seconds.saturating_mul(1000).saturating_add(stat.st_mtime_nsec as u64 / 1_000_000))
}

/// As WASI has it.
#[allow(clippy::unnecessary_cast, clippy::cast_sign_loss, reason = "these have other types elsewhere")]
pub(super) fn descriptor_stat(stat: &Stat) -> DescriptorStat {
    let at = |seconds: i64, nanoseconds: u64| Datetime {
        seconds: u64::try_from(seconds).unwrap_or(0),
        nanoseconds: u32::try_from(nanoseconds).unwrap_or(0),
    };
    DescriptorStat {
        type_: descriptor_type(FileType::from_raw_mode(stat.st_mode)),
        link_count: stat.st_nlink as u64,
        size: u64::try_from(stat.st_size).unwrap_or(0),
        data_access_timestamp: Some(at(stat.st_atime as i64, stat.st_atime_nsec as u64)),
        data_modification_timestamp: Some(at(stat.st_mtime as i64, stat.st_mtime_nsec as u64)),
        status_change_timestamp: Some(at(stat.st_ctime as i64, stat.st_ctime_nsec as u64)),
    }
}

/// Of a folder that is not on disk.
pub(super) fn made_stat() -> DescriptorStat {
    DescriptorStat {
        type_: DescriptorType::Directory,
        link_count: 1,
        size: 0,
        data_access_timestamp: None,
        data_modification_timestamp: None,
        status_change_timestamp: None,
    }
}

/// The same for the same file, and most likely another for another.
pub(super) fn metadata_hash(of: impl Hash) -> MetadataHashValue {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    let lower = hasher.finish();
    // A file's number has no more than 64 bits to tell; the rest is for the form.
    MetadataHashValue { lower, upper: lower.rotate_left(32) }
}
