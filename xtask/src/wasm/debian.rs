//! Debian's Rust compiler and library sources, and its clang for C, unpacked into
//! a cache folder.
//! Nothing is installed and root is not needed.
//!
//! The version is the newest that apt knows, and stays until the folder is
//! removed. What is unpacked appears under its name only when it is whole.

use std::env;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use super::TARGET;
use crate::files::{self, Lock};
use crate::process::{is_there, output, run, run_within};

/// How long all downloads together may take.
pub(super) const DOWNLOAD_LIMIT: Duration = Duration::from_mins(30);

/// What rustc links every guest with; Debian has them beside its C library.
const START_FILES: [&str; 3] = ["crt1-command.o", "crt1-reactor.o", "libc.a"];

/// The unpacked packages.
pub(super) struct Debian {
    /// The folder for all that is ours.
    pub(super) cache: PathBuf,
    /// The root of the packages' files.
    pub(super) root: PathBuf,
}

/// Unpacks the packages unless they are there.
pub(super) fn unpacked() -> Result<Debian> {
    let cache = cache()?;
    let debian = Debian { root: cache.join("root"), cache };
    let _lock = Lock::take(&debian.cache.join(".lock"))?;
    if !debian.root.join(".ok").exists() {
        if !is_there("apt-get", "--version") || !is_there("dpkg", "--version") {
            bail!("this machine has no apt to fetch Debian's compiler with");
        }
        debian.unpack()?;
    }
    Ok(debian)
}

/// `$SWEEPD_WASM_CACHE`, or a folder where the user keeps caches.
pub(super) fn cache() -> Result<PathBuf> {
    if let Some(folder) = env::var_os("SWEEPD_WASM_CACHE") {
        return Ok(env::current_dir()?.join(folder));
    }
    let caches = match env::var_os("XDG_CACHE_HOME") {
        Some(folder) => PathBuf::from(folder),
        None => env::home_dir().context("there is no home folder: set SWEEPD_WASM_CACHE to a folder")?.join(".cache"),
    };
    Ok(caches.join("sweepd/wasm-rust"))
}

impl Debian {
    fn unpack(&self) -> Result<()> {
        eprintln!("fetching Debian's Rust compiler: 140 MB down, 850 MB on disk, once");
        let apt = Apt::new(&self.cache)?;
        let version = apt.newest("rustc-web")?;
        let std = format!("libstd-rust-web-{}", major_minor(&version)?);
        let llvm = apt.llvm_of(&format!("{std}={version}"))?;

        let new = self.cache.join(format!("new.{}", process::id()));
        let root = apt.unpack(
            &new,
            &[
                &format!("rustc-web={version}"),
                &format!("rust-web-src={version}"),
                &format!("{std}={version}"),
                &format!("libstd-rust-web-dev={version}"),
                &llvm,
                "wasi-libc",
            ],
        )?;
        arrange(&root, &version)?;
        fs::write(root.join(".ok"), &version)?;
        if self.root.exists() {
            fs::remove_dir_all(&self.root)?;
        }
        fs::rename(&root, &self.root).with_context(|| format!("cannot put {} in place", self.root.display()))?;
        tidy(&self.cache)
    }
}

/// Removes the archives, and what interrupted invocations left.
fn tidy(cache: &Path) -> Result<()> {
    for entry in fs::read_dir(cache)? {
        let entry = entry?;
        let name = entry.file_name();
        if name == "apt" || name.to_string_lossy().starts_with("new.") {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

/// The release of clang that compiles guests in C.
const CLANG: &str = "19";

/// Debian's clang and its C library for WASI.
pub(super) struct Clang(PathBuf);

/// Unpacks them unless they are there.
pub(super) fn clang() -> Result<Clang> {
    let cache = cache()?;
    let root = cache.join(format!("clang-{CLANG}"));
    let _lock = Lock::take(&cache.join(".lock"))?;
    if !root.is_dir() {
        if !is_there("apt-get", "--version") || !is_there("dpkg", "--version") {
            bail!("this machine has no apt to fetch Debian's clang with");
        }
        eprintln!("fetching Debian's clang {CLANG}: 41 MB down, 210 MB on disk, once");
        let new = cache.join(format!("new.{}", process::id()));
        let names = [
            format!("clang-{CLANG}"),
            format!("libclang-cpp{CLANG}"),
            format!("libllvm{CLANG}"),
            format!("libclang-common-{CLANG}-dev"),
            format!("libclang-rt-{CLANG}-dev-wasm32"),
            "wasi-libc".to_owned(),
        ];
        let unpacked = Apt::new(&cache)?.unpack(&new, &names.each_ref().map(String::as_str))?;
        fs::rename(&unpacked, &root).with_context(|| format!("cannot put {} in place", root.display()))?;
        tidy(&cache)?;
    }
    Ok(Clang(root))
}

impl Clang {
    /// The compiler, with its own libraries.
    pub(super) fn command(&self) -> Command {
        let mut clang = Command::new(self.usr().join(format!("bin/clang-{CLANG}")));
        clang.env("LD_LIBRARY_PATH", self.usr().join(format!("lib/{}-linux-gnu", env::consts::ARCH)));
        clang
    }

    /// Where the packages' files are.
    pub(super) fn usr(&self) -> PathBuf {
        self.0.join("usr")
    }

    /// What compiled code calls for arithmetic that WebAssembly has not.
    pub(super) fn builtins(&self) -> PathBuf {
        self.usr().join(format!("lib/llvm-{CLANG}/lib/clang/{CLANG}/lib/wasi/libclang_rt.builtins-wasm32.a"))
    }
}

/// Puts things where rustc and cargo look for them.
fn arrange(root: &Path, version: &str) -> Result<()> {
    let rustlib = root.join("usr/lib/rustlib");
    let start = rustlib.join(TARGET).join("lib/self-contained");
    fs::create_dir_all(&start)?;
    for name in START_FILES {
        let from = root.join("usr/lib/wasm32-wasi").join(name);
        fs::copy(&from, start.join(name)).with_context(|| format!("wasi-libc has no {}", from.display()))?;
    }
    let src = rustlib.join("src");
    fs::create_dir_all(&src)?;
    if !src.join("rust").exists() {
        let upstream = version.split('+').next().unwrap_or(version);
        symlink(format!("../../../src/rustc-{upstream}"), src.join("rust"))?;
    }
    if !src.join("rust/library/std/Cargo.toml").exists() {
        bail!("rust-web-src {version} has its sources in another place than expected");
    }
    Ok(())
}

/// `1.96` of `1.96.0+dfsg1-1~deb12u2`.
fn major_minor(version: &str) -> Result<String> {
    let mut parts = version.split('.');
    match (parts.next(), parts.next()) {
        (Some(major), Some(minor)) => Ok(format!("{major}.{minor}")),
        _ => bail!("rustc-web has a version that is none: {version}"),
    }
}

/// Apt with package lists of our own: it needs no root, and is never stale. The
/// system's lists may name builds that the mirror has since dropped.
struct Apt {
    options: Vec<String>,
}

impl Apt {
    fn new(cache: &Path) -> Result<Self> {
        let (lists, archives) = (cache.join("lists"), cache.join("apt"));
        fs::create_dir_all(lists.join("partial"))?;
        fs::create_dir_all(archives.join("archives/partial"))?;
        let user = output(Command::new("id").arg("-un"))?;
        let apt = Self {
            options: vec![
                "-qq".to_owned(),
                format!("-oDir::State::Lists={}", lists.display()),
                format!("-oDir::Cache={}", archives.display()),
                format!("-oAPT::Sandbox::User={}", user.trim()),
                "-oDebug::NoLocking=1".to_owned(),
            ],
        };
        let mut update = apt.command("apt-get");
        if let Err(error) = run_within(DOWNLOAD_LIMIT, update.arg("update")) {
            eprintln!("{error:#}; going on with the sources that could be read");
        }
        Ok(apt)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        // The words that are looked for are English.
        command.args(&self.options).env("LC_ALL", "C");
        command
    }

    fn newest(&self, package: &str) -> Result<String> {
        let answer = output(self.command("apt-cache").args(["policy", package]))?;
        answer
            .lines()
            .find_map(|line| line.trim().strip_prefix("Candidate: "))
            .filter(|version| *version != "(none)")
            .map(str::to_owned)
            .with_context(|| format!("apt knows no {package} (bookworm has it in bookworm-security)"))
    }

    /// The LLVM package that a package depends on.
    fn llvm_of(&self, package: &str) -> Result<String> {
        let answer = output(self.command("apt-cache").args(["show", package]))?;
        answer
            .split(|char: char| !char.is_ascii_alphanumeric())
            .find(|word| word.strip_prefix("libllvm").is_some_and(|rest| rest.parse::<u32>().is_ok()))
            .map(str::to_owned)
            .with_context(|| format!("{package} depends on no libllvm"))
    }

    /// Downloads packages into a folder, which is made; gives the root of their
    /// files below it.
    fn unpack(&self, folder: &Path, packages: &[&str]) -> Result<PathBuf> {
        let root = folder.join("root");
        fs::create_dir_all(&root)?;
        let mut command = self.command("apt-get");
        command.arg("download").args(packages).current_dir(folder);
        run_within(DOWNLOAD_LIMIT, &mut command)?;
        for package in files::below(folder)? {
            run(Command::new("dpkg").arg("-x").arg(&package).arg(&root))?;
        }
        Ok(root)
    }
}
