//! The seat in a job that holds its current generation, and what is told about
//! it: the runner says how it fares, people what they want instead.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwapOption;
use tokio::sync::{Notify, watch};

use crate::domain::digest::Digest;
use crate::domain::job::JobName;
use crate::domain::plugin_history::{PluginHistory, SetAside};
use crate::domain::status::{CompilingStatus, Event, SetAsideStatus, SlotStatus};
use crate::domain::time::Clock;

use super::generation::{Generation, Plugin};

/// Holds what serves now. Whoever takes a generation keeps it; the next one to
/// ask gets the newest.
#[derive(Debug)]
pub struct Slot {
    file: PathBuf,
    clock: Clock,
    current: ArcSwapOption<Generation>,
    told: Mutex<Told>,
    swaps: AtomicU64,
    changed: watch::Sender<u64>,
    /// Why the job cannot go on, for its runner; `None` where nothing is wrong.
    stranded: watch::Sender<Option<String>>,
    news: Notify,
    /// How often somebody asked to look again, and how many of those asks are
    /// settled.
    asked: AtomicU64,
    settled: watch::Sender<u64>,
}

/// What was said of the slot, besides what is in it.
#[derive(Debug, Default)]
struct Told {
    /// What is being compiled.
    compiling: Option<CompilingStatus>,
    /// Why the file's present content does not serve.
    error: Option<Event>,
    /// Why something is not kept for a restart.
    unkept: Option<Event>,
    /// Why it is not known what the file is now.
    unseen: Option<Event>,
    pinned: Option<Digest>,
    last_set_aside: Option<SetAsideStatus>,
    news: News,
}

/// What the runner has to say that is not in the history yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct News {
    /// An execution of it answered for the first time.
    pub(super) answered: Option<Digest>,
    /// It broke.
    pub(super) broke: Option<(Digest, SetAside)>,
}

impl Slot {
    /// An empty slot for the plugin in `file`.
    #[must_use]
    pub fn new(file: PathBuf, clock: Clock) -> Self {
        Self {
            file,
            clock,
            current: ArcSwapOption::empty(),
            told: Mutex::default(),
            swaps: AtomicU64::new(0),
            changed: watch::Sender::new(0),
            stranded: watch::Sender::new(None),
            news: Notify::new(),
            asked: AtomicU64::new(0),
            settled: watch::Sender::new(0),
        }
    }

    /// What serves now; `None` while nothing does.
    #[must_use]
    pub fn current(&self) -> Option<Arc<Generation>> {
        self.current.load_full()
    }

    /// Puts `plugin` into the seat as a new generation.
    pub fn swap(&self, plugin: Plugin, kept: bool) -> Arc<Generation> {
        let number = self.swaps.fetch_add(1, Ordering::SeqCst) + 1;
        let generation = Arc::new(Generation::new(number, plugin, self.clock.now(), kept));
        self.current.store(Some(Arc::clone(&generation)));
        self.changed.send_replace(number);
        generation
    }

    /// An execution of what serves answered for the first time.
    pub fn has_answered(&self, generation: &Generation) {
        self.told().news.answered = Some(generation.plugin.digest);
        self.news.notify_one();
    }

    /// A generation broke: from now on it is in the seat no more, and something
    /// else is looked for. One that is pinned stays, but its job is to pause.
    /// Answers whether it was the current one at all.
    pub fn broke(&self, generation: &Generation, why: &str) -> bool {
        let current = self.current.load();
        if current.as_ref().is_none_or(|current| current.number != generation.number) {
            return false;
        }
        let digest = generation.plugin.digest;
        let mut told = self.told();
        if told.pinned == Some(digest) {
            drop(told);
            let help = "it is pinned: unpin it, or pin another one, and resume the job";
            self.strand(format!("the plugin {} broke: {why}; {help}", digest.short()));
            return true;
        }
        told.news.broke = Some((digest, SetAside { at: self.clock.now(), why: why.to_owned() }));
        drop(told);
        // Unless a swap came first: then nothing need be vacated.
        self.current.compare_and_swap(&current, None);
        self.news.notify_one();
        true
    }

    /// Empties the seat of what is set aside.
    pub(super) fn vacate(&self) {
        self.current.store(None);
    }

    /// Nothing serves, and nothing will by itself: the job is to pause.
    pub(super) fn strand(&self, why: String) {
        self.stranded.send_replace(Some(why));
    }

    /// Sees when the job cannot go on; the value says why.
    #[must_use]
    pub fn stranded(&self) -> watch::Receiver<Option<String>> {
        self.stranded.subscribe()
    }

    /// Somebody changed what is to serve: it is looked at soon. Answers the
    /// number of the ask for [`Slot::settled`].
    pub fn look_again(&self) -> u64 {
        let number = self.asked.fetch_add(1, Ordering::SeqCst) + 1;
        self.news.notify_one();
        number
    }

    /// Waits until the ask of this number is settled: what can serve of what was
    /// wanted then does, or the slot's error says why not. Cancel safe.
    pub async fn settled(&self, number: u64) {
        // The sender is here: it cannot be gone.
        let _ = self.settled.subscribe().wait_for(|settled| *settled >= number).await;
    }

    /// Waits for something to look at. Cancel safe.
    pub(super) async fn news(&self) {
        self.news.notified().await;
    }

    pub(super) fn take_news(&self) -> News {
        std::mem::take(&mut self.told().news)
    }

    /// The number of the last ask; all that it asked for can be read by now.
    pub(super) fn asked(&self) -> u64 {
        self.asked.load(Ordering::SeqCst)
    }

    pub(super) fn settle(&self, asked: u64) {
        self.settled.send_replace(asked);
    }

    /// The component `digest` is being compiled, until the answer is dropped.
    pub(super) fn compiling(&self, digest: Digest) -> Compiling<'_> {
        self.told().compiling = Some(CompilingStatus { since: self.clock.now(), digest });
        Compiling(self)
    }

    /// Says why the file's present content does not serve, or with `None` that
    /// it does. Answers whether that is new.
    pub fn set_error(&self, message: Option<String>) -> bool {
        let mut told = self.told();
        if told.error.as_ref().map(|event| &event.message) == message.as_ref() {
            return false;
        }
        told.error = message.map(|message| Event { at: self.clock.now(), message });
        true
    }

    /// Says why something is not kept for a restart, or with `None` that all is.
    /// Answers whether that is new.
    pub(super) fn set_unkept(&self, message: Option<String>) -> bool {
        let mut told = self.told();
        if told.unkept.as_ref().map(|event| &event.message) == message.as_ref() {
            return false;
        }
        told.unkept = message.map(|message| Event { at: self.clock.now(), message });
        true
    }

    /// Says why it is not known what the file is now, or with `None` that it is.
    /// Answers whether that is new.
    pub(super) fn set_unseen(&self, message: Option<String>) -> bool {
        let mut told = self.told();
        if told.unseen.as_ref().map(|event| &event.message) == message.as_ref() {
            return false;
        }
        told.unseen = message.map(|message| Event { at: self.clock.now(), message });
        true
    }

    /// Takes over what status shows of the history of `job`, and logs what is
    /// new in it.
    pub(super) fn note(&self, job: &JobName, history: &PluginHistory) {
        let last = history.last_set_aside().map(|(digest, mark)| SetAsideStatus { digest, mark: mark.clone() });
        let mut told = self.told();
        match (told.pinned, history.pinned) {
            (before, now) if before == now => {}
            (_, Some(digest)) => tracing::warn!(%job, %digest, "pinned: it serves, whatever the plugin file holds"),
            (_, None) => tracing::info!(%job, "unpinned: the plugin file counts again"),
        }
        if let Some(SetAsideStatus { digest, mark }) = last.as_ref().filter(|_| told.last_set_aside != last) {
            tracing::warn!(%job, %digest, "set aside at {}: {}", mark.at, mark.why);
        }
        told.pinned = history.pinned;
        told.last_set_aside = last;
    }

    /// Sees every swap; the value is the generation's number.
    #[must_use]
    pub fn swaps(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// The plugin's file.
    #[must_use]
    pub fn file(&self) -> &PathBuf {
        &self.file
    }

    /// What status shows of it.
    #[must_use]
    pub fn status(&self) -> SlotStatus {
        let generation = self.current().map(|generation| generation.status());
        let told = self.told();
        SlotStatus {
            file: self.file.display().to_string(),
            generation,
            compiling: told.compiling.clone(),
            error: told.error.clone(),
            unkept: told.unkept.clone(),
            unseen: told.unseen.clone(),
            pinned: told.pinned,
            set_aside: told.last_set_aside.clone(),
            swaps: self.swaps.load(Ordering::SeqCst),
        }
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// While it lives, status says that a component is being compiled.
#[derive(Debug)]
pub(super) struct Compiling<'a>(&'a Slot);

impl Drop for Compiling<'_> {
    fn drop(&mut self) {
        self.0.told().compiling = None;
    }
}
