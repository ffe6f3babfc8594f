//! Opening folders beneath a folder, by the kernel's own resolution: whatever
//! the path says and whoever changes the tree meanwhile, it never leaves.
//!
//! Linux does it in one call (`openat2` with `RESOLVE_BENEATH`). Where that is
//! not to be had (another system, an old kernel, a filter that forbids it), the
//! path is walked name by name and no link is followed.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

/// Whether links on the way are followed, as far as they stay beneath.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Links {
    Follow,
    /// The first one is [`Errno::LOOP`].
    Refuse,
}

/// Opens the folder at `path`, relative to `folder` and not outside of it. A way
/// that leads outside is [`Errno::XDEV`].
pub(super) fn open_folder(folder: BorrowedFd<'_>, path: &str, links: Links) -> Result<OwnedFd, Errno> {
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC | only_place();
    #[cfg(target_os = "linux")]
    match kernel(folder, path, links, flags) {
        Err(Errno::NOSYS | Errno::PERM) => {}
        opened => return opened,
    }
    walk(folder, path, flags)
}

/// A descriptor that names a place and reads nothing.
pub(super) fn only_place() -> OFlags {
    #[cfg(target_os = "linux")]
    return OFlags::PATH;
    #[cfg(not(target_os = "linux"))]
    return OFlags::RDONLY | OFlags::NONBLOCK;
}

/// How often a resolution that somebody's rename disturbed is tried.
#[cfg(target_os = "linux")]
const TRIES: usize = 64;

#[cfg(target_os = "linux")]
fn kernel(folder: BorrowedFd<'_>, path: &str, links: Links, flags: OFlags) -> Result<OwnedFd, Errno> {
    use rustix::fs::ResolveFlags;
    let mut resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    if links == Links::Refuse {
        resolve |= ResolveFlags::NO_SYMLINKS;
    }
    for _ in 0..TRIES {
        match rustix::fs::openat2(folder, path, flags, Mode::empty(), resolve) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            opened => return opened,
        }
    }
    Err(Errno::BUSY)
}

/// Name by name, without following any link and without going up.
/// (Links would have to be resolved by hand, with all the races of that.)
fn walk(folder: BorrowedFd<'_>, path: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
    let mut at: Option<OwnedFd> = None;
    for name in path.split('/').filter(|name| !name.is_empty() && *name != ".") {
        if name == ".." {
            return Err(Errno::XDEV);
        }
        let from = at.as_ref().map_or(folder, AsFd::as_fd);
        at = Some(rustix::fs::openat(from, name, flags | OFlags::NOFOLLOW, Mode::empty())?);
    }
    at.map_or_else(|| rustix::fs::openat(folder, ".", flags, Mode::empty()), Ok)
}

/// Where an open file or folder is now, by its absolute path.
pub(super) fn path_of(fd: BorrowedFd<'_>) -> io::Result<PathBuf> {
    #[cfg(target_os = "linux")]
    let path = {
        use std::os::fd::AsRawFd as _;
        rustix::fs::readlink(format!("/proc/self/fd/{}", fd.as_raw_fd()), Vec::new())?
    };
    #[cfg(not(target_os = "linux"))]
    let path = rustix::fs::getpath(fd)?;
    Ok(PathBuf::from(OsStr::from_bytes(path.as_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn both_ways_of_resolving_stay_beneath() {
        let outside = tempfile::tempdir().unwrap();
        let top = outside.path().join("top");
        fs::create_dir_all(top.join("a/b")).unwrap();
        symlink(outside.path(), top.join("out")).unwrap();
        symlink("../..", top.join("a/up")).unwrap();
        symlink("a", top.join("in")).unwrap();
        let folder = fs::File::open(&top).unwrap();
        let by_hand = |path: &str| walk(folder.as_fd(), path, only_place() | OFlags::DIRECTORY);
        for path in ["a", "a/b", "./a//b/", "."] {
            assert!(open_folder(folder.as_fd(), path, Links::Follow).is_ok(), "{path}");
            assert!(by_hand(path).is_ok(), "{path}");
        }
        for path in ["..", "a/../..", "out", "out/top", "a/up", "/", "/tmp"] {
            assert!(open_folder(folder.as_fd(), path, Links::Follow).is_err(), "{path}");
            // Absolute paths are refused before: the walk takes them as relative.
            assert!(path.starts_with('/') || by_hand(path).is_err(), "{path}");
        }
        assert_eq!(open_folder(folder.as_fd(), "in/b", Links::Refuse).err(), Some(Errno::LOOP));
        let found = open_folder(folder.as_fd(), "in/b", Links::Follow).unwrap();
        assert_eq!(path_of(found.as_fd()).unwrap(), top.canonicalize().unwrap().join("a/b"));
    }
}
