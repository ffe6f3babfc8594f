//! Asking a mount with a bound on how long it may take.
//!
//! A disk that is gone, or a server that does not answer, holds up whoever asks,
//! perhaps for ever, and nothing interrupts that. So who asks is a thread of its
//! own, and its job waits for a while only. Until it has come back nobody asks
//! there again: a mount that hangs costs one thread, not one a sweep.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::sandbox::MountError;
use crate::supervise;

/// How long a mount may take to answer.
const PATIENCE: Duration = Duration::from_secs(3);

/// The paths at which somebody still waits who was waited for in vain, and
/// whether that has come back since.
static SILENT: LazyLock<Mutex<HashMap<PathBuf, Arc<AtomicBool>>>> = LazyLock::new(Mutex::default);

/// What `ask` answers, which may wait for what stands at `path`; an error where
/// that takes too long. Dropped, it is asked all the same.
pub(super) async fn answered<T: Send + 'static>(
    path: &Path,
    ask: impl FnOnce() -> T + Send + 'static,
) -> Result<T, MountError> {
    answered_within(PATIENCE, path, ask).await
}

async fn answered_within<T: Send + 'static>(
    patience: Duration,
    path: &Path,
    ask: impl FnOnce() -> T + Send + 'static,
) -> Result<T, MountError> {
    let refused = |why: String| MountError { path: path.to_owned(), why };
    if is_silent(path) {
        return Err(refused("it still does not answer; is the disk or the server behind it up?".to_owned()));
    }
    let (tell, told) = oneshot::channel();
    let back = Back(Arc::new(AtomicBool::new(false)));
    let is_back = Arc::clone(&back.0);
    // Its panic drops the sender.
    let thread = supervise::attended_thread("sweepd-look", move || {
        let _back = back;
        let _ = tell.send(ask());
    });
    thread.map_err(|error| refused(format!("no thread to look at it: {error}")))?;
    match timeout(patience, told).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(_)) => Err(refused("the host panicked while it looked; this is a bug in sweepd".to_owned())),
        Err(_) => {
            SILENT.lock().unwrap_or_else(PoisonError::into_inner).insert(path.to_owned(), is_back);
            Err(refused(format!("it does not answer within {patience:?}; is the disk or the server behind it up?")))
        }
    }
}

fn is_silent(path: &Path) -> bool {
    let mut silent = SILENT.lock().unwrap_or_else(PoisonError::into_inner);
    silent.retain(|_, is_back| !is_back.load(Ordering::SeqCst));
    silent.contains_key(path)
}

/// Set when who asked has come back, however.
struct Back(Arc<AtomicBool>);

impl Drop for Back {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[tokio::test]
    async fn who_does_not_answer_is_asked_once_until_it_does() {
        let path = Path::new("/a mount of this test");
        let (answer, answers) = channel::<()>();
        let hangs = answered_within(Duration::from_millis(1), path, move || answers.recv().is_err());
        assert!(hangs.await.is_err_and(|error| error.why.contains("does not answer within")));
        let again = answered::<()>(path, || panic!("nobody asks")).await;
        assert!(again.is_err_and(|error| error.why.contains("still does not answer")));
        assert_eq!(answered(Path::new("/another"), || 7).await.ok(), Some(7));
        drop(answer);
        while is_silent(path) {
            tokio::task::yield_now().await;
        }
        assert_eq!(answered(path, || 8).await.ok(), Some(8));
    }
}
