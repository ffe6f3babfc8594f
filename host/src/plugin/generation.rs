//! A component, compiled, checked against the contract and ready to be
//! instantiated.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use wasmtime::component::{Component, InstancePre};

use crate::domain::digest::Digest;
use crate::domain::outcome::{cut, some_of};
use crate::domain::status::GenerationStatus;
use crate::domain::time::Timestamp;
use crate::sandbox::GuestState;

use super::bindings::{DispatcherIndices, ExecutorIndices};
use super::engine::Engine;

/// The interfaces of the contract, as exports are named.
pub(super) const DISPATCHER: &str = "sweepd:job/dispatcher@0.1.0";
pub(super) const EXECUTOR: &str = "sweepd:job/executor@0.1.0";

/// Why the host does not take a component.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// The bytes are no component.
    #[error("not a WebAssembly component: {0}")]
    NotAComponent(String),
    /// It lacks an export, or has one of another shape.
    #[error("it does not fit the contract sweepd:job@0.1.0: {0}")]
    Contract(String),
    /// It imports what no plugin gets.
    #[error("it asks for something that plugins are not given: {0}")]
    Import(String),
}

/// Which world a component implements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum World {
    /// Decides and acts.
    Job,
    /// Only acts; the host dispatches first in, first out.
    ExecutorOnly,
}

impl World {
    /// Its name in the contract.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Job => "job",
            Self::ExecutorOnly => "executor-only",
        }
    }
}

/// A component that fits the contract.
#[derive(Clone)]
pub struct Plugin {
    /// SHA-256 of its bytes.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    pub(super) engine: Engine,
    pub(super) pre: InstancePre<GuestState>,
    pub(super) dispatcher: Option<Arc<DispatcherIndices>>,
    pub(super) executor: Arc<ExecutorIndices>,
}

impl fmt::Debug for Plugin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Plugin({})", self.digest.short())
    }
}

impl Plugin {
    /// Checks a compiled component against the contract. `digest` and `size`
    /// are those of its bytes.
    pub(super) fn check(engine: &Engine, component: &Component, digest: Digest, size: u64) -> Result<Self, LoadError> {
        let missing = |name| component.get_export_index(None, name).is_none();
        if missing(EXECUTOR) {
            let found = super::inspect::export_names(engine, component);
            let found = if found.is_empty() { "nothing".to_owned() } else { some_of(found.iter().map(String::as_str)) };
            return Err(LoadError::Contract(format!("it does not export {EXECUTOR}; it exports {found}")));
        }
        let pre = engine.linker.instantiate_pre(component).map_err(|error| LoadError::Import(in_one_line(&error)))?;
        let shape = |error: wasmtime::Error| LoadError::Contract(in_one_line(&error));
        let executor = ExecutorIndices::new(&pre).map_err(shape)?;
        let dispatcher = if missing(DISPATCHER) { None } else { Some(DispatcherIndices::new(&pre).map_err(shape)?) };
        Ok(Self {
            digest,
            size,
            engine: engine.clone(),
            pre,
            dispatcher: dispatcher.map(Arc::new),
            executor: Arc::new(executor),
        })
    }

    /// The world that it implements.
    #[must_use]
    pub fn world(&self) -> World {
        if self.dispatcher.is_some() { World::Job } else { World::ExecutorOnly }
    }
}

/// One loaded version of a plugin in a slot.
#[derive(Debug)]
pub struct Generation {
    /// Counts up with each swap of the slot.
    pub number: u64,
    /// What it runs.
    pub plugin: Plugin,
    /// When it took the slot.
    pub loaded_at: Timestamp,
    /// Whether it came from the state folder, not from the file.
    pub kept: bool,
    /// The same as `loaded_at`, on a clock that nobody sets.
    since: Instant,
    answered: AtomicBool,
    lack: Lack,
}

/// Why no guest could be started when that was tried last.
#[derive(Debug, Default)]
struct Lack {
    is_there: AtomicBool,
    why: Mutex<Option<String>>,
}

impl Generation {
    /// A generation that was not called yet.
    #[must_use]
    pub fn new(number: u64, plugin: Plugin, loaded_at: Timestamp, kept: bool) -> Self {
        let (since, answered, lack) = (Instant::now(), AtomicBool::new(false), Lack::default());
        Self { number, plugin, loaded_at, kept, since, answered, lack }
    }

    /// Notes that an execution answered; true the first time.
    pub fn answers(&self) -> bool {
        !self.answered.load(Ordering::Relaxed) && !self.answered.swap(true, Ordering::Relaxed)
    }

    /// Whether an execution answered so far.
    #[must_use]
    pub fn has_answered(&self) -> bool {
        self.answered.load(Ordering::Relaxed)
    }

    /// Notes why a guest of it could not be started though nothing is wrong with
    /// it, or with `None` that one was.
    pub(super) fn note_lack(&self, why: Option<&str>) {
        // A start that goes well is the usual, and costs no lock.
        if why.is_some() || self.lack.is_there.load(Ordering::SeqCst) {
            self.lack.is_there.store(why.is_some(), Ordering::SeqCst);
            *self.lack.why.lock().unwrap_or_else(PoisonError::into_inner) = why.map(str::to_owned);
        }
    }

    /// What the machine lacked when a guest of it was to be started last, though
    /// nothing is wrong with it; `None` where one was, or none was tried.
    #[must_use]
    pub fn lack(&self) -> Option<String> {
        self.lack.why.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What status shows of it.
    #[must_use]
    pub fn status(&self) -> GenerationStatus {
        GenerationStatus {
            number: self.number,
            digest: self.plugin.digest,
            loaded_at: self.loaded_at,
            age_ms: u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX),
            size: self.plugin.size,
            world: self.plugin.world().name(),
            kept: self.kept,
        }
    }
}

/// How a backtrace begins where it is a cause: it has no type that could be asked
/// for there.
const BACKTRACE: &str = "error while executing at wasm backtrace:";

/// The chain of causes, without line breaks, repetition and addresses: a
/// backtrace is one of the causes, as wasmtime has it. Each is cut: the names in
/// it are the component's, which may have made them as long as it likes.
pub(super) fn in_one_line(error: &wasmtime::Error) -> String {
    let mut parts: Vec<String> = Vec::new();
    for cause in error.chain() {
        let text = cut(cause.to_string()).split_whitespace().collect::<Vec<_>>().join(" ");
        if !text.starts_with(BACKTRACE) && parts.last().is_none_or(|last| !last.contains(&text)) {
            parts.push(text);
        }
    }
    cut(parts.join(": "))
}
