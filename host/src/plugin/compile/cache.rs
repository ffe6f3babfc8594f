//! Machine code between two starts of a host: a file for each component and
//! engine, with a seal before the code.
//!
//! ```text
//!  CACHE/KEY-NAME.compiled     seal (32 bytes) · machine code
//! ```
//! Nothing in the folder is trusted: what does not fit its seal is a miss, which
//! is told, and the component is compiled anew. The key's name is a part of the
//! file's, so that hosts that share a folder neither take nor replace each
//! other's files. How much there may be is `room`'s. Its invariant: the bytes whose
//! seal was compared are the bytes that are loaded, for they are read once.

use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use rustix::fs::OFlags;
use wasmtime::component::Component;

use crate::domain::digest::Digest;

use super::seal::{Key, SEAL};
use super::{CacheOptions, Compiled, room};
use crate::plugin::engine::Engine;
use crate::plugin::generation::in_one_line;

/// How the name of a file in the cache ends.
pub(super) const SUFFIX: &str = "compiled";
/// How that of one that is being written ends.
pub(super) const NEW: &str = "new";
/// What a seal is for; another layout of the file gets another number.
const PURPOSE: &[u8] = b"sweepd compiled component 1";

/// What was compiled, and for which engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    /// Of the component's bytes.
    pub(super) component: Digest,
    /// Of all that makes machine code fit an engine.
    pub(super) engine: Digest,
}

impl Identity {
    fn name(&self) -> Digest {
        Digest::of_parts(&[PURPOSE, self.component.as_bytes(), self.engine.as_bytes()])
    }
}

/// The folder, and the key to what is in it.
pub(super) struct Cache {
    options: CacheOptions,
    /// `None` until it could be read or made.
    key: Mutex<Option<Arc<Key>>>,
    /// What was told last of why nothing is kept.
    told: Mutex<Option<String>>,
    /// Held by whoever writes: two that make room at a time would make too little.
    writing: Mutex<()>,
}

/// Why a file is not loaded.
enum Miss {
    /// There is none.
    Nothing,
    /// It is not what this host wrote.
    Changed(&'static str),
    /// It cannot be read.
    Unreadable(io::Error),
}

impl Cache {
    /// The cache in the folder, which is made where it is missing. What an
    /// earlier life of this host left half-written goes.
    pub(super) fn open(options: CacheOptions) -> Self {
        let cache = Self { options, key: Mutex::default(), told: Mutex::default(), writing: Mutex::default() };
        let opened = make_private(&cache.options.folder).and_then(|()| cache.key()).and_then(|key| {
            cache.clear(&key)?;
            room::make(&cache.options.folder, cache.options.max, 0, None)
        });
        if let Err(error) = opened {
            cache.tell(&error);
        }
        cache
    }

    /// The machine code of `what`, loaded; `None` where there is none, or none
    /// that this host wrote.
    pub(super) fn load(&self, what: &Identity, engine: &Engine, most: u64) -> Option<Component> {
        let key = self.key().inspect_err(|error| self.tell(error)).ok()?;
        let file = self.file(&key, what);
        let component = match read(&file, &key, what, most) {
            Ok(compiled) => compiled.load(engine),
            Err(Miss::Nothing) => return None,
            Err(Miss::Changed(why)) => {
                tracing::warn!("{} {why}: its component is compiled anew", file.display());
                return None;
            }
            Err(Miss::Unreadable(error)) => {
                tracing::warn!("{}: {error}: its component is compiled anew", file.display());
                return None;
            }
        };
        component
            .inspect_err(|error| {
                let error = in_one_line(error);
                tracing::warn!("{} cannot be used ({error}): its component is compiled anew", file.display());
            })
            .ok()
    }

    /// Keeps machine code. Where that fails it serves all the same, and the log
    /// says why it is not kept.
    pub(super) fn save(&self, what: &Identity, compiled: &Compiled) {
        let saved = self.key().and_then(|key| {
            let seal = key.seal(what.name().as_bytes(), compiled.code());
            let file = self.file(&key, what);
            let CacheOptions { folder, max, .. } = &self.options;
            let needed = room::takes((seal.len() + compiled.code().len()) as u64);
            if needed > *max {
                return Err(io::Error::other(format!("machine code of {needed} bytes is more than cache_max allows")));
            }
            let _alone = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
            // The folder may have been deleted.
            make_private(folder)?;
            room::make(folder, *max, needed, None)?;
            write(&file, &[&seal, compiled.code()])?;
            // The disk may have given more than was needed.
            room::make(folder, *max, 0, Some(&file))
        });
        match saved {
            Ok(()) => *self.told.lock().unwrap_or_else(PoisonError::into_inner) = None,
            Err(error) => self.tell(&error),
        }
    }

    /// The key, which may have been out of reach before.
    fn key(&self) -> io::Result<Arc<Key>> {
        let mut key = self.key.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(key) = &*key {
            return Ok(Arc::clone(key));
        }
        let file = &self.options.key;
        let read = Key::read_or_make(file)
            .map_err(|error| io::Error::new(error.kind(), format!("its key {}: {error}", file.display())))?;
        Ok(Arc::clone(key.insert(Arc::new(read))))
    }

    fn file(&self, key: &Key, what: &Identity) -> PathBuf {
        self.options.folder.join(format!("{}-{}.{SUFFIX}", key.name(), what.name()))
    }

    /// Removes what is half-written under this key.
    fn clear(&self, key: &Key) -> io::Result<()> {
        for entry in fs::read_dir(&self.options.folder)? {
            let path = entry?.path();
            let is_ours =
                path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(key.name().as_bytes()));
            if is_ours && path.extension().is_some_and(|kind| kind == NEW) {
                fs::remove_file(&path)?;
            }
        }
        Ok(())
    }

    /// Says once why nothing is kept, and again when there is another reason.
    fn tell(&self, error: &io::Error) {
        let text = error.to_string();
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.as_ref() != Some(&text) {
            tracing::warn!(
                "the cache {} cannot be used: {text}; plugins serve all the same, and are compiled anew at the next start",
                self.options.folder.display()
            );
            *told = Some(text);
        }
    }
}

/// Reads a file once and compares it with its seal.
fn read(file: &Path, key: &Key, what: &Identity, most: u64) -> Result<Compiled, Miss> {
    let miss = |error: io::Error| {
        if error.kind() == ErrorKind::NotFound { Miss::Nothing } else { Miss::Unreadable(error) }
    };
    // Not waiting for whoever would write into a named pipe, and not following a link.
    let flags = OFlags::NONBLOCK | OFlags::NOFOLLOW;
    let open = OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(file).map_err(miss)?;
    let metadata = open.metadata().map_err(miss)?;
    if !metadata.is_file() {
        return Err(Miss::Changed("is not a regular file"));
    }
    let most = most.saturating_add(SEAL as u64);
    if metadata.len() > most {
        return Err(Miss::Changed("is larger than sandbox.max_compiled allows"));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or(0) + 1);
    let noting = open.try_clone().map_err(miss)?;
    open.take(most).read_to_end(&mut bytes).map_err(miss)?;
    let Some((seal, code)) = bytes.split_at_checked(SEAL) else {
        return Err(Miss::Changed("is not what this host wrote"));
    };
    if !key.fits(seal, what.name().as_bytes(), code) {
        return Err(Miss::Changed("is not what this host wrote"));
    }
    // It is used, and goes later than others; where that cannot be noted, it goes sooner.
    let _ = noting.set_modified(SystemTime::now());
    Ok(Compiled { bytes, from: SEAL })
}

/// Puts a whole file in place. It need not reach the disk: a torn one does not
/// fit its seal.
fn write(file: &Path, parts: &[&[u8]]) -> io::Result<()> {
    let new = file.with_extension(NEW);
    let _ = fs::remove_file(&new);
    let written = write_new(&new, parts).and_then(|()| fs::rename(&new, file));
    if written.is_err() {
        let _ = fs::remove_file(&new);
    }
    written
}

fn write_new(new: &Path, parts: &[&[u8]]) -> io::Result<()> {
    let mut open = OpenOptions::new().write(true).create_new(true).mode(0o600).open(new)?;
    parts.iter().try_for_each(|part| open.write_all(part))
}

/// Makes the folder, readable and writable by its owner alone.
fn make_private(folder: &Path) -> io::Result<()> {
    use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    if fs::metadata(folder)?.mode() & 0o777 != 0o700 {
        fs::set_permissions(folder, fs::Permissions::from_mode(0o700))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
