//! What HTTP asks of a host: the seam at which tests put another one.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::domain::effect::{EffectPlace, EffectView};
use crate::domain::hold::{Hold, HoldId, Pattern, PlacedHold};
use crate::domain::intervention::{Intervened, Tally};
use crate::domain::node::NodeView;
use crate::domain::plugin_history::Steer;
use crate::domain::readiness::{JobNotReady, NotReady};
use crate::domain::status::{HostStatus, JobStatus, PluginStatus, SweepReport};
use crate::domain::task::{AttemptView, Enqueued, NewTask, TaskId, TaskView};
use crate::domain::time::Timestamp;
use crate::runner::{ByFilter, EffectQuery, Host, HostError, MountView, TakenOut, TaskQuery, TrashAsk, TrashPick};
use crate::store::{Intervene, Once, RequestKey};

/// A host as HTTP sees it; [`Host`] documents each method.
pub trait HostApi: Clone + Send + Sync + 'static {
    /// Queues tasks for a job.
    fn enqueue(&self, job: &str, tasks: Vec<NewTask>) -> impl Future<Output = Result<Vec<Enqueued>, HostError>> + Send;

    /// Queues tasks for a job, unless the same request did so before.
    fn enqueue_once(
        &self,
        job: &str,
        request: RequestKey,
        tasks: Vec<NewTask>,
    ) -> impl Future<Output = Result<Once, HostError>> + Send;

    /// The host and all its jobs.
    fn status(&self) -> impl Future<Output = Result<HostStatus, HostError>> + Send;

    /// One job.
    fn job(&self, name: &str) -> impl Future<Output = Result<JobStatus, HostError>> + Send;

    /// Tasks, ascending by id.
    fn tasks(&self, query: TaskQuery) -> impl Future<Output = Result<Vec<TaskView>, HostError>> + Send;

    /// One task.
    fn task(&self, id: TaskId) -> impl Future<Output = Result<TaskView, HostError>> + Send;

    /// The attempts of a task, in order.
    fn attempts(&self, id: TaskId) -> impl Future<Output = Result<Vec<AttemptView>, HostError>> + Send;

    /// The nodes that share the queue.
    fn nodes(&self) -> impl Future<Output = Result<Vec<NodeView>, HostError>> + Send;

    /// Does to tasks what a person asks for, one answer an id.
    fn intervene(&self, ask: Intervene) -> impl Future<Output = Result<Vec<Intervened>, HostError>> + Send;

    /// The same for all tasks that match; also after which to go on, where the
    /// time was not enough for all.
    fn intervene_where(
        &self,
        ask: ByFilter,
        time: Duration,
    ) -> impl Future<Output = Result<(Tally, Option<TaskId>), HostError>> + Send;

    /// Asks for a sweep now.
    fn sweep(&self, job: &str) -> impl Future<Output = Result<oneshot::Receiver<SweepReport>, HostError>> + Send;

    /// Pauses a job; false where something of it is still under way after
    /// `patience`.
    fn pause(
        &self,
        job: &str,
        reason: &str,
        patience: Duration,
    ) -> impl Future<Output = Result<bool, HostError>> + Send;

    /// Resumes a job; where asked, one sweep may go over its budget; false where
    /// that waits for longer than `patience`.
    fn resume(
        &self,
        job: &str,
        once_over_budget: bool,
        patience: Duration,
    ) -> impl Future<Output = Result<bool, HostError>> + Send;

    /// The plugin of a job.
    fn plugin(&self, job: &str) -> impl Future<Output = Result<PluginStatus, HostError>> + Send;

    /// Lets another component serve; false where that takes longer than
    /// `patience`.
    fn steer(
        &self,
        job: &str,
        ask: Steer,
        patience: Duration,
    ) -> impl Future<Output = Result<(PluginStatus, bool), HostError>> + Send;

    /// What plugins did to files, latest first.
    fn effects(&self, query: EffectQuery) -> impl Future<Output = Result<Vec<EffectView>, HostError>> + Send;

    /// The holds of a job.
    fn holds(&self, job: &str) -> impl Future<Output = Result<Vec<Hold>, HostError>> + Send;

    /// Puts a hold in place.
    fn add_hold(
        &self,
        job: &str,
        pattern: Pattern,
        until: Option<Timestamp>,
        why: String,
    ) -> impl Future<Output = Result<PlacedHold, HostError>> + Send;

    /// Ends a hold.
    fn remove_hold(&self, job: &str, id: HoldId) -> impl Future<Output = Result<Hold, HostError>> + Send;

    /// The mounts of a job.
    fn mounts(&self, job: &str) -> impl Future<Output = Result<Vec<MountView>, HostError>> + Send;

    /// Accepts what stands at a mount, or at all of them.
    fn accept_mounts(
        &self,
        job: &str,
        at: Option<&str>,
    ) -> impl Future<Output = Result<Vec<MountView>, HostError>> + Send;

    /// The files in the trash of a job, latest first.
    fn trash(
        &self,
        job: &str,
        pick: TrashPick,
        after: Option<EffectPlace>,
        limit: u32,
    ) -> impl Future<Output = Result<Vec<EffectView>, HostError>> + Send;

    /// Takes files out of the trash; also answers after which place to go on,
    /// where the time was not enough for all.
    fn take_out(
        &self,
        ask: TrashAsk,
        time: Duration,
    ) -> impl Future<Output = Result<(Vec<TakenOut>, Option<EffectPlace>), HostError>> + Send;

    /// Whether requests would be served, and else what is missing.
    fn ready(&self) -> impl Future<Output = Result<(), NotReady>> + Send;

    /// Which jobs cannot work: of one, or of all.
    fn jobs_not_ready(&self, only: Option<&str>) -> impl Future<Output = Result<Vec<JobNotReady>, HostError>> + Send;
}

impl HostApi for Arc<Host> {
    async fn enqueue(&self, job: &str, tasks: Vec<NewTask>) -> Result<Vec<Enqueued>, HostError> {
        Host::enqueue(self, job, tasks).await
    }

    async fn enqueue_once(&self, job: &str, request: RequestKey, tasks: Vec<NewTask>) -> Result<Once, HostError> {
        Host::enqueue_once(self, job, request, tasks).await
    }

    async fn status(&self) -> Result<HostStatus, HostError> {
        Host::status(self).await
    }

    async fn job(&self, name: &str) -> Result<JobStatus, HostError> {
        Host::job(self, name).await
    }

    async fn tasks(&self, query: TaskQuery) -> Result<Vec<TaskView>, HostError> {
        Host::tasks(self, query).await
    }

    async fn task(&self, id: TaskId) -> Result<TaskView, HostError> {
        Host::task(self, id).await
    }

    async fn attempts(&self, id: TaskId) -> Result<Vec<AttemptView>, HostError> {
        Host::attempts(self, id).await
    }

    async fn nodes(&self) -> Result<Vec<NodeView>, HostError> {
        Host::nodes(self).await
    }

    async fn intervene(&self, ask: Intervene) -> Result<Vec<Intervened>, HostError> {
        Host::intervene(self, ask).await
    }

    async fn intervene_where(&self, ask: ByFilter, time: Duration) -> Result<(Tally, Option<TaskId>), HostError> {
        Host::intervene_where(self, ask, time).await
    }

    async fn sweep(&self, job: &str) -> Result<oneshot::Receiver<SweepReport>, HostError> {
        Host::sweep(self, job).await
    }

    async fn pause(&self, job: &str, reason: &str, patience: Duration) -> Result<bool, HostError> {
        Host::pause(self, job, reason, patience).await
    }

    async fn resume(&self, job: &str, once_over_budget: bool, patience: Duration) -> Result<bool, HostError> {
        Host::resume(self, job, once_over_budget, patience).await
    }

    async fn plugin(&self, job: &str) -> Result<PluginStatus, HostError> {
        Host::plugin(self, job).await
    }

    async fn steer(&self, job: &str, ask: Steer, patience: Duration) -> Result<(PluginStatus, bool), HostError> {
        Host::steer(self, job, ask, patience).await
    }

    async fn effects(&self, query: EffectQuery) -> Result<Vec<EffectView>, HostError> {
        Host::effects(self, query).await
    }

    async fn holds(&self, job: &str) -> Result<Vec<Hold>, HostError> {
        Host::holds(self, job).await
    }

    async fn add_hold(
        &self,
        job: &str,
        pattern: Pattern,
        until: Option<Timestamp>,
        why: String,
    ) -> Result<PlacedHold, HostError> {
        Host::add_hold(self, job, pattern, until, why).await
    }

    async fn remove_hold(&self, job: &str, id: HoldId) -> Result<Hold, HostError> {
        Host::remove_hold(self, job, id).await
    }

    async fn mounts(&self, job: &str) -> Result<Vec<MountView>, HostError> {
        Host::mounts(self, job).await
    }

    async fn accept_mounts(&self, job: &str, at: Option<&str>) -> Result<Vec<MountView>, HostError> {
        Host::accept_mounts(self, job, at).await
    }

    async fn trash(
        &self,
        job: &str,
        pick: TrashPick,
        after: Option<EffectPlace>,
        limit: u32,
    ) -> Result<Vec<EffectView>, HostError> {
        Host::trash(self, job, pick, after, limit).await
    }

    async fn take_out(&self, ask: TrashAsk, time: Duration) -> Result<(Vec<TakenOut>, Option<EffectPlace>), HostError> {
        Host::take_out(self, ask, time).await
    }

    async fn ready(&self) -> Result<(), NotReady> {
        Host::ready(self).await
    }

    async fn jobs_not_ready(&self, only: Option<&str>) -> Result<Vec<JobNotReady>, HostError> {
        Host::jobs_not_ready(self, only).await
    }
}
