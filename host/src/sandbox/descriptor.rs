//! What a guest holds open: folders and files, each with its mount and the place
//! at which it was found.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::Stat;
use rustix::io::Errno;
use wasmtime::component::Resource;
use wasmtime_wasi::filesystem::Descriptor;

use crate::domain::budget::Spent;
use crate::domain::effect::Operation;
use crate::domain::rights::Right;

use super::call::Call;
use super::deeds::{Deed, NotDone};
use super::done::Writes;
use super::gate::Permit;
use super::mounts::Mount;
use super::place::{At, Folder, Place, path_within};

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
    /// The call whose writes to this file are on record, and these.
    noted: Mutex<Option<(u64, Arc<Writes>)>>,
    /// The holds that it was found free of last.
    free_of: AtomicU64,
}

/// The right to write so many bytes to an open file now. What is not written
/// of them is given back when it is dropped.
pub(super) struct Writing<'call> {
    call: &'call Call,
    mount: Arc<Mount>,
    writes: Arc<Writes>,
    charged: Spent,
    #[allow(dead_code, reason = "held, not read: dropping it is its use")]
    permit: Permit<'call>,
}

impl Writing<'_> {
    /// So many bytes were written.
    pub(super) fn done(mut self, bytes: usize) {
        let bytes = bytes as u64;
        self.writes.add(bytes);
        self.charged.written = self.charged.written.saturating_sub(bytes);
    }

    /// A write was interrupted, and is tried again.
    pub(super) fn was_interrupted(&self, error: &io::Error) {
        self.writes.failed(error);
    }

    /// A write was answered with this: why it was not done.
    pub(super) fn failed(&self, error: &io::Error) -> NotDone {
        self.writes.failed(error);
        self.call.refused_by(&self.mount, Errno::from_io_error(error).unwrap_or(Errno::IO))
    }
}

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        // What may have been written stays charged.
        if self.charged.written > 0 && !self.writes.is_perhaps() {
            self.call.custody.meter.give_back(self.charged);
        }
    }
}

impl OpenFile {
    pub(super) fn new(file: File, place: Place, reads: bool, writes: bool) -> Self {
        Self { file, place, reads, writes, noted: Mutex::default(), free_of: AtomicU64::new(u64::MAX) }
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    pub(super) fn stat(&self) -> Result<Stat, Errno> {
        rustix::fs::fstat(&self.file)
    }

    /// Its place, where it is by now: somebody may have renamed it since it was
    /// opened. What has no name any more keeps the last one.
    pub(super) fn found_again(&self) -> Place {
        let folder = Folder { at: At::Top, ..self.place.folder.clone() };
        match path_within(self.place.mount(), self.fd()) {
            Ok(path) => {
                let (parent, name) = path.rsplit_once('/').unwrap_or(("", &path));
                Place {
                    folder: Folder { path: parent.to_owned(), ..folder },
                    name: name.to_owned(),
                    must_be_folder: false,
                }
            }
            Err(_) => self.place.clone(),
        }
    }

    /// The right to write so many bytes to it now. The first time in a call it is
    /// put on record.
    pub(super) fn may_write<'call>(&self, call: &'call Call, bytes: usize) -> Result<Writing<'call>, NotDone> {
        if !self.writes {
            return Err(Errno::BADF.into());
        }
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        let writes = match &*noted {
            Some((number, writes)) if *number == call.number() => Arc::clone(writes),
            _ => {
                call.must_have(self.place.mount(), Right::Write, "write")?;
                let place = self.found_again();
                call.must_be_free(&place, false)?;
                // Before it is put on record: what may not be done is no effect.
                drop(call.permit().map_err(NotDone::Interrupted)?);
                let deed = Deed { before: Some(self.stat()?), ..Deed::new(Operation::Write, &place) };
                let writes = call.begin_deed(&deed)?;
                *noted = Some((call.number(), Arc::clone(&writes)));
                writes
            }
        };
        drop(noted);
        let charged = call.charge_write(bytes as u64)?;
        let writing = match call.permit() {
            Ok(permit) => Writing { call, mount: Arc::clone(self.place.mount()), writes, charged, permit },
            Err(interrupt) => {
                call.custody.meter.give_back(charged);
                return Err(NotDone::Interrupted(interrupt));
            }
        };
        // Under the permit: a hold that stands by now is not overlooked, also not
        // by a call that has written before.
        let holds = call.custody.holds.load().number();
        if self.free_of.load(Ordering::Relaxed) != holds {
            call.must_be_free(&self.found_again(), false)?;
            self.free_of.store(holds, Ordering::Relaxed);
        }
        Ok(writing)
    }
}
