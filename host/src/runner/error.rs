//! Why a host does not do as it is asked.

use crate::domain::hold::HoldId;
use crate::domain::job::JobSpec;
use crate::domain::task::TaskId;
use crate::plugin::SteerError;
use crate::store::StoreError;

/// Why the host did not do as asked.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// No such job is configured.
    #[error("there is no job `{name}`{}", did_you_mean(nearest.as_deref()))]
    UnknownJob {
        /// What was asked for.
        name: String,
        /// The configured name nearest to it.
        nearest: Option<String>,
    },
    /// No such task is stored (any more).
    #[error("there is no task {0}")]
    UnknownTask(TaskId),
    /// No such hold stands (any more).
    #[error("there is no hold {0} of this job")]
    UnknownHold(HoldId),
    /// The hold cannot be put in place.
    #[error("{0}")]
    NoHold(String),
    /// The job has no such mount.
    #[error("the job `{job}` has no mount at `{at}`")]
    UnknownMount {
        /// The job.
        job: String,
        /// What was asked for.
        at: String,
    },
    /// A mount cannot be used.
    #[error("{0}")]
    Mount(String),
    /// A paused job is not swept.
    #[error("the job `{job}` is paused: {reason}")]
    Paused {
        /// The job.
        job: String,
        /// Why it is.
        reason: String,
    },
    /// The job runs on other nodes.
    #[error("the job `{job}` runs on nodes labelled {labels}, and this one is not")]
    Elsewhere {
        /// The job.
        job: String,
        /// The labels that it asks for.
        labels: String,
    },
    /// No plugin is loaded.
    #[error("the job `{job}` has no plugin to run: {why}")]
    NoPlugin {
        /// The job.
        job: String,
        /// What is wrong with its file.
        why: String,
    },
    /// What is asked of the plugin makes no sense, or could not be done.
    #[error(transparent)]
    Steer(#[from] SteerError),
    /// What was asked for does not serve.
    #[error("it is noted, but does not serve at the job `{job}`: {why}")]
    CannotServe {
        /// The job.
        job: String,
        /// What is wrong.
        why: String,
    },
    /// The host is shutting down.
    #[error("the host is shutting down")]
    Stopping,
    /// The store did not do it.
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn did_you_mean(nearest: Option<&str>) -> String {
    nearest.map_or_else(String::new, |name| format!("; did you mean `{name}`?"))
}

/// The job is bound to other nodes.
pub(super) fn elsewhere(job: &JobSpec) -> HostError {
    let labels: Vec<_> = job.labels.iter().map(ToString::to_string).collect();
    HostError::Elsewhere { job: job.name.to_string(), labels: labels.join(", ") }
}
