//! The engine that compiles and runs components, and the thread that moves its
//! epoch while guests run.

use std::hash::{Hash as _, Hasher};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::thread::Thread;
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use wasmtime::component::Linker;
use wasmtime::{Config, EngineWeak};

use crate::domain::digest::Digest;
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
/// Most that a memory that had to be moved may grow in place, in bytes.
const GROWTH: u64 = 16 << 20;
/// What the host's own functions may need of a stack beside the guest's.
const HOST_STACK: usize = 512 * 1024;

/// The engine could not be made.
#[derive(Debug, thiserror::Error)]
#[error("the plugin engine could not be started: {0:#}")]
pub struct EngineError(wasmtime::Error);

/// What is the same for all guests of an engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineOptions {
    /// The stack of a guest, in bytes. It is a part of the stack of the thread
    /// that calls it.
    pub stack: usize,
    /// Whether instructions are counted, for limits of fuel. Counting slows
    /// every guest of the engine down.
    pub metered: bool,
    /// How much address space a memory of a guest reserves, in bytes; a part of
    /// what the machine code is made for. `None` where address space is not
    /// limited: then so much that no access need be checked.
    pub reservation: Option<u64>,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self { stack: STACK, metered: false, reservation: None }
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
        Self::build(options).map_err(EngineError)
    }

    /// The same, without threads for compiling: for a process that may start none.
    pub(super) fn of_one_thread(options: &EngineOptions) -> Result<Self, EngineError> {
        Self::build_with(options, false).map_err(EngineError)
    }

    fn build(options: &EngineOptions) -> wasmtime::Result<Self> {
        Self::build_with(options, true)
    }

    fn build_with(options: &EngineOptions, threads: bool) -> wasmtime::Result<Self> {
        let mut config = Config::new();
        config
            .wasm_component_model(true)
            .epoch_interruption(true)
            .consume_fuel(options.metered)
            .max_wasm_stack(options.stack)
            // Not used, but it must hold the guest's.
            .async_stack_size(options.stack + HOST_STACK)
            // Enough to get past what a language's runtime does before it traps.
            .wasm_backtrace_max_frames(std::num::NonZeroUsize::new(32))
            // The initial content of tables and memories stays as the module has
            // it, instead of being laid out in the machine code: a module of
            // seventy bytes would become four megabytes, and two hundred copies
            // of it a gigabyte. An instance fills its tables when it starts.
            .table_lazy_init(false)
            .memory_guaranteed_dense_image_size(0)
            // It changes nothing of the code.
            .parallel_compilation(threads);
        if let Some(reservation) = options.reservation {
            // A memory that grows beyond it is moved, with this much to grow into.
            config
                .memory_reservation(reservation)
                .memory_reservation_for_growth(GROWTH.min(reservation))
                .memory_guard_size(0)
                .memory_may_move(true);
        }
        let wasmtime = wasmtime::Engine::new(&config)?;
        let mut linker = Linker::new(&wasmtime);
        sandbox::add_to_linker(&mut linker)?;
        bindings::add_to_linker(&mut linker)?;
        let ticker = Ticker::start(wasmtime.weak())?;
        Ok(Self { wasmtime, linker: Arc::new(linker), ticker })
    }

    /// The machine code of a component.
    pub(super) fn precompile(&self, bytes: &[u8]) -> wasmtime::Result<Vec<u8>> {
        self.wasmtime.precompile_component(bytes)
    }

    /// Names all that machine code must fit: the version of the engine, its
    /// settings, and what this processor can do.
    pub(super) fn compatibility(&self) -> Digest {
        let mut hash = Hash(Sha256::new());
        self.wasmtime.precompile_compatibility_hash().hash(&mut hash);
        Digest::of_parts(&[env!("CARGO_PKG_VERSION").as_bytes(), &hash.0.finalize()])
    }

    /// A guest runs on this thread until the answer is dropped.
    pub(super) fn guest_runs(&self) -> Running {
        self.ticker.enter();
        Running(Arc::clone(&self.ticker))
    }
}

/// SHA-256, for what can only be hashed.
struct Hash(Sha256);

impl Hasher for Hash {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        let all = self.0.clone().finalize();
        all.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
    }
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
