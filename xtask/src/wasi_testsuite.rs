//! `cargo xtask wasi-testsuite FOLDER`: the public tests of WASI's file behaviour
//! (<https://github.com/WebAssembly/wasi-testsuite>), through the guard and by
//! plain WASI.
//!
//! FOLDER is a checkout of a branch that holds the compiled tests, such as
//! `prod/testsuite-base`. They are modules of WASI 0.1, of which components are
//! made first.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

use crate::{process, repo};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// A checkout of wasi-testsuite with its compiled tests.
    folder: PathBuf,
}

/// The folders of compiled tests in a checkout.
const SUITES: [&str; 3] = [
    "tests/assemblyscript/testsuite/wasm32-wasip1",
    "tests/c/testsuite/wasm32-wasip1",
    "tests/rust/testsuite/wasm32-wasip1",
];

pub(crate) fn run(args: &Args) -> Result<()> {
    let tool = repo::at("adapt");
    let out = repo::at("target/wasi-testsuite");
    let mut folders = Vec::new();
    for (number, suite) in SUITES.iter().enumerate() {
        let from = args.folder.join(suite);
        ensure!(from.is_dir(), "{} is missing: is this a branch with compiled tests?", from.display());
        let to = out.join(number.to_string());
        let _ = fs::remove_dir_all(&to);
        copy(&from, &to).with_context(|| format!("copying {}", from.display()))?;
        let mut cargo = process::cargo();
        cargo.args(["run", "--release", "--quiet", "--manifest-path"]).arg(tool.join("Cargo.toml")).arg("--");
        process::run(cargo.arg(&from).arg(&to))?;
        folders.push(to);
    }
    let mut cargo = process::cargo();
    cargo.args(["bench", "--package", "sweepd", "--bench", "wasi-testsuite", "--"]).args(folders);
    process::run(&mut cargo)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &to)?;
        } else {
            fs::copy(entry.path(), to)?;
        }
    }
    Ok(())
}
