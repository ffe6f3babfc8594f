//! Writes files whole or not at all, finds them, and keeps others from what one
//! invocation is at.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process;

use anyhow::{Context as _, Result};

/// Puts content at a path at once, so that nobody reads half of it. Where it is
/// there already nothing is touched, so that nobody who watches is woken.
/// Answers whether it changed.
pub(crate) fn put(path: &Path, content: &[u8]) -> Result<bool> {
    if read(path)?.as_deref() == Some(content) {
        return Ok(false);
    }
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let new = folder.join(format!(".{name}.{}", process::id()));
    fs::write(&new, content).with_context(|| format!("cannot write {}", new.display()))?;
    fs::rename(&new, path).with_context(|| format!("cannot replace {}", path.display()))?;
    Ok(true)
}

/// A file's content, if there is one.
pub(crate) fn read(path: &Path) -> Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(content) => Ok(Some(content)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

/// All files below a folder, sorted; none where the folder is missing. Build
/// folders are left out.
pub(crate) fn below(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = match fs::read_dir(&folder) {
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            entries => entries.with_context(|| format!("cannot list {}", folder.display()))?,
        };
        for entry in entries {
            let entry = entry?;
            if !entry.file_type()?.is_dir() {
                found.push(entry.path());
            } else if entry.file_name() != "target" && entry.file_name() != "node_modules" {
                folders.push(entry.path());
            }
        }
    }
    found.sort();
    Ok(found)
}

/// All Rust files below a folder, sorted.
pub(crate) fn rust_below(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = below(folder)?;
    found.retain(|path| path.extension() == Some(OsStr::new("rs")));
    Ok(found)
}

/// Held as long as it lives, also against other invocations; a killed one lets go.
pub(crate) struct Lock(#[expect(dead_code, reason = "the lock goes with the file")] File);

impl Lock {
    /// Waits for the lock at a path, and says so when it has to.
    pub(crate) fn take(path: &Path) -> Result<Self> {
        let folder = path.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
        let file = File::create(path).with_context(|| format!("cannot open {}", path.display()))?;
        if file.try_lock().is_err() {
            eprintln!("waiting for another `cargo xtask` at {}", path.display());
            file.lock().with_context(|| format!("cannot lock {}", path.display()))?;
        }
        Ok(Self(file))
    }
}
