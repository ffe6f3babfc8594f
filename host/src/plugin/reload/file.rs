//! Reads a plugin's file, which somebody may be writing at the time.

use std::io::{self, Read as _};
use std::path::Path;

use rustix::fs::{Mode, OFlags};

use crate::domain::digest::Digest;
use crate::plugin::compile::MAX_COMPONENT;
use crate::plugin::watch::Stamp;

/// A file that changes while it is read is read again, so often.
const READS: usize = 5;

/// The file's content, where it is this very component.
pub(super) fn read_only(file: &Path, digest: Digest) -> Option<Vec<u8>> {
    read(file).ok().filter(|bytes| Digest::of(bytes) == digest)
}

/// Reads a file once, whole, and unchanged while it was read.
pub(super) fn read(file: &Path) -> io::Result<Vec<u8>> {
    for _ in 0..READS {
        // Not waiting for whoever would write into a named pipe.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let mut open = std::fs::File::from(rustix::fs::open(file, flags, Mode::empty())?);
        let before = open.metadata()?;
        if !before.is_file() {
            return Err(io::Error::other("is not a regular file"));
        }
        if before.len() > MAX_COMPONENT {
            return Err(io::Error::other(format!("is larger than {MAX_COMPONENT} bytes")));
        }
        let mut bytes = Vec::with_capacity(usize::try_from(before.len()).unwrap_or(0) + 1);
        open.by_ref().take(MAX_COMPONENT + 1).read_to_end(&mut bytes)?;
        let after = open.metadata()?;
        if Stamp::of(&before) == Stamp::of(&after) && bytes.len() as u64 == after.len() {
            return Ok(bytes);
        }
    }
    Err(io::Error::other("changes while it is read; it is tried again when it rests"))
}
