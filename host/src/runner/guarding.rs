//! What people ask of the guard at a running host: what plugins did, what is
//! held, what is in the trash, and which directories are the right ones.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::domain::effect::{EffectId, EffectPlace, EffectView, Operation};
use crate::domain::hold::{Hold, HoldId, Pattern, PlacedHold};
use crate::domain::job::JobSpec;
use crate::domain::task::TaskId;
use crate::domain::time::Timestamp;
use crate::sandbox::held_now;
use crate::store::{At, EffectFilter, HoldRemoved, NewHold, Store};

use super::answers::answered;
use super::error::HostError;
use super::host::Host;
use super::job::Job;
use super::mounts::{MountView, NotAccepted, accept_mount, look_at_mounts};
use super::trash::{TakenOut, TrashAction, TrashOf, TrashPick, TrashResult};

/// An answer names no more files than about this.
const MOST: usize = 10_000;

/// Which effects to list: those that are all of what is given, latest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EffectQuery {
    /// Only of this job.
    pub job: Option<String>,
    /// Only of this task.
    pub task: Option<TaskId>,
    /// Only at this time or later.
    pub since: Option<Timestamp>,
    /// Only before this time.
    pub until: Option<Timestamp>,
    /// Only where the path on the machine begins with this text.
    pub path: Option<String>,
    /// Only this.
    pub operation: Option<Operation>,
    /// Only after this place.
    pub after: Option<EffectPlace>,
    /// At most so many.
    pub limit: u32,
}

/// What is to be done to files in the trash of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrashAsk {
    /// What.
    pub action: TrashAction,
    /// Of this job.
    pub job: String,
    /// To these, or, where it is `None`, to all that `pick` and `after` leave.
    pub ids: Option<Vec<EffectId>>,
    /// To all that match.
    pub pick: TrashPick,
    /// Only after this place.
    pub after: Option<EffectPlace>,
}

impl Host {
    /// What plugins did to files, a page of it.
    pub async fn effects(&self, query: EffectQuery) -> Result<Vec<EffectView>, HostError> {
        let EffectQuery { job, task, since, until, path, operation, after, limit } = query;
        let job = job.map(|name| self.seat(&name).map(|seat| seat.job.id)).transpose()?;
        let filter = EffectFilter {
            job,
            task,
            since,
            until,
            path_prefix: path,
            operation,
            after: after.map(|EffectPlace(at, id)| (at, id)),
            limit,
            ..EffectFilter::default()
        };
        Ok(self.store.effects(filter).await?)
    }

    /// The holds of a job, by number.
    pub async fn holds(&self, job: &str) -> Result<Vec<Hold>, HostError> {
        Ok(self.store.holds(self.seat(job)?.job.id, At::Server).await?)
    }

    /// Puts a hold in place, and looks at what it holds: at this node it holds
    /// when this answers, at others from their next heartbeat on.
    pub async fn add_hold(
        &self,
        job: &str,
        pattern: Pattern,
        until: Option<Timestamp>,
        why: String,
    ) -> Result<PlacedHold, HostError> {
        let job = &self.seat(job)?.job;
        let hold = put_hold(&*self.store, &job.spec, NewHold { job: job.id, pattern, until, why }).await?;
        job.enforce_holds().await?;
        let now = held_now(&job.spec, &hold.pattern).await;
        Ok(PlacedHold::new(hold, now))
    }

    /// Ends a hold: at this node when this answers, at others at their next
    /// heartbeat.
    pub async fn remove_hold(&self, job: &str, id: HoldId) -> Result<Hold, HostError> {
        let job = &self.seat(job)?.job;
        match self.store.remove_hold(job.id, id, At::Server).await? {
            HoldRemoved::Removed(hold) => {
                job.take_up_holds().await?;
                Ok(hold)
            }
            HoldRemoved::NotThere => Err(HostError::UnknownHold(id)),
        }
    }

    /// The mounts of a job, as they are now at this node.
    pub async fn mounts(&self, job: &str) -> Result<Vec<MountView>, HostError> {
        let job = &self.seat(job)?.job;
        Ok(look_at_mounts(&*self.store, job.id, &job.spec).await?)
    }

    /// Makes what stands at a mount of the job now (`at` is where its plugin sees
    /// it; else at all of them) the directory that it works in. The job stays
    /// paused.
    pub async fn accept_mounts(&self, job: &str, at: Option<&str>) -> Result<Vec<MountView>, HostError> {
        let job = &self.seat(job)?.job;
        let mounts: Vec<_> = job.spec.mounts.iter().filter(|mount| at.is_none_or(|at| mount.guest == at)).collect();
        if let Some(at) = at.filter(|_| mounts.is_empty()) {
            return Err(HostError::UnknownMount { job: job.spec.name.to_string(), at: at.to_owned() });
        }
        for mount in mounts {
            accept_mount(&*self.store, job.id, mount).await.map_err(|error| match error {
                NotAccepted::Mount(error) => HostError::Mount(error.to_string()),
                NotAccepted::Store(error) => HostError::Store(error),
            })?;
        }
        job.marks.forget();
        Ok(look_at_mounts(&*self.store, job.id, &job.spec).await?)
    }

    /// The files in the trash of a job, latest first, a page of them.
    pub async fn trash(
        &self,
        job: &str,
        pick: TrashPick,
        after: Option<EffectPlace>,
        limit: u32,
    ) -> Result<Vec<EffectView>, HostError> {
        let job = &self.seat(job)?.job;
        Ok(trash_of(job).page(TrashAction::Restore, &pick, after, limit).await?)
    }

    /// Takes files out of the trash. For all that match, it also answers after
    /// which place to go on, where the time was not enough. Dropped, it may have
    /// done it to some.
    pub async fn take_out(
        &self,
        ask: TrashAsk,
        time: Duration,
    ) -> Result<(Vec<TakenOut>, Option<EffectPlace>), HostError> {
        let TrashAsk { action, job, ids, pick, mut after } = ask;
        let end = Instant::now() + time;
        let job = &self.seat(&job)?.job;
        let of = trash_of(job);
        let mut throttle = of.throttle(None);
        if let Some(ids) = ids {
            let (found, mut answers) = of.find(&ids).await?;
            for files in found.chunks(of.at_once()) {
                if Instant::now() >= end {
                    answers.extend(files.iter().map(TakenOut::later));
                    continue;
                }
                let (done, used) = of.take_out(action, files.to_vec(), throttle).await?;
                throttle = used;
                answers.extend(count_back(job, done));
            }
            return Ok((answers, None));
        }
        let (mut answers, limit) = (Vec::new(), of.at_once());
        while Instant::now() < end && answers.len() < MOST {
            let page = of.page(action, &pick, after, u32::try_from(limit).unwrap_or(u32::MAX)).await?;
            let is_last = page.len() < limit;
            after = page.last().map(EffectView::place).or(after);
            let (done, used) = of.take_out(action, page, throttle).await?;
            throttle = used;
            answers.extend(count_back(job, done));
            if is_last {
                return Ok((answers, None));
            }
        }
        Ok((answers, after))
    }
}

/// Puts a hold in place; running hosts take it up at their next heartbeat. A
/// pattern of the machine's paths is resolved as the mounts were.
pub async fn put_hold(store: &dyn Store, spec: &JobSpec, mut hold: NewHold) -> Result<Hold, HostError> {
    hold.pattern = on_this_machine(spec, hold.pattern).await?;
    let now = store.now(At::Server).await?;
    if let Some(until) = hold.until.filter(|until| *until <= now) {
        return Err(HostError::NoHold(format!("it would hold nothing: {until} is past")));
    }
    if store.holds(hold.job, At::Server).await?.len() >= NewHold::MOST as usize {
        let most = NewHold::MOST;
        let why = format!("the job has {most} holds already, and may have no more; remove one, or hold folders");
        return Err(HostError::NoHold(why));
    }
    Ok(store.add_hold(hold, At::Server).await?)
}

/// An absolute pattern without links in its way; one that reaches no mount of the
/// job would hold nothing.
async fn on_this_machine(spec: &JobSpec, pattern: Pattern) -> Result<Pattern, HostError> {
    if !pattern.as_str().starts_with('/') {
        return Ok(pattern);
    }
    let fixed = pattern.fixed_part();
    let rest = &pattern.as_str()[fixed.as_os_str().len()..];
    let (asked, is_whole) = (fixed.to_owned(), rest.is_empty());
    let resolve = move || {
        let real = crate::sandbox::resolved(&asked);
        // A link that is the last name is held itself, unless the pattern goes on below.
        if is_whole { real } else { real.canonicalize().unwrap_or(real) }
    };
    let real = answered(fixed, resolve).await;
    let real = real.map_err(|error| HostError::NoHold(error.to_string()))?;
    if !spec.mounts.iter().any(|mount| real.starts_with(&mount.host) || mount.host.starts_with(&real)) {
        let mounts: Vec<_> = spec.mounts.iter().map(|mount| mount.host.display().to_string()).collect();
        let why = format!("{pattern} holds nothing: the mounts of the job are {}", mounts.join(", "));
        return Err(HostError::NoHold(why));
    }
    let text = real.to_str().map(|real| format!("{}{rest}", real.trim_end_matches('/')));
    let text = text.ok_or_else(|| HostError::NoHold(format!("{} is no UTF-8", real.display())))?;
    Pattern::new(text).map_err(|bad| HostError::NoHold(bad.to_string()))
}

fn trash_of(job: &Job) -> TrashOf {
    TrashOf::new(Arc::clone(&job.store), job.id, Arc::clone(&job.spec))
}

/// What is back in its place counts as a file of the mount again.
fn count_back(job: &Job, done: Vec<TakenOut>) -> Vec<TakenOut> {
    let restored = done.iter().filter(|one| one.result == TrashResult::Restored);
    restored.for_each(|_| job.custody.meter.made(job.custody.metered_now()));
    done
}
