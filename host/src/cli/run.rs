//! `sweepd run`: the host itself.

use std::process::ExitCode;
use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::config::{Absent, Backend, Config};
use crate::domain::descriptors::{Needs, Shares, TooFew};
use crate::domain::node::{LeaseTerm, NewNode};
use crate::domain::time::Clock;
use crate::domain::wall::{Enforced, WallStatus};
use crate::http;
use crate::limits;
use crate::runner::{Host, HostSpec};
use crate::store::SharedStore;
use crate::supervise;

use super::screen::Screen;
use super::signals::Signals;

/// Descriptors of an SQLite database: the connections that read and write, each
/// with a file and its log, what they share, a lock, and a reserve.
const OF_SQLITE: u64 = 24;

/// Connections to a server besides the pool's: to listen, and to migrate.
const BESIDE_POOL: u64 = 4;

/// Why the host did not start or did not go on.
#[derive(Debug, thiserror::Error)]
pub(super) enum RunError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}{}", if source.kind() == std::io::ErrorKind::AddrInUse { "; is another sweepd running? set server.listen to another address" } else { "; see server.listen" })]
    Listen {
        /// The address.
        address: std::net::SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// Too few files may be open.
    #[error(
        "only {limit} files may be open at a time, and this configuration needs {least}: raise the hard limit (ulimit \
         -Hn, LimitNOFILE=), or lower job.concurrency, job.limits.descriptors or database.max_connections"
    )]
    Descriptors {
        /// How many may be.
        limit: u64,
        /// How many would do.
        least: u64,
    },
    /// The database cannot be used.
    #[error(transparent)]
    Store(#[from] crate::store::StoreError),
    /// The engine could not be started.
    #[error(transparent)]
    Engine(#[from] crate::plugin::EngineError),
    /// Something of the system failed.
    #[error("{what}: {source}")]
    System {
        /// What was done.
        what: &'static str,
        /// Why it failed.
        source: std::io::Error,
    },
}

fn system(what: &'static str) -> impl FnOnce(std::io::Error) -> RunError {
    move |source| RunError::System { what, source }
}

/// Runs the host until SIGTERM, ctrl-c or SIGHUP; a second one of the first two
/// ends it at once. `outlives_terminal`: SIGHUP is nothing to it.
pub(super) async fn run(
    mut config: Config,
    absent: &[Absent],
    wall: WallStatus,
    outlives_terminal: bool,
) -> Result<ExitCode, RunError> {
    tell_of(absent, &wall);
    // The address first: a second instance must end before it touches anything.
    let address = config.server.listen;
    let listener = http::bind(address).map_err(|source| RunError::Listen { address, source })?;
    let listening = listener.local_addr().map_err(system("reading the listening address"))?;
    tracing::info!("listening on http://{listening}, starting");
    let mut signals = Signals::new(outlives_terminal).map_err(system("installing signal handlers"))?;
    share_descriptors(&mut config)?;
    tell_of_file_size();
    let options = http::ServerOptions::from(&config.server);
    let config = Arc::new(config);

    // On a task of its own: a disk that hangs must not keep the signals waiting.
    let beginning = Stopped(supervise::attended("start", begin(Arc::clone(&config), wall)));
    let begun = http::answer_until(&listener, &options, async {
        tokio::select! {
            begun = beginning.ended() => Some(begun),
            signal = signals.next() => {
                tracing::info!("stopped by {signal} while the host was starting");
                None
            }
        }
    });
    let Some(begun) = begun.await else { return Ok(ExitCode::SUCCESS) };
    let host = begun.map_err(system("starting"))??;
    announce(&config, listening);

    let (stop, mut stopped) = watch::channel(false);
    let shutdown = async move { crate::stop::told(&mut stopped).await };
    let mut server = supervise::attended("http", http::serve(listener, Arc::clone(&host), options, shutdown));

    let code = tokio::select! {
        signal = signals.next() => {
            tracing::info!(grace = ?config.shutdown_grace, "stopping for {signal}; SIGTERM or ctrl-c once more ends at once");
            ExitCode::SUCCESS
        }
        ended = &mut server => {
            tracing::error!("the HTTP server ended: {ended:?}");
            ExitCode::FAILURE
        }
        why = supervise::failed() => {
            tracing::error!("the host ends, for it cannot do without a part of it: {why}");
            ExitCode::FAILURE
        }
    };
    stop.send_replace(true);
    tokio::select! {
        () = async {
            host.shut_down(config.shutdown_grace).await;
            if !server.is_finished() {
                let _ = server.await;
            }
        } => {}
        () = signals.again() => {
            tracing::warn!("ended by a second signal: what ran is queued again at the next start");
            return Ok(ExitCode::FAILURE);
        }
    }
    tracing::info!("stopped");
    Ok(code)
}

/// A task that goes no further when this is dropped.
struct Stopped<T>(JoinHandle<T>);

impl<T> Stopped<T> {
    async fn ended(mut self) -> std::io::Result<T> {
        (&mut self.0).await.map_err(std::io::Error::other)
    }
}

impl<T> Drop for Stopped<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Opens the queue and starts the host.
async fn begin(config: Arc<Config>, wall: WallStatus) -> Result<Arc<Host>, RunError> {
    crate::sandbox::make_room_to_begin(&config.state, &config.cache);
    let store = super::start::open(&config).await?;
    start(&config, wall, store).await
}

/// Takes as many descriptors as there are to be had, and gives the database, the
/// state and the jobs theirs before connections.
fn share_descriptors(config: &mut Config) -> Result<(), RunError> {
    let limit = limits::raise_descriptors();
    let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
    let jobs: Vec<_> = config.jobs.iter().filter(|job| job.runs_on(&config.labels)).collect();
    let needs = Needs {
        database: match &config.database.backend {
            Backend::Sqlite(_) => OF_SQLITE,
            Backend::Postgres(_) | Backend::MySql(_) => u64::from(config.database.max_connections) + BESIDE_POOL,
        },
        jobs: count(jobs.len()),
        mounts: jobs.iter().map(|job| count(job.mounts.len())).sum(),
        guests: jobs.iter().map(|job| job.guests()).sum(),
        of_guest: jobs.iter().map(|job| u64::from(job.limits.descriptors)).max().unwrap_or_default(),
        connections: count(config.server.max_connections),
    };
    let Shares { of_guest, connections, tight } =
        needs.share(limit).map_err(|TooFew { least }| RunError::Descriptors { limit, least })?;
    if connections < needs.connections {
        let (asked, fewer) = (needs.connections, if of_guest < needs.of_guest { ", and guests fewer" } else { "" });
        tracing::warn!(
            "at most {limit} files may be open: {connections} connections of clients at a time instead of {asked} \
             (server.max_connections){fewer}; raise the hard limit of open files (ulimit -Hn, LimitNOFILE=)"
        );
    }
    if tight {
        tracing::warn!(
            "at most {limit} files may be open: where all guests of all jobs walk deep trees at once, some of their \
             calls fail for want of a descriptor, and are tried again; raise the hard limit of open files (ulimit -Hn, \
             LimitNOFILE=)"
        );
    }
    config.server.max_connections = usize::try_from(connections).unwrap_or(usize::MAX);
    for job in &mut config.jobs {
        let most = u32::try_from(of_guest).unwrap_or(u32::MAX);
        if job.limits.descriptors > most {
            tracing::warn!(
                job = %job.name,
                "a guest may hold {most} descriptors instead of {} (job.limits.descriptors): at most {limit} files \
                 may be open",
                job.limits.descriptors
            );
            job.limits.descriptors = most;
        }
    }
    Ok(())
}

/// Says so where files may become only so large.
fn tell_of_file_size() {
    if let Some(most) = limits::file_size() {
        let most = bytesize::ByteSize(most).display().iec();
        tracing::warn!(
            "no file of this host may become larger than {most} (ulimit -f): its database, its log and what plugins \
             write; raise that, or what is larger is refused"
        );
    }
}

/// Says which jobs wait for their mounts.
fn tell_of(absent: &[Absent], wall: &WallStatus) {
    let then = if wall.enforced == Enforced::Not {
        "the job waits for it"
    } else {
        "the job waits; the wall (sandbox.landlock) lets in only what stood there at the start: restart the host when \
         the mount is there"
    };
    for Absent { job, problem } in absent {
        let help = problem.help.as_ref().map_or_else(String::new, |help| format!("; {help}"));
        tracing::warn!(%job, "{}{help}; {then}", problem.message);
    }
}

async fn start(config: &Config, wall: WallStatus, store: SharedStore) -> Result<Arc<Host>, RunError> {
    let compiler = Arc::new(super::compile::keeping_compiler(config)?);
    let spec = HostSpec {
        node: NewNode {
            name: config.node.clone(),
            labels: config.labels.iter().map(ToString::to_string).collect(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            lease: LeaseTerm(config.lease),
        },
        labels: config.labels.clone(),
        wall,
        history: config.database.history,
        effects: config.database.effects,
        effects_max: config.database.effects_max,
        state: config.state.clone(),
        state_min_free: config.state_min_free,
        jobs: config.jobs.clone(),
    };
    Ok(Host::start(spec, store, compiler, Clock::system()).await?)
}

/// Says what a newcomer wants to know, on standard output; the log is on
/// standard error. Nobody may be reading it.
fn announce(config: &Config, listening: std::net::SocketAddr) {
    let mut text = Screen::new(Vec::new());
    let _ = writeln!(text, "sweepd {} listens on http://{listening}", env!("CARGO_PKG_VERSION"));
    for job in &config.jobs {
        let mounts: Vec<_> = job.mounts.iter().map(|mount| mount.host.display().to_string()).collect();
        let (plugin, mounts) = (job.plugin.display(), mounts.join(", "));
        let _ =
            writeln!(text, "  job {}: watches {plugin}, works in {mounts}, sweeps every {:?}", job.name, job.interval);
    }
    if let Some(job) = &config.server.video_delete_record {
        let _ = writeln!(text, "  try: curl http://{listening}/video-delete-record/VIDEO-ID   (queues it for {job})");
    }
    let _ = writeln!(text, "  see: curl http://{listening}/v1/jobs");
    super::logging::print(text);
}
