//! Machine code between two starts, and components that are made to compile to
//! more than they are: what the host runs is what its compiler made, and what
//! its compiler made is bounded.

use std::fs;
use std::path::{Path, PathBuf};

use crate::cli::run;
use crate::rollback::{clear, digest_of, serving, wait_for};
use crate::support::{Site, Sweepd, guest, plugin};

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
