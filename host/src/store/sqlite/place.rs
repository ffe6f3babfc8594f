//! Where the database stands, and whether what stands there is still the file
//! that was opened: somebody may remove it or put another in its place, and
//! SQLite would go on writing into a file without a name.

use std::fs::{DirBuilder, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::fault::full_from_the_start;
use super::index::Index;
use crate::disk;
use crate::limits;
use crate::store::StoreError;

/// A file, whatever it is called.
type Identity = (u64, u64);

/// What stands at the database's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// The file that was opened, and its log.
    Ours,
    /// The file that was opened, but its log was removed or replaced.
    LogGone,
    /// Nothing.
    Gone,
    /// Some other file.
    Another,
}

/// Of so many bytes that a file may have, new tasks fill so many: the rest is for
/// ending those that are queued.
pub(super) fn for_new_tasks(most: u64) -> u64 {
    most - most / 8
}

/// The database's paths, with all links resolved.
#[derive(Clone, Debug)]
pub(super) struct Place {
    database: PathBuf,
    log: PathBuf,
    index: PathBuf,
}

/// The files as they were when the writer opened them.
#[derive(Clone, Debug)]
pub(super) struct Opened {
    database: Identity,
    log: Identity,
    /// The log and its index, open as long as a connection is.
    pub(super) index: Arc<Index>,
}

impl Place {
    /// Resolves `path` and makes its folder and an empty file where there are
    /// none, for this user alone.
    pub(super) fn prepare(path: &Path) -> Result<Self, StoreError> {
        let place = prepare(path).map_err(|error| {
            if disk::is_full(&error) {
                return full_from_the_start(path);
            }
            StoreError::Unavailable(format!("{}: {error}; check the path and its rights", path.display()))
        })?;
        place.must_have_one_name()?;
        Ok(place)
    }

    /// Refuses a database with a second name (a hard link): SQLite looks for the
    /// log beside the name that it is given, and what stands in the log of another
    /// name would be lost, or copied over what is newer.
    fn must_have_one_name(&self) -> Result<(), StoreError> {
        let names = |path: &Path| std::fs::metadata(path).map_or(1, |file| file.nlink());
        // A host that was killed while it wrote the file back left this one.
        let healing = self.healing();
        let is_left = |file: &Metadata| is_there(&self.database, identity(file)) == Some(true);
        if names(&self.database) > 1 && std::fs::metadata(&healing).is_ok_and(|file| is_left(&file)) {
            let _ = std::fs::remove_file(&healing);
        }
        let names = names(&self.database);
        if names <= 1 {
            return Ok(());
        }
        let path = self.database.display();
        Err(StoreError::Unavailable(format!(
            "{path} has {names} names (hard links), and SQLite keeps a log of its own beside each: what was written under \
             one name is lost under another. Remove the other names (find them with `find / -xdev -samefile {path}`); \
             a backup has to be a copy"
        )))
    }

    /// Resolves `path` where a file is; nothing is made.
    pub(super) fn existing(path: &Path) -> Result<Self, StoreError> {
        let found = std::fs::canonicalize(path).and_then(|database| {
            if std::fs::metadata(&database)?.is_file() { Ok(database) } else { Err(io::Error::other("it is no file")) }
        });
        found.map(Self::of).map_err(|error| {
            StoreError::Unavailable(format!(
                "{}: {error}; check the path and its rights, or run sweepd, which makes it",
                path.display()
            ))
        })
    }

    fn of(database: PathBuf) -> Self {
        Self { log: with_suffix(&database, "-wal"), index: with_suffix(&database, "-shm"), database }
    }

    /// The database itself.
    pub(super) fn database(&self) -> &Path {
        &self.database
    }

    /// Where a copy is written before it takes the database's place.
    pub(super) fn healing(&self) -> PathBuf {
        with_suffix(&self.database, ".healing")
    }

    /// Remembers which files stand there now.
    pub(super) fn opened(&self) -> io::Result<Opened> {
        Ok(Opened {
            database: identity(&std::fs::metadata(&self.database)?),
            log: identity(&std::fs::metadata(&self.log)?),
            index: Arc::new(Index::open(&self.log, &self.index)?),
        })
    }

    /// Compares what stands there with what was opened. An error other than
    /// "not found" is none of ours to judge: the next system call tells.
    pub(super) fn standing(&self, opened: &Opened) -> Standing {
        match is_there(&self.database, opened.database) {
            Some(true) => match is_there(&self.log, opened.log) {
                Some(true) => Standing::Ours,
                Some(false) | None => Standing::LogGone,
            },
            Some(false) => Standing::Another,
            None => Standing::Gone,
        }
    }

    /// Removes the log and its index, which nobody uses any more: beside
    /// another database file they would be taken for its own.
    pub(super) fn remove_log(&self) -> io::Result<()> {
        for path in [&self.log, &self.index] {
            match std::fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// Where SQLite may write pages that have their space already elsewhere on a
    /// full disk, its log and the log's index are made so that they stay in place:
    /// the index is mapped, and the process would end by SIGBUS.
    pub(super) fn make_log_in_place(&self) {
        if !disk::copies_on_write(self.folder()) {
            return;
        }
        for path in [&self.log, &self.index] {
            // Where there is one, its pages stay as they were made.
            if let Ok(file) = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
                disk::write_in_place(&file);
            }
        }
    }

    /// Whether a file can be made beside the database. Made after something failed
    /// there, to tell a full disk from a broken one.
    pub(super) fn is_full(database: &Path) -> bool {
        let probe = with_suffix(database, &format!(".probe-{}", std::process::id()));
        let made = std::fs::File::create(&probe).and_then(|file| disk::allocate(&file, 64 << 10));
        let _ = std::fs::remove_file(&probe);
        made.is_err_and(|error| disk::is_full(&error))
    }

    /// How large the database and its log may become (`ulimit -f`), where one of
    /// them is about to be larger.
    pub(super) fn largest(database: &Path) -> Option<u64> {
        let most = limits::file_size()?;
        let near = |file: &Path| std::fs::metadata(file).is_ok_and(|about| about.len() > for_new_tasks(most));
        (near(database) || near(&with_suffix(database, "-wal"))).then_some(most)
    }

    /// Makes the folder again if it is gone.
    pub(super) fn make_folder(&self) -> io::Result<()> {
        make_folder(self.folder())
    }

    /// Makes names in the folder durable.
    pub(super) fn sync_folder(&self) -> io::Result<()> {
        std::fs::File::open(self.folder())?.sync_all()
    }

    fn folder(&self) -> &Path {
        self.database.parent().unwrap_or(Path::new("/"))
    }
}

fn prepare(path: &Path) -> io::Result<Place> {
    let absolute = std::path::absolute(path)?;
    let database = match std::fs::canonicalize(&absolute) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let name = absolute.file_name().ok_or(io::ErrorKind::IsADirectory)?;
            let folder = absolute.parent().unwrap_or(Path::new("/"));
            make_folder(folder)?;
            std::fs::canonicalize(folder)?.join(name)
        }
        found => found?,
    };
    let place = Place::of(database);
    if std::fs::metadata(&place.database).is_ok_and(|there| !there.is_file()) {
        return Err(io::Error::other("it is no file"));
    }
    // Only ever created here, never opened: closing a descriptor of a database
    // lets go of all locks that this process has on it.
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&place.database) {
        Ok(_) => place.sync_folder()?,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error),
    }
    Ok(place)
}

fn make_folder(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

pub(super) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(suffix);
    path.into()
}

fn identity(file: &Metadata) -> Identity {
    (file.dev(), file.ino())
}

/// Whether `path` is that file; `None` where nothing is.
fn is_there(path: &Path, file: Identity) -> Option<bool> {
    match std::fs::metadata(path) {
        Ok(there) => Some(identity(&there) == file),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => None,
        Err(_) => Some(true),
    }
}
