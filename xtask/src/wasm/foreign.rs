//! Test guests in C and Python: by the compilers that Debian and `PyPI` have,
//! unpacked into the cache folder. Nothing is installed, and root is not needed.
//!
//! C is Debian's clang with its `wasi-libc`, linked and made a component by the
//! linkers that come with Rust. Python is `componentize-py`, which brings `CPython`
//! along. A guest is built again only when its source, the contract or this file
//! is another: `CPython` takes 20 s.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use super::{debian, linker, sysroot};
use crate::files::{self, Lock};
use crate::{process, repo};

/// The release of `componentize-py` that builds the guests.
const COMPONENTIZE_PY: &str = "0.25.1";

/// The world that a guest in another language has.
const WORLD: &str = "executor-only";

/// A guest in another language than Rust, by its source.
pub(crate) struct Foreign {
    /// The guest's name, which is that of its source without the suffix.
    pub(crate) name: String,
    /// Where its source is.
    pub(crate) source: PathBuf,
    language: Language,
}

enum Language {
    C,
    Python,
}

/// All of them, sorted.
pub(crate) fn all() -> Result<Vec<Foreign>> {
    let mut found = Vec::new();
    for (folder, suffix) in [("plugins/guests/c", "c"), ("plugins/guests/python", "py")] {
        for source in files::below(&repo::at(folder))? {
            if source.extension().is_some_and(|found| found == suffix) {
                let name = source.file_stem().unwrap_or_default().to_string_lossy().into_owned();
                let language = if suffix == "c" { Language::C } else { Language::Python };
                found.push(Foreign { name, source, language });
            }
        }
    }
    Ok(found)
}

impl Foreign {
    /// Builds it unless it is up to date; gives the component.
    pub(crate) fn build(&self) -> Result<PathBuf> {
        let folder = repo::at("target/wasm/foreign").join(&self.name);
        let (component, stamp) = (folder.join("guest.wasm"), folder.join("stamp"));
        let inputs = self.inputs()?;
        if component.is_file() && files::read(&stamp)?.as_deref() == Some(&inputs) {
            return Ok(component);
        }
        fs::create_dir_all(&folder)?;
        match self.language {
            Language::C => self.compile_c(&folder, &component),
            Language::Python => self.bundle_python(&folder, &component),
        }
        .with_context(|| format!("cannot build {}", self.source.display()))?;
        files::put(&stamp, &inputs)?;
        Ok(component)
    }

    fn inputs(&self) -> Result<Vec<u8>> {
        let mut inputs = Vec::new();
        for path in [&self.source, &repo::at("wit/job.wit"), &repo::at("xtask/src/wasm/foreign.rs")] {
            inputs.extend(fs::read(path).with_context(|| format!("cannot read {}", path.display()))?);
        }
        Ok(inputs)
    }

    fn compile_c(&self, folder: &Path, component: &Path) -> Result<()> {
        let clang = debian::clang()?;
        let tools = linker::tools(&sysroot()?)?;
        let (object, world) = (folder.join("guest.o"), folder.join("world.wit"));
        let include = clang.usr().join("include/wasm32-wasi");
        let mut compile = clang.command();
        compile.args([
            "--target=wasm32-wasi",
            "-O2",
            "-Wall",
            "-Wextra",
            "-Werror",
            "-Wno-unused-parameter",
            "-isystem",
        ]);
        process::run(compile.arg(include).arg("-c").arg(&self.source).arg("-o").arg(&object))?;
        fs::write(&world, c_world()?)?;
        // The linker takes its program for one kind of linker by this name.
        let wasm_ld = folder.join("wasm-ld");
        let _ = fs::remove_file(&wasm_ld);
        std::os::unix::fs::symlink(tools.join("rust-lld"), &wasm_ld)?;
        let library = clang.usr().join("lib/wasm32-wasi");
        let mut link = Command::new(tools.join("wasm-component-ld"));
        link.arg("--wasm-ld-path").arg(&wasm_ld).arg("-o").arg(component).arg(&object);
        link.args([library.join("crt1-reactor.o"), library.join("libc.a"), clang.builtins()]);
        link.arg("--component-type").arg(&world);
        process::run(link.args(["--entry", "_initialize", "--wasi-adapter", "reactor"]))
    }

    fn bundle_python(&self, folder: &Path, component: &Path) -> Result<()> {
        let package = componentize_py()?;
        // In a folder of its own, which is all that the guest can import.
        let module = folder.join("module");
        let _ = fs::remove_dir_all(&module);
        fs::create_dir_all(&module)?;
        fs::copy(&self.source, module.join(format!("{}.py", self.name)))?;
        let mut bundle = Command::new("python3");
        bundle.arg(package.join("bin/componentize-py")).env("PYTHONPATH", &package).arg("-d").arg(repo::at("wit"));
        bundle.args(["-w", WORLD, "componentize", &self.name, "-p"]).arg(&module).arg("-o").arg(component);
        eprintln!("bundling the guest {} with Python: about 20 s", self.name);
        // What it says about its progress is for nobody.
        process::output(&mut bundle).map(drop)
    }
}

/// The contract's world as the main package's only one, which the linker asks for.
fn c_world() -> Result<String> {
    let contract = fs::read_to_string(repo::at("wit/job.wit")).context("cannot read wit/job.wit")?;
    let (head, body): (Vec<_>, Vec<_>) = contract.lines().partition(|line| line.starts_with("package "));
    let package = head.first().and_then(|line| line.strip_prefix("package ")?.strip_suffix(';'));
    let package = package.context("wit/job.wit names no package")?;
    let (name, version) = package.split_once('@').context("the package of wit/job.wit has no version")?;
    let body = body.join("\n");
    Ok(format!(
        "package sweepd:guests;\nworld guest {{ include {name}/{WORLD}@{version}; }}\npackage {package} {{\n{body}\n}}\n"
    ))
}

/// Unpacks `componentize-py` unless it is there.
fn componentize_py() -> Result<PathBuf> {
    let cache = debian::cache()?;
    let package = cache.join(format!("componentize-py-{COMPONENTIZE_PY}"));
    let _lock = Lock::take(&cache.join(".lock-python"))?;
    if package.is_dir() {
        return Ok(package);
    }
    eprintln!("fetching componentize-py {COMPONENTIZE_PY}: 17 MB, once");
    let new = cache.join(format!("componentize-py.{}", std::process::id()));
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--target"]).arg(&new);
    pip.env("PIP_ROOT_USER_ACTION", "ignore");
    process::run_within(debian::DOWNLOAD_LIMIT, pip.arg(format!("componentize-py=={COMPONENTIZE_PY}")))
        .context("the guests in Python need Python 3.9 or later with pip: apt-get install python3-pip")?;
    fs::rename(&new, &package).with_context(|| format!("cannot put {} in place", package.display()))?;
    Ok(package)
}
