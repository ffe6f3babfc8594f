//! How much machine code the cache's folder may hold: what was used last stays,
//! what was not used for longest goes.
//!
//! A file counts by the blocks that the disk gives to it, so that many small ones
//! are not free. What is no file of a cache is neither counted nor removed. Its
//! invariant: after each file that this host writes, the files of all hosts in the
//! folder together take no more than the bound.

use std::fs::{self, DirEntry, Metadata};
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::cache::{NEW, SUFFIX};

/// Whoever was writing a file for so long was killed.
const FORGOTTEN: Duration = Duration::from_hours(1);
/// A disk gives space by so much, in bytes.
const BLOCK: u64 = 4096;

/// A file of the cache.
struct Kept {
    path: PathBuf,
    used: SystemTime,
    takes: u64,
}

/// About how much a file of so many bytes takes of the disk.
pub(super) fn takes(bytes: u64) -> u64 {
    bytes.div_ceil(BLOCK).saturating_mul(BLOCK)
}

/// Removes files until `needed` bytes more are within `max`, the ones that were
/// not used for longest first, and never `but`. Also removes what was left
/// half-written by whichever host.
pub(super) fn make(folder: &Path, max: u64, needed: u64, but: Option<&Path>) -> io::Result<()> {
    let mut kept = Vec::new();
    let mut all = needed;
    for entry in fs::read_dir(folder)? {
        let Some((file, metadata)) = file_of_cache(&entry?)? else { continue };
        let (used, takes) = (metadata.modified()?, metadata.blocks().saturating_mul(512));
        let is_half = file.extension().is_some_and(|kind| kind == NEW);
        if is_half && used.elapsed().is_ok_and(|age| age > FORGOTTEN) {
            remove(&file)?;
            continue;
        }
        all += takes;
        if !is_half && but != Some(file.as_path()) {
            kept.push(Kept { path: file, used, takes });
        }
    }
    kept.sort_by_key(|file| file.used);
    for file in kept {
        if all <= max {
            break;
        }
        remove(&file.path)?;
        all = all.saturating_sub(file.takes);
        tracing::debug!("{} was removed from the cache: it was not used for longest", file.path.display());
    }
    Ok(())
}

/// The entry, where it is a file of a cache.
fn file_of_cache(entry: &DirEntry) -> io::Result<Option<(PathBuf, Metadata)>> {
    let path = entry.path();
    if !path.extension().is_some_and(|kind| kind == SUFFIX || kind == NEW) {
        return Ok(None);
    }
    match entry.metadata() {
        Ok(metadata) => Ok(Some((path, metadata)).filter(|(_, metadata)| metadata.is_file())),
        // Another host removed it.
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn remove(file: &Path) -> io::Result<()> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{File, FileTimes};

    use super::*;

    struct Folder(tempfile::TempDir);

    impl Folder {
        /// A file of so many bytes that was used so many minutes ago.
        fn put(&self, name: &str, bytes: usize, minutes: u64) -> PathBuf {
            let path = self.0.path().join(name);
            fs::write(&path, vec![1; bytes]).unwrap();
            let used = SystemTime::now() - Duration::from_mins(minutes);
            File::open(&path).unwrap().set_times(FileTimes::new().set_modified(used)).unwrap();
            path
        }

        fn names(&self) -> Vec<String> {
            let names = fs::read_dir(self.0.path()).unwrap().map(|entry| entry.unwrap().file_name());
            let mut names: Vec<_> = names.map(|name| name.into_string().unwrap()).collect();
            names.sort();
            names
        }
    }

    #[test]
    fn what_was_not_used_for_longest_goes_first() {
        let folder = Folder(tempfile::tempdir().unwrap());
        for (name, minutes) in [("a.compiled", 30), ("b.compiled", 10), ("c.compiled", 20)] {
            folder.put(name, 8192, minutes);
        }
        make(folder.0.path(), 24 << 10, 0, None).unwrap();
        assert_eq!(folder.names().len(), 3, "all fit");
        make(folder.0.path(), 24 << 10, takes(5000), None).unwrap();
        assert_eq!(folder.names(), ["b.compiled", "c.compiled"]);
        let oldest = folder.0.path().join("c.compiled");
        make(folder.0.path(), 8 << 10, 0, Some(&oldest)).unwrap();
        assert_eq!(folder.names(), ["c.compiled"], "the one that was just written stays");
    }

    #[test]
    fn small_files_count_by_what_they_take() {
        let folder = Folder(tempfile::tempdir().unwrap());
        for number in 0..50 {
            folder.put(&format!("{number:02}.compiled"), 1, number);
        }
        make(folder.0.path(), 40 << 10, 0, None).unwrap();
        assert_eq!(folder.names().len(), 10, "fifty bytes take fifty blocks");
        assert_eq!(folder.names()[9], "09.compiled");
    }

    #[test]
    fn what_was_left_half_written_goes_and_nothing_of_others() {
        let folder = Folder(tempfile::tempdir().unwrap());
        folder.put("old.new", 4096, 90);
        folder.put("now.new", 4096, 1);
        folder.put("notes.txt", 9 << 20, 90);
        make(folder.0.path(), 4096, 0, None).unwrap();
        assert_eq!(folder.names(), ["notes.txt", "now.new"]);
    }
}
