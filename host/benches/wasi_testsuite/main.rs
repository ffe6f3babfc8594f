//! The public tests of WASI's file behaviour, through the guard and by plain
//! WASI: `cargo xtask wasi-testsuite FOLDER`.
//!
//! FOLDER holds components, each with its `.json` and the folders that it names,
//! as wasi-testsuite has them. Every test runs twice over a fresh copy of its
//! folders; what passes by plain WASI has to pass through the guard, or be among
//! [`ON_PURPOSE`].

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use serde::Deserialize;
use sweepd::domain::digest::Digest;
use sweepd::domain::job::{JobId, JobSpec, Mount};
use sweepd::domain::rights::Rights;
use sweepd::domain::time::Clock;
use sweepd::sandbox::{Custody, Gate, GuestState, Journal, Lease, Role, Room};
use tempfile::TempDir;
use wasmtime::component::{Component, Linker, ResourceTable};
use wasmtime::{Config, Engine, Store};
use wasmtime_wasi::p2::bindings::sync::Command;
use wasmtime_wasi::{FsPerms, I32Exit, WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};

#[path = "../sweepd/world.rs"]
#[allow(dead_code, reason = "shared with the benchmarks, which use all of it")]
mod world;

/// Tests that need what guests are not given, and what that is.
const ON_PURPOSE: [(&str, &str); 6] = [
    ("nofollow_errors", NO_LINKS),
    ("path_exists", NO_LINKS),
    ("path_symlink_trailing_slashes", NO_LINKS),
    ("readlink", NO_LINKS),
    ("symlink_create", NO_LINKS),
    ("symlink_filestat", NO_LINKS),
];

const NO_LINKS: &str = "it makes symbolic links, and guests may not";

/// What a test asks for.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Spec {
    /// Seen at `/`.
    root: Option<String>,
    /// Each seen by its own name.
    dirs: Vec<String>,
    args: Vec<String>,
    env: BTreeMap<String, String>,
    exit_code: i32,
}

impl Spec {
    /// The folders, each with where the guest sees it.
    fn mounts(&self) -> impl Iterator<Item = (&str, &str)> {
        let root = self.root.iter().map(|dir| (dir.as_str(), "/"));
        root.chain(self.dirs.iter().map(|dir| (dir.as_str(), dir.as_str())))
    }

    /// WASI 0.2 tells success from failure, and no more.
    fn is_wanted(&self, ended: &Result<i32, String>) -> bool {
        ended.as_ref().is_ok_and(|code| (*code == 0) == (self.exit_code == 0))
    }
}

fn main() -> ExitCode {
    let folders: Vec<PathBuf> =
        std::env::args_os().skip(1).filter(|arg| *arg != "--bench").map(PathBuf::from).collect();
    if folders.is_empty() {
        eprintln!("usage: cargo xtask wasi-testsuite FOLDER…");
        return ExitCode::from(2);
    }
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let _entered = runtime.enter();
    let bench = Bench::new();
    let (mut both, mut neither, mut only) = (0, Vec::new(), Vec::new());
    for path in folders.iter().flat_map(|folder| components(folder)) {
        let name = path.file_stem().and_then(OsStr::to_str).unwrap_or_default().to_owned();
        let spec = spec(&path);
        let (plain, guarded) = (bench.plain(&path, &spec), bench.guarded(&path, &spec));
        match (spec.is_wanted(&plain), spec.is_wanted(&guarded)) {
            (true, true) => both += 1,
            (false, false) => neither.push((name, plain)),
            (true, false) => only.push((name, format!("passes by plain WASI alone: {guarded:?}"))),
            (false, true) => only.push((name, format!("passes through the guard alone: {plain:?}"))),
        }
    }
    println!("{both} pass both ways");
    for (name, why) in &neither {
        println!("neither    {name}: {why:?}");
    }
    let mut unexpected = 0;
    for (name, difference) in &only {
        if let Some((_, why)) = ON_PURPOSE.iter().find(|(known, _)| known == name) {
            println!("on purpose {name}: {why}");
        } else {
            unexpected += 1;
            println!("DIFFERENT  {name}: {difference}");
        }
    }
    if unexpected == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn components(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.retain(|path| path.extension() == Some(OsStr::new("wasm")));
    paths.sort();
    paths
}

fn spec(component: &Path) -> Spec {
    match fs::read_to_string(component.with_extension("json")) {
        Ok(text) => serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", component.display())),
        Err(_) => Spec::default(),
    }
}

/// Copies the folders that a test works in.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).into_iter().flatten().map(|entry| entry.expect("an entry")) {
        let (path, to) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() { copy(&path, &to) } else { fs::copy(&path, &to).map(drop).expect("a copy") }
    }
}

/// A guest without a guard.
struct Plain {
    wasi: WasiCtx,
    table: ResourceTable,
}

impl WasiView for Plain {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

struct Bench {
    engine: Engine,
    guarded: Linker<GuestState>,
    plain: Linker<Plain>,
}

impl Bench {
    fn new() -> Self {
        let mut config = Config::new();
        config.wasm_component_model(true).epoch_interruption(true);
        let engine = Engine::new(&config).expect("an engine");
        let (mut guarded, mut plain) = (Linker::new(&engine), Linker::new(&engine));
        sweepd::sandbox::add_to_linker(&mut guarded).expect("the sandbox links");
        wasmtime_wasi::p2::add_to_linker_sync(&mut plain).expect("WASI links");
        Self { engine, guarded, plain }
    }

    fn component(&self, path: &Path) -> Component {
        Component::from_file(&self.engine, path).unwrap_or_else(|error| panic!("{}: {error:#}", path.display()))
    }

    /// The exit code, or why there is none.
    fn plain(&self, path: &Path, spec: &Spec) -> Result<i32, String> {
        let folder = folder(path, spec);
        let mut wasi = WasiCtxBuilder::new();
        wasi.allow_blocking_current_thread(true).arg(name_of(path)).args(&spec.args);
        for (key, value) in &spec.env {
            wasi.env(key, value);
        }
        for (dir, at) in spec.mounts() {
            wasi.preopened_dir(folder.path().join(dir), at, FsPerms::ReadWrite).map_err(|error| error.to_string())?;
        }
        let guest = Plain { wasi: wasi.build(), table: ResourceTable::new() };
        let mut store = Store::new(&self.engine, guest);
        store.set_epoch_deadline(u64::MAX / 2);
        run(&mut store, &self.component(path), &self.plain)
    }

    fn guarded(&self, path: &Path, spec: &Spec) -> Result<i32, String> {
        let (folder, state) = (folder(path, spec), world::folder());
        let mount = |(dir, at)| Mount {
            host: folder.path().join(dir),
            was_there: true,
            guest: str::to_owned(at),
            rights: Rights::RW,
            cross_mounts: false,
        };
        let mounts = spec.mounts().map(mount).collect();
        let job = Arc::new(JobSpec { mounts, ..world::job(path.to_owned(), folder.path(), 1) });
        let journal = Journal::begin(state.path()).map_err(|error| error.to_string())?;
        let (chunks, _) = tokio::sync::mpsc::channel(1);
        let custody = Custody::new(job, JobId(1), journal, Arc::new(Room::endless()), Clock::system(), chunks);
        let gate = Gate::new(Lease::endless());
        let mut guest =
            GuestState::new(&custody, Role::Executor, 1, Digest::of(b""), gate).map_err(|error| error.to_string())?;
        guest.begin_call(Some(&world::task(0)));
        let mut linker = self.guarded.clone();
        give_arguments(&mut linker, path, spec);
        let mut store = guest.into_store(&self.engine);
        run(&mut store, &self.component(path), &linker)
    }
}

/// Guests get no arguments: the tests need theirs.
fn give_arguments(linker: &mut Linker<GuestState>, path: &Path, spec: &Spec) {
    let mut arguments = vec![name_of(path)];
    arguments.extend(spec.args.iter().cloned());
    let environment: Vec<_> = spec.env.clone().into_iter().collect();
    linker.allow_shadowing(true);
    for version in 0..=30 {
        let Ok(mut instance) = linker.instance(&format!("wasi:cli/environment@0.2.{version}")) else { continue };
        let (arguments, environment) = (arguments.clone(), environment.clone());
        let given = instance
            .func_wrap("get-arguments", move |_, (): ()| Ok((arguments.clone(),)))
            .and_then(|()| instance.func_wrap("get-environment", move |_, (): ()| Ok((environment.clone(),))))
            .and_then(|()| instance.func_wrap("initial-cwd", |_, (): ()| Ok((None::<String>,))));
        given.expect("the functions link");
    }
}

fn name_of(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

fn folder(path: &Path, spec: &Spec) -> TempDir {
    let folder = world::folder();
    for (dir, _) in spec.mounts() {
        copy(&path.parent().expect("a folder").join(dir), &folder.path().join(dir));
    }
    folder
}

fn run<T: Send + 'static>(store: &mut Store<T>, component: &Component, linker: &Linker<T>) -> Result<i32, String> {
    let command = Command::instantiate(&mut *store, component, linker).map_err(|error| format!("{error:#}"))?;
    match command.wasi_cli_run().call_run(store) {
        Ok(Ok(())) => Ok(0),
        Ok(Err(())) => Ok(1),
        Err(error) => match error.downcast_ref::<I32Exit>() {
            Some(I32Exit(code)) => Ok(*code),
            None => Err(format!("{error:#}")),
        },
    }
}
