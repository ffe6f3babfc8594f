//! Accepted components, kept by digest in the state folder, and what is known
//! of them: what serves when the plugin's file cannot.
//!
//! ```text
//!  components/JOB/DIGEST.wasm     the components
//!  components/JOB/history.json    what is known of them
//!  components/JOB/history.copy    the same once more
//!  components/JOB/lock            held while the history is changed
//! ```
//! The host and commands beside it change the history, each under the lock and
//! by putting a whole new file in place: whoever reads needs no lock. A
//! component is written before it is named, so that a crash leaves at most a
//! file too many. Nothing that is read back is believed: a component has its
//! digest for a name, and the history carries its own. A copy that does not fit
//! is damaged: it does not serve, and is made anew when its component is
//! accepted again. A history that does not fit is read from its copy, and is
//! written anew: what was set aside or pinned stays known, and the plugin file
//! counts.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use serde_json::Value;

use crate::domain::digest::Digest;
use crate::domain::plugin_history::{Accepted, CopyState, Listed, PluginHistory, Refused, Steer, Steered};
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
    #[error(
        "{} cannot serve: {source}; put its file in place as the plugin to mend the copy, or name another component \
         (sweepd plugin history)",
        .digest.short()
    )]
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
    /// long goes. A copy that is there and damaged is made anew.
    pub fn keep(&self, component: &Accepted, bytes: &[u8]) -> io::Result<()> {
        self.make_folder()?;
        let lock = self.lock()?;
        if self.copy(component.digest) != CopyState::Intact {
            write_atomically(&self.file(component.digest), bytes)?;
        }
        let forgotten = self.change_locked(|history| {
            let answered = component.answered;
            let forgotten = history.took_the_slot(component.clone());
            if answered {
                history.answered(component.digest);
            }
            Ok::<_, io::Error>(forgotten)
        })?;
        for digest in forgotten {
            let _ = fs::remove_file(self.file(digest));
        }
        drop(lock);
        Ok(())
    }

    /// How the copy of a component is. Reads all of it.
    #[must_use]
    pub fn copy(&self, digest: Digest) -> CopyState {
        match self.read(digest) {
            Ok(_) => CopyState::Intact,
            Err(error) if error.kind() == io::ErrorKind::NotFound => CopyState::Missing,
            Err(_) => CopyState::Damaged,
        }
    }

    /// The components of a history, the one that took the slot last first, each
    /// with how its copy is. Reads all copies.
    #[must_use]
    pub fn listed(&self, history: PluginHistory) -> Vec<Listed> {
        let newest_first = history.accepted.into_iter().rev();
        newest_first.map(|accepted| Listed { copy: self.copy(accepted.digest), accepted }).collect()
    }

    /// Looks through the folder at a host's start: removes what an earlier life
    /// left half-written, and answers the components that could not serve from
    /// their copies.
    pub fn look_through(&self) -> io::Result<Vec<Listed>> {
        if !self.folder.exists() {
            return Ok(Vec::new());
        }
        let lock = self.lock()?;
        for entry in fs::read_dir(&self.folder)? {
            let path = entry?.path();
            if path.extension().is_some_and(|kind| kind == NEW) {
                fs::remove_file(&path)?;
            }
        }
        drop(lock);
        let listed = self.listed(self.history()?);
        Ok(listed.into_iter().filter(|listed| listed.copy != CopyState::Intact).collect())
    }

    /// What is known of them now. Where neither it nor its copy can be understood,
    /// that is an error, not an empty one: it may say that something must not serve.
    pub fn history(&self) -> io::Result<PluginHistory> {
        let file = self.history_file();
        let unusable = match fs::read(&file) {
            Ok(text) => match understand(&text) {
                Ok(history) => return Ok(history),
                Err(why) => {
                    let help =
                        "remove it, and history.copy beside it, to begin anew; nothing is then set aside or pinned";
                    io::Error::other(format!("{} cannot be understood ({why}): {help}", file.display()))
                }
            },
            Err(error) => io::Error::new(error.kind(), format!("{}: {error}", file.display())),
        };
        if let Some(history) = self.history_of_copy() {
            return Ok(history);
        }
        if unusable.kind() == io::ErrorKind::NotFound { self.taken_over() } else { Err(unusable) }
    }

    /// What the copy says, where it can be understood.
    fn history_of_copy(&self) -> Option<PluginHistory> {
        understand(&fs::read(self.history_copy()).ok()?).ok()
    }

    fn history_copy(&self) -> PathBuf {
        self.folder.join("history.copy")
    }

    /// Makes the history and its copy say the same again, where one of the two can
    /// be understood. Answers whether the history itself could not.
    pub fn mend(&self) -> io::Result<bool> {
        if !self.folder.exists() {
            return Ok(false);
        }
        let _lock = self.lock()?;
        let (file, copy) = (self.history_file(), self.history_copy());
        let understood = |file: &Path| fs::read(file).ok().and_then(|text| Some((understand(&text).ok()?, text)));
        match (understood(&file), understood(&copy)) {
            (Some((_, text)), twin) if twin.as_ref().is_none_or(|(_, other)| *other != text) => {
                write_atomically(&copy, &text).map(|()| false)
            }
            (None, Some((_, text))) => write_atomically(&file, &text).map(|()| true),
            _ => Ok(false),
        }
    }

    /// Changes what is known, alone: whoever else wants to waits. An error of
    /// `change` leaves everything as it was.
    pub fn change<T, E: From<io::Error>>(
        &self,
        change: impl FnOnce(&mut PluginHistory) -> Result<T, E>,
    ) -> Result<T, E> {
        self.make_folder()?;
        let lock = self.lock()?;
        let answer = self.change_locked(change);
        drop(lock);
        answer
    }

    /// The same, by whoever holds the lock.
    fn change_locked<T, E: From<io::Error>>(
        &self,
        change: impl FnOnce(&mut PluginHistory) -> Result<T, E>,
    ) -> Result<T, E> {
        let before = self.history()?;
        let mut history = before.clone();
        let answer = change(&mut history)?;
        if history != before {
            let text = written(&history)?;
            write_atomically(&self.history_file(), &text)?;
            // The change is made: of a host that is lost in between the file counts, which
            // is the newer one, and the copy is mended when it is looked at next.
            if let Err(error) = write_atomically(&self.history_copy(), &text) {
                tracing::warn!("the copy of what is known of a job's components could not be written: {error}");
            }
            // What an earlier version wrote is in it.
            let _ = fs::remove_file(self.folder.join("order"));
        }
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
        Err(io::Error::other(format!("{} is damaged: it was changed since it was kept", file.display())))
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

    /// Makes the folder, also after somebody removed it.
    fn make_folder(&self) -> io::Result<()> {
        fs::create_dir_all(&self.folder)
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", self.folder.display())))
    }

    fn file(&self, digest: Digest) -> PathBuf {
        self.folder.join(format!("{digest}.wasm"))
    }
}

/// The key under which the history's own digest stands in its file.
const DIGEST: &str = "digest";
/// How the name of a file ends that is being written.
const NEW: &str = "new";

/// The history as it stands in its file, with its own digest.
fn written(history: &PluginHistory) -> io::Result<Vec<u8>> {
    let mut value = serde_json::to_value(history)?;
    value[DIGEST] = Value::from(digest_of(history)?.to_string());
    Ok(serde_json::to_vec_pretty(&value)?)
}

/// The history in a file, or why it is none. One without a digest is an earlier
/// version's.
fn understand(text: &[u8]) -> Result<PluginHistory, String> {
    let mut value: Value = serde_json::from_slice(text).map_err(|error| error.to_string())?;
    let digest = value.as_object_mut().and_then(|fields| fields.remove(DIGEST));
    if let Some(unknown) = value.as_object().and_then(|fields| fields.keys().find(|key| !is_field(key))) {
        return Err(format!("`{unknown}` is no part of a history"));
    }
    let history: PluginHistory = serde_json::from_value(value).map_err(|error| error.to_string())?;
    if let Some(digest) = digest
        && digest != digest_of(&history).map_err(|error| error.to_string())?.to_string()
    {
        return Err("it was changed since it was written".to_owned());
    }
    Ok(history)
}

fn is_field(key: &str) -> bool {
    ["pinned", "accepted"].contains(&key)
}

fn digest_of(history: &PluginHistory) -> io::Result<Digest> {
    Ok(Digest::of(&serde_json::to_vec(history)?))
}

/// Puts a whole file in place, on the disk, and reads it back. Where that fails
/// nothing of it stays, for it may have been the disk's last room.
fn write_atomically(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let new = path.with_extension(NEW);
    write_new(&new, bytes)
        .and_then(|()| fs::rename(&new, path))
        .inspect_err(|_| drop(fs::remove_file(&new)))
        .and_then(|()| path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all()))
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
}

fn write_new(new: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    if fs::read(new)? == bytes {
        return Ok(());
    }
    Err(io::Error::other("what was written was read back otherwise"))
}

#[cfg(test)]
mod tests;
