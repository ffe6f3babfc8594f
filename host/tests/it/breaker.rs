//! A plugin that crashes again and again is set aside: an earlier one that
//! answered serves instead, or the job pauses. What is not the plugin's fault
//! does not count.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::rollback::{clear, digest_of, history, serving, settled, wait_for};
use crate::support::{Site, Sweepd, guest};

/// One thread, so that crashes in a row are counted to the last one.
const BREAKS_AT_THREE: &str =
    "breaker = 3\nconcurrency = 1\n[job.retry]\nmax_attempts = 3\nbackoff = \"10ms\"\nmax_backoff = \"10ms\"\n";

/// A host where `noop_job` answered once.
fn with_a_good_one(more: &str) -> (Site, Sweepd) {
    let site = Site::with_job(&guest("noop_job"), more);
    let host = site.start();
    clear(&host, "first");
    (site, host)
}

fn install_and_wait(site: &Site, host: &Sweepd, component: &Path) {
    site.install(component);
    wait_for(host, component);
}

fn failed_attempts(host: &Sweepd, tasks: &[Value]) -> usize {
    let failed = |task: &Value| {
        let log = host.get(&format!("/v1/tasks/{}", task["id"]))["attempt_log"].clone();
        log.as_array().unwrap().iter().filter(|attempt| attempt["outcome"] == "failed").count()
    };
    tasks.iter().map(failed).sum()
}

#[test]
fn a_plugin_that_traps_again_and_again_is_set_aside_for_the_last_good_one() {
    let (site, host) = with_a_good_one(BREAKS_AT_THREE);
    let (good, bad) = (guest("noop_job"), guest("traps"));
    install_and_wait(&site, &host, &bad);
    let keys: Vec<String> = (0..200).map(|number| format!("video-{number}")).collect();
    host.enqueue("clear", &keys);
    wait_for(&host, &good);
    host.drained("clear");
    // Its dispatcher answered every time: that forgives no execution.
    let done = host.tasks("clear", "done");
    assert_eq!(done.len(), 201, "no task was buried for it");
    assert_eq!(failed_attempts(&host, &done), 3, "what was not begun yet costs no attempt");

    let slot = host.get("/v1/jobs/clear")["slot"].clone();
    assert_eq!(slot["set_aside"]["digest"], digest_of(&bad).as_str());
    assert!(slot["set_aside"]["at"].as_u64().is_some_and(|at| at > 0), "{slot}");
    let why = slot["set_aside"]["why"].as_str().unwrap();
    assert!(why.starts_with("3 executions in a row") && why.contains("trapped"), "{why}");
    let error = slot["error"]["message"].as_str().unwrap();
    assert!(error.contains("was set aside") && error.contains(&digest_of(&good)[..12]), "{error}");
    host.says("set aside at");
    host.says("an earlier plugin serves");

    // It stays so through a restart, and a `mv` of the same content changes nothing.
    assert_eq!(host.stop(), Some(0));
    let host = site.start();
    host.serving("clear");
    assert_eq!(serving(&host), digest_of(&good).as_str());
    site.install(&bad);
    settled(&host);
    assert_eq!(serving(&host), digest_of(&good).as_str());
    clear(&host, "after");
    // Another content is taken as ever.
    install_and_wait(&site, &host, &guest("noop"));
    clear(&host, "another");
}

#[test]
fn a_plugin_that_runs_into_its_deadline_is_set_aside() {
    let more =
        "breaker = 2\nconcurrency = 1\n[job.limits]\ntask_deadline = \"200ms\"\n[job.retry]\nbackoff = \"10ms\"\n";
    let (site, host) = with_a_good_one(more);
    install_and_wait(&site, &host, &guest("loops"));
    host.enqueue("clear", &["a", "b", "c"]);
    wait_for(&host, &guest("noop_job"));
    host.drained("clear");
    assert_eq!(failed_attempts(&host, &host.tasks("clear", "done")), 2);
    let why = host.get("/v1/jobs/clear")["slot"]["set_aside"]["why"].clone();
    assert!(why.as_str().unwrap().contains("deadline"), "{why}");
}

#[test]
fn a_dispatcher_that_traps_is_set_aside_and_charges_no_task() {
    let (site, host) = with_a_good_one("breaker = 2\n");
    install_and_wait(&site, &host, &guest("traps_in_dispatch"));
    let ids = host.enqueue("clear", &["bystander"]);
    wait_for(&host, &guest("noop_job"));
    host.drained("clear");
    let task = host.get(&format!("/v1/tasks/{}", ids[0]));
    assert_eq!((task["state"].as_str(), task["attempts"].as_u64()), (Some("done"), Some(1)), "{task}");
    let why = host.get("/v1/jobs/clear")["slot"]["set_aside"]["why"].clone();
    assert!(why.as_str().unwrap().starts_with("2 dispatches in a row"), "{why}");
}

#[test]
fn a_plugin_that_does_not_start_is_set_aside() {
    let more = "breaker = 2\n[job.limits]\ntask_deadline = \"300ms\"\ndispatch_deadline = \"300ms\"\n";
    let (site, host) = with_a_good_one(more);
    // The trial, which has no mounts, passes.
    install_and_wait(&site, &host, &guest("loops_at_work"));
    let ids = host.enqueue("clear", &["bystander"]);
    wait_for(&host, &guest("noop_job"));
    host.drained("clear");
    assert_eq!(host.get(&format!("/v1/tasks/{}", ids[0]))["attempts"], 1);
}

#[test]
fn without_an_earlier_one_that_answered_the_job_pauses() {
    let site = Site::with_job(&guest("noop_job"), BREAKS_AT_THREE);
    let host = site.start();
    // It was accepted, but never had anything to do: nobody knows whether it can.
    host.serving("clear");
    install_and_wait(&site, &host, &guest("traps"));
    host.enqueue("clear", &["a", "b", "c", "d"]);
    host.wait("the job is paused", || host.get("/v1/jobs/clear")["paused"].is_string());
    let status = host.get("/v1/jobs/clear");
    let reason = status["paused"].as_str().unwrap();
    assert!(reason.contains("is set aside: 3 executions in a row"), "{reason}");
    assert!(reason.contains("put another plugin file in place"), "{reason}");
    assert!(status["slot"]["generation"].is_null(), "{status}");
    assert_eq!(status["backlog"]["pending"], 4, "{status}");

    assert_eq!(host.stop(), Some(0));
    let host = site.start();
    host.wait("why nothing serves is said", || host.get("/v1/jobs/clear")["slot"]["error"].is_object());
    let status = host.get("/v1/jobs/clear");
    assert!(status["paused"].is_string() && status["slot"]["set_aside"].is_object(), "{status}");
    // The one that never answered took the slot before it: it is not gone back to.
    assert!(status["slot"]["generation"].is_null(), "{status}");
    install_and_wait(&site, &host, &guest("noop"));
    assert_eq!(host.request("POST", "/v1/jobs/clear/resume", None).0, 200);
    host.drained("clear");
    assert_eq!(host.tasks("clear", "done").len(), 4);
}

#[test]
fn what_the_host_ends_does_not_count() {
    let more = "breaker = 2\nconcurrency = 1\n[job.limits]\ntask_deadline = \"60s\"\n[job.config]\nwork_ms = 60000\n";
    let site = Site::with_job(&guest("slow"), more);
    let host = site.start();
    host.enqueue("clear", &["long"]);
    for _ in 0..4 {
        host.wait("it runs", || host.has("clear", "running"));
        assert_eq!(host.request("POST", "/v1/jobs/clear/pause", None).0, 200);
        assert_eq!(host.request("POST", "/v1/jobs/clear/resume", None).0, 200);
    }
    let status = host.get("/v1/jobs/clear");
    assert_eq!(status["slot"]["generation"]["number"], 1, "{status}");
    assert!(status["slot"]["set_aside"].is_null(), "{status}");
}

#[test]
fn a_mount_that_is_gone_is_not_the_plugins_fault() {
    for name in ["noop_job", "noop"] {
        let site = Site::with_job(&guest(name), "breaker = 2\n");
        let host = site.start();
        host.serving("clear");
        let away = site.path().join("away");
        fs::rename(site.videos(), &away).unwrap();
        host.enqueue("clear", &["a"]);
        host.wait("several sweeps failed", || host.log().matches("the sweep failed").count() >= 4);
        let status = host.get("/v1/jobs/clear");
        assert!(status["paused"].is_null() && status["slot"]["set_aside"].is_null(), "{name}: {status}");
        fs::rename(&away, site.videos()).unwrap();
        host.drained("clear");
        assert_eq!(host.tasks("clear", "done")[0]["attempts"], 1, "{name}");
    }
}

#[test]
fn zero_switches_the_breaker_off() {
    let (site, host) =
        with_a_good_one("breaker = 0\n[job.retry]\nmax_attempts = 2\nbackoff = \"10ms\"\nmax_backoff = \"10ms\"\n");
    install_and_wait(&site, &host, &guest("traps"));
    let keys: Vec<String> = (0..30).map(|number| format!("video-{number}")).collect();
    host.enqueue("clear", &keys);
    host.drained("clear");
    assert_eq!(host.tasks("clear", "dead").len(), 30);
    assert_eq!(serving(&host), digest_of(&guest("traps")).as_str());
}

#[test]
fn a_pinned_plugin_that_breaks_pauses_its_job_and_stays() {
    let (site, host) = with_a_good_one(BREAKS_AT_THREE);
    install_and_wait(&site, &host, &guest("traps"));
    settled(&host);
    let pin = json!({ "digest": digest_of(&guest("traps"))[..10] });
    let (status, answer) = host.request("POST", "/v1/jobs/clear/plugin/pin", Some(&pin));
    assert_eq!(status, 200, "{answer}");
    host.enqueue("clear", &["a", "b", "c", "d"]);
    host.wait("the job is paused", || host.get("/v1/jobs/clear")["paused"].is_string());
    let status = host.get("/v1/jobs/clear");
    let reason = status["paused"].as_str().unwrap();
    assert!(reason.contains("broke: 3 executions in a row") && reason.contains("it is pinned"), "{reason}");
    assert_eq!(serving(&host), digest_of(&guest("traps")).as_str());
    assert!(history(&host).iter().all(|entry| entry["set_aside"].is_null()), "{status}");
}

/// A call that changed something before it ran out of time may have had more to
/// do than one call can. It costs attempts, so that a guest that only pretends
/// dies of them, and the plugin goes on serving.
#[test]
fn a_plugin_that_gets_on_until_its_deadline_is_not_set_aside() {
    let more = "breaker = 2\nconcurrency = 1\n[job.limits]\ntask_deadline = \"400ms\"\n\
                [job.retry]\nmax_attempts = 3\nbackoff = \"10ms\"\nmax_backoff = \"10ms\"\n\
                [job.config]\nthen_hang = true\n";
    let site = Site::with_job(&guest("changes_everything"), more);
    let host = site.start();
    host.enqueue("clear", &["a", "b"]);
    host.drained("clear");
    let dead = host.tasks("clear", "dead");
    assert_eq!((dead.len(), failed_attempts(&host, &dead)), (2, 6), "{dead:?}");
    assert!(dead.iter().all(|task| task["note"].as_str().is_some_and(|note| note.contains("deadline"))), "{dead:?}");
    let status = host.get("/v1/jobs/clear");
    assert!(status["paused"].is_null() && status["slot"]["set_aside"].is_null(), "{status}");
    assert_eq!(serving(&host), digest_of(&guest("changes_everything")).as_str());
}
