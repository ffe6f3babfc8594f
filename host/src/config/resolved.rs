//! The checked configuration, and how it is made from the written one.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::domain::job::{JobName, JobSpec, Label};
use crate::domain::nearest::nearest;

use super::database::{self, DatabaseConfig};
use super::error::{ConfigError, Place, Problem};
use super::limits::{self, SandboxConfig};
use super::origins::{self, Origins};
use super::paths::absolute;
use super::raw::{Raw, RawServer};
use super::settle::Written;
use super::standing::Look;
use super::{check, env, jobs, schema, standing, units};

const MIB: u64 = 1 << 20;

/// No duration is longer: ten years.
pub(super) const LONGEST: Duration = Duration::from_hours(10 * 365 * 24);

/// A host's configuration: complete and checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The file that it was read from, absolute.
    pub file: PathBuf,
    /// The node's name, by which it finds its own earlier lives.
    pub node: String,
    /// What the node has, for jobs that need it; sorted, each once.
    pub labels: Vec<Label>,
    /// The HTTP server.
    pub server: ServerConfig,
    /// The queue's database.
    pub database: DatabaseConfig,
    /// How guests are kept in.
    pub sandbox: SandboxConfig,
    /// The host's own folder: the database, accepted plugins.
    pub state: PathBuf,
    /// While the file system of that folder has fewer bytes free, guests make
    /// nothing.
    pub state_min_free: u64,
    /// Compiled plugins; may be deleted at any time.
    pub cache: PathBuf,
    /// How much of the disk they may take, in bytes.
    pub cache_max: u64,
    /// How long running tasks may go on after a signal to stop.
    pub shutdown_grace: Duration,
    /// After this time without a heartbeat a node is taken for dead.
    pub lease: Duration,
    /// The jobs, in the order of the file; at least one. Their mounts stand as
    /// they were written until [`Self::look`] or
    /// [`Self::settle`].
    pub jobs: Vec<JobSpec>,
    /// Where the mounts of each job were written.
    pub(super) written: Vec<Vec<Written>>,
    /// What was found at the plugin file of each job; empty before
    /// [`Self::settle`].
    pub(super) plugins: Vec<Look>,
}

/// The HTTP server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerConfig {
    /// Where it listens.
    pub listen: SocketAddr,
    /// Names by which it may be called, beside addresses and `localhost`;
    /// empty allows all where it listens beyond this machine.
    pub hosts: Vec<String>,
    /// The job that `/video-delete-record/{id}` queues for.
    pub video_delete_record: Option<JobName>,
    /// Longest body of a request, in bytes.
    pub max_body: usize,
    /// How long the head of a request may take, and how long a connection may
    /// idle.
    pub header_timeout: Duration,
    /// How long a request may take.
    pub request_timeout: Duration,
    /// Requests at a time.
    pub max_requests: usize,
    /// Connections at a time.
    pub max_connections: usize,
    /// How long running requests may go on after a signal to stop: the host's
    /// `shutdown_grace`.
    pub grace: Duration,
}

impl Config {
    /// Reads the file at `path`, lays the `SWEEPD_…` among `env` over it and
    /// checks everything but what stands at the mounts. Relative paths count from
    /// the file's folder.
    pub fn load(path: &Path, env: impl Iterator<Item = (String, String)>) -> Result<Self, ConfigError> {
        let (config, problems) = Self::read(path, env)?;
        config.without(problems)
    }

    /// The same, and looks at the mounts: one that cannot be used now is a problem
    /// as well.
    pub fn check(path: &Path, env: impl Iterator<Item = (String, String)>) -> Result<Self, ConfigError> {
        let (mut config, mut problems) = Self::read(path, env)?;
        let (absent, out_of_bounds) = config.settled(&standing::look_at(&config.paths(), standing::PATIENCE));
        problems.extend(absent.into_iter().map(|absent| absent.problem).chain(out_of_bounds));
        config.without(problems)
    }

    fn without(self, mut problems: Vec<Problem>) -> Result<Self, ConfigError> {
        if problems.is_empty() {
            return Ok(self);
        }
        problems.sort_by_key(|problem| match &problem.place {
            Place::File { line, .. } => (false, line.unwrap_or(usize::MAX)),
            Place::Env(_) => (true, 0),
        });
        Err(ConfigError::Invalid { problems })
    }

    fn read(path: &Path, env: impl Iterator<Item = (String, String)>) -> Result<(Self, Vec<Problem>), ConfigError> {
        let unreadable = |source| ConfigError::Read { path: path.to_owned(), source };
        let file = std::path::absolute(path).map_err(unreadable)?;
        let text = std::fs::read_to_string(path).map_err(unreadable)?;
        let (mut table, mut origins) =
            origins::parse(path, &text).map_err(|problems| ConfigError::Invalid { problems })?;
        let mut problems = env::overlay(&mut table, &mut origins, env);
        problems.extend(check::check(&mut table, &origins));
        let raw = toml::Value::Table(table).try_into::<Raw>().unwrap_or_else(|error| {
            let place = Place::File { path: path.to_owned(), line: None, column: None };
            problems.push(Problem { place, key: String::new(), message: error.message().to_owned(), help: None });
            Raw::default()
        });
        let mut resolver = Resolver { folder: parent(&file), origins, job: None, problems };
        let config = resolver.resolve(file, raw);
        Ok((config, resolver.problems))
    }
}

fn parent(path: &Path) -> PathBuf {
    path.parent().unwrap_or(Path::new("/")).to_owned()
}

/// Turns what was written into what counts, and collects what is wrong.
pub(super) struct Resolver {
    folder: PathBuf,
    origins: Origins,
    job: Option<String>,
    problems: Vec<Problem>,
}

impl Resolver {
    fn resolve(&mut self, file: PathBuf, raw: Raw) -> Config {
        let state = self.path("state", raw.state.as_deref());
        let cache = raw.cache.map_or_else(|| state.join("cache"), |cache| absolute(&self.folder, &cache));
        let database = database::resolve(self, &state, &raw.database);
        let names: Vec<_> = raw.job.iter().filter_map(|job| job.name.clone()).collect();
        let (jobs, written) = jobs::resolve(self, raw.job);
        let grace = self.duration("shutdown_grace", raw.shutdown_grace.as_deref(), Duration::ZERO..=LONGEST);
        Config {
            node: self.node(raw.node),
            labels: self.labels("labels", raw.labels),
            server: self.server(&raw.server, grace, &names),
            sandbox: limits::sandbox(self, &raw.sandbox),
            cache_max: self.size("cache_max", raw.cache_max.as_deref(), MIB..=u64::MAX),
            state_min_free: self.size("state_min_free", raw.state_min_free.as_deref(), 0..=u64::MAX),
            shutdown_grace: grace,
            lease: self.duration("lease", raw.lease.as_deref(), Duration::from_secs(1)..=Duration::from_hours(1)),
            file,
            database,
            state,
            cache,
            jobs,
            written,
            plugins: Vec::new(),
        }
    }

    fn server(&mut self, raw: &RawServer, grace: Duration, jobs: &[String]) -> ServerConfig {
        let shortest = Duration::from_millis(100);
        ServerConfig {
            listen: self.listen(raw.listen.as_deref()),
            hosts: raw.hosts.iter().flatten().map(|host| host.to_ascii_lowercase()).collect(),
            video_delete_record: self.legacy_job(raw.video_delete_record.as_deref(), jobs),
            max_body: usize::try_from(self.size("server.max_body", raw.max_body.as_deref(), 1 << 10..=1 << 30))
                .unwrap_or(usize::MAX),
            header_timeout: self.duration("server.header_timeout", raw.header_timeout.as_deref(), shortest..=LONGEST),
            request_timeout: self.duration(
                "server.request_timeout",
                raw.request_timeout.as_deref(),
                shortest..=LONGEST,
            ),
            max_requests: self.integer("server.max_requests", raw.max_requests, 1..=1_000_000) as usize,
            max_connections: self.integer("server.max_connections", raw.max_connections, 1..=1_000_000) as usize,
            grace,
        }
    }

    fn listen(&mut self, raw: Option<&str>) -> SocketAddr {
        let text = text("server.listen", raw);
        text.parse().unwrap_or_else(|_| {
            let help = "write an address and a port, such as \"127.0.0.1:25601\", or \"0.0.0.0:25601\" for all of IPv4";
            self.refuse("server.listen", format!("`{text}` is no address to listen at"), Some(help.to_owned()));
            SocketAddr::from(([127, 0, 0, 1], 0))
        })
    }

    fn legacy_job(&mut self, raw: Option<&str>, jobs: &[String]) -> Option<JobName> {
        let raw = raw?;
        if !jobs.iter().any(|job| job == raw) {
            let help = match nearest(raw, jobs.iter().map(String::as_str)) {
                Some(hint) => format!("did you mean `{hint}`?"),
                None => "name a [[job]] of this file".to_owned(),
            };
            self.refuse("server.video_delete_record", format!("there is no job `{raw}`"), Some(help));
        }
        JobName::new(raw).ok()
    }

    fn node(&mut self, raw: Option<String>) -> String {
        let named = raw.is_some();
        let node = raw.unwrap_or_else(|| rustix::system::uname().nodename().to_string_lossy().into_owned());
        if let Some((message, help)) = wrong_with_node(&node, named) {
            self.refuse("node", message, Some(help.to_owned()));
        }
        node
    }

    fn path(&mut self, path: &str, raw: Option<&str>) -> PathBuf {
        let text = text(path, raw);
        if text.is_empty() || text.contains('\0') {
            self.refuse(path, "is no path".to_owned(), None);
        }
        absolute(&self.folder, text)
    }

    /// Labels, sorted and each once.
    pub(super) fn labels(&mut self, path: &str, raw: Option<Vec<String>>) -> Vec<Label> {
        let mut labels = BTreeSet::new();
        for (index, raw) in raw.into_iter().flatten().enumerate() {
            match Label::new(raw) {
                Ok(label) => {
                    labels.insert(label);
                }
                Err(bad) => {
                    let help = "write each as its own string: labels = [\"disk-a\", \"ssd\"]";
                    self.refuse(&format!("{path}[{index}]"), bad.to_string(), Some(help.to_owned()));
                }
            }
        }
        labels.into_iter().collect()
    }

    /// The folder from which relative paths count.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Problems that follow are this job's.
    pub(super) fn enter_job(&mut self, name: Option<String>) {
        self.job = name;
    }

    /// A duration within bounds, or its default.
    pub(super) fn duration(&mut self, path: &str, raw: Option<&str>, bounds: RangeInclusive<Duration>) -> Duration {
        self.measured(path, raw, &bounds, units::duration, units::show_duration)
    }

    /// A size within bounds, or its default.
    pub(super) fn size(&mut self, path: &str, raw: Option<&str>, bounds: RangeInclusive<u64>) -> u64 {
        self.measured(path, raw, &bounds, units::size, units::show_size)
    }

    /// A number within bounds, or its default.
    pub(super) fn integer(&mut self, path: &str, raw: Option<i64>, bounds: RangeInclusive<u32>) -> u32 {
        let number = |text: &str| text.parse().map_err(|_| format!("`{text}` is no number from 0 to {}", u32::MAX));
        self.measured(path, raw.map(|number| number.to_string()).as_deref(), &bounds, number, |number| {
            number.to_string()
        })
    }

    fn measured<T: PartialOrd + Copy>(
        &mut self,
        path: &str,
        raw: Option<&str>,
        bounds: &RangeInclusive<T>,
        read: impl Fn(&str) -> Result<T, String>,
        show: impl Fn(T) -> String,
    ) -> T {
        let text = text(path, raw).to_owned();
        let problem = match read(&text) {
            Ok(value) if bounds.contains(&value) => return value,
            Ok(_) => format!("`{text}` is out of bounds: from {} to {}", show(*bounds.start()), show(*bounds.end())),
            Err(message) => message,
        };
        self.refuse(path, problem, None);
        *bounds.start()
    }

    /// A key that must be there is not.
    pub(super) fn missing(&mut self, table: &str, key: &str, example: &str) {
        self.refuse(&format!("{table}.{key}"), "is missing".to_owned(), Some(format!("write {example}")));
    }

    /// Where the mount at `path` was written.
    pub(super) fn written(&self, path: &str) -> Written {
        Written { place: self.origins.place(path), key: self.key(path) }
    }

    /// As a message names the value at `path`.
    fn key(&self, path: &str) -> String {
        let job = self.job.as_deref().map_or_else(String::new, |job| format!(" of job `{job}`"));
        format!("`{}`{job}", check::bare(path))
    }

    /// Notes a problem with the value at `path`, unless one is known already.
    pub(super) fn refuse(&mut self, path: &str, message: String, help: Option<String>) {
        let place = self.origins.place(path);
        let key = format!("`{}`", check::bare(path));
        if self.problems.iter().any(|known| known.place == place && known.key.starts_with(&key)) {
            return;
        }
        self.problems.push(Problem { place, key: self.key(path), message, help });
    }
}

/// What is wrong with a node's name, and what to do. Where it is not `named`, it
/// is the machine's.
fn wrong_with_node(node: &str, named: bool) -> Option<(String, &'static str)> {
    if !(node.is_empty() || node.len() > 255 || node.contains(char::is_control)) {
        return None;
    }
    let must = "must have 1 to 255 bytes and no control characters";
    Some(if named {
        (must.to_owned(), "name it as other people know this machine")
    } else {
        let what = if node.is_empty() { "has no host name".to_owned() } else { format!("is called {node:?}") };
        (
            format!("is not given, and this machine {what}: a node's name {must}"),
            "add `node = \"…\"` to the file, or set SWEEPD_NODE, or give the machine a host name",
        )
    })
}

/// What was written at `path`, or its default.
pub(super) fn text<'a>(path: &str, raw: Option<&'a str>) -> &'a str {
    raw.unwrap_or_else(|| schema::default(&check::bare(path)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_without_a_name_is_not_blamed_on_the_file() {
        let told = |node: &str, named| wrong_with_node(node, named).map(|(message, help)| format!("{message}; {help}"));
        assert_eq!(told("n1", true), None);
        assert_eq!(told("n1", false), None);
        assert!(told("", true).is_some_and(|told| told.starts_with("must have 1 to 255 bytes")));
        let of_machine = told("", false).expect("it is refused");
        assert!(of_machine.starts_with("is not given, and this machine has no host name"), "{of_machine}");
        assert!(of_machine.contains("SWEEPD_NODE"), "{of_machine}");
    }
}
