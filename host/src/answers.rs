//! Asking what stands at a path, with a bound on how long that may take.
//!
//! A disk that is gone, or a server that does not answer, holds up whoever asks,
//! perhaps for ever, and nothing interrupts that. So who asks is a thread of its
//! own, and who waits for it waits for a while only. Nobody else is sent to a path
//! from which somebody has not come back: a path that hangs costs a thread for
//! each who asked at the time, and none later.
//!
//! ```text
//!  ask ─▶ thread ─┬─ answers in time ─────────────▶ answer
//!                 ├─ not in time: silent ─────────▶ error, at once for the next who ask
//!                 └─ nobody waits any more: left ─▶ the next who asks waits for it first
//! ```

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, timeout};

use crate::supervise;

/// How long a path may take to answer, or to give the next part of its answer.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long it may take in all.
const AT_MOST: Duration = Duration::from_mins(2);

/// Those who have not come back and for whom nobody waits any more, by path.
static OUT: LazyLock<Mutex<HashMap<PathBuf, Vec<Arc<Sent>>>>> = LazyLock::new(Mutex::default);

/// What stands at a path did not answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {why}", path.display())]
pub(crate) struct NoAnswer {
    /// Where it was asked.
    pub(crate) path: PathBuf,
    /// What is wrong, and what to look at.
    pub(crate) why: String,
    /// Whether it was waited for in vain; else this host could not ask.
    pub(crate) is_silent: bool,
}

/// One who was sent to a path.
#[derive(Debug, Default)]
struct Sent {
    /// Whether it was waited for in vain.
    is_silent: AtomicBool,
    back: watch::Sender<bool>,
}

impl Sent {
    fn is_back(&self) -> bool {
        *self.back.borrow()
    }
}

/// What a long ask tells of itself.
#[derive(Debug, Default)]
pub(crate) struct Steps {
    done: AtomicU64,
    given_up: AtomicBool,
}

impl Steps {
    /// Another part is done. False where nobody waits for the rest any more.
    pub(crate) fn go_on(&self) -> bool {
        self.done.fetch_add(1, Ordering::SeqCst);
        !self.given_up.load(Ordering::SeqCst)
    }
}

/// What `ask` answers, which may wait for what stands at `path`; an error where
/// that takes longer than a few seconds. Dropped, it is asked all the same, and
/// the next ask at the path waits for it first.
pub(crate) async fn answered<T: Send + 'static>(
    path: &Path,
    ask: impl FnOnce() -> T + Send + 'static,
) -> Result<T, NoAnswer> {
    within(PATIENCE, path, |_| ask()).await
}

/// The same for an ask of many parts: an error where one of them takes too long.
/// Dropped, it ends after the part that it is at.
pub(crate) async fn answered_in_steps<T: Send + 'static>(
    path: &Path,
    ask: impl FnOnce(&Steps) -> T + Send + 'static,
) -> Result<T, NoAnswer> {
    within(PATIENCE, path, ask).await
}

async fn within<T: Send + 'static>(
    patience: Duration,
    path: &Path,
    ask: impl FnOnce(&Steps) -> T + Send + 'static,
) -> Result<T, NoAnswer> {
    let silence = |why: String| NoAnswer { path: path.to_owned(), why, is_silent: true };
    let refused = |why: String| NoAnswer { is_silent: false, ..silence(why) };
    wait_for_earlier(patience, path).await.map_err(silence)?;
    let (sent, steps) = (Arc::new(Sent::default()), Arc::new(Steps::default()));
    let (tell, mut told) = oneshot::channel();
    let (back, theirs) = (Back(Arc::clone(&sent)), Arc::clone(&steps));
    // Its panic drops the sender.
    let thread = supervise::attended_thread("sweepd-look", move || {
        let _back = back;
        let _ = tell.send(ask(&theirs));
    });
    thread.map_err(|error| refused(format!("no thread to look at it: {error}")))?;
    let waiting = Waiting { path, sent, steps };
    let (end, mut done) = (Instant::now() + AT_MOST, 0);
    loop {
        match timeout(patience, &mut told).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(_)) => return Err(refused("the host panicked while it looked; this is a bug in sweepd".to_owned())),
            Err(_) => {
                let by_now = waiting.steps.done.load(Ordering::SeqCst);
                if by_now == done || Instant::now() >= end {
                    waiting.sent.is_silent.store(true, Ordering::SeqCst);
                    return Err(silence(silent(patience)));
                }
                done = by_now;
            }
        }
    }
}

fn silent(patience: Duration) -> String {
    format!("it does not answer within {patience:?}; is the disk or the server behind it up?")
}

/// Whoever was left at the path may be back in a moment.
async fn wait_for_earlier(patience: Duration, path: &Path) -> Result<(), String> {
    let earlier = out_at(path);
    if earlier.iter().any(|sent| sent.is_silent.load(Ordering::SeqCst)) {
        return Err("it still does not answer; is the disk or the server behind it up?".to_owned());
    }
    let all_back = async {
        for sent in &earlier {
            // The sender is here: it cannot be gone.
            let _ = sent.back.subscribe().wait_for(|back| *back).await;
        }
    };
    timeout(patience, all_back).await.map_err(|_| {
        for sent in &earlier {
            sent.is_silent.store(true, Ordering::SeqCst);
        }
        silent(patience)
    })
}

/// Who has not come back from there.
fn out_at(path: &Path) -> Vec<Arc<Sent>> {
    let mut out = out();
    out.retain(|_, sent| {
        sent.retain(|sent| !sent.is_back());
        !sent.is_empty()
    });
    out.get(path).cloned().unwrap_or_default()
}

fn out() -> MutexGuard<'static, HashMap<PathBuf, Vec<Arc<Sent>>>> {
    OUT.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One who waits. Dropped before the answer came, it leaves a note.
struct Waiting<'a> {
    path: &'a Path,
    sent: Arc<Sent>,
    steps: Arc<Steps>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.steps.given_up.store(true, Ordering::SeqCst);
        if !self.sent.is_back() {
            out().entry(self.path.to_owned()).or_default().push(Arc::clone(&self.sent));
        }
    }
}

/// Tells when who asked has come back, however.
struct Back(Arc<Sent>);

impl Drop for Back {
    fn drop(&mut self) {
        self.0.back.send_replace(true);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    const SHORT: Duration = Duration::from_millis(1);

    #[tokio::test]
    async fn who_does_not_answer_is_asked_once_until_it_does() {
        let path = Path::new("/a mount of this test");
        let (answer, answers) = channel::<()>();
        let hangs = within(SHORT, path, move |_| answers.recv().is_err());
        assert!(hangs.await.is_err_and(|error| error.is_silent && error.why.contains("does not answer within")));
        let panics = answered::<()>(Path::new("/another"), || panic!("a test panics")).await;
        assert!(panics.is_err_and(|error| !error.is_silent), "a host that could not ask is no silence");
        let again = answered::<()>(path, || panic!("nobody asks")).await;
        assert!(again.is_err_and(|error| error.why.contains("still does not answer")));
        assert_eq!(answered(Path::new("/another"), || 7).await.ok(), Some(7));
        drop(answer);
        while !out_at(path).is_empty() {
            tokio::task::yield_now().await;
        }
        assert_eq!(answered(path, || 8).await.ok(), Some(8));
    }

    #[tokio::test]
    async fn who_was_left_is_waited_for_before_another_one_is_sent() {
        let path = Path::new("/another mount of this test");
        let (answer, answers) = channel::<()>();
        let left = timeout(SHORT, answered(path, move || answers.recv().is_err())).await;
        assert!(left.is_err(), "it is dropped before it is silent");
        let again = within::<()>(SHORT, path, |_| panic!("nobody asks")).await;
        assert!(again.is_err_and(|error| error.why.contains("does not answer within")));
        assert_eq!(out_at(path).len(), 1);
        drop(answer);
        while !out_at(path).is_empty() {
            tokio::task::yield_now().await;
        }
        assert_eq!(answered(path, || 9).await.ok(), Some(9));
    }

    #[tokio::test]
    async fn what_moves_is_waited_for_and_ends_when_nobody_does() {
        let path = Path::new("/a third mount of this test");
        let patience = Duration::from_secs(1);
        let long = within(patience, path, move |steps| {
            let end = std::time::Instant::now() + 2 * patience;
            while std::time::Instant::now() < end {
                std::thread::sleep(SHORT);
                assert!(steps.go_on(), "somebody waits");
            }
        });
        assert!(long.await.is_ok(), "it took longer than its parts may");
        let given_up = timeout(SHORT, within(PATIENCE, path, |steps| while steps.go_on() {})).await;
        assert!(given_up.is_err());
        while !out_at(path).is_empty() {
            tokio::task::yield_now().await;
        }
    }
}
