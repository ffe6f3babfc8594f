//! Machine code between two starts of a host: a file for each component and
//! engine, with a seal before the code.
//!
//! ```text
//!  CACHE/KEY-NAME.compiled     seal (32 bytes) · machine code
//! ```
//! Nothing in the folder is trusted: what does not fit its seal is a miss, which
//! is told, and the component is compiled anew. The key's name is a part of the
//! file's, so that hosts that share a folder neither take nor replace each
//! other's files. Its invariant: the bytes whose seal was compared are the bytes
//! that are loaded, for they are read once.

use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::OFlags;
use wasmtime::component::Component;

use crate::domain::digest::Digest;

use super::seal::{Key, SEAL};
use super::{CacheOptions, Compiled};
use crate::plugin::engine::Engine;
use crate::plugin::generation::in_one_line;

/// How the name of a file in the cache ends.
const SUFFIX: &str = "compiled";
/// How that of one that is being written ends.
const NEW: &str = "new";
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
        let cache = Self { options, key: Mutex::default(), told: Mutex::default() };
        let opened = make_private(&cache.options.folder).and_then(|()| cache.key()).and_then(|key| cache.clear(&key));
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
            // The folder may have been deleted.
            make_private(&self.options.folder)?;
            write(&file, &[&seal, compiled.code()])
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
    open.take(most).read_to_end(&mut bytes).map_err(miss)?;
    let Some((seal, code)) = bytes.split_at_checked(SEAL) else {
        return Err(Miss::Changed("is not what this host wrote"));
    };
    if !key.fits(seal, what.name().as_bytes(), code) {
        return Err(Miss::Changed("is not what this host wrote"));
    }
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
mod tests {
    use std::os::unix::fs::symlink;

    use crate::plugin::engine::EngineOptions;

    use super::*;

    /// The smallest component there is.
    const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";
    const MOST: u64 = 1 << 20;

    struct Place {
        folder: tempfile::TempDir,
        engine: Engine,
        compiled: Compiled,
        what: Identity,
    }

    impl Place {
        fn new() -> Self {
            let engine = Engine::new(&EngineOptions::default()).unwrap();
            let compiled = Compiled { bytes: engine.precompile(COMPONENT).unwrap(), from: 0 };
            let what = Identity { component: Digest::of(COMPONENT), engine: engine.compatibility() };
            Self { folder: tempfile::tempdir().unwrap(), engine, compiled, what }
        }

        fn cache(&self, host: &str) -> Cache {
            let (folder, key) = (self.folder.path().join("cache"), self.folder.path().join(host));
            Cache::open(CacheOptions { folder, key })
        }

        fn finds(&self, cache: &Cache) -> bool {
            cache.load(&self.what, &self.engine, MOST).is_some()
        }

        fn files(&self) -> Vec<PathBuf> {
            fs::read_dir(self.folder.path().join("cache")).unwrap().map(|entry| entry.unwrap().path()).collect()
        }
    }

    #[test]
    fn what_was_kept_is_found_after_a_restart() {
        let place = Place::new();
        let cache = place.cache("a");
        assert!(!place.finds(&cache));
        cache.save(&place.what, &place.compiled);
        assert!(place.finds(&cache) && place.finds(&place.cache("a")));
        let other = Identity { component: Digest::of(b"other"), ..place.what };
        assert!(cache.load(&other, &place.engine, MOST).is_none(), "another component");
        let other = Identity { engine: Digest::of(b"other"), ..place.what };
        assert!(cache.load(&other, &place.engine, MOST).is_none(), "another engine");
        assert!(cache.load(&place.what, &place.engine, 10).is_none(), "more than is allowed");
    }

    #[test]
    fn no_flipped_bit_is_loaded() {
        let place = Place::new();
        let cache = place.cache("a");
        cache.save(&place.what, &place.compiled);
        let [file] = &place.files()[..] else { panic!("one file") };
        let whole = fs::read(file).unwrap();
        // Every byte of the seal and of the head, and one in 97 of the rest.
        let places = (0..256).chain((256..whole.len()).step_by(97));
        for at in places {
            let mut flipped = whole.clone();
            flipped[at] ^= 1 << (at % 8);
            fs::write(file, flipped).unwrap();
            assert!(!place.finds(&cache), "byte {at}");
        }
        for length in [0, 5, SEAL, SEAL + 1, whole.len() - 1] {
            fs::write(file, &whole[..length]).unwrap();
            assert!(!place.finds(&cache), "cut to {length}");
        }
        fs::write(file, [&whole[..], b"x"].concat()).unwrap();
        assert!(!place.finds(&cache), "a byte more");
        fs::write(file, &whole).unwrap();
        assert!(place.finds(&cache), "as it was");
    }

    #[test]
    fn a_file_under_the_name_of_another_is_not_loaded() {
        let place = Place::new();
        let cache = place.cache("a");
        let other = Identity { component: Digest::of(b"other"), ..place.what };
        cache.save(&other, &place.compiled);
        let key = cache.key().unwrap();
        fs::rename(cache.file(&key, &other), cache.file(&key, &place.what)).unwrap();
        assert!(!place.finds(&cache));
    }

    #[test]
    fn hosts_that_share_a_folder_do_not_take_each_others_files() {
        let place = Place::new();
        let (one, other) = (place.cache("a"), place.cache("b"));
        one.save(&place.what, &place.compiled);
        assert!(place.finds(&one) && !place.finds(&other));
        other.save(&place.what, &place.compiled);
        assert!(place.finds(&one) && place.finds(&other));
        assert_eq!(place.files().len(), 2);
        // A file of the one under the other's name.
        let (from, to) = (one.file(&one.key().unwrap(), &place.what), other.file(&other.key().unwrap(), &place.what));
        fs::copy(from, to).unwrap();
        assert!(!place.finds(&other));
    }

    #[test]
    fn what_is_no_file_of_the_cache_is_neither_read_nor_waited_for() {
        let place = Place::new();
        let cache = place.cache("a");
        cache.save(&place.what, &place.compiled);
        let [file] = &place.files()[..] else { panic!("one file") };
        let elsewhere = place.folder.path().join("elsewhere");
        fs::rename(file, &elsewhere).unwrap();
        symlink(&elsewhere, file).unwrap();
        assert!(!place.finds(&cache), "a link");
        fs::remove_file(file).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(file).status().unwrap().success());
        assert!(!place.finds(&cache), "a pipe");
        cache.save(&place.what, &place.compiled);
        assert!(place.finds(&cache), "replaced");
    }

    #[test]
    fn a_folder_that_is_gone_or_closed_costs_no_plugin() {
        let place = Place::new();
        let cache = place.cache("a");
        fs::remove_dir_all(place.folder.path().join("cache")).unwrap();
        assert!(!place.finds(&cache));
        cache.save(&place.what, &place.compiled);
        assert!(place.finds(&cache), "the folder is made anew");
        fs::remove_dir_all(place.folder.path().join("cache")).unwrap();
        fs::write(place.folder.path().join("cache"), "").unwrap();
        cache.save(&place.what, &place.compiled);
        assert!(!place.finds(&cache) && !place.finds(&place.cache("a")), "nothing is kept, and nothing fails");
    }

    #[test]
    fn what_was_half_written_goes_at_the_start() {
        let place = Place::new();
        let cache = place.cache("a");
        let half = cache.file(&cache.key().unwrap(), &place.what).with_extension(NEW);
        let others = place.folder.path().join("cache/another.new");
        fs::write(&half, "half").unwrap();
        fs::write(&others, "another host's").unwrap();
        drop(place.cache("a"));
        assert!(!half.exists() && others.exists());
    }
}
