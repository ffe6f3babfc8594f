//! `sweepd run`: the host itself.

use std::process::ExitCode;
use std::sync::Arc;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::config::{Absent, Config};
use crate::domain::node::{LeaseTerm, NewNode};
use crate::domain::time::Clock;
use crate::domain::wall::{Enforced, WallStatus};
use crate::http;
use crate::runner::{Host, HostSpec};
use crate::store::SharedStore;
use crate::supervise;

use super::screen::Screen;

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

/// Runs the host until SIGTERM or ctrl-c; a second signal ends it at once.
pub(super) async fn run(config: Config, absent: &[Absent], wall: WallStatus) -> Result<ExitCode, RunError> {
    tell_of(absent, &wall);
    // The address first: a second instance must end before it touches anything.
    let address = config.server.listen;
    let listener = http::bind(address).map_err(|source| RunError::Listen { address, source })?;
    let listening = listener.local_addr().map_err(system("reading the listening address"))?;
    let mut signals = Signals::new().map_err(system("installing signal handlers"))?;

    crate::sandbox::make_room_to_begin(&config.state, &config.cache);
    let store = super::store::open_host(&config).await?;
    let host = start(&config, wall, Arc::clone(&store)).await?;
    announce(&config, listening);

    let (stop, mut stopped) = watch::channel(false);
    let shutdown = async move { crate::stop::told(&mut stopped).await };
    let options = http::ServerOptions::from(&config.server);
    let mut server = supervise::attended("http", http::serve(listener, Arc::clone(&host), options, shutdown));

    let code = tokio::select! {
        () = signals.next() => ExitCode::SUCCESS,
        ended = &mut server => {
            tracing::error!("the HTTP server ended: {ended:?}");
            ExitCode::FAILURE
        }
        why = supervise::failed() => {
            tracing::error!("the host ends, for it cannot do without a part of it: {why}");
            ExitCode::FAILURE
        }
    };
    tracing::info!(grace = ?config.shutdown_grace, "stopping; a second signal ends at once");
    stop.send_replace(true);
    tokio::select! {
        () = async {
            host.shut_down(config.shutdown_grace).await;
            if !server.is_finished() {
                let _ = server.await;
            }
        } => {}
        () = signals.next() => {
            tracing::warn!("ended by a second signal: what ran is queued again at the next start");
            return Ok(ExitCode::FAILURE);
        }
    }
    tracing::info!("stopped");
    Ok(code)
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

/// SIGTERM and ctrl-c.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
