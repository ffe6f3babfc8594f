//! The one way in which a guest changes a file: right, hold, limit, room, budget,
//! intent, permit, system call, result.
//!
//! ```text
//!  asked ─▶ may it? ─▶ held? ─▶ room? ─▶ within budget? ─▶ intent ─▶ permit ─▶ done ─▶ result
//! ```
//! What a call did is kept until its end and handed over with its answer; a call
//! that does very much hands over in chunks. What cancels out is folded meanwhile
//! ([`fold`](crate::domain::fold)).

use std::sync::Arc;
use std::time::Duration;

use rustix::fs::Stat;
use rustix::io::Errno;

use crate::domain::budget::Spent;
use crate::domain::effect::{Effect, EffectId, EffectResult, Operation};
use crate::domain::fold::RowId;
use crate::domain::task::TaskId;
use crate::domain::time::Timestamp;

use super::call::{Call, Interrupt};
use super::custody::Mode;
use super::done::{CHUNK, Deeds, Recorded, Row, Writes};
use super::place::Place;

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
    /// Bytes by which a file is made longer.
    pub(super) written: u64,
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
        self.charge(cost, self.custody.clock.now(), "write")?;
        Ok(cost)
    }

    /// What was done and not handed over yet: all that goes on has ended.
    pub(super) fn end_deeds(&self) -> Vec<Recorded> {
        let mut deeds = self.deeds();
        self.end_writes(&mut deeds, |_| true);
        let deeds = std::mem::take(&mut *deeds);
        let untold = deeds.rows.into_values().filter(|row| !row.is_told);
        untold.map(|row| row.recorded).collect()
    }

    /// Ends writes to files.
    fn end_writes(&self, deeds: &mut Deeds, has_ended: impl Fn(&Arc<Writes>) -> bool) {
        let (ended, going_on) = std::mem::take(&mut deeds.going_on).into_iter().partition(|(_, one)| has_ended(one));
        deeds.going_on = going_on;
        for (row, writes) in ended {
            let Some(Row { recorded, .. }) = deeds.rows.get_mut(&row) else { continue };
            recorded.effect.result = if let Some(written) = writes.written() {
                recorded.effect.written = written;
                EffectResult::Done
            } else {
                self.custody.meter.give_back(recorded.effect.cost());
                EffectResult::Failed("nothing of it was written".to_owned())
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
        self.count_change().map_err(NotDone::Interrupted)?;
        let effect = self.effect(task, deed);
        let cost = effect.cost();
        if effect.makes() {
            self.must_have_room(deed.operation.name())?;
        }
        if !matches!(deed.operation, Operation::Remove | Operation::RemoveFolder) {
            self.must_be_taken(deed.operation.name())?;
        }
        self.charge(cost, effect.at, deed.operation.name())?;
        let noted = match &custody.mode {
            Mode::Simulated(_) => None,
            Mode::Real(journal, _) => match journal.intend(&effect) {
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
            times: 1,
            written: deed.written,
        }
    }

    fn conclude(&self, mut recorded: Recorded, cost: Spent, result: EffectResult) {
        if matches!(result, EffectResult::Failed(_)) {
            self.custody.meter.give_back(cost);
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
        let Some(Row { recorded, .. }) = deeds.rows.get(&row) else { return };
        let folds = deeds.folds.ended(row, &recorded.effect);
        if folds.iter().all(|fold| fold.row != row) {
            journal.conclude(&recorded.effect);
        }
        for fold in folds {
            if let Some((id, sum)) = deeds.fold(fold) {
                journal.fold(id, sum);
            } else if let Some(Row { recorded, .. }) = deeds.rows.get(&fold.row) {
                // It stays as it is.
                journal.conclude(&recorded.effect);
            }
        }
    }
}

/// When a file was last modified, to the millisecond; before 1970 is 1970.
#[allow(clippy::unnecessary_cast, clippy::cast_sign_loss, reason = "both are of another width elsewhere")]
fn modified(stat: &Stat) -> Timestamp {
    let seconds = u64::try_from(stat.st_mtime as i64).unwrap_or(0);
    Timestamp(seconds.saturating_mul(1000).saturating_add(stat.st_mtime_nsec as u64 / 1_000_000))
}
