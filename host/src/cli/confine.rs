//! Puts up the wall around a command that runs guests, before any thread starts.

use std::path::Path;

use crate::config::Config;
use crate::domain::wall::{Access, Enforced, Opening, WallPolicy, WallStatus};
use crate::sandbox::wall::{self, WallError};

/// Confines this process to what the configuration names, for the rest of its
/// life, as `sandbox.landlock` says; what does not stand is told, once.
pub(super) fn confine(config: &Config) -> Result<WallStatus, WallError> {
    let openings = config.openings();
    let status = wall::raise(config.sandbox.landlock, &openings.all)?;
    match (status.enforced, &status.why) {
        (Enforced::Fully, _) => {
            tracing::info!("the host is confined to its folders (sandbox.landlock = \"{}\")", status.landlock);
        }
        (_, Some(why)) => tracing::warn!("the host is not or not fully confined to its folders: {why}"),
        (_, None) if status.landlock == WallPolicy::Off => {
            tracing::info!("the host is not confined (sandbox.landlock = \"off\")");
        }
        (_, None) => {}
    }
    if status.enforced != Enforced::Not {
        for warning in openings.warnings() {
            tracing::warn!("{warning}");
        }
    }
    Ok(status)
}

/// Confines a command that only looks: the mounts can be read, and so can
/// `files`; nothing is made that is not there. Its guests simulate, and this is
/// the second reason why nothing changes.
pub(super) fn confine_to_look<'a>(
    config: &Config,
    files: impl Iterator<Item = &'a Path>,
) -> Result<WallStatus, WallError> {
    let there = |opening: &Opening| opening.access != Access::Own || opening.path.exists();
    let mut openings: Vec<_> = config.openings().all.into_iter().filter(there).collect();
    for opening in openings.iter_mut().filter(|opening| opening.access == Access::Change) {
        opening.access = Access::Read;
    }
    openings.extend(files.map(|file| Opening::new(file, Access::Read)));
    wall::raise(config.sandbox.landlock, &openings)
}
