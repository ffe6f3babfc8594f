//! Why a pool had no connection in time. It only says that there was none, and
//! hides that the server refuses them.

use std::fmt::Display;
use std::time::{Duration, Instant};

use tokio::sync::Mutex;

/// Asks by one connection beside the pool, however many callers wait: those who
/// come meanwhile share the answer.
#[derive(Debug, Default)]
pub(super) struct Unreached(Mutex<Option<(Instant, WhyNone)>>);

/// What one more connection came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum WhyNone {
    /// The server takes connections: those of this process were all in use.
    InUse,
    /// The server, or the way to it, says so.
    Refused(String),
    /// Nothing answered.
    Silent,
}

impl Unreached {
    /// Connects, and gives the connection up again; waits at most `patience` for
    /// that, and as long for another caller. Cancel safe.
    pub(super) async fn why<T, E: Display>(
        &self,
        patience: Duration,
        connect: impl Future<Output = Result<T, E>>,
    ) -> WhyNone {
        let came = Instant::now();
        let mut last = self.0.lock().await;
        if let Some((_, why)) = last.as_ref().filter(|(at, _)| *at >= came) {
            return why.clone();
        }
        let why = match tokio::time::timeout(patience, connect).await {
            Ok(Ok(_)) => WhyNone::InUse,
            Ok(Err(error)) => WhyNone::Refused(error.to_string()),
            Err(_) => WhyNone::Silent,
        };
        *last = Some((Instant::now(), why.clone()));
        why
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::Notify;

    use super::*;

    #[tokio::test]
    async fn one_asks_for_all_who_wait_and_later_ones_ask_anew() {
        let (unreached, asked, go_on) = (Unreached::default(), AtomicUsize::new(0), Notify::new());
        let ask = || {
            unreached.why(Duration::from_mins(1), async {
                asked.fetch_add(1, Ordering::SeqCst);
                go_on.notified().await;
                Err::<(), _>("refused")
            })
        };
        let answers = async {
            tokio::join!(ask(), ask(), ask(), async {
                tokio::task::yield_now().await;
                go_on.notify_one();
            })
        };
        let (first, second, third, ()) = answers.await;
        assert_eq!([first, second, third], [(); 3].map(|()| WhyNone::Refused("refused".to_owned())));
        assert_eq!(asked.load(Ordering::SeqCst), 1);
        go_on.notify_one();
        assert_eq!(ask().await, WhyNone::Refused("refused".to_owned()));
        assert_eq!(asked.load(Ordering::SeqCst), 2);
        let silent = unreached.why(Duration::ZERO, std::future::pending::<Result<(), String>>());
        assert_eq!(silent.await, WhyNone::Silent);
        let in_use = unreached.why(Duration::from_mins(1), async { Ok::<_, String>(()) });
        assert_eq!(in_use.await, WhyNone::InUse);
    }
}
