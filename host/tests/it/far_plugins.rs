//! A plugin file on a server that does not answer costs its own job its changes,
//! and nobody anything else; and a job whose system call hangs is paused all the
//! same, and says what is under way.

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::cli::{beside, run};
use crate::hung::Hung;
use crate::rollback::digest_of;
use crate::support::fuse::{Faulty, Op, When};
use crate::support::{Site, Sweepd, guest, plugin};

/// More jobs than the host's runtime has threads.
fn many() -> usize {
    std::thread::available_parallelism().unwrap().get() + 2
}

/// `clear` with its plugin on this machine, and `many` jobs with theirs on a server.
struct Far {
    // Unmounted before the folder goes.
    server: Faulty,
    behind: PathBuf,
    site: Site,
}

impl Far {
    fn new(more: &str) -> Self {
        let site = Site::new();
        site.install(&plugin("video-clear"));
        let (behind, at) = (site.path().join("behind"), site.path().join("far"));
        for number in 0..many() {
            fs::create_dir_all(behind.join(number.to_string())).unwrap();
        }
        fs::create_dir(&at).unwrap();
        let job = |name: &str, plugin: &str| {
            format!("[[job]]\nname = \"{name}\"\nplugin = \"{plugin}\"\nmounts = [\"videos\"]\ninterval = \"200ms\"\n")
        };
        let far: String =
            (0..many()).map(|number| job(&format!("far-{number}"), &format!("far/{number}/p.wasm"))).collect();
        site.configure(&(job("clear", "plugins/plugin.wasm") + &far + more));
        let server = Faulty::mount(&behind, &at);
        let far = Self { server, behind, site };
        far.install("noop_job");
        far
    }

    /// Behind the server, as somebody at another machine would.
    fn install(&self, name: &str) {
        for number in 0..many() {
            let folder = self.behind.join(number.to_string());
            fs::copy(guest(name), folder.join("new")).unwrap();
            fs::rename(folder.join("new"), folder.join("p.wasm")).unwrap();
        }
    }

    fn hang(&self) {
        for op in [Op::Look, Op::List, Op::Open, Op::Read] {
            self.server.fail(op, "", When::Never);
        }
    }

    /// Waits until this holds of all far jobs.
    fn all(host: &Sweepd, what: &str, holds: impl Fn(&Value) -> bool) {
        for number in 0..many() {
            let path = format!("/v1/jobs/far-{number}");
            host.wait(&format!("{what}, at {path}"), || holds(&host.get(&path)["slot"]));
        }
    }

    fn all_serve(host: &Sweepd, name: &str) {
        let digest = digest_of(&guest(name));
        Self::all(host, &format!("{name} serves"), |slot| slot["generation"]["digest"] == digest.as_str());
    }

    fn all_say_that_they_see_nothing(host: &Sweepd) {
        Self::all(host, "it is said", |slot| {
            slot["unseen"]["message"].as_str().is_some_and(|why| why.contains("does not answer"))
        });
    }

    fn clears(&self, host: &Sweepd, name: &str) {
        let file = self.site.videos().join(name);
        fs::write(&file, "x").unwrap();
        host.enqueue("clear", &[name]);
        host.wait("it is removed", || !file.exists());
    }
}

#[test]
fn plugin_files_whose_server_begins_to_hang_hold_up_nobody_and_are_followed_again() {
    let far = Far::new("");
    let host = far.site.start();
    Far::all_serve(&host, "noop_job");
    far.hang();
    Far::all_say_that_they_see_nothing(&host);
    far.clears(&host, "one");
    let said = beside(&far.site, &host, &["status", "--check"]).exits(2);
    said.says("far-0: its plugin file is not followed: it does not answer");
    assert!(said.out.contains("far-0: the plugin file is not followed"), "{}", said.out);
    assert_eq!(host.log().matches("far/0/p.wasm is not followed").count(), 1, "it is told once");
    // A change meanwhile is taken when the server is back.
    far.install("noop");
    far.clears(&host, "two");
    far.server.heal();
    Far::all_serve(&host, "noop");
    Far::all(&host, "it is seen", |slot| slot["unseen"].is_null() && slot["error"].is_null());
}

#[test]
fn plugin_files_whose_server_hangs_hold_up_neither_the_end_nor_the_start() {
    let far = Far::new("");
    let host = far.site.start();
    Far::all_serve(&host, "noop_job");
    // Over the server that answers: one whose calls can be left.
    let hung = Hung::mount(&far.site.path().join("far"));
    Far::all_say_that_they_see_nothing(&host);
    assert_eq!(host.stop(), Some(0));
    let checked = run(&far.site, &["config", "check"]).exits(0);
    assert!(checked.out.contains("p.wasm cannot be read (it does not answer)"), "{}", checked.out);
    let host = far.site.start();
    far.clears(&host, "one");
    Far::all_say_that_they_see_nothing(&host);
    // From the state folder.
    Far::all_serve(&host, "noop_job");
    host.says("does not answer, so that the wall (sandbox.landlock) stays closed for it: restart the host");
    run(&far.site, &["plan", "clear"]).exits(0);
    assert_eq!(host.stop(), Some(0));
    drop(hung);
    far.install("noop");
    let host = far.site.start();
    Far::all_serve(&host, "noop");
}

#[test]
fn without_a_wall_a_server_that_comes_back_needs_no_restart() {
    let far = Far::new("[sandbox]\nlandlock = \"off\"\n");
    far.hang();
    let host = far.site.start();
    Far::all_say_that_they_see_nothing(&host);
    far.clears(&host, "one");
    far.server.heal();
    Far::all_serve(&host, "noop_job");
    Far::all(&host, "it is seen", |slot| slot["unseen"].is_null() && slot["error"].is_null());
}

#[test]
fn a_plugin_file_that_cannot_be_read_to_its_end_is_tried_again() {
    let far = Far::new("");
    let host = far.site.start();
    Far::all_serve(&host, "noop_job");
    far.server.fail(Op::Read, "", When::Never);
    far.install("noop");
    Far::all(&host, "it is said", |slot| {
        slot["error"]["message"].as_str().is_some_and(|why| why.contains("p.wasm: it") && why.contains("not answer"))
    });
    Far::all_serve(&host, "noop_job");
    far.clears(&host, "one");
    far.server.heal();
    Far::all_serve(&host, "noop");
}

/// `clear`, and `other` over a folder that a server shows, with a file to remove.
fn with_far_mount(more: &str) -> (Site, Faulty) {
    let site = Site::new();
    site.install(&plugin("video-clear"));
    let (behind, at) = (site.path().join("behind"), site.path().join("far"));
    fs::create_dir(&behind).unwrap();
    fs::create_dir(&at).unwrap();
    let job = |name: &str, mount: &str, more: &str| {
        format!(
            "[[job]]\nname = \"{name}\"\nplugin = \"plugins/plugin.wasm\"\nmounts = [\"{mount}\"]\n\
             interval = \"200ms\"\n{more}"
        )
    };
    site.configure(&(job("clear", "videos", "") + &job("other", "far", "") + more));
    // Unmounted first, for it is dropped first.
    let server = Faulty::mount(&behind, &at);
    (site, server)
}

/// The job `other` hangs in the removal of a file.
fn hangs(server: &Faulty, site: &Site, host: &Sweepd) -> u64 {
    fs::write(site.path().join("far/a"), "a").unwrap();
    server.fail(Op::Unlink, "a", When::Never);
    let id = host.enqueue("other", &["a"])[0];
    // Its thread is in the call: nothing else that the guest does takes as long.
    host.wait("it is under way", || server.waiting() > 0 && host.get("/v1/jobs/other")["backlog"]["running"] == 1);
    id
}

#[test]
fn a_pause_does_not_wait_for_a_call_that_hangs_and_says_that_it_is_under_way() {
    let (site, server) = with_far_mount("");
    let host = site.start();
    host.serving("other");
    let id = hangs(&server, &site, &host);
    let (status, body) = host.request("POST", "/v1/jobs/other/pause", Some(&json!({ "reason": "lunch" })));
    let answer: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, answer["paused"].as_str()), (202, Some("lunch")), "{body}");
    assert!(answer["under_way"].as_str().is_some_and(|why| why.contains("system call")), "{body}");
    let shown = host.get("/v1/jobs/other");
    assert!(shown["paused"] == "lunch" && shown["under_way"].is_number(), "{shown}");
    let status = beside(&site, &host, &["status"]).exits(0).out;
    assert!(status.contains("other: paused: lunch") && status.contains("a system call that was under way"), "{status}");
    // The others go on, and a resume does not wait either.
    fs::write(site.videos().join("one"), "x").unwrap();
    host.enqueue("clear", &["one"]);
    host.wait("it is removed", || !site.videos().join("one").exists());
    assert_eq!(host.request("POST", "/v1/jobs/other/resume", None).0, 202);
    server.heal();
    host.wait("it has come back", || host.get("/v1/jobs/other")["under_way"].is_null());
    host.wait("it goes on", || host.get(&format!("/v1/tasks/{id}"))["state"] == "done");
    assert!(host.get("/v1/jobs/other")["paused"].is_null());
}

#[test]
fn a_pause_by_command_is_shown_while_a_call_hangs() {
    let (site, server) = with_far_mount("");
    let host = site.start();
    host.serving("other");
    hangs(&server, &site, &host);
    let said = beside(&site, &host, &["pause", "other", "--why", "lunch"]).exits(0).out;
    assert!(said.contains("other is paused: lunch; a system call of it that was under way"), "{said}");
    let shown = host.get("/v1/jobs/other");
    assert!(shown["paused"] == "lunch" && shown["under_way"].is_number(), "{shown}");
    let said = beside(&site, &host, &["pause", "clear", "--why", "lunch"]).exits(0).out;
    assert!(said.contains("clear is paused: lunch; at this node nothing of it runs any more"), "{said}");
    server.heal();
    host.wait("it has come back", || host.get("/v1/jobs/other")["under_way"].is_null());
    assert_eq!(host.get("/v1/jobs/other")["paused"], "lunch");
    assert_eq!(host.stop(), Some(0));
}

#[test]
fn a_mount_that_hangs_while_it_is_counted_keeps_one_thread() {
    let share = "[job.budget]\nsweep_share = \"50%\"\n";
    let job = |number| {
        format!("[[job]]\nname = \"more-{number}\"\nplugin = \"plugins/plugin.wasm\"\nmounts = [\"far\"]\n{share}")
    };
    let more: String = (0..4).map(job).collect();
    let (site, server) = with_far_mount(&(share.to_owned() + &more));
    server.fail(Op::List, "", When::Never);
    let host = site.start();
    let counting = || {
        let threads = fs::read_dir(format!("/proc/{}/task", host.pid())).unwrap().map(|thread| thread.unwrap().path());
        let names = threads.filter_map(|thread| fs::read_to_string(thread.join("comm")).ok());
        names.filter(|name| name.trim() == "sweepd-count").count()
    };
    host.wait("somebody counts", || server.waiting() > 0 && counting() > 0);
    // All five jobs are there by now, and want the same.
    for number in 0..4 {
        host.serving(&format!("more-{number}"));
    }
    fs::write(site.videos().join("one"), "x").unwrap();
    host.enqueue("clear", &["one"]);
    host.wait("it is removed", || !site.videos().join("one").exists());
    assert_eq!(counting(), 1);
    server.heal();
    host.wait("all have counted", || host.log().matches("counted the files of the mounts").count() == 5);
    assert_eq!(host.stop(), Some(0));
}
