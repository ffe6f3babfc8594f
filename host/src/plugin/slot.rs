//! The seat in a job that holds its current generation.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwapOption;
use tokio::sync::watch;

use crate::domain::status::{Event, SlotStatus};
use crate::domain::time::Clock;

use super::generation::{Generation, Plugin};

/// Holds what serves now. Whoever takes a generation keeps it; the next one to
/// ask gets the newest.
#[derive(Debug)]
pub struct Slot {
    file: PathBuf,
    clock: Clock,
    current: ArcSwapOption<Generation>,
    /// Why the file's present content does not serve.
    error: Mutex<Option<Event>>,
    swaps: AtomicU64,
    changed: watch::Sender<u64>,
}

impl Slot {
    /// An empty slot for the plugin in `file`.
    #[must_use]
    pub fn new(file: PathBuf, clock: Clock) -> Self {
        Self {
            file,
            clock,
            current: ArcSwapOption::empty(),
            error: Mutex::new(None),
            swaps: AtomicU64::new(0),
            changed: watch::Sender::new(0),
        }
    }

    /// What serves now; `None` while nothing was ever accepted.
    #[must_use]
    pub fn current(&self) -> Option<Arc<Generation>> {
        self.current.load_full()
    }

    /// Puts `plugin` into the seat as a new generation.
    pub fn swap(&self, plugin: Plugin, kept: bool) -> Arc<Generation> {
        let number = self.swaps.fetch_add(1, Ordering::SeqCst) + 1;
        let generation = Arc::new(Generation { number, plugin, loaded_at: self.clock.now(), kept });
        self.current.store(Some(Arc::clone(&generation)));
        self.changed.send_replace(number);
        generation
    }

    /// Says why the file's present content does not serve, or with `None` that
    /// it does.
    pub fn set_error(&self, message: Option<String>) {
        let event = message.map(|message| Event { at: self.clock.now(), message });
        *self.error.lock().unwrap_or_else(PoisonError::into_inner) = event;
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
        SlotStatus {
            file: self.file.display().to_string(),
            generation: self.current().map(|generation| generation.status()),
            error: self.error.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            swaps: self.swaps.load(Ordering::SeqCst),
        }
    }
}
