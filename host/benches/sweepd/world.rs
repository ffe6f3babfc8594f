//! What the measures share: real components, real folders, a job.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sweepd::domain::budget::Budget;
use sweepd::domain::job::{Isolation, JobId, JobName, JobSpec, Limits, Mount};
use sweepd::domain::outcome::Outcome;
use sweepd::domain::retry::RetryPolicy;
use sweepd::domain::rights::Rights;
use sweepd::domain::task::{ClaimedTask, Fence, Key, TaskId};
use sweepd::domain::time::{Clock, Timestamp};
use sweepd::plugin::{Attempted, CacheOptions, CompileLimits, Compiler, CompilerOptions, EngineOptions, Generation};
use sweepd::sandbox::{Custody, Journal, Noted, Room};
use tempfile::TempDir;

static QUICK: AtomicBool = AtomicBool::new(false);

/// From now on everything is measured at its smallest: to see that it works, not
/// how fast it is.
pub(crate) fn be_quick() {
    QUICK.store(true, Ordering::Relaxed);
}

/// Whether the numbers mean nothing.
pub(crate) fn is_quick() -> bool {
    QUICK.load(Ordering::Relaxed)
}

/// The first, or the second where everything is measured at its smallest.
pub(crate) fn sized<T>(full: T, quick: T) -> T {
    if is_quick() { quick } else { full }
}

/// A component that `cargo xtask plugins` built.
pub(crate) fn component(name: &str) -> PathBuf {
    let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../target/plugins")).join(format!("{name}.wasm"));
    assert!(path.exists(), "{} is missing: run `cargo xtask plugins`", path.display());
    path
}

/// A folder on the disk that the target folder is on: a temporary one may be in memory.
pub(crate) fn folder() -> TempDir {
    let target = concat!(env!("CARGO_MANIFEST_DIR"), "/../target");
    tempfile::Builder::new().prefix("bench-").tempdir_in(target).expect("a folder can be made")
}

/// The number that bench keys carry.
pub(crate) fn key(number: usize) -> String {
    format!("video-{number:06}")
}

/// Makes `count` files of `size` bytes; with `synced`, their blocks are on the disk.
pub(crate) fn make_files(folder: &Path, count: usize, size: usize, synced: bool) {
    let bytes = vec![7; size];
    for number in 0..count {
        let mut file = File::create(folder.join(key(number))).expect("a file can be made");
        file.write_all(&bytes).expect("a file can be written");
    }
    if synced {
        rustix::fs::syncfs(File::open(folder).expect("the folder opens")).expect("the disk syncs");
    }
}

/// A job over one folder, with the defaults that users get.
pub(crate) fn job(plugin: PathBuf, folder: &Path, concurrency: usize) -> JobSpec {
    JobSpec {
        name: JobName::new("bench").expect("a name"),
        plugin,
        labels: Vec::new(),
        interval: Duration::from_secs(3),
        schedule: None,
        capacity: 500,
        concurrency,
        max_sweep: Duration::from_secs(30),
        max_postponed: Duration::from_hours(24),
        mounts: vec![Mount {
            host: folder.to_owned(),
            was_there: true,
            guest: "/".to_owned(),
            rights: Rights::RW,
            cross_mounts: false,
        }],
        budget: Budget::default(),
        preflight: false,
        trash: None,
        limits: Limits {
            memory: 64 << 20,
            memories: 20,
            tables: 100,
            table_elements: 1_000_000,
            instances: 100,
            fuel: None,
            answer: 16 << 20,
            descriptors: 256,
            folder_entries: 10_000_000,
            dispatch_deadline: Duration::from_secs(10),
            task_deadline: Duration::from_secs(30),
            output: 64 << 10,
            output_rate: 1 << 20,
            tasks_per_instance: 10_000,
            changes: 1_000_000,
            written: 1 << 30,
        },
        retry: RetryPolicy { max_attempts: 5, backoff: Duration::from_secs(5), max_backoff: Duration::from_mins(1) },
        breaker: 10,
        isolation: Isolation::Thread,
        config: BTreeMap::new(),
    }
}

/// A claimed task, as a sweep would hand it to an executor.
pub(crate) fn task(number: usize) -> ClaimedTask {
    ClaimedTask {
        id: TaskId(number as u64 + 1),
        fence: Fence(1),
        key: Key::new(key(number)).expect("a key"),
        payload: None,
        attempt: 1,
        losses: 0,
        enqueued_at: Timestamp(0),
        postponed_since: None,
        removed: 0,
    }
}

/// The custody of a job's files, with a journal in `folder`.
pub(crate) fn custody(job: &Arc<JobSpec>, folder: &Path) -> Arc<Custody> {
    let journal = Journal::begin(&folder.join("journal")).expect("a journal");
    // Nobody takes chunks: what a call did comes with its answer.
    let (chunks, _) = tokio::sync::mpsc::channel(1);
    Custody::new(Arc::clone(job), JobId(1), journal, Arc::new(Room::endless()), Clock::system(), chunks)
}

/// The attempt went well, and its effects are in the database, so to speak.
pub(crate) fn done(attempted: Attempted) {
    let outcome = attempted.answer.expect("no crash").expect("no failure");
    assert!(matches!(outcome, Outcome::Done(_)), "{outcome:?}");
    for recorded in attempted.effects {
        recorded.part().1.into_iter().for_each(Noted::settle);
    }
}

/// A compiler as a host has one; with a folder it keeps what it compiled.
pub(crate) fn compiler(folder: Option<&Path>) -> Compiler {
    let cache = folder.map(|folder| CacheOptions {
        folder: folder.join("compiled"),
        key: folder.join("compiled.key"),
        max: u64::MAX,
    });
    let program = PathBuf::from(env!("CARGO_BIN_EXE_sweepd"));
    let limits = CompileLimits { time: Duration::from_mins(2), memory: 6 << 30 };
    let options = CompilerOptions { engine: EngineOptions::default(), program, cache, max_compiled: u64::MAX, limits };
    Compiler::new(options).expect("an engine")
}

/// A generation of a built component.
pub(crate) fn generation(compiler: &Compiler, name: &str) -> Arc<Generation> {
    let bytes = Arc::new(fs::read(component(name)).expect("the component reads"));
    // A thread of its own: the caller's may drive a runtime.
    let load = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(compiler.compile(bytes, false)).expect("the component loads")
    };
    let plugin = std::thread::scope(|scope| scope.spawn(load).join().expect("no panic"));
    Arc::new(Generation::new(1, plugin, Clock::system().now(), false))
}
