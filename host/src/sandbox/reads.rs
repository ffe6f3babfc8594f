//! A guest's input stream from a file: read when it asks, on its own thread.

use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use bytes::Bytes;
use wasmtime_wasi::p2::{InputStream, Pollable, StreamError, StreamResult};

use super::descriptor::OpenFile;

/// Most bytes that are read in one call.
pub(super) const MAX_READ: usize = 1 << 20;

/// Reads from one file.
pub(super) struct FileReads {
    file: Arc<OpenFile>,
    offset: u64,
}

impl FileReads {
    pub(super) fn new(file: Arc<OpenFile>, offset: u64) -> Self {
        Self { file, offset }
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for FileReads {
    async fn ready(&mut self) {}
}

impl InputStream for FileReads {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        if size == 0 {
            return Ok(Bytes::new());
        }
        let mut bytes = vec![0; size.min(MAX_READ)];
        let read = self.file.file.read_at(&mut bytes, self.offset);
        let read = read.map_err(|error| StreamError::LastOperationFailed(error.into()))?;
        if read == 0 {
            return Err(StreamError::Closed);
        }
        bytes.truncate(read);
        self.offset += read as u64;
        Ok(bytes.into())
    }
}
