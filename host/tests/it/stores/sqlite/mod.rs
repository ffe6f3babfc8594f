//! What only the embedded store has to stand: a file that others can remove,
//! replace, fill, copy and open.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::Connection;
use sweepd::store::sqlite::{SqliteOptions, SqliteStore};
use sweepd::store::{SharedStore, StoreError};
use tempfile::TempDir;

use super::{Desk, StoreHarness};

mod disk;
mod hosts;
mod schema;

/// A file in a folder of its own.
pub(crate) struct SqliteHarness(TempDir);

impl StoreHarness for SqliteHarness {
    async fn fresh() -> Self {
        Self(TempDir::new().expect("a folder"))
    }

    async fn open(&self) -> SharedStore {
        Arc::new(SqliteStore::open(&self.file(), SqliteOptions::host()).expect("the file opens"))
    }

    async fn open_read_only(&self) -> Result<SharedStore, StoreError> {
        Ok(Arc::new(SqliteStore::open(&self.file(), SqliteOptions::read_only())?))
    }
}

impl SqliteHarness {
    pub(crate) fn file(&self) -> PathBuf {
        self.0.path().join("state/sweepd.db")
    }

    fn remove(&self, suffixes: &[&str]) {
        for suffix in suffixes {
            fs::remove_file(with(&self.file(), suffix)).expect("it was there");
        }
    }
}

fn with(path: &Path, suffix: &str) -> PathBuf {
    format!("{}{suffix}", path.display()).into()
}

async fn desk() -> Desk<SqliteHarness> {
    Desk::open().await
}

fn message<T: std::fmt::Debug>(answer: Result<T, StoreError>) -> String {
    match answer {
        Err(StoreError::Unavailable(message)) => message,
        other => panic!("not unavailable: {other:?}"),
    }
}

/// Opens `file` as another program and looks whether it is sound.
fn assert_sound(file: &Path) {
    let conn = Connection::open(file).expect("it opens");
    let check: String = conn.query_row("PRAGMA integrity_check", [], |row| row.get(0)).expect("it answers");
    assert_eq!(check, "ok");
}

/// The files as a kill at this instant would leave them.
fn copy_of(file: &Path) -> (TempDir, PathBuf) {
    let folder = TempDir::new().expect("a folder");
    let copy = folder.path().join("sweepd.db");
    for suffix in ["", "-wal"] {
        fs::copy(with(file, suffix), with(&copy, suffix)).expect("it is copied");
    }
    (folder, copy)
}
