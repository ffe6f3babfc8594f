//! By what a mount is known: a small file in it, or, where the host may not
//! write there, the file system and the inode of its root. A disk that is not
//! mounted, or an empty folder in its place, is another.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::{AtFlags, Dir, Mode, OFlags};
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
/// is answered. Where it fails nothing is left behind.
pub(super) fn write(root: BorrowedFd<'_>, id: &str) -> io::Result<String> {
    clear_empty(root)?;
    let new = format!("{MARKER}.{id}");
    let linked = write_new(root, &new, id)
        // A link does not replace: whole, or not at all, and only one of two.
        .map(|()| rustix::fs::linkat(root, new.as_str(), root, MARKER, AtFlags::empty()));
    let _ = rustix::fs::unlinkat(root, new.as_str(), AtFlags::empty());
    match linked? {
        Ok(()) | Err(Errno::EXIST) => {}
        // Some file systems have no hard links.
        Err(_) => write_once(root, id)?,
    }
    sync_folder(root)?;
    read(root)?.ok_or_else(|| io::Error::other(format!("{MARKER} was written and is not there")))
}

fn write_new(root: BorrowedFd<'_>, name: &str, id: &str) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file: OwnedFd = rustix::fs::openat(root, name, flags, Mode::from_raw_mode(0o644))?;
    let text = format!("{id}\nsweepd knows this folder by this file: leave it where it is.\n");
    rustix::io::write(&file, text.as_bytes())?;
    Ok(rustix::fs::fsync(&file)?)
}

/// What somebody else is about to link is younger than this.
const LEFT_OVER: Duration = Duration::from_mins(1);

/// Removes what a host that was lost while it marked the folder left there.
pub(super) fn clear_left_over(root: BorrowedFd<'_>) -> io::Result<()> {
    let old = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().saturating_sub(LEFT_OVER);
    for entry in Dir::read_from(root)? {
        let entry = entry?;
        let Some(id) = entry.file_name().to_str().ok().and_then(|name| name.strip_prefix(MARKER)?.strip_prefix('.'))
        else {
            continue;
        };
        if id.len() != 32 || !id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            continue;
        }
        let stat = rustix::fs::statat(root, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW)?;
        #[allow(clippy::unnecessary_cast, reason = "it has another width elsewhere")]
        if u64::try_from(stat.st_mtime as i64).unwrap_or(0) <= old.as_secs() {
            rustix::fs::unlinkat(root, entry.file_name(), AtFlags::empty())?;
        }
    }
    Ok(())
}

fn write_once(root: BorrowedFd<'_>, id: &str) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match rustix::fs::openat(root, MARKER, flags, Mode::from_raw_mode(0o644)) {
        Ok(file) => {
            let text = format!("{id}\n");
            let written = rustix::io::write(&file, text.as_bytes()).map_err(io::Error::from);
            let whole = match written {
                Ok(written) if written < text.len() => Err(io::ErrorKind::StorageFull.into()),
                written => written.map(drop),
            };
            whole.inspect_err(|_| {
                let _ = rustix::fs::unlinkat(root, MARKER, AtFlags::empty());
            })
        }
        Err(Errno::EXIST) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// An empty marker is one that a full disk had no room for: it marks nothing, and is
/// in the way of one that does.
fn clear_empty(root: BorrowedFd<'_>) -> io::Result<()> {
    match rustix::fs::statat(root, MARKER, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) if stat.st_size == 0 => match rustix::fs::unlinkat(root, MARKER, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        },
        _ => Ok(()),
    }
}

fn sync_folder(root: BorrowedFd<'_>) -> io::Result<()> {
    let folder = rustix::fs::openat(root, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    Ok(rustix::fs::fsync(folder)?)
}

/// By what a folder is known without a marker.
pub(super) fn of_root(root: impl AsFd) -> io::Result<String> {
    let inode = rustix::fs::fstat(&root)?.st_ino;
    let filesystem = rustix::fs::fstatvfs(&root)?.f_fsid;
    Ok(format!("filesystem {filesystem:x} inode {inode}"))
}

/// Whether an id is that of a root.
pub(super) fn is_of_root(id: &str) -> bool {
    id.starts_with("filesystem ")
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
        let again = new_id();
        assert_eq!(write(root.as_fd(), &again).unwrap(), again, "an empty one marks nothing");
    }

    /// As where a file has no second name.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_marker_without_room_is_not_left_empty() {
        use crate::disk::small::SmallDisk;
        let disk = SmallDisk::new(64 << 10);
        let root = File::open(disk.path()).unwrap();
        std::fs::write(disk.path().join("filler"), vec![7; 1 << 20]).unwrap_err();
        assert!(crate::disk::is_full(&write_once(root.as_fd(), &new_id()).unwrap_err()));
        assert!(!disk.path().join(MARKER).exists());
        std::fs::remove_file(disk.path().join("filler")).unwrap();
        let id = new_id();
        write_once(root.as_fd(), &id).unwrap();
        assert_eq!(read(root.as_fd()).unwrap(), Some(id));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_folder_that_cannot_be_marked_is_left_as_it_was() {
        use crate::disk::small::SmallDisk;
        let disk = SmallDisk::new(64 << 10);
        let root = File::open(disk.path()).unwrap();
        // A name takes no room on this file system, and a byte takes a page.
        let error = std::fs::write(disk.path().join("filler"), vec![7; 1 << 20]).unwrap_err();
        assert!(crate::disk::is_full(&error), "{error}");
        for _ in 0..3 {
            assert!(crate::disk::is_full(&write(root.as_fd(), &new_id()).unwrap_err()));
        }
        let names = || std::fs::read_dir(disk.path()).unwrap().map(|entry| entry.unwrap().file_name());
        assert_eq!(names().collect::<Vec<_>>(), ["filler"]);
    }

    #[test]
    fn what_a_lost_host_left_is_cleared_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let root = File::open(folder.path()).unwrap();
        let id = write(root.as_fd(), &new_id()).unwrap();
        let left = format!("{MARKER}.{}", new_id());
        let young = format!("{MARKER}.{}", new_id());
        let others = [".sweepd-mount.note", "x"];
        for name in [&*left, &*young, others[0], others[1]] {
            File::create(folder.path().join(name)).unwrap();
        }
        for name in [&*left, others[0], others[1]] {
            let file = File::options().write(true).open(folder.path().join(name)).unwrap();
            file.set_modified(SystemTime::now() - 2 * LEFT_OVER).unwrap();
        }
        clear_left_over(root.as_fd()).unwrap();
        assert!(!folder.path().join(left).exists());
        assert!(folder.path().join(young).exists(), "somebody may be about to link it");
        assert!(others.iter().all(|name| folder.path().join(name).exists()));
        assert_eq!(read(root.as_fd()).unwrap(), Some(id));
    }

    #[test]
    fn another_folder_of_the_same_file_system_is_another() {
        let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let of = |folder: &tempfile::TempDir| of_root(File::open(folder.path()).unwrap()).unwrap();
        assert_eq!(of(&a), of(&a));
        assert_ne!(of(&a), of(&b));
    }
}
