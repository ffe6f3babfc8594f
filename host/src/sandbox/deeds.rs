//! The one way in which a guest changes a file: right, hold, budget, intent,
//! permit, system call, result.
//!
//! ```text
//!  asked ─▶ may it? ─▶ held? ─▶ within budget? ─▶ intent ─▶ permit ─▶ done ─▶ result
//! ```
//! What a call did is kept until its end and handed over with its answer; a call
//! that does very much hands over in chunks.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::Stat;
use rustix::io::Errno;

use crate::domain::budget::Spent;
use crate::domain::effect::{Effect, EffectId, EffectResult, Operation};
use crate::domain::task::TaskId;
use crate::domain::time::Timestamp;

use super::call::{Call, Interrupt};
use super::custody::{Custody, Mode};
use super::journal::Noted;
use super::place::Place;

/// So many effects of one call are handed over before it ends.
const CHUNK: usize = 1000;

/// An effect, and the place in the journal that it keeps until the database has
/// it.
#[derive(Debug)]
pub struct Recorded {
    /// The effect.
    pub effect: Effect,
    noted: Option<Noted>,
}

impl Recorded {
    /// The effect for the database, and what is to be settled when that has it.
    #[must_use]
    pub fn part(self) -> (Effect, Option<Noted>) {
        (self.effect, self.noted)
    }
}

/// What a call did so far.
#[derive(Debug, Default)]
pub(super) struct Deeds {
    done: Vec<Recorded>,
    /// Those among `done` that go on, writes to open files, each with whether
    /// anything of it was done.
    going_on: Vec<(usize, Arc<AtomicBool>)>,
}

/// What is to be done to a file.
pub(super) struct Deed<'a> {
    pub(super) operation: Operation,
    pub(super) place: &'a Place,
    /// The new place of what is moved or linked.
    pub(super) to: Option<&'a Place>,
    /// What stands at `place`.
    pub(super) before: Option<Stat>,
    /// Whether what is removed goes into the trash.
    pub(super) trashed: bool,
}

/// Why it was not done.
#[derive(Debug)]
pub(super) enum NotDone {
    /// The guest is told so.
    Refused(Errno),
    /// The call ends.
    Interrupted(Interrupt),
}

impl From<Errno> for NotDone {
    fn from(error: Errno) -> Self {
        Self::Refused(error)
    }
}

impl Call {
    /// Does it: `act` makes the system call, and is given the name of the effect.
    /// In a simulation `act` changes the overlay.
    pub(super) fn perform<T>(
        &self,
        deed: &Deed<'_>,
        act: impl FnOnce(EffectId) -> Result<T, Errno>,
    ) -> Result<T, NotDone> {
        let (mut recorded, cost) = self.intend(deed)?;
        let permit = match self.permit() {
            Ok(permit) => permit,
            Err(interrupt) => {
                self.conclude(recorded, cost, EffectResult::Failed(interrupt.to_string()));
                return Err(NotDone::Interrupted(interrupt));
            }
        };
        let done = act(recorded.effect.id);
        drop(permit);
        match done {
            Ok(done) => {
                match deed.operation {
                    Operation::Remove => self.custody.meter.gone(recorded.effect.at),
                    Operation::Create | Operation::Link => self.custody.meter.made(recorded.effect.at),
                    _ => {}
                }
                self.conclude(recorded, cost, EffectResult::Done);
                Ok(done)
            }
            Err(error) => {
                recorded.effect.trashed = false;
                self.conclude(recorded, cost, EffectResult::Failed(std::io::Error::from(error).to_string()));
                Err(NotDone::Refused(error))
            }
        }
    }

    /// Does two things by one system call: both are done, or none.
    pub(super) fn perform_both<T>(
        &self,
        also: &Deed<'_>,
        deed: &Deed<'_>,
        act: impl FnOnce(EffectId) -> Result<T, Errno>,
    ) -> Result<T, NotDone> {
        let (recorded, cost) = self.intend(also)?;
        let done = self.perform(deed, act);
        let result = match &done {
            Ok(_) => {
                self.custody.meter.gone(recorded.effect.at);
                EffectResult::Done
            }
            Err(NotDone::Refused(error)) => EffectResult::Failed(std::io::Error::from(*error).to_string()),
            Err(NotDone::Interrupted(interrupt)) => EffectResult::Failed(interrupt.to_string()),
        };
        self.conclude(recorded, cost, result);
        done
    }

    /// Begins something that goes on until the call ends: the writes to one open
    /// file. Whoever does the first of it sets the flag.
    pub(super) fn begin_deed(&self, deed: &Deed<'_>) -> Result<Arc<AtomicBool>, NotDone> {
        let (recorded, _) = self.intend(deed)?;
        let mut deeds = self.deeds();
        let index = deeds.done.len();
        let begun = Arc::new(AtomicBool::new(false));
        deeds.going_on.push((index, Arc::clone(&begun)));
        deeds.done.push(recorded);
        Ok(begun)
    }

    /// What was done and not handed over yet: all that goes on has ended.
    pub(super) fn end_deeds(&self) -> Vec<Recorded> {
        let mut deeds = std::mem::take(&mut *self.deeds());
        for (index, begun) in deeds.going_on {
            let recorded = &mut deeds.done[index];
            recorded.effect.result = if begun.load(Ordering::Relaxed) {
                self.has_changed(recorded.effect.operation);
                EffectResult::Done
            } else {
                self.custody.meter.give_back(recorded.effect.cost());
                EffectResult::Failed("nothing of it was written".to_owned())
            };
            write_down(&self.custody, recorded);
        }
        deeds.done
    }

    fn intend(&self, deed: &Deed<'_>) -> Result<(Recorded, Spent), NotDone> {
        let custody = &self.custody;
        let Some(task) = self.task() else {
            self.say_refused(deed.operation.name(), "files are changed for a task, and none runs");
            return Err(NotDone::Refused(Errno::PERM));
        };
        let effect = self.effect(task, deed);
        let cost = effect.cost();
        if cost != Spent::default()
            && let Err(over) = custody.meter.take(cost, effect.at)
        {
            self.say_refused(deed.operation.name(), &over.to_string());
            return Err(NotDone::Interrupted(Interrupt::OverBudget));
        }
        let noted = match &custody.mode {
            Mode::Simulated(_) => None,
            Mode::Real(journal) => match journal.intend(&effect) {
                Ok(noted) => Some(noted),
                Err(error) => {
                    custody.meter.give_back(cost);
                    tracing::error!(
                        job = %custody.job.name,
                        "{} refused: it could not be written down before: {error}", deed.operation,
                    );
                    return Err(NotDone::Refused(Errno::IO));
                }
            },
        };
        Ok((Recorded { effect, noted }, cost))
    }

    fn effect(&self, task: TaskId, deed: &Deed<'_>) -> Effect {
        let custody = &self.custody;
        let id = match &custody.mode {
            Mode::Real(journal) => journal.next(),
            Mode::Simulated(_) => EffectId { journal: 0, number: 0 },
        };
        let mount = deed.place.mount();
        let to_mount = deed.to.map(Place::mount).filter(|to| to.name != mount.name);
        let before = deed.before.as_ref();
        Effect {
            id,
            job: custody.id,
            task,
            attempt: self.attempt(),
            digest: self.digest,
            operation: deed.operation,
            mount: mount.name.clone(),
            path: deed.place.path(),
            to: deed.to.map(Place::path),
            to_mount: to_mount.map(|mount| mount.name.clone()),
            size: before.map_or(0, |stat| u64::try_from(stat.st_size).unwrap_or(0)),
            modified: before.map_or(Timestamp(0), modified),
            #[allow(clippy::unnecessary_cast, reason = "an inode has another width elsewhere")]
            inode: before.map_or(0, |stat| stat.st_ino as u64),
            at: custody.clock.now(),
            result: EffectResult::Unknown,
            trashed: deed.trashed,
        }
    }

    fn conclude(&self, mut recorded: Recorded, cost: Spent, result: EffectResult) {
        match result {
            EffectResult::Failed(_) => self.custody.meter.give_back(cost),
            EffectResult::Done | EffectResult::Unknown => self.has_changed(recorded.effect.operation),
        }
        recorded.effect.result = result;
        write_down(&self.custody, &recorded);
        let mut deeds = self.deeds();
        deeds.done.push(recorded);
        if deeds.done.len() >= CHUNK && deeds.going_on.is_empty() {
            let chunk = std::mem::take(&mut deeds.done);
            // Where nobody takes it now, it stays for the next time or the end.
            if let Err(kept) = self.custody.hand_over(chunk) {
                deeds.done = kept;
            }
        }
    }
}

fn write_down(custody: &Custody, recorded: &Recorded) {
    if let Mode::Real(journal) = &custody.mode {
        journal.conclude(&recorded.effect);
    }
}

/// When a file was last modified, to the millisecond; before 1970 is 1970.
#[allow(clippy::unnecessary_cast, clippy::cast_sign_loss, reason = "both are of another width elsewhere")]
fn modified(stat: &Stat) -> Timestamp {
    let seconds = u64::try_from(stat.st_mtime as i64).unwrap_or(0);
    Timestamp(seconds.saturating_mul(1000).saturating_add(stat.st_mtime_nsec as u64 / 1_000_000))
}
