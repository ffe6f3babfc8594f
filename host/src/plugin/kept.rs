//! Accepted components, kept by digest in the state folder: what serves when
//! the plugin's file is broken at a restart.
//!
//! `order` names the digests, the newest last; a component is written before
//! it is named there, so that a crash leaves at most a file too many.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crate::domain::digest::Digest;

/// How many components of a job are kept.
const KEPT: usize = 10;

/// The accepted components of one job.
#[derive(Clone, Debug)]
pub struct Kept {
    folder: PathBuf,
    /// One at a time: a swap may follow while the last one is still written.
    writing: Arc<Mutex<()>>,
}

impl Kept {
    /// Those of `job` under the state folder.
    #[must_use]
    pub fn of(state: &Path, job: &str) -> Self {
        Self { folder: state.join("components").join(job), writing: Arc::default() }
    }

    /// Keeps a component as the newest; the eleventh oldest goes.
    pub fn keep(&self, digest: Digest, bytes: &[u8]) -> io::Result<()> {
        let _one = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        fs::create_dir_all(&self.folder)?;
        let mut order = self.order()?;
        order.retain(|kept| *kept != digest);
        order.push(digest);
        let forgotten: Vec<_> = order.drain(..order.len().saturating_sub(KEPT)).collect();
        let file = self.file(digest);
        if !file.exists() {
            write_atomically(&file, bytes)?;
        }
        let names: Vec<_> = order.iter().map(Digest::to_string).collect();
        write_atomically(&self.folder.join("order"), (names.join("\n") + "\n").as_bytes())?;
        for digest in forgotten {
            let _ = fs::remove_file(self.file(digest));
        }
        Ok(())
    }

    /// What is kept, the newest first.
    pub fn newest_first(&self) -> io::Result<Vec<Digest>> {
        let mut order = self.order()?;
        order.reverse();
        Ok(order)
    }

    /// The bytes of a kept component; refused where they no longer have its
    /// digest.
    pub fn read(&self, digest: Digest) -> io::Result<Vec<u8>> {
        let bytes = fs::read(self.file(digest))?;
        if Digest::of(&bytes) == digest {
            return Ok(bytes);
        }
        Err(io::Error::other(format!("{} was changed since it was kept", self.file(digest).display())))
    }

    fn order(&self) -> io::Result<Vec<Digest>> {
        match fs::read_to_string(self.folder.join("order")) {
            Ok(text) => Ok(text.lines().filter_map(|line| line.parse().ok()).collect()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error),
        }
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
    use super::*;

    #[test]
    fn the_last_ten_are_kept() {
        let state = tempfile::tempdir().unwrap();
        let kept = Kept::of(state.path(), "video-clear");
        assert_eq!(kept.newest_first().unwrap(), []);
        let digests: Vec<_> = (0..12_u8).map(|n| Digest::of(&[n])).collect();
        for (n, digest) in (0..12_u8).zip(&digests) {
            kept.keep(*digest, &[n]).unwrap();
        }
        kept.keep(digests[5], &[5]).unwrap();
        let newest = kept.newest_first().unwrap();
        assert_eq!(newest.len(), 10);
        assert_eq!(newest[..2], [digests[5], digests[11]]);
        assert_eq!(kept.read(digests[5]).unwrap(), [5]);
        assert!(kept.read(digests[0]).is_err());
        assert_eq!(fs::read_dir(&kept.folder).unwrap().count(), 11);
    }

    #[test]
    fn a_changed_component_is_refused() {
        let state = tempfile::tempdir().unwrap();
        let kept = Kept::of(state.path(), "a");
        kept.keep(Digest::of(b"x"), b"x").unwrap();
        fs::write(kept.file(Digest::of(b"x")), "y").unwrap();
        assert!(kept.read(Digest::of(b"x")).unwrap_err().to_string().contains("was changed"));
    }
}
