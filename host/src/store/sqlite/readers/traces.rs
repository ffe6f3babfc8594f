//! What a connection that only reads leaves beside the database: where there is
//! no log, SQLite makes one and its index, and only a connection that may write
//! takes them away again at its end.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags};

use super::super::place::with_suffix;

/// Takes away, when it is dropped, what was not there when it was made. Drop it
/// after all connections.
#[derive(Debug)]
pub(in super::super) struct Traces {
    /// The database, where it had no log.
    without_log: Option<PathBuf>,
}

impl Traces {
    /// Looks at what is there before the first connection.
    pub(in super::super) fn beside(database: &Path) -> Self {
        let has_log = with_suffix(database, "-wal").exists() || with_suffix(database, "-shm").exists();
        Self { without_log: (!has_log).then(|| database.to_owned()) }
    }
}

impl Drop for Traces {
    fn drop(&mut self) {
        if let Some(database) = self.without_log.take().filter(|database| with_suffix(database, "-wal").exists()) {
            // SQLite itself does it, under its own locks: a host may have begun since.
            // Where it cannot, two empty files stay, which harm nobody.
            let _ = touch(&database);
        }
    }
}

/// Opens the database as one that may write, writes nothing, and closes it.
fn touch(database: &Path) -> rusqlite::Result<()> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(database, flags)?;
    conn.pragma_update(None, "query_only", true)?;
    conn.query_row("SELECT count(*) FROM sqlite_master", [], |_| Ok(()))
}
