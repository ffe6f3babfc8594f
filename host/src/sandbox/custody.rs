//! What stands between the plugins of one job and its files, shared by all
//! their instances on this node: holds, budget, trash, and where effects are
//! written down. Or, for a simulation, the overlay that takes the place of the
//! disk: there is no journal then, and no way to a system call that changes a
//! file.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::mpsc;

use crate::domain::hold::Holds;
use crate::domain::job::{JobId, JobSpec};
use crate::domain::outcome::HINDERED_FOR;
use crate::domain::time::{Clock, Timestamp};

use super::call::Hindrance;
use super::deadline::BootTime;
use super::done::Recorded;
use super::guest::Role;
use super::journal::Journal;
use super::meter::Meter;
use super::mounts::{Mount, MountError, Mounts};
use super::overlay::Overlay;
use super::room::Room;

/// So long after tasks are due again that met the trouble of a mount it is shown:
/// by then they have met it once more, or not.
const SHOWN_FOR: Duration = Duration::from_secs(5);

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
    hindrance: Mutex<Hindered>,
}

/// What keeps changes from being made, and in words.
#[derive(Debug, Default)]
struct Hindered {
    now: Option<(Hindrance, String)>,
    /// The trouble of one mount of several stays shown while the tasks that met
    /// it wait.
    of_a_mount: Option<(BootTime, String)>,
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

    /// Notes what keeps changes from being made, at which mount, and answers it;
    /// `error` is for the log, once until [`Self::take_hindrance`].
    pub(super) fn hinder(
        &self,
        hindrance: Hindrance,
        mount: Option<&Mount>,
        error: &dyn std::fmt::Display,
    ) -> Hindrance {
        let words = mount.map_or_else(|| hindrance.to_string(), |mount| format!("{}: {hindrance}", mount.name));
        let mut noted = self.hindered();
        if mount.is_some() && self.job.mounts.len() > 1 {
            noted.of_a_mount = Some((BootTime::now(), words.clone()));
        }
        if noted.now.is_none() {
            tracing::error!(job = %self.job.name, "{words} ({error})");
            noted.now = Some((hindrance, words));
        }
        hindrance
    }

    /// A hindrance in words, with the mount where it is that one which was noted.
    #[must_use]
    pub fn in_words(&self, hindrance: Hindrance) -> String {
        match &self.hindered().now {
            Some((noted, words)) if *noted == hindrance => words.clone(),
            _ => hindrance.to_string(),
        }
    }

    /// What kept changes from being made since this was last asked, in words, if
    /// anything did, or what tasks wait for that met it not long ago.
    #[must_use]
    pub fn take_hindrance(&self) -> Option<String> {
        let mut noted = self.hindered();
        let waits = |(at, _): &mut (BootTime, String)| {
            BootTime::now().running().saturating_sub(at.running()) > HINDERED_FOR.max(self.job.interval) + SHOWN_FOR
        };
        noted.of_a_mount.take_if(waits);
        let of_a_mount = noted.of_a_mount.as_ref().map(|(_, words)| words.clone());
        noted.now.take().map(|(_, words)| words).or(of_a_mount)
    }

    fn hindered(&self) -> MutexGuard<'_, Hindered> {
        self.hindrance.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The time by which the meter counts its hour: one that nobody sets.
    #[must_use]
    pub fn metered_now(&self) -> Timestamp {
        self.metered(BootTime::now())
    }

    /// The same of a point that was just read: a change reads the clock as seldom
    /// as it can.
    pub(super) fn metered(&self, now: BootTime) -> Timestamp {
        if self.clock.is_manual() { self.clock.now() } else { Timestamp(0).after(now.running()) }
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
