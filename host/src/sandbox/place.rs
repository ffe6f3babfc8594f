//! Where a guest's path leads: the folder that holds its last name, and that
//! name.
//!
//! The kernel resolves the folder beneath the descriptor that the guest names,
//! and what is done there is done to a single name in it: no check and no system
//! call ever see two different files for one path. Beside the descriptor stands
//! the true path within the mount, without links, by which holds, hidden names
//! and records go.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::beneath::{self, Links};
use super::kept;
use super::mounts::{Identity, Mount, is_reserved};
use super::overlay::{Entry, FolderKey, Overlay};

/// So much of a path the kernel tells, whatever the path of the mount is.
const TOLD: usize = 2000;

/// Most links that are followed for one path.
const MOST_LINKS: usize = 40;

/// An open folder.
#[derive(Clone, Debug)]
pub(super) struct Folder {
    pub(super) mount: Arc<Mount>,
    pub(super) at: At,
    /// Its path within the mount when it was found; empty for its top.
    pub(super) path: String,
}

/// Where a folder is.
#[derive(Clone, Debug)]
pub(super) enum At {
    /// At the top of the mount.
    Top,
    /// On disk.
    Real(Arc<OwnedFd>),
    /// In a simulation only.
    Made(u64),
}

/// A name in a folder, whatever stands there.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) folder: Folder,
    pub(super) name: String,
    /// The path ended with a slash.
    pub(super) must_be_folder: bool,
}

/// What a path names.
#[derive(Clone, Debug)]
pub(super) enum Spot {
    Name(Place),
    /// It ends with `.` or `..`.
    Folder(Folder),
}

impl Folder {
    /// The top of a mount.
    pub(super) fn top(mount: &Arc<Mount>) -> Self {
        Self { mount: Arc::clone(mount), at: At::Top, path: String::new() }
    }

    /// Its descriptor; `None` for one that is not on disk.
    pub(super) fn fd(&self) -> Option<BorrowedFd<'_>> {
        match &self.at {
            At::Top => Some(self.mount.root.as_fd()),
            At::Real(fd) => Some(fd.as_fd()),
            At::Made(_) => None,
        }
    }

    /// Its descriptor, for what needs one to be on disk.
    pub(super) fn disk(&self) -> Result<BorrowedFd<'_>, Errno> {
        self.fd().ok_or(Errno::NOENT)
    }

    pub(super) fn key(&self) -> Result<FolderKey, Errno> {
        Ok(match &self.at {
            At::Top => FolderKey::Real(self.mount.identity),
            At::Real(fd) => FolderKey::Real(Identity::of(fd.as_fd())?),
            At::Made(id) => FolderKey::Made(*id),
        })
    }

    /// The same folder with the path at which it is now: somebody may have moved
    /// it since it was opened, even out of the mount. The kernel tells no path that
    /// is longer than 4,096 bytes: such a folder is where it was found, or refused.
    pub(super) fn found_again(&self) -> Result<Self, Errno> {
        let At::Real(fd) = &self.at else { return Ok(self.clone()) };
        let path = match path_within(&self.mount, fd.as_fd()) {
            Err(Errno::NAMETOOLONG) => {
                self.must_stand(fd.as_fd())?;
                self.path.clone()
            }
            path => path?,
        };
        must_be_guests(&path)?;
        Ok(Self { path, ..self.clone() })
    }

    /// Whether it stands where it was found is asked of the folder above it whose
    /// path the kernel tells: that is the beginning of its path, and as many folders
    /// above it as there are names behind that. What these are called by now is asked
    /// where it decides: [`Self::must_be_called_so`].
    fn must_stand(&self, fd: BorrowedFd<'_>) -> Result<(), Errno> {
        let told = self.path.as_bytes()[..TOLD.min(self.path.len())].iter().rposition(|byte| *byte == b'/');
        let told = told.unwrap_or(0);
        let slashes = self.path[told..].matches('/').count();
        let behind = if told == 0 { slashes + 1 } else { slashes };
        let above = beneath::above(fd, behind)?;
        if path_within(&self.mount, above.as_fd())? == self.path[..told] { Ok(()) } else { Err(Errno::NOENT) }
    }

    /// Refuses a folder whose path is no longer true in the part that the kernel does
    /// not tell: holds go by every name. It goes there once more.
    pub(super) fn must_be_called_so(&self) -> Result<(), Errno> {
        let At::Real(fd) = &self.at else { return Ok(()) };
        if self.path.len() <= TOLD {
            return Ok(());
        }
        let there = beneath::open_folder(self.mount.root.as_fd(), &self.path, Links::Refuse, self.mount.borders)?;
        if Identity::of(there.as_fd())? == Identity::of(fd.as_fd())? { Ok(()) } else { Err(Errno::NOENT) }
    }

    /// Waits until its entries are on disk.
    pub(super) fn sync(&self) -> Result<(), Errno> {
        if self.fd().is_some() { rustix::fs::fsync(self.read()?) } else { Ok(()) }
    }

    /// Opens it anew, to be read from its first entry.
    pub(super) fn read(&self) -> Result<OwnedFd, Errno> {
        rustix::fs::openat(self.disk()?, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
    }

    fn real(mount: &Arc<Mount>, fd: OwnedFd, path: String) -> Result<Self, Errno> {
        must_be_guests(&path)?;
        kept::must_be_outside(mount, fd.as_fd(), &path)?;
        Ok(Self { mount: Arc::clone(mount), at: At::Real(Arc::new(fd)), path })
    }
}

/// What the host keeps for itself is not there.
fn must_be_guests(path: &str) -> Result<(), Errno> {
    if path.split('/').next().is_some_and(is_reserved) { Err(Errno::NOENT) } else { Ok(()) }
}

impl Place {
    /// Its path within the mount.
    pub(super) fn path(&self) -> String {
        join(&self.folder.path, &self.name)
    }

    pub(super) fn mount(&self) -> &Arc<Mount> {
        &self.folder.mount
    }

    /// What stands there on disk, itself rather than where a link leads.
    pub(super) fn stat(&self) -> Result<Stat, Errno> {
        let stat = rustix::fs::statat(self.folder.disk()?, self.name.as_str(), AtFlags::SYMLINK_NOFOLLOW)?;
        if self.must_be_folder && FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile {
            return Err(Errno::NOTDIR);
        }
        Ok(stat)
    }
}

/// `a/b`, or `b` where there is no `a`.
pub(super) fn join(folder: &str, name: &str) -> String {
    if folder.is_empty() {
        return name.to_owned();
    }
    let mut path = String::with_capacity(folder.len() + 1 + name.len());
    path.push_str(folder);
    path.push('/');
    path.push_str(name);
    path
}

/// Longest path that a guest may give, in bytes: as long as the kernel takes one.
const LONGEST_GIVEN: usize = 4095;

/// Finds the place of `path`, which a guest gave relative to `from`.
pub(super) fn locate(from: &Folder, path: &str, overlay: Option<&Overlay>) -> Result<Spot, Errno> {
    if path.len() > LONGEST_GIVEN {
        return Err(Errno::NAMETOOLONG);
    }
    locate_any(from, path, overlay)
}

/// The same of a path of any length.
fn locate_any(from: &Folder, path: &str, overlay: Option<&Overlay>) -> Result<Spot, Errno> {
    if path.is_empty() {
        return Err(Errno::NOENT);
    }
    if path.contains('\0') {
        return Err(Errno::INVAL);
    }
    if path.starts_with('/') {
        return Err(Errno::PERM);
    }
    let trimmed = path.trim_end_matches('/');
    let (parents, name) = trimmed.rsplit_once('/').unwrap_or(("", trimmed));
    if matches!(name, "." | "..") {
        return find_folder(from, trimmed, overlay).map(Spot::Folder);
    }
    let folder = if parents.is_empty() { here(from, overlay)? } else { find_folder(from, parents, overlay)? };
    if folder.path.is_empty() && is_reserved(name) {
        return Err(Errno::NOENT);
    }
    let must_be_folder = trimmed.len() < path.len();
    Ok(Spot::Name(Place { folder, name: name.to_owned(), must_be_folder }))
}

/// The place to which the link at `place` leads.
pub(super) fn follow(place: &Place, overlay: Option<&Overlay>) -> Result<Spot, Errno> {
    let top = Folder::top(place.mount());
    let mut spot = Spot::Name(place.clone());
    for _ in 0..MOST_LINKS {
        let Spot::Name(place) = &spot else { return Ok(spot) };
        let Ok(target) = read_link(place, overlay) else { return Ok(spot) };
        if target.starts_with('/') {
            return Err(Errno::PERM);
        }
        let mut path = join(&place.folder.path, &target);
        if place.must_be_folder {
            path.push('/');
        }
        spot = locate_any(&top, &path, overlay)?;
    }
    Err(Errno::LOOP)
}

/// Where the link at `place` leads.
pub(super) fn read_link(place: &Place, overlay: Option<&Overlay>) -> Result<String, Errno> {
    let moved = overlay.filter(|overlay| !overlay.is_empty()).map(|overlay| (overlay, place.folder.key()));
    let entry = match moved {
        Some((overlay, key)) => overlay.get(key?, &place.name),
        None => None,
    };
    let target = match entry {
        None => rustix::fs::readlinkat(place.folder.disk()?, place.name.as_str(), Vec::new())?,
        Some(Entry::Gone) => return Err(Errno::NOENT),
        Some(Entry::Made(_)) => return Err(Errno::INVAL),
        Some(Entry::Moved(real)) => rustix::fs::readlinkat(real.folder.as_fd(), real.name.as_str(), Vec::new())?,
    };
    target.into_string().map_err(|_| Errno::ILSEQ)
}

/// The folder itself, where it is now. Where a simulation moved it is its path as
/// the guest found it: the disk knows nothing of that.
fn here(from: &Folder, overlay: Option<&Overlay>) -> Result<Folder, Errno> {
    let found = from.found_again()?;
    let is_simulated = overlay.is_some_and(|overlay| !overlay.is_empty());
    Ok(if is_simulated { Folder { path: from.path.clone(), ..found } } else { found })
}

fn find_folder(from: &Folder, path: &str, overlay: Option<&Overlay>) -> Result<Folder, Errno> {
    // The folder itself: the top of a mount stays that, and is not asked for its
    // path again and again.
    if path == "." {
        return here(from, overlay);
    }
    match (overlay.filter(|overlay| !overlay.is_empty()), from.fd()) {
        (None, Some(fd)) => on_disk(from, fd, path),
        (None, None) => Err(Errno::NOENT),
        (Some(overlay), _) => walk(from, path, overlay),
    }
}

fn on_disk(from: &Folder, fd: BorrowedFd<'_>, path: &str) -> Result<Folder, Errno> {
    let borders = from.mount.borders;
    if !path.split('/').any(|name| name == "..") {
        match beneath::open_folder(fd, path, Links::Refuse, borders) {
            Ok(found) => {
                let mut within = from.found_again()?.path;
                for name in path.split('/').filter(|name| !name.is_empty() && *name != ".") {
                    within = join(&within, name);
                }
                return Folder::real(&from.mount, found, within);
            }
            Err(Errno::LOOP) => {}
            Err(error) => return Err(error),
        }
    }
    // Links or steps up: the kernel says where that came out.
    let found = beneath::open_folder(fd, path, Links::Follow, borders)?;
    let within = path_within(&from.mount, found.as_fd())?;
    Folder::real(&from.mount, found, within)
}

/// The path of an open folder within its mount; [`Errno::NOENT`] where it is no
/// longer in it.
pub(super) fn path_within(mount: &Mount, fd: BorrowedFd<'_>) -> Result<String, Errno> {
    let of = |fd| beneath::path_of(fd).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO));
    let (top, path) = (of(mount.root.as_fd())?, of(fd)?);
    let within = path.strip_prefix(&top).map_err(|_| Errno::NOENT)?;
    within.to_str().map(str::to_owned).ok_or(Errno::ILSEQ)
}

/// Name by name through what a simulation changed.
fn walk(from: &Folder, path: &str, overlay: &Overlay) -> Result<Folder, Errno> {
    let mut way = vec![from.clone()];
    let mut names: Vec<String> = path.split('/').rev().map(str::to_owned).collect();
    let mut links = 0;
    while let Some(name) = names.pop() {
        let Some(at) = way.last() else { return Err(Errno::PERM) };
        match name.as_str() {
            "" | "." => continue,
            ".." => {
                way.pop();
                continue;
            }
            name if at.path.is_empty() && is_reserved(name) => return Err(Errno::NOENT),
            _ => {}
        }
        match step(at, &name, overlay)? {
            Step::Into(folder) => way.push(folder),
            Step::Link(target) => {
                links += 1;
                if links > MOST_LINKS {
                    return Err(Errno::LOOP);
                }
                if target.starts_with('/') {
                    return Err(Errno::PERM);
                }
                names.extend(target.split('/').rev().map(str::to_owned));
            }
        }
    }
    way.pop().ok_or(Errno::PERM)
}

enum Step {
    Into(Folder),
    Link(String),
}

fn step(at: &Folder, name: &str, overlay: &Overlay) -> Result<Step, Errno> {
    let path = join(&at.path, name);
    let (folder, name) = match overlay.get(at.key()?, name) {
        Some(Entry::Gone) => return Err(Errno::NOENT),
        Some(Entry::Made(id)) => {
            return Ok(Step::Into(Folder { mount: Arc::clone(&at.mount), at: At::Made(*id), path }));
        }
        Some(Entry::Moved(real)) => (real.folder.as_fd(), real.name.as_str()),
        None => (at.disk()?, name),
    };
    match beneath::open_name(folder, name, OFlags::DIRECTORY | beneath::only_place(), at.mount.borders) {
        Ok(fd) if kept::is_kept(Identity::of(fd.as_fd())?) => Err(Errno::NOENT),
        Ok(fd) => Ok(Step::Into(Folder { mount: Arc::clone(&at.mount), at: At::Real(Arc::new(fd)), path })),
        Err(error @ (Errno::LOOP | Errno::NOTDIR)) => {
            let target = rustix::fs::readlinkat(folder, name, Vec::new()).map_err(|_| error)?;
            target.into_string().map(Step::Link).map_err(|_| Errno::ILSEQ)
        }
        Err(error) => Err(error),
    }
}
