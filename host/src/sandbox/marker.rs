//! By what a mount is known: a small file in it, or, where the host may not
//! write there, the file system and the inode of its root. A disk that is not
//! mounted, or an empty folder in its place, is another.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

/// The marker's name in the mount.
pub(super) const MARKER: &str = ".sweepd-mount";

/// Longest content that is read.
const LONGEST: usize = 128;

/// The marker in this folder; `None` where there is none.
pub(super) fn read(root: BorrowedFd<'_>) -> io::Result<Option<String>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match rustix::fs::openat(root, MARKER, flags, Mode::empty()) {
        Ok(file) => file,
        Err(Errno::NOENT) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let mut bytes = [0; LONGEST];
    let length = rustix::io::read(&file, &mut bytes)?;
    let text = String::from_utf8_lossy(&bytes[..length]);
    let id = text.lines().next().unwrap_or("").trim().to_owned();
    if id.is_empty() { Ok(None) } else { Ok(Some(id)) }
}

/// An id for a folder that has none.
pub(super) fn new_id() -> String {
    format!("{:016x}{:016x}", fastrand::u64(..), fastrand::u64(..))
}

/// Marks the folder with this id, durably; where somebody was faster, theirs
/// is answered.
pub(super) fn write(root: BorrowedFd<'_>, id: &str) -> io::Result<String> {
    let new = format!("{MARKER}.{id}");
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file: OwnedFd = rustix::fs::openat(root, new.as_str(), flags, Mode::from_raw_mode(0o644))?;
    let text = format!("{id}\nsweepd knows this folder by this file: leave it where it is.\n");
    rustix::io::write(&file, text.as_bytes())?;
    rustix::fs::fsync(&file)?;
    // A link does not replace: whole, or not at all, and only one of two.
    let linked = rustix::fs::linkat(root, new.as_str(), root, MARKER, AtFlags::empty());
    let _ = rustix::fs::unlinkat(root, new.as_str(), AtFlags::empty());
    match linked {
        Ok(()) | Err(Errno::EXIST) => {}
        // Some file systems have no hard links.
        Err(_) => write_once(root, id)?,
    }
    sync_folder(root)?;
    read(root)?.ok_or_else(|| io::Error::other(format!("{MARKER} was written and is not there")))
}

fn write_once(root: BorrowedFd<'_>, id: &str) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match rustix::fs::openat(root, MARKER, flags, Mode::from_raw_mode(0o644)) {
        Ok(file) => Ok(rustix::io::write(&file, format!("{id}\n").as_bytes()).map(drop)?),
        Err(Errno::EXIST) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn sync_folder(root: BorrowedFd<'_>) -> io::Result<()> {
    let folder = rustix::fs::openat(root, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    Ok(rustix::fs::fsync(folder)?)
}

/// By what a folder is known in which the host writes nothing.
pub(super) fn of_read_only(root: impl AsFd) -> io::Result<String> {
    let inode = rustix::fs::fstat(&root)?.st_ino;
    let filesystem = rustix::fs::fstatvfs(&root)?.f_fsid;
    Ok(format!("filesystem {filesystem:x} inode {inode}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    #[test]
    fn a_folder_is_marked_once() {
        let folder = tempfile::tempdir().unwrap();
        let root = File::open(folder.path()).unwrap();
        assert_eq!(read(root.as_fd()).unwrap(), None);
        let id = new_id();
        assert_eq!(write(root.as_fd(), &id).unwrap(), id);
        assert_eq!(read(root.as_fd()).unwrap(), Some(id.clone()));
        assert_eq!(write(root.as_fd(), &new_id()).unwrap(), id, "whoever comes second takes what is there");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        std::fs::write(folder.path().join(MARKER), "").unwrap();
        assert_eq!(read(root.as_fd()).unwrap(), None);
    }

    #[test]
    fn another_folder_of_the_same_file_system_is_another() {
        let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let of = |folder: &tempfile::TempDir| of_read_only(File::open(folder.path()).unwrap()).unwrap();
        assert_eq!(of(&a), of(&a));
        assert_ne!(of(&a), of(&b));
    }
}
