//! Accepted components, kept by digest in the state folder, and what is known
//! of them: what serves when the plugin's file cannot.
//!
//! ```text
//!  components/JOB/DIGEST.wasm     the components
//!  components/JOB/history.json    what is known of them
//!  components/JOB/lock            held while the history is changed
//! ```
//! The host and commands beside it change the history, each under the lock and
//! by putting a whole new file in place: whoever reads needs no lock. A
//! component is written before it is named, so that a crash leaves at most a
//! file too many.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use crate::domain::digest::Digest;
use crate::domain::plugin_history::{Accepted, PluginHistory, Refused, Steer, Steered};
use crate::domain::time::Timestamp;

/// The accepted components of one job.
#[derive(Clone, Debug)]
pub struct Kept {
    folder: PathBuf,
}

/// Why what a person asked for is not done.
#[derive(Debug, thiserror::Error)]
pub enum SteerError {
    /// It makes no sense as things are.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The component that is to serve cannot be read any more.
    #[error("{} cannot serve: {source}", .digest.short())]
    Unreadable {
        /// Which.
        digest: Digest,
        /// Why.
        source: io::Error,
    },
    /// The state folder could not be read or written.
    #[error("what is known of the job's components could not be changed: {0}")]
    State(#[from] io::Error),
}

impl Kept {
    /// Those of `job` under the state folder.
    #[must_use]
    pub fn of(state: &Path, job: &str) -> Self {
        Self { folder: state.join("components").join(job) }
    }

    /// Keeps a component as the one that took the slot last; what is kept too
    /// long goes.
    pub fn keep(&self, component: Accepted, bytes: &[u8]) -> io::Result<()> {
        fs::create_dir_all(&self.folder)?;
        let file = self.file(component.digest);
        if !file.exists() {
            write_atomically(&file, bytes)?;
        }
        let forgotten = self.change(|history| Ok::<_, io::Error>(history.took_the_slot(component)))?;
        for digest in forgotten {
            let _ = fs::remove_file(self.file(digest));
        }
        Ok(())
    }

    /// What is known of them now. One that cannot be read is an error, not an
    /// empty one: it may say that something must not serve.
    pub fn history(&self) -> io::Result<PluginHistory> {
        let file = self.history_file();
        match fs::read(&file) {
            Ok(text) => serde_json::from_slice(&text).map_err(|error| {
                let help = "remove it to begin anew; nothing is then set aside or pinned";
                io::Error::other(format!("{} cannot be understood ({error}): {help}", file.display()))
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.taken_over(),
            Err(error) => Err(io::Error::new(error.kind(), format!("{}: {error}", file.display()))),
        }
    }

    /// Changes what is known, alone: whoever else wants to waits. An error of
    /// `change` leaves everything as it was.
    pub fn change<T, E: From<io::Error>>(
        &self,
        change: impl FnOnce(&mut PluginHistory) -> Result<T, E>,
    ) -> Result<T, E> {
        fs::create_dir_all(&self.folder)?;
        let lock = self.lock()?;
        let before = self.history()?;
        let mut history = before.clone();
        let answer = change(&mut history)?;
        if history != before {
            let text = serde_json::to_vec_pretty(&history).map_err(io::Error::from)?;
            write_atomically(&self.history_file(), &text)?;
            // What an earlier version wrote is in it.
            let _ = fs::remove_file(self.folder.join("order"));
        }
        drop(lock);
        Ok(answer)
    }

    /// Does what a person asks for. A running host takes it up from the file.
    pub fn steer(&self, ask: &Steer, now: Timestamp) -> Result<Steered, SteerError> {
        if !self.folder.exists() {
            // Nothing was ever accepted: no reason to make a folder.
            return Ok(PluginHistory::default().steer(ask, now)?);
        }
        self.change(|history| {
            let steered = history.steer(ask, now)?;
            if let Some(digest) = steered.serves {
                self.read(digest).map_err(|source| SteerError::Unreadable { digest, source })?;
            }
            Ok(steered)
        })
    }

    /// The bytes of a kept component; refused where they no longer have its
    /// digest.
    pub fn read(&self, digest: Digest) -> io::Result<Vec<u8>> {
        let file = self.file(digest);
        let told = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", file.display()));
        let bytes = fs::read(&file).map_err(told)?;
        if Digest::of(&bytes) == digest {
            return Ok(bytes);
        }
        Err(io::Error::other(format!("{} was changed since it was kept", file.display())))
    }

    /// The file that says what is known of them; it may not be there yet.
    #[must_use]
    pub fn history_file(&self) -> PathBuf {
        self.folder.join("history.json")
    }

    /// Waits for whoever changes the history now. The kernel lets go of it when
    /// this is dropped, or its process dies.
    fn lock(&self) -> io::Result<File> {
        let path = self.folder.join("lock");
        // Another user's may be read, and a lock needs no more.
        let file = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => File::create(&path)?,
            opened => opened?,
        };
        file.lock()?;
        Ok(file)
    }

    /// What an earlier version knew: the digests, the newest last. Whether they
    /// answered was not noted; they are what that version went back to.
    fn taken_over(&self) -> io::Result<PluginHistory> {
        let text = match fs::read_to_string(self.folder.join("order")) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error),
        };
        let accepted = text.lines().filter_map(|line| line.parse().ok()).filter_map(|digest| {
            let metadata = fs::metadata(self.file(digest)).ok()?;
            let written = metadata.modified().ok()?.duration_since(UNIX_EPOCH).unwrap_or_default();
            Some(Accepted {
                digest,
                size: metadata.len(),
                accepted_at: Timestamp::default().after(written),
                world: None,
                answered: true,
                set_aside: None,
            })
        });
        Ok(PluginHistory { pinned: None, accepted: accepted.collect() })
    }

    fn file(&self, digest: Digest) -> PathBuf {
        self.folder.join(format!("{digest}.wasm"))
    }
}

fn write_atomically(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut file = File::create(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

#[cfg(test)]
mod tests {
    use crate::domain::plugin_history::SetAside;

    use super::*;

    fn component(bytes: &[u8]) -> Accepted {
        let digest = Digest::of(bytes);
        let size = bytes.len() as u64;
        Accepted { digest, size, accepted_at: Timestamp(1), world: None, answered: false, set_aside: None }
    }

    fn keep(kept: &Kept, bytes: &[u8]) -> Digest {
        kept.keep(component(bytes), bytes).unwrap();
        Digest::of(bytes)
    }

    fn newest_first(kept: &Kept) -> Vec<Digest> {
        kept.history().unwrap().accepted.iter().rev().map(|entry| entry.digest).collect()
    }

    fn components(kept: &Kept) -> usize {
        let is_component = |entry: &fs::DirEntry| entry.path().extension().is_some_and(|kind| kind == "wasm");
        fs::read_dir(&kept.folder).unwrap().map(Result::unwrap).filter(is_component).count()
    }

    #[test]
    fn the_last_ten_are_kept() {
        let state = tempfile::tempdir().unwrap();
        let kept = Kept::of(state.path(), "video-clear");
        assert_eq!(newest_first(&kept), []);
        let digests: Vec<_> = (0..12_u8).map(|n| keep(&kept, &[n])).collect();
        keep(&kept, &[5]);
        let newest = newest_first(&kept);
        assert_eq!(newest.len(), 10);
        assert_eq!(newest[..2], [digests[5], digests[11]]);
        assert_eq!(kept.read(digests[5]).unwrap(), [5]);
        assert!(kept.read(digests[0]).is_err());
        assert_eq!(components(&kept), 10);
    }

    #[test]
    fn a_pinned_component_is_kept_however_many_follow() {
        let state = tempfile::tempdir().unwrap();
        let kept = Kept::of(state.path(), "a");
        let first = keep(&kept, b"first");
        kept.steer(&Steer::Pin { digest: first.to_string() }, Timestamp(0)).unwrap();
        for n in 0..30_u8 {
            keep(&kept, &[n]);
        }
        assert_eq!(kept.read(first).unwrap(), b"first");
        assert_eq!(components(&kept), 10);
    }

    #[test]
    fn a_changed_component_is_refused() {
        let state = tempfile::tempdir().unwrap();
        let kept = Kept::of(state.path(), "a");
        let digest = keep(&kept, b"x");
        keep(&kept, b"z");
        fs::write(kept.file(digest), "y").unwrap();
        assert!(kept.read(digest).unwrap_err().to_string().contains("was changed"));
        let before = kept.history().unwrap();
        let pin = kept.steer(&Steer::Pin { digest: digest.to_string() }, Timestamp(0)).unwrap_err();
        assert!(pin.to_string().contains("was changed"), "{pin}");
        assert_eq!(kept.history().unwrap(), before, "nothing serves less than it did");
    }

    #[test]
    fn what_an_earlier_version_kept_is_taken_over() {
        let state = tempfile::tempdir().unwrap();
        let kept = Kept::of(state.path(), "a");
        fs::create_dir_all(&kept.folder).unwrap();
        let digests = [&b"old"[..], b"new"].map(|bytes| {
            fs::write(kept.file(Digest::of(bytes)), bytes).unwrap();
            Digest::of(bytes)
        });
        let gone = Digest::of(b"gone");
        fs::write(kept.folder.join("order"), format!("{gone}\n{}\n{}\n", digests[0], digests[1])).unwrap();
        assert_eq!(kept.history().unwrap().instead(), [digests[1], digests[0]]);
        let next = keep(&kept, b"next");
        assert_eq!(newest_first(&kept), [next, digests[1], digests[0]]);
        assert!(!kept.folder.join("order").exists());
    }

    #[test]
    fn a_history_that_cannot_be_read_is_no_empty_one() {
        let state = tempfile::tempdir().unwrap();
        let kept = Kept::of(state.path(), "a");
        keep(&kept, b"x");
        fs::write(kept.history_file(), "{\"accepted\": [").unwrap();
        let error = kept.history().unwrap_err().to_string();
        assert!(error.contains("history.json") && error.contains("remove it"), "{error}");
        assert!(kept.keep(component(b"y"), b"y").is_err());
        assert_eq!(fs::read_to_string(kept.history_file()).unwrap(), "{\"accepted\": [");
    }

    #[test]
    fn nobodys_change_is_lost() {
        const EACH: u64 = 50;
        let state = tempfile::tempdir().unwrap();
        let digest = keep(&Kept::of(state.path(), "a"), b"x");
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    // One of its own, as another process would have it.
                    let kept = Kept::of(state.path(), "a");
                    for _ in 0..EACH {
                        let count = |history: &mut PluginHistory| {
                            let at = history.mark_of(digest).map_or(1, |mark| mark.at.0 + 1);
                            history.set_aside(digest, SetAside { at: Timestamp(at), why: "counted".to_owned() });
                            Ok::<_, io::Error>(())
                        };
                        kept.change(count).unwrap();
                    }
                });
            }
        });
        let history = Kept::of(state.path(), "a").history().unwrap();
        assert_eq!(history.mark_of(digest).unwrap().at, Timestamp(4 * EACH));
    }

    #[test]
    fn asking_of_a_job_that_never_ran_leaves_no_trace() {
        let state = tempfile::tempdir().unwrap();
        let kept = Kept::of(state.path(), "a");
        let ask = Steer::Rollback { to: None, why: "x".to_owned() };
        assert!(matches!(kept.steer(&ask, Timestamp(0)), Err(SteerError::Refused(Refused::NothingBefore))));
        assert!(!kept.folder.exists());
    }
}
