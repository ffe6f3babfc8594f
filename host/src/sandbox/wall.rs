//! The second wall: the kernel refuses this process every file but those that
//! it was given an opening to, whatever hole the guard may have.
//!
//! On Linux that is Landlock. It holds for the calling thread and for whatever
//! that starts later, so it is put up before any other thread is; it cannot be
//! taken down, and children inherit it. An opening is the very file or folder
//! that stood at its path: what comes to stand there later has none.
//! This module knows the machine (`system`); which folders are the host's own
//! it is told. TCP is not confined.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};

use crate::domain::wall::{Access, Enforced, Opening, WallPolicy, WallStatus};

#[cfg(target_os = "linux")]
mod landlock;
#[cfg(target_os = "linux")]
mod system;

/// What helps where a folder cannot be made.
fn what_to_do(error: &io::Error) -> &'static str {
    if crate::disk::is_full(error) { "; free 8 MiB there, then start this again" } else { "" }
}

/// Why the host does not start without its wall.
#[derive(Debug, thiserror::Error)]
pub enum WallError {
    /// The kernel cannot do it.
    #[error("sandbox.landlock is \"required\", but the wall cannot be put up: {0}")]
    Unavailable(String),
    /// A folder of the host's own cannot be made.
    #[error("cannot make the folder {}: {source}{}", path.display(), what_to_do(source))]
    Folder {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It stands already.
    #[error("the wall stands already, and there is only one in the life of a process")]
    Standing,
}

static STATUS: OnceLock<WallStatus> = OnceLock::new();
static RAISING: Mutex<()> = Mutex::new(());

/// Confines this process to `openings` and what any host needs of the machine,
/// for the rest of its life. To be called before any thread is started, and
/// once.
///
/// Where the kernel cannot, that is an error under [`WallPolicy::Required`] and
/// told by the answer under [`WallPolicy::BestEffort`].
pub fn raise(policy: WallPolicy, openings: &[Opening]) -> Result<WallStatus, WallError> {
    let _one = RAISING.lock().unwrap_or_else(PoisonError::into_inner);
    if STATUS.get().is_some() {
        return Err(WallError::Standing);
    }
    let traced = crate::faults::folders().map(|folder| Opening::new(folder, Access::Change));
    let openings: Vec<_> = openings.iter().cloned().chain(traced).collect();
    let status = put_up(policy, &openings)?;
    Ok(STATUS.get_or_init(|| status).clone())
}

#[cfg(target_os = "linux")]
fn put_up(policy: WallPolicy, openings: &[Opening]) -> Result<WallStatus, WallError> {
    if policy == WallPolicy::Off {
        return Ok(WallStatus { landlock: policy, enforced: Enforced::Not, why: None });
    }
    make_own_folders(openings)?;
    let required = policy == WallPolicy::Required;
    let (enforced, why) = match landlock::confine(required, openings) {
        Ok(Enforced::Fully) => (Enforced::Fully, None),
        Ok(Enforced::Partly) => {
            (Enforced::Partly, Some("this kernel knows only a part of it; Linux 6.12 knows all".to_owned()))
        }
        Ok(Enforced::Not) if required => return Err(WallError::Unavailable("the kernel ignored it".to_owned())),
        Err(why) if required => return Err(WallError::Unavailable(why)),
        Ok(Enforced::Not) => (Enforced::Not, Some("the kernel ignored it".to_owned())),
        Err(why) => (Enforced::Not, Some(why)),
    };
    Ok(WallStatus { landlock: policy, enforced, why })
}

#[cfg(not(target_os = "linux"))]
fn put_up(policy: WallPolicy, _: &[Opening]) -> Result<WallStatus, WallError> {
    let why = "Landlock is a part of Linux, and this is another system".to_owned();
    match policy {
        WallPolicy::Required => Err(WallError::Unavailable(why)),
        WallPolicy::BestEffort => Ok(WallStatus { landlock: policy, enforced: Enforced::Not, why: Some(why) }),
        WallPolicy::Off => Ok(WallStatus { landlock: policy, enforced: Enforced::Not, why: None }),
    }
}

/// Only what is there can be given an opening.
#[cfg(target_os = "linux")]
fn make_own_folders(openings: &[Opening]) -> Result<(), WallError> {
    use std::os::unix::fs::DirBuilderExt as _;
    for opening in openings.iter().filter(|opening| opening.access == Access::Own) {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&opening.path)
            .map_err(|source| WallError::Folder { path: opening.path.clone(), source })?;
    }
    Ok(())
}

/// What to add to the words of `error`, met at `path`, where the wall is its
/// reason: without the wall the path could be read.
pub(crate) fn hint(path: &Path, error: &io::Error) -> &'static str {
    let denied = stands() && error.kind() == io::ErrorKind::PermissionDenied;
    // The wall does not answer this one.
    if denied && rustix::fs::access(path, rustix::fs::Access::READ_OK).is_ok() { HINT } else { "" }
}

const HINT: &str = "; the wall around this host (sandbox.landlock) lets in only the files and folders that stood \
                    there when it started: where this is another one since, restart the host";

fn stands() -> bool {
    STATUS.get().is_some_and(|status| status.enforced != Enforced::Not)
}

/// Why the wall keeps this folder out, in words; `None` where it does not. A
/// guest would meet nothing but refusals there.
pub(super) fn keeps_out(folder: &Path) -> Option<String> {
    use rustix::fs::{Mode, OFlags, access, open};
    if !stands() {
        return None;
    }
    let denied = open(folder, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).err()?;
    // The wall does not answer this one: without it the folder could be read.
    let readable = access(folder, rustix::fs::Access::READ_OK).is_ok();
    (denied == rustix::io::Errno::ACCESS && readable).then(|| format!("{denied}{HINT}"))
}

/// Whether the guard has the hole of the mutant, so that rights bind nobody.
pub(super) fn is_holed() -> bool {
    crate::faults::is(crate::faults::Mutant::HoleInTheGuard)
}

/// The hole of [`Mutant::HoleInTheGuard`](crate::faults::Mutant): an absolute
/// path of a guest, opened from the root. `None` without the mutant.
pub(super) fn hole(path: &str, write: bool) -> Option<io::Result<std::fs::File>> {
    if !is_holed() || !path.starts_with('/') {
        return None;
    }
    Some(std::fs::File::options().read(!write).write(write).open(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_wall_is_refused() {
        assert!(raise(WallPolicy::Off, &[]).is_ok());
        assert!(matches!(raise(WallPolicy::Required, &[]), Err(WallError::Standing)));
        assert_eq!(hint(Path::new("/"), &io::ErrorKind::PermissionDenied.into()), "", "none stands");
    }
}
