//! Asking a mount with a bound on how long it may take; see [`crate::answers`].

use std::path::Path;

use crate::answers;
use crate::sandbox::MountError;

/// What `ask` answers, which may wait for what stands at `path`; an error where
/// that takes too long. Dropped, it is asked all the same.
pub(super) async fn answered<T: Send + 'static>(
    path: &Path,
    ask: impl FnOnce() -> T + Send + 'static,
) -> Result<T, MountError> {
    let told = answers::answered(path, ask).await;
    told.map_err(|answers::NoAnswer { path, why, .. }| MountError { path, why })
}
