//! Which of a pool's sessions may still be used.
//!
//! A session keeps what it was told when it began, and what the server was at
//! that time. After a failover, or after a change of the server's defaults, a
//! session that is still connected can refuse every write for as long as it
//! lives. The first one that says so condemns all that are as old: the pool
//! closes them instead of lending them out, and opens new ones.
//!
//! This module knows neither databases nor pools. Its invariant: no session
//! that began before the last condemnation is lent out again.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A condemnation is told once in so long: a server that is read-only for an
/// hour condemns at every write.
const TOLD_ONCE_IN: Duration = Duration::from_secs(30);

/// When the sessions of a pool were last condemned.
#[derive(Debug, Default)]
pub(super) struct Sessions(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    condemned: Option<Instant>,
    told: Option<Instant>,
}

impl Sessions {
    /// No session that has begun by now is used again. `true` where this is
    /// news that belongs in the log.
    pub(super) fn condemn(&self) -> bool {
        self.condemn_at(Instant::now())
    }

    /// Whether a session of this age may be used.
    pub(super) fn keep(&self, age: Duration) -> bool {
        self.keep_at(Instant::now(), age)
    }

    fn condemn_at(&self, now: Instant) -> bool {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.condemned = Some(now);
        let is_news = state.told.is_none_or(|told| now.duration_since(told) >= TOLD_ONCE_IN);
        if is_news {
            state.told = Some(now);
        }
        is_news
    }

    fn keep_at(&self, now: Instant, age: Duration) -> bool {
        let condemned = self.0.lock().unwrap_or_else(PoisonError::into_inner).condemned;
        condemned.is_none_or(|condemned| now.checked_sub(age).is_some_and(|began| began > condemned))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_began_before_a_condemnation_is_not_kept() {
        let sessions = Sessions::default();
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        assert!(sessions.keep_at(start, second), "nothing is condemned");
        assert!(sessions.condemn_at(start + 10 * second));
        let now = start + 12 * second;
        assert!(!sessions.keep_at(now, 5 * second), "it began before");
        assert!(!sessions.keep_at(now, 2 * second), "it began just then");
        assert!(sessions.keep_at(now, second), "it began after");
    }

    #[test]
    fn a_server_that_goes_on_refusing_is_told_now_and_then() {
        let sessions = Sessions::default();
        let start = Instant::now();
        assert!(sessions.condemn_at(start));
        assert!(!sessions.condemn_at(start + TOLD_ONCE_IN / 2));
        assert!(sessions.condemn_at(start + TOLD_ONCE_IN));
    }
}
