//! What stands at the paths of mounts and of plugin files, looked at with a bound.
//!
//! A disk that is gone or a server that does not answer holds up whoever looks,
//! for ever where it is a network file system. So each path has a thread of its
//! own, and who asks waits for a while only: a mount that does not answer costs
//! that while, and no other mount anything.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::paths::{Followed, follow_telling};
use crate::supervise;

/// How long a path may take to answer.
pub const PATIENCE: Duration = Duration::from_secs(2);

/// What stands at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// A directory; its path without links.
    Directory(PathBuf),
    /// Something else; its path without links.
    Other(PathBuf),
    /// Nothing; the path without links, as far as it exists.
    Nothing(PathBuf),
    /// Whatever it is did not answer in time.
    Silent,
    /// It cannot be used, and why.
    Unusable(String),
}

/// What was found at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look {
    /// What stands there.
    pub found: Found,
    /// Where the path leads and what decides about that; where it did not answer,
    /// as far as it did, and from there on as it is written.
    pub followed: Followed,
}

/// Looks at each of these absolute paths, and answers for each, in order, after
/// `patience` at the latest. A thread that still waits then ends by itself, or
/// with the process.
#[must_use]
pub fn look_at(paths: &[PathBuf], patience: Duration) -> Vec<Look> {
    let end = Instant::now() + patience;
    let asked: Vec<_> = paths.iter().map(|path| Asked::at(path)).collect();
    asked.into_iter().map(|asked| asked.answer(end)).collect()
}

/// A look that is under way.
struct Asked {
    answered: Result<Receiver<Found>, std::io::Error>,
    followed: Arc<Mutex<Followed>>,
}

impl Asked {
    fn at(path: &Path) -> Self {
        let (answer, answered) = channel();
        let followed = Arc::default();
        let (path, tell) = (path.to_owned(), Arc::clone(&followed));
        let started = supervise::attended_thread("sweepd-look", move || drop(answer.send(look(&path, &tell))));
        Self { answered: started.map(|_| answered), followed }
    }

    fn answer(self, end: Instant) -> Look {
        let found = match self.answered {
            Err(error) => Found::Unusable(format!("no thread to look at it: {error}")),
            Ok(answered) => match answered.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(standing) => standing,
                Err(RecvTimeoutError::Timeout) => Found::Silent,
                Err(RecvTimeoutError::Disconnected) => Found::Unusable("the look at it panicked".to_owned()),
            },
        };
        let followed = self.followed.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Look { found, followed }
    }
}

fn look(path: &Path, tell: &Mutex<Followed>) -> Found {
    let know = |followed| *tell.lock().unwrap_or_else(PoisonError::into_inner) = followed;
    let followed = follow_telling(path, know);
    know(followed.clone());
    match path.canonicalize() {
        Ok(real) if real.is_dir() => Found::Directory(real),
        Ok(real) => Found::Other(real),
        Err(error) if error.kind() == ErrorKind::NotFound => Found::Nothing(followed.end),
        Err(error) => Found::Unusable(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_path_is_told_for_what_stands_there() {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path().canonicalize().expect("its real path");
        std::fs::create_dir(root.join("real")).expect("a folder");
        std::fs::write(root.join("file"), "").expect("written");
        std::os::unix::fs::symlink("real", root.join("link")).expect("a link");
        let paths: Vec<_> = ["link", "file", "link/none"].iter().map(|name| root.join(name)).collect();
        let looks = look_at(&paths, PATIENCE);
        assert!(looks[0].followed.deciding.contains(&root) && looks[1].followed.end == root.join("file"));
        assert_eq!(
            looks.into_iter().map(|look| look.found).collect::<Vec<_>>(),
            [
                Found::Directory(root.join("real")),
                Found::Other(root.join("file")),
                Found::Nothing(root.join("real/none"))
            ]
        );
    }

    #[test]
    fn nobody_waits_for_longer_than_the_patience() {
        assert_eq!(look_at(&[PathBuf::from("/")], Duration::ZERO).len(), 1);
    }
}
