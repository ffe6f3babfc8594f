//! What an answer promises is in force when it is there: no change that it rules
//! out begins or is under way any more. The host is given time between the
//! checks of a change and the change, which is where an answer could come.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::json;

use crate::support::{Site, Sweepd, guest, plugin};

/// Where a change lingers: before its permit, when it was checked once, and under
/// it, when it was checked for the last time.
const SLOW: [&str; 2] = ["slow-permit", "slow-change"];

fn names(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// A folder of videos whose removal takes a while.
fn folder(site: &Site, name: &str, files: usize) {
    let folder = site.videos().join(name);
    fs::create_dir(&folder).unwrap();
    (0..files).for_each(|number| fs::write(folder.join(number.to_string()), "").unwrap());
}

/// Queues it and waits until some of it is gone.
fn begin(site: &Site, host: &Sweepd, name: &str, files: usize) -> u64 {
    folder(site, name, files);
    let id = host.enqueue("clear", &[name])[0];
    host.wait("some of it is gone", || names(&site.videos().join(name)).len() < files);
    id
}

fn slow_site(slow: &str) -> (Site, Sweepd) {
    let site = Site::with_job(&plugin("video-clear"), "concurrency = 2\n");
    let host = site.try_start_with(&[("SWEEPD_MUTANT", slow)]).unwrap();
    host.serving("clear");
    (site, host)
}

fn note(host: &Sweepd, id: u64) -> String {
    host.get(&format!("/v1/tasks/{id}"))["note"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn nothing_that_is_held_goes_after_the_answer() {
    SLOW.into_iter().for_each(hold);
}

fn hold(slow: &str) {
    const FILES: usize = 400;
    let (site, host) = slow_site(slow);
    for round in 0..4 {
        let name = format!("folder-{round}");
        let id = begin(&site, &host, &name, FILES);
        let new = json!({ "pattern": format!("{name}/**"), "why": "law" });
        let (status, body) = host.request("POST", "/v1/jobs/clear/holds", Some(&new));
        let answered = names(&site.videos().join(&name));
        assert_eq!(status, 201, "{body}");
        assert!(!answered.is_empty(), "it was over before");
        host.wait("it is held", || note(&host, id).contains("law"));
        assert_eq!(names(&site.videos().join(&name)), answered, "it went on after the answer");
    }
}

#[test]
fn what_is_cancelled_changes_nothing_after_the_answer() {
    SLOW.into_iter().for_each(cancel);
}

fn cancel(slow: &str) {
    const FILES: usize = 400;
    let (site, host) = slow_site(slow);
    for (round, action) in ["cancel", "bury"].into_iter().enumerate() {
        let name = format!("folder-{round}");
        let id = begin(&site, &host, &name, FILES);
        let (status, body) = host.request("POST", &format!("/v1/tasks/{id}/{action}"), None);
        let answered = names(&site.videos().join(&name));
        assert!(status == 200 && body.contains("interrupting"), "{status}: {body}");
        host.wait("it ends", || host.get(&format!("/v1/tasks/{id}"))["state"] != "running");
        assert_eq!(names(&site.videos().join(&name)), answered, "it went on after the answer");
    }
}

#[test]
fn a_paused_job_changes_nothing_after_the_answer() {
    SLOW.into_iter().for_each(pause);
}

fn pause(slow: &str) {
    const FILES: usize = 400;
    let (site, host) = slow_site(slow);
    let id = begin(&site, &host, "folder", FILES);
    assert_eq!(host.request("POST", "/v1/jobs/clear/pause", None).0, 200);
    let answered = names(&site.videos().join("folder"));
    let task = host.get(&format!("/v1/tasks/{id}"));
    assert_eq!((&task["state"], &task["attempts"]), (&json!("pending"), &json!(0)), "{task}");
    assert!(host.get("/v1/jobs/clear")["paused"].is_string());
    // Another hold waits for what is under way, also from before the pause.
    let new = json!({ "pattern": "nothing", "why": "law" });
    assert_eq!(host.request("POST", "/v1/jobs/clear/holds", Some(&new)).0, 201);
    assert_eq!(names(&site.videos().join("folder")), answered);
    assert_eq!(host.request("POST", "/v1/jobs/clear/resume", None).0, 200);
    assert!(host.get("/v1/jobs/clear")["paused"].is_null());
}

#[test]
fn what_was_rolled_back_changes_nothing_after_the_answer() {
    for slow in SLOW {
        go_back(slow, "rollback");
    }
}

#[test]
fn what_a_pin_replaces_changes_nothing_after_the_answer() {
    for slow in SLOW {
        go_back(slow, "pin");
    }
}

fn go_back(slow: &str, how: &str) {
    const FILES: usize = 400;
    let site = Site::with_job(&guest("noop"), "concurrency = 2\n");
    let host = site.try_start_with(&[("SWEEPD_MUTANT", slow)]).unwrap();
    let first = host.serving("clear")["slot"]["generation"]["digest"].clone();
    host.enqueue("clear", &["answered"]);
    host.drained("clear");
    site.install(&plugin("video-clear"));
    host.wait("the other serves", || host.get("/v1/jobs/clear")["slot"]["generation"]["digest"] != first);
    let id = begin(&site, &host, "folder", FILES);
    let ask = if how == "pin" { json!({ "digest": first, "why": "bad" }) } else { json!({ "why": "bad" }) };
    let (status, body) = host.request("POST", &format!("/v1/jobs/clear/plugin/{how}"), Some(&ask));
    let answered = names(&site.videos().join("folder"));
    assert_eq!(status, 200, "{body}");
    assert_eq!(host.get("/v1/jobs/clear")["slot"]["generation"]["digest"], first);
    // The one before does nothing to files, and is the one that ends the task.
    host.drained("clear");
    let task = host.get(&format!("/v1/tasks/{id}"));
    assert_eq!((&task["state"], &task["attempts"]), (&json!("done"), &json!(1)), "{task}");
    assert_eq!(names(&site.videos().join("folder")), answered, "it went on after the answer");
}
