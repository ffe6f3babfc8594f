//! The one cargo invocation that builds all components. They share a target
//! folder, and with it a standard library where that is built from source.

use std::path::PathBuf;

use anyhow::{Context as _, Result};

use super::{TARGET, Toolchain};
use crate::{process, repo};

/// The profile for guests in the workspace's manifest.
const PROFILE: &str = "plugin";

/// What to build.
pub(crate) struct Packages<'a> {
    /// Packages with a library that is a component.
    pub(crate) plugins: &'a [String],
    /// The package with examples that are components.
    pub(crate) guests: &'a str,
}

/// Builds the components; gives the folder that has the libraries, and in
/// `examples` the guests.
pub(crate) fn build(packages: &Packages<'_>) -> Result<PathBuf> {
    let toolchain = Toolchain::choose()?;
    let folder = repo::at("target/wasm");
    let mut cargo = process::cargo();
    cargo.args(["build", "--profile", PROFILE, "--target", TARGET]);
    cargo.arg("--target-dir").arg(&folder);
    for package in packages.plugins {
        cargo.args(["--package", package]);
    }
    cargo.args(["--package", packages.guests, "--lib", "--examples"]);
    // Flags for the machine's own linker or processor mean nothing to wasm.
    for name in ["RUSTFLAGS", "CARGO_BUILD_RUSTFLAGS"] {
        cargo.env_remove(name);
    }
    let mut hidden = vec![(repo::root(), "/sweepd")];
    hidden.extend(repo::cargo_home().map(|home| (home, "/cargo")));
    if let Toolchain::Debian(scripts) = &toolchain {
        eprintln!("building components with Debian's compiler");
        cargo.arg("-Zbuild-std=std,panic_abort");
        cargo.env("RUSTC", &scripts.rustc);
        cargo.env("RUSTC_BOOTSTRAP", "1");
        cargo.env("CARGO_TARGET_WASM32_WASIP2_LINKER", &scripts.linker);
        for name in ["RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER"] {
            cargo.env_remove(name);
        }
        hidden.push((scripts.root.clone(), "/rust"));
    }
    // The same sources give the same component wherever they are built, and a
    // panic's message does not tell where that was.
    let flags: Vec<String> =
        hidden.iter().map(|(folder, name)| format!("--remap-path-prefix={}={name}", folder.display())).collect();
    cargo.env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"));
    process::run(&mut cargo).context("cannot build the plugins")?;
    Ok(folder.join(TARGET).join(PROFILE))
}
