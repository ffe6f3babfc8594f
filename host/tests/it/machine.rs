//! A plugin that cannot be taken for something of the machine: limits that the host
//! was started with, rights of its file, a file that is mounted by itself. The host
//! does with what there is, or says what is missing, and blames no plugin for it.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use rustix::process::{Pid, Resource, Rlimit};

use crate::cli::{beside, run};
use crate::rollback::{clear, wait_for};
use crate::support::{Site, Sweepd, guest, plugin};

fn ready(host: &Sweepd) -> (u16, String) {
    host.request("GET", "/readyz?job=clear", None)
}

#[test]
fn within_a_limit_of_address_space_components_are_compiled_and_guests_run() {
    for limit in ["-v 4000000", "-v 8000000"] {
        let site = Site::with_job(&guest("noop"), "").within(limit);
        let host = site.start();
        wait_for(&host, &guest("noop"));
        clear(&host, "first");
        host.says("the address space of this process is limited to");
        assert_eq!(ready(&host).0, 200, "{limit}");
        site.install(&plugin("video-clear"));
        wait_for(&host, &plugin("video-clear"));
        fs::write(site.videos().join("second"), "x").unwrap();
        clear(&host, "second");
        assert!(!site.videos().join("second").exists());
        run(&site, &["plan", "clear"]).exits(0);
        run(&site, &["plugin", "inspect", site.plugin_file().to_str().unwrap()]).exits(0);
    }
}

#[test]
fn within_a_limit_of_processor_time_components_are_compiled() {
    let site = Site::with_job(&guest("noop"), "").within("-t 60");
    let host = site.start();
    wait_for(&host, &guest("noop"));
    clear(&host, "first");
}

#[test]
fn a_plugin_file_that_may_not_be_read_is_explained_by_its_rights() {
    let site = Site::for_another_user(&guest("noop"), "");
    let rights = |mode| {
        use std::os::unix::fs::PermissionsExt as _;
        fs::set_permissions(site.plugin_file(), fs::Permissions::from_mode(mode)).unwrap();
    };
    rights(0);
    let host = site.start();
    let error = || host.get("/v1/jobs/clear")["slot"]["error"]["message"].clone();
    host.wait("it is said", || error().is_string());
    let why = error().as_str().unwrap().to_owned();
    assert!(why.contains("Permission denied") && why.contains("may not read it: chmod a+r"), "{why}");
    assert!(!why.contains("landlock"), "{why}");
    rights(0o644);
    wait_for(&host, &guest("noop"));
}

/// A file that is mounted at another one, until it is dropped.
struct MountedFile(PathBuf);

impl Drop for MountedFile {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_mounted_file_that_is_replaced_outside_is_told() {
    let site = Site::with_job(&guest("noop"), "");
    let outside = site.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::copy(guest("noop_job"), outside.join("p.wasm")).unwrap();
    let mounted = Command::new("mount").arg("--bind").arg(outside.join("p.wasm")).arg(site.plugin_file()).status();
    assert!(mounted.unwrap().success(), "the tests mount as root");
    let mounted = MountedFile(site.plugin_file());
    let host = site.start();
    wait_for(&host, &guest("noop_job"));
    let unseen = || host.get("/v1/jobs/clear")["slot"]["unseen"]["message"].clone();
    assert!(unseen().is_null());
    fs::copy(guest("stamps"), outside.join("new")).unwrap();
    fs::rename(outside.join("new"), outside.join("p.wasm")).unwrap();
    host.wait("it is said", || unseen().as_str().is_some_and(|why| why.contains("mount its folder instead")));
    host.says("was removed or replaced where it is mounted from");
    beside(&site, &host, &["status", "--check"]).exits(2).says("its plugin file is not followed");
    clear(&host, "goes on");
    drop(mounted);
    // What is below the mount is a file as any other.
    wait_for(&host, &guest("noop"));
    host.wait("it is seen again", || unseen().is_null());
}

/// How much address space the host has, in bytes.
fn address_space(host: &Sweepd) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", host.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmSize:")).expect("a line");
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

#[test]
fn while_no_guest_can_be_started_the_job_is_not_ready_and_no_task_is_charged() {
    let site = Site::with_job(&guest("noop"), "isolation = \"task\"\n");
    let host = site.start();
    wait_for(&host, &guest("noop"));
    clear(&host, "first");
    let limit = |most| {
        let limit = Rlimit { current: most, maximum: None };
        rustix::process::prlimit(Pid::from_raw(host.pid().cast_signed()), Resource::As, limit).unwrap();
    };
    // Enough for everything but what a guest's memory reserves.
    limit(Some(address_space(&host) + (1 << 30)));
    let id = host.enqueue("clear", &["second"])[0];
    host.wait("it is not ready", || ready(&host).0 == 503);
    let why = ready(&host).1;
    assert!(why.contains("no guest can be started"), "{why}");
    let task = || host.get(&format!("/v1/tasks/{id}"));
    assert_eq!(task()["attempts"], 0, "{}", task());
    let slot = host.get("/v1/jobs/clear")["slot"].clone();
    assert!(slot["set_aside"].is_null() && slot["generation"].is_object(), "{slot}");
    limit(None);
    host.wait("it is done", || task()["state"] == "done");
    host.wait("it is ready", || ready(&host).0 == 200);
}
