//! Waiting for the lock under which nodes bring a shared schema up to date, one
//! after the other: by asking again, so that the wait can say whose turn it is
//! and ends when it is dropped.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::StoreError;

/// How long a command waits; a migration, and that of another node, may take its
/// time.
pub(super) const PATIENCE: Duration = Duration::from_mins(1);

/// Between two tries.
const PAUSE: Duration = Duration::from_millis(100);

/// A wait that takes longer is told.
const LONG: Duration = Duration::from_secs(1);

/// One wait for the lock of a database.
pub(super) struct Turns<'a> {
    place: &'a str,
    patience: Duration,
    began: Instant,
    /// Who was named last.
    told: Option<String>,
}

impl<'a> Turns<'a> {
    /// A wait that begins now, and ends without the lock after `patience`.
    pub(super) fn new(place: &'a str, patience: Duration) -> Self {
        Self { place, patience, began: Instant::now(), told: None }
    }

    /// The lock was not free: waits a moment, or says that it took too long.
    /// Cancel safe.
    pub(super) async fn wait(&mut self, holder: Option<&str>) -> Result<(), StoreError> {
        if self.is_news(self.began.elapsed(), holder)? {
            let holder = holder.unwrap_or_default();
            tracing::warn!("{}: waiting, {holder} has the lock of migrations", self.place);
        }
        sleep(PAUSE).await;
        Ok(())
    }

    /// Whether it is to be told that `holder` has the lock; an error where it has
    /// been `waited` for too long.
    fn is_news(&mut self, waited: Duration, holder: Option<&str>) -> Result<bool, StoreError> {
        if waited >= self.patience {
            let holder = holder.unwrap_or("another sweepd");
            return Err(StoreError::Unavailable(format!(
                "{}: {holder} has the lock of migrations; wait for it, or end its connection",
                self.place
            )));
        }
        // It may have been let go just now.
        let Some(holder) = holder.filter(|_| waited >= LONG) else { return Ok(false) };
        let is_news = self.told.as_deref() != Some(holder);
        self.told = Some(holder.to_owned());
        Ok(is_news)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_holder_is_told_once_and_patience_ends_with_the_last_one() {
        let mut turns = Turns::new("there", PATIENCE);
        assert_eq!(turns.is_news(Duration::ZERO, Some("process 7")), Ok(false), "it may be quick");
        assert_eq!(turns.is_news(LONG, Some("process 7")), Ok(true));
        assert_eq!(turns.is_news(LONG, Some("process 7")), Ok(false));
        assert_eq!(turns.is_news(LONG, None), Ok(false));
        assert_eq!(turns.is_news(LONG, Some("process 8")), Ok(true));
        let error = turns.is_news(PATIENCE, Some("process 8")).expect_err("it took too long").to_string();
        assert!(error.contains("there") && error.contains("process 8"), "{error}");
    }
}
