//! Builds components from Rust, on machines with and without a rustup target, and
//! test guests from C and Python (`foreign`).
//!
//! In this order: the target that rustup has; the one that rustup may add; or
//! Debian's compiler with its library sources, unpacked without root into a
//! cache folder. The last one needs nothing but apt and some disk space, and is
//! what makes a bare machine enough.

mod build;
mod debian;
mod foreign;
mod linker;

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};

pub(crate) use build::{Packages, build};
pub(crate) use foreign::{Foreign, all as all_foreign};

use crate::process;

/// What the guests are compiled for.
const TARGET: &str = "wasm32-wasip2";

/// How long rustup may take for the target before it counts as out of reach.
const RUSTUP_LIMIT: Duration = Duration::from_mins(2);

/// A compiler that can build for [`TARGET`].
enum Toolchain {
    /// The one that runs us, with rustup's library for the target.
    Rustup,
    /// Debian's compiler behind scripts; cargo builds the library from source.
    Debian(linker::Scripts),
}

impl Toolchain {
    /// Takes the first that works.
    fn choose() -> Result<Self> {
        let sysroot = sysroot()?;
        if has_target(&sysroot) {
            return Ok(Self::Rustup);
        }
        let rustup = add_target();
        if rustup.is_ok() && has_target(&sysroot) {
            return Ok(Self::Rustup);
        }
        let debian = debian::unpacked().and_then(|debian| linker::scripts(&debian, &sysroot));
        match debian {
            Ok(scripts) => Ok(Self::Debian(scripts)),
            Err(debian) => {
                let rustup = match rustup {
                    Ok(()) => format!("it says that it added {TARGET}, but {TARGET} is not there"),
                    Err(rustup) => format!("{rustup:#}"),
                };
                Err(debian.context(format!(
                    "no compiler for {TARGET}.\n\
                     Run `rustup target add {TARGET}`, then this again.\n\
                     What was tried: rustup: {rustup}; Debian's compiler"
                )))
            }
        }
    }
}

/// The folder of the compiler that builds everything else.
fn sysroot() -> Result<PathBuf> {
    let mut rustc = Command::new("rustc");
    rustc.args(["--print", "sysroot"]);
    let sysroot = process::output(&mut rustc).context("is Rust installed?")?;
    Ok(PathBuf::from(sysroot.trim()))
}

fn has_target(sysroot: &Path) -> bool {
    sysroot.join("lib/rustlib").join(TARGET).join("lib").is_dir()
}

/// Asks rustup for the target, unless the user wants no installs by the way.
fn add_target() -> Result<()> {
    if env::var_os("RUSTUP_AUTO_INSTALL").is_some_and(|value| value == "0") {
        anyhow::bail!("RUSTUP_AUTO_INSTALL is 0, so {TARGET} was not installed");
    }
    eprintln!("adding {TARGET} with rustup");
    let mut rustup = Command::new("rustup");
    rustup.args(["target", "add", TARGET]);
    process::run_within(RUSTUP_LIMIT, &mut rustup)
}
