//! Compiling away from the host: a child process compiles and hands over the
//! machine code, and the host only loads it. A component that takes gigabytes
//! to compile neither grows nor kills the host.
//!
//! ```text
//!  component ─▶ in the cache, with a digest that fits? ──────────────▶ load
//!                 └─ no ─▶ child: limits ─▶ compile ─▶ bound ─▶ pipe ─▶ load ─▶ cache
//! ```
//! Its invariant: no machine code is loaded but what the child handed over just
//! now, or what the cache shows, by the host's own key, to be the same bytes.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use wasmtime::component::Component;

use crate::domain::digest::Digest;

use super::engine::{Engine, EngineError, EngineOptions};
use super::generation::{LoadError, Plugin, in_one_line};

use self::cache::{Cache, Identity};
use self::child::Child;

mod bounds;
mod cache;
mod child;
mod room;
mod seal;

pub use self::child::{ChildOptions, compile_in_child};

/// Largest component, in bytes.
pub(super) const MAX_COMPONENT: u64 = 256 << 20;

/// Why there is no plugin.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// The component is to blame: the same bytes will be refused again.
    #[error(transparent)]
    Refused(#[from] LoadError),
    /// Compiling it took more time or memory than is allowed.
    #[error("compiling it was given up: {0}")]
    TooExpensive(String),
    /// The machine is to blame: it may work later.
    #[error("it could not be compiled now: {0}")]
    Unavailable(String),
}

/// How components are compiled.
#[derive(Clone, Debug)]
pub struct CompilerOptions {
    /// The engine that the components are for; whether it counts instructions
    /// is asked for each component.
    pub engine: EngineOptions,
    /// This program, which is started as `PROGRAM compile`.
    pub program: PathBuf,
    /// Where machine code is kept; `None` keeps nothing.
    pub cache: Option<CacheOptions>,
    /// Largest machine code of one component, in bytes.
    pub max_compiled: u64,
    /// What compiling it may take.
    pub limits: CompileLimits,
}

/// What compiling one component may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompileLimits {
    /// Longest time; of the processors it is twice that, on all cores together.
    pub time: Duration,
    /// Most address space, in bytes.
    pub memory: u64,
}

/// Where machine code is kept, and how much of it.
#[derive(Clone, Debug)]
pub struct CacheOptions {
    /// The folder, which may be deleted at any time.
    pub folder: PathBuf,
    /// The file of the key by which the host knows its own files again. It must
    /// not be where others write.
    pub key: PathBuf,
    /// How much of the disk the machine code in the folder may take, whichever host
    /// wrote it, in bytes.
    pub max: u64,
}

/// Compiles components for one host, each once at a time.
pub struct Compiler {
    options: CompilerOptions,
    engine: Engine,
    /// The engine that counts instructions, made when the first job asks.
    metered: Mutex<Option<Engine>>,
    cache: Option<Arc<Cache>>,
    flights: Flights,
}

/// What is compiled: which component, and whether its instructions are counted.
type Freight = (Digest, bool);

/// What is compiled now.
type Flights = Mutex<HashMap<Freight, Arc<Flight>>>;

/// Whoever holds it compiles, and leaves the plugin to those that wait.
type Flight = tokio::sync::Mutex<Option<Plugin>>;

/// One who compiles, or waits for whoever does; the last one to leave takes
/// the flight with it.
struct Boarded<'a> {
    flights: &'a Flights,
    freight: Freight,
    flight: Arc<Flight>,
}

impl Compiler {
    /// One that starts `options.program` for every component that is not in the
    /// cache. A cache that cannot be used is told in the log, and does without.
    pub fn new(options: CompilerOptions) -> Result<Self, EngineError> {
        let engine = Engine::new(&EngineOptions { metered: false, ..options.engine.clone() })?;
        let cache = options.cache.clone().map(|options| Arc::new(Cache::open(options)));
        Ok(Self { options, engine, metered: Mutex::default(), cache, flights: Mutex::default() })
    }

    /// Compiles, for an engine that counts instructions where `metered`, or waits
    /// for whoever compiles the same. Dropping the future kills the child.
    pub async fn compile(&self, bytes: Arc<Vec<u8>>, metered: bool) -> Result<Plugin, CompileError> {
        let engine = self.engine(metered)?;
        let digest = Digest::of(&bytes);
        let boarded = self.board((digest, metered));
        let mut landed = boarded.flight.lock().await;
        if let Some(plugin) = &*landed {
            return Ok(plugin.clone());
        }
        let component = self.component_of(&engine, digest, &bytes, metered).await?;
        let size = bytes.len() as u64;
        let checked = in_background(move || Plugin::check(&engine, &component, digest, size)).await?;
        Ok(landed.insert(checked?).clone())
    }

    /// The component alone, without asking whether it fits the contract, and
    /// the engine that it is for. Dropping the future kills the child.
    pub(super) async fn compile_any(&self, bytes: &Arc<Vec<u8>>) -> Result<(Engine, Component), CompileError> {
        let component = self.component_of(&self.engine, Digest::of(bytes), bytes, false).await?;
        Ok((self.engine.clone(), component))
    }

    /// From the cache, or else from the child.
    async fn component_of(
        &self,
        engine: &Engine,
        digest: Digest,
        bytes: &Arc<Vec<u8>>,
        metered: bool,
    ) -> Result<Component, CompileError> {
        let identity = Identity { component: digest, engine: engine.compatibility() };
        if let Some(cache) = &self.cache {
            let (cache, engine, most) = (Arc::clone(cache), engine.clone(), self.options.max_compiled);
            let loaded = in_background(move || cache.load(&identity, &engine, most)).await?;
            if let Some(component) = loaded {
                return Ok(component);
            }
        }
        let CompilerOptions { program, max_compiled, limits, engine: EngineOptions { reservation, .. }, .. } =
            &self.options;
        let child = Child { program, metered, reservation: *reservation, max_compiled: *max_compiled, limits: *limits };
        let compiled = child.compile(bytes).await?;
        let (cache, engine) = (self.cache.clone(), engine.clone());
        in_background(move || {
            let component = compiled.load(&engine).map_err(|error| {
                CompileError::Unavailable(format!("the compiler's answer cannot be used: {}", in_one_line(&error)))
            })?;
            if let Some(cache) = cache {
                cache.save(&identity, &compiled);
            }
            Ok(component)
        })
        .await?
    }

    fn engine(&self, metered: bool) -> Result<Engine, CompileError> {
        if !metered {
            return Ok(self.engine.clone());
        }
        let mut made = self.metered.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(engine) = &*made {
            return Ok(engine.clone());
        }
        let engine = Engine::new(&EngineOptions { metered: true, ..self.options.engine.clone() })
            .map_err(|error| CompileError::Unavailable(error.to_string()))?;
        Ok(made.insert(engine).clone())
    }

    fn board(&self, freight: Freight) -> Boarded<'_> {
        let flight = Arc::clone(locked(&self.flights).entry(freight).or_default());
        Boarded { flights: &self.flights, freight, flight }
    }
}

impl Drop for Boarded<'_> {
    fn drop(&mut self) {
        let mut flights = locked(self.flights);
        // That of the table, and this one: new ones are made under the lock.
        if Arc::strong_count(&self.flight) == 2 {
            flights.remove(&self.freight);
        }
    }
}

fn locked(flights: &Flights) -> MutexGuard<'_, HashMap<Freight, Arc<Flight>>> {
    flights.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn in_background<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, CompileError> {
    tokio::task::spawn_blocking(work).await.map_err(|panic| CompileError::Unavailable(panic.to_string()))
}

/// Machine code that this host's own compiler made. Only [`Child::compile`] and
/// [`Cache::load`] make one, each with its proof.
struct Compiled {
    bytes: Vec<u8>,
    /// Where the code begins: the cache has a seal before it.
    from: usize,
}

impl Compiled {
    fn code(&self) -> &[u8] {
        &self.bytes[self.from..]
    }

    /// Takes it into this process; refused where it is for another engine.
    #[allow(unsafe_code, reason = "the one way to load machine code; see below why it is the compiler's own")]
    fn load(&self, engine: &Engine) -> wasmtime::Result<Component> {
        // SAFETY: the bytes have to be what `Engine::precompile_component` made,
        // unchanged. They came over a pipe from a child that is this program and
        // does just that, or from a file whose every byte was compared, in this
        // very buffer, with a digest under a key that only this host has. The
        // call copies them before it looks at them, and nobody else has them.
        unsafe { Component::deserialize(&engine.wasmtime, self.code()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compiler(program: &str) -> Compiler {
        let options = CompilerOptions {
            engine: EngineOptions::default(),
            program: PathBuf::from(program),
            cache: None,
            max_compiled: 1 << 20,
            limits: CompileLimits { time: Duration::from_mins(2), memory: 6 << 30 },
        };
        Compiler::new(options).unwrap()
    }

    #[tokio::test]
    async fn flights_are_forgotten_once_nobody_waits_for_them() {
        // Compilers that say that they are done, or that they failed, and hand nothing over.
        for program in ["/bin/true", "/bin/false"] {
            let compiler = compiler(program);
            for number in 0..20_u64 {
                let bytes = Arc::new(number.to_le_bytes().to_vec());
                let (one, other) =
                    tokio::join!(compiler.compile(Arc::clone(&bytes), false), compiler.compile(bytes, false));
                assert!(one.is_err() && other.is_err());
            }
            assert_eq!(locked(&compiler.flights).len(), 0, "{program}");
        }
    }

    #[tokio::test]
    async fn an_answer_that_is_no_machine_code_is_not_loaded() {
        let refused = compiler("/bin/true").compile(Arc::new(b"x".to_vec()), false).await;
        assert!(matches!(&refused, Err(CompileError::Unavailable(_))), "{refused:?}");
    }
}
