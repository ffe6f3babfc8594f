//! Machine code between two starts, and components that are made to compile to
//! more than they are: what the host runs is what its compiler made, and what
//! its compiler made is bounded.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc;

use notify::event::AccessKind;
use notify::{EventKind, RecursiveMode, Watcher as _};
use rustix::fs::{AtFlags, Timespec, Timestamps, UTIME_NOW};

use crate::cli::run;
use crate::rollback::{clear, digest_of, serving, wait_for};
use crate::support::{PATIENCE, Site, Sweepd, guest, plugin};

/// Now, as a time of a file.
const UTIME: Timespec = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };

/// What the host keeps of what it compiled.
fn compiled(folder: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|file| file.extension().is_some_and(|kind| kind == "compiled")).collect()
}

fn cache(site: &Site) -> PathBuf {
    site.path().join("state/cache")
}

#[test]
fn a_flipped_bit_of_machine_code_is_compiled_anew_and_told() {
    let site = Site::with_job(&guest("noop"), "");
    let host = site.start();
    host.serving("clear");
    clear(&host, "first");
    assert_eq!(host.stop(), Some(0));
    let [file] = &compiled(&cache(&site))[..] else { panic!("one file") };
    let whole = fs::read(file).unwrap();
    // In the seal, in the head, in the code, at the end.
    for (round, at) in [3, 40, whole.len() / 3, whole.len() - 1].into_iter().enumerate() {
        let mut flipped = whole.clone();
        flipped[at] ^= 0x10;
        fs::write(file, &flipped).unwrap();
        let host = site.start();
        assert!(host.serving("clear")["slot"]["error"].is_null(), "byte {at}");
        clear(&host, &format!("flipped-{at}"));
        let told = || host.log().matches("is not what this host wrote: its component is compiled anew").count();
        host.wait("it is told", || told() > round);
        assert_eq!(told(), round + 1, "byte {at}");
        assert_eq!(host.stop(), Some(0));
        assert_ne!(fs::read(file).unwrap(), flipped, "byte {at}");
    }
    // What was compiled anew is used by the next start.
    let host = site.start();
    host.serving("clear");
    clear(&host, "last");
    assert_eq!(host.log().matches("compiled anew").count(), 4);
}

#[test]
fn machine_code_of_another_component_or_host_is_not_run() {
    let site = Site::with_job(&guest("traps"), "");
    let host = site.start();
    wait_for(&host, &guest("traps"));
    let [of_traps] = &compiled(&cache(&site))[..] else { panic!("one file") };
    let of_traps = of_traps.clone();
    site.install(&guest("noop"));
    wait_for(&host, &guest("noop"));
    assert_eq!(host.stop(), Some(0));
    let of_noop = compiled(&cache(&site)).into_iter().find(|file| *file != of_traps).expect("another file");
    fs::copy(&of_traps, &of_noop).unwrap();
    let host = site.start();
    host.serving("clear");
    clear(&host, "not-trapped");
    host.says("is not what this host wrote");
    assert_eq!(host.stop(), Some(0));
    // Without its key a host knows nothing again: neither does another host that shares the folder.
    fs::remove_file(site.path().join("state/cache.key")).unwrap();
    let before = compiled(&cache(&site)).len();
    let host = site.start();
    host.serving("clear");
    clear(&host, "by-another-key");
    assert_eq!(compiled(&cache(&site)).len(), before + 1, "a file of its own");
}

#[test]
fn a_cache_that_is_deleted_under_a_running_host_costs_no_plugin() {
    let site = Site::with_job(&guest("noop_job"), "");
    let host = site.start();
    wait_for(&host, &guest("noop_job"));
    fs::remove_dir_all(cache(&site)).unwrap();
    site.install(&guest("noop"));
    wait_for(&host, &guest("noop"));
    clear(&host, "after");
    host.wait("it is kept again", || cache(&site).exists() && compiled(&cache(&site)).len() == 1);
}

/// The bytes of an unsigned LEB128 number.
fn leb(mut number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number >= 0x80 {
        bytes.push(u8::try_from(number & 0x7f).unwrap() | 0x80);
        number >>= 7;
    }
    bytes.push(u8::try_from(number).unwrap());
    bytes
}

fn section(id: u8, content: &[u8]) -> Vec<u8> {
    [&[id][..], &leb(content.len()), content].concat()
}

/// A component of one module with a function of so many loops, one in the other.
/// Compiling it takes more than linear time: minutes from ten thousand on.
fn nested_loops(depth: usize) -> Vec<u8> {
    let body = [vec![0], [0x03, 0x40].repeat(depth), vec![0x0b; depth], vec![0x0b]].concat();
    let module = [
        b"\0asm\x01\0\0\0".to_vec(),
        section(1, &[1, 0x60, 0, 0]),
        section(3, &[1, 0]),
        section(10, &[&[1][..], &leb(body.len()), &body].concat()),
    ]
    .concat();
    [b"\0asm\x0d\0\x01\0".to_vec(), section(1, &module)].concat()
}

/// A component that exports its module under so many names of so many characters.
fn many_exports(exports: usize, length: usize) -> Vec<u8> {
    let module = b"\0asm\x01\0\0\0";
    let mut content = leb(exports);
    for number in 0..exports {
        let name = format!("x{number:0>width$}", width = length - 1);
        content.extend([&[0][..], &leb(name.len()), name.as_bytes(), &[0, 0x11, 0, 0]].concat());
    }
    [b"\0asm\x0d\0\x01\0".to_vec(), section(1, module), section(11, &content)].concat()
}

/// The compilers that the host runs now.
fn compilers(host: &Sweepd) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{}/task", host.pid())).unwrap().map(|task| task.unwrap().path());
    let children = tasks.filter_map(|task| fs::read_to_string(task.join("children")).ok()).collect::<String>();
    children.split_whitespace().map(|pid| pid.parse().unwrap()).collect()
}

fn install(site: &Site, bytes: &[u8]) {
    let file = site.path().join("plugins/made.wasm");
    fs::write(&file, bytes).unwrap();
    site.install(&file);
}

fn refusal(host: &Sweepd) -> String {
    let error = || host.get("/v1/jobs/clear")["slot"]["error"]["message"].clone();
    host.wait("it is refused", || error().is_string());
    error().as_str().unwrap().to_owned()
}

#[test]
fn a_newer_file_ends_a_compile_that_takes_long_also_while_nothing_serves() {
    let site = Site::with_job(&guest("noop"), "");
    install(&site, &nested_loops(20_000));
    let host = site.start();
    host.wait("it is being compiled", || !compilers(&host).is_empty());
    site.install(&guest("noop"));
    wait_for(&host, &guest("noop"));
    host.wait("the compiler has ended", || compilers(&host).is_empty());
    clear(&host, "after");
    assert!(!host.log().contains("given up"), "nobody waited for it");
}

#[test]
fn a_compile_that_takes_longer_than_it_may_is_given_up_and_not_tried_again() {
    let site = Site::with_job(&guest("noop"), "[sandbox]\ncompile_time = \"5s\"\n");
    install(&site, &nested_loops(20_000));
    let host = site.start();
    let why = refusal(&host);
    assert!(why.contains("given up: it took longer than 5s (sandbox.compile_time)"), "{why}");
    host.wait("the compiler has ended", || compilers(&host).is_empty());
    let said = run(&site, &["plugin", "inspect", site.plugin_file().to_str().unwrap()]).exits(1);
    assert!(said.out.contains("it took longer than 5s (sandbox.compile_time)"), "{}", said.out);
    site.install(&guest("noop"));
    wait_for(&host, &guest("noop"));
    assert_eq!(host.log().matches("given up").count(), 1, "the same bytes would take as long again");
}

#[test]
fn a_compiler_that_is_killed_is_tried_again() {
    let site = Site::with_job(&guest("noop"), "");
    install(&site, &nested_loops(20_000));
    let host = site.start();
    let mut first = 0;
    host.wait("it is being compiled", || {
        first = compilers(&host).first().copied().unwrap_or(0);
        first != 0
    });
    let pid = rustix::process::Pid::from_raw(first.cast_signed()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    let why = refusal(&host);
    assert!(why.contains("could not be compiled now: the compiler was killed"), "{why}");
    host.wait("it is tried again", || compilers(&host).iter().any(|pid| *pid != first));
}

#[test]
fn a_file_that_is_touched_all_the_time_is_taken() {
    let site = Site::with_job(&guest("noop"), "");
    let host = site.start();
    wait_for(&host, &guest("noop"));
    let slow = plugin("video-clear");
    site.install(&slow);
    let digest = digest_of(&slow);
    let (opened, opens) = mpsc::channel();
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        if event.is_ok_and(|event| matches!(event.kind, EventKind::Access(AccessKind::Open(_)))) {
            let _ = opened.send(());
        }
    })
    .unwrap();
    watcher.watch(&site.plugin_file(), RecursiveMode::NonRecursive).unwrap();
    let mut touched = 0;
    host.wait("it serves", || {
        // Another stamp of the same bytes, by its name, so that nobody but the host opens it.
        opens.try_iter().for_each(drop);
        let now = Timestamps { last_access: UTIME, last_modification: UTIME };
        rustix::fs::utimensat(rustix::fs::CWD, site.plugin_file(), &now, AtFlags::empty()).unwrap();
        touched += 1;
        opens.recv_timeout(PATIENCE).expect("the host sees it and reads the file");
        serving(&host) == digest.as_str()
    });
    assert!(touched > 1, "it takes longer than a touch");
}

#[test]
fn names_of_a_component_are_cut_wherever_they_are_shown() {
    let site = Site::with_job(&guest("noop"), "");
    let host = site.start();
    wait_for(&host, &guest("noop"));
    let bytes = many_exports(500, 20_000);
    assert!(bytes.len() > 10_000_000);
    install(&site, &bytes);
    let why = refusal(&host);
    assert!(why.contains("it exports x000") && why.contains("and 480 more") && why.len() < 4000, "{}", why.len());
    host.says("plugin not taken");
    assert!(host.log().len() < 100_000, "{}", host.log().len());
    let file = site.plugin_file();
    let file = file.to_str().unwrap();
    for args in
        [&["plugin", "inspect", file][..], &["plugin", "inspect", "--json", file], &["plan", "clear", "--plugin", file]]
    {
        let said = run(&site, args).exits(1);
        assert!(said.out.len() + said.err.len() < 20_000, "{args:?}");
        assert!(said.out.contains("and 480 more") || said.err.contains("and 480 more"), "{args:?}: {}", said.err);
    }
}

#[test]
fn an_inspection_and_a_plan_read_and_say_what_the_host_does() {
    let site = Site::with_job(&guest("noop"), "");
    let at = |name: &str| site.path().join("plugins").join(name);
    assert!(std::process::Command::new("mkfifo").arg(at("pipe.wasm")).status().unwrap().success());
    fs::File::create(at("sparse.wasm")).unwrap().set_len(7 << 30).unwrap();
    fs::File::create(at("large.wasm")).unwrap().set_len(257 << 20).unwrap();
    fs::write(at("text.wasm"), "no component").unwrap();
    install(&site, &wide_tables());
    fs::rename(at("plugin.wasm"), at("wide.wasm")).unwrap();
    std::os::unix::fs::symlink("/dev/zero", at("zero.wasm")).unwrap();
    let host = site.start();
    for (name, why) in [
        ("pipe.wasm", "is not a regular file"),
        ("zero.wasm", "is not a regular file"),
        ("sparse.wasm", "is larger than 268435456 bytes"),
        ("large.wasm", "is larger than 268435456 bytes"),
        ("text.wasm", "not a WebAssembly component"),
        ("wide.wasm", "does not export"),
    ] {
        let file = at(name);
        let file = file.to_str().unwrap();
        for args in [&["plugin", "inspect", file][..], &["plan", "clear", "--plugin", file]] {
            let said = run(&site, args).exits(1);
            assert!(said.out.contains(why) || said.err.contains(why), "{args:?}: {}{}", said.out, said.err);
        }
        fs::rename(at(name), site.plugin_file()).unwrap();
        host.wait(&format!("the host says the same of {name}"), || {
            host.get("/v1/jobs/clear")["slot"]["error"]["message"].as_str().is_some_and(|said| said.contains(why))
        });
    }
}

#[test]
fn the_cache_is_kept_within_its_bound() {
    let site = Site::with_job(&guest("noop"), "");
    let text = fs::read_to_string(site.path().join("sweepd.toml")).unwrap();
    fs::write(site.path().join("sweepd.toml"), format!("cache_max = \"2MiB\"\n{text}")).unwrap();
    fs::create_dir_all(cache(&site)).unwrap();
    // What earlier lives and other hosts left.
    let left = cache(&site).join("left.new");
    fs::write(&left, "half").unwrap();
    let long_ago = std::time::SystemTime::now() - std::time::Duration::from_hours(2);
    fs::File::open(&left).unwrap().set_times(fs::FileTimes::new().set_modified(long_ago)).unwrap();
    // Six hundred bytes that take 2.4 MB.
    (0..600).for_each(|number| fs::write(cache(&site).join(format!("{number}.compiled")), "x").unwrap());
    let host = site.start();
    let takes = || {
        // One may go between the two looks.
        let blocks = |file: &PathBuf| fs::metadata(file).ok().map(|file| std::os::unix::fs::MetadataExt::blocks(&file));
        compiled(&cache(&site)).iter().filter_map(blocks).sum::<u64>() * 512
    };
    for name in ["noop", "noop_job", "stamps", "traps", "loops", "prints", "slow", "sleeps"] {
        site.install(&guest(name));
        wait_for(&host, &guest(name));
        assert!(takes() <= 2 << 20, "{} after {name}", takes());
    }
    assert!(!left.exists());
    assert!(takes() > 1 << 20, "{}: no more than had to went", takes());
}

/// Two hundred copies of a module whose table has a million elements, of which
/// the last is given: 14 KB.
fn wide_tables() -> Vec<u8> {
    let million = leb(1_000_000);
    // The last place, as a signed number: its highest bit is not set.
    let last = leb(999_999);
    let module = [
        b"\0asm\x01\0\0\0".to_vec(),
        section(1, &[1, 0x60, 0, 0]),
        section(3, &[1, 0]),
        section(4, &[&[1, 0x70, 0][..], &million].concat()),
        section(9, &[&[1, 0, 0x41][..], &last, &[0x0b, 1, 0]].concat()),
        section(10, &[1, 2, 0, 0x0b]),
    ]
    .concat();
    let mut component = b"\0asm\x0d\0\x01\0".to_vec();
    for _ in 0..200 {
        component.extend(section(1, &module));
    }
    component
}

/// The most memory that the host ever had, in KiB.
fn most_memory(host: &Sweepd) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", host.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a line");
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn a_small_component_with_wide_tables_does_not_grow_the_host() {
    let site = Site::with_job(&guest("noop"), "");
    let host = site.start();
    host.serving("clear");
    let before = most_memory(&host);
    let bytes = wide_tables();
    assert!(bytes.len() < 20_000, "{}", bytes.len());
    fs::write(site.path().join("plugins/wide.wasm"), &bytes).unwrap();
    site.install(&site.path().join("plugins/wide.wasm"));
    let error = || host.get("/v1/jobs/clear")["slot"]["error"]["message"].clone();
    host.wait("it is refused", || error().is_string());
    assert!(error().as_str().unwrap().contains("does not export"), "{}", error());
    assert_eq!(serving(&host), digest_of(&guest("noop")).as_str());
    let grown = most_memory(&host) - before;
    assert!(grown < 100 << 10, "the host grew by {grown} KiB");
    clear(&host, "after");
}

#[test]
fn machine_code_that_is_larger_than_allowed_is_refused() {
    let site = Site::with_job(&guest("noop"), "[sandbox]\nmax_compiled = \"256KiB\"\n");
    let host = site.start();
    wait_for(&host, &guest("noop"));
    site.install(&plugin("video-archive"));
    let error = || host.get("/v1/jobs/clear")["slot"]["error"]["message"].clone();
    host.wait("it is refused", || error().is_string());
    assert!(error().as_str().unwrap().contains("sandbox.max_compiled allows 256.0 KiB"), "{}", error());
    assert_eq!(serving(&host), digest_of(&guest("noop")).as_str());
    // A plan is made by the same rules.
    let said = run(&site, &["plan", "clear", "--plugin", plugin("video-archive").to_str().unwrap()]).exits(1);
    said.says("sandbox.max_compiled allows");
}
