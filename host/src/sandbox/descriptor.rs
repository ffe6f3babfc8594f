//! What a guest holds open: folders and files, each with its mount and the place
//! at which it was found.

use std::fs::File;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::Stat;
use rustix::io::Errno;
use wasmtime::component::Resource;
use wasmtime_wasi::filesystem::Descriptor;

use crate::domain::effect::Operation;
use crate::domain::rights::Right;

use super::call::Call;
use super::deeds::{Deed, NotDone};
use super::gate::Permit;
use super::place::{Folder, Place};

/// A descriptor of a guest. It stands in the table where WASI's own would.
#[derive(Debug)]
pub(super) enum Open {
    Folder(Folder),
    File(Arc<OpenFile>),
}

/// The place of a descriptor in the table.
pub(super) fn open_of(descriptor: &Resource<Descriptor>) -> Resource<Open> {
    Resource::new_borrow(descriptor.rep())
}

/// An open file.
#[derive(Debug)]
pub(super) struct OpenFile {
    pub(super) file: File,
    pub(super) place: Place,
    pub(super) reads: bool,
    pub(super) writes: bool,
    /// The call whose writes to this file are on record; 0 for none.
    noted: AtomicU64,
}

impl OpenFile {
    pub(super) fn new(file: File, place: Place, reads: bool, writes: bool) -> Self {
        Self { file, place, reads, writes, noted: AtomicU64::new(0) }
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    pub(super) fn stat(&self) -> Result<Stat, Errno> {
        rustix::fs::fstat(&self.file)
    }

    /// The right to write to it now. The first time in a call it is put on
    /// record.
    pub(super) fn may_write<'call>(&self, call: &'call Call) -> Result<Permit<'call>, NotDone> {
        if !self.writes {
            return Err(Errno::BADF.into());
        }
        if self.noted.load(Ordering::Relaxed) != call.number() {
            call.must_have(self.place.mount(), Right::Write, "write")?;
            call.must_be_free(&self.place, false)?;
            let (place, before) = (&self.place, Some(self.stat()?));
            call.begin_deed(&Deed { operation: Operation::Write, place, to: None, before, trashed: false })?;
            self.noted.store(call.number(), Ordering::Relaxed);
        }
        call.permit().map_err(NotDone::Interrupted)
    }
}
