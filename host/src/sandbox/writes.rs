//! A guest's output stream to a file: every write is made before the call
//! returns, on the guest's own thread, under a permit. WASI's own may write on
//! another thread after the guest was told that all is well.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use bytes::Bytes;
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamError, StreamResult};

use super::call::Call;
use super::deeds::NotDone;
use super::descriptor::{OpenFile, Writing};

/// Most bytes that a guest may write in one call.
const MAX_WRITE: usize = 64 * 1024;

/// Where the next write goes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Where {
    /// At this offset.
    At(u64),
    /// After whatever is the last byte by then.
    End,
}

/// Writes into one file.
pub(super) struct FileWrites {
    file: Arc<OpenFile>,
    at: Where,
    call: Arc<Call>,
}

impl FileWrites {
    pub(super) fn new(file: Arc<OpenFile>, at: Where, call: Arc<Call>) -> Self {
        Self { file, at, call }
    }

    /// Writes all of it. Also answers how much was written where not all was.
    fn write_all(&mut self, bytes: &[u8], writing: &Writing<'_>) -> (usize, StreamResult<()>) {
        let mut written = 0;
        while written < bytes.len() {
            match self.write_some(&bytes[written..]) {
                Ok(0) => return (written, Err(not_written(io::ErrorKind::WriteZero.into()))),
                Ok(some) => written += some,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => writing.was_interrupted(&error),
                Err(error) => return (written, Err(stream_error(&writing.failed(&error)))),
            }
        }
        (written, Ok(()))
    }

    fn write_some(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.at {
            Where::At(offset) => {
                let written = self.file.file.write_at(bytes, *offset)?;
                *offset += written as u64;
                Ok(written)
            }
            Where::End => append(&self.file.file, bytes),
        }
    }
}

fn not_written(error: io::Error) -> StreamError {
    StreamError::LastOperationFailed(error.into())
}

fn stream_error(not_done: &NotDone) -> StreamError {
    match not_done {
        // A trap, not an error: the guest must not take the host's stop for
        // a failure of the file.
        NotDone::Interrupted(interrupt) => StreamError::Trap((*interrupt).into()),
        NotDone::Refused(error) => not_written((*error).into()),
    }
}

/// At the end, whoever else writes there; the file need not be open for it.
#[cfg(target_os = "linux")]
fn append(file: &File, bytes: &[u8]) -> io::Result<usize> {
    let part = [io::IoSlice::new(bytes)];
    Ok(rustix::io::pwritev2(file, &part, 0, rustix::io::ReadWriteFlags::APPEND)?)
}

#[cfg(not(target_os = "linux"))]
fn append(file: &File, bytes: &[u8]) -> io::Result<usize> {
    file.write_at(bytes, file.metadata()?.len())
}

#[wasmtime_wasi::async_trait]
impl Pollable for FileWrites {
    async fn ready(&mut self) {}
}

impl OutputStream for FileWrites {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        let call = Arc::clone(&self.call);
        let writing = self.file.may_write(&call, bytes.len()).map_err(|not_done| stream_error(&not_done))?;
        let (written, done) = self.write_all(&bytes, &writing);
        if written > 0 || done.is_ok() {
            writing.done(written);
        }
        done
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(MAX_WRITE)
    }
}
