//! Purges the trash of a job at a running host: what was kept for long enough,
//! and, where the file system is short of space, the oldest before their time.
//!
//! It goes on while the job is paused: a pause stops the plugin, not the
//! housekeeping. Each node that runs the job does it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;

use crate::domain::effect::{EffectPlace, EffectView};
use crate::domain::time::Timestamp;
use crate::domain::trash::Trash;
use crate::sandbox;
use crate::stop::told;
use crate::store::StoreError;

use super::answers::answered;
use super::job::Job;
use super::trash::{TakenOut, Throttle, TrashAction, TrashOf, TrashPick, TrashResult};

/// How often it is looked, at least, what may go.
const EVERY: Duration = Duration::from_mins(1);
/// How often, at least, where there is a bound to free space.
const SPACE_EVERY: Duration = Duration::from_secs(10);
/// And at most.
const REST: Duration = Duration::from_millis(100);
/// Where counting stops what a job without trash has in it.
const COUNTED: usize = 10_000;

/// Purges until `stop` becomes true.
pub(super) async fn keep_trash(job: Arc<Job>, trash: Trash, mut stop: watch::Receiver<bool>) {
    let mut purger = Purger {
        of: TrashOf::new(Arc::clone(&job.store), job.id, Arc::clone(&job.spec)),
        job,
        trash,
        stop: stop.clone(),
        said: None,
    };
    loop {
        let next = match purger.round().await {
            Ok(next) => next,
            Err(error) => {
                purger.say(format!("what is in the trash could not be purged: {error}"));
                EVERY
            }
        };
        tokio::select! {
            () = told(&mut stop) => return,
            () = sleep(next) => {}
        }
    }
}

/// A job that has no trash any more may still have files in it. They stay.
pub(super) async fn tell_of_left_over(job: Arc<Job>) {
    if let Err(error) = look_for_left_over(&job).await {
        tracing::warn!(job = %job.spec.name, "what is in its trash could not be read: {error}");
    }
}

async fn look_for_left_over(job: &Job) -> Result<(), StoreError> {
    let of = TrashOf::new(Arc::clone(&job.store), job.id, Arc::clone(&job.spec));
    let (mut files, mut after) = (0, None);
    while files < COUNTED {
        let page = of.page(TrashAction::Purge, &TrashPick::default(), after, 1000).await?;
        files += page.len();
        after = page.last().map(EffectView::place);
        if page.len() < 1000 {
            break;
        }
    }
    if files > 0 {
        let (name, more) = (&job.spec.name, if files >= COUNTED { " or more" } else { "" });
        tracing::warn!(
            job = %name,
            "{files}{more} files are in the trash of this job, which is configured without one: nobody purges them; \
             see sweepd trash list {name}, then sweepd trash restore or sweepd trash purge",
        );
    }
    Ok(())
}

/// What became of some files.
struct Purged {
    /// How many are gone.
    files: usize,
    /// Large ones are to go on: another round is to begin with what became due
    /// meanwhile.
    goes_on: bool,
    /// The mount is in the way of all.
    is_blocked: bool,
}

struct Purger {
    of: TrashOf,
    job: Arc<Job>,
    trash: Trash,
    stop: watch::Receiver<bool>,
    /// What was last said to be in the way: it is said once.
    said: Option<String>,
}

impl Purger {
    /// Purges what may go now, mount by mount, and answers when to look again.
    async fn round(&mut self) -> Result<Duration, StoreError> {
        let most = if self.trash.min_free.is_some() { SPACE_EVERY } else { EVERY };
        let (mut gone, mut next) = (0, most.min(self.trash.keep));
        let job = Arc::clone(&self.job);
        for mount in job.spec.mounts.iter().filter(|mount| !mount.rights.only_look()) {
            let (purged, due) = self.purge_old(&mount.host).await?;
            (gone, next) = (gone + purged, next.min(due));
            if let Some(min_free) = self.trash.min_free {
                let (purged, due) = self.make_space(&mount.host, min_free).await?;
                (gone, next) = (gone + purged, next.min(due));
            }
        }
        if gone > 0 {
            tracing::info!(job = %job.spec.name, files = gone, "purged the trash");
        }
        Ok(next.max(REST))
    }

    /// Purges what was kept in this mount for long enough. Also answers when the
    /// next is due.
    async fn purge_old(&mut self, mount: &Path) -> Result<(usize, Duration), StoreError> {
        let limit = self.of.at_once();
        let pick = TrashPick { path: Some(within(mount)), ..TrashPick::default() };
        let mut throttle = self.of.throttle(Some(self.stop.clone()));
        let (mut purged, mut next) = (0, EVERY);
        let mut after: Option<EffectPlace> = None;
        while !*self.stop.borrow() {
            // A clock that is ahead makes everything old.
            let now = self.job.clocks.careful_now().await?;
            let page = self.page(&pick, after, limit).await?;
            let is_last = page.len() < limit;
            after = page.last().map(EffectView::place);
            // In the order of removal, which is nearly that in which they are due.
            let (due, early): (Vec<_>, Vec<_>) = page.into_iter().partition(|view| self.due_at(view) <= now);
            next = early.iter().map(|view| self.due_at(view).since(now)).fold(next, Duration::min);
            if due.is_empty() {
                break;
            }
            let (Purged { files, goes_on, is_blocked }, used) = self.purge(mount, due, throttle).await?;
            throttle = used;
            purged += files;
            if goes_on {
                next = REST;
            }
            if is_last || is_blocked {
                break;
            }
        }
        Ok((purged, next))
    }

    fn due_at(&self, view: &EffectView) -> Timestamp {
        view.fate_at.unwrap_or(view.effect.at).after(self.trash.keep)
    }

    /// Purges the oldest in this mount until its file system has this much space
    /// again, as far as what they take of it tells: it may give the space back
    /// later. Also answers when to look again.
    async fn make_space(&mut self, mount: &Path, min_free: u64) -> Result<(usize, Duration), StoreError> {
        let mut next = SPACE_EVERY;
        let Some(mut lacks) = self.lacking(mount, min_free).await else { return Ok((0, next)) };
        let before = lacks;
        let limit = self.of.at_once();
        let pick = TrashPick { path: Some(within(mount)), ..TrashPick::default() };
        let mut throttle = self.of.throttle(Some(self.stop.clone()));
        let (mut purged, mut after) = (0, None);
        while lacks > 0 && !*self.stop.borrow() {
            let page = self.page(&pick, after, limit).await?;
            let is_last = page.len() < limit;
            after = page.last().map(EffectView::place);
            let mut chosen = Vec::new();
            // What takes no space gives none back.
            for view in page.into_iter().filter(|view| view.effect.allocated > 0) {
                if lacks == 0 {
                    break;
                }
                lacks = lacks.saturating_sub(view.effect.allocated);
                chosen.push(view);
            }
            let (Purged { files, goes_on, is_blocked }, used) = self.purge(mount, chosen, throttle).await?;
            throttle = used;
            purged += files;
            if goes_on {
                next = REST;
            }
            if is_last || is_blocked {
                break;
            }
        }
        if purged > 0 {
            tracing::warn!(
                job = %self.job.spec.name, mount = %mount.display(), files = purged, lacked = before,
                "purged from the trash before their time: the file system has less space than trash_min_free",
            );
        }
        Ok((purged, next))
    }

    /// How many bytes the file system lacks, if it lacks any.
    async fn lacking(&mut self, mount: &Path, min_free: u64) -> Option<u64> {
        let path = mount.to_owned();
        let told = answered(mount, move || sandbox::free_space(&path).map_err(|error| error.to_string())).await;
        match told.unwrap_or_else(|error| Err(error.to_string())) {
            Ok(free) => min_free.checked_sub(free).filter(|lacks| *lacks > 0),
            Err(error) => {
                self.say(format!("the free space of {} cannot be told: {error}", mount.display()));
                None
            }
        }
    }

    async fn page(
        &self,
        pick: &TrashPick,
        after: Option<EffectPlace>,
        limit: usize,
    ) -> Result<Vec<EffectView>, StoreError> {
        self.of.page(TrashAction::Purge, pick, after, u32::try_from(limit).unwrap_or(u32::MAX)).await
    }

    async fn purge(
        &mut self,
        mount: &Path,
        files: Vec<EffectView>,
        throttle: Throttle,
    ) -> Result<(Purged, Throttle), StoreError> {
        let (done, throttle) = self.of.take_out(TrashAction::Purge, files, throttle).await?;
        let count = |result| done.iter().filter(|one| one.result == result).count();
        let refused = done.iter().find(|one| one.result == TrashResult::Refused);
        if let Some(TakenOut { id, detail: Some(why), .. }) = refused {
            let more = match count(TrashResult::Refused) - 1 {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            self.say(format!("{id}{more} cannot be purged and stay in the trash: {why}"));
        }
        // What is in the way of one file is in the way of no other, unless it is the mount.
        let is_blocked = !done.is_empty()
            && count(TrashResult::Refused) == done.len()
            && self.of.may_be_used(&mount.to_string_lossy()).await?.is_err();
        let (files, goes_on) = (count(TrashResult::Purged), count(TrashResult::Later) > 0);
        Ok((Purged { files, goes_on, is_blocked }, throttle))
    }

    /// Says it, unless that was the last thing said.
    fn say(&mut self, what: String) {
        if self.said.as_ref() != Some(&what) {
            tracing::warn!(job = %self.job.spec.name, "{what}");
            self.said = Some(what);
        }
    }
}

/// How the paths in a mount begin.
fn within(mount: &Path) -> String {
    format!("{}/", mount.to_string_lossy().trim_end_matches('/'))
}
