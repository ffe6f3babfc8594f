//! Where things are: in the repository, and of cargo's.

use std::env;
use std::path::PathBuf;

/// The repository's top folder.
pub(crate) fn root() -> PathBuf {
    // Cargo sets it when it runs us; the built-in one serves a copied binary.
    let xtask =
        env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    match xtask.parent() {
        Some(root) => root.to_owned(),
        None => xtask,
    }
}

/// A path in the repository.
pub(crate) fn at(path: &str) -> PathBuf {
    root().join(path)
}

/// Where `cargo build` without further options puts what it builds.
pub(crate) fn target() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| at("target"), |folder| root().join(folder))
}

/// Where cargo keeps what it has fetched.
pub(crate) fn cargo_home() -> Option<PathBuf> {
    env::var_os("CARGO_HOME").map(PathBuf::from).or_else(|| Some(env::home_dir()?.join(".cargo")))
}

/// The packages, in the groups in which cargo is called for them. What is built
/// together shares the features of its dependencies: the plugins' own would
/// make wasmtime another build, of minutes, than that of `cargo build`.
pub(crate) const PACKAGES: [&[&str]; 2] =
    [&["sweepd", "xtask"], &["sweepd-sdk", "video-clear", "video-archive", "sweepd-guests"]];
