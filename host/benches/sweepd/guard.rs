//! What the guard costs: with effects and a budget, with trash, in a plan, and
//! how soon it interrupts.

use std::fs::{self, File};
use std::ops::Range;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use sweepd::domain::budget::{Allowance, Budget};
use sweepd::domain::foreseen::Foreseen;
use sweepd::domain::job::{JobId, JobSpec};
use sweepd::domain::ledger::Others;
use sweepd::domain::time::Clock;
use sweepd::domain::trash::{PurgeRate, Trash};
use sweepd::plugin::{CallFailed, ExecutorInstance};
use sweepd::runner::Simulation;
use sweepd::sandbox::{Custody, Gate, Lease};
use tempfile::TempDir;

use super::plain::Plain;
use super::report::{Report, median};
use super::world;

fn rounds() -> usize {
    world::sized(8, 1)
}

/// In so many lots the files of a round are removed, the sides in turn: whatever
/// else the machine does meanwhile, it does to all of them.
const LOTS: usize = 40;

/// Files in the folder that is planned over.
fn planned() -> usize {
    world::sized(1_000_000, 1000)
}
/// One in so many is old.
const OLD: usize = 100;

pub(crate) fn measure(report: &mut Report) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let _entered = runtime.enter();
    for (name, files, size, tax, trash) in [
        ("synced 4 KiB files", world::sized(4_000, 80), 4096, 0.04, None),
        ("empty files", world::sized(20_000, 80), 0, 0.20, Some(0.5)),
    ] {
        removals(report, name, files, size, tax, trash);
    }
    interrupts(report);
}

/// What a simulation costs.
pub(crate) fn measure_plan(report: &mut Report) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    plan(report, runtime.handle());
}

/// Who removes the files.
const NATIVE: usize = 0;
const PLAIN: usize = 1;
const GUARDED: usize = 2;
const TRASHING: usize = 3;

fn removals(report: &mut Report, name: &str, files: usize, size: usize, tax: f64, trash: Option<f64>) {
    let component = world::component("video-clear");
    let folders: Vec<TempDir> = (0..4).map(|_| world::folder()).collect();
    let folder = |which: usize| folders[which].path();
    let mut plain = Plain::new(&component, folder(PLAIN));
    let mut guarded = Guarded::new(folder(GUARDED), None);
    let keep = Trash { keep: Duration::from_hours(1), min_free: None, rate: PurgeRate { files: 1000, bytes: 1 << 30 } };
    let mut trashing = Guarded::new(folder(TRASHING), Some(keep));
    let mut took = [const { Vec::new() }; 4];
    for round in 0..rounds() {
        (0..4).for_each(|which| world::make_files(folder(which), files, size, size > 0));
        let mut spent = [Duration::ZERO; 4];
        for lot in 0..LOTS {
            let numbers = lot * files / LOTS..(lot + 1) * files / LOTS;
            for turn in 0..4 {
                // Who goes first alternates, so that nobody always gets the warmer disk.
                let which = (turn + lot + round) % 4;
                let began = Instant::now();
                match which {
                    NATIVE => remove_natively(folder(NATIVE), numbers.clone()),
                    PLAIN => numbers.clone().for_each(|number| plain.execute(&world::task(number))),
                    GUARDED => guarded.remove(numbers.clone()),
                    _ => trashing.remove(numbers.clone()),
                }
                spent[which] += began.elapsed();
            }
        }
        for (took, spent) in took.iter_mut().zip(spent) {
            took.push(spent.as_secs_f64() * 1e6 / files as f64);
        }
        let _ = fs::remove_dir_all(folder(TRASHING).join(".sweepd-trash"));
        trashing = Guarded::new(folder(TRASHING), Some(keep));
    }
    let ratios = |a: usize, b: usize| median(took[a].iter().zip(&took[b]).map(|(a, b)| a / b).collect());
    let each = |which: usize| median(took[which].clone());
    let detail = format!(
        "a file: {:.1} µs native, {:.1} µs by plain WASI, {:.1} µs guarded, {:.1} µs into the trash; rates of the native loop: {:.2}, {:.2}, {:.2}",
        each(NATIVE),
        each(PLAIN),
        each(GUARDED),
        each(TRASHING),
        ratios(NATIVE, PLAIN),
        ratios(NATIVE, GUARDED),
        ratios(NATIVE, TRASHING),
    );
    let what = format!("guard, effects and budget: tax on {name}");
    report.at_most(&what, ratios(GUARDED, PLAIN) - 1.0, tax, "ratio", detail);
    if let Some(goal) = trash {
        let detail = "effects, budget and trash, of plain WASI".to_owned();
        report.at_least(&format!("rate into the trash, {name}"), ratios(PLAIN, TRASHING), goal, "ratio", detail);
    }
}

fn remove_natively(folder: &Path, numbers: Range<usize>) {
    for number in numbers {
        fs::remove_file(folder.join(world::key(number))).expect("the file goes");
    }
}

/// video-clear behind the guard, with a budget that is never reached.
struct Guarded {
    instance: ExecutorInstance,
    #[allow(dead_code, reason = "held, not read: its effects are written there")]
    journal: TempDir,
}

impl Guarded {
    fn new(folder: &Path, trash: Option<Trash>) -> Self {
        let compiler = world::compiler(None);
        let generation = world::generation(&compiler, "video-clear");
        let most = Allowance { files: Some(u64::MAX), bytes: Some(u64::MAX), share: None, made: None, written: None };
        let budget = Budget { sweep: most, hour: most };
        let job = JobSpec { budget, trash, ..world::job(world::component("video-clear"), folder, 1) };
        let journal = world::folder();
        let custody = world::custody(&Arc::new(job), journal.path());
        custody.meter.begin_sweep(Others::default(), false);
        let gate = Gate::new(Lease::endless());
        let instance = ExecutorInstance::start(&custody, &generation, &gate).expect("an instance");
        Self { instance, journal }
    }

    fn remove(&mut self, numbers: Range<usize>) {
        for number in numbers {
            world::done(self.instance.execute(&world::task(number)));
        }
    }
}

/// A policy by age over a large flat folder, against a native walk that also
/// asks for every file's time.
fn plan(report: &mut Report, runtime: &tokio::runtime::Handle) {
    let folder = world::folder();
    world::make_files(folder.path(), planned(), 0, false);
    let old = SystemTime::now() - Duration::from_hours(48);
    for number in (0..planned()).step_by(OLD) {
        File::options()
            .write(true)
            .open(folder.path().join(world::key(number)))
            .and_then(|file| file.set_modified(old))
            .expect("it ages");
    }
    let compiler = world::compiler(None);
    let generation = world::generation(&compiler, "guests/finds_old");
    let mut job = world::job(world::component("guests/finds_old"), folder.path(), 1);
    job.config.insert("seconds".to_owned(), "86400".to_owned());
    let job = Arc::new(job);
    let limit = i64::try_from(old.elapsed().map_or(0, |age| age.as_secs())).unwrap_or(0) / 2;
    let (mut ratios, mut walks, mut plans) = (Vec::new(), Vec::new(), Vec::new());
    let before = resident();
    for round in 0..world::sized(4, 1) {
        let mut took = [0.0; 2];
        for which in [round % 2, 1 - round % 2] {
            let began = Instant::now();
            let found =
                if which == 0 { walk_natively(folder.path(), limit) } else { plan_once(&job, &generation, runtime) };
            took[which] = began.elapsed().as_secs_f64();
            assert_eq!(found, planned() / OLD);
        }
        walks.push(took[0] * 1e6 / planned() as f64);
        plans.push(took[1] * 1e6 / planned() as f64);
        ratios.push(took[0] / took[1]);
    }
    let grown = resident().saturating_sub(before) >> 20;
    let detail = format!(
        "{} files, {} of them removed in the plan; a file: {:.2} µs walk with stat, {:.2} µs plan; resident memory grew by {grown} MiB",
        planned(),
        planned() / OLD,
        median(walks),
        median(plans),
    );
    report.at_least("rate of a plan of a native walk with stat", median(ratios), 0.5, "ratio", detail);
}

fn walk_natively(folder: &Path, limit: i64) -> usize {
    let now = i64::try_from(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |now| now.as_secs()))
        .unwrap_or(0);
    let old = |entry: std::io::Result<fs::DirEntry>| {
        let metadata = entry.and_then(|entry| entry.metadata()).expect("a file");
        metadata.is_file() && now - metadata.mtime() > limit
    };
    fs::read_dir(folder).expect("the folder").filter(|_| true).map(old).filter(|old| *old).count()
}

fn plan_once(
    job: &Arc<JobSpec>,
    generation: &Arc<sweepd::plugin::Generation>,
    runtime: &tokio::runtime::Handle,
) -> usize {
    let custody = Custody::simulated(Arc::clone(job), JobId(0), Clock::system());
    let simulation = Simulation {
        store: None,
        custody,
        generation: Arc::clone(generation),
        now: Clock::system().now(),
        scan: true,
        limit: None,
        gate: Gate::new(Lease::endless()),
    };
    let mut removed = 0;
    let told = &mut |foreseen| removed += usize::from(matches!(foreseen, Foreseen::Effect(_)));
    simulation.run(runtime, told).expect("a plan");
    removed
}

/// Resident memory of this process, in bytes.
fn resident() -> u64 {
    let statm = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0);
    pages * 4096
}

/// How long after its deadline a call that does not end is ended.
fn interrupts(report: &mut Report) {
    const DEADLINE: Duration = Duration::from_millis(50);
    let compiler = world::compiler(None);
    for (what, guest) in [("an endless loop", "guests/loops"), ("a sleep", "guests/sleeps")] {
        let (folder, journal) = (world::folder(), world::folder());
        let generation = world::generation(&compiler, guest);
        let mut job = world::job(world::component(guest), folder.path(), 1);
        job.limits.task_deadline = DEADLINE;
        let custody = world::custody(&Arc::new(job), journal.path());
        let mut late: Vec<f64> = Vec::new();
        for number in 0..world::sized(200, 2) {
            let gate = Gate::new(Lease::endless());
            let mut instance = ExecutorInstance::start(&custody, &generation, &gate).expect("an instance");
            let began = Instant::now();
            let attempted = instance.execute(&world::task(number));
            late.push((began.elapsed().as_secs_f64() - DEADLINE.as_secs_f64()) * 1e3);
            assert!(matches!(attempted.answer, Err(CallFailed::Crash(_))), "it has no end of its own");
        }
        late.sort_by(f64::total_cmp);
        let detail = format!("median {:.1} ms, of {} calls", late[late.len() / 2], late.len());
        report.at_most(
            &format!("interrupting {what}, after its deadline, p99"),
            late[late.len() * 99 / 100],
            20.0,
            "ms",
            detail,
        );
    }
}
