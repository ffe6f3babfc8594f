//! `sweepd compile`: what the host starts to compile a component in a process
//! of its own. Not for people.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

/// Where the result goes.
#[derive(Debug, Args)]
pub(super) struct CompileArgs {
    #[arg(long, value_name = "DIR")]
    cache: PathBuf,

    /// For an engine that counts instructions
    #[arg(long)]
    metered: bool,
}

/// Compiles standard input; answers with the exit code that the host knows.
pub(super) fn compile(args: &CompileArgs) -> ExitCode {
    ExitCode::from(u8::try_from(crate::plugin::child(&args.cache, args.metered)).unwrap_or(u8::MAX))
}
