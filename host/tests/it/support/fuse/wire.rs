//! The messages between the kernel and a file system in user space, as far as the
//! tests need them: version 7.31 of `include/uapi/linux/fuse.h` in the kernel's
//! sources.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;

use rustix::fs::Stat;

/// Bytes of data that a write carries at most.
pub(super) const MOST: usize = 128 * 1024;

/// A request, taken apart from its beginning.
pub(super) struct Request {
    bytes: Vec<u8>,
    at: usize,
    pub(super) opcode: u32,
    pub(super) unique: u64,
    pub(super) node: u64,
}

impl Request {
    pub(super) fn new(bytes: Vec<u8>) -> Self {
        let mut request = Self { bytes, at: 4, opcode: 0, unique: 0, node: 0 };
        request.opcode = request.u32();
        request.unique = request.u64();
        request.node = request.u64();
        // User, group, process and extensions.
        request.at = 40;
        request
    }

    pub(super) fn u32(&mut self) -> u32 {
        let value = self.bytes[self.at..][..4].try_into().expect("four bytes");
        self.at += 4;
        u32::from_ne_bytes(value)
    }

    pub(super) fn u64(&mut self) -> u64 {
        let value = self.bytes[self.at..][..8].try_into().expect("eight bytes");
        self.at += 8;
        u64::from_ne_bytes(value)
    }

    pub(super) fn skip(&mut self, bytes: usize) {
        self.at += bytes;
    }

    /// A name that ends with a NUL.
    pub(super) fn name(&mut self) -> std::ffi::OsString {
        let rest = &self.bytes[self.at..];
        let length = rest.iter().position(|byte| *byte == 0).expect("a NUL");
        self.at += length + 1;
        OsStr::from_bytes(&rest[..length]).to_owned()
    }

    pub(super) fn rest(&self) -> &[u8] {
        &self.bytes[self.at..]
    }
}

/// The bytes of an answer.
#[derive(Default)]
pub(super) struct Answer(pub(super) Vec<u8>);

impl Answer {
    pub(super) fn u32(mut self, value: u32) -> Self {
        self.0.extend(value.to_ne_bytes());
        self
    }

    pub(super) fn u64(mut self, value: u64) -> Self {
        self.0.extend(value.to_ne_bytes());
        self
    }

    /// What something is.
    pub(super) fn attributes(self, stat: &Stat) -> Self {
        let unsigned = |value: i64| u64::try_from(value).unwrap_or(0);
        let small = |value: u64| u32::try_from(value).unwrap_or(0);
        self.u64(stat.st_ino)
            .u64(unsigned(stat.st_size))
            .u64(unsigned(stat.st_blocks))
            .u64(unsigned(stat.st_atime))
            .u64(unsigned(stat.st_mtime))
            .u64(unsigned(stat.st_ctime))
            .u32(small(stat.st_atime_nsec))
            .u32(small(stat.st_mtime_nsec))
            .u32(small(stat.st_ctime_nsec))
            .u32(stat.st_mode)
            .u32(small(stat.st_nlink))
            .u32(stat.st_uid)
            .u32(stat.st_gid)
            .u32(small(stat.st_rdev))
            .u32(4096)
            .u32(0)
    }

    /// What was found at a name, under the number of its node; it is good for no
    /// time at all.
    pub(super) fn entry(self, stat: &Stat) -> Self {
        self.u64(stat.st_ino).u64(0).u64(0).u64(0).u64(0).attributes(stat)
    }

    /// An open file, by its number.
    pub(super) fn handle(self, handle: u64) -> Self {
        self.u64(handle).u64(0)
    }

    /// An entry of a folder, and where the next one begins.
    pub(super) fn listed(mut self, node: u64, next: u64, kind: u32, name: &OsStr) -> Self {
        let length = u32::try_from(name.len()).expect("a short name");
        self = self.u64(node).u64(next).u32(length).u32(kind);
        self.0.extend(name.as_bytes());
        let padded = self.0.len().next_multiple_of(8);
        self.0.resize(padded, 0);
        self
    }
}

/// The message of an answer: an error's number, or what was asked for.
pub(super) fn message(unique: u64, answer: Result<Answer, rustix::io::Errno>) -> Vec<u8> {
    let (error, body) = match answer {
        Ok(answer) => (0, answer.0),
        Err(error) => (-error.raw_os_error(), Vec::new()),
    };
    let length = u32::try_from(16 + body.len()).expect("a short message");
    let mut bytes = length.to_ne_bytes().to_vec();
    bytes.extend(error.to_ne_bytes());
    bytes.extend(unique.to_ne_bytes());
    bytes.extend(body);
    bytes
}
