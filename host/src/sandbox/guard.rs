//! The guard: the host's own `wasi:filesystem`, behind which the files are.
//!
//! Every call of every guest passes here. What a guest holds open are the
//! guard's own descriptors; where a path leads is found by `place`, what stands
//! there by `view`, whether it may be changed by `may`, and it is changed by
//! `alter` and `deeds` alone. This module translates between WASI's words and
//! theirs, and decides nothing.

// length: it is one interface, call by call.

use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use rustix::fs::{FileType, Stat, Timespec};
use rustix::io::Errno;
use wasmtime::component::{HasData, Linker, Resource, ResourceTable, ResourceTableError};
use wasmtime_wasi::filesystem::Descriptor;
use wasmtime_wasi::p2::bindings::filesystem::types::ErrorCode as WasiError;
use wasmtime_wasi::p2::bindings::sync::filesystem::preopens;
use wasmtime_wasi::p2::bindings::sync::filesystem::types::{
    self, Advice, DescriptorFlags, DescriptorStat, DescriptorType, DirectoryEntry, DirectoryEntryStream, ErrorCode,
    Filesize, Host, HostDescriptor, HostDirectoryEntryStream, MetadataHashValue, NewTimestamp, OpenFlags, PathFlags,
};
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, FsError, FsResult, IoError};

use crate::domain::rights::Right;

use super::alter::NewTime;
use super::call::Call;
use super::deeds::NotDone;
use super::descriptor::{Open, OpenFile, open_of};
use super::entries::{Entries, descriptor_type};
use super::guest::{GuestState, Role};
use super::listing::Readers;
use super::mounts::Mounts;
use super::opening::Asked;
use super::place::{Folder, Place, Spot};
use super::reads::{FileReads, MAX_READ};
use super::view::{descriptor_stat, identity, made_stat, metadata_hash};
use super::writes::{FileWrites, Where};

/// In so many folders at a time is looked ahead of one instance, by as many
/// threads: one that is not gone yet counts, though its folder is closed.
const MOST_AHEAD: usize = 2;

struct GuardedFs;

impl HasData for GuardedFs {
    type Data<'a> = Guard<'a>;
}

/// A guest's descriptors, and the call in which they are used.
struct Guard<'a> {
    table: &'a mut ResourceTable,
    mounts: &'a Mounts,
    call: &'a Arc<Call>,
    asked: &'a mut Option<AskedLast>,
    /// The open streams over folders' entries, the newest last.
    listed: &'a mut Vec<u32>,
    readers: &'a mut Readers,
}

/// The path of the last `stat-at`, and the hash of what stood there: C libraries
/// ask for it right after, and the disk need not be asked twice.
pub(super) struct AskedLast {
    folder: u32,
    follow: bool,
    path: String,
    hash: MetadataHashValue,
}

pub(super) fn add_to_linker(linker: &mut Linker<GuestState>) -> wasmtime::Result<()> {
    fn guard(state: &mut GuestState) -> Guard<'_> {
        let GuestState { table, mounts, call, asked, listed, readers, .. } = state;
        Guard { table, mounts, call, asked, listed, readers }
    }
    types::add_to_linker::<GuestState, GuardedFs>(linker, guard)?;
    preopens::add_to_linker::<GuestState, GuardedFs>(linker, guard)
}

impl From<NotDone> for FsError {
    fn from(not_done: NotDone) -> Self {
        match not_done {
            NotDone::Refused(error) => fs_error(error),
            // A trap: the guest must not take the host's stop for a failure of
            // the file.
            NotDone::Interrupted(interrupt) => Self::trap(wasmtime::Error::from(interrupt)),
        }
    }
}

fn fs_error(error: Errno) -> FsError {
    match error {
        Errno::ROFS => WasiError::ReadOnly.into(),
        Errno::XDEV => WasiError::CrossDevice.into(),
        Errno::BADF => WasiError::BadDescriptor.into(),
        error => io::Error::from(error).into(),
    }
}

/// A full table is the guest's own doing, and no reason to end it.
fn table_error(error: ResourceTableError) -> FsError {
    match error {
        ResourceTableError::Full => WasiError::InsufficientMemory.into(),
        error => FsError::trap(error),
    }
}

/// The guard's own folder streams stand in the table where WASI's would.
fn entries_of(stream: &Resource<DirectoryEntryStream>) -> Resource<Entries> {
    Resource::new_borrow(stream.rep())
}

fn new_time(time: NewTimestamp) -> FsResult<NewTime> {
    Ok(match time {
        NewTimestamp::NoChange => NewTime::Keep,
        NewTimestamp::Now => NewTime::Now,
        // The kernel has numbers beyond for "now" and "not at all".
        NewTimestamp::Timestamp(at) if at.nanoseconds >= 1_000_000_000 => return Err(WasiError::Invalid.into()),
        NewTimestamp::Timestamp(at) => NewTime::At(Timespec {
            tv_sec: i64::try_from(at.seconds).map_err(|_| WasiError::Overflow)?,
            tv_nsec: at.nanoseconds.into(),
        }),
    })
}

impl<'a> Guard<'a> {
    fn open(&self, fd: &Resource<Descriptor>) -> FsResult<&Open> {
        self.table.get(&open_of(fd)).map_err(table_error)
    }

    fn folder(&self, fd: &Resource<Descriptor>) -> FsResult<&Folder> {
        match self.open(fd)? {
            Open::Folder(folder) => Ok(folder),
            Open::File(_) => Err(WasiError::NotDirectory.into()),
        }
    }

    fn file(&self, fd: &Resource<Descriptor>) -> FsResult<&Arc<OpenFile>> {
        match self.open(fd)? {
            Open::File(file) => Ok(file),
            Open::Folder(_) => Err(WasiError::BadDescriptor.into()),
        }
    }

    fn call(&self) -> &'a Call {
        self.call
    }

    fn push(&mut self, open: Open) -> FsResult<Resource<Descriptor>> {
        let pushed = self.table.push(open).map_err(table_error)?;
        Ok(Resource::new_own(pushed.rep()))
    }

    fn must_have(&self, fd: &Resource<Descriptor>, right: Right, what: &str) -> FsResult<()> {
        let mount = match self.open(fd)? {
            Open::Folder(folder) => &folder.mount,
            Open::File(file) => file.place.mount(),
        };
        self.call.must_have(mount, right, what).map_err(fs_error)
    }

    /// What stands there; `seen` is what was seen there just now, if anything was.
    fn stat_of(&self, spot: &Spot, seen: Option<Stat>) -> Result<(DescriptorStat, MetadataHashValue), Errno> {
        let stat = match spot {
            Spot::Folder(folder) => folder.fd().map(rustix::fs::fstat).transpose()?,
            Spot::Name(place) => {
                let stands = self.call.stands_by(place, || seen.map_or_else(|| place.stat(), Ok));
                let stands = self.call.told(place.mount(), stands)?;
                stands.stat().copied()
            }
        };
        Ok(match stat {
            Some(stat) => (descriptor_stat(&stat), metadata_hash(identity(&stat))),
            None => (made_stat(), metadata_hash(path_of(spot))),
        })
    }

    /// What stood at this place when it was listed just now, if it was looked at
    /// then. For a dispatcher only: it changes nothing, so that what it saw is
    /// not outdated by itself.
    fn seen(&mut self, spot: &Spot, kept: bool) -> Option<Stat> {
        let (Spot::Name(place), Role::Dispatcher) = (spot, self.call.role) else { return None };
        if place.must_be_folder {
            return None;
        }
        let mut of = None;
        let mut ahead = 0;
        for stream in self.listed.iter().rev() {
            let entries = self.table.get(&Resource::<Entries>::new_borrow(*stream)).ok()?;
            ahead += usize::from(entries.are_looked_up_ahead());
            if of.is_none() && entries.are_of(&place.folder) {
                of = Some(*stream);
            }
        }
        let entries = self.table.get_mut(&Resource::<Entries>::new_borrow(of?)).ok()?;
        let seen = entries.seen(&place.name, kept);
        if ahead < MOST_AHEAD && entries.are_asked_for() && self.readers.count() < MOST_AHEAD {
            entries.look_ahead(self.readers);
        }
        seen
    }

    fn output(&mut self, fd: &Resource<Descriptor>, at: Where) -> FsResult<Resource<DynOutputStream>> {
        let file = match self.open(fd)? {
            Open::File(file) => Arc::clone(file),
            Open::Folder(_) => return Err(WasiError::IsDirectory.into()),
        };
        if !file.writes {
            return Err(WasiError::BadDescriptor.into());
        }
        self.call.must_have(file.place.mount(), Right::Write, "write").map_err(fs_error)?;
        let stream: DynOutputStream = Box::new(FileWrites::new(file, at, Arc::clone(self.call)));
        self.table.push(stream).map_err(table_error)
    }
}

fn path_of(spot: &Spot) -> String {
    match spot {
        Spot::Folder(folder) => folder.path.clone(),
        Spot::Name(place) => place.path(),
    }
}

impl preopens::Host for Guard<'_> {
    fn get_directories(&mut self) -> wasmtime::Result<Vec<(Resource<Descriptor>, String)>> {
        let mounts = Arc::clone(&self.mounts.0);
        let give = |mount| {
            let pushed = self.table.push(Open::Folder(Folder::top(mount)))?;
            Ok((Resource::new_own(pushed.rep()), mount.guest.clone()))
        };
        mounts.iter().map(give).collect()
    }
}

impl Host for Guard<'_> {
    fn convert_error_code(&mut self, error: FsError) -> wasmtime::Result<ErrorCode> {
        Ok(error.downcast()?.into())
    }

    fn filesystem_error_code(&mut self, error: Resource<IoError>) -> wasmtime::Result<Option<ErrorCode>> {
        let error = self.table.get(&error)?.downcast_ref::<io::Error>();
        Ok(error.map(|error| WasiError::from(error).into()))
    }
}

impl HostDescriptor for Guard<'_> {
    fn advise(&mut self, fd: Resource<Descriptor>, _: Filesize, _: Filesize, _: Advice) -> FsResult<()> {
        // Advice changes nothing that a guest could tell.
        self.file(&fd).map(drop)
    }

    fn sync_data(&mut self, fd: Resource<Descriptor>) -> FsResult<()> {
        HostDescriptor::sync(self, fd)
    }

    fn get_flags(&mut self, fd: Resource<Descriptor>) -> FsResult<DescriptorFlags> {
        let mut flags = DescriptorFlags::empty();
        match self.open(&fd)? {
            Open::File(file) => {
                flags |= if file.reads { DescriptorFlags::READ } else { DescriptorFlags::empty() };
                flags |= if file.writes { DescriptorFlags::WRITE } else { DescriptorFlags::empty() };
            }
            Open::Folder(folder) => {
                flags |= DescriptorFlags::READ;
                if !folder.mount.rights.only_look() {
                    flags |= DescriptorFlags::MUTATE_DIRECTORY;
                }
            }
        }
        Ok(flags)
    }

    fn get_type(&mut self, fd: Resource<Descriptor>) -> FsResult<DescriptorType> {
        Ok(match self.open(&fd)? {
            Open::Folder(_) => DescriptorType::Directory,
            Open::File(file) => descriptor_type(FileType::from_raw_mode(file.stat().map_err(fs_error)?.st_mode)),
        })
    }

    fn set_size(&mut self, fd: Resource<Descriptor>, size: Filesize) -> FsResult<()> {
        Ok(self.call.set_size(self.file(&fd)?, size)?)
    }

    fn set_times(&mut self, fd: Resource<Descriptor>, atime: NewTimestamp, mtime: NewTimestamp) -> FsResult<()> {
        let times = [new_time(atime)?, new_time(mtime)?];
        match self.open(&fd)? {
            Open::File(file) => self.call.set_file_times(file, times)?,
            Open::Folder(folder) => self.call.set_folder_times(folder, times)?,
        }
        Ok(())
    }

    fn read(&mut self, fd: Resource<Descriptor>, len: Filesize, offset: Filesize) -> FsResult<(Vec<u8>, bool)> {
        let file = self.file(&fd)?;
        if !file.reads {
            return Err(WasiError::BadDescriptor.into());
        }
        let mut bytes = vec![0; usize::try_from(len).unwrap_or(MAX_READ).min(MAX_READ)];
        let read = file.file.read_at(&mut bytes, offset)?;
        bytes.truncate(read);
        Ok((bytes, read == 0))
    }

    fn write(&mut self, fd: Resource<Descriptor>, bytes: Vec<u8>, offset: Filesize) -> FsResult<Filesize> {
        let file = self.file(&fd)?;
        let writing = file.may_write(self.call(), bytes.len())?;
        let written = file.file.write_at(&bytes, offset).map_err(|error| writing.failed(&error))?;
        writing.done(written);
        Ok(written as Filesize)
    }

    fn sync(&mut self, fd: Resource<Descriptor>) -> FsResult<()> {
        match self.open(&fd)? {
            Open::File(file) => Ok(rustix::fs::fsync(file.fd()).map_err(fs_error)?),
            Open::Folder(folder) => folder.sync().map_err(fs_error),
        }
    }

    fn create_directory_at(&mut self, fd: Resource<Descriptor>, path: String) -> FsResult<()> {
        Ok(self.call.create_folder(self.folder(&fd)?, &path)?)
    }

    fn stat(&mut self, fd: Resource<Descriptor>) -> FsResult<DescriptorStat> {
        self.must_have(&fd, Right::Stat, "stat")?;
        match self.open(&fd)? {
            Open::File(file) => file.stat().map(|stat| descriptor_stat(&stat)),
            Open::Folder(folder) => self.stat_of(&Spot::Folder(folder.clone()), None).map(|(stat, _)| stat),
        }
        .map_err(fs_error)
    }

    fn stat_at(&mut self, fd: Resource<Descriptor>, flags: PathFlags, path: String) -> FsResult<DescriptorStat> {
        let folder = self.folder(&fd)?;
        self.must_have(&fd, Right::Stat, "stat")?;
        let follow = flags.contains(PathFlags::SYMLINK_FOLLOW);
        let spot = self.call.locate(folder, &path, follow).map_err(fs_error)?;
        let seen = if follow { None } else { self.seen(&spot, false) };
        let (stat, hash) = self.stat_of(&spot, seen).map_err(fs_error)?;
        *self.asked = Some(AskedLast { folder: fd.rep(), follow, path, hash });
        Ok(stat)
    }

    fn set_times_at(
        &mut self,
        fd: Resource<Descriptor>,
        flags: PathFlags,
        path: String,
        atime: NewTimestamp,
        mtime: NewTimestamp,
    ) -> FsResult<()> {
        let times = [new_time(atime)?, new_time(mtime)?];
        let follow = flags.contains(PathFlags::SYMLINK_FOLLOW);
        Ok(self.call.set_times_at(self.folder(&fd)?, &path, follow, times)?)
    }

    fn link_at(
        &mut self,
        fd: Resource<Descriptor>,
        flags: PathFlags,
        path: String,
        to: Resource<Descriptor>,
        to_path: String,
    ) -> FsResult<()> {
        if flags.contains(PathFlags::SYMLINK_FOLLOW) {
            return Err(WasiError::Invalid.into());
        }
        Ok(self.call.link(self.folder(&fd)?, &path, self.folder(&to)?, &to_path)?)
    }

    fn readlink_at(&mut self, fd: Resource<Descriptor>, path: String) -> FsResult<String> {
        self.must_have(&fd, Right::Read, "readlink")?;
        let spot = self.call.locate(self.folder(&fd)?, &path, false).map_err(fs_error)?;
        let Spot::Name(place) = spot else { return Err(WasiError::Invalid.into()) };
        let target = super::place::read_link(&place, self.call.custody.overlay().as_deref()).map_err(fs_error)?;
        // Where on the machine an absolute link leads is none of a guest's business.
        if target.starts_with('/') { Err(WasiError::NotPermitted.into()) } else { Ok(target) }
    }

    fn remove_directory_at(&mut self, fd: Resource<Descriptor>, path: String) -> FsResult<()> {
        Ok(self.call.remove_folder(self.folder(&fd)?, &path)?)
    }

    fn rename_at(
        &mut self,
        fd: Resource<Descriptor>,
        path: String,
        to: Resource<Descriptor>,
        to_path: String,
    ) -> FsResult<()> {
        Ok(self.call.rename(self.folder(&fd)?, &path, self.folder(&to)?, &to_path)?)
    }

    /// A link is a path that somebody else will follow, perhaps with more
    /// rights: guests make none.
    fn symlink_at(&mut self, fd: Resource<Descriptor>, _: String, _: String) -> FsResult<()> {
        self.must_have(&fd, Right::Create, "symlink")?;
        self.call.say_refused("symlink", "guests make no symbolic links");
        Err(WasiError::NotPermitted.into())
    }

    fn unlink_file_at(&mut self, fd: Resource<Descriptor>, path: String) -> FsResult<()> {
        Ok(self.call.remove_file(self.folder(&fd)?, &path)?)
    }

    fn is_same_object(&mut self, a: Resource<Descriptor>, b: Resource<Descriptor>) -> wasmtime::Result<bool> {
        let hash = |guard: &mut Self, fd: Resource<Descriptor>| HostDescriptor::metadata_hash(guard, fd);
        Ok(match (hash(self, a), hash(self, b)) {
            (Ok(a), Ok(b)) => (a.lower, a.upper) == (b.lower, b.upper),
            _ => false,
        })
    }

    fn metadata_hash(&mut self, fd: Resource<Descriptor>) -> FsResult<MetadataHashValue> {
        match self.open(&fd)? {
            Open::File(file) => file.stat().map(|stat| metadata_hash(identity(&stat))),
            Open::Folder(folder) => self.stat_of(&Spot::Folder(folder.clone()), None).map(|(_, hash)| hash),
        }
        .map_err(fs_error)
    }

    fn metadata_hash_at(
        &mut self,
        fd: Resource<Descriptor>,
        flags: PathFlags,
        path: String,
    ) -> FsResult<MetadataHashValue> {
        self.must_have(&fd, Right::Stat, "metadata-hash")?;
        let follow = flags.contains(PathFlags::SYMLINK_FOLLOW);
        if let Some(last) = self.asked.take()
            && (last.folder, last.follow, &last.path) == (fd.rep(), follow, &path)
        {
            return Ok(last.hash);
        }
        let spot = self.call.locate(self.folder(&fd)?, &path, follow).map_err(fs_error)?;
        let seen = if follow { None } else { self.seen(&spot, true) };
        self.stat_of(&spot, seen).map(|(_, hash)| hash).map_err(fs_error)
    }

    fn drop(&mut self, fd: Resource<Descriptor>) -> wasmtime::Result<()> {
        *self.asked = None;
        self.table.delete(Resource::<Open>::new_own(fd.rep()))?;
        Ok(())
    }

    fn open_at(
        &mut self,
        fd: Resource<Descriptor>,
        path_flags: PathFlags,
        path: String,
        open_flags: OpenFlags,
        flags: DescriptorFlags,
    ) -> FsResult<Resource<Descriptor>> {
        let folder = self.folder(&fd)?;
        if let Some(hole) = super::wall::hole(&path, flags.contains(DescriptorFlags::WRITE)) {
            let place = Place { folder: folder.clone(), name: path, must_be_folder: false };
            let file = OpenFile::new(hole?, place, true, flags.contains(DescriptorFlags::WRITE));
            return self.push(Open::File(Arc::new(file)));
        }
        let asked = Asked::new(path_flags, open_flags, flags)?;
        let open = self.call.open(folder, &path, asked)?;
        self.push(open)
    }

    fn read_directory(&mut self, fd: Resource<Descriptor>) -> FsResult<Resource<DirectoryEntryStream>> {
        let folder = self.folder(&fd)?;
        self.must_have(&fd, Right::List, "read-directory")?;
        let custody = &self.call.custody;
        let most = custody.job.limits.folder_entries.into();
        // Somebody may have moved it out of the mount since it was opened.
        let folder = folder.found_again().map_err(fs_error)?;
        let entries = Entries::of(&folder, custody.overlay().as_deref(), most);
        let entries = self.call.told(&folder.mount, entries).map_err(fs_error)?;
        let stream = self.table.push(entries).map_err(table_error)?;
        self.listed.push(stream.rep());
        Ok(Resource::new_own(stream.rep()))
    }

    fn read_via_stream(&mut self, fd: Resource<Descriptor>, offset: Filesize) -> FsResult<Resource<DynInputStream>> {
        let file = match self.open(&fd)? {
            Open::File(file) => Arc::clone(file),
            Open::Folder(_) => return Err(WasiError::IsDirectory.into()),
        };
        if !file.reads {
            return Err(WasiError::BadDescriptor.into());
        }
        let stream: DynInputStream = Box::new(FileReads::new(file, offset));
        self.table.push(stream).map_err(table_error)
    }

    fn write_via_stream(&mut self, fd: Resource<Descriptor>, offset: Filesize) -> FsResult<Resource<DynOutputStream>> {
        self.output(&fd, Where::At(offset))
    }

    fn append_via_stream(&mut self, fd: Resource<Descriptor>) -> FsResult<Resource<DynOutputStream>> {
        self.output(&fd, Where::End)
    }
}

impl HostDirectoryEntryStream for Guard<'_> {
    fn read_directory_entry(&mut self, stream: Resource<DirectoryEntryStream>) -> FsResult<Option<DirectoryEntry>> {
        let entries = self.table.get_mut(&entries_of(&stream)).map_err(table_error)?;
        let next = entries.next(|| self.call.check());
        if let Err(NotDone::Refused(error)) = &next {
            let _ = self.call.told::<()>(entries.mount(), Err(*error));
        }
        Ok(next?)
    }

    fn drop(&mut self, stream: Resource<DirectoryEntryStream>) -> wasmtime::Result<()> {
        self.listed.retain(|listed| *listed != stream.rep());
        let entries = self.table.delete(Resource::<Entries>::new_own(stream.rep()))?;
        if entries.unreadable > 0 {
            tracing::warn!(
                target: "sweepd::guest", task = self.call.task().map(|task| task.0),
                "{} names in a folder are not UTF-8: a guest cannot see them", entries.unreadable,
            );
        }
        Ok(())
    }
}
