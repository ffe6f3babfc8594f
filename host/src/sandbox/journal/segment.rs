//! One file of a journal, mapped into memory: what is written to it stands in
//! the kernel's page cache at once, and survives the death of the process as if
//! `write(2)` had put it there, without the price of a system call.
//!
//! ```text
//!  length · checksum · record │ length · checksum · record │ 0 0 0 …
//! ```
//! A record's head is written after the record, so that a killed host leaves
//! whole records only. The disk has given the space of the whole file before
//! anything is written, and pages are asked for by a call that can fail before
//! they are touched: a full disk refuses a record, and does not end the process.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering, fence};

use memmap2::MmapMut;
use rustix::fs::FallocateFlags;
use rustix::io::Errno;
use serde::Serialize;

/// Bytes of a segment.
const SIZE: usize = 4 << 20;

/// Length and checksum of a record.
pub(super) const HEAD: usize = 8;

/// So many bytes are asked for at a time.
const WINDOW: usize = 256 << 10;

pub(super) const SUFFIX: &str = "effects";

/// The file. It is locked while its host lives.
#[derive(Debug)]
pub(super) struct Segment {
    path: PathBuf,
    #[allow(dead_code, reason = "held, not read: closing it ends the lock")]
    file: File,
    /// Effects that are not in the database yet; one more while it is the
    /// segment that is written to.
    open: AtomicU64,
    /// How many segments of the journal there are; one less when this goes.
    all: Arc<AtomicU64>,
}

/// The bytes of the file.
#[derive(Debug)]
pub(super) struct Pages {
    map: MmapMut,
    written: usize,
    /// Up to here pages were asked for.
    ready: usize,
}

impl Segment {
    /// Makes the segment of this number.
    pub(super) fn create(
        folder: &Path,
        journal: u64,
        number: u64,
        all: &Arc<AtomicU64>,
    ) -> io::Result<(Arc<Self>, Pages)> {
        let path = folder.join(format!("{journal:016x}-{number:010}.{SUFFIX}"));
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path)?;
        let pages = file.try_lock().map_err(io::Error::from).and_then(|()| reserve(&file)).and_then(|()| map(&file));
        match pages {
            Ok(map) => {
                let pages = Pages { map, written: 0, ready: 0 };
                all.fetch_add(1, Ordering::Relaxed);
                Ok((Arc::new(Self { path, file, open: AtomicU64::new(1), all: Arc::clone(all) }), pages))
            }
            Err(error) => {
                // Nothing is in it.
                let _ = fs::remove_file(&path);
                Err(error)
            }
        }
    }

    /// One more effect in it is not in the database.
    pub(super) fn opens(&self) {
        self.open.fetch_add(1, Ordering::SeqCst);
    }

    /// One is, or nothing is written to it any more. After the last it goes.
    pub(super) fn settle(&self) {
        if self.open.fetch_sub(1, Ordering::SeqCst) > 1 {
            return;
        }
        self.all.fetch_sub(1, Ordering::Relaxed);
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!("{} could not be removed: {error}", self.path.display());
        }
    }
}

/// Takes the disk space of a whole segment, all zeros.
fn reserve(mut file: &File) -> io::Result<()> {
    match rustix::fs::fallocate(file, FallocateFlags::empty(), 0, SIZE as u64) {
        Ok(()) => file.set_len(SIZE as u64),
        // Not every file system can be asked.
        Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => file.write_all(&vec![0; SIZE]),
        Err(error) => Err(error.into()),
    }
}

#[allow(unsafe_code, reason = "the one way to map a file; see below why nobody else changes it")]
fn map(file: &File) -> io::Result<MmapMut> {
    // SAFETY: the file was made by this process just now, under a name that was
    // not there, in the state folder, which is the host's alone: no mount may
    // hold or lie in it. It is locked, kept open as long as it is mapped, never
    // made shorter, and written to through this map only.
    unsafe { MmapMut::map_mut(file) }.map_err(|error| {
        let help =
            "the state folder has to be on a file system whose files can be mapped into memory, as local disks are";
        io::Error::new(error.kind(), format!("{error}; {help}"))
    })
}

impl Pages {
    /// Writes a record, encoded in its place. `false` where it has no room.
    pub(super) fn append(&mut self, record: &impl Serialize) -> io::Result<bool> {
        let head = self.written + HEAD;
        let length = loop {
            match self.map.get_mut(head..self.ready).map(|room| postcard::to_slice(record, room)) {
                Some(Ok(encoded)) => break encoded.len(),
                None | Some(Err(postcard::Error::SerializeBufferFull)) if self.ready < SIZE => self.make_ready()?,
                None => return Ok(false),
                Some(Err(error)) => {
                    // What follows the last record has to be zeros.
                    self.map[head..].fill(0);
                    let is_full = error == postcard::Error::SerializeBufferFull;
                    return if is_full { Ok(false) } else { Err(io::Error::other(error)) };
                }
            }
        };
        let sum = crc32fast::hash(&self.map[head..head + length]);
        // The head makes it a record: it is put there last, and in one piece.
        fence(Ordering::Release);
        let both = u64::from(sum) << 32 | length as u64;
        self.map[self.written..head].copy_from_slice(&both.to_le_bytes());
        self.written = head + length;
        Ok(true)
    }

    /// Asks for more pages. To touch one that cannot be had would end the
    /// process.
    fn make_ready(&mut self) -> io::Result<()> {
        let length = WINDOW.min(SIZE - self.ready);
        #[cfg(target_os = "linux")]
        match self.map.advise_range(memmap2::Advice::PopulateWrite, self.ready, length) {
            // A kernel before 5.14 cannot be asked.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {}
            answer => answer?,
        }
        self.ready += length;
        Ok(())
    }
}
