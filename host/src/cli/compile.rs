//! `sweepd compile`: what the host starts to compile a component in a process
//! of its own. Not for people.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use crate::config::Config;
use crate::plugin::{CacheOptions, ChildOptions, Compiler, CompilerOptions, EngineError, EngineOptions};

/// What the host asks for.
#[derive(Debug, Args)]
pub(super) struct CompileArgs {
    /// For an engine that counts instructions
    #[arg(long)]
    metered: bool,

    /// Largest machine code, in bytes
    #[arg(long, value_name = "BYTES")]
    max_compiled: u64,
}

/// Compiles standard input; answers with the exit code that the host knows.
pub(super) fn compile(args: &CompileArgs) -> ExitCode {
    let CompileArgs { metered, max_compiled } = *args;
    let code = crate::plugin::compile_in_child(ChildOptions { metered, max_compiled });
    ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX))
}

/// The compiler of a host, which keeps what it compiled.
pub(super) fn keeping_compiler(config: &Config) -> Result<Compiler, EngineError> {
    let cache = CacheOptions { folder: config.cache.clone(), key: key_of_cache(&config.state) };
    compiler(config.sandbox.stack, config.sandbox.max_compiled, Some(cache))
}

/// The compiler of a command, which keeps nothing.
pub(super) fn passing_compiler(stack: Option<usize>, max_compiled: u64) -> Result<Compiler, EngineError> {
    compiler(stack.unwrap_or(EngineOptions::default().stack), max_compiled, None)
}

fn compiler(stack: usize, max_compiled: u64, cache: Option<CacheOptions>) -> Result<Compiler, EngineError> {
    let engine = EngineOptions { stack, metered: false };
    Compiler::new(CompilerOptions { engine, program: super::own_program(), cache, max_compiled })
}

/// Not in the cache, which may be deleted and shared.
fn key_of_cache(state: &Path) -> PathBuf {
    state.join("cache.key")
}
