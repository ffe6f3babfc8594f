//! A mount that is missing, or that does not answer, costs its own job, and no
//! other: commands that need no mount look at none.

use std::fs;
use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::cli::{beside, run};
use crate::support::{Site, Sweepd, plugin};

/// Two jobs: `clear` over `videos`, and `other` over this directory.
fn two_jobs(other: &str) -> Site {
    let site = Site::new();
    site.install(&plugin("video-clear"));
    let job = |name: &str, mount: &str| {
        format!(
            "[[job]]\nname = \"{name}\"\nplugin = \"plugins/plugin.wasm\"\nmounts = [\"{mount}\"]\n\
             interval = \"200ms\"\ntrash = \"1h\"\ntrash_min_free = \"1MiB\"\n"
        )
    };
    site.configure(&(job("clear", "videos") + &job("other", other)));
    site
}

/// A file system that answers nothing, until it is dropped.
pub(crate) struct Hung {
    at: PathBuf,
    /// Closed after it was taken away: whoever still waits gets an error.
    _device: File,
}

impl Hung {
    pub(crate) fn mount(at: &Path) -> Self {
        fs::create_dir_all(at).unwrap();
        let device = OpenOptions::new().read(true).write(true).open("/dev/fuse").expect("/dev/fuse opens");
        rustix::io::fcntl_setfd(&device, rustix::io::FdFlags::empty()).unwrap();
        let options = format!("fd={},rootmode=40000,user_id=0,group_id=0,allow_other", device.as_raw_fd());
        let mounted =
            Command::new("mount").args(["-i", "-t", "fuse", "-o", &options, "hung"]).arg(at).output().unwrap();
        assert!(mounted.status.success(), "{mounted:?}");
        rustix::io::fcntl_setfd(&device, rustix::io::FdFlags::CLOEXEC).unwrap();
        Self { at: at.to_owned(), _device: device }
    }
}

impl Drop for Hung {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.at).status();
    }
}

fn works(site: &Site, host: &Sweepd, name: &str) {
    fs::write(site.videos().join(name), "x").unwrap();
    host.enqueue("clear", &[name]);
    // Not until the queue is empty: a task of another year may be in it.
    host.wait("it is removed", || !site.videos().join(name).exists());
}

fn waits(host: &Sweepd) -> String {
    let mut why = Value::Null;
    host.wait("the other job waits, and says so", || {
        why = host.get("/v1/jobs/other")["waiting"].clone();
        why.is_string()
    });
    why.as_str().unwrap().to_owned()
}

/// What needs no mount is done, with a host and without.
fn commands_work(say: impl Fn(&[&str], i32) -> String) {
    for args in [
        &["enqueue", "clear", "later", "--run-at", "2090-01-01T00:00:00Z"][..],
        &["enqueue", "other", "later", "--run-at", "2090-01-01T00:00:00Z"],
        &["status"],
        &["tasks", "list"],
        &["effects"],
        &["pause", "other", "--why", "no disk"],
        &["resume", "other"],
        &["hold", "add", "other", "a", "--why", "test"],
        &["hold", "list", "clear"],
        &["trash", "list"],
        &["plugin", "history", "clear"],
        &["mount", "list", "clear"],
    ] {
        say(args, 0);
    }
}

#[test]
fn a_missing_mount_is_its_own_jobs() {
    let site = two_jobs("elsewhere");
    let host = site.start();
    works(&site, &host, "one");
    let why = waits(&host);
    assert!(why.contains("elsewhere") && why.contains("is its disk mounted?"), "{why}");
    let log = host.log();
    assert!(log.contains("does not exist; is its disk mounted?"), "{log}");
    assert_eq!(host.request("GET", "/readyz", None).0, 200, "the others are served");
    assert_eq!(host.get("/v1/jobs/other")["cannot_work"]["reason"], "mount");
    assert_eq!(host.request("GET", "/readyz?job=clear", None).0, 200);
    assert_eq!(host.request("GET", "/readyz?job=other", None).0, 503);
    commands_work(|args, code| beside(&site, &host, args).exits(code).out);
    host.wait("it has heard of the resume", || host.get("/v1/jobs/other")["paused"].is_null());
    let status = beside(&site, &host, &["status", "--check"]).exits(2);
    status.says("wrong: other: mount: ");
    assert!(status.out.contains("waiting"), "{}", status.out);
    let listed = beside(&site, &host, &["mount", "list"]).exits(1).out;
    assert!(listed.contains("it does not exist; is its disk mounted?"), "{listed}");
    let checked = run(&site, &["config", "check"]).exits(1);
    checked.says("elsewhere does not exist");
    checked.says("is its disk mounted? Where it is to be a new folder: mkdir -p");
    run(&site, &["plan", "clear"]).exits(0);
    assert_eq!(host.stop(), Some(0));
    commands_work(|args, code| run(&site, args).exits(code).out);
}

#[test]
fn a_mount_that_comes_later_is_worked_in() {
    let site = two_jobs("elsewhere");
    let text = fs::read_to_string(site.path().join("sweepd.toml")).unwrap();
    let without_wall = format!("{text}[sandbox]\nlandlock = \"off\"\n");
    fs::write(site.path().join("sweepd.toml"), without_wall).unwrap();
    let host = site.start();
    waits(&host);
    // By a link it could lead anywhere.
    let elsewhere = site.path().join("elsewhere");
    std::os::unix::fs::symlink("state", &elsewhere).unwrap();
    host.wait("the link is refused", || waits(&host).contains("leads through a link"));
    assert!(!site.path().join("state/.sweepd-mount").exists());
    fs::remove_file(&elsewhere).unwrap();
    fs::create_dir(&elsewhere).unwrap();
    fs::write(elsewhere.join("two"), "2").unwrap();
    host.enqueue("other", &["two"]);
    host.drained("other");
    assert!(!elsewhere.join("two").exists());
    assert_eq!(host.get("/v1/jobs/other")["waiting"], Value::Null);
}

#[test]
fn behind_the_wall_a_mount_that_comes_later_needs_a_restart_and_says_so() {
    let site = two_jobs("elsewhere");
    let host = site.start();
    assert_ne!(host.get("/v1/jobs")["wall"]["enforced"], "not", "this kernel has Landlock");
    waits(&host);
    host.says("restart the host when the mount is there");
    let elsewhere = site.path().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    host.wait("it is said", || waits(&host).contains("restart the host"));
    works(&site, &host, "one");
    assert_eq!(host.stop(), Some(0));
    let host = site.start();
    fs::write(elsewhere.join("two"), "2").unwrap();
    host.enqueue("other", &["two"]);
    host.drained("other");
    assert!(!elsewhere.join("two").exists());
}

#[test]
fn a_mount_that_hangs_is_its_own_jobs() {
    let site = two_jobs("hung");
    let hung = Hung::mount(&site.path().join("hung"));
    // At the start.
    let host = site.start();
    works(&site, &host, "one");
    host.says("hung does not answer");
    commands_work(|args, code| beside(&site, &host, args).exits(code).out);
    run(&site, &["config", "check"]).exits(1).says("hung does not answer");
    run(&site, &["plan", "clear"]).exits(0);
    let listed = beside(&site, &host, &["mount", "list"]).exits(1).out;
    assert!(listed.contains("does not answer"), "{listed}");
    assert_eq!(host.stop(), Some(0), "nor does it hold up the end");
    commands_work(|args, code| run(&site, args).exits(code).out);
    drop(hung);
}

#[test]
fn a_mount_that_begins_to_hang_is_its_own_jobs() {
    let site = two_jobs("hung");
    fs::create_dir(site.path().join("hung")).unwrap();
    let host = site.start();
    fs::write(site.path().join("hung/a"), "a").unwrap();
    host.enqueue("other", &["a"]);
    host.drained("other");
    let hung = Hung::mount(&site.path().join("hung"));
    host.enqueue("other", &["b"]);
    works(&site, &host, "one");
    let why = waits(&host);
    assert!(why.contains("does not answer"), "{why}");
    commands_work(|args, code| beside(&site, &host, args).exits(code).out);
    assert_eq!(host.request("POST", "/v1/jobs/other/pause", None).0, 200);
    works(&site, &host, "two");
    assert_eq!(host.stop(), Some(0));
    drop(hung);
}
