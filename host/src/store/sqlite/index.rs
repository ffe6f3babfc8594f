//! The log and its index as files, which somebody may cut below the host.
//!
//! SQLite maps the index into memory: a page of it that is no longer in the file
//! ends the process by SIGBUS when it is touched. A log that was cut is gone on
//! with at its old end, and the gap would be copied into the database as zeros.
//! Both are looked for before each transaction; what is cut in the middle of one
//! is not found in time.
//!
//! The index's layout is that of SQLite's documentation (`walformat.html`), which
//! versions of SQLite share with each other.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::store::StoreError;

/// The header of the index, twice, and what a checkpoint notes behind it.
const HEAD: usize = 136;
/// The only version there is.
const VERSION: u32 = 3_007_000;
/// Bytes before the first frame of a log, and before the page of each.
const LOG_HEAD: u64 = 32;
const FRAME_HEAD: u64 = 24;

/// The two files, open for as long as the connections are: to close any
/// descriptor of the index lets go of all locks that this process has on it.
#[derive(Debug)]
pub(super) struct Index {
    /// The index.
    shm: File,
    log: File,
    /// The longest that the index was.
    seen: AtomicU64,
    /// The longest that the database was since it was last made shorter by SQLite.
    database: AtomicU64,
}

/// What is wrong with them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    /// The index is shorter than it was, and must not be touched.
    Index,
    /// The index lost its name: others would make one of their own.
    IndexGone,
    /// The database is shorter than it was, and than it is to be.
    Database,
    /// The log is shorter than the index says.
    Log {
        /// Pages that were in it and not in the database yet.
        lost: u32,
    },
}

/// What the index says of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Said {
    frames: u32,
    /// Pages of the database, those in the log included.
    pages: u32,
    /// Of them, in the database already.
    copied: u32,
    page: u64,
}

impl Cut {
    /// What is told of the database at `path` where nobody mends it.
    pub(super) fn about(self, path: &Path) -> StoreError {
        let path = path.display();
        StoreError::Unavailable(match self {
            Self::Index => format!("{path}-shm was cut by another program; sweepd mends it within seconds"),
            Self::IndexGone => format!("{path}-shm was removed; sweepd mends that within seconds"),
            Self::Database => format!(
                "{path} was cut by another program: what stood behind its new end is lost, and nothing more is written. \
                 Stop sweepd, copy {path} and {path}-wal away, and look for a copy from before that"
            ),
            Self::Log { lost: 0 } => format!("{path}-wal was cut by another program; sweepd mends it within seconds"),
            Self::Log { lost } => format!(
                "{path}-wal was cut by another program: {lost} pages that were not in the database yet are lost, and \
                 nothing more is written; restart sweepd to go on with what is there, and keep other programs out of \
                 its state folder"
            ),
        })
    }
}

impl Index {
    /// Those that a connection has open at these paths.
    pub(super) fn open(log: &Path, index: &Path) -> io::Result<Self> {
        let index = OpenOptions::new().read(true).write(true).open(index)?;
        let seen = AtomicU64::new(index.metadata()?.len());
        let log = OpenOptions::new().read(true).write(true).open(log)?;
        Ok(Self { shm: index, log, seen, database: AtomicU64::new(0) })
    }

    /// Whether a transaction may begin.
    pub(super) fn check(&self) -> Result<(), Cut> {
        // An error is none of ours to judge: SQLite meets the same.
        let Ok(index) = self.shm.metadata() else { return Ok(()) };
        if self.seen.fetch_max(index.len(), Ordering::Relaxed) > index.len() {
            return Err(Cut::Index);
        }
        if index.nlink() == 0 {
            return Err(Cut::IndexGone);
        }
        let Some(said) = self.said() else { return Ok(()) };
        let needed = LOG_HEAD + u64::from(said.frames) * (FRAME_HEAD + said.page);
        let is_cut = |log: &std::fs::Metadata| said.frames > 0 && log.len() < needed;
        // Whoever begins the log anew says so in the index first, and cuts it then.
        if self.log.metadata().is_ok_and(|log| is_cut(&log)) && self.said() == Some(said) {
            return Err(Cut::Log { lost: said.frames.saturating_sub(said.copied) });
        }
        Ok(())
    }

    /// Whether the database is as long as it was: for its host, which alone makes it
    /// shorter.
    pub(super) fn check_database(&self, path: &Path) -> Result<(), Cut> {
        let (Some(said), Ok(database)) = (self.said(), std::fs::metadata(path)) else { return Ok(()) };
        // What the log holds may lie behind the end of the file. SQLite says in the
        // index how long it is to be before it cuts it.
        let (seen, is_to_be) = (self.database.load(Ordering::Relaxed), u64::from(said.pages) * said.page);
        if database.len() < seen.min(is_to_be) {
            return Err(Cut::Database);
        }
        self.database.store(database.len(), Ordering::Relaxed);
        Ok(())
    }

    /// Makes the index as long as it was, and empty: SQLite makes it anew from the
    /// log. Only while no transaction is under way.
    pub(super) fn make_anew(&self) -> io::Result<()> {
        self.shm.set_len(self.seen.load(Ordering::Relaxed))?;
        self.shm.write_all_at(&[0; HEAD], 0)
    }

    /// Makes the log empty, of which the database has everything. Only while no
    /// transaction is under way.
    pub(super) fn empty_log(&self) -> io::Result<()> {
        self.make_anew()?;
        self.log.set_len(0)
    }

    fn said(&self) -> Option<Said> {
        let mut head = [0; HEAD];
        self.shm.read_exact_at(&mut head, 0).ok()?;
        let word = |at: usize| u32::from_ne_bytes(head[at..][..4].try_into().expect("four bytes"));
        let short = u16::from_ne_bytes(head[14..16].try_into().expect("two bytes"));
        // 65,536 does not fit, and is told as 1.
        let page = if short == 1 { 1 << 16 } else { u64::from(short) };
        let is_made = word(0) == VERSION && head[12] == 1;
        is_made.then(|| Said { frames: word(16), pages: word(20), copied: word(96), page })
    }
}

#[cfg(test)]
mod tests {
    use rusqlite::Connection;

    use super::*;
    use crate::store::sqlite::place::with_suffix;

    fn insert(conn: &Connection) {
        // Put together, as it is none of the store's statements.
        conn.execute_batch(&format!("INSERT INTO {} VALUES (1)", "t")).unwrap();
    }

    #[test]
    fn what_sqlite_writes_is_understood() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("q.db");
        let conn = Connection::open(&path).unwrap();
        conn.pragma_update(None, "journal_mode", "WAL").unwrap();
        conn.execute_batch("CREATE TABLE t (x); INSERT INTO t VALUES (zeroblob(100000))").unwrap();
        let index = Index::open(&with_suffix(&path, "-wal"), &with_suffix(&path, "-shm")).unwrap();
        assert_eq!(index.check(), Ok(()));
        let said = index.said().unwrap();
        assert!(said.frames > 20 && said.copied == 0 && said.page == 4096, "{said:?}");
        let log = LOG_HEAD + u64::from(said.frames) * (FRAME_HEAD + said.page);
        assert_eq!(index.log.metadata().unwrap().len(), log);
        conn.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())).unwrap();
        assert_eq!(index.said().unwrap().copied, said.frames);
        assert_eq!(index.check_database(&path), Ok(()));
        assert_eq!(std::fs::metadata(&path).unwrap().len(), u64::from(said.pages) * said.page);
        index.database.fetch_add(4096, Ordering::Relaxed);
        assert_eq!(index.check_database(&path), Ok(()), "SQLite made it shorter");
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, &whole[..4096]).unwrap();
        assert_eq!(index.check_database(&path), Err(Cut::Database));
        std::fs::write(&path, &whole).unwrap();
        assert_eq!(index.check_database(&path), Ok(()));
        index.log.set_len(log - 1).unwrap();
        assert_eq!(index.check(), Err(Cut::Log { lost: 0 }));
        index.empty_log().unwrap();
        insert(&conn);
        assert_eq!(index.check(), Ok(()));
        let length = index.shm.metadata().unwrap().len();
        for cut in [0, length - 1] {
            index.shm.set_len(cut).unwrap();
            assert_eq!(index.check(), Err(Cut::Index));
            index.make_anew().unwrap();
            insert(&conn);
            assert_eq!(index.check(), Ok(()));
        }
        let count = conn.query_row(&format!("SELECT {} FROM t", "count(*)"), [], |row| row.get::<_, i64>(0));
        assert_eq!(count, Ok(4));
        std::fs::remove_file(with_suffix(&path, "-shm")).unwrap();
        assert_eq!(index.check(), Err(Cut::IndexGone));
    }
}
