//! When somebody removes the database below the running host: SQLite still
//! has the file open, so all of it can be written back to its place. When
//! somebody puts another file there, it is theirs, and sweepd waits.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;

use super::fault::Fault;
use super::index::Cut;
use super::lock::HostLock;
use super::place::Standing;
use super::readers::closed;
use super::writer::{Writer, keep_log};
use crate::store::StoreError;

impl Writer {
    /// Makes sure that what is open is what stands at the place, or brings it
    /// back.
    pub(super) fn stand(&mut self) -> Result<(), StoreError> {
        let Some((_, opened)) = &self.file else {
            return self.open_file();
        };
        let standing = self.place.standing(opened);
        let path = self.place.database().display();
        match standing {
            Standing::Ours => return self.mend_log(),
            Standing::Another => {
                return Err(StoreError::Unavailable(format!(
                    "another file was put in the place of {path}; restart sweepd to work with it"
                )));
            }
            Standing::Gone | Standing::LogGone if self.lock.is_none() => {
                return Err(StoreError::Unavailable(format!(
                    "{path} or its log was removed; run this again when sweepd has put it back"
                )));
            }
            Standing::Gone => {
                tracing::error!("{path} was removed while in use; writing all of it back");
                self.write_back()?;
            }
            Standing::LogGone => {
                tracing::error!("{path}-wal was removed while in use; writing its content into the database");
                self.fold_log()?;
            }
        }
        tracing::warn!("{} is whole again", self.place.database().display());
        Ok(())
    }

    /// Mends a log or its index that somebody cut, where nothing is lost.
    fn mend_log(&mut self) -> Result<(), StoreError> {
        let Some((_, opened)) = &self.file else { return Ok(()) };
        let checked = opened.index.check().and_then(|()| match self.lock {
            Some(_) => opened.index.check_database(self.place.database()),
            None => Ok(()),
        });
        let Err(cut) = checked else { return Ok(()) };
        let (index, path) = (Arc::clone(&opened.index), self.place.database().display().to_string());
        if self.lock.is_none() {
            return Err(cut.about(self.place.database()));
        }
        let failed = |error: io::Error| StoreError::Unavailable(format!("{path}-shm cannot be mended: {error}"));
        // A reader in the middle would miss what the index no longer tells.
        match cut {
            Cut::Index => self.readers.clone().paused(|| index.make_anew()).map_err(failed)?,
            Cut::Log { lost: 0 } => self.readers.clone().paused(|| index.empty_log()).map_err(failed)?,
            Cut::IndexGone => self.fold_log()?,
            Cut::Log { .. } | Cut::Database => return Err(cut.about(self.place.database())),
        }
        tracing::error!(
            "{path}: its log (-wal) or the log's index (-shm) was cut or removed by another program while in use, and \
             is whole again; keep other programs out of the state folder"
        );
        Ok(())
    }

    /// Copies the nameless file to its place.
    fn write_back(&mut self) -> Result<(), StoreError> {
        let copy = self.place.healing();
        let failed =
            |error: io::Error| StoreError::Unavailable(format!("{} cannot be written back: {error}", copy.display()));
        self.place.make_folder().map_err(failed)?;
        if self.lock.as_ref().is_some_and(|lock| !lock.stands()) {
            self.lock = Some(HostLock::take(self.place.database())?);
        }
        let Some((conn, _)) = &self.file else {
            return Err(closed());
        };
        discard(&copy).and_then(|()| create(&copy)).map_err(failed)?;
        conn.execute("VACUUM INTO ?1", [copy.to_string_lossy()]).map_err(|error| Fault::from(error).about(&copy))?;
        // SQLite does not make the copy durable; nothing has it open now.
        std::fs::File::open(&copy).and_then(|copy| copy.sync_all()).map_err(failed)?;
        let readers = self.readers.clone();
        readers.paused(|| {
            self.place.remove_log().map_err(failed)?;
            // Unlike a rename, a link never takes the place of another file.
            std::fs::hard_link(&copy, self.place.database()).map_err(failed)?;
            self.let_go();
            discard(&copy).and_then(|()| self.place.sync_folder()).map_err(failed)?;
            if let Some(lock) = &mut self.lock {
                lock.hold(self.place.database())?;
            }
            self.open_file()
        })
    }

    /// Writes the nameless log into the database and starts another.
    fn fold_log(&mut self) -> Result<(), StoreError> {
        let readers = self.readers.clone();
        readers.paused(|| {
            let path = self.place.database();
            let Some((conn, _)) = &self.file else {
                return Err(closed());
            };
            let busy: i64 = conn
                .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))
                .map_err(|error| Fault::from(error).about(path))?;
            if busy != 0 {
                return Err(StoreError::Unavailable(format!(
                    "{}-wal was removed, and another process still reads from it; end that one",
                    path.display()
                )));
            }
            self.let_go();
            self.place
                .remove_log()
                .map_err(|error| StoreError::Unavailable(format!("{}: {error}", self.place.database().display())))?;
            self.open_file()
        })
    }

    /// Closes the connection without touching files by their names.
    fn let_go(&mut self) {
        if let Some((conn, _)) = self.file.take() {
            keep_log(&conn);
        }
        self.readers.watch(None);
    }
}

fn discard(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// An empty file, for this user alone.
fn create(path: &Path) -> io::Result<()> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map(drop)
}
