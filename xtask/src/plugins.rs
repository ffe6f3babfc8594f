//! `cargo xtask plugins`: builds the plugins and the guests of the tests, and
//! puts them where the host, its tests and the examples take them from.
//!
//! What is there stays untouched while nothing changed: a second call looks at
//! names, times and sizes of the sources and is done. An output is replaced at
//! once and only when its content is another, so that a running host reloads
//! what is new and nothing else.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use anyhow::{Context as _, Result, bail};

use crate::files::{self, Lock};
use crate::repo;
use crate::wasm::{self, Foreign, Packages};

/// Folders in `plugins/` that are not plugins: the crate for authors, and the
/// guests of the tests.
const NOT_PLUGINS: [&str; 2] = ["sdk", "guests"];

/// What the outputs depend on: the files below these.
const SOURCES: [&str; 6] = ["plugins", "wit", "xtask/src/wasm", "Cargo.toml", "Cargo.lock", ".cargo/config.toml"];

/// Builds what is not up to date.
pub(crate) fn build() -> Result<()> {
    let _lock = Lock::take(&repo::at("target/plugins/.lock"))?;
    let outputs = Outputs::find()?;
    let stamp = repo::at("target/plugins/.stamp");
    // Taken before the build: what is changed meanwhile is built the next time.
    let sources = fingerprint()?;
    if outputs.are_there() && files::read(&stamp)?.as_deref() == Some(sources.as_bytes()) {
        return Ok(());
    }
    let built = wasm::build(&outputs.packages())?;
    outputs.put(&built)?;
    files::put(&stamp, sources.as_bytes())?;
    Ok(())
}

/// Where a plugin's component is, once built.
pub(crate) fn path(plugin: &str) -> PathBuf {
    repo::at("target/plugins").join(format!("{plugin}.wasm"))
}

fn guest_path(guest: &str) -> PathBuf {
    repo::at("target/plugins/guests").join(format!("{guest}.wasm"))
}

/// What is to be built.
struct Outputs {
    /// Packages, each of which is a plugin.
    plugins: Vec<String>,
    /// Examples of the package of guests.
    guests: Vec<String>,
    /// Guests in other languages.
    foreign: Vec<Foreign>,
}

impl Outputs {
    fn find() -> Result<Self> {
        let mut plugins = Vec::new();
        for entry in fs::read_dir(repo::at("plugins")).context("cannot list plugins/")? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let Some(manifest) = files::read(&entry.path().join("Cargo.toml"))? else {
                continue;
            };
            if NOT_PLUGINS.contains(&name.as_str()) {
                continue;
            }
            if !declares(&manifest, &name) {
                bail!("plugins/{name}/Cargo.toml: name the package \"{name}\", as its folder is");
            }
            plugins.push(name);
        }
        plugins.sort();
        Ok(Self { plugins, guests: guests()?, foreign: wasm::all_foreign()? })
    }

    fn packages(&self) -> Packages<'_> {
        Packages { plugins: &self.plugins, guests: "sweepd-guests" }
    }

    fn are_there(&self) -> bool {
        self.plugins.iter().all(|name| path(name).is_file()) && self.all_guests().all(|name| guest_path(name).is_file())
    }

    fn all_guests(&self) -> impl Iterator<Item = &String> {
        self.guests.iter().chain(self.foreign.iter().map(|foreign| &foreign.name))
    }

    /// Copies what was built, and removes guests that are no more.
    fn put(&self, built: &Path) -> Result<()> {
        for name in &self.plugins {
            let component = built.join(format!("{}.wasm", name.replace('-', "_")));
            if put(&component, &path(name))? {
                eprintln!("built target/plugins/{name}.wasm");
            }
        }
        let mut changed = 0;
        for name in &self.guests {
            let component = built.join(format!("examples/{name}.wasm"));
            changed += usize::from(put(&component, &guest_path(name))?);
        }
        for foreign in &self.foreign {
            changed += usize::from(put(&foreign.build()?, &guest_path(&foreign.name))?);
        }
        if changed > 0 {
            eprintln!("built {changed} guests in target/plugins/guests");
        }
        let current: BTreeSet<PathBuf> = self.all_guests().map(|name| guest_path(name)).collect();
        for found in files::below(&repo::at("target/plugins/guests"))? {
            if !current.contains(&found) {
                fs::remove_file(&found).with_context(|| format!("cannot remove {}", found.display()))?;
            }
        }
        Ok(())
    }
}

/// The guests' names.
pub(crate) fn guests() -> Result<Vec<String>> {
    let manifest = fs::read(repo::at("plugins/guests/Cargo.toml")).context("cannot read plugins/guests/Cargo.toml")?;
    let mut names = Vec::new();
    for path in files::rust_below(&repo::at("plugins/guests/examples"))? {
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        // Without an entry it would be taken for a program.
        if !declares(&manifest, &name) {
            bail!(
                "plugins/guests/Cargo.toml: add an [[example]] with name = \"{name}\" \
                 and crate-type = [\"cdylib\"]"
            );
        }
        names.push(name.into_owned());
    }
    Ok(names)
}

fn declares(manifest: &[u8], name: &str) -> bool {
    let line = format!("name = \"{name}\"");
    String::from_utf8_lossy(manifest).lines().any(|found| found.trim() == line)
}

fn put(component: &Path, output: &Path) -> Result<bool> {
    let content = fs::read(component).with_context(|| format!("the build left no {}", component.display()))?;
    files::put(output, &content)
}

/// Names, times and sizes of all sources.
fn fingerprint() -> Result<String> {
    let root = repo::root();
    let mut text = String::new();
    for source in SOURCES {
        let path = root.join(source);
        let found = if path.is_dir() { files::below(&path)? } else { vec![path] };
        for path in found {
            let about = fs::metadata(&path).with_context(|| format!("cannot look at {}", path.display()))?;
            let modified = about.modified()?.duration_since(UNIX_EPOCH)?;
            let name = path.strip_prefix(&root).unwrap_or(&path).display();
            writeln!(text, "{name} {} {}", modified.as_nanos(), about.len())?;
        }
    }
    Ok(text)
}
