//! The nodes: real binaries, each with a folder of its own, all with the same
//! files and the same trace.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use fastrand::Rng;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use super::line::Trace;
use super::troubles::{self, Before, LogReader, Trouble};
use crate::small_disk::SmallDisk;
use crate::support::{Site, guest};

/// The job's name.
pub(super) const JOB: &str = "torture";

/// As short as it may be, so that much fits into a run.
pub(super) const LEASE: Duration = Duration::from_secs(1);

/// The test's own variables, which a node would take for overrides of its
/// configuration.
pub(super) const VARIABLES: [&str; 3] = ["SWEEPD_SEED", "SWEEPD_TORTURE_MINUTES", "SWEEPD_TORTURE_DATABASE"];

/// What all nodes share: the mounted files, the compiled guest, the trace.
pub(super) struct Ground {
    folder: TempDir,
    pub(super) trace: Trace,
}

impl Ground {
    pub(super) fn new() -> Self {
        let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target").canonicalize().expect("the target folder");
        let folder = tempfile::Builder::new().prefix("torture-").tempdir_in(target).expect("a folder");
        fs::create_dir(folder.path().join("files")).expect("a folder");
        let trace = Trace::at(folder.path().join("trace"));
        Self { folder, trace }
    }

    /// Keeps the trace, and answers where, for whoever looks into a failure.
    pub(super) fn keep(self) -> PathBuf {
        self.folder.keep()
    }
}

/// Where a node listens; nowhere while it is down.
pub(super) type Address = Arc<Mutex<Option<SocketAddr>>>;

/// One node, alive or not.
pub(super) struct Node {
    name: String,
    /// That of its state folder: unmounted before the folder goes.
    _disk: SmallDisk,
    site: Site,
    trace: PathBuf,
    mutant: Option<&'static str>,
    child: Option<Child>,
    address: Address,
    /// Where it listens while it is stopped.
    away: Option<SocketAddr>,
    /// Who reads its log.
    log: LogReader,
}

impl Node {
    /// A node that is down. Without a URL it has the SQLite file of its own.
    pub(super) fn new(name: &str, ground: &Ground, url: Option<&str>, mutant: Option<&'static str>) -> Self {
        let site = Site::new();
        site.install(&guest("tortured"));
        let shared = ground.folder.path();
        let database = url.map_or_else(String::new, |url| format!("[database]\nurl = \"{url}\"\n"));
        let text = format!(
            "node = \"{name}\"\nlease = \"{}ms\"\nshutdown_grace = \"2s\"\nstate_min_free = \"0B\"\ncache = \"{}\"\n\
             [server]\nlisten = \"127.0.0.1:0\"\n{database}\
             [[job]]\nname = \"{JOB}\"\nplugin = \"plugins/plugin.wasm\"\nmounts = [\"{}\"]\n\
             interval = \"100ms\"\ncapacity = 16\nconcurrency = 4\n\
             [job.retry]\nmax_attempts = 10\nbackoff = \"20ms\"\nmax_backoff = \"100ms\"\n",
            LEASE.as_millis(),
            shared.join("cache").display(),
            shared.join("files").display(),
        );
        fs::write(site.path().join("sweepd.toml"), text).expect("the configuration writes");
        let (trace, address) = (ground.trace.path().to_owned(), Address::default());
        // Enough for a log of the database that is copied back late, and soon filled.
        let disk = SmallDisk::tmpfs(&site.path().join("state"), "size=112m,mode=700");
        let (name, log) = (name.to_owned(), LogReader::default());
        Self { name, site, trace, mutant, child: None, address, away: None, log, _disk: disk }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn address(&self) -> &Address {
        &self.address
    }

    pub(super) fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Starts it, if it does not run, without waiting until it listens: without
    /// its database it ends before.
    pub(super) fn tend(&mut self) {
        if self.child.as_mut().is_some_and(|child| child.try_wait().expect("it can be waited for").is_none()) {
            return;
        }
        let mut command = self.site.command(&["run", "--log-format", "json", "--log", "warn"]);
        command.env("SWEEPD_TRACE", &self.trace).env("SWEEPD_CLOCK", self.clock());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        for variable in VARIABLES {
            command.env_remove(variable);
        }
        if let Some(mutant) = self.mutant {
            command.env("SWEEPD_MUTANT", mutant);
        }
        let mut child = command.spawn().expect("the binary starts");
        let stdout = child.stdout.take().expect("a pipe");
        self.log = LogReader::of(child.stderr.take().expect("a pipe"), &self.site.path().join("log"));
        let address = Arc::clone(&self.address);
        thread::spawn(move || listens(stdout, &address));
        self.child = Some(child);
    }

    /// kill -9.
    pub(super) fn kill(&mut self) {
        self.away = None;
        if let Some(mut child) = self.child.take() {
            child.kill().expect("it is killed");
            child.wait().expect("it ends");
        }
    }

    /// SIGSTOP. As before a load balancer, no new requests come, and those that
    /// are under way hang.
    pub(super) fn stop(&mut self) {
        self.signal(Signal::STOP);
        self.away = self.address.lock().expect("nobody panics with it").take();
    }

    /// SIGCONT.
    pub(super) fn go_on(&mut self) {
        if let Some(address) = self.away.take() {
            *self.address.lock().expect("nobody panics with it") = Some(address);
        }
        self.signal(Signal::CONT);
    }

    /// Brings it into trouble; answers how to end that, if it could.
    pub(super) fn trouble(&self, trouble: Trouble, random: &mut Rng) -> Option<Remedy> {
        match trouble {
            Trouble::LogStalls => self.log.stall(),
            Trouble::LogCloses => self.log.close(),
            Trouble::DiskFull => troubles::fill(&self.state()),
            Trouble::ClockJumps => {
                let ahead = random.i64(1_000..3_600_000);
                troubles::set_clock(&self.clock(), if random.bool() { ahead } else { -ahead });
            }
            Trouble::NoDescriptors => {
                let pid = self.pid()?;
                return Some(Remedy::Descriptors(pid, troubles::take_descriptors(pid)?));
            }
        }
        Some(Remedy::Of(trouble))
    }

    /// Puts it right.
    pub(super) fn remedy(&self, remedy: &Remedy) {
        match remedy {
            Remedy::Descriptors(pid, before) => troubles::give_descriptors(*pid, *before),
            Remedy::Of(Trouble::LogStalls) => self.log.go_on(),
            Remedy::Of(Trouble::DiskFull) => troubles::empty(&self.state()),
            Remedy::Of(Trouble::ClockJumps) => troubles::set_clock(&self.clock(), 0),
            Remedy::Of(Trouble::LogCloses | Trouble::NoDescriptors) => {}
        }
    }

    fn state(&self) -> PathBuf {
        self.site.path().join("state")
    }

    fn clock(&self) -> PathBuf {
        self.state().join("clock")
    }

    fn signal(&self, signal: Signal) {
        if let Some(pid) = self.pid().and_then(|pid| Pid::from_raw(pid.cast_signed())) {
            kill_process(pid, signal).expect("the signal is sent");
        }
    }

    /// Whether it answers and has the guest loaded.
    pub(super) fn serves(&self) -> bool {
        self.status().is_some_and(|status| status["slot"]["generation"].is_object())
    }

    /// What it says of the job, if it answers.
    pub(super) fn status(&self) -> Option<Value> {
        let address = (*self.address.lock().expect("nobody panics with it"))?;
        let agent: ureq::Agent =
            ureq::Agent::config_builder().timeout_global(Some(Duration::from_secs(3))).build().into();
        let mut response = agent.get(format!("http://{address}/v1/jobs/{JOB}")).call().ok()?;
        serde_json::from_str(&response.body_mut().read_to_string().ok()?).ok()
    }

    /// What it has logged.
    pub(super) fn log(&self) -> String {
        fs::read_to_string(self.site.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
    }
}

/// How a trouble is ended.
#[derive(Clone, Debug)]
pub(super) enum Remedy {
    /// Of this process, unless it is gone.
    Descriptors(u32, Before),
    Of(Trouble),
}

/// Follows a node's life by what it prints: it listens, until it prints no
/// more.
fn listens(stdout: ChildStdout, address: &Address) {
    let mut mine = None;
    for line in BufReader::new(stdout).lines().map_while(Result::ok) {
        if let Some((_, listens)) = line.split_once("listens on http://") {
            mine = listens.trim().parse().ok();
            *address.lock().expect("nobody panics with it") = mine;
        }
    }
    let mut address = address.lock().expect("nobody panics with it");
    // The next life may be here already.
    if *address == mine {
        *address = None;
    }
}
