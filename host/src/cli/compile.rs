//! `sweepd compile`: what the host starts to compile a component in a process
//! of its own. Not for people.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use crate::config::Config;
use crate::plugin::{CacheOptions, ChildOptions, Compiler, CompilerOptions, EngineError, EngineOptions};

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
}

/// Compiles standard input; answers with the exit code that the host knows.
pub(super) fn compile(args: &CompileArgs) -> ExitCode {
    let CompileArgs { metered, reservation, max_compiled } = *args;
    let code = crate::plugin::compile_in_child(ChildOptions { metered, reservation, max_compiled });
    ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX))
}

/// The compiler of a host, which keeps what it compiled.
pub(super) fn keeping_compiler(config: &Config) -> Result<Compiler, EngineError> {
    let cache = CacheOptions { folder: config.cache.clone(), key: key_of_cache(&config.state), max: config.cache_max };
    let space = AddressSpace::of(config);
    if let Some(warning) = space.warning() {
        tracing::warn!("{warning}");
    }
    compiler(config.sandbox.stack, space.reservation(), config.sandbox.max_compiled, Some(cache))
}

/// The compiler of a command, which keeps nothing.
pub(super) fn passing_compiler(config: Option<&Config>) -> Result<Compiler, EngineError> {
    let stack = config.map_or(EngineOptions::default().stack, |config| config.sandbox.stack);
    let reservation = config.and_then(|config| AddressSpace::of(config).reservation());
    let max_compiled = config.map_or(crate::config::MAX_COMPILED, |config| config.sandbox.max_compiled);
    compiler(stack, reservation, max_compiled, None)
}

fn compiler(
    stack: usize,
    reservation: Option<u64>,
    max_compiled: u64,
    cache: Option<CacheOptions>,
) -> Result<Compiler, EngineError> {
    let engine = EngineOptions { stack, metered: false, reservation };
    Compiler::new(CompilerOptions { engine, program: super::own_program(), cache, max_compiled })
}

/// Not in the cache, which may be deleted and shared.
fn key_of_cache(state: &Path) -> PathBuf {
    state.join("cache.key")
}
