//! What a full disk asks of those who write: space that is taken ahead of need,
//! pages that can be written again without new space, and errors that are told
//! from others. It does not know what the files hold.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use rustix::fs::FallocateFlags;
use rustix::io::Errno;

/// Zeros are written in pieces of this size. The kernel keeps what is written at
/// once as one large page, and a small write into a large page is slow: 8 µs
/// instead of 0.5 on ext4.
const PIECE: usize = 4096;

/// Whether the disk, or a quota on it, has no room left, or the file may become no
/// larger (`ulimit -f`). A file system without a free inode answers as a full one.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge)
}

/// Takes the space of the first `size` bytes of an empty file, all zeros.
pub(crate) fn allocate(file: &File, size: u64) -> io::Result<()> {
    write_in_place(file);
    match rustix::fs::fallocate(file, FallocateFlags::empty(), 0, size) {
        Ok(()) => file.set_len(size),
        // Not every file system can be asked, and a sandbox above may refuse the call.
        Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL | Errno::PERM) => write_zeros(file, size),
        Err(error) => Err(error.into()),
    }
}

/// Makes the first `size` bytes of a file zeros, in the space that it has.
pub(crate) fn blank(file: &File, size: u64) -> io::Result<()> {
    file.set_len(size)?;
    #[cfg(target_os = "linux")]
    match rustix::fs::fallocate(file, FallocateFlags::ZERO_RANGE, 0, size) {
        Ok(()) => return Ok(()),
        Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL | Errno::PERM) => {}
        Err(error) => return Err(error.into()),
    }
    write_zeros(file, size)
}

fn write_zeros(file: &File, size: u64) -> io::Result<()> {
    let zeros = [0; PIECE];
    let mut at = 0;
    while at < size {
        let length = usize::try_from(size - at).unwrap_or(PIECE).min(PIECE);
        file.write_all_at(&zeros[..length], at)?;
        at += length as u64;
    }
    Ok(())
}

/// Lets an empty file be written again in place, where its file system would put
/// each new version of a page elsewhere (btrfs). Otherwise a page that has its
/// space already needs more when it is written again, and on a full disk a write
/// fails, or, through a mapping, ends the process by SIGBUS. Best effort.
pub(crate) fn write_in_place(file: &File) {
    #[cfg(target_os = "linux")]
    if rustix::fs::fstatfs(file).is_ok_and(|about| is_btrfs(&about))
        && let Ok(flags) = rustix::fs::ioctl_getflags(file)
        && let Err(error) = rustix::fs::ioctl_setflags(file, flags | rustix::fs::IFlags::NOCOW)
    {
        tracing::debug!("a file could not be made to be written in place: {error}");
    }
    #[cfg(not(target_os = "linux"))]
    let _ = file;
}

/// Whether [`write_in_place`] makes a difference for files in this folder.
pub(crate) fn copies_on_write(folder: &Path) -> bool {
    #[cfg(target_os = "linux")]
    return rustix::fs::statfs(folder).is_ok_and(|about| is_btrfs(&about));
    #[cfg(not(target_os = "linux"))]
    {
        let _ = folder;
        false
    }
}

#[cfg(target_os = "linux")]
#[allow(clippy::unnecessary_cast, clippy::cast_lossless, reason = "the magic number has another width elsewhere")]
fn is_btrfs(about: &rustix::fs::StatFs) -> bool {
    // `BTRFS_SUPER_MAGIC` of linux/magic.h.
    about.f_type as i64 & 0xFFFF_FFFF == 0x9123_683E
}

/// How large the file system of a folder is, and how much of it is free for
/// whoever is no administrator, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Room {
    pub(crate) size: u64,
    pub(crate) free: u64,
}

/// The room on the file system of this folder.
pub(crate) fn room(folder: &Path) -> io::Result<Room> {
    let stat = rustix::fs::statvfs(folder)?;
    let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
    Ok(Room { size: bytes(stat.f_blocks), free: bytes(stat.f_bavail) })
}

/// A file system of its own for a test, in memory. Mounting takes root.
#[cfg(all(test, target_os = "linux"))]
pub(crate) mod small {
    use std::path::Path;
    use std::process::Command;

    pub(crate) struct SmallDisk(tempfile::TempDir);

    impl SmallDisk {
        pub(crate) fn new(bytes: u64) -> Self {
            let folder = tempfile::tempdir().expect("a folder");
            let options = format!("size={bytes}");
            let mount = ["-t", "tmpfs", "-o", &options, "tmpfs"];
            let mounted = Command::new("mount").args(mount).arg(folder.path()).status().expect("mount starts");
            assert!(mounted.success(), "mounting takes root");
            Self(folder)
        }

        pub(crate) fn path(&self) -> &Path {
            self.0.path()
        }
    }

    impl Drop for SmallDisk {
        fn drop(&mut self) {
            // Also while something in it is still open.
            let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_allocated_and_what_is_blanked_is_zeros() {
        let file = tempfile::tempfile().unwrap();
        allocate(&file, 10_000).unwrap();
        file.write_all_at(&[7; 10_000], 0).unwrap();
        blank(&file, 10_000).unwrap();
        let mut bytes = vec![1; 10_000];
        file.read_exact_at(&mut bytes, 0).unwrap();
        assert!(bytes.iter().all(|byte| *byte == 0));
        file.write_all_at(&[7; 10_000], 0).unwrap();
        write_zeros(&file, 10_000).unwrap();
        file.read_exact_at(&mut bytes, 0).unwrap();
        assert!(bytes.iter().all(|byte| *byte == 0));
    }

    #[test]
    fn a_full_disk_is_told_from_other_errors() {
        for full in [Errno::NOSPC, Errno::DQUOT, Errno::FBIG] {
            assert!(is_full(&full.into()), "{full}");
        }
        for other in [Errno::IO, Errno::ACCESS, Errno::NFILE] {
            assert!(!is_full(&other.into()), "{other}");
        }
    }
}
