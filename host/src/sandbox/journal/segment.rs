//! One file of a journal. What is written to it stands in the kernel's page
//! cache at once, and survives the death of the process.
//!
//! ```text
//!  record │ record │ record │ 0 0 0 …
//! ```
//! The disk has given the space of the whole file before anything is written.
//! Records are written by `pwrite`, not through a mapping: a disk that has no
//! room after all, or a file that somebody cut, is an error then and no signal.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::spare::Spares;
use crate::disk;

/// Bytes of a segment; fewer where the disk had no room for so many.
pub(super) const SIZE: u64 = 4 << 20;

pub(super) const SUFFIX: &str = "effects";

/// The file. It is locked while its host lives.
#[derive(Debug)]
pub(super) struct Segment {
    path: PathBuf,
    file: File,
    size: u64,
    spares: Arc<Spares>,
    /// Effects that are not in the database yet; one more while it is the
    /// segment that is written to.
    open: AtomicU64,
}

impl Segment {
    /// The segment of this number, made of a spare file where there is one.
    pub(super) fn begin(spares: &Arc<Spares>, journal: u64, number: u64) -> io::Result<Arc<Self>> {
        let path = spares.folder().join(format!("{journal:016x}-{number:010}.{SUFFIX}"));
        let (file, size) = spares.take(&path)?;
        spares.one_more();
        Ok(Arc::new(Self { path, file, size, spares: Arc::clone(spares), open: AtomicU64::new(1) }))
    }

    /// Bytes of this one.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes records, all or, as far as their reader is concerned, none.
    pub(super) fn write(&self, records: &[u8], at: u64) -> io::Result<()> {
        self.file.write_all_at(records, at).inspect_err(|_| {
            // What was written of them must not be taken for a damaged record.
            let _ = self.file.write_all_at(&vec![0; records.len()], at);
        })
    }

    /// Whether the file is as long as it was made, and still has its name.
    pub(super) fn stands(&self) -> bool {
        self.file.metadata().is_ok_and(|file| file.nlink() > 0 && file.len() == self.size)
    }

    /// One more effect in it is not in the database.
    pub(super) fn opens(&self) {
        self.open.fetch_add(1, Ordering::SeqCst);
    }

    /// Makes it empty again where the database has all of it and nobody but its
    /// writer, who asks, uses it.
    pub(super) fn begin_anew(&self) -> io::Result<bool> {
        if self.open.load(Ordering::SeqCst) > 1 {
            return Ok(false);
        }
        disk::blank(&self.file, self.size).map(|()| true)
    }

    /// One is, or nothing is written to it any more. After the last the file
    /// becomes a spare one, or goes.
    pub(super) fn settle(&self) {
        if self.open.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.spares.one_less();
            self.spares.keep(&self.path, &self.file, self.size);
        }
    }
}
