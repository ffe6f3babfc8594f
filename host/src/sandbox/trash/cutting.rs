//! Cutting a large file down before it is removed: giving back a terabyte in one
//! call can hold up a whole file system.
//!
//! It goes by what the file takes of the disk: holes are passed over. Whoever has
//! the file open, or mapped, would read zeros or die of a signal, so that only what
//! nobody else has open is cut.

use std::fs::File;
use std::io;

use super::allocated;

/// Cuts the file from its end while it takes more than `step` of the disk and
/// nobody else opens it. `go_on` is told how much each cut gave back, and answers
/// whether to go on. Answers how much it still takes; `None` where it was to stop.
pub(super) fn cut_down(file: &File, step: u64, go_on: &mut impl FnMut(u64) -> bool) -> io::Result<Option<u64>> {
    let mut is_first = true;
    loop {
        let stat = rustix::fs::fstat(file)?;
        let (size, space) = (u64::try_from(stat.st_size).unwrap_or(0), allocated(&stat));
        if space <= step || size == 0 || !(std::mem::take(&mut is_first) || is_ours_alone(file)) {
            return Ok(Some(space));
        }
        // What was allocated ahead is no data yet, and takes as much.
        let end = if space.saturating_add(step) < size { end_of_data(file, size, step) } else { size };
        file.set_len(end.saturating_sub(step))?;
        let left = allocated(&rustix::fs::fstat(file)?);
        if !go_on(space.saturating_sub(left)) {
            return Ok(None);
        }
    }
}

/// Where the data ends, to the nearest mebibyte, where the last `step` of the file
/// is a hole; else, and where that cannot be told, the size.
#[cfg(target_os = "linux")]
fn end_of_data(file: &File, size: u64, step: u64) -> u64 {
    use rustix::fs::{SeekFrom, seek};
    use rustix::io::Errno;
    const NEAR: u64 = 1 << 20;
    let has_data_from = |at: u64| match seek(file, SeekFrom::Data(at)) {
        Ok(_) => Some(true),
        Err(Errno::NXIO) => Some(false),
        Err(_) => None,
    };
    let mut end = size.saturating_sub(step);
    if has_data_from(end) != Some(false) {
        return size;
    }
    let mut data = 0;
    while end - data > NEAR {
        let middle = data + (end - data) / 2;
        match has_data_from(middle) {
            Some(true) => data = middle,
            Some(false) => end = middle,
            None => return size,
        }
    }
    end
}

#[cfg(not(target_os = "linux"))]
fn end_of_data(_: &File, size: u64, _: u64) -> u64 {
    size
}

/// Whether nobody else has the file open: only then the kernel grants a lease on
/// writing it, which is given back at once. Where that cannot be told, as on most
/// file systems of a network, it is taken for open.
#[cfg(target_os = "linux")]
#[allow(unsafe_code, reason = "rustix has no leases; the calls take numbers only, and the file is open")]
pub(super) fn is_ours_alone(file: &File) -> bool {
    use std::os::fd::AsRawFd as _;
    /// `fcntl.h` of Linux; the crate does not name it for every C library.
    const F_SETSIG: libc::c_int = 10;
    let fd = file.as_raw_fd();
    // Whoever opens the file in this instant makes the kernel tell us: by a signal
    // that is ignored, and not by one that ends the process.
    // SAFETY: `fcntl` with these commands takes a number and touches no memory of ours.
    let (told, leased) = unsafe {
        let told = libc::fcntl(fd, F_SETSIG, libc::SIGURG);
        (told, if told == 0 { libc::fcntl(fd, libc::F_SETLEASE, libc::F_WRLCK) } else { -1 })
    };
    if leased == 0 {
        // SAFETY: as above.
        unsafe { libc::fcntl(fd, libc::F_SETLEASE, libc::F_UNLCK) };
    }
    told == 0 && leased == 0
}

#[cfg(not(target_os = "linux"))]
pub(super) fn is_ours_alone(_: &File) -> bool {
    false
}
