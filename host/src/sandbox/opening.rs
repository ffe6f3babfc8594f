//! Opening files and folders for a guest.
//!
//! Only ordinary files and folders are opened: a named pipe or a device could
//! hold the thread for ever, where no deadline reaches it. A file that has to be
//! made is made by itself, and one that is to be emptied is emptied after it was
//! opened, so that each is an effect of its own.

use std::fs::File;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;

use rustix::fs::{FileType, OFlags};
use rustix::io::Errno;
use wasmtime_wasi::p2::FsResult;
use wasmtime_wasi::p2::bindings::filesystem::types::ErrorCode;
use wasmtime_wasi::p2::bindings::sync::filesystem::types::{DescriptorFlags, OpenFlags, PathFlags};

use crate::domain::rights::Right;

use super::beneath;
use super::call::Call;
use super::deeds::NotDone;
use super::descriptor::{Open, OpenFile};
use super::place::{Folder, Place, Spot};
use super::view::Stands;

/// How often an opening is tried anew that somebody else's change crossed.
const TRIES: usize = 8;

/// What a guest asks for.
#[derive(Clone, Copy, Debug)]
#[allow(clippy::struct_excessive_bools, reason = "they are WASI's flags")]
pub(super) struct Asked {
    follow: bool,
    create: bool,
    exclusive: bool,
    truncate: bool,
    folder: bool,
    read: bool,
    write: bool,
}

impl Asked {
    pub(super) fn new(path: PathFlags, open: OpenFlags, flags: DescriptorFlags) -> FsResult<Self> {
        let sync = DescriptorFlags::FILE_INTEGRITY_SYNC
            | DescriptorFlags::DATA_INTEGRITY_SYNC
            | DescriptorFlags::REQUESTED_WRITE_SYNC;
        if flags.intersects(sync) {
            return Err(ErrorCode::Unsupported.into());
        }
        let makes = OpenFlags::CREATE | OpenFlags::EXCLUSIVE | OpenFlags::TRUNCATE;
        let folder = open.contains(OpenFlags::DIRECTORY);
        if folder && open.intersects(makes) {
            return Err(ErrorCode::Invalid.into());
        }
        let write = flags.contains(DescriptorFlags::WRITE);
        Ok(Self {
            follow: path.contains(PathFlags::SYMLINK_FOLLOW),
            create: open.contains(OpenFlags::CREATE),
            exclusive: open.contains(OpenFlags::EXCLUSIVE),
            truncate: open.contains(OpenFlags::TRUNCATE),
            folder,
            // A file that is opened for nothing can be read.
            read: flags.contains(DescriptorFlags::READ) || !write,
            write,
        })
    }

    fn oflags(self) -> OFlags {
        let access = match (self.read, self.write || self.truncate) {
            (true, true) => OFlags::RDWR,
            (false, true) => OFlags::WRONLY,
            _ => OFlags::RDONLY,
        };
        access | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC
    }
}

impl Call {
    /// Opens what a path names.
    pub(super) fn open(&self, from: &Folder, path: &str, asked: Asked) -> Result<Open, NotDone> {
        if asked.create {
            self.must_have(&from.mount, Right::Create, "open to create")?;
        }
        if asked.write || asked.truncate {
            self.must_have(&from.mount, Right::Write, "open for writing")?;
        }
        for _ in 0..TRIES {
            let place = match self.locate(from, path, asked.follow)? {
                Spot::Folder(folder) => return asked.refuse_folder().map(|()| Open::Folder(folder)),
                Spot::Name(place) => place,
            };
            match self.stands_if_any(&place)? {
                None if asked.create && place.must_be_folder => return Err(Errno::ISDIR.into()),
                None if asked.create => match self.create_file(&place, asked.oflags()) {
                    // Somebody made it in between.
                    Err(NotDone::Refused(Errno::EXIST)) if !asked.exclusive => {}
                    made => return self.opened(made?, place, asked),
                },
                None => return Err(Errno::NOENT.into()),
                Some(_) if asked.create && asked.exclusive => return Err(Errno::EXIST.into()),
                Some(stands) => match self.open_at(&place, &stands, asked) {
                    // Somebody changed it in between.
                    Err(NotDone::Refused(Errno::NOENT)) if asked.create => {}
                    opened => return opened,
                },
            }
        }
        Err(Errno::BUSY.into())
    }

    fn open_at(&self, place: &Place, stands: &Stands, asked: Asked) -> Result<Open, NotDone> {
        if let Some(stat) = stands.stat() {
            self.must_not_be_kept(stat, "open")?;
        }
        let at_border = |error: Errno| {
            if error == Errno::XDEV {
                self.say_mounted(place.mount(), &place.path());
            }
            error
        };
        match stands.kind() {
            FileType::Directory => {
                asked.refuse_folder()?;
                return Ok(Open::Folder(super::alter::open_folder(place, stands).map_err(at_border)?));
            }
            FileType::Symlink => return Err(Errno::LOOP.into()),
            FileType::RegularFile if asked.folder => return Err(Errno::NOTDIR.into()),
            FileType::RegularFile => {}
            _ => return Err(self.not_ordinary()),
        }
        if asked.read {
            self.must_have(place.mount(), Right::Read, "open for reading")?;
        }
        if asked.write || asked.truncate {
            self.must_be_real()?;
            self.must_be_free(place, false)?;
        }
        let (folder, name) = stands.on_disk(place)?;
        let fd = beneath::open_name(folder, name, asked.oflags(), place.mount().borders);
        let fd = self.told(place.mount(), fd).map_err(at_border)?;
        self.opened(fd, place.clone(), asked)
    }

    fn opened(&self, fd: OwnedFd, place: Place, asked: Asked) -> Result<Open, NotDone> {
        let stat = rustix::fs::fstat(fd.as_fd())?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(self.not_ordinary());
        }
        self.must_not_be_kept(&stat, "open")?;
        let file = OpenFile::new(File::from(fd), place, asked.read, asked.write || asked.truncate);
        if asked.truncate && stat.st_size > 0 {
            self.set_size(&file, 0)?;
        }
        Ok(Open::File(Arc::new(file)))
    }

    fn not_ordinary(&self) -> NotDone {
        self.say_refused("open", "it is neither a file nor a folder");
        Errno::PERM.into()
    }
}

impl Asked {
    fn refuse_folder(self) -> Result<(), NotDone> {
        if self.create && self.exclusive {
            return Err(Errno::EXIST.into());
        }
        if self.write || self.truncate || self.create { Err(Errno::ISDIR.into()) } else { Ok(()) }
    }
}
