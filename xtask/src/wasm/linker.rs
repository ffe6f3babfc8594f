//! The scripts through which cargo calls Debian's compiler and rustup's linkers.
//!
//! Debian's compiler finds its own libraries and rustup's `rust-lld`; the linker
//! adds stubs for what the standard library wants of a newer C library than
//! Debian's (see `stubs.rs`). A script is rewritten only when it changes: cargo
//! takes its time for the compiler's version.

use std::env::consts::ARCH;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::TARGET;
use super::debian::Debian;
use crate::files::{self, Lock};
use crate::process;

const STUBS: &str = include_str!("stubs.rs");

/// What cargo is to call.
pub(super) struct Scripts {
    /// The compiler.
    pub(super) rustc: PathBuf,
    /// The linker, which makes components.
    pub(super) linker: PathBuf,
    /// The root of the compiler's files.
    pub(super) root: PathBuf,
}

/// Writes the scripts and compiles the stubs.
pub(super) fn scripts(debian: &Debian, sysroot: &Path) -> Result<Scripts> {
    let _lock = Lock::take(&debian.cache.join(".lock"))?;
    let tools = tools(sysroot)?;
    let folder = debian.cache.join("bin");
    fs::create_dir_all(&folder)?;
    let lld = folder.join("wasm-ld");
    if fs::read_link(&lld).ok() != Some(tools.join("rust-lld")) {
        let _ = fs::remove_file(&lld);
        symlink(tools.join("rust-lld"), &lld)?;
    }
    let scripts =
        Scripts { rustc: folder.join("rustc"), linker: folder.join("wasm-component-ld"), root: debian.root.clone() };
    let usr = debian.root.join("usr");
    write(
        &scripts.rustc,
        &format!(
            "#!/bin/sh\nLD_LIBRARY_PATH={} PATH={}:\"$PATH\" exec {} \"$@\"\n",
            quoted(&usr.join(format!("lib/{ARCH}-linux-gnu"))),
            quoted(&folder),
            quoted(&usr.join("bin/rustc")),
        ),
    )?;
    let stubs = stubs(&folder, &scripts.rustc)?;
    write(
        &scripts.linker,
        &format!(
            "#!/bin/sh\nunset LD_LIBRARY_PATH\nexec {} \"$@\" {}\n",
            quoted(&tools.join("wasm-component-ld")),
            quoted(&stubs),
        ),
    )?;
    Ok(scripts)
}

/// The folder of the linkers that come with every rustup toolchain.
pub(super) fn tools(sysroot: &Path) -> Result<PathBuf> {
    for entry in fs::read_dir(sysroot.join("lib/rustlib"))? {
        let tools = entry?.path().join("bin");
        if tools.join("rust-lld").is_file() && tools.join("wasm-component-ld").is_file() {
            return Ok(tools);
        }
    }
    bail!("{} has no rust-lld and wasm-component-ld: install Rust with rustup", sysroot.display())
}

/// Compiles the stubs, unless these were.
fn stubs(folder: &Path, rustc: &Path) -> Result<PathBuf> {
    let (source, object) = (folder.join("stubs.rs"), folder.join("stubs.o"));
    if object.is_file() && files::read(&source)?.as_deref() == Some(STUBS.as_bytes()) {
        return Ok(object);
    }
    let _ = fs::remove_file(&object);
    files::put(&source, STUBS.as_bytes())?;
    let mut command = Command::new(rustc);
    command
        .args(["--edition", "2024", "--target", TARGET])
        .args(["--crate-type", "lib", "-O", "-Cpanic=abort", "--emit"])
        .arg(format!("obj={}", object.display()))
        .arg(&source)
        .env("RUSTC_BOOTSTRAP", "1");
    process::run(&mut command).context("cannot compile the stubs for Debian's C library")?;
    Ok(object)
}

fn write(path: &Path, script: &str) -> Result<()> {
    if files::put(path, script.as_bytes())? {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
    }
    Ok(())
}

/// A path as a word of the shell.
fn quoted(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', r"'\''"))
}
