//! The one way in which a guest changes a file: right, hold, limit, room, budget,
//! intent, permit, system call, result.
//!
//! ```text
//!  asked ─▶ may it? ─▶ held? ─▶ room? ─▶ within budget? ─▶ intent ─▶ permit ─▶ held by now? ─▶ done ─▶ result
//! ```
//! What a call did is kept until its end and handed over with its answer; a call
//! that does very much hands over in chunks. What cancels out is folded meanwhile
//! ([`fold`](crate::domain::fold)).

use std::sync::Arc;
use std::time::Duration;

use rustix::fs::Stat;
use rustix::io::Errno;

use crate::domain::budget::Spent;
use crate::domain::effect::{Effect, EffectId, EffectResult, Operation, recorded_path};
use crate::domain::fold::RowId;
use crate::domain::task::TaskId;
use crate::domain::time::Timestamp;
use crate::faults;

use super::call::{Call, Hindrance, Interrupt};
use super::custody::Mode;
use super::deadline::BootTime;
use super::done::{CHUNK, Deeds, Recorded, Row, Writes};
use super::mounts::Mount;
use super::place::Place;
use super::reconcile::{Became, Shown, allocated_in, became, keeps_numbers, look_at, may_be_repeated, tells};
use super::view::modified;

/// So often it is looked whether the database takes what was done.
const TAKEN_AFTER: Duration = Duration::from_millis(10);

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
    /// Bytes by which a file is made longer.
    pub(super) written: u64,
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
        // The meter counts by the minute: when the permit was given is near enough.
        let at = permit.at;
        let done = self.must_still_be_free(deed).and_then(|()| {
            faults::before_change();
            act(recorded.effect.id)
        });
        drop(permit);
        let result = match &done {
            Ok(_) => EffectResult::Done,
            Err(error) => self.result_of(&recorded.effect, deed, *error),
        };
        match (&result, deed.operation) {
            (EffectResult::Done, Operation::Remove) => self.custody.meter.gone(self.custody.metered(at)),
            (EffectResult::Done, Operation::Create | Operation::Link) => {
                self.custody.meter.made(self.custody.metered(at));
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
                keeps_numbers: keeps_numbers(&deed.place.mount().root),
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

    /// Why the system did not do it. What is the trouble of the mount is no fault of
    /// the guest's, which cannot make room in another way.
    fn not_done(&self, deed: &Deed<'_>, error: Errno) -> NotDone {
        let mount: &Mount = deed.place.mount();
        let hindrance = match (error, deed.operation) {
            (Errno::NOSPC | Errno::DQUOT, _) if deed.trashed => Hindrance::TrashFull,
            (Errno::NOSPC | Errno::DQUOT, Operation::Remove | Operation::RemoveFolder) => Hindrance::RemovalRefused,
            // What is moved needs room where it goes.
            _ => return self.refused_by(deed.to.map_or(mount, |to| to.mount()), error),
        };
        NotDone::Interrupted(Interrupt::Hindered(self.custody.hinder(hindrance, Some(mount), &error)))
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
    /// file. Whoever writes adds to what is answered.
    pub(super) fn begin_deed(&self, deed: &Deed<'_>) -> Result<Arc<Writes>, NotDone> {
        let (recorded, _) = self.intend(deed)?;
        let mut deeds = self.deeds();
        let (row, writes) = (deeds.add(recorded), Arc::<Writes>::default());
        deeds.going_on.push((row, Arc::clone(&writes)));
        Ok(writes)
    }

    /// Takes what is about to be written off the limit of the call and the
    /// budget, or says why it may not be.
    pub(super) fn charge_write(&self, bytes: u64) -> Result<Spent, NotDone> {
        self.must_have_room("write")?;
        let cost = Spent { written: bytes, ..Spent::default() };
        self.charge(cost, self.custody.metered_now(), "write")?;
        Ok(cost)
    }

    /// What was done and not handed over yet: all that goes on has ended.
    pub(super) fn end_deeds(&self) -> Vec<Recorded> {
        let mut deeds = self.deeds();
        self.end_writes(&mut deeds, |_| true);
        let deeds = std::mem::take(&mut *deeds);
        let mut untold = Vec::with_capacity(deeds.rows.len());
        untold.extend(deeds.rows.into_values().filter(|row| !row.is_told).map(|row| row.recorded));
        untold
    }

    /// Ends writes to files.
    fn end_writes(&self, deeds: &mut Deeds, has_ended: impl Fn(&Arc<Writes>) -> bool) {
        let (ended, going_on) = std::mem::take(&mut deeds.going_on).into_iter().partition(|(_, one)| has_ended(one));
        deeds.going_on = going_on;
        for (row, writes) in ended {
            let Some(Row { recorded, .. }) = deeds.rows.get_mut(&row).map(Box::as_mut) else { continue };
            recorded.effect.result = match (writes.written(), writes.is_perhaps()) {
                (None, false) => {
                    self.custody.meter.give_back(recorded.effect.cost());
                    EffectResult::Failed("nothing of it was written".to_owned())
                }
                (written, _) => {
                    self.has_changed(recorded.effect.operation);
                    recorded.effect.written = written.unwrap_or(0);
                    if written.is_some() { EffectResult::Done } else { EffectResult::Unknown }
                }
            };
            self.has_ended(deeds, row);
        }
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
        self.count_change().map_err(NotDone::Interrupted)?;
        let effect = self.effect(task, deed);
        let cost = effect.cost();
        if effect.makes() {
            self.must_have_room(deed.operation.name())?;
        }
        if !matches!(deed.operation, Operation::Remove | Operation::RemoveFolder) {
            self.must_be_taken(deed.operation.name())?;
        }
        let now = BootTime::now();
        self.charge(cost, custody.metered(now), deed.operation.name())?;
        let noted = match &custody.mode {
            Mode::Simulated(_) => None,
            Mode::Real(journal, _) => match journal.intend(&effect, now) {
                Ok(noted) => Some(noted),
                Err(error) => {
                    custody.meter.give_back(cost);
                    let full = crate::disk::is_full(&error);
                    let hindrance = if full { Hindrance::JournalFull } else { Hindrance::JournalFailed };
                    return Err(NotDone::Interrupted(Interrupt::Hindered(custody.hinder(hindrance, None, &error))));
                }
            },
        };
        Ok((Recorded { effect, noted: noted.into_iter().collect() }, cost))
    }

    /// Refuses to make anything while the state folder has no room.
    fn must_have_room(&self, what: &str) -> Result<(), NotDone> {
        let Mode::Real(_, room) = &self.custody.mode else { return Ok(()) };
        if room.is_there() {
            return Ok(());
        }
        self.say_refused(what, &room.to_string());
        Err(NotDone::Refused(Errno::NOSPC))
    }

    /// Holds up the call while the journal is long, so that it has an end: the
    /// database has to take what was done so far.
    fn must_be_taken(&self, what: &str) -> Result<(), NotDone> {
        let Mode::Real(journal, _) = &self.custody.mode else { return Ok(()) };
        if !journal.is_long() {
            return Ok(());
        }
        tracing::warn!(job = %self.custody.job.name, "{what} waits until the database takes what was done so far");
        while journal.is_long() {
            self.check().map_err(NotDone::Interrupted)?;
            let mut deeds = self.deeds();
            self.custody.hand_over(|| deeds.chunk());
            drop(deeds);
            std::thread::sleep(TAKEN_AFTER);
        }
        Ok(())
    }

    fn charge(&self, cost: Spent, at: Timestamp, what: &str) -> Result<(), NotDone> {
        self.count_written(cost.written).map_err(NotDone::Interrupted)?;
        if cost != Spent::default()
            && let Err(over) = self.custody.meter.take(cost, at)
        {
            self.say_refused(what, &over.to_string());
            return Err(NotDone::Interrupted(Interrupt::OverBudget));
        }
        Ok(())
    }

    fn effect(&self, task: TaskId, deed: &Deed<'_>) -> Effect {
        let custody = &self.custody;
        let id = match &custody.mode {
            Mode::Real(journal, _) => journal.next(),
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
            path: if deed.trashed { deed.place.path() } else { recorded_path(deed.place.path()) },
            to: deed.to.map(|to| recorded_path(to.path())),
            to_mount: to_mount.map(|mount| mount.name.clone()),
            size: before.map_or(0, |stat| u64::try_from(stat.st_size).unwrap_or(0)),
            allocated: before.map_or(0, |stat| allocated_in(&deed.place.mount().root, stat)),
            modified: before.map_or(Timestamp(0), modified),
            #[allow(clippy::unnecessary_cast, reason = "an inode has another width elsewhere")]
            inode: before.map_or(0, |stat| stat.st_ino as u64),
            at: custody.clock.now(),
            result: EffectResult::Unknown,
            trashed: deed.trashed,
            times: 1,
            written: deed.written,
        }
    }

    fn conclude(&self, mut recorded: Recorded, cost: Spent, result: EffectResult) {
        match result {
            EffectResult::Failed(_) => self.custody.meter.give_back(cost),
            EffectResult::Done | EffectResult::Unknown => self.has_changed(recorded.effect.operation),
        }
        recorded.effect.result = result;
        let mut deeds = self.deeds();
        if !deeds.going_on.is_empty() {
            // Nobody has the file open any more.
            self.end_writes(&mut deeds, |writes| Arc::strong_count(writes) == 1);
        }
        let row = deeds.add(recorded);
        self.has_ended(&mut deeds, row);
        if deeds.ended >= CHUNK {
            self.custody.hand_over(|| deeds.chunk());
        }
    }

    /// An effect has ended: it is written down, and folded where it may be.
    fn has_ended(&self, deeds: &mut Deeds, row: RowId) {
        let Mode::Real(journal, _) = &self.custody.mode else { return };
        deeds.ended += 1;
        let Some(Row { recorded, .. }) = deeds.rows.get(&row).map(Box::as_ref) else { return };
        let folds = deeds.folds.ended(row, &recorded.effect);
        if folds.iter().all(|fold| fold.row != row) {
            journal.conclude(&recorded.effect);
        }
        for fold in folds {
            if let Some((id, sum)) = deeds.fold(fold) {
                journal.fold(id, sum);
            } else if let Some(Row { recorded, .. }) = deeds.rows.get(&fold.row).map(Box::as_ref) {
                // It stays as it is.
                journal.conclude(&recorded.effect);
            }
        }
    }
}

/// Whether the disk shows not only that such a change was made, but who made it.
fn is_shown_as_ours(effect: &Effect) -> bool {
    effect.trashed || effect.operation == Operation::Rename
}
