//! A place to run the real binary in: a folder with videos, plugins and a
//! configuration, and the running host itself.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

pub(crate) mod fuse;
mod starts;

/// Longer than anything that a test waits for takes on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_mins(2);

/// A component that `cargo xtask plugins` built.
pub(crate) fn plugin(name: &str) -> PathBuf {
    built(&format!("{name}.wasm"))
}

/// A test guest that `cargo xtask plugins` built.
pub(crate) fn guest(name: &str) -> PathBuf {
    built(&format!("guests/{name}.wasm"))
}

fn built(file: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/plugins").join(file);
    assert!(path.exists(), "{} is missing: run `cargo xtask plugins`", path.display());
    path
}

/// Without the variables that are meant for the tests: the host would take them
/// for its configuration.
pub(crate) fn without_ours(command: &mut Command) -> &mut Command {
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("SWEEPD_")) {
        command.env_remove(name);
    }
    command
}

/// A folder with all that a host needs.
pub(crate) struct Site {
    folder: TempDir,
    program: PathBuf,
    /// Runs the host as this user instead of the test's own.
    uid: Option<u32>,
    /// What the shell's `ulimit` is given before it starts the binary.
    limits: Option<String>,
}

/// `nobody`.
const ANOTHER_USER: u32 = 65_534;

impl Site {
    /// An empty one, on the disk that the target folder is on.
    pub(crate) fn new() -> Self {
        let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target");
        Self::below(&target.canonicalize().expect("the target folder"))
    }

    /// An empty one in a folder of this folder.
    pub(crate) fn below(parent: &Path) -> Self {
        let folder = tempfile::Builder::new().prefix("site-").tempdir_in(parent).expect("a folder");
        for part in ["videos", "plugins"] {
            fs::create_dir(folder.path().join(part)).expect("a folder");
        }
        Self { folder, program: PathBuf::from(env!("CARGO_BIN_EXE_sweepd")), uid: None, limits: None }
    }

    /// Like [`Self::with_job`]; where the tests run as root, who may write
    /// everywhere, the host runs as another user.
    pub(crate) fn for_another_user(component: &Path, more: &str) -> Self {
        let mut site = Self::below(&std::env::temp_dir());
        site.set_job(component, more);
        if rustix::process::geteuid().is_root() {
            // The other user may be unable to reach the target folder.
            let program = site.path().join("sweepd");
            fs::copy(&site.program, &program).expect("the binary copies");
            site.program = program;
            site.uid = Some(ANOTHER_USER);
            site.give_to_host();
        }
        site
    }

    /// The same, run from a copy of the binary, which can be replaced.
    pub(crate) fn with_own_program(mut self) -> Self {
        let program = self.path().join("sweepd");
        fs::copy(&self.program, &program).expect("the binary copies");
        self.program = program;
        self
    }

    /// The same, within these limits of the shell, such as `-v 4000000`.
    pub(crate) fn within(mut self, limits: &str) -> Self {
        self.limits = Some(limits.to_owned());
        self
    }

    /// Makes all that is there now the host's own.
    pub(crate) fn give_to_host(&self) {
        if self.uid.is_some() {
            chown(self.path(), ANOTHER_USER);
        }
    }

    /// Queues `video-0000000` and so on, without a host.
    pub(crate) fn fill_queue(&self, job: &str, tasks: u32) {
        use sweepd::domain::job::JobName;
        use sweepd::domain::task::{Key, NewTask};
        use sweepd::store::sqlite::{SqliteOptions, SqliteStore};
        use sweepd::store::{At, Store as _};
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        runtime.block_on(async {
            let file = self.path().join("state/sweepd.db");
            let store = SqliteStore::open(&file, SqliteOptions::host()).expect("the store opens");
            let row = store.register_job(&JobName::new(job).expect("a name")).await.expect("a job");
            let numbers: Vec<u32> = (0..tasks).collect();
            for numbers in numbers.chunks(10_000) {
                let key = |number: &u32| Key::new(format!("video-{number:07}")).expect("a key");
                let tasks = numbers.iter().map(|number| NewTask::now(key(number))).collect();
                store.enqueue(row.id, tasks, At::Server).await.expect("they are queued");
            }
            store.close().await;
        });
    }

    /// One with a job `clear` over `videos` that runs this component, and
    /// these lines more in its table.
    pub(crate) fn with_job(component: &Path, more: &str) -> Self {
        let site = Self::new();
        site.set_job(component, more);
        site
    }

    /// Installs the component and configures the job `clear` for it.
    pub(crate) fn set_job(&self, component: &Path, more: &str) {
        self.install(component);
        self.configure(&format!(
            "[[job]]\nname = \"clear\"\nplugin = \"plugins/plugin.wasm\"\nmounts = [\"videos\"]\n\
             interval = \"200ms\"\n{more}"
        ));
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn videos(&self) -> PathBuf {
        self.path().join("videos")
    }

    /// Where the job's plugin is.
    pub(crate) fn plugin_file(&self) -> PathBuf {
        self.path().join("plugins/plugin.wasm")
    }

    /// Puts a component there as `mv` would.
    pub(crate) fn install(&self, component: &Path) {
        let new = self.path().join("plugins/new.wasm");
        fs::copy(component, &new).expect("the component copies");
        fs::rename(new, self.plugin_file()).expect("the component moves");
    }

    /// Writes the configuration: these tables after those of server and host.
    pub(crate) fn configure(&self, jobs: &str) {
        let text = format!(
            "shutdown_grace = \"5s\"\n[server]\nlisten = \"127.0.0.1:0\"\nvideo_delete_record = \"clear\"\n{jobs}"
        );
        fs::write(self.path().join("sweepd.toml"), text).expect("the configuration writes");
    }

    /// Adds lines to the end of the configuration.
    pub(crate) fn append(&self, lines: &str) {
        let file = self.path().join("sweepd.toml");
        let text = fs::read_to_string(&file).expect("it is configured");
        fs::write(file, text + lines).expect("the configuration writes");
    }

    /// A command of the binary, with this site's configuration.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = match &self.limits {
            None => Command::new(&self.program),
            Some(limits) => {
                let mut shell = Command::new("sh");
                shell.args(["-c", &format!("ulimit {limits} && exec \"$0\" \"$@\"")]).arg(&self.program);
                shell
            }
        };
        without_ours(&mut command)
            .args(args)
            .arg("--config")
            .arg(self.path().join("sweepd.toml"))
            .current_dir(self.path());
        command
    }
}

/// A running host; it is killed when dropped.
pub(crate) struct Sweepd {
    child: Child,
    pub(crate) address: SocketAddr,
    log: PathBuf,
}

/// An answer: status and body.
pub(crate) type Answer = (u16, String);

impl Sweepd {
    #[allow(dead_code, reason = "only the benchmarks ask for it")]
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// One request, whatever its status.
    pub(crate) fn request(&self, method: &str, path: &str, body: Option<&Value>) -> Answer {
        self.try_request(method, path, body).unwrap_or_else(|error| panic!("{method} {path}: {error}\n{}", self.log()))
    }

    pub(crate) fn try_request(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Answer, ureq::Error> {
        let agent: ureq::Agent =
            ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(PATIENCE)).build().into();
        let url = format!("http://{}{path}", self.address);
        let builder = ureq::http::Request::builder().method(method).uri(url);
        let mut response = match body {
            Some(body) => agent
                .run(builder.header("content-type", "application/json").body(body.to_string()).expect("a request"))?,
            None => agent.run(builder.body(()).expect("a request"))?,
        };
        Ok((response.status().as_u16(), response.body_mut().read_to_string()?))
    }

    pub(crate) fn get(&self, path: &str) -> Value {
        let (status, body) = self.request("GET", path, None);
        assert_eq!(status, 200, "GET {path}: {body}");
        serde_json::from_str(&body).expect("JSON")
    }

    /// Queues keys, 10,000 a request.
    pub(crate) fn enqueue<K: AsRef<str>>(&self, job: &str, keys: &[K]) -> Vec<u64> {
        let mut ids = Vec::new();
        for keys in keys.chunks(10_000) {
            let tasks: Vec<Value> = keys.iter().map(|key| serde_json::json!({ "key": key.as_ref() })).collect();
            let (status, body) = self.request("POST", &format!("/v1/jobs/{job}/tasks"), Some(&tasks.into()));
            assert!(status == 201 || status == 200, "{status}: {body}");
            let body: Value = serde_json::from_str(&body).expect("JSON");
            ids.extend(body["tasks"].as_array().expect("tasks").iter().map(|task| task["id"].as_u64().expect("an id")));
        }
        ids
    }

    /// Whether a job has tasks in this state.
    pub(crate) fn has(&self, job: &str, state: &str) -> bool {
        let tasks = self.get(&format!("/v1/tasks?job={job}&state={state}&limit=1"));
        tasks["tasks"].as_array().is_some_and(|tasks| !tasks.is_empty())
    }

    /// Waits until nothing of a job is pending or running. Looks twice: a
    /// running task may become a pending successor between the two questions.
    pub(crate) fn drained(&self, job: &str) {
        let empty = || !self.has(job, "pending") && !self.has(job, "running");
        self.wait("the queue is drained", || empty() && empty());
    }

    /// Waits until `done` holds.
    pub(crate) fn wait(&self, what: &str, mut done: impl FnMut() -> bool) {
        let began = Instant::now();
        while !done() {
            assert!(began.elapsed() < PATIENCE, "waited in vain until {what}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits until a job serves a generation.
    pub(crate) fn serving(&self, job: &str) -> Value {
        let mut status = Value::Null;
        self.wait("a plugin serves", || {
            status = self.get(&format!("/v1/jobs/{job}"));
            status["slot"]["generation"].is_object()
        });
        status
    }

    /// All tasks of a job in this state.
    pub(crate) fn tasks(&self, job: &str, state: &str) -> Vec<Value> {
        let mut all = Vec::new();
        loop {
            let after = all.last().map_or(0, |task: &Value| task["id"].as_u64().expect("an id"));
            let page = self.get(&format!("/v1/tasks?job={job}&state={state}&limit=1000&after={after}"));
            let page = page["tasks"].as_array().expect("tasks").clone();
            if page.is_empty() {
                return all;
            }
            all.extend(page);
        }
    }

    /// Waits until the log says this: a line is written by a thread of its own,
    /// after what it tells of.
    pub(crate) fn says(&self, text: &str) {
        self.wait(&format!("the log says `{text}`"), || self.log().contains(text));
    }

    /// What the host has logged so far. What happened just now may be missing.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_raw(self.child.id().cast_signed()).expect("a process");
        rustix::process::kill_process(pid, signal).expect("the signal is sent");
    }

    /// kill -9.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("it is killed");
        self.child.wait().expect("it ends");
    }

    /// Stops it; answers all that it has logged.
    pub(crate) fn whole_log(self) -> String {
        let log = self.log.clone();
        assert_eq!(self.stop(), Some(0));
        fs::read_to_string(log).expect("the log reads")
    }

    /// SIGTERM; answers its exit code.
    pub(crate) fn stop(self) -> Option<i32> {
        self.signal(rustix::process::Signal::TERM);
        self.ended()
    }

    /// Waits until it has ended after a signal; answers its exit code.
    pub(crate) fn ended(mut self) -> Option<i32> {
        self.child.wait().expect("it ends").code()
    }
}

impl Drop for Sweepd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn chown(path: &Path, uid: u32) {
    std::os::unix::fs::lchown(path, Some(uid), Some(uid)).expect("it is given away");
    if path.is_dir() && !path.is_symlink() {
        for entry in fs::read_dir(path).expect("it lists") {
            chown(&entry.expect("an entry").path(), uid);
        }
    }
}
