//! The engine that compiles and runs components, and the thread that moves its
//! epoch while guests run.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::thread::Thread;
use std::time::Duration;

use wasmtime::component::Linker;
use wasmtime::{Cache, CacheConfig, Config, EngineWeak};

use crate::faults;
use crate::sandbox::{self, GuestState};
use crate::supervise;

use super::bindings;

/// How often a running guest is asked whether it may go on. Interrupting takes
/// at most two of these.
const TICK: Duration = Duration::from_millis(5);
/// So long after the last call the ticker goes to sleep: an idle host does not
/// wake up two hundred times a second.
const LINGER_TICKS: u32 = 200;
/// The stack of a guest where none is given, in bytes.
const STACK: usize = 512 * 1024;
/// What the host's own functions may need of a stack beside the guest's.
const HOST_STACK: usize = 512 * 1024;

/// The engine could not be made.
#[derive(Debug, thiserror::Error)]
#[error("the plugin engine could not be started{}: {source:#}", cache_folder.as_ref().map_or_else(String::new, |folder| format!(" (its cache is {folder})")))]
pub struct EngineError {
    cache_folder: Option<String>,
    source: wasmtime::Error,
}

/// What is the same for all guests of an engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineOptions {
    /// Where compiled components are kept; writable by nobody else, for it
    /// holds native code.
    pub cache: Option<PathBuf>,
    /// The stack of a guest, in bytes. It is a part of the stack of the thread
    /// that calls it.
    pub stack: usize,
    /// Whether instructions are counted, for limits of fuel. Counting slows
    /// every guest of the engine down.
    pub metered: bool,
}

impl EngineOptions {
    /// With this cache, and nothing out of the ordinary.
    #[must_use]
    pub fn cached(cache: &Path) -> Self {
        Self { cache: Some(cache.to_owned()), ..Self::default() }
    }
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self { cache: None, stack: STACK, metered: false }
    }
}

/// Compiles and runs the components of one host. A clone is another handle.
#[derive(Clone)]
pub struct Engine {
    pub(super) wasmtime: wasmtime::Engine,
    pub(super) linker: Arc<Linker<GuestState>>,
    ticker: Arc<Ticker>,
}

impl Engine {
    /// An engine of this kind.
    pub fn new(options: &EngineOptions) -> Result<Self, EngineError> {
        Self::build(options).map_err(|source| {
            let cache_folder = options.cache.as_ref().map(|folder| folder.display().to_string());
            EngineError { cache_folder, source }
        })
    }

    fn build(options: &EngineOptions) -> wasmtime::Result<Self> {
        let mut config = Config::new();
        config
            .wasm_component_model(true)
            .epoch_interruption(true)
            .consume_fuel(options.metered)
            .max_wasm_stack(options.stack)
            // Not used, but it must hold the guest's.
            .async_stack_size(options.stack + HOST_STACK)
            .wasm_backtrace_max_frames(std::num::NonZeroUsize::new(8));
        if let Some(folder) = &options.cache {
            make_private(folder)?;
            let mut settings = CacheConfig::new();
            settings.with_directory(folder);
            config.cache(Some(Cache::new(settings)?));
        }
        let wasmtime = wasmtime::Engine::new(&config)?;
        let mut linker = Linker::new(&wasmtime);
        sandbox::add_to_linker(&mut linker)?;
        bindings::add_to_linker(&mut linker)?;
        let ticker = Ticker::start(wasmtime.weak())?;
        Ok(Self { wasmtime, linker: Arc::new(linker), ticker })
    }

    /// Compiles `bytes` for the cache; the error is one line.
    pub(super) fn compile_only(&self, bytes: &[u8]) -> Result<(), String> {
        wasmtime::component::Component::from_binary(&self.wasmtime, bytes)
            .map(drop)
            .map_err(|error| super::generation::in_one_line(&error))
    }

    /// A guest runs on this thread until the answer is dropped.
    pub(super) fn guest_runs(&self) -> Running {
        self.ticker.enter();
        Running(Arc::clone(&self.ticker))
    }
}

/// Makes the folder, readable and writable by its owner alone.
fn make_private(folder: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700))
}

/// A guest that runs: the epoch moves while it exists.
pub(super) struct Running(Arc<Ticker>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Moves the epoch every [`TICK`] while guests run.
struct Ticker {
    /// Calls begun so far, so that the thread sees whether any began lately.
    begun: AtomicU64,
    /// Calls that have not ended.
    running: AtomicU64,
    asleep: AtomicBool,
    thread: OnceLock<Thread>,
}

impl Ticker {
    fn start(engine: EngineWeak) -> std::io::Result<Arc<Self>> {
        let ticker = Arc::new(Self {
            begun: AtomicU64::new(0),
            running: AtomicU64::new(0),
            asleep: AtomicBool::new(false),
            thread: OnceLock::new(),
        });
        let weak = Arc::downgrade(&ticker);
        // Kept: all that it does is to move the epoch on.
        let handle = supervise::kept_thread("sweepd-epoch", move || tick_while_used(&weak, &engine))?;
        // Whoever wakes before this is set finds the thread awake.
        let _ = ticker.thread.set(handle.thread().clone());
        Ok(ticker)
    }

    fn enter(&self) {
        self.running.fetch_add(1, Ordering::SeqCst);
        self.begun.fetch_add(1, Ordering::SeqCst);
        if self.asleep.swap(false, Ordering::SeqCst)
            && let Some(thread) = self.thread.get()
        {
            thread.unpark();
        }
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }
}

/// Runs until the ticker or the engine is dropped.
fn tick_while_used(ticker: &Weak<Ticker>, engine: &EngineWeak) {
    let (mut seen, mut idle) = (0, 0);
    loop {
        std::thread::sleep(TICK);
        faults::die_here_if_asked();
        let (Some(ticker), Some(engine)) = (ticker.upgrade(), engine.upgrade()) else { return };
        engine.increment_epoch();
        drop(engine);
        let unused = || ticker.running.load(Ordering::SeqCst) == 0 && ticker.begun.load(Ordering::SeqCst) == seen;
        idle = if unused() { idle + 1 } else { 0 };
        if idle >= LINGER_TICKS {
            ticker.asleep.store(true, Ordering::SeqCst);
            // Whoever begins from here on sees the flag and unparks.
            let unused = unused();
            drop(ticker);
            if unused {
                std::thread::park();
            }
            idle = 0;
        } else {
            seen = ticker.begun.load(Ordering::SeqCst);
        }
    }
}
