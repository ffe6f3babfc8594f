//! Opening folders beneath a folder, by the kernel's own resolution: whatever
//! the path says and whoever changes the tree meanwhile, it never leaves, and
//! enters nothing that is mounted below unless that is wanted.
//!
//! Linux does it in one call (`openat2` with `RESOLVE_BENEATH` and
//! `RESOLVE_NO_XDEV`). Where that is not to be had (another system, an old kernel,
//! a filter that forbids it), the path is walked name by name, no link is
//! followed, and each folder is asked on which mount it is.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

#[cfg(target_os = "linux")]
use rustix::fs::{AtFlags, ResolveFlags, StatxAttributes, StatxFlags};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

/// Whether links on the way are followed, as far as they stay beneath.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Links {
    Follow,
    /// The first one is [`Errno::LOOP`].
    Refuse,
}

/// What is done about something that is mounted below.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Borders {
    /// It is not entered.
    Keep,
    /// It is a folder like any other.
    Cross,
}

/// Bytes of a path that a system call takes for sure (`PATH_MAX` is 4,096, with a
/// zero at its end).
const MOST_AT_ONCE: usize = 4000;

/// Opens the folder at `path`, relative to `folder` and not outside of it. A way
/// that leads outside is [`Errno::PERM`], one into another mount [`Errno::XDEV`].
///
/// A path that is longer than a system call takes is walked in pieces, each of
/// which stays beneath the one before. With a `..` in it, which may lead from one
/// piece into another, it is [`Errno::NAMETOOLONG`].
pub(super) fn open_folder(
    folder: BorrowedFd<'_>,
    path: &str,
    links: Links,
    borders: Borders,
) -> Result<OwnedFd, Errno> {
    if path.len() <= MOST_AT_ONCE {
        return open_piece(folder, path, links, borders);
    }
    if path.split('/').any(|name| name == "..") {
        return Err(Errno::NAMETOOLONG);
    }
    let mut at: Option<OwnedFd> = None;
    for piece in pieces(path) {
        at = Some(open_piece(at.as_ref().map_or(folder, AsFd::as_fd), piece, links, borders)?);
    }
    at.ok_or(Errno::NOENT)
}

/// A long path in pieces that a system call takes; a name that is too long for
/// one is a piece by itself, which the kernel refuses.
fn pieces(mut path: &str) -> impl Iterator<Item = &str> {
    std::iter::from_fn(move || {
        path = path.trim_start_matches('/');
        if path.is_empty() {
            return None;
        }
        let end = if path.len() <= MOST_AT_ONCE {
            path.len()
        } else {
            let slash = path.as_bytes()[..MOST_AT_ONCE].iter().rposition(|byte| *byte == b'/');
            slash.or_else(|| path.find('/')).unwrap_or(path.len())
        };
        let (piece, rest) = path.split_at(end);
        path = rest;
        Some(piece)
    })
}

/// The folder so many folders above this one.
pub(super) fn above(folder: BorrowedFd<'_>, mut levels: usize) -> Result<OwnedFd, Errno> {
    const STEP: &str = "../";
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC | only_place();
    let mut at = rustix::fs::openat(folder, ".", flags, Mode::empty())?;
    while levels > 0 {
        let steps = levels.min(MOST_AT_ONCE / STEP.len());
        at = rustix::fs::openat(&at, STEP.repeat(steps), flags, Mode::empty())?;
        levels -= steps;
    }
    Ok(at)
}

fn open_piece(folder: BorrowedFd<'_>, path: &str, links: Links, borders: Borders) -> Result<OwnedFd, Errno> {
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC | only_place();
    #[cfg(target_os = "linux")]
    {
        let mut resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        if links == Links::Refuse {
            resolve |= ResolveFlags::NO_SYMLINKS;
        }
        let keep = if borders == Borders::Keep { ResolveFlags::NO_XDEV } else { ResolveFlags::empty() };
        match kernel(folder, path, flags, resolve | keep) {
            Err(Errno::NOSYS | Errno::PERM) => {}
            // The kernel has one word for both: without the second rule only the
            // first can be meant.
            Err(Errno::XDEV) => {
                let is_outside = kernel(folder, path, flags, resolve).err() == Some(Errno::XDEV);
                return Err(if is_outside { Errno::PERM } else { Errno::XDEV });
            }
            opened => return opened,
        }
    }
    walk(folder, path, flags, borders)
}

/// Opens what stands at a single name in a folder, and follows no link there.
/// Where something is mounted at it and borders are kept, that is [`Errno::XDEV`].
pub(super) fn open_name(folder: BorrowedFd<'_>, name: &str, flags: OFlags, borders: Borders) -> Result<OwnedFd, Errno> {
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    if borders == Borders::Cross {
        return rustix::fs::openat(folder, name, flags, Mode::empty());
    }
    #[cfg(target_os = "linux")]
    match kernel(folder, name, flags, ResolveFlags::NO_XDEV) {
        Err(Errno::NOSYS | Errno::PERM) => {}
        opened => return opened,
    }
    step(folder, name, flags, borders)
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
fn kernel(folder: BorrowedFd<'_>, path: &str, flags: OFlags, resolve: ResolveFlags) -> Result<OwnedFd, Errno> {
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
fn walk(folder: BorrowedFd<'_>, path: &str, flags: OFlags, borders: Borders) -> Result<OwnedFd, Errno> {
    let mut at: Option<OwnedFd> = None;
    for name in path.split('/').filter(|name| !name.is_empty() && *name != ".") {
        if name == ".." {
            return Err(Errno::PERM);
        }
        let from = at.as_ref().map_or(folder, AsFd::as_fd);
        at = Some(step(from, name, flags | OFlags::NOFOLLOW, borders)?);
    }
    at.map_or_else(|| rustix::fs::openat(folder, ".", flags, Mode::empty()), Ok)
}

/// One name of a walk.
fn step(folder: BorrowedFd<'_>, name: &str, flags: OFlags, borders: Borders) -> Result<OwnedFd, Errno> {
    if borders == Borders::Keep && is_mounted(folder, name) == Ok(true) {
        return Err(Errno::XDEV);
    }
    let opened = rustix::fs::openat(folder, name, flags, Mode::empty())?;
    // Somebody may have mounted it since.
    if borders == Borders::Keep && mount_of(opened.as_fd())? != mount_of(folder)? {
        return Err(Errno::XDEV);
    }
    Ok(opened)
}

/// Whether something is mounted at this name in this folder. A link there is not
/// followed.
pub(super) fn is_mounted(folder: BorrowedFd<'_>, name: &str) -> Result<bool, Errno> {
    #[cfg(target_os = "linux")]
    if let Ok(stat) = rustix::fs::statx(folder, name, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::TYPE)
        && stat.stx_attributes_mask.contains(StatxAttributes::MOUNT_ROOT)
    {
        return Ok(stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT));
    }
    let flags = OFlags::NOFOLLOW | OFlags::CLOEXEC | only_place();
    let there = rustix::fs::openat(folder, name, flags, Mode::empty())?;
    Ok(mount_of(there.as_fd())? != mount_of(folder)?)
}

/// On which mount an open file or folder is: the kernel's number of it, or the
/// file system's where the kernel does not tell (before Linux 5.8 and elsewhere).
pub(super) fn mount_of(fd: BorrowedFd<'_>) -> Result<u64, Errno> {
    #[cfg(target_os = "linux")]
    if let Ok(stat) = rustix::fs::statx(fd, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID)
        && StatxFlags::from_bits_retain(stat.stx_mask).contains(StatxFlags::MNT_ID)
    {
        return Ok(stat.stx_mnt_id);
    }
    #[allow(clippy::unnecessary_cast, clippy::cast_sign_loss, reason = "a device's number is signed elsewhere")]
    Ok(rustix::fs::fstat(fd)?.st_dev as u64)
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
        let by_hand = |path: &str| walk(folder.as_fd(), path, only_place() | OFlags::DIRECTORY, Borders::Keep);
        let open_folder = |folder, path: &str, links| open_folder(folder, path, links, Borders::Keep);
        for path in ["a", "a/b", "./a//b/", "."] {
            assert!(open_folder(folder.as_fd(), path, Links::Follow).is_ok(), "{path}");
            assert!(by_hand(path).is_ok(), "{path}");
        }
        for path in ["..", "a/../..", "out", "out/top", "a/up", "/", "/tmp"] {
            assert_eq!(open_folder(folder.as_fd(), path, Links::Follow).err(), Some(Errno::PERM), "{path}");
            // Absolute paths are refused before: the walk takes them as relative.
            assert!(path.starts_with('/') || by_hand(path).is_err(), "{path}");
        }
        assert_eq!(open_folder(folder.as_fd(), "in/b", Links::Refuse).err(), Some(Errno::LOOP));
        let found = open_folder(folder.as_fd(), "in/b", Links::Follow).unwrap();
        assert_eq!(path_of(found.as_fd()).unwrap(), top.canonicalize().unwrap().join("a/b"));
    }

    #[test]
    fn a_path_longer_than_the_kernel_takes_is_walked_in_pieces() {
        let top = tempfile::tempdir().unwrap();
        let root = fs::File::open(top.path()).unwrap();
        let name = "n".repeat(200);
        let (mut at, mut path) = (root.try_clone().unwrap().into(), String::new());
        while path.len() < 3 * MOST_AT_ONCE {
            rustix::fs::mkdirat(&at, name.as_str(), Mode::RWXU).unwrap();
            at = rustix::fs::openat(&at, name.as_str(), OFlags::DIRECTORY, Mode::empty()).unwrap();
            path = format!("{path}{name}/");
        }
        assert_eq!(path_of(at.as_fd()).unwrap_err().raw_os_error(), Some(Errno::NAMETOOLONG.raw_os_error()));
        let open = |path: &str| open_folder(root.as_fd(), path, Links::Refuse, Borders::Keep);
        let number = |fd: &OwnedFd| rustix::fs::fstat(fd).unwrap().st_ino;
        assert_eq!(number(&open(&path).unwrap()), number(&at));
        assert_eq!(open(&format!("{path}missing")).err(), Some(Errno::NOENT));
        assert_eq!(open(&format!("{path}../{name}")).err(), Some(Errno::NAMETOOLONG));
        assert_eq!(open(&"n".repeat(2 * MOST_AT_ONCE)).err(), Some(Errno::NAMETOOLONG));
        let levels = path.matches('/').count();
        assert_eq!(number(&above(at.as_fd(), levels).unwrap()), number(&root.try_clone().unwrap().into()));
        assert_eq!(number(&above(at.as_fd(), levels - 1).unwrap()), number(&open(&name).unwrap()));
        // A link on the way is met in whichever piece it is.
        symlink("/", top.path().join("out")).unwrap();
        assert_eq!(open(&format!("out/{path}")).err(), Some(Errno::LOOP));
        drop(at);
        // The folder is removed from its top: its paths are too long as well for whoever tests.
        std::process::Command::new("rm").arg("-rf").arg(top.path()).status().unwrap();
    }

    /// A folder with another one bound into it at `a/inner` and a file at `a/file`, on the same
    /// file system; unmounted when it goes.
    #[cfg(target_os = "linux")]
    struct Bound(tempfile::TempDir);

    #[cfg(target_os = "linux")]
    impl Bound {
        const AT: [&str; 2] = ["top/a/inner", "top/a/file"];

        fn new() -> Self {
            let around = tempfile::tempdir().unwrap();
            for folder in ["top/a/inner", "other/deep"] {
                fs::create_dir_all(around.path().join(folder)).unwrap();
            }
            for file in ["top/a/file", "precious"] {
                fs::write(around.path().join(file), file).unwrap();
            }
            let bound = Self(around);
            for (from, at) in ["other", "precious"].iter().zip(Self::AT) {
                let (from, at) = (bound.0.path().join(from), bound.0.path().join(at));
                let done = std::process::Command::new("mount").arg("--bind").arg(from).arg(at).status().unwrap();
                assert!(done.success(), "the tests mount as root");
            }
            bound
        }
    }

    #[cfg(target_os = "linux")]
    impl Drop for Bound {
        fn drop(&mut self) {
            for at in Self::AT {
                let _ = std::process::Command::new("umount").arg("-l").arg(self.0.path().join(at)).status();
            }
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn both_ways_of_resolving_enter_a_mount_only_where_they_may() {
        let bound = Bound::new();
        let folder = fs::File::open(bound.0.path().join("top")).unwrap();
        let flags = only_place() | OFlags::DIRECTORY;
        let by_hand = |path: &str, borders| walk(folder.as_fd(), path, flags, borders).map(drop);
        let by_kernel = |path: &str, borders| open_folder(folder.as_fd(), path, Links::Follow, borders).map(drop);
        for path in ["a/inner", "a/inner/deep", "./a//inner/", "a/inner/missing"] {
            assert_eq!(by_kernel(path, Borders::Keep), Err(Errno::XDEV), "{path}");
            assert_eq!(by_hand(path, Borders::Keep), Err(Errno::XDEV), "{path}");
        }
        for path in ["a", "a/inner", "a/inner/deep"] {
            assert_eq!(by_kernel(path, Borders::Cross), Ok(()), "{path}");
            assert_eq!(by_hand(path, Borders::Cross), Ok(()), "{path}");
        }
        assert_eq!(by_kernel("a/inner/../../..", Borders::Cross), Err(Errno::PERM));
        let a = fs::File::open(bound.0.path().join("top/a")).unwrap();
        for name in ["inner", "file"] {
            for way in [open_name, step] {
                assert_eq!(way(a.as_fd(), name, OFlags::RDONLY, Borders::Keep).err(), Some(Errno::XDEV), "{name}");
                assert!(way(a.as_fd(), name, OFlags::RDONLY, Borders::Cross).is_ok(), "{name}");
            }
            assert_eq!(is_mounted(a.as_fd(), name), Ok(true), "{name}");
        }
        assert_eq!(is_mounted(folder.as_fd(), "a"), Ok(false));
        assert!(open_name(folder.as_fd(), "a", flags, Borders::Keep).is_ok());
    }
}
