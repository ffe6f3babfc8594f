//! Compiling away from the host: a child process fills the cache, and loading
//! then finds the code there. A component that takes 300 MB to compile neither
//! grows nor kills the host.

use std::collections::HashMap;
use std::io::Read as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{Resource, Rlimit, setrlimit};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use crate::domain::digest::Digest;
use crate::domain::job::Limits;

use super::engine::{Engine, EngineError, EngineOptions};
use super::generation::{LoadError, Plugin};

/// Longest time that one compilation may take.
const TIMEOUT: Duration = Duration::from_mins(2);
/// Most address space that one compilation may take, in bytes.
const MEMORY: u64 = 6 << 30;
/// Largest component, in bytes.
pub(super) const MAX_COMPONENT: u64 = 256 << 20;
/// What the child prints of a refused component is cut here.
const MAX_MESSAGE: usize = 2000;

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

/// Compiles components for one engine, each digest once.
pub struct Compiler {
    options: EngineOptions,
    engine: Engine,
    /// The engine that counts instructions, made when the first job asks.
    metered: Mutex<Option<Engine>>,
    program: Option<PathBuf>,
    flights: Mutex<HashMap<(Digest, bool), Arc<Flight>>>,
}

/// How to run the child.
struct Child<'a> {
    program: &'a Path,
    cache: &'a Path,
    metered: bool,
}

/// Whoever holds it compiles; whether it is in the cache since.
type Flight = tokio::sync::Mutex<bool>;

impl Compiler {
    /// Compiles in a child process, `program compile --cache CACHE`; without a
    /// cache, in this one.
    pub fn in_child(options: EngineOptions, program: PathBuf) -> Result<Self, EngineError> {
        Self::new(options, Some(program))
    }

    /// Compiles in this process, for tools that end soon after.
    pub fn in_process(options: EngineOptions) -> Result<Self, EngineError> {
        Self::new(options, None)
    }

    fn new(options: EngineOptions, program: Option<PathBuf>) -> Result<Self, EngineError> {
        let options = EngineOptions { metered: false, ..options };
        let engine = Engine::new(&options)?;
        Ok(Self { options, engine, metered: Mutex::default(), program, flights: Mutex::default() })
    }

    /// Compiles for a job of these limits, or waits for whoever compiles the
    /// same digest. Dropping the future kills the child.
    pub async fn compile(&self, bytes: Arc<Vec<u8>>, limits: &Limits) -> Result<Plugin, CompileError> {
        let metered = limits.fuel.is_some();
        if let (Some(program), Some(cache)) = (&self.program, &self.options.cache) {
            let flight = self.flight(Digest::of(&bytes), metered);
            let mut cached = flight.lock().await;
            if !*cached {
                Child { program, cache, metered }.fill_cache(&bytes).await?;
                *cached = true;
            }
        }
        let engine = self.engine(metered).map_err(|error| CompileError::Unavailable(error.to_string()))?;
        let loaded = tokio::task::spawn_blocking(move || Plugin::load(&engine, &bytes)).await;
        Ok(loaded.map_err(|panic| CompileError::Unavailable(panic.to_string()))??)
    }

    fn engine(&self, metered: bool) -> Result<Engine, EngineError> {
        if !metered {
            return Ok(self.engine.clone());
        }
        let mut made = self.metered.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(engine) = &*made {
            return Ok(engine.clone());
        }
        let engine = Engine::new(&EngineOptions { metered: true, ..self.options.clone() })?;
        Ok(made.insert(engine).clone())
    }

    fn flight(&self, digest: Digest, metered: bool) -> Arc<Flight> {
        let mut flights = self.flights.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(flights.entry((digest, metered)).or_default())
    }
}

impl Child<'_> {
    async fn fill_cache(&self, bytes: &[u8]) -> Result<(), CompileError> {
        let unavailable = |error: std::io::Error| {
            CompileError::Unavailable(format!("running {} compile: {error}", self.program.display()))
        };
        let mut child = Command::new(self.program)
            .arg("compile")
            .arg("--cache")
            .arg(self.cache)
            .args(self.metered.then_some("--metered"))
            .env_clear()
            // It cannot read how many cores it may use: behind the wall that is
            // another process's affair.
            .env("RAYON_NUM_THREADS", std::thread::available_parallelism().map_or(1, usize::from).to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(unavailable)?;
        let mut stdin = child.stdin.take();
        let run = async {
            let send = async {
                // A child that refuses before it has read all closes the pipe;
                // what it says matters, not the pipe.
                if let Some(stdin) = &mut stdin {
                    let _ = stdin.write_all(bytes).await;
                }
                drop(stdin.take());
            };
            tokio::join!(send, child.wait_with_output()).1
        };
        let output = tokio::time::timeout(TIMEOUT, run)
            .await
            .map_err(|_| CompileError::TooExpensive(format!("it took longer than {TIMEOUT:?}")))?
            .map_err(unavailable)?;
        let message = String::from_utf8_lossy(&output.stderr);
        let message = crate::domain::outcome::cut(message.trim().chars().take(MAX_MESSAGE).collect());
        match output.status.code() {
            Some(0) => Ok(()),
            Some(REFUSED) => Err(LoadError::NotAComponent(message).into()),
            Some(FAILED) => Err(CompileError::Unavailable(message)),
            // Killed from outside, by a machine that is out of memory: it may work later.
            None if output.status.signal() == Some(9) => {
                Err(CompileError::Unavailable("the compiler was killed".to_owned()))
            }
            _ => Err(CompileError::TooExpensive(format!("the compiler ended with {}: {message}", output.status))),
        }
    }
}

/// The child's exit code for a component that cannot be compiled.
const REFUSED: i32 = 3;
/// The child's exit code where it could not do its work.
const FAILED: i32 = 4;

/// The child's side: reads a component from standard input, compiles it into
/// the cache, and answers the process's exit code. What is wrong goes to
/// standard error.
#[must_use]
pub fn child(cache: &Path, metered: bool) -> i32 {
    for (resource, limit) in [(Resource::As, MEMORY), (Resource::Cpu, TIMEOUT.as_secs()), (Resource::Core, 0)] {
        let rlimit = Rlimit { current: Some(limit), maximum: Some(limit) };
        if let Err(error) = setrlimit(resource, rlimit) {
            eprintln!("limiting the compiler: {error}");
            return FAILED;
        }
    }
    let mut bytes = Vec::new();
    if let Err(error) = std::io::stdin().lock().take(MAX_COMPONENT + 1).read_to_end(&mut bytes) {
        eprintln!("reading the component: {error}");
        return FAILED;
    }
    let engine = match Engine::new(&EngineOptions { metered, ..EngineOptions::cached(cache) }) {
        Ok(engine) => engine,
        Err(error) => {
            eprintln!("{error}");
            return FAILED;
        }
    };
    match engine.compile_only(&bytes) {
        Ok(()) => 0,
        Err(why) => {
            eprintln!("{why}");
            REFUSED
        }
    }
}
