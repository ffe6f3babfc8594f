//! Puts up the wall around a command that runs guests, before any thread starts.

use crate::config::Config;
use crate::domain::wall::{Enforced, WallPolicy, WallStatus};
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
