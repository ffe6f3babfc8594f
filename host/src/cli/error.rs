//! Why a command was not done, and how a person is told.

use std::error::Error;
use std::io::{self, ErrorKind};
use std::process::ExitCode;

use crate::config::{Config, ConfigError};
use crate::domain::job::JobSpec;
use crate::domain::nearest::nearest;
use crate::domain::task::TaskId;
use crate::legacy::LegacyError;
use crate::store::StoreError;

use super::run::RunError;

/// Why a command was not done.
#[derive(Debug, thiserror::Error)]
pub(super) enum CliError {
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The host did not start.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The host cannot be confined as it must be.
    #[error(transparent)]
    Wall(#[from] crate::sandbox::wall::WallError),
    /// The queue did not do it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A plugin file cannot be looked at.
    #[error(transparent)]
    Inspect(#[from] crate::plugin::inspect::InspectError),
    /// What is to serve could not be changed.
    #[error(transparent)]
    Steer(#[from] crate::plugin::SteerError),
    /// No such job is configured.
    #[error("there is no job `{name}` in the configuration")]
    UnknownJob {
        /// What was asked for.
        name: String,
        /// The nearest one, or all.
        hint: String,
    },
    /// Neither a host nor a queue is there.
    #[error("no host answers at {listen}, and there is no queue yet at {}", queue.display())]
    NothingThere {
        /// Where a host would listen.
        listen: std::net::SocketAddr,
        /// Where the queue would be.
        queue: std::path::PathBuf,
    },
    /// There is no queue to look at.
    #[error("there is no queue yet at {}", queue.display())]
    NoQueue {
        /// Where it would be.
        queue: std::path::PathBuf,
    },
    /// No such task is stored (any more).
    #[error("there is no task {0}")]
    UnknownTask(TaskId),
    /// The arguments do not go together, or something must be said with them.
    #[error("{0}")]
    Usage(String),
    /// A plan could not be made.
    #[error("{0}")]
    Plan(String),
    /// What was asked for cannot be done as things are.
    #[error("{0}")]
    Refused(String),
    /// The table of the replaced service.
    #[error(transparent)]
    Legacy(#[from] LegacyError),
    /// The filter of `--log` cannot be read.
    #[error("`{filter}` is no log filter: {source}")]
    Log {
        /// What was given.
        filter: String,
        /// Why not.
        source: tracing_subscriber::filter::ParseError,
    },
    /// Standard input or output failed.
    #[error("{0} failed")]
    Stream(&'static str, #[source] io::Error),
    /// The mounts could not be looked at.
    #[error("cannot start a process that looks at the mounts")]
    Look(#[source] io::Error),
    /// The asynchronous runtime could not be started.
    #[error("cannot start threads")]
    Runtime(#[source] io::Error),
}

impl From<io::Error> for CliError {
    fn from(source: io::Error) -> Self {
        Self::Stream("writing to standard output", source)
    }
}

impl CliError {
    /// `name` is no job of `known`.
    pub(super) fn unknown_job<'a>(name: &str, known: impl Iterator<Item = &'a str> + Clone) -> Self {
        let hint = match nearest(name, known.clone()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("its jobs: {}", known.collect::<Vec<_>>().join(", ")),
        };
        Self::UnknownJob { name: name.to_owned(), hint }
    }

    /// The job of that name, or the one that was meant.
    pub(super) fn job<'a>(config: &'a Config, name: &str) -> Result<&'a JobSpec, Self> {
        let known = config.jobs.iter().map(|job| job.name.as_str());
        let found = config.jobs.iter().find(|job| job.name.as_str() == name);
        found.ok_or_else(|| Self::unknown_job(name, known))
    }

    /// Tells it on standard error; the process ends with what this answers.
    /// `queues`: the command puts tasks into the queue.
    pub(super) fn report(&self, queues: bool) -> ExitCode {
        // Whoever read the output has enough of it: `sweepd status | head -1`.
        if matches!(self, Self::Stream(_, error) if error.kind() == ErrorKind::BrokenPipe) {
            return ExitCode::SUCCESS;
        }
        // Where standard error is closed, the exit code still tells.
        self.lines(queues).iter().for_each(|line| super::logging::say(line));
        ExitCode::from(if matches!(self, Self::Log { .. } | Self::Usage(_)) { 2 } else { 1 })
    }

    fn lines(&self, queues: bool) -> Vec<String> {
        if let Self::Config(ConfigError::Invalid { problems }) = self {
            return problems.iter().flat_map(|problem| paragraph(&problem.to_string(), problem.help.clone())).collect();
        }
        paragraph(&with_causes(self), self.help(queues)).collect()
    }

    fn help(&self, queues: bool) -> Option<String> {
        match self {
            Self::Config(ConfigError::Read { .. }) => Some(
                "name the file with --config or SWEEPD_CONFIG; examples/video-clear/sweepd.toml is one to start from"
                    .to_owned(),
            ),
            Self::UnknownJob { hint, .. } => Some(hint.clone()),
            Self::NothingThere { .. } | Self::NoQueue { .. } => Some("start the host: sweepd run".to_owned()),
            Self::UnknownTask(_) => Some("ended tasks are forgotten in time; see: sweepd tasks list".to_owned()),
            Self::Legacy(LegacyError::Unavailable { .. })
            | Self::Store(StoreError::Unavailable(_) | StoreError::Busy(_) | StoreError::Unknown(_))
                if queues =>
            {
                Some("repeat the command: what is queued already is not queued twice".to_owned())
            }
            Self::Legacy(LegacyError::Unavailable { .. })
            | Self::Store(StoreError::Unavailable(_) | StoreError::Busy(_)) => {
                Some("repeat the command when that is mended".to_owned())
            }
            Self::Run(RunError::Store(StoreError::Unavailable(_) | StoreError::Busy(_))) => {
                Some("the host did not start; start it again when that is mended".to_owned())
            }
            Self::Store(StoreError::Unknown(_)) => {
                Some("it may have been done: look (sweepd status, sweepd tasks list), then repeat it".to_owned())
            }
            Self::Store(StoreError::Full(_)) => {
                Some("free space on that disk, then repeat the command: what is queued already is not lost".to_owned())
            }
            Self::Log { .. } => Some("try `info`, or `warn,sweepd::runner=debug`".to_owned()),
            _ => None,
        }
    }
}

fn paragraph(message: &str, help: Option<String>) -> impl Iterator<Item = String> + use<> {
    [Some(format!("error: {message}")), help.map(|help| format!("  help: {help}"))].into_iter().flatten()
}

/// An error and its causes, unless it already tells them itself.
fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let words = error.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use crate::config::{Place, Problem};

    use super::*;

    #[test]
    fn errors_as_people_see_them() {
        let place = Place::File { path: PathBuf::from("sweepd.toml"), line: Some(3), column: None };
        let problem = |key: &str, help: Option<&str>| Problem {
            place: place.clone(),
            key: key.to_owned(),
            message: "is wrong".to_owned(),
            help: help.map(str::to_owned),
        };
        let problems = vec![problem("`a`", Some("put it right")), problem("`b`", None)];
        assert_eq!(
            CliError::from(ConfigError::Invalid { problems }).lines(false),
            ["error: sweepd.toml:3: `a`: is wrong", "  help: put it right", "error: sweepd.toml:3: `b`: is wrong"]
        );
        let read = ConfigError::Read { path: PathBuf::from("x.toml"), source: ErrorKind::NotFound.into() };
        let text = CliError::from(read).lines(false).join("\n");
        assert!(
            text.starts_with("error: cannot read the configuration file x.toml: entity not found\n  help: "),
            "{text}"
        );
        let unknown = CliError::unknown_job("video-cleer", ["video-clear", "other"].into_iter());
        assert_eq!(
            unknown.lines(false),
            ["error: there is no job `video-cleer` in the configuration", "  help: did you mean `video-clear`?"]
        );
        assert_eq!(
            CliError::unknown_job("x", ["aaaa", "bbbb"].into_iter()).help(false).as_deref(),
            Some("its jobs: aaaa, bbbb")
        );
    }

    #[test]
    fn repeating_is_advised_as_far_as_it_is_safe() {
        let lost = || CliError::from(StoreError::Unavailable("the disk is away".to_owned()));
        assert!(lost().help(true).is_some_and(|help| help.contains("not queued twice")));
        assert!(lost().help(false).is_some_and(|help| help.contains("repeat the command") && !help.contains("queued")));
        let locked = CliError::from(StoreError::Busy("somebody has it".to_owned()));
        assert!(locked.help(false).is_some_and(|help| help.contains("repeat the command")));
        let busy = || StoreError::Busy("another process writes".to_owned());
        assert!(CliError::from(busy()).help(false).is_some_and(|help| help.contains("repeat the command")));
        assert!(CliError::from(RunError::Store(busy())).help(false).is_some_and(|help| help.contains("did not start")));
        let unknown = CliError::from(StoreError::Unknown("no answer".to_owned()));
        assert!(unknown.help(false).is_some_and(|help| help.contains("may have been done")));
        let host = CliError::from(RunError::Store(StoreError::Unavailable("refused".to_owned())));
        assert!(host.help(false).is_some_and(|help| help.contains("did not start")));
    }
}
