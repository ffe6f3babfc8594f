//! What HTTP asks of a host: the seam at which tests put another one.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::domain::intervention::{Intervened, Tally};
use crate::domain::node::NodeView;
use crate::domain::plugin_history::Steer;
use crate::domain::status::{HostStatus, JobStatus, PluginStatus, SweepReport};
use crate::domain::task::{AttemptView, Enqueued, NewTask, TaskId, TaskView};
use crate::runner::{ByFilter, Host, HostError, TaskQuery};
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

    /// Pauses a job.
    fn pause(&self, job: &str, reason: &str) -> impl Future<Output = Result<(), HostError>> + Send;

    /// Resumes a job; where asked, one sweep may go over its budget.
    fn resume(&self, job: &str, once_over_budget: bool) -> impl Future<Output = Result<(), HostError>> + Send;

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

    /// Whether requests would be served, and else what is missing.
    fn ready(&self) -> impl Future<Output = Result<(), String>> + Send;
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

    async fn pause(&self, job: &str, reason: &str) -> Result<(), HostError> {
        Host::pause(self, job, reason).await
    }

    async fn resume(&self, job: &str, once_over_budget: bool) -> Result<(), HostError> {
        Host::resume(self, job, once_over_budget).await
    }

    async fn plugin(&self, job: &str) -> Result<PluginStatus, HostError> {
        Host::plugin(self, job).await
    }

    async fn steer(&self, job: &str, ask: Steer, patience: Duration) -> Result<(PluginStatus, bool), HostError> {
        Host::steer(self, job, ask, patience).await
    }

    async fn ready(&self) -> Result<(), String> {
        Host::ready(self).await
    }
}
