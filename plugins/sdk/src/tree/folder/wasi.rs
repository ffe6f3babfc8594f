//! Folders by `wasi:filesystem`.

use std::io::{self, ErrorKind};

use super::Entry;

/// The part of `wasi:filesystem` that this takes.
#[allow(
    missing_docs,
    unsafe_code,
    unused_qualifications,
    clippy::pedantic,
    reason = "generated; memory that crosses the boundary is unsafe by nature"
)]
mod bindings {
    wit_bindgen::generate!({
        inline: "
            package sweepd:sdk-files;

            world files {
                import wasi:filesystem/types@0.2.0;
                import wasi:filesystem/preopens@0.2.0;
            }

            package wasi:filesystem@0.2.0 {
                interface types {
                    enum descriptor-type {
                        unknown, block-device, character-device, directory, fifo, symbolic-link, regular-file, socket,
                    }
                    flags descriptor-flags {
                        read, write, file-integrity-sync, data-integrity-sync, requested-write-sync, mutate-directory,
                    }
                    flags path-flags { symlink-follow }
                    flags open-flags { create, directory, exclusive, truncate }
                    record directory-entry { %type: descriptor-type, name: string }
                    enum error-code {
                        access, would-block, already, bad-descriptor, busy, deadlock, quota, exist, file-too-large,
                        illegal-byte-sequence, in-progress, interrupted, invalid, io, is-directory, loop,
                        too-many-links, message-size, name-too-long, no-device, no-entry, no-lock,
                        insufficient-memory, insufficient-space, not-directory, not-empty, not-recoverable,
                        unsupported, no-tty, no-such-device, overflow, not-permitted, pipe, read-only, invalid-seek,
                        text-file-busy, cross-device,
                    }
                    resource directory-entry-stream {
                        read-directory-entry: func() -> result<option<directory-entry>, error-code>;
                    }
                    resource descriptor {
                        read-directory: func() -> result<directory-entry-stream, error-code>;
                        open-at: func(
                            path-flags: path-flags, path: string, open-flags: open-flags, %flags: descriptor-flags,
                        ) -> result<descriptor, error-code>;
                        remove-directory-at: func(path: string) -> result<_, error-code>;
                        unlink-file-at: func(path: string) -> result<_, error-code>;
                    }
                }
                interface preopens {
                    use types.{descriptor};
                    get-directories: func() -> list<tuple<descriptor, string>>;
                }
            }
        ",
        generate_all,
    });
}

use bindings::wasi::filesystem::preopens::get_directories;
use bindings::wasi::filesystem::types::{
    Descriptor, DescriptorFlags, DescriptorType, DirectoryEntryStream, ErrorCode, OpenFlags, PathFlags,
};

/// An open folder.
#[derive(Debug)]
pub(in crate::tree) struct Folder(Descriptor);

/// What is in a folder, as far as it was not listed yet.
pub(in crate::tree) struct Entries(DirectoryEntryStream);

impl Folder {
    /// Opens the folder at a path; no link is followed there. A relative path is
    /// taken from `/`, as `std::fs` does.
    pub(in crate::tree) fn open(path: &str) -> io::Result<Self> {
        let path = path.trim_matches('/');
        let within = |mount: &str| match path.strip_prefix(mount.trim_matches('/')) {
            Some("") => Some("."),
            Some(rest) if mount.trim_matches('/').is_empty() => Some(rest),
            Some(rest) => rest.strip_prefix('/'),
            None => None,
        };
        let mounts = get_directories();
        let nearest = mounts.iter().filter_map(|(mount, at)| Some((mount, at.len(), within(at)?)));
        let (mount, _, path) = nearest.max_by_key(|(_, length, _)| *length).ok_or(ErrorKind::NotFound)?;
        Self(open(mount, ".")?).below(path)
    }

    /// Opens a folder below this one.
    pub(in crate::tree) fn below(&self, path: &str) -> io::Result<Self> {
        open(&self.0, path).map(Self)
    }

    pub(in crate::tree) fn entries(&self) -> io::Result<Entries> {
        self.0.read_directory().map(Entries).map_err(io_error)
    }

    pub(in crate::tree) fn remove_file(&self, name: &str) -> io::Result<()> {
        self.0.unlink_file_at(name).map_err(io_error)
    }

    pub(in crate::tree) fn remove_folder(&self, name: &str) -> io::Result<()> {
        self.0.remove_directory_at(name).map_err(io_error)
    }
}

fn open(folder: &Descriptor, path: &str) -> io::Result<Descriptor> {
    let flags = DescriptorFlags::READ;
    folder.open_at(PathFlags::empty(), path, OpenFlags::DIRECTORY, flags).map_err(io_error)
}

impl Iterator for Entries {
    type Item = io::Result<Entry>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.0.read_directory_entry() {
            Ok(entry) => {
                entry.map(|entry| Ok(Entry { is_folder: entry.type_ == DescriptorType::Directory, name: entry.name }))
            }
            Err(error) => Some(Err(io_error(error))),
        }
    }
}

/// The same error with the words that `std` has for it: by the C library's number,
/// where there is one.
fn io_error(error: ErrorCode) -> io::Error {
    let (kind, words) = match error {
        ErrorCode::Access => (ErrorKind::PermissionDenied, "Permission denied"),
        ErrorCode::NotPermitted => (ErrorKind::PermissionDenied, "Operation not permitted"),
        ErrorCode::NoEntry => (ErrorKind::NotFound, "No such file or directory"),
        ErrorCode::Exist => (ErrorKind::AlreadyExists, "File exists"),
        ErrorCode::IsDirectory => (ErrorKind::IsADirectory, "Is a directory"),
        ErrorCode::NotDirectory => (ErrorKind::NotADirectory, "Not a directory"),
        ErrorCode::NotEmpty => (ErrorKind::DirectoryNotEmpty, "Directory not empty"),
        ErrorCode::CrossDevice => (ErrorKind::CrossesDevices, "Cross-device link"),
        ErrorCode::Busy => (ErrorKind::ResourceBusy, "Resource busy"),
        ErrorCode::ReadOnly => (ErrorKind::ReadOnlyFilesystem, "Read-only file system"),
        ErrorCode::InsufficientSpace => (ErrorKind::StorageFull, "No space left on device"),
        ErrorCode::Quota => (ErrorKind::QuotaExceeded, "Quota exceeded"),
        ErrorCode::NameTooLong => (ErrorKind::InvalidFilename, "Filename too long"),
        ErrorCode::TextFileBusy => (ErrorKind::ExecutableFileBusy, "Text file busy"),
        ErrorCode::InsufficientMemory => (ErrorKind::OutOfMemory, "Out of memory"),
        ErrorCode::Interrupted => (ErrorKind::Interrupted, "Interrupted system call"),
        ErrorCode::Loop => (ErrorKind::Other, "Too many levels of symbolic links"),
        ErrorCode::Io => (ErrorKind::Other, "I/O error"),
        other => return io::Error::other(other.name().replace('-', " ")),
    };
    io::Error::new(kind, words)
}
