//! What tests switch on in a debug build. In a release build all
//! of it is constant and compiled to nothing.
//!
//! A [`Mutant`] is a mistake that this code could have: `SWEEPD_MUTANT` names
//! the one that is made, to show that the test would find it.
//!
//! A part of the host is *killed*, panics, when a file of its name is put into
//! the folder that `SWEEPD_KILL` names.
//!
//! The *trace* is a file to which every node appends what it executes, one line
//! a write, so that the lines of all nodes stand in one order: `SWEEPD_TRACE`
//! names it. Beside it is a folder with a lock file a key, for which the keys
//! have to be file names.
//!
//! | line | written |
//! |---|---|
//! | `start KEY FENCE PID AT TASK ATTEMPT PAYLOAD` | before the guest is called |
//! | `work KEY FENCE PID AT` | under the permit of a mutation, before it is made |
//! | `held KEY FENCE PID AT FENCE PID AT` | the same, but another has the key's lock: who |
//! | `end KEY FENCE PID AT TASK OUTCOME` | after the guest's call |
//! | `lost PID` | when the node learnt that its lease was lost |
//!
//! The *clock*: `SWEEPD_CLOCK` names a file with the number of milliseconds by which
//! this process takes the machine's clock to be ahead; a test changes it while the
//! host runs. It is in the state folder, which stays within reach.
//!
//! `AT` is when it was allowed to begin, in nanoseconds of boot time: taken
//! before gate and lease were asked. A node that is stopped between there and
//! the write continues with what it was allowed (guarantee 5), and the line
//! comes late.

use std::cell::RefCell;
use std::env;
use std::fmt;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::process;
use std::sync::OnceLock;
use std::time::Duration;

use crate::domain::outcome::Ending;
use crate::domain::task::ClaimedTask;

const MUTANT: &str = "SWEEPD_MUTANT";
const TRACE: &str = "SWEEPD_TRACE";
const KILL: &str = "SWEEPD_KILL";
const CLOCK: &str = "SWEEPD_CLOCK";

/// Whether the environment variable of this name is read here.
pub(crate) fn reads(variable: &str) -> bool {
    cfg!(debug_assertions) && [MUTANT, TRACE, KILL, CLOCK].contains(&variable)
}

/// A mistake that can be switched on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mutant {
    /// A write-back is applied whatever the fence of the row.
    NoFenceCheck,
    /// A task that ends takes its successor with it.
    DropSuccessor,
    /// An enqueue is answered before its commit, which then takes a while.
    AcknowledgeBeforeCommit,
    /// A commit without an answer is taken for one that did not happen:
    /// whoever waits is told that nothing was stored, and what a claim may have
    /// taken is not put back.
    UnknownIsLost,
    /// A lost node costs every task that it held an attempt.
    LossIsAttempt,
    /// A guest's absolute path is opened from the root.
    HoleInTheGuard,
    /// No mistake, but time for one: a mutation lingers between its checks and
    /// its permit.
    SlowPermit,
    /// The same: it lingers under its permit, after the last check.
    SlowChange,
}

impl Mutant {
    const ALL: [(&str, Self); 8] = [
        ("no-fence-check", Self::NoFenceCheck),
        ("drop-successor", Self::DropSuccessor),
        ("acknowledge-before-commit", Self::AcknowledgeBeforeCommit),
        ("unknown-is-lost", Self::UnknownIsLost),
        ("loss-is-attempt", Self::LossIsAttempt),
        ("hole-in-the-guard", Self::HoleInTheGuard),
        ("slow-permit", Self::SlowPermit),
        ("slow-change", Self::SlowChange),
    ];
}

/// Whether this mistake is to be made. In a release build it never is.
pub(crate) fn is(mutant: Mutant) -> bool {
    cfg!(debug_assertions) && active() == Some(mutant)
}

/// Lingers where [`Mutant::SlowPermit`] is switched on.
pub(crate) fn before_permit() {
    linger(Mutant::SlowPermit);
}

/// Lingers where [`Mutant::SlowChange`] is switched on.
pub(crate) fn before_change() {
    linger(Mutant::SlowChange);
}

fn linger(mutant: Mutant) {
    if is(mutant) {
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn active() -> Option<Mutant> {
    static ACTIVE: OnceLock<Option<Mutant>> = OnceLock::new();
    *ACTIVE.get_or_init(|| {
        let wanted = env::var(MUTANT).ok()?;
        let named = Mutant::ALL.iter().find(|(name, _)| *name == wanted);
        Some(named.unwrap_or_else(|| panic!("{MUTANT}={wanted} is none of {:?}", Mutant::ALL)).1)
    })
}

/// Sets the clock of this process as the file says, if there is one.
pub(crate) fn set_clock() {
    if cfg!(debug_assertions) && env::var_os(CLOCK).is_some() {
        crate::domain::time::Clock::shift_system(clock_shift);
    }
}

fn clock_shift() -> i64 {
    static FILE: OnceLock<PathBuf> = OnceLock::new();
    let file = FILE.get_or_init(|| env::var_os(CLOCK).unwrap_or_default().into());
    // Not there is not set; a test replaces it as a whole.
    fs::read_to_string(file).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

/// The folders of the trace and of kills, which have to stay within reach.
pub(crate) fn folders() -> impl Iterator<Item = PathBuf> {
    let named = |variable| cfg!(debug_assertions).then(|| env::var_os(variable)).flatten().map(PathBuf::from);
    let trace = named(TRACE).and_then(|trace| trace.parent().map(PathBuf::from));
    trace.into_iter().chain(named(KILL))
}

/// Whether parts of the host may be asked to panic. In a release build they
/// never are.
pub(crate) fn may_kill() -> bool {
    cfg!(debug_assertions) && kills().is_some()
}

/// Panics where a file of this part's name stands in the folder of kills, and
/// removes it first.
pub(crate) fn die_if_asked(part: &str) {
    if !may_kill() {
        return;
    }
    let asked = kills().is_some_and(|folder| fs::remove_file(folder.join(part)).is_ok());
    assert!(!asked, "a test asked `{part}` to panic");
}

/// The same for the present thread, by its name.
pub(crate) fn die_here_if_asked() {
    if may_kill()
        && let Some(name) = std::thread::current().name()
    {
        die_if_asked(name);
    }
}

fn kills() -> Option<&'static PathBuf> {
    static FOLDER: OnceLock<Option<PathBuf>> = OnceLock::new();
    FOLDER.get_or_init(|| env::var_os(KILL).map(PathBuf::from)).as_ref()
}

struct Trace {
    file: File,
    locks: PathBuf,
}

fn trace() -> Option<&'static Trace> {
    static OPENED: OnceLock<Option<Trace>> = OnceLock::new();
    if !cfg!(debug_assertions) {
        return None;
    }
    OPENED.get_or_init(|| env::var_os(TRACE).map(|path| Trace::open(path.into()))).as_ref()
}

impl Trace {
    fn open(path: PathBuf) -> Self {
        let file = OpenOptions::new().create(true).append(true).open(&path).expect("the trace can be written");
        let mut locks = path.into_os_string();
        locks.push(".locks");
        fs::create_dir_all(&locks).expect("the folder of locks can be made");
        Self { file, locks: locks.into() }
    }

    fn say(&self, line: fmt::Arguments<'_>) {
        (&self.file).write_all(format!("{line}\n").as_bytes()).expect("the trace can be written");
    }
}

/// The node learnt that its lease was lost.
pub(crate) fn lease_lost() {
    if let Some(trace) = trace() {
        trace.say(format_args!("lost {}", process::id()));
    }
}

thread_local! {
    /// Key and fence of what this thread executes.
    static EXECUTED: RefCell<Option<(String, u64)>> = const { RefCell::new(None) };
}

/// One execution, for the trace.
pub(crate) struct Execution<'t>(Option<(&'static Trace, &'t ClaimedTask, u64)>);

impl<'t> Execution<'t> {
    /// Of this task, about to be allowed.
    pub(crate) fn of(task: &'t ClaimedTask) -> Self {
        Self(trace().map(|trace| (trace, task, boot_time())))
    }

    /// Its guest is called next, on this thread.
    pub(crate) fn start(&self) {
        let Some((trace, task, at)) = self.0 else { return };
        let (key, fence, payload) = (&task.key, task.fence.0, task.payload.as_ref().map_or("-", |text| text.as_str()));
        trace.say(format_args!("start {key} {fence} {} {at} {} {} {payload}", process::id(), task.id, task.attempt));
        EXECUTED.set(Some((key.to_string(), fence)));
    }

    /// It has ended; nothing is said of one that was not started.
    pub(crate) fn end(self, ending: &Ending) {
        let Some((trace, task, _)) = self.0 else { return };
        if EXECUTED.take().is_none() {
            return;
        }
        let outcome = match ending {
            Ending::Answered(Ok(_)) => "done",
            Ending::Answered(Err(_)) => "failed",
            Ending::Crashed(_) => "crashed",
            Ending::Held { .. } => "held",
            Ending::Stopped
            | Ending::Interrupted
            | Ending::OverBudget
            | Ending::NotStarted(_)
            | Ending::Untried(_)
            | Ending::Hindered => "stopped",
        };
        let (key, fence, at) = (&task.key, task.fence.0, boot_time());
        trace.say(format_args!("end {key} {fence} {} {at} {} {outcome}", process::id(), task.id));
    }
}

/// A mutation that is about to ask for its permit, for the trace.
pub(crate) struct Mutation(Option<(&'static Trace, u64)>);

/// The lock of a key, for as long as one mutation takes.
#[derive(Debug)]
pub(crate) struct KeyLock {
    #[allow(dead_code, reason = "held, not read: closing the file is its use")]
    file: File,
}

impl Mutation {
    /// Before it asks.
    pub(crate) fn asks() -> Self {
        Self(trace().map(|trace| (trace, boot_time())))
    }

    /// It may be made now, and ends with what this answers. `None` where
    /// nothing is traced, or somebody else has the lock: it goes on all the
    /// same, for a trace changes nothing.
    pub(crate) fn permitted(self) -> Option<KeyLock> {
        let (trace, at) = self.0?;
        EXECUTED.with_borrow(|executed| {
            let (key, fence) = executed.as_ref()?;
            let (lock, other) = KeyLock::take(trace, key, &format!("{fence} {} {at}", process::id()));
            match other {
                None => trace.say(format_args!("work {key} {fence} {} {at}", process::id())),
                Some(other) => trace.say(format_args!("held {key} {fence} {} {at} {other}", process::id())),
            }
            lock
        })
    }
}

impl KeyLock {
    /// The lock, or the words of who has it.
    fn take(trace: &Trace, key: &str, owner: &str) -> (Option<Self>, Option<String>) {
        let path = trace.locks.join(key);
        let mut options = OpenOptions::new();
        let file = options.create(true).truncate(false).read(true).write(true).open(&path).expect("a lock file opens");
        match file.try_lock() {
            Ok(()) => {
                // Padded, so that nothing is left of longer words.
                file.write_all_at(format!("{owner:<64}").as_bytes(), 0).expect("a lock file can be written");
                (Some(Self { file }), None)
            }
            Err(TryLockError::WouldBlock) => {
                let other = fs::read_to_string(&path).expect("a lock file can be read");
                (None, Some(other.trim_end().to_owned()))
            }
            Err(TryLockError::Error(error)) => panic!("{}: {error}", path.display()),
        }
    }
}

/// Nanoseconds since the machine was started, the same on all nodes of one
/// machine.
fn boot_time() -> u64 {
    #[cfg(target_os = "linux")]
    let clock = rustix::time::ClockId::Boottime;
    #[cfg(not(target_os = "linux"))]
    let clock = rustix::time::ClockId::Monotonic;
    let now = rustix::time::clock_gettime(clock);
    u64::try_from(now.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0)
}
