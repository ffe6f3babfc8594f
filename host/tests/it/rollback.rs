//! What a job accepted, and people who want something else to serve than the
//! plugin's file: by command, with and without a host, and over HTTP.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde_json::{Value, json};

use crate::cli::{beside, run};
use crate::support::{Site, Sweepd, guest};

pub(crate) fn digest_of(component: &Path) -> String {
    sweepd::domain::digest::Digest::of(&fs::read(component).unwrap()).to_string()
}

pub(crate) fn serving(host: &Sweepd) -> Value {
    host.get("/v1/jobs/clear")["slot"]["generation"]["digest"].clone()
}

pub(crate) fn wait_for(host: &Sweepd, component: &Path) {
    let digest = digest_of(component);
    host.wait("the plugin serves", || serving(host) == digest.as_str());
}

/// Waits until a task of the job is done.
pub(crate) fn clear(host: &Sweepd, key: &str) {
    let ids = host.enqueue("clear", &[key]);
    host.wait("the task is done", || host.get(&format!("/v1/tasks/{}", ids[0]))["state"] == "done");
}

/// The newest first.
pub(crate) fn history(host: &Sweepd) -> Vec<Value> {
    host.get("/v1/jobs/clear/plugin")["history"].as_array().unwrap().clone()
}

/// Waits until all that was changed before this is settled.
pub(crate) fn settled(host: &Sweepd) {
    let before = host.get("/v1/jobs/clear/plugin")["pinned"].clone();
    assert!(before.is_null(), "unpinning must change nothing");
    assert_eq!(host.request("POST", "/v1/jobs/clear/plugin/unpin", None).0, 200);
}

pub(crate) fn post(host: &Sweepd, action: &str, body: &Value) -> (u16, Value) {
    let (status, answer) = host.request("POST", &format!("/v1/jobs/clear/plugin/{action}"), Some(body));
    (status, serde_json::from_str(&answer).unwrap())
}

/// A host with these accepted one after the other; each answered.
pub(crate) fn accepted(guests: &[&str]) -> (Site, Sweepd) {
    let site = Site::with_job(&guest(guests[0]), "");
    let host = site.start();
    for name in guests {
        site.install(&guest(name));
        wait_for(&host, &guest(name));
        clear(&host, &format!("under-{name}"));
        let digest = digest_of(&guest(name));
        host.wait("that it answered is noted", || {
            history(&host)
                .first()
                .is_some_and(|newest| newest["digest"] == digest.as_str() && newest["answered"] == true)
        });
    }
    (site, host)
}

#[test]
fn the_history_says_what_was_accepted() {
    let (site, host) = accepted(&["noop_job", "noop"]);
    let [job, executor] = [guest("noop_job"), guest("noop")];
    let shown = history(&host);
    assert_eq!(shown.len(), 2);
    for (entry, component, world) in [(&shown[0], &executor, "executor-only"), (&shown[1], &job, "job")] {
        assert_eq!(entry["digest"], digest_of(component).as_str());
        assert_eq!(entry["size"], fs::metadata(component).unwrap().len());
        assert_eq!((entry["world"].as_str(), entry["answered"].as_bool()), (Some(world), Some(true)));
        assert!(entry["accepted_at"].as_u64().is_some_and(|at| at > 1_700_000_000_000), "{entry}");
    }
    let with_host = beside(&site, &host, &["plugin", "history", "clear", "--json"]).exits(0).json();
    assert_eq!(with_host["history"], json!(shown));
    assert_eq!(host.stop(), Some(0));
    let without_host = run(&site, &["plugin", "history", "clear", "--json"]).exits(0).json();
    assert_eq!(without_host, with_host);
    let people = run(&site, &["plugin", "history", "clear"]).exits(0).out;
    assert!(people.contains(&digest_of(&job)[..12]) && people.contains("executor-only"), "{people}");
}

#[test]
fn a_rollback_by_command_is_taken_up_by_a_running_host_and_lasts() {
    let (site, host) = accepted(&["noop_job", "noop"]);
    let asked = Instant::now();
    let said = beside(&site, &host, &["plugin", "rollback", "clear", "--why", "removes too much"]).exits(0);
    assert!(said.out.contains(&digest_of(&guest("noop_job"))[..12]), "{}", said.out);
    wait_for(&host, &guest("noop_job"));
    println!("taken up after {:?}", asked.elapsed());
    let status = host.get("/v1/jobs/clear");
    assert_eq!(status["slot"]["set_aside"]["why"], "removes too much");
    assert_eq!(status["slot"]["set_aside"]["digest"], digest_of(&guest("noop")).as_str());
    host.wait("the log says so", || host.log().contains("removes too much"));
    clear(&host, "after");
    assert_eq!(host.stop(), Some(0));
    let host = site.start();
    host.serving("clear");
    assert_eq!(serving(&host), digest_of(&guest("noop_job")).as_str());
    // Another content of the file is taken as usual.
    site.install(&guest("stamps"));
    wait_for(&host, &guest("stamps"));
}

#[test]
fn a_rollback_over_http_answers_when_it_serves() {
    let (_site, host) = accepted(&["stamps", "noop_job", "noop"]);
    let (status, answer) = post(&host, "rollback", &json!({ "why": "lunch" }));
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer["generation"]["digest"], digest_of(&guest("noop_job")).as_str());
    assert_eq!(serving(&host), answer["generation"]["digest"]);
    assert_eq!(answer["set_aside"]["why"], "lunch");
    // Further back, by the beginning of a digest.
    let first = digest_of(&guest("stamps"));
    let (status, answer) = post(&host, "rollback", &json!({ "digest": &first[..10] }));
    assert_eq!((status, &answer["generation"]["digest"]), (200, &json!(first)), "{answer}");
    let (status, problem) = post(&host, "rollback", &json!({}));
    assert_eq!(status, 409, "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains("nothing to go back to"), "{problem}");
    // To name one that was set aside lets it serve again: here from the file.
    let last = digest_of(&guest("noop"));
    let (status, answer) = post(&host, "rollback", &json!({ "digest": &last }));
    assert_eq!((status, &answer["generation"]["digest"]), (200, &json!(last)), "{answer}");
    assert_eq!(answer["generation"]["kept"], false, "{answer}");
    assert!(answer["error"].is_null(), "{answer}");
}

#[test]
fn a_pinned_component_serves_whatever_the_file_holds() {
    let (site, host) = accepted(&["noop_job", "noop"]);
    assert_eq!(host.stop(), Some(0));
    let pinned = digest_of(&guest("noop_job"));
    run(&site, &["plugin", "pin", "clear", &pinned[..8].to_uppercase()]).exits(0);
    let host = site.start();
    host.serving("clear");
    assert_eq!(serving(&host), pinned.as_str());
    assert_eq!(host.get("/v1/jobs/clear")["slot"]["pinned"], pinned.as_str());
    site.install(&guest("stamps"));
    // The answer comes after all that was there before was looked at.
    let (status, answer) = post(&host, "pin", &json!({ "digest": pinned }));
    assert_eq!((status, &answer["generation"]["digest"]), (200, &json!(pinned)), "{answer}");
    clear(&host, "pinned");
    let said = beside(&site, &host, &["plugin", "rollback", "clear"]).exits(1);
    said.says("unpin it first");
    let people = beside(&site, &host, &["status"]).exits(0).out;
    assert!(people.contains("is pinned, the plugin file does not count"), "{people}");
    beside(&site, &host, &["plugin", "unpin", "clear"]).exits(0);
    wait_for(&host, &guest("stamps"));
    assert!(host.get("/v1/jobs/clear")["slot"]["pinned"].is_null());
}

#[test]
fn a_pinned_component_that_is_damaged_lets_nothing_else_serve() {
    let (site, host) = accepted(&["noop_job", "noop"]);
    let pinned = digest_of(&guest("noop_job"));
    assert_eq!(post(&host, "pin", &json!({ "digest": pinned })).0, 200);
    assert_eq!(host.stop(), Some(0));
    fs::write(kept(&site, &pinned), "damaged").unwrap();
    let host = site.start();
    host.wait("it is said", || host.get("/v1/jobs/clear")["slot"]["error"].is_object());
    let status = host.get("/v1/jobs/clear");
    assert!(status["slot"]["generation"].is_null(), "{status}");
    let error = status["slot"]["error"]["message"].as_str().unwrap();
    assert!(error.contains("is pinned and cannot serve") && error.contains("sweepd plugin unpin clear"), "{error}");
    let (status, answer) = post(&host, "unpin", &json!({}));
    assert_eq!((status, &answer["generation"]["digest"]), (200, &json!(digest_of(&guest("noop")))), "{answer}");
}

pub(crate) fn kept(site: &Site, digest: &str) -> PathBuf {
    site.path().join(format!("state/components/clear/{digest}.wasm"))
}

#[test]
fn what_was_kept_and_is_damaged_is_passed_over() {
    let (site, host) = accepted(&["noop_job", "noop"]);
    assert_eq!(host.stop(), Some(0));
    fs::write(kept(&site, &digest_of(&guest("noop"))), "damaged").unwrap();
    fs::remove_file(site.plugin_file()).unwrap();
    let host = site.start();
    host.serving("clear");
    assert_eq!(serving(&host), digest_of(&guest("noop_job")).as_str());
    clear(&host, "after");
}

#[test]
fn a_garbled_history_is_known_from_its_copy_and_a_good_plugin_file_serves() {
    let (site, host) = accepted(&["noop_job", "noop"]);
    assert_eq!(post(&host, "rollback", &json!({})).0, 200);
    let file = site.path().join("state/components/clear/history.json");
    fs::write(&file, "half a hist").unwrap();
    host.says("history.json could not be understood: it is made anew from its copy");
    assert_eq!(host.stop(), Some(0));
    fs::write(&file, "half a hist").unwrap();
    let host = site.start();
    // What was set aside is known, and so is what is to serve instead.
    wait_for(&host, &guest("noop_job"));
    clear(&host, "after");
    beside(&site, &host, &["plugin", "history", "clear"]).exits(0);
    site.install(&guest("stamps"));
    wait_for(&host, &guest("stamps"));
}

#[test]
fn a_history_that_cannot_be_read_lets_nothing_serve_that_may_be_set_aside() {
    let (site, host) = accepted(&["noop_job", "noop"]);
    assert_eq!(post(&host, "rollback", &json!({})).0, 200);
    assert_eq!(host.stop(), Some(0));
    let file = |name: &str| site.path().join("state/components/clear").join(name);
    for name in ["history.json", "history.copy"] {
        fs::write(file(name), "half a hist").unwrap();
    }
    run(&site, &["plugin", "history", "clear"]).exits(1).says("to begin anew");
    let host = site.start();
    host.wait("it is said", || host.get("/v1/jobs/clear")["slot"]["error"].is_object());
    assert!(host.get("/v1/jobs/clear")["slot"]["error"].to_string().contains("cannot be understood"));
    assert!(serving(&host).is_null());
    for name in ["history.json", "history.copy"] {
        fs::remove_file(file(name)).unwrap();
    }
    wait_for(&host, &guest("noop"));
}

#[test]
fn what_makes_no_sense_is_refused_with_what_to_do() {
    let site = Site::with_job(&guest("noop"), "");
    run(&site, &["plugin", "rollback", "claer"]).exits(1).says("did you mean `clear`?");
    run(&site, &["plugin", "rollback", "clear"]).exits(1).says("nothing to go back to");
    run(&site, &["plugin", "pin", "clear", "3f"]).exits(1).says("see those that there are: sweepd plugin history");
    let empty = run(&site, &["plugin", "history", "clear"]).exits(0);
    assert_eq!(empty.out, "no component was accepted yet\n");
    let host = site.start();
    clear(&host, "first");
    let only = digest_of(&guest("noop"));
    let said = beside(&site, &host, &["plugin", "rollback", "clear", &only]).exits(1);
    said.says("is what serves now");
    let (status, problem) = post(&host, "pin", &json!({ "digest": "zz" }));
    assert_eq!((status, &problem["type"]), (404, &json!("urn:problem-type:sweepd:unknown-component")), "{problem}");
    let (status, _) = host.request("GET", "/v1/jobs/claer/plugin", None);
    assert_eq!(status, 404);
}
