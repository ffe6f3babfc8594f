//! The directories granted to a job, opened.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use wasmtime_wasi::{FsPerms, WasiCtxBuilder};

use crate::domain::job::Mount;

use super::guest::Role;
use super::wall;

/// A mount cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("mount {}: {why}", path.display())]
pub struct MountError {
    /// Its directory on this machine.
    pub path: PathBuf,
    /// What is wrong with it.
    pub why: String,
}

/// Which directories stood at the mounts' paths when they were looked at. An
/// instance that was made for others is thrown away: a directory that was
/// removed and made anew would otherwise look empty for ever, and every file
/// in it "already gone".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mounts(Vec<(u64, u64)>);

impl Mounts {
    /// Looks at the directories that stand there now.
    pub fn look(mounts: &[Mount]) -> Result<Self, MountError> {
        mounts.iter().map(|mount| Ok(identity(&metadata(mount)?))).collect::<Result<_, _>>().map(Self)
    }
}

/// Opens the mounts for a guest of this role: only an executor may change
/// files, and only where the mount grants it.
pub(super) fn open(mounts: &[Mount], role: Role, wasi: &mut WasiCtxBuilder) -> Result<(), MountError> {
    for mount in mounts {
        let perms = match (role, mount.rights) {
            (Role::Executor, rights) if !rights.only_look() => FsPerms::ReadWrite,
            _ => FsPerms::ReadOnly,
        };
        wasi.preopened_dir(&mount.host, &mount.guest, perms)
            .map_err(|error| MountError { path: mount.host.clone(), why: error.to_string() })?;
    }
    Ok(())
}

fn metadata(mount: &Mount) -> Result<Metadata, MountError> {
    let refused = |why: String| MountError { path: mount.host.clone(), why };
    let metadata = std::fs::metadata(&mount.host).map_err(|error| refused(error.to_string()))?;
    if !metadata.is_dir() {
        return Err(refused("is not a directory".to_owned()));
    }
    wall::keeps_out(&mount.host).map_or(Ok(metadata), |why| Err(refused(why)))
}

fn identity(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}
