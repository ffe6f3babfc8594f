//! The file as it was written, in the types of serde: nothing has a default
//! here, and nothing but names and types was checked.

use serde::Deserialize;
use toml::Table;

/// The whole file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Raw {
    pub(super) node: Option<String>,
    pub(super) labels: Option<Vec<String>>,
    pub(super) state: Option<String>,
    pub(super) state_min_free: Option<String>,
    pub(super) cache: Option<String>,
    pub(super) cache_max: Option<String>,
    pub(super) shutdown_grace: Option<String>,
    pub(super) lease: Option<String>,
    pub(super) server: RawServer,
    pub(super) database: RawDatabase,
    pub(super) sandbox: RawSandbox,
    pub(super) job: Vec<RawJob>,
}

/// `[server]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawServer {
    pub(super) listen: Option<String>,
    pub(super) hosts: Option<Vec<String>>,
    pub(super) video_delete_record: Option<String>,
    pub(super) max_body: Option<String>,
    pub(super) header_timeout: Option<String>,
    pub(super) request_timeout: Option<String>,
    pub(super) max_requests: Option<i64>,
    pub(super) max_connections: Option<i64>,
}

/// `[database]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawDatabase {
    pub(super) url: Option<String>,
    pub(super) max_connections: Option<i64>,
    pub(super) wait: Option<String>,
    pub(super) history: Option<String>,
    pub(super) effects: Option<String>,
    pub(super) effects_max: Option<String>,
}

/// `[sandbox]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawSandbox {
    pub(super) landlock: Option<String>,
    pub(super) stack: Option<String>,
    pub(super) max_compiled: Option<String>,
    pub(super) compile_time: Option<String>,
    pub(super) compile_memory: Option<String>,
}

/// `[[job]]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawJob {
    pub(super) name: Option<String>,
    pub(super) plugin: Option<String>,
    pub(super) mounts: Option<RawMounts>,
    pub(super) labels: Option<Vec<String>>,
    pub(super) interval: Option<String>,
    pub(super) schedule: Option<String>,
    pub(super) time_zone: Option<String>,
    pub(super) capacity: Option<i64>,
    pub(super) concurrency: Option<i64>,
    pub(super) max_sweep: Option<String>,
    pub(super) max_postponed: Option<String>,
    pub(super) isolation: Option<String>,
    pub(super) breaker: Option<i64>,
    pub(super) preflight: Option<bool>,
    pub(super) trash: Option<String>,
    pub(super) trash_min_free: Option<String>,
    pub(super) purge_rate: Option<String>,
    pub(super) budget: RawBudget,
    pub(super) limits: RawLimits,
    pub(super) retry: RawRetry,
    pub(super) config: Table,
}

/// `[job.budget]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawBudget {
    pub(super) sweep_files: Option<i64>,
    pub(super) sweep_bytes: Option<String>,
    pub(super) sweep_share: Option<String>,
    pub(super) sweep_made: Option<i64>,
    pub(super) sweep_written: Option<String>,
    pub(super) hour_files: Option<i64>,
    pub(super) hour_bytes: Option<String>,
    pub(super) hour_share: Option<String>,
    pub(super) hour_made: Option<i64>,
    pub(super) hour_written: Option<String>,
}

/// `[job.limits]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawLimits {
    pub(super) memory: Option<String>,
    pub(super) memories: Option<i64>,
    pub(super) tables: Option<i64>,
    pub(super) table_elements: Option<i64>,
    pub(super) instances: Option<i64>,
    pub(super) fuel: Option<i64>,
    pub(super) answer: Option<String>,
    pub(super) descriptors: Option<i64>,
    pub(super) folder_entries: Option<i64>,
    pub(super) dispatch_deadline: Option<String>,
    pub(super) task_deadline: Option<String>,
    pub(super) output: Option<String>,
    pub(super) output_rate: Option<String>,
    pub(super) tasks_per_instance: Option<i64>,
    pub(super) changes: Option<i64>,
    pub(super) written: Option<String>,
}

/// `[job.retry]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawRetry {
    pub(super) max_attempts: Option<i64>,
    pub(super) backoff: Option<String>,
    pub(super) max_backoff: Option<String>,
}

/// `mounts`: a list, or its only element.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum RawMounts {
    One(RawMount),
    Many(Vec<RawMount>),
}

/// One mount: its path, or a table.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum RawMount {
    Path(String),
    Full { path: String, at: Option<String>, rights: Option<RawRights>, cross_mounts: Option<bool> },
}

/// `rights`: a short form, or a list of names.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum RawRights {
    Short(String),
    List(Vec<String>),
}
