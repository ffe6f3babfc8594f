//! Components that are kept for a restart: on a full disk, in a folder that is
//! removed, and when their copies are damaged.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::cli::{beside, run};
use crate::rollback::{accepted, clear, digest_of, history, kept, post, serving, wait_for};
use crate::support::{Site, Sweepd, guest};

/// A small file system of its own, in memory, on a folder.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn on(folder: &Path) -> Self {
        fs::create_dir_all(folder).unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"]).arg(folder);
        assert!(mount.status().unwrap().success(), "the tests run as root");
        Self(folder.to_owned())
    }

    fn fill(&self) {
        let error = fs::write(self.0.join("filler"), vec![1; 2 << 20]).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
    }

    fn free(&self) {
        fs::remove_file(self.0.join("filler")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

fn unkept(host: &Sweepd) -> Value {
    host.get("/v1/jobs/clear")["slot"]["unkept"]["message"].clone()
}

fn copies(host: &Sweepd) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    history(host).iter().map(|entry| (text(&entry["digest"]), text(&entry["copy"]))).collect()
}

fn intact(guests: &[&str]) -> Vec<(String, String)> {
    guests.iter().map(|name| (digest_of(&guest(name)), "intact".to_owned())).collect()
}

#[test]
fn on_a_full_disk_it_is_said_that_nothing_is_kept_until_it_is() {
    let site = Site::with_job(&guest("noop_job"), "");
    let disk = SmallDisk::on(&site.path().join("state/components/clear"));
    disk.fill();
    let host = site.start();
    wait_for(&host, &guest("noop_job"));
    host.wait("it is said", || unkept(&host).is_string());
    assert!(unkept(&host).as_str().unwrap().contains("No space left"), "{}", unkept(&host));
    clear(&host, "first");
    site.install(&guest("noop"));
    wait_for(&host, &guest("noop"));
    clear(&host, "second");
    beside(&site, &host, &["status", "--check"]).exits(2).says("clear: not kept for a restart:");
    let people = beside(&site, &host, &["status"]).exits(0).out;
    assert!(people.contains("kept for a restart: no") && people.contains("No space left"), "{people}");
    disk.free();
    host.wait("it is kept", || unkept(&host).is_null());
    assert_eq!(copies(&host), intact(&["noop", "noop_job"]), "both, in their order");
    assert!(history(&host).iter().all(|entry| entry["answered"] == true), "{:?}", history(&host));
    assert_eq!(host.stop(), Some(0));
    fs::remove_file(site.plugin_file()).unwrap();
    let host = site.start();
    host.serving("clear");
    assert_eq!(serving(&host), digest_of(&guest("noop")).as_str());
}

#[test]
fn what_is_set_aside_on_a_full_disk_does_not_serve_again() {
    let site = Site::with_job(&guest("noop"), "breaker = 2\n[job.retry]\nbackoff = \"10ms\"\nmax_backoff = \"10ms\"\n");
    let disk = SmallDisk::on(&site.path().join("state/components/clear"));
    let host = site.start();
    wait_for(&host, &guest("noop"));
    clear(&host, "first");
    host.wait("it is kept, and answered", || history(&host).iter().any(|entry| entry["answered"] == true));
    disk.fill();
    site.install(&guest("traps"));
    wait_for(&host, &guest("traps"));
    host.enqueue("clear", &["a", "b", "c"]);
    // The file still holds what broke.
    wait_for(&host, &guest("noop"));
    host.wait("it is said", || unkept(&host).is_string());
    disk.free();
    host.wait("it is kept", || unkept(&host).is_null());
    assert_eq!(host.stop(), Some(0));
    let host = site.start();
    host.serving("clear");
    assert_eq!(serving(&host), digest_of(&guest("noop")).as_str());
}

/// What was set aside is known though it could not be written down, also to the
/// loop that is started again after a panic.
#[test]
fn what_is_set_aside_on_a_full_disk_outlives_a_panic() {
    let site = Site::with_job(&guest("noop"), "breaker = 2\n[job.retry]\nbackoff = \"10ms\"\nmax_backoff = \"10ms\"\n");
    let disk = SmallDisk::on(&site.path().join("state/components/clear"));
    let kill = site.path().join("kill");
    fs::create_dir(&kill).unwrap();
    let host = site.try_start_with(&[("SWEEPD_KILL", kill.to_str().unwrap())]).unwrap();
    wait_for(&host, &guest("noop"));
    clear(&host, "first");
    host.wait("it is kept, and answered", || history(&host).iter().any(|entry| entry["answered"] == true));
    disk.fill();
    site.install(&guest("traps"));
    wait_for(&host, &guest("traps"));
    host.enqueue("clear", &["a", "b", "c"]);
    wait_for(&host, &guest("noop"));
    host.wait("it is said", || unkept(&host).is_string());
    fs::write(kill.join("plugin clear"), "").unwrap();
    host.wait("it is started again", || {
        let parts = host.get("/v1/jobs")["parts"].clone();
        let up = |part: &Value| part["name"] == "plugin clear" && part["down"] == false && part["restarts"] == 1;
        parts.as_array().is_some_and(|parts| parts.iter().any(up))
    });
    disk.free();
    // Only the loop that came after keeps it, and it has looked at the file by then.
    host.wait("it is kept", || unkept(&host).is_null());
    let traps = digest_of(&guest("traps"));
    let loaded = |line: &&str| line.contains("plugin loaded") && line.contains(&traps);
    assert_eq!(host.log().lines().filter(loaded).count(), 1, "{}", host.log());
    assert_eq!(host.stop(), Some(0));
    let host = site.start();
    host.serving("clear");
    assert_eq!(serving(&host), digest_of(&guest("noop")).as_str());
}

#[test]
fn a_folder_that_is_removed_under_a_running_host_is_made_anew() {
    let (site, host) = accepted(&["noop"]);
    let components = site.path().join("state/components");
    // The host may be writing the copy of its history there just now.
    host.wait("the folder is removed", || fs::remove_dir_all(&components).is_ok());
    host.wait("what serves is kept again", || {
        kept(&site, &digest_of(&guest("noop"))).exists() && history(&host).len() == 1
    });
    assert_eq!(copies(&host), intact(&["noop"]));
    site.install(&guest("noop_job"));
    wait_for(&host, &guest("noop_job"));
    host.wait("the next one is kept", || copies(&host) == intact(&["noop_job", "noop"]));
}

#[test]
fn damaged_copies_are_listed_refused_passed_over_and_mended() {
    let (site, host) = accepted(&["stamps", "noop_job", "noop"]);
    let damage = |name: &str| {
        let file = kept(&site, &digest_of(&guest(name)));
        let mut bytes = fs::read(&file).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(file, bytes).unwrap();
    };
    damage("noop_job");
    let state = |name: &str| {
        let listed = run(&site, &["plugin", "history", "clear", "--json"]).exits(0).json();
        let digest = digest_of(&guest(name));
        let entries = listed["history"].as_array().unwrap().clone();
        entries.into_iter().find(|entry| entry["digest"] == digest.as_str()).expect("it is listed")["copy"].clone()
    };
    assert_eq!(["stamps", "noop_job", "noop"].map(state), ["intact", "damaged", "intact"]);
    // To go back to it is refused, by command and over HTTP, and changes nothing.
    let said = beside(&site, &host, &["plugin", "rollback", "clear"]).exits(1);
    said.says("is damaged: it was changed since it was kept");
    said.says("put its file in place as the plugin to mend the copy");
    let (status, problem) = post(&host, "rollback", &json!({}));
    assert_eq!(status, 409, "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains("missing or damaged"), "{problem}");
    assert_eq!(serving(&host), digest_of(&guest("noop")).as_str());
    assert_eq!(host.stop(), Some(0));

    damage("noop");
    fs::remove_file(site.plugin_file()).unwrap();
    let half = site.path().join("state/components/clear/half.new");
    fs::write(&half, "half").unwrap();
    let host = site.start();
    host.serving("clear");
    assert_eq!(serving(&host), digest_of(&guest("stamps")).as_str());
    host.wait("the folder is looked through", || {
        !half.exists() && host.log().matches("its copy is damaged").count() == 2
    });
    let error = host.get("/v1/jobs/clear")["slot"]["error"]["message"].as_str().unwrap().to_owned();
    for name in ["noop_job", "noop"] {
        assert!(error.contains(&format!("{} (", &digest_of(&guest(name))[..12])), "{name} was passed over: {error}");
    }
    for name in ["noop_job", "noop"] {
        site.install(&guest(name));
        wait_for(&host, &guest(name));
    }
    host.wait("they are mended", || copies(&host) == intact(&["noop", "noop_job", "stamps"]));
}

#[test]
fn a_pinned_component_whose_copy_is_damaged_serves_from_the_file_that_holds_it() {
    let (site, host) = accepted(&["noop_job", "noop"]);
    let pinned = digest_of(&guest("noop_job"));
    assert_eq!(post(&host, "pin", &json!({ "digest": pinned })).0, 200);
    assert_eq!(host.stop(), Some(0));
    fs::write(kept(&site, &pinned), "damaged").unwrap();
    site.install(&guest("noop_job"));
    let host = site.start();
    host.serving("clear");
    assert_eq!(serving(&host), pinned.as_str());
    host.wait("it is mended", || copies(&host).iter().all(|(_, copy)| copy == "intact"));
}
