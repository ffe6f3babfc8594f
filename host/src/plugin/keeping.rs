//! What is to be written into the state folder for a restart, until it is:
//! components that took the slot, which of them answered, which broke.
//!
//! A disk may be full, or a folder gone, and be mended while the host runs: what
//! could not be written is tried again, less and less often, and the slot says
//! why it is not there. Its invariant: what was handed over is in the state
//! folder, or the slot says that it is not.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio::task::spawn_blocking;
use tokio::time::Instant;

use crate::domain::digest::Digest;
use crate::domain::job::JobName;
use crate::domain::plugin_history::{Accepted, KEPT, SetAside};

use super::kept::Kept;
use super::slot::{News, Slot};

/// After the first failure it is tried again so soon.
const SOON: Duration = Duration::from_secs(1);
/// It is tried again at least so often.
const AT_LEAST: Duration = Duration::from_mins(1);
/// Components that wait besides the newest hold no more memory, in bytes.
const WAITING: usize = 64 << 20;

/// What of one job waits to be kept. It outlives a reloader that panics: what
/// broke, and is not on the disk yet, would serve again.
#[derive(Clone)]
pub struct Unkept(Arc<Mutex<Keeping>>);

impl Unkept {
    /// Nothing waits yet.
    #[must_use]
    pub fn new(job: JobName, slot: Arc<Slot>, kept: Kept) -> Self {
        Self(Arc::new(Mutex::new(Keeping::new(job, slot, kept))))
    }

    /// For the one reloader, once the one before it is gone.
    pub(super) async fn take(&self) -> OwnedMutexGuard<Keeping> {
        Arc::clone(&self.0).lock_owned().await
    }
}

/// What of one job waits to be kept.
pub(super) struct Keeping {
    job: JobName,
    slot: Arc<Slot>,
    kept: Kept,
    /// In the order in which they took the slot.
    components: VecDeque<(Accepted, Arc<Vec<u8>>)>,
    answered: Vec<Digest>,
    broke: Vec<(Digest, SetAside)>,
    /// When to try again, and how long to wait after that.
    again: Option<(Instant, Duration)>,
}

impl Keeping {
    /// Nothing waits yet.
    pub(super) fn new(job: JobName, slot: Arc<Slot>, kept: Kept) -> Self {
        let components = VecDeque::new();
        Self { job, slot, kept, components, answered: Vec::new(), broke: Vec::new(), again: None }
    }

    /// A component took the slot, or serves and may have lost its copy.
    pub(super) fn component(&mut self, accepted: Accepted, bytes: Arc<Vec<u8>>) {
        self.components.retain(|(waiting, _)| waiting.digest != accepted.digest);
        self.components.push_back((accepted, bytes));
        let mut older: usize = self.components.iter().rev().skip(1).map(|(_, bytes)| bytes.len()).sum();
        while self.components.len() > KEPT || older > WAITING {
            let Some((forgotten, bytes)) = self.components.pop_front() else { break };
            older = older.saturating_sub(bytes.len());
            tracing::warn!(job = %self.job, digest = %forgotten.digest, "will not be kept: too much waits to be kept");
        }
    }

    /// The runner said how a component fares.
    pub(super) fn news(&mut self, News { answered, broke }: News) {
        if let Some(digest) = answered {
            self.answered.retain(|known| *known != digest);
            self.answered.push(digest);
            for (waiting, _) in self.components.iter_mut().filter(|(waiting, _)| waiting.digest == digest) {
                waiting.answered = true;
            }
        }
        if let Some((digest, mark)) = broke {
            self.broke.retain(|(known, _)| *known != digest);
            self.broke.push((digest, mark));
        }
    }

    /// What must not serve, though the state folder may not say so yet.
    pub(super) fn broken(&self) -> &[(Digest, SetAside)] {
        &self.broke
    }

    /// Writes all that waits, as far as that goes. Where something is left, it
    /// is to be called again when [`Self::due`] answers.
    pub(super) async fn try_now(&mut self) {
        let failed = match self.note().await {
            Ok(()) => self.keep().await.err().map(|error| format!("what serves: {error}")),
            // The component next to it would meet the same.
            Err(error) => Some(format!("how the plugin fares: {error}")),
        };
        let Some(failed) = failed else {
            if self.slot.set_unkept(None) {
                tracing::info!(job = %self.job, "all of the plugin is kept for a restart again");
            }
            self.again = None;
            return;
        };
        let (_, pause) = self.again.unwrap_or((Instant::now(), SOON));
        self.again = Some((Instant::now() + pause, (pause * 2).min(AT_LEAST)));
        if self.slot.set_unkept(Some(failed.clone())) {
            tracing::error!(job = %self.job, "not kept for a restart, and tried again: {failed}");
        }
    }

    /// Completes when something is to be tried again; never where nothing is.
    /// Cancel safe.
    pub(super) async fn due(&self) {
        match self.again {
            Some((at, _)) => tokio::time::sleep_until(at).await,
            None => std::future::pending().await,
        }
    }

    /// Whether something waits.
    pub(super) fn has_waiting(&self) -> bool {
        !(self.components.is_empty() && self.answered.is_empty() && self.broke.is_empty())
    }

    async fn note(&mut self) -> io::Result<()> {
        if self.answered.is_empty() && self.broke.is_empty() {
            return Ok(());
        }
        let (kept, answered, broke) = (self.kept.clone(), self.answered.clone(), self.broke.clone());
        blocking(move || {
            kept.change(|history| {
                for digest in answered {
                    history.answered(digest);
                }
                for (digest, mark) in broke {
                    history.set_aside(digest, mark);
                }
                Ok::<_, io::Error>(())
            })
        })
        .await?;
        self.answered.clear();
        self.broke.clear();
        Ok(())
    }

    async fn keep(&mut self) -> io::Result<()> {
        while let Some((component, bytes)) = self.components.front().cloned() {
            let kept = self.kept.clone();
            blocking(move || kept.keep(&component, &bytes)).await?;
            self.components.pop_front();
        }
        Ok(())
    }
}

/// Does it on a thread that may wait for a disk.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match spawn_blocking(work).await {
        Ok(answer) => answer,
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use crate::domain::time::{Clock, Timestamp};

    use super::*;

    struct Place {
        state: tempfile::TempDir,
        slot: Arc<Slot>,
        kept: Kept,
        keeping: Keeping,
    }

    impl Place {
        fn new() -> Self {
            let state = tempfile::tempdir().unwrap();
            let slot = Arc::new(Slot::new(PathBuf::from("p.wasm"), Clock::system()));
            let kept = Kept::of(state.path(), "a");
            let keeping = Keeping::new(JobName::new("a").unwrap(), Arc::clone(&slot), kept.clone());
            Self { state, slot, kept, keeping }
        }

        /// Nothing can be written while this holds.
        fn block(&self) {
            fs::write(self.state.path().join("components"), "").unwrap();
        }

        fn unblock(&self) {
            fs::remove_file(self.state.path().join("components")).unwrap();
        }

        fn takes_the_slot(&mut self, bytes: &[u8]) -> Digest {
            let (digest, size) = (Digest::of(bytes), bytes.len() as u64);
            let accepted =
                Accepted { digest, size, accepted_at: Timestamp(1), world: None, answered: false, set_aside: None };
            self.keeping.component(accepted, Arc::new(bytes.to_vec()));
            digest
        }
    }

    #[tokio::test]
    async fn what_could_not_be_kept_is_told_and_kept_later_in_its_order() {
        let mut place = Place::new();
        place.block();
        let (first, second) = (place.takes_the_slot(b"1"), place.takes_the_slot(b"2"));
        place.keeping.try_now().await;
        assert!(place.slot.status().unkept.unwrap().message.contains("what serves"));
        assert!(place.keeping.has_waiting());
        place.keeping.try_now().await;
        place.unblock();
        // In at most two seconds.
        place.keeping.due().await;
        place.keeping.try_now().await;
        assert_eq!(place.slot.status().unkept, None);
        assert!(!place.keeping.has_waiting());
        let kept: Vec<_> = place.kept.history().unwrap().accepted.iter().map(|entry| entry.digest).collect();
        assert_eq!(kept, [first, second]);
    }

    #[tokio::test]
    async fn what_broke_on_a_full_disk_is_not_forgotten_for_what_broke_after_it() {
        let mut place = Place::new();
        let mark = |why: &str| SetAside { at: Timestamp(1), why: why.to_owned() };
        let (first, second) = (place.takes_the_slot(b"1"), place.takes_the_slot(b"2"));
        place.block();
        place.keeping.news(News { answered: Some(second), broke: Some((first, mark("traps"))) });
        place.keeping.news(News { answered: None, broke: Some((second, mark("loops"))) });
        place.keeping.try_now().await;
        assert_eq!(place.keeping.broken().len(), 2);
        assert!(place.slot.status().unkept.unwrap().message.contains("how the plugin fares"));
        place.unblock();
        place.keeping.try_now().await;
        let history = place.kept.history().unwrap();
        assert_eq!(history.mark_of(first).unwrap().why, "traps");
        assert_eq!(history.mark_of(second).unwrap().why, "loops");
        assert!(history.get(second).unwrap().answered, "also of one that was not kept yet");
    }

    #[test]
    fn what_waits_is_bounded_and_the_newest_is_never_dropped() {
        let mut place = Place::new();
        for number in 0..30_u8 {
            place.takes_the_slot(&[number]);
        }
        assert_eq!(place.keeping.components.len(), KEPT);
        place.takes_the_slot(&vec![1; WAITING + 1]);
        let last = place.takes_the_slot(b"last");
        let waiting: Vec<_> = place.keeping.components.iter().map(|(waiting, _)| waiting.digest).collect();
        assert_eq!(waiting, [last]);
    }
}
