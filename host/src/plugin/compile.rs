//! Compiling away from the host: a child process fills the cache, and loading
//! then finds the code there. A component that takes 300 MB to compile neither
//! grows nor kills the host.

use std::collections::{HashMap, VecDeque};
use std::io::Read as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::process::{Resource, Rlimit, setrlimit};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use crate::domain::digest::Digest;

use super::engine::{Engine, EngineError, EngineOptions};
use super::generation::{LoadError, Plugin};

/// Longest time that one compilation may take.
const TIMEOUT: Duration = Duration::from_mins(2);
/// Most address space that one compilation may take, in bytes.
const MEMORY: u64 = 6 << 30;
/// Largest component, in bytes.
pub(super) const MAX_COMPONENT: u64 = 256 << 20;
/// So many digests are remembered as being in the cache.
const REMEMBERED: usize = 64;
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
    flights: Mutex<Flights>,
}

/// What is compiled: which component, and whether its instructions are counted.
type Freight = (Digest, bool);

/// What is compiled now, and what was last.
#[derive(Default)]
struct Flights {
    under_way: HashMap<Freight, Arc<Flight>>,
    /// These are in the cache, the newest last: no child is started for them.
    landed: VecDeque<Freight>,
}

/// How to run the child.
struct Child<'a> {
    program: &'a Path,
    cache: &'a Path,
    metered: bool,
}

/// Whoever holds it compiles.
type Flight = tokio::sync::Mutex<()>;

/// One who compiles, or waits for whoever does; the last one to leave takes
/// the flight with it.
struct Boarded<'a> {
    flights: &'a Mutex<Flights>,
    freight: Freight,
    flight: Arc<Flight>,
}

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

    /// Compiles, for an engine that counts instructions where `metered`, or waits
    /// for whoever compiles the same. Dropping the future kills the child.
    pub async fn compile(&self, bytes: Arc<Vec<u8>>, metered: bool) -> Result<Plugin, CompileError> {
        if let (Some(program), Some(cache)) = (&self.program, &self.options.cache) {
            let boarded = self.board((Digest::of(&bytes), metered));
            let _one = boarded.flight.lock().await;
            if !boarded.has_landed() {
                Child { program, cache, metered }.fill_cache(&bytes).await?;
                boarded.land();
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

    fn board(&self, freight: Freight) -> Boarded<'_> {
        let flight = Arc::clone(locked(&self.flights).under_way.entry(freight).or_default());
        Boarded { flights: &self.flights, freight, flight }
    }
}

impl Boarded<'_> {
    fn has_landed(&self) -> bool {
        locked(self.flights).landed.contains(&self.freight)
    }

    fn land(&self) {
        let landed = &mut locked(self.flights).landed;
        if landed.len() == REMEMBERED {
            landed.pop_front();
        }
        landed.push_back(self.freight);
    }
}

impl Drop for Boarded<'_> {
    fn drop(&mut self) {
        let mut flights = locked(self.flights);
        // That of the table, and this one: new ones are made under the lock.
        if Arc::strong_count(&self.flight) == 2 {
            flights.under_way.remove(&self.freight);
        }
    }
}

fn locked(flights: &Mutex<Flights>) -> MutexGuard<'_, Flights> {
    flights.lock().unwrap_or_else(PoisonError::into_inner)
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
            say(format_args!("limiting the compiler: {error}"));
            return FAILED;
        }
    }
    let mut bytes = Vec::new();
    if let Err(error) = std::io::stdin().lock().take(MAX_COMPONENT + 1).read_to_end(&mut bytes) {
        say(format_args!("reading the component: {error}"));
        return FAILED;
    }
    let engine = match Engine::new(&EngineOptions { metered, ..EngineOptions::cached(cache) }) {
        Ok(engine) => engine,
        Err(error) => {
            say(format_args!("{error}"));
            return FAILED;
        }
    };
    match engine.compile_only(&bytes) {
        Ok(()) => 0,
        Err(why) => {
            say(format_args!("{why}"));
            REFUSED
        }
    }
}

/// A host that is gone does not read it any more.
fn say(text: std::fmt::Arguments<'_>) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr(), "{text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn flights_are_forgotten_once_nobody_waits_for_them() {
        let folder = tempfile::tempdir().unwrap();
        let options = EngineOptions::cached(folder.path());
        // A compiler that always says that it is done.
        let compiler = Compiler::in_child(options.clone(), PathBuf::from("/bin/true")).unwrap();
        for number in 0..2 * u64::try_from(REMEMBERED).unwrap() {
            let bytes = Arc::new(number.to_le_bytes().to_vec());
            let (one, other) =
                tokio::join!(compiler.compile(Arc::clone(&bytes), false), compiler.compile(bytes, false));
            assert!(matches!((one, other), (Err(CompileError::Refused(_)), Err(CompileError::Refused(_)))));
        }
        assert_eq!(locked(&compiler.flights).under_way.len(), 0);
        assert_eq!(locked(&compiler.flights).landed.len(), REMEMBERED);
        let failing = Compiler::in_child(options, PathBuf::from("/bin/false")).unwrap();
        assert!(failing.compile(Arc::new(vec![1]), false).await.is_err());
        let flights = locked(&failing.flights);
        assert_eq!((flights.under_way.len(), flights.landed.len()), (0, 0));
    }
}
