//! Connections: one that writes, a few that read.

use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use super::fault::Fault;
use super::place::{Place, for_new_tasks};
use crate::limits;
use crate::store::StoreError;

/// How long a connection waits for another process's write lock.
pub(super) const BUSY: Duration = Duration::from_secs(5);

/// Pages of the log after which a commit copies it into the database: 64 MiB,
/// so that a page that many commits touch is copied once.
const CHECKPOINT_PAGES: u32 = 16_000;

/// The same, less where files may not become so large (`ulimit -f`): a log that
/// cannot grow holds up every commit.
fn checkpoint_pages() -> u32 {
    let most = limits::file_size().map_or(CHECKPOINT_PAGES, |most| u32::try_from(most / 4 / PAGE).unwrap_or(u32::MAX));
    CHECKPOINT_PAGES.min(most)
}

/// How large the file may become (`ulimit -f`), where new tasks would take the
/// room that is needed to end those that are queued.
pub(super) fn limit_reached(conn: &Connection) -> Option<u64> {
    let most = limits::file_size()?;
    let pages = |name| conn.pragma_query_value(None, name, |row| row.get::<_, i64>(0)).unwrap_or(0);
    let used = u64::try_from(pages("page_count") - pages("freelist_count")).unwrap_or(0);
    (used * PAGE > for_new_tasks(most)).then_some(most)
}

/// Bytes of a page.
const PAGE: u64 = 4096;

/// The same while the disk is full: 1 MiB, for the log must not grow then.
const TIGHT_PAGES: u32 = 256;

/// The log's size on disk after a checkpoint.
const LOG_LIMIT: u32 = 64 * 1024 * 1024;

/// Opens the connection that writes and makes the file one of ours in shape:
/// write-ahead log, durable commits.
pub(super) fn writing(place: &Place, max_pages: Option<u32>) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    place.make_log_in_place();
    let conn = Connection::open_with_flags(place.database(), flags)
        .map_err(|error| Fault::from(error).about(place.database()))?;
    let mode =
        set_up_writing(&conn, max_pages).map_err(|error| Fault::from(error).on(&conn).about(place.database()))?;
    if mode != "wal" {
        return Err(StoreError::Incompatible(format!(
            "{}: the file system cannot hold SQLite's shared log; put the database on a local disk",
            place.database().display()
        )));
    }
    Ok(conn)
}

fn set_up_writing(conn: &Connection, max_pages: Option<u32>) -> rusqlite::Result<String> {
    conn.busy_timeout(BUSY)?;
    conn.set_prepared_statement_cache_capacity(96);
    // Before the first table, or it has no effect.
    if conn.pragma_query_value(None, "page_count", |row| row.get::<_, i64>(0))? == 0 {
        conn.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    }
    let mode = conn.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))?;
    conn.pragma_update(None, "synchronous", "FULL")?;
    conn.pragma_update(None, "wal_autocheckpoint", checkpoint_pages())?;
    conn.pragma_update(None, "journal_size_limit", LOG_LIMIT)?;
    conn.pragma_update(None, "temp_store", "MEMORY")?;
    conn.pragma_update(None, "cache_size", -8 * 1024)?;
    if let Some(pages) = max_pages {
        conn.pragma_update(None, "max_page_count", pages)?;
    }
    Ok(mode)
}

/// Copies the log into the database as far as that goes, so that it is written
/// anew from its beginning, and keeps it small from now on.
pub(super) fn tighten(conn: &Connection) -> rusqlite::Result<()> {
    conn.pragma_update(None, "wal_autocheckpoint", TIGHT_PAGES)?;
    conn.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))
}

/// Lets the log grow as usual again.
pub(super) fn loosen(conn: &Connection) -> rusqlite::Result<()> {
    conn.pragma_update(None, "wal_autocheckpoint", checkpoint_pages())
}

/// Opens a connection that can only read.
pub(super) fn reading(place: &Place) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(place.database(), flags)?;
    conn.busy_timeout(BUSY)?;
    conn.set_prepared_statement_cache_capacity(48);
    // A temporary file would be out of the reach of a confined host.
    conn.pragma_update(None, "temp_store", "MEMORY")?;
    conn.pragma_update(None, "cache_size", -1024)?;
    Ok(conn)
}

/// Whether SQLite was built with one page cache for all connections
/// (`SQLITE_ENABLE_MEMORY_MANAGEMENT`, as `libsqlite3-sys` does unless told
/// otherwise). Pages of an idle reader then stay in it for ever, and the writer
/// keeps none: it reads every page anew, at half the speed.
pub(super) fn shares_pages(conn: &Connection) -> rusqlite::Result<bool> {
    conn.prepare_cached("SELECT sqlite_compileoption_used('ENABLE_MEMORY_MANAGEMENT')")?.query_row([], |row| row.get(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commits_are_durable_and_space_can_be_given_back() {
        let folder = tempfile::tempdir().expect("a folder");
        let place = Place::prepare(&folder.path().join("q.db")).expect("a place");
        let conn = writing(&place, None).expect("it opens");
        conn.execute_batch("CREATE TABLE t (x)").expect("a table");
        let pragma = |name: &str| conn.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
        assert_eq!(pragma("synchronous"), Ok(2), "FULL");
        assert_eq!(pragma("auto_vacuum"), Ok(2), "INCREMENTAL");
        assert_eq!(pragma("wal_autocheckpoint"), Ok(i64::from(CHECKPOINT_PAGES)));
    }
}
