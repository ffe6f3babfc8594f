//! `sweepd compile`: what the host starts to compile a component in a process
//! of its own. Not for people.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use crate::config::{COMPILE_MEMORY, COMPILE_TIME, Config, MAX_COMPILED, SandboxConfig};
use crate::plugin::{CacheOptions, ChildOptions, CompileLimits, Compiler, CompilerOptions, EngineError, EngineOptions};

use super::address_space::AddressSpace;

/// What the host asks for.
#[derive(Debug, Args)]
pub(super) struct CompileArgs {
    /// For an engine that counts instructions
    #[arg(long)]
    metered: bool,

    /// How much address space a memory reserves, in bytes, where that is not the usual
    #[arg(long, value_name = "BYTES")]
    reservation: Option<u64>,

    /// Largest machine code, in bytes
    #[arg(long, value_name = "BYTES")]
    max_compiled: u64,

    /// Longest time, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = COMPILE_TIME.as_secs())]
    max_seconds: u64,

    /// Most address space, in bytes
    #[arg(long, value_name = "BYTES", default_value_t = COMPILE_MEMORY)]
    max_memory: u64,
}

/// Compiles standard input; answers with the exit code that the host knows.
pub(super) fn compile(args: &CompileArgs) -> ExitCode {
    let CompileArgs { metered, reservation, max_compiled, max_seconds, max_memory } = *args;
    let limits = CompileLimits { time: Duration::from_secs(max_seconds), memory: max_memory };
    let code = crate::plugin::compile_in_child(ChildOptions { metered, reservation, max_compiled, limits });
    ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX))
}

/// The compiler of a host, which keeps what it compiled.
pub(super) fn keeping_compiler(config: &Config) -> Result<Compiler, EngineError> {
    let cache = CacheOptions { folder: config.cache.clone(), key: key_of_cache(&config.state), max: config.cache_max };
    let space = AddressSpace::of(config);
    if let Some(warning) = space.warning() {
        tracing::warn!("{warning}");
    }
    compiler(&config.sandbox, space.reservation(), Some(cache))
}

/// The compiler of a command, which keeps nothing. It works as that of a host of
/// this configuration would, or, without one, of one that sets nothing.
pub(super) fn passing_compiler(config: Option<&Config>) -> Result<Compiler, EngineError> {
    if let Some(config) = config {
        return compiler(&config.sandbox, AddressSpace::of(config).reservation(), None);
    }
    let engine = EngineOptions { metered: false, ..EngineOptions::default() };
    let limits = CompileLimits { time: COMPILE_TIME, memory: COMPILE_MEMORY };
    let (program, max_compiled) = (super::own_program(), MAX_COMPILED);
    Compiler::new(CompilerOptions { engine, program, cache: None, max_compiled, limits })
}

fn compiler(
    sandbox: &SandboxConfig,
    reservation: Option<u64>,
    cache: Option<CacheOptions>,
) -> Result<Compiler, EngineError> {
    let SandboxConfig { stack, max_compiled, compile_time, compile_memory, .. } = *sandbox;
    let engine = EngineOptions { stack, metered: false, reservation };
    let limits = CompileLimits { time: compile_time, memory: compile_memory };
    Compiler::new(CompilerOptions { engine, program: super::own_program(), cache, max_compiled, limits })
}

/// Not in the cache, which may be deleted and shared.
fn key_of_cache(state: &Path) -> PathBuf {
    state.join("cache.key")
}
