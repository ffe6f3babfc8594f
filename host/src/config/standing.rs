//! What stands at the paths of mounts, looked at with a bound.
//!
//! A disk that is gone or a server that does not answer holds up whoever looks,
//! for ever where it is a network file system. So each path has a thread of its
//! own, and who asks waits for a while only: a mount that does not answer costs
//! that while, and no other mount anything.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use super::paths::follow;
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

/// Looks at each of these absolute paths, and answers for each, in order, after
/// `patience` at the latest. A thread that still waits then ends by itself, or
/// with the process.
#[must_use]
pub fn look_at(paths: &[PathBuf], patience: Duration) -> Vec<Found> {
    let end = Instant::now() + patience;
    let asked: Vec<_> = paths
        .iter()
        .map(|path| {
            let (answer, answered) = channel();
            let path = path.clone();
            let started = supervise::attended_thread("sweepd-look", move || drop(answer.send(look(&path))));
            started.map(|_| answered)
        })
        .collect();
    let answer = |asked: Result<std::sync::mpsc::Receiver<Found>, std::io::Error>| match asked {
        Err(error) => Found::Unusable(format!("no thread to look at it: {error}")),
        Ok(answered) => match answered.recv_timeout(end.saturating_duration_since(Instant::now())) {
            Ok(standing) => standing,
            Err(RecvTimeoutError::Timeout) => Found::Silent,
            Err(RecvTimeoutError::Disconnected) => Found::Unusable("the look at it panicked".to_owned()),
        },
    };
    asked.into_iter().map(answer).collect()
}

fn look(path: &Path) -> Found {
    match path.canonicalize() {
        Ok(real) if real.is_dir() => Found::Directory(real),
        Ok(real) => Found::Other(real),
        Err(error) if error.kind() == ErrorKind::NotFound => Found::Nothing(follow(path).end),
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
        assert_eq!(
            look_at(&paths, PATIENCE),
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
