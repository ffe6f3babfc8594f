//! How files leave the trash: back into their places, or for good.
//!
//! First the file, then the record. Between the two the host may be lost: then
//! the record says that a file is kept which is not there. Whoever meets that
//! looks at the old place, and puts on record what it sees. The invariant: no
//! file leaves the trash of a directory that is not a known mount of the job, and
//! a trash that is not there holds nothing against anybody.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::spawn_blocking;

use crate::domain::effect::{EffectId, EffectPlace, EffectView, Fate};
use crate::domain::job::{JobId, JobSpec};
use crate::domain::task::TaskId;
use crate::domain::time::Timestamp;
use crate::domain::trash::PurgeRate;
use crate::sandbox::{TrashError, TrashFolder};
use crate::store::{At, EffectFilter, SharedStore, StoreError};
use crate::supervise;

use super::files::joined;
use super::mounts::is_known;

/// How many effects are read at a time while some are looked for.
const PAGE: u32 = 1000;
/// Most files that leave before it is put on record.
const AT_ONCE: u64 = 500;
/// How far purging may be ahead of its rate before it waits.
const AHEAD: Duration = Duration::from_millis(20);
/// Files whose space takes longer than this to give back, at the rate, wait for the
/// others, and get this much time together; then they go on another time.
const SLICE: Duration = Duration::from_secs(1);
/// The rate for a job that has no trash any more, and files in it.
const USUAL: PurgeRate = PurgeRate { files: 1000, bytes: 1 << 30 };

/// What is done to files in the trash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrashAction {
    /// They go back into their places.
    Restore,
    /// They are removed for good.
    Purge,
}

/// Which files in the trash of a job: those that are all of what is given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrashPick {
    /// Whose path on this machine begins with this text.
    pub path: Option<String>,
    /// Which were removed at this time or later.
    pub since: Option<Timestamp>,
    /// Which were removed before this time.
    pub before: Option<Timestamp>,
    /// Which this task removed.
    pub task: Option<TaskId>,
}

/// What became of one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum TrashResult {
    /// It is back in its place.
    Restored,
    /// It is gone for good.
    Purged,
    /// It is not in the trash of this job (any more).
    NotThere,
    /// It stays in the trash.
    Refused,
    /// It stays, perhaps in part, for no time was left: ask again.
    Later,
}

/// What became of one file, as people see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TakenOut {
    /// The effect that removed it.
    #[serde(serialize_with = "as_text")]
    pub id: EffectId,
    /// Where it stood; absent where that is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// What became of it.
    pub result: TrashResult,
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

fn as_text<S: serde::Serializer>(id: &EffectId, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(id)
}

impl TakenOut {
    /// One that no time was left for.
    #[must_use]
    pub fn later(view: &EffectView) -> Self {
        let path = Some(view.effect.full_path());
        Self { id: view.effect.id, path, result: TrashResult::Later, detail: None }
    }
}

/// The trash of one job.
#[derive(Clone)]
pub struct TrashOf {
    store: SharedStore,
    job: JobId,
    spec: Arc<JobSpec>,
}

impl TrashOf {
    /// Of this job.
    #[must_use]
    pub fn new(store: SharedStore, job: JobId, spec: Arc<JobSpec>) -> Self {
        Self { store, job, spec }
    }

    /// A page of its files: for restoring, latest first, so that of two that
    /// stood in one place the later one goes back; for purging, oldest first.
    pub async fn page(
        &self,
        action: TrashAction,
        pick: &TrashPick,
        after: Option<EffectPlace>,
        limit: u32,
    ) -> Result<Vec<EffectView>, StoreError> {
        let TrashPick { path, since, before, task } = pick.clone();
        let filter = EffectFilter {
            job: Some(self.job),
            task,
            since,
            until: before,
            path_prefix: path,
            operation: None,
            fate: Some(Fate::Kept),
            oldest_first: action == TrashAction::Purge,
            after: after.map(|EffectPlace(at, id)| (at, id)),
            limit,
        };
        self.store.effects(filter).await
    }

    /// Those of these that are in it, and the others.
    pub async fn find(&self, ids: &[EffectId]) -> Result<(Vec<EffectView>, Vec<TakenOut>), StoreError> {
        let mut wanted: HashSet<EffectId> = ids.iter().copied().collect();
        let (mut found, mut after) = (Vec::new(), None);
        while !wanted.is_empty() {
            let page = self.page(TrashAction::Restore, &TrashPick::default(), after, PAGE).await?;
            after = page.last().map(EffectView::place);
            let is_last = page.len() < PAGE as usize;
            found.extend(page.into_iter().filter(|view| wanted.remove(&view.effect.id)));
            if is_last {
                break;
            }
        }
        let not_there = |id: &EffectId| TakenOut { id: *id, path: None, result: TrashResult::NotThere, detail: None };
        Ok((found, ids.iter().filter(|id| wanted.remove(id)).map(not_there).collect()))
    }

    /// What keeps purging to the job's rate; it ends early when `stop` becomes
    /// true.
    #[must_use]
    pub fn throttle(&self, stop: Option<watch::Receiver<bool>>) -> Throttle {
        let rate = self.spec.trash.map_or(USUAL, |trash| trash.rate);
        Throttle { rate, due: Instant::now(), stop, until: None, given_back: 0 }
    }

    /// As many as are taken out at a time, so that it is soon on record.
    #[must_use]
    pub fn at_once(&self) -> usize {
        let rate = self.spec.trash.map_or(USUAL, |trash| trash.rate);
        usize::try_from(rate.files.clamp(1, AT_ONCE)).unwrap_or(1)
    }

    /// Takes files out, one answer each; fewer where purging ended early. Of those
    /// to be purged, what takes long comes last, and is cut short after a second: it
    /// is to go on [`later`](TrashResult::Later). Dropped, it goes on to its end.
    pub async fn take_out(
        &self,
        action: TrashAction,
        files: Vec<EffectView>,
        throttle: Throttle,
    ) -> Result<(Vec<TakenOut>, Throttle), StoreError> {
        let this = self.clone();
        let work = async move { this.take_out_whole(action, files, throttle).await };
        joined(supervise::attended("taking files out of the trash", work).await)
    }

    async fn take_out_whole(
        &self,
        action: TrashAction,
        files: Vec<EffectView>,
        mut throttle: Throttle,
    ) -> Result<(Vec<TakenOut>, Throttle), StoreError> {
        let mut mounts = HashMap::new();
        for view in &files {
            let name = &view.effect.mount;
            if !mounts.contains_key(name) {
                mounts.insert(Arc::clone(name), self.may_be_used(name).await?);
            }
        }
        let work = move || {
            let mut folders = Folders { mounts, opened: HashMap::new() };
            let (mut done, mut later) = (Vec::with_capacity(files.len()), Vec::new());
            let is_long = |view: &EffectView| action == TrashAction::Purge && throttle.takes(view) > SLICE;
            let (long, short): (Vec<_>, Vec<_>) = files.into_iter().partition(is_long);
            let mut slice = None;
            for (view, is_long) in
                short.into_iter().map(|view| (view, false)).chain(long.into_iter().map(|view| (view, true)))
            {
                if throttle.is_stopped() {
                    break;
                }
                if is_long {
                    throttle.until = Some(*slice.get_or_insert_with(|| Instant::now() + SLICE));
                    if throttle.is_over() {
                        later.push(TakenOut::later(&view));
                        continue;
                    }
                }
                match folders.take_out(action, &view, &mut throttle) {
                    Ok(Some(fate)) => done.push((view, Ok(fate))),
                    Ok(None) => later.push(TakenOut::later(&view)),
                    Err(why) => done.push((view, Err(why))),
                }
            }
            throttle.until = None;
            (done, later, throttle)
        };
        let (done, later, throttle) = joined(spawn_blocking(work).await);
        for fate in [Fate::Restored, Fate::Purged] {
            let of =
                |(view, became): &(EffectView, Result<Fate, String>)| (*became == Ok(fate)).then_some(view.effect.id);
            let ids: Vec<_> = done.iter().filter_map(of).collect();
            if !ids.is_empty() {
                self.store.settle(&ids, fate, At::Server).await?;
            }
        }
        let done = done.into_iter().map(|(view, became)| told(action, &view, became));
        Ok((done.chain(later).collect(), throttle))
    }

    /// Whether files may leave the trash of the mount at this directory; where
    /// not, why.
    pub(super) async fn may_be_used(&self, directory: &str) -> Result<Result<(), String>, StoreError> {
        let is_it = |host: &Path| host.to_string_lossy() == directory;
        let mount = self.spec.mounts.iter().find(|mount| is_it(&mount.host) && !mount.rights.only_look());
        match mount {
            Some(mount) => is_known(&*self.store, self.job, mount).await,
            None => Ok(Err(format!("{directory} is no mount of the job in which it may change anything"))),
        }
    }
}

fn told(action: TrashAction, view: &EffectView, became: Result<Fate, String>) -> TakenOut {
    let (result, detail) = match (action, became) {
        (_, Ok(Fate::Restored)) => (TrashResult::Restored, None),
        (TrashAction::Purge, Ok(Fate::Purged | Fate::Kept)) => (TrashResult::Purged, None),
        (TrashAction::Restore, Ok(Fate::Purged | Fate::Kept)) => {
            (TrashResult::NotThere, Some("it is neither in the trash nor in its place".to_owned()))
        }
        (_, Err(why)) => (TrashResult::Refused, Some(why)),
    };
    TakenOut { id: view.effect.id, path: Some(view.effect.full_path()), result, detail }
}

/// The trash folders of the mounts, opened once each.
struct Folders {
    /// Which may be used; where not, why.
    mounts: HashMap<Arc<str>, Result<(), String>>,
    opened: HashMap<Arc<str>, Result<TrashFolder, String>>,
}

impl Folders {
    /// What became of the file; `None` where its purging was cut short.
    fn take_out(
        &mut self,
        action: TrashAction,
        view: &EffectView,
        throttle: &mut Throttle,
    ) -> Result<Option<Fate>, String> {
        let effect = &view.effect;
        if let Some(Err(why)) = self.mounts.get(&effect.mount) {
            return Err(why.clone());
        }
        let open = || TrashFolder::open(Path::new(&*effect.mount)).map_err(|error| error.to_string());
        let folder = self.opened.entry(Arc::clone(&effect.mount)).or_insert_with(open);
        let folder = folder.as_ref().map_err(Clone::clone)?;
        let taken = match action {
            TrashAction::Restore => folder.restore(effect).map(|()| Some(Fate::Restored)),
            TrashAction::Purge => {
                let step = throttle.step();
                let gone = folder.purge(effect.id, step, |bytes| throttle.give_back(bytes));
                throttle.next_file();
                gone.map(|gone| gone.then_some(Fate::Purged))
            }
        };
        match taken {
            Ok(fate) => Ok(fate),
            Err(TrashError::Gone) if folder.is_back(effect) => Ok(Some(Fate::Restored)),
            Err(TrashError::Gone) => Ok(Some(Fate::Purged)),
            Err(error) => Err(error.to_string()),
        }
    }
}

/// How fast files are purged.
pub struct Throttle {
    rate: PurgeRate,
    /// When the rate has caught up with what is gone.
    due: Instant,
    stop: Option<watch::Receiver<bool>>,
    /// When the file that is cut down now has to make way for others.
    until: Option<Instant>,
    given_back: u64,
}

impl Throttle {
    /// How many bytes of the disk were given back under it.
    #[must_use]
    pub fn given_back(&self) -> u64 {
        self.given_back
    }

    /// Whether nothing more is to be purged.
    fn is_stopped(&self) -> bool {
        self.stop.as_ref().is_some_and(|stop| *stop.borrow())
    }

    /// Whether the file that is cut down now is to go on later.
    fn is_over(&self) -> bool {
        self.is_stopped() || self.until.is_some_and(|until| Instant::now() >= until)
    }

    /// Large files are cut down by so many bytes at a time: a second's worth, and no
    /// more than the file system gives back at once without a hitch.
    fn step(&self) -> u64 {
        self.rate.bytes.clamp(1 << 20, TrashFolder::STEP)
    }

    /// How long purging this takes, at least.
    fn takes(&self, view: &EffectView) -> Duration {
        part_of_a_second(view.effect.allocated, self.rate.bytes)
    }

    fn next_file(&mut self) {
        self.wait(part_of_a_second(1, self.rate.files));
    }

    /// Whether it is to go on. What went whole is gone already: others do not wait for
    /// more than a step of it.
    fn give_back(&mut self, bytes: u64) -> bool {
        self.given_back = self.given_back.saturating_add(bytes);
        self.wait(part_of_a_second(bytes.min(self.step()), self.rate.bytes));
        !self.is_over()
    }

    /// On a thread that may block.
    fn wait(&mut self, took: Duration) {
        let now = Instant::now();
        self.due = self.due.max(now) + took;
        if self.due.saturating_duration_since(now) < AHEAD {
            return;
        }
        let until = tokio::time::Instant::from_std(self.due);
        Handle::current().block_on(async {
            match &mut self.stop {
                None => tokio::time::sleep_until(until).await,
                Some(stop) => tokio::select! {
                    () = crate::stop::told(stop) => {}
                    () = tokio::time::sleep_until(until) => {}
                },
            }
        });
    }
}

fn part_of_a_second(amount: u64, rate: u64) -> Duration {
    let nanoseconds = u128::from(amount) * 1_000_000_000 / u128::from(rate.max(1));
    Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX))
}
