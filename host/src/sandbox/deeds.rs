//! The one way in which a guest changes a file: right, hold, budget, intent,
//! permit, system call, result.
//!
//! ```text
//!  asked ─▶ may it? ─▶ held? ─▶ within budget? ─▶ intent ─▶ permit ─▶ held by now? ─▶ done ─▶ result
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

use super::call::{Call, Hindrance, Interrupt};
use super::custody::{Custody, Mode};
use super::journal::Noted;
use super::place::Place;
use super::reconcile::{Became, Shown, became, look_at, may_be_repeated, tells};
use super::view::modified;

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
    going_on: Vec<(usize, Arc<Begun>)>,
}

/// What came so far of something that goes on.
#[derive(Debug, Default)]
pub(super) struct Begun {
    done: AtomicBool,
    perhaps: AtomicBool,
}

impl Begun {
    /// Something of it was done.
    pub(super) fn done(&self) {
        self.done.store(true, Ordering::Relaxed);
    }

    /// A part of it was answered with this: where that does not tell, something
    /// may have been done.
    pub(super) fn failed(&self, error: &std::io::Error) {
        if !Errno::from_io_error(error).is_some_and(tells) {
            self.perhaps.store(true, Ordering::Relaxed);
        }
    }

    fn is_done(&self) -> bool {
        self.done.load(Ordering::Relaxed)
    }

    fn is_perhaps(&self) -> bool {
        self.perhaps.load(Ordering::Relaxed)
    }
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
    /// Nothing stood there when it was looked at.
    pub(super) fresh: bool,
}

impl Deed<'_> {
    /// Whether it could be made when it was looked at.
    fn is_sure(&self) -> bool {
        self.before.is_some() || self.fresh
    }
}

/// Why it was not done.
#[derive(Debug)]
pub(super) enum NotDone {
    /// The guest is told so.
    Refused(Errno),
    /// The call ends.
    Interrupted(Interrupt),
}

impl std::fmt::Display for NotDone {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Refused(error) => std::io::Error::from(*error).fmt(f),
            Self::Interrupted(interrupt) => interrupt.fmt(f),
        }
    }
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
        self.performed(deed, act).map_err(|(not_done, _)| not_done)
    }

    /// The same; with an error, what became of it all the same.
    fn performed<T>(
        &self,
        deed: &Deed<'_>,
        act: impl FnOnce(EffectId) -> Result<T, Errno>,
    ) -> Result<T, (NotDone, EffectResult)> {
        let failed = |why: String| EffectResult::Failed(why);
        let (mut recorded, cost) = self.intend(deed).map_err(|not_done| {
            let why = not_done.to_string();
            (not_done, failed(why))
        })?;
        let permit = match self.permit() {
            Ok(permit) => permit,
            Err(interrupt) => {
                let result = failed(interrupt.to_string());
                self.conclude(recorded, cost, result.clone());
                return Err((NotDone::Interrupted(interrupt), result));
            }
        };
        let done = self.must_still_be_free(deed).and_then(|()| act(recorded.effect.id));
        drop(permit);
        let result = match &done {
            Ok(_) => EffectResult::Done,
            Err(error) => self.result_of(&recorded.effect, deed, *error),
        };
        match (&result, deed.operation) {
            (EffectResult::Done, Operation::Remove) => self.custody.meter.gone(self.custody.metered_now()),
            (EffectResult::Done, Operation::Create | Operation::Link) => {
                self.custody.meter.made(self.custody.metered_now());
            }
            (EffectResult::Failed(_), _) => recorded.effect.trashed = false,
            _ => {}
        }
        self.conclude(recorded, cost, result.clone());
        done.map_err(|error| (self.not_done(deed, error), result))
    }

    /// What became of a change that was answered with an error. Where that does not
    /// tell, the disk is asked.
    fn result_of(&self, effect: &Effect, deed: &Deed<'_>, error: Errno) -> EffectResult {
        let words = std::io::Error::from(error).to_string();
        let became = if self.custody.is_simulated() || (tells(error) && !may_be_repeated(error)) {
            Became::NotMade
        } else {
            let trash = deed.place.mount().trash.as_ref().ok_or(Errno::NOENT);
            let look = |place: &Place| look_at(place.folder.disk(), &place.name);
            let shown = Shown {
                here: look(deed.place),
                there: deed.to.map(look),
                in_trash: look_at(trash, &effect.id.to_string()),
            };
            match became(effect, &shown) {
                // What the kernel or a server repeated by itself is answered so, and so
                // is a change that somebody else made in between.
                Became::Made if !tells(error) || is_shown_as_ours(effect) => Became::Made,
                Became::Made if deed.is_sure() => Became::Unknown,
                Became::Unknown if !tells(error) => Became::Unknown,
                _ => Became::NotMade,
            }
        };
        if became != Became::NotMade {
            let (job, path) = (&self.custody.job.name, effect.full_path());
            let made = if became == Became::Made { "the disk shows that it was made" } else { "it may have been made" };
            tracing::warn!(%job, "{} of {} was answered with `{words}`, and {made}", effect.operation, path.display());
        }
        match became {
            Became::Made => EffectResult::Done,
            Became::NotMade => EffectResult::Failed(words),
            Became::Unknown => EffectResult::Unknown,
        }
    }

    /// Why the system did not do it. A removal that a full disk refuses is no
    /// fault of the guest's, which cannot make room in another way.
    fn not_done(&self, deed: &Deed<'_>, error: Errno) -> NotDone {
        if !matches!(error, Errno::NOSPC | Errno::DQUOT) {
            return NotDone::Refused(error);
        }
        let hindrance = match deed.operation {
            _ if deed.trashed => Hindrance::TrashFull,
            Operation::Remove | Operation::RemoveFolder => Hindrance::RemovalRefused,
            _ => return NotDone::Refused(error),
        };
        NotDone::Interrupted(Interrupt::Hindered(self.custody.hinder(hindrance, &error)))
    }

    /// Does two things by one system call: both are done, or none.
    pub(super) fn perform_both<T>(
        &self,
        also: &Deed<'_>,
        deed: &Deed<'_>,
        act: impl FnOnce(EffectId) -> Result<T, Errno>,
    ) -> Result<T, NotDone> {
        let (recorded, cost) = self.intend(also)?;
        let done = self.performed(deed, act);
        let result = done.as_ref().map_or_else(|(_, result)| result.clone(), |_| EffectResult::Done);
        if result == EffectResult::Done {
            self.custody.meter.gone(self.custody.metered_now());
        }
        self.conclude(recorded, cost, result);
        done.map_err(|(not_done, _)| not_done)
    }

    /// Begins something that goes on until the call ends: the writes to one open
    /// file. Whoever does something of it says so.
    pub(super) fn begin_deed(&self, deed: &Deed<'_>) -> Result<Arc<Begun>, NotDone> {
        let (recorded, _) = self.intend(deed)?;
        let mut deeds = self.deeds();
        let index = deeds.done.len();
        let begun = Arc::new(Begun::default());
        deeds.going_on.push((index, Arc::clone(&begun)));
        deeds.done.push(recorded);
        Ok(begun)
    }

    /// What was done and not handed over yet: all that goes on has ended.
    pub(super) fn end_deeds(&self) -> Vec<Recorded> {
        let mut deeds = std::mem::take(&mut *self.deeds());
        for (index, begun) in deeds.going_on {
            let recorded = &mut deeds.done[index];
            recorded.effect.result = match (begun.is_done(), begun.is_perhaps()) {
                (false, false) => {
                    self.custody.meter.give_back(recorded.effect.cost());
                    EffectResult::Failed("nothing of it was written".to_owned())
                }
                (is_done, _) => {
                    self.has_changed(recorded.effect.operation);
                    if is_done { EffectResult::Done } else { EffectResult::Unknown }
                }
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
        if let Some(before) = &deed.before {
            self.must_not_be_kept(before, deed.operation.name())?;
        }
        let effect = self.effect(task, deed);
        let cost = effect.cost();
        if cost != Spent::default()
            && let Err(over) = custody.meter.take(cost, custody.metered_now())
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
                    let full = crate::disk::is_full(&error);
                    let hindrance = if full { Hindrance::JournalFull } else { Hindrance::JournalFailed };
                    return Err(NotDone::Interrupted(Interrupt::Hindered(custody.hinder(hindrance, &error))));
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

/// Whether the disk shows not only that such a change was made, but who made it.
fn is_shown_as_ours(effect: &Effect) -> bool {
    effect.trashed || effect.operation == Operation::Rename
}
