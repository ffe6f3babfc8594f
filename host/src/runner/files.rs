//! What a host does for the files of a job: before a sweep it looks whether the
//! mounts are those that the job works in, and how much may be taken away; it
//! keeps up with holds, and puts what plugins did on record.

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use crate::domain::budget::{Budget, Changed, OverBudget};
use crate::domain::effect::{Effect, EffectResult};
use crate::domain::hold::Holds;
use crate::domain::job::{JobId, JobSpec, Mount};
use crate::domain::ledger::Others;
use crate::domain::time::Timestamp;
use crate::sandbox::{self, MountError, Noted, Recorded};
use crate::store::{At, SharedStore, StoreError};
use crate::supervise;

use super::answers::answered;
use super::job::{Job, drain};

/// Chunks of effects that wait to be put on record; one more waits with the call
/// that did them.
pub(super) const CHUNKS: usize = 16;
/// Effects that go into one transaction.
const AT_ONCE: usize = 1000;
const AGAIN: Duration = Duration::from_millis(500);
/// The files of a mount are counted anew so often: others change them, too.
const COUNT_EVERY: Duration = Duration::from_hours(6);
/// A count that failed is tried again after this time: a job whose budget is a
/// share waits for it.
const COUNT_AGAIN: Duration = Duration::from_secs(30);
const HOUR: Duration = Duration::from_hours(1);

/// Why a sweep may not begin.
#[derive(Debug)]
pub(super) enum FilesNotReady {
    /// A mount is not the directory that the job works in: a person must look.
    Another(String),
    /// A mount cannot be used now.
    Mount(MountError),
    /// The files of the mounts are being counted.
    Counting,
    /// The store failed.
    Store(StoreError),
}

impl From<StoreError> for FilesNotReady {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl Job {
    /// Makes ready for a sweep. `exempt` lets it go over the budget.
    pub(super) async fn make_ready(&self, exempt: bool) -> Result<(), FilesNotReady> {
        // A clock that was set forward a moment ago ends no hold.
        self.clocks.ahead();
        let (mut read_only, mut may_change) = (None, false);
        for mount in &self.spec.mounts {
            let found = self.must_be_known(mount).await?;
            let changes = !mount.rights.only_look();
            may_change |= changes && !found.is_read_only;
            if changes && found.is_read_only {
                read_only.get_or_insert(mount);
            }
        }
        // Where it can still work in another mount, tasks of this one wait by themselves.
        if let Some(mount) = read_only.filter(|_| !may_change) {
            let why = "its file system is read-only: nothing there can be removed or changed; the kernel's log may say \
                       why; the job goes on by itself when it is mounted for writing again";
            return Err(FilesNotReady::Mount(MountError { path: mount.host.clone(), why: why.to_owned() }));
        }
        let (budget, meter) = (&self.spec.budget, &self.custody.meter);
        // Over a clock that was set forward meanwhile.
        let hour = self.clocks.reach(HOUR);
        let others = others_in_hour(&self.store, self.id, budget, hour, meter.counted_at(), Some(self.journal)).await?;
        meter.begin_sweep(others, exempt);
        if meter.is_ready() { Ok(()) } else { Err(FilesNotReady::Counting) }
    }

    /// Takes up the holds that the store has: a change that begins from now on
    /// goes by them.
    pub(super) async fn take_up_holds(&self) -> Result<(), StoreError> {
        // In turns, so that what was read earlier does not come later.
        let _turn = self.taking_up.lock().await;
        let holds = self.store.holds(self.id, At::Fixed(self.clocks.careful_now().await?)).await?;
        if !self.custody.holds.load().are(&holds) {
            self.custody.holds.store(Arc::new(Holds::new(holds)));
        }
        Ok(())
    }

    /// The same, and waits until no change is under way that began before: then
    /// all that is held stays as it is. Cancel safe, but for the promise.
    pub(super) async fn enforce_holds(&self) -> Result<(), StoreError> {
        self.take_up_holds().await?;
        drain(self.gate()).await;
        Ok(())
    }

    /// Why the sweep had to end before it went over the budget, if it had.
    pub(super) fn over_budget(&self) -> Option<OverBudget> {
        self.custody.meter.over().filter(|over| *over != OverBudget::NotCounted)
    }

    /// Counts the files of the mounts now and then, until `stop` becomes true.
    pub(super) async fn keep_count(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        loop {
            let (began, name) = (self.clock.now(), &self.spec.name);
            let counted = tokio::select! {
                () = crate::stop::told(&mut stop) => return,
                counted = count_in_turn(&self.spec) => counted,
            };
            let wait = match counted {
                Ok(files) => {
                    self.custody.meter.counted(files, began);
                    tracing::info!(job = %name, files, "counted the files of the mounts");
                    self.wake();
                    COUNT_EVERY
                }
                Err(error) => {
                    tracing::warn!(job = %name, "the files of the mounts could not be counted, trying again: {error}");
                    COUNT_AGAIN
                }
            };
            tokio::select! {
                () = crate::stop::told(&mut stop) => return,
                () = sleep(wait) => {}
            }
        }
    }
}

/// The mounts that are being counted, each by one thread: a mount that hangs
/// keeps that one, however many jobs want to know and however often.
static COUNTED: LazyLock<Mutex<HashMap<PathBuf, Arc<tokio::sync::Mutex<()>>>>> = LazyLock::new(Mutex::default);

/// The same as [`count_files`], by threads of their own; waits while somebody else
/// counts a mount. Dropped, a thread ends after the entries that it is at.
async fn count_in_turn(job: &JobSpec) -> io::Result<u64> {
    let mut files = 0;
    for mount in counted_mounts(job) {
        let turn =
            Arc::clone(COUNTED.lock().unwrap_or_else(PoisonError::into_inner).entry(mount.host.clone()).or_default());
        let turn = turn.lock_owned().await;
        let (answer, answered) = oneshot::channel();
        let counted = mount.clone();
        // Attended: its panic drops the answer.
        supervise::attended_thread("sweepd-count", move || {
            let _turn = turn;
            let files = count_in(&counted, || !answer.is_closed());
            let _ = answer.send(files);
        })?;
        files += answered.await.map_err(|_| io::Error::other("the count panicked; this is a bug in sweepd"))??;
    }
    Ok(files)
}

/// How many files there are in the mounts in which the job may change
/// something. Blocks the thread, and ends early with an error where `go_on`
/// says no.
pub fn count_files(job: &JobSpec, go_on: impl Fn() -> bool) -> io::Result<u64> {
    counted_mounts(job).map(|mount| count_in(mount, &go_on)).sum()
}

fn counted_mounts(job: &JobSpec) -> impl Iterator<Item = &Mount> {
    job.mounts.iter().filter(|mount| !mount.rights.only_look())
}

fn count_in(mount: &Mount, go_on: impl Fn() -> bool) -> io::Result<u64> {
    sandbox::count_files(mount, go_on)
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", mount.host.display())))
}

/// What a job did in the last hour, the effects of the journal `except` left
/// out, as a [`Ledger`](crate::domain::ledger::Ledger) wants to know it whose
/// files were counted at `counted`. Times of the last hour lie up to `hour` back:
/// further than an hour where a clock was set forward.
///
/// # Errors
///
/// The store cannot be read. Cancel safe.
pub async fn others_in_hour(
    store: &SharedStore,
    job: JobId,
    budget: &Budget,
    hour: Duration,
    counted: Timestamp,
    except: Option<u64>,
) -> Result<Others, StoreError> {
    if budget.is_none() {
        return Ok(Others::default());
    }
    let now = store.now(At::Server).await?;
    let since = now.before(hour);
    let spent = store.spent(job, since, except).await?;
    let changed = if budget.hour.share.is_some() && counted > since {
        store.changed_files(job, since, counted, except).await?
    } else {
        Changed::default()
    };
    Ok(Others { spent, changed })
}

/// What the thread answered; its panic goes on here.
pub(super) fn joined<T>(joined: Result<T, tokio::task::JoinError>) -> T {
    joined.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
}

/// Puts on record what calls hand over before they end, until `stop` becomes
/// true and nothing is left.
pub(super) async fn record_chunks(
    store: SharedStore,
    mut chunks: mpsc::Receiver<Vec<Recorded>>,
    mut stop: watch::Receiver<bool>,
) {
    loop {
        let chunk = tokio::select! {
            biased;
            chunk = chunks.recv() => chunk,
            () = crate::stop::told(&mut stop) => chunks.try_recv().ok(),
        };
        let Some(chunk) = chunk else { return };
        let (effects, noted): (Vec<_>, Vec<_>) = chunk.into_iter().map(Recorded::part).unzip();
        record(&store, effects).await;
        noted.into_iter().flatten().for_each(Noted::settle);
    }
}

/// Tries until it is done: the journal keeps them meanwhile, also through a kill.
async fn record(store: &SharedStore, effects: Vec<Effect>) {
    while let Err(error) = store.record_effects(effects.clone(), At::Server).await {
        tracing::warn!(effects = effects.len(), "what a plugin did could not be put on record, trying again: {error}");
        sleep(AGAIN).await;
    }
}

/// The mounts of these effects that do not answer: what became there of those in
/// doubt stays unknown.
async fn silent_mounts(effects: &[Effect]) -> HashSet<Arc<str>> {
    let doubtful = effects.iter().filter(|effect| effect.result == EffectResult::Unknown);
    let mounts: HashSet<_> =
        doubtful.flat_map(|effect| [Some(&effect.mount), effect.to_mount.as_ref()]).flatten().collect();
    let mut silent = HashSet::new();
    for mount in mounts {
        let path = Path::new(&**mount).to_owned();
        if let Err(error) = answered(&path.clone(), move || path.is_dir()).await {
            tracing::warn!("what an earlier run did there last is not known: {error}");
            silent.insert(Arc::clone(mount));
        }
    }
    silent
}

fn is_at(mounts: &HashSet<Arc<str>>, effect: &Effect) -> bool {
    mounts.contains(&effect.mount) || effect.to_mount.as_ref().is_some_and(|to| mounts.contains(to))
}

/// Puts on record what dead hosts left in the journal.
pub(super) async fn reconcile(store: &SharedStore, journal: &Path) -> Result<(), StoreError> {
    let folder = journal.to_owned();
    let left = joined(spawn_blocking(move || sandbox::leftovers(&folder)).await);
    let mut left = left.map_err(|error| StoreError::Unavailable(format!("{}: {error}", journal.display())))?;
    let effects = std::mem::take(&mut left.effects);
    if !effects.is_empty() {
        tracing::warn!(effects = effects.len(), "an earlier run left effects that may not be on record yet");
    }
    let silent = silent_mounts(&effects).await;
    for chunk in effects.chunks(AT_ONCE) {
        let (unknown, chunk): (Vec<_>, Vec<_>) = chunk.iter().cloned().partition(|effect| is_at(&silent, effect));
        let known = spawn_blocking(move || chunk.into_iter().map(sandbox::reconcile).collect::<Vec<_>>()).await;
        let known = joined(known).into_iter().chain(unknown).collect();
        store.record_effects(known, At::Server).await?;
    }
    joined(spawn_blocking(move || left.settle()).await);
    Ok(())
}
