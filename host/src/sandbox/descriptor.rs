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

use crate::domain::effect::Operation;
use crate::domain::rights::Right;

use super::call::Call;
use super::deeds::{Begun, Deed, NotDone};
use super::gate::Permit;
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
    /// The call whose writes to this file are on record, and whether any was
    /// made.
    noted: Mutex<Option<(u64, Arc<Begun>)>>,
    /// The holds that it was found free of last.
    free_of: AtomicU64,
}

/// The right to write to an open file now.
pub(super) struct Writing<'call> {
    begun: Arc<Begun>,
    #[allow(dead_code, reason = "held, not read: dropping it is its use")]
    permit: Permit<'call>,
}

impl Writing<'_> {
    /// Something was written.
    pub(super) fn done(&self) {
        self.begun.done();
    }

    /// A write was answered with this.
    pub(super) fn failed(&self, error: io::Error) -> io::Error {
        self.begun.failed(&error);
        error
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

    /// The right to write to it now. The first time in a call it is put on
    /// record.
    pub(super) fn may_write<'call>(&self, call: &'call Call) -> Result<Writing<'call>, NotDone> {
        if !self.writes {
            return Err(Errno::BADF.into());
        }
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        let begun = match &*noted {
            Some((number, begun)) if *number == call.number() => Arc::clone(begun),
            _ => {
                call.must_have(self.place.mount(), Right::Write, "write")?;
                let place = self.found_again();
                call.must_be_free(&place, false)?;
                // Before it is put on record: what may not be done is no effect.
                drop(call.permit().map_err(NotDone::Interrupted)?);
                let (operation, before) = (Operation::Write, Some(self.stat()?));
                let begun = call.begin_deed(&Deed {
                    operation,
                    place: &place,
                    to: None,
                    before,
                    trashed: false,
                    fresh: false,
                })?;
                *noted = Some((call.number(), Arc::clone(&begun)));
                begun
            }
        };
        drop(noted);
        let permit = call.permit().map_err(NotDone::Interrupted)?;
        // Under the permit: a hold that stands by now is not overlooked, also not
        // by a call that has written before.
        let holds = call.custody.holds.load().number();
        if self.free_of.load(Ordering::Relaxed) != holds {
            call.must_be_free(&self.found_again(), false)?;
            self.free_of.store(holds, Ordering::Relaxed);
        }
        Ok(Writing { begun, permit })
    }
}
