//! What stands between the plugins of one job and its files, shared by all
//! their instances on this node: holds, budget, trash, and where effects are
//! written down. Or, for a simulation, the overlay that takes the place of the
//! disk: there is no journal then, and no way to a system call that changes a
//! file.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use tokio::sync::mpsc;

use crate::domain::hold::Holds;
use crate::domain::job::{JobId, JobSpec};
use crate::domain::time::{Clock, Timestamp};

use super::call::Hindrance;
use super::deadline::BootTime;
use super::done::Recorded;
use super::guest::Role;
use super::journal::Journal;
use super::meter::Meter;
use super::mounts::{MountError, Mounts};
use super::overlay::Overlay;
use super::room::Room;

/// The custody of one job's files.
#[derive(Debug)]
pub struct Custody {
    /// The job.
    pub job: Arc<JobSpec>,
    /// Its number in the store.
    pub id: JobId,
    /// What is held, as far as this node knows.
    pub holds: ArcSwap<Holds>,
    /// The budget.
    pub meter: Meter,
    pub(super) clock: Clock,
    pub(super) mode: Mode,
    /// Takes what a call that does very much has done before it ends. Where it is
    /// full, the call keeps it, and tries again with its next effect.
    chunks: Option<mpsc::Sender<Vec<Recorded>>>,
    /// What kept a change from being made, since this was last asked.
    hindrance: Mutex<Option<Hindrance>>,
}

/// Whether files are changed.
#[derive(Debug)]
pub(super) enum Mode {
    /// They are, and it is written down; something is made only where there is
    /// room.
    Real(Journal, Arc<Room>),
    /// They are not.
    Simulated(Mutex<Overlay>),
}

impl Custody {
    /// For real work. What calls hand over before they end goes to `chunks`, and
    /// nothing is made where there is no `room`.
    #[must_use]
    pub fn new(
        job: Arc<JobSpec>,
        id: JobId,
        journal: Journal,
        room: Arc<Room>,
        clock: Clock,
        chunks: mpsc::Sender<Vec<Recorded>>,
    ) -> Arc<Self> {
        Self::with(job, id, clock, Mode::Real(journal, room), Some(chunks))
    }

    /// For a simulation: nothing on disk changes.
    #[must_use]
    pub fn simulated(job: Arc<JobSpec>, id: JobId, clock: Clock) -> Arc<Self> {
        Self::with(job, id, clock, Mode::Simulated(Mutex::default()), None)
    }

    fn with(
        job: Arc<JobSpec>,
        id: JobId,
        clock: Clock,
        mode: Mode,
        chunks: Option<mpsc::Sender<Vec<Recorded>>>,
    ) -> Arc<Self> {
        let meter = Meter::new(job.budget);
        let hindrance = Mutex::default();
        Arc::new(Self { job, id, holds: ArcSwap::default(), meter, clock, mode, chunks, hindrance })
    }

    /// Whoever writes effects to the database takes these now, where there is
    /// room for them.
    pub(super) fn hand_over(&self, done: impl FnOnce() -> Vec<Recorded>) {
        if let Some(room) = self.chunks.as_ref().and_then(|chunks| chunks.try_reserve().ok()) {
            let done = done();
            if !done.is_empty() {
                // What was folded must not be read back as it was before.
                self.write_down_results();
                room.send(done);
            }
        }
    }

    /// Writes down the results of what was done so far, before the database is
    /// told of them: that may take a while, and the host may be killed meanwhile.
    pub fn write_down_results(&self) {
        if let Mode::Real(journal, _) = &self.mode {
            journal.flush();
        }
    }

    /// Notes what keeps changes from being made, and answers it; `error` is for
    /// the log, once until [`Self::take_hindrance`].
    pub(super) fn hinder(&self, hindrance: Hindrance, error: &dyn std::fmt::Display) -> Hindrance {
        let mut noted = self.hindrance.lock().unwrap_or_else(PoisonError::into_inner);
        if noted.is_none() {
            tracing::error!(job = %self.job.name, "{hindrance} ({error})");
        }
        *noted.get_or_insert(hindrance)
    }

    /// What kept changes from being made since this was last asked, if anything
    /// did.
    #[must_use]
    pub fn take_hindrance(&self) -> Option<Hindrance> {
        self.hindrance.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// The time by which the meter counts its hour: one that nobody sets.
    #[must_use]
    pub fn metered_now(&self) -> Timestamp {
        if self.clock.is_manual() { self.clock.now() } else { Timestamp(0).after(BootTime::now().running()) }
    }

    /// Whether changes are simulated.
    #[must_use]
    pub fn is_simulated(&self) -> bool {
        matches!(self.mode, Mode::Simulated(_))
    }

    pub(super) fn overlay(&self) -> Option<MutexGuard<'_, Overlay>> {
        match &self.mode {
            Mode::Real(..) => None,
            Mode::Simulated(overlay) => Some(overlay.lock().unwrap_or_else(PoisonError::into_inner)),
        }
    }

    /// The mounts, opened for a guest of this role. A simulation makes no trash.
    pub(super) fn open(&self, role: Role) -> Result<Mounts, MountError> {
        Mounts::open(&self.job.mounts, role, self.job.trash.is_some() && !self.is_simulated())
    }
}
