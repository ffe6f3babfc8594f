//! A guest's output stream to a file: every write is made before the call
//! returns, on the guest's own thread, under a permit. WASI's own may write on
//! another thread after the guest was told that all is well.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use bytes::Bytes;
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamError, StreamResult};

use super::guest::Bounds;

/// Most bytes that a guest may write in one call.
const MAX_WRITE: usize = 64 * 1024;

/// Where the next write goes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Place {
    /// At this offset.
    At(u64),
    /// After whatever is the last byte by then.
    End,
}

/// Writes into one file.
pub(super) struct FileWrites {
    file: Arc<File>,
    place: Place,
    bounds: Bounds,
}

impl FileWrites {
    pub(super) fn new(file: Arc<File>, place: Place, bounds: Bounds) -> Self {
        Self { file, place, bounds }
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.place {
            Place::At(offset) => {
                self.file.write_all_at(bytes, *offset)?;
                *offset += bytes.len() as u64;
                Ok(())
            }
            Place::End => append(&self.file, bytes),
        }
    }
}

/// At the end, whoever else writes there; the file need not be open for it.
#[cfg(target_os = "linux")]
fn append(file: &File, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let part = [io::IoSlice::new(bytes)];
        match rustix::io::pwritev2(file, &part, 0, rustix::io::ReadWriteFlags::APPEND) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => bytes = &bytes[written..],
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

#[cfg(not(target_os = "linux"))]
fn append(file: &File, bytes: &[u8]) -> io::Result<()> {
    file.write_all_at(bytes, file.metadata()?.len())
}

#[wasmtime_wasi::async_trait]
impl Pollable for FileWrites {
    async fn ready(&mut self) {}
}

impl OutputStream for FileWrites {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        let bounds = self.bounds.clone();
        // A trap, not an error: the guest must not take the host's stop for a
        // failure of the file.
        let _permit = bounds.permit().map_err(|interrupt| StreamError::Trap(interrupt.into()))?;
        self.write_all(&bytes).map_err(|error| StreamError::LastOperationFailed(error.into()))
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(MAX_WRITE)
    }
}
