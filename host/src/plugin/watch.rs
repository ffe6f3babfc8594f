//! Sees that a plugin's file has changed: by `mv`, by a write in place, by a
//! changed link anywhere on its path, by a replaced folder.
//!
//! Events only say "look now"; what counts is whether the file's stamp is
//! another. A stat every two seconds sees what events miss: network file
//! systems, exhausted inotify, a folder that was replaced. Every look is made by a
//! thread of its own and waited for with a bound: a server that is dead holds up
//! nobody. Its invariant: what cannot be seen counts as unchanged, and is told.

use std::collections::BTreeSet;
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::answers::{NoAnswer, answered};

/// How long a change must rest before it is read.
pub(super) const SETTLE: Duration = Duration::from_millis(100);
/// A file that never rests is read after this time all the same.
const SETTLE_AT_MOST: Duration = Duration::from_secs(2);
/// How often the file is looked at without an event.
const POLL: Duration = Duration::from_secs(2);
/// More links than this on one path are a loop, as for the kernel.
const MAX_LINKS: usize = 40;

/// What tells one state of a file from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    file: (u64, u64),
    size: u64,
    written: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    /// The stamp of an open or named file.
    pub(super) fn of(metadata: &Metadata) -> Self {
        Self {
            file: (metadata.dev(), metadata.ino()),
            size: metadata.size(),
            written: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// What stands at a path: a file with this stamp, or `None` for no file.
type Sight = Option<Stamp>;

/// Why it is not known what the file is now, for whoever tells it; `None` when it
/// is known.
pub(super) type Tell = dyn Fn(Option<String>) + Send + Sync;

/// Watches one file.
pub(super) struct Watch {
    file: PathBuf,
    /// What was seen last; `None` before anything was.
    seen: Option<Sight>,
    /// Used by the thread that looks.
    eyes: Arc<Mutex<Eyes>>,
    event: Arc<Notify>,
    tell: Box<Tell>,
}

/// The folders that are watched for events.
struct Eyes {
    file: PathBuf,
    /// `None` before the first look, and where the system refused one; polling
    /// goes on.
    watcher: Option<RecommendedWatcher>,
    is_begun: bool,
    watched: BTreeSet<PathBuf>,
    event: Arc<Notify>,
}

impl Watch {
    /// Looks at nothing yet. Whatever makes it unknown what the file is now is
    /// told once, and so is its end.
    pub(super) fn new(file: PathBuf, tell: impl Fn(Option<String>) + Send + Sync + 'static) -> Self {
        let event = Arc::new(Notify::new());
        let (at, wake) = (file.clone(), Arc::clone(&event));
        let eyes = Eyes { file: at, watcher: None, is_begun: false, watched: BTreeSet::new(), event: wake };
        Self { file, seen: None, eyes: Arc::new(Mutex::new(eyes)), event, tell: Box::new(tell) }
    }

    /// Begins; what stands there now counts as seen. Where it cannot be seen, it
    /// counts as a change once it can. Cancel safe.
    pub(super) async fn begin(&mut self) {
        self.seen = self.look().await.ok();
    }

    /// Completes when the file is another than was seen last, and has rested.
    /// Cancel safe: a change that was not answered is seen again.
    pub(super) async fn changed(&mut self) {
        loop {
            if let Ok(sight) = self.look().await
                && self.seen != Some(sight)
                && let Ok(rested) = self.settled(sight).await
            {
                self.seen = Some(rested);
                return;
            }
            let _ = timeout(POLL, self.event.notified()).await;
        }
    }

    /// What is there after it has stayed the same for [`SETTLE`].
    async fn settled(&self, mut last: Sight) -> Result<Sight, NoAnswer> {
        let give_up = Instant::now() + SETTLE_AT_MOST;
        let mut rested = Instant::now() + SETTLE;
        while Instant::now() < give_up.min(rested) {
            tokio::select! {
                () = sleep_until(give_up.min(rested)) => {}
                () = self.event.notified() => {}
                () = sleep(SETTLE / 4) => {}
            }
            let now = self.look().await?;
            if now != last {
                last = now;
                rested = Instant::now() + SETTLE;
            }
        }
        Ok(last)
    }

    /// Looks, with a bound.
    async fn look(&self) -> Result<Sight, NoAnswer> {
        let eyes = Arc::clone(&self.eyes);
        let looked = answered(&self.file, move || {
            let mut eyes = eyes.lock().unwrap_or_else(PoisonError::into_inner);
            // First: a change after the look makes an event.
            eyes.follow_links();
            fs::metadata(&eyes.file).ok()
        });
        let looked = looked.await;
        (self.tell)(match &looked {
            // Its words differ from look to look.
            Err(error) if error.is_silent => Some(SILENT.to_owned()),
            Err(error) => Some(format!("a change of it is not seen: {}", error.why)),
            Ok(Some(metadata)) if metadata.nlink() == 0 => Some(REPLACED_OUTSIDE.to_owned()),
            Ok(_) => None,
        });
        looked.map(|metadata| metadata.map(|metadata| Stamp::of(&metadata)))
    }
}

/// A file that may be anything by now.
const SILENT: &str = "it does not answer, so that a change of it is not seen; is the disk or the server behind it up?";
/// A file that has a path but no name.
const REPLACED_OUTSIDE: &str = "the file that is mounted there was removed or replaced where it is mounted from, and \
                                a mount of a single file goes on showing the old one: mount its folder instead, or \
                                mount it anew and restart the host";

impl Eyes {
    /// Watches the folders that matter now, and no others.
    fn follow_links(&mut self) {
        if !std::mem::replace(&mut self.is_begun, true) {
            self.watcher = self.begin();
        }
        let Some(watcher) = &mut self.watcher else { return };
        let wanted = folders_of(&self.file);
        for folder in self.watched.difference(&wanted) {
            let _ = watcher.unwatch(folder);
        }
        let before = std::mem::take(&mut self.watched);
        // A folder that is not there (any more) is tried again at the next poll.
        let mut is_watched =
            |folder: &PathBuf| before.contains(folder) || watcher.watch(folder, RecursiveMode::NonRecursive).is_ok();
        self.watched = wanted.into_iter().filter(|folder| is_watched(folder)).collect();
    }

    fn begin(&self) -> Option<RecommendedWatcher> {
        let wake = Arc::clone(&self.event);
        let on_event = move |event: notify::Result<notify::Event>| {
            // Our own read of the file is an access event.
            if !matches!(event, Ok(notify::Event { kind: EventKind::Access(_), .. })) {
                wake.notify_one();
            }
        };
        notify::recommended_watcher(on_event)
            .inspect_err(|error| {
                tracing::warn!("watching {} by events failed ({error}): polling every {POLL:?}", self.file.display());
            })
            .ok()
    }
}

/// The folders in which a change can make `file` another: its own, and that of
/// every link on its path.
fn folders_of(file: &Path) -> BTreeSet<PathBuf> {
    let mut folders = BTreeSet::new();
    let mut at = PathBuf::new();
    let mut rest: Vec<PathBuf> = parts(file);
    let mut links = 0;
    while let Some(part) = rest.pop() {
        if part.as_os_str() == ".." {
            at.pop();
            continue;
        }
        let next = at.join(&part);
        match fs::read_link(&next) {
            Ok(target) if links < MAX_LINKS => {
                links += 1;
                folders.insert(at.clone());
                if target.is_absolute() {
                    at = PathBuf::new();
                }
                rest.extend(parts(&target));
            }
            _ if rest.is_empty() => {
                folders.insert(at.clone());
            }
            _ => at = next,
        }
    }
    folders
}

/// The parts of a path, the last first.
fn parts(path: &Path) -> Vec<PathBuf> {
    path.components()
        .rev()
        .filter(|part| *part != Component::CurDir)
        .map(|part| PathBuf::from(part.as_os_str()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn folders_of_a_kubernetes_mount() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().canonicalize().unwrap();
        fs::create_dir(root.join("..v1")).unwrap();
        fs::write(root.join("..v1/p.wasm"), "1").unwrap();
        symlink("..v1", root.join("..data")).unwrap();
        symlink("..data/p.wasm", root.join("p.wasm")).unwrap();
        let folders = folders_of(&root.join("p.wasm"));
        assert!(folders.contains(&root), "{folders:?}");
        assert!(folders.contains(&root.join("..v1")), "{folders:?}");
        assert_eq!(folders.len(), 2, "{folders:?}");
    }

    #[test]
    fn a_loop_of_links_ends() {
        let root = tempfile::tempdir().unwrap();
        symlink("b", root.path().join("a")).unwrap();
        symlink("a", root.path().join("b")).unwrap();
        assert!(!folders_of(&root.path().join("a")).is_empty());
    }

    async fn sees(watch: &mut Watch) -> bool {
        timeout(Duration::from_secs(20), watch.changed()).await.is_ok()
    }

    #[tokio::test]
    async fn every_way_of_changing_a_file_is_seen() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().canonicalize().unwrap();
        let file = root.join("p.wasm");
        let mut watch = Watch::new(file.clone(), |why| assert!(why.is_none(), "{why:?}"));
        watch.begin().await;
        fs::write(&file, "1").unwrap();
        assert!(sees(&mut watch).await, "made");
        fs::write(&file, "22").unwrap();
        assert!(sees(&mut watch).await, "written in place");
        fs::write(root.join("new"), "33").unwrap();
        fs::rename(root.join("new"), &file).unwrap();
        assert!(sees(&mut watch).await, "moved over");
        fs::remove_file(&file).unwrap();
        assert!(sees(&mut watch).await, "removed");
        symlink("../..2/elsewhere", root.join("x")).unwrap();
        fs::write(root.join("other"), "4").unwrap();
        symlink("other", &file).unwrap();
        assert!(sees(&mut watch).await, "a link");
        fs::write(root.join("other"), "55").unwrap();
        assert!(sees(&mut watch).await, "written behind the link");
    }
}
