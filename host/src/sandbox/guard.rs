//! The guard: every file operation of a guest passes here before WASI's own
//! implementation makes it.
//!
//! A call that may change something is checked (role, gate, deadline) and made
//! under a permit. Directory and output streams are the guard's own. Paths are
//! resolved by WASI beneath the mount's descriptor, never by name from the root.

use std::sync::Arc;

use wasmtime::component::{HasData, Linker, Resource};
use wasmtime_wasi::filesystem::{Descriptor, WasiFilesystemCtxView};
use wasmtime_wasi::p2::bindings::filesystem::types::ErrorCode as WasiError;
use wasmtime_wasi::p2::bindings::sync::filesystem::types::{
    self, Advice, DescriptorFlags, DescriptorStat, DescriptorType, DirectoryEntry, DirectoryEntryStream, ErrorCode,
    Filesize, Host, HostDescriptor, HostDirectoryEntryStream, MetadataHashValue, NewTimestamp, OpenFlags, PathFlags,
};
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, FsError, FsResult, IoError};

use super::entries::Entries;
use super::gate::Permit;
use super::guest::{Call, GuestState, Role};
use super::writes::{FileWrites, Place};

struct GuardedFs;

impl HasData for GuardedFs {
    type Data<'a> = Guard<'a>;
}

/// WASI's file system, and the call in which it is used.
struct Guard<'a> {
    fs: WasiFilesystemCtxView<'a>,
    call: &'a Call,
}

pub(super) fn add_to_linker(linker: &mut Linker<GuestState>) -> wasmtime::Result<()> {
    types::add_to_linker::<GuestState, GuardedFs>(linker, |state| Guard {
        fs: WasiFilesystemCtxView { ctx: state.wasi.filesystem(), table: &mut state.table },
        call: &state.call,
    })
}

impl<'a> Guard<'a> {
    /// The right to make one mutation, named for the operator's log.
    fn may_change(&self, what: &'static str) -> FsResult<Permit<'a>> {
        let call: &'a Call = self.call;
        if call.role() == Role::Dispatcher {
            self.say_refused(what, "a dispatcher's mounts are read-only");
            return Err(WasiError::ReadOnly.into());
        }
        call.bounds().permit().map_err(|interrupt| FsError::trap(wasmtime::Error::from(interrupt)))
    }

    /// Once a call: a guest that tries in a loop must not fill the log.
    fn say_refused(&self, what: &str, why: &str) {
        if self.call.first_refusal() {
            tracing::warn!(target: "sweepd::guest", task = self.call.task().map(|task| task.0), "{what} refused: {why}");
        }
    }

    /// Only files and folders are opened: a named pipe or a device could hold
    /// the thread for ever, where no deadline reaches it.
    fn must_be_ordinary(&mut self, fd: u32, flags: PathFlags, path: &str) -> FsResult<()> {
        let Ok(stat) = HostDescriptor::stat_at(&mut self.fs, Resource::new_borrow(fd), flags, path.to_owned()) else {
            // What is not there may be made; other errors come again on opening.
            return Ok(());
        };
        match stat.type_ {
            DescriptorType::RegularFile | DescriptorType::Directory | DescriptorType::SymbolicLink => Ok(()),
            _ => {
                self.say_refused("open", "it is neither a file nor a folder");
                Err(WasiError::NotPermitted.into())
            }
        }
    }

    /// The guard's own stream; WASI's is asked for one too, since it knows
    /// what the descriptor may.
    fn stream(
        &mut self,
        fd: &Resource<Descriptor>,
        place: Place,
        asked: FsResult<Resource<DynOutputStream>>,
    ) -> FsResult<Resource<DynOutputStream>> {
        self.fs.table.delete(asked?).map_err(FsError::trap)?;
        let Descriptor::File(file) = self.fs.table.get(fd).map_err(FsError::trap)? else {
            return Err(WasiError::IsDirectory.into());
        };
        let writes = FileWrites::new(Arc::clone(&file.file), place, self.call.bounds().clone());
        let stream: DynOutputStream = Box::new(writes);
        self.fs.table.push(stream).map_err(FsError::trap)
    }
}

/// The guard's own directory streams stand in the table where WASI's would.
fn entries_of(stream: &Resource<DirectoryEntryStream>) -> Resource<Entries> {
    Resource::new_own(stream.rep())
}

impl Host for Guard<'_> {
    fn convert_error_code(&mut self, error: FsError) -> wasmtime::Result<ErrorCode> {
        Host::convert_error_code(&mut self.fs, error)
    }

    fn filesystem_error_code(&mut self, error: Resource<IoError>) -> wasmtime::Result<Option<ErrorCode>> {
        Host::filesystem_error_code(&mut self.fs, error)
    }
}

impl HostDescriptor for Guard<'_> {
    fn advise(&mut self, fd: Resource<Descriptor>, offset: Filesize, len: Filesize, advice: Advice) -> FsResult<()> {
        HostDescriptor::advise(&mut self.fs, fd, offset, len, advice)
    }

    fn sync_data(&mut self, fd: Resource<Descriptor>) -> FsResult<()> {
        HostDescriptor::sync_data(&mut self.fs, fd)
    }

    fn get_flags(&mut self, fd: Resource<Descriptor>) -> FsResult<DescriptorFlags> {
        HostDescriptor::get_flags(&mut self.fs, fd)
    }

    fn get_type(&mut self, fd: Resource<Descriptor>) -> FsResult<DescriptorType> {
        HostDescriptor::get_type(&mut self.fs, fd)
    }

    fn set_size(&mut self, fd: Resource<Descriptor>, size: Filesize) -> FsResult<()> {
        let _permit = self.may_change("set-size")?;
        HostDescriptor::set_size(&mut self.fs, fd, size)
    }

    fn set_times(&mut self, fd: Resource<Descriptor>, atime: NewTimestamp, mtime: NewTimestamp) -> FsResult<()> {
        let _permit = self.may_change("set-times")?;
        HostDescriptor::set_times(&mut self.fs, fd, atime, mtime)
    }

    fn read(&mut self, fd: Resource<Descriptor>, len: Filesize, offset: Filesize) -> FsResult<(Vec<u8>, bool)> {
        HostDescriptor::read(&mut self.fs, fd, len, offset)
    }

    fn write(&mut self, fd: Resource<Descriptor>, bytes: Vec<u8>, offset: Filesize) -> FsResult<Filesize> {
        let _permit = self.may_change("write")?;
        HostDescriptor::write(&mut self.fs, fd, bytes, offset)
    }

    fn sync(&mut self, fd: Resource<Descriptor>) -> FsResult<()> {
        HostDescriptor::sync(&mut self.fs, fd)
    }

    fn create_directory_at(&mut self, fd: Resource<Descriptor>, path: String) -> FsResult<()> {
        let _permit = self.may_change("create-directory")?;
        HostDescriptor::create_directory_at(&mut self.fs, fd, path)
    }

    fn stat(&mut self, fd: Resource<Descriptor>) -> FsResult<DescriptorStat> {
        HostDescriptor::stat(&mut self.fs, fd)
    }

    fn stat_at(&mut self, fd: Resource<Descriptor>, flags: PathFlags, path: String) -> FsResult<DescriptorStat> {
        HostDescriptor::stat_at(&mut self.fs, fd, flags, path)
    }

    fn set_times_at(
        &mut self,
        fd: Resource<Descriptor>,
        flags: PathFlags,
        path: String,
        atime: NewTimestamp,
        mtime: NewTimestamp,
    ) -> FsResult<()> {
        let _permit = self.may_change("set-times")?;
        HostDescriptor::set_times_at(&mut self.fs, fd, flags, path, atime, mtime)
    }

    fn link_at(
        &mut self,
        fd: Resource<Descriptor>,
        flags: PathFlags,
        path: String,
        to: Resource<Descriptor>,
        to_path: String,
    ) -> FsResult<()> {
        let _permit = self.may_change("link")?;
        HostDescriptor::link_at(&mut self.fs, fd, flags, path, to, to_path)
    }

    fn readlink_at(&mut self, fd: Resource<Descriptor>, path: String) -> FsResult<String> {
        HostDescriptor::readlink_at(&mut self.fs, fd, path)
    }

    fn remove_directory_at(&mut self, fd: Resource<Descriptor>, path: String) -> FsResult<()> {
        let _permit = self.may_change("remove-directory")?;
        HostDescriptor::remove_directory_at(&mut self.fs, fd, path)
    }

    fn rename_at(
        &mut self,
        fd: Resource<Descriptor>,
        path: String,
        to: Resource<Descriptor>,
        to_path: String,
    ) -> FsResult<()> {
        let _permit = self.may_change("rename")?;
        HostDescriptor::rename_at(&mut self.fs, fd, path, to, to_path)
    }

    /// A link is a path that somebody else will follow, perhaps with more
    /// rights: guests make none.
    fn symlink_at(&mut self, _: Resource<Descriptor>, _: String, _: String) -> FsResult<()> {
        let _permit = self.may_change("symlink")?;
        self.say_refused("symlink", "guests make no symbolic links");
        Err(WasiError::NotPermitted.into())
    }

    fn unlink_file_at(&mut self, fd: Resource<Descriptor>, path: String) -> FsResult<()> {
        let _permit = self.may_change("unlink")?;
        HostDescriptor::unlink_file_at(&mut self.fs, fd, path)
    }

    fn is_same_object(&mut self, a: Resource<Descriptor>, b: Resource<Descriptor>) -> wasmtime::Result<bool> {
        HostDescriptor::is_same_object(&mut self.fs, a, b)
    }

    fn metadata_hash(&mut self, fd: Resource<Descriptor>) -> FsResult<MetadataHashValue> {
        HostDescriptor::metadata_hash(&mut self.fs, fd)
    }

    fn metadata_hash_at(
        &mut self,
        fd: Resource<Descriptor>,
        flags: PathFlags,
        path: String,
    ) -> FsResult<MetadataHashValue> {
        HostDescriptor::metadata_hash_at(&mut self.fs, fd, flags, path)
    }

    fn drop(&mut self, fd: Resource<Descriptor>) -> wasmtime::Result<()> {
        HostDescriptor::drop(&mut self.fs, fd)
    }

    fn open_at(
        &mut self,
        fd: Resource<Descriptor>,
        path_flags: PathFlags,
        path: String,
        open_flags: OpenFlags,
        flags: DescriptorFlags,
    ) -> FsResult<Resource<Descriptor>> {
        let changes =
            open_flags.intersects(OpenFlags::CREATE | OpenFlags::TRUNCATE) || flags.contains(DescriptorFlags::WRITE);
        let _permit = if changes { Some(self.may_change("open for writing")?) } else { None };
        if let Some(hole) = super::wall::hole(&path, flags.contains(DescriptorFlags::WRITE)) {
            return self.fs.table.push(hole.map_err(WasiError::from)?).map_err(FsError::trap);
        }
        self.must_be_ordinary(fd.rep(), path_flags, &path)?;
        HostDescriptor::open_at(&mut self.fs, fd, path_flags, path, open_flags, flags)
    }

    fn read_directory(&mut self, fd: Resource<Descriptor>) -> FsResult<Resource<DirectoryEntryStream>> {
        let Descriptor::Dir(folder) = self.fs.table.get(&fd).map_err(FsError::trap)? else {
            return Err(WasiError::NotDirectory.into());
        };
        let entries = Entries::of(&folder.dir).map_err(|error| FsError::from(WasiError::from(error)))?;
        let stream = self.fs.table.push(entries).map_err(FsError::trap)?;
        Ok(Resource::new_own(stream.rep()))
    }

    fn read_via_stream(&mut self, fd: Resource<Descriptor>, offset: Filesize) -> FsResult<Resource<DynInputStream>> {
        HostDescriptor::read_via_stream(&mut self.fs, fd, offset)
    }

    fn write_via_stream(&mut self, fd: Resource<Descriptor>, offset: Filesize) -> FsResult<Resource<DynOutputStream>> {
        let _permit = self.may_change("write")?;
        let asked = HostDescriptor::write_via_stream(&mut self.fs, Resource::new_borrow(fd.rep()), offset);
        self.stream(&fd, Place::At(offset), asked)
    }

    fn append_via_stream(&mut self, fd: Resource<Descriptor>) -> FsResult<Resource<DynOutputStream>> {
        let _permit = self.may_change("append")?;
        let asked = HostDescriptor::append_via_stream(&mut self.fs, Resource::new_borrow(fd.rep()));
        self.stream(&fd, Place::End, asked)
    }
}

impl HostDirectoryEntryStream for Guard<'_> {
    fn read_directory_entry(&mut self, stream: Resource<DirectoryEntryStream>) -> FsResult<Option<DirectoryEntry>> {
        self.fs.table.get_mut(&entries_of(&stream)).map_err(FsError::trap)?.next()
    }

    fn drop(&mut self, stream: Resource<DirectoryEntryStream>) -> wasmtime::Result<()> {
        let entries = self.fs.table.delete(entries_of(&stream))?;
        if entries.unreadable > 0 {
            tracing::warn!(
                target: "sweepd::guest", task = self.call.task().map(|task| task.0),
                "{} names in a folder are not UTF-8: a guest cannot see them", entries.unreadable,
            );
        }
        Ok(())
    }
}
