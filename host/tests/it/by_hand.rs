//! Tasks that people take in hand: over HTTP, and by commands beside the host.

use serde_json::{Value, json};

use crate::cli::{fed, run};
use crate::support::{Site, Sweepd, guest};

/// A job `clear` whose tasks end only when they are interrupted, or after an
/// hour, and a job `other` that works.
fn endless(name: &str) -> (Site, Sweepd) {
    let site = Site::new();
    site.install(&guest(name));
    std::fs::copy(guest("noop"), site.path().join("plugins/other.wasm")).unwrap();
    site.configure(
        "[[job]]\nname = \"other\"\nplugin = \"plugins/other.wasm\"\ninterval = \"100ms\"\n\
         [[job]]\nname = \"clear\"\nplugin = \"plugins/plugin.wasm\"\nmounts = [\"videos\"]\ninterval = \"100ms\"\n\
         concurrency = 2\n[job.limits]\ntask_deadline = \"1h\"\n[job.config]\nsleep_ms = 3600000\n",
    );
    let host = site.start();
    (site, host)
}

fn task(host: &Sweepd, id: u64) -> Value {
    host.get(&format!("/v1/tasks/{id}"))
}

fn state(host: &Sweepd, id: u64) -> String {
    task(host, id)["state"].as_str().unwrap().to_owned()
}

/// Two tasks that run, of which the first is to end.
fn two_that_run(host: &Sweepd) -> (u64, u64) {
    let ids = host.enqueue("clear", &["ends", "goes on"]);
    host.wait("both run", || ids.iter().all(|id| state(host, *id) == "running"));
    (ids[0], ids[1])
}

/// It ended so, on record, and nothing else did.
fn ended_alone(host: &Sweepd, (id, other): (u64, u64), wanted: &str, why: &str) {
    host.wait("it ends", || state(host, id) == wanted);
    let ended = task(host, id);
    let outcome = if wanted == "dead" { "failed" } else { wanted };
    assert_eq!((&ended["note"], &ended["outcome"]), (&json!(why), &json!(outcome)), "{ended}");
    let log = &ended["attempt_log"];
    assert_eq!((log.as_array().map(Vec::len), &log[0]["outcome"]), (Some(1), &json!(outcome)), "{ended}");
    assert!(log[0]["ended_at"].as_u64() > log[0]["started_at"].as_u64(), "{ended}");
    assert_eq!(log[0]["node"], host.get("/v1/nodes")["nodes"][0]["name"], "{ended}");
    assert_eq!(state(host, other), "running", "the other one goes on");
    let ids = host.enqueue("other", &["still-here"]);
    host.wait("the other job works", || state(host, ids[0]) == "done");
    assert_eq!(state(host, other), "running", "the other one goes on");
    // And its executors are free for what comes next.
    assert_eq!(host.request("POST", &format!("/v1/tasks/{other}/cancel"), None).0, 200);
    let ids = host.enqueue("clear", &["next", "but one"]);
    host.wait("the next ones run", || ids.iter().all(|id| state(host, *id) == "running"));
    host.wait("the other one is written back", || state(host, other) == "cancelled");
}

#[test]
fn a_task_that_loops_is_cancelled_over_http() {
    let (_site, host) = endless("loops");
    let (id, other) = two_that_run(&host);
    let why = json!({ "why": "as Ada asked" });
    let (status, body) = host.request("POST", &format!("/v1/tasks/{id}/cancel"), Some(&why));
    assert_eq!((status, body.as_str()), (200, format!(r#"{{"result":"interrupting","task":{id}}}"#).as_str()));
    ended_alone(&host, (id, other), "cancelled", "as Ada asked");
    let (status, body) = host.request("POST", &format!("/v1/tasks/{id}/cancel"), None);
    assert_eq!(status, 409, "{body}");
    // All that runs, by filter.
    let running = json!({ "job": "clear", "state": "running" });
    let (status, body) = host.request("POST", "/v1/tasks/cancel", Some(&running));
    assert_eq!(status, 200, "{body}");
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((&body["interrupting"], &body["next"]), (&json!(2), &Value::Null), "{body}");
    host.wait("all have ended", || host.tasks("clear", "cancelled").len() == 4);
}

#[test]
fn a_task_that_sleeps_is_buried_over_http() {
    let (_site, host) = endless("sleeps");
    let (id, other) = two_that_run(&host);
    let (status, body) = host.request("POST", &format!("/v1/tasks/{id}/bury"), None);
    assert_eq!(status, 200, "{body}");
    ended_alone(&host, (id, other), "dead", "by request");
}

#[test]
fn a_task_that_loops_is_buried_by_a_command() {
    let (site, host) = endless("loops");
    let (id, other) = two_that_run(&host);
    let said = run(&site, &["tasks", "bury", &id.to_string(), "--why", "it hangs"]).exits(0);
    assert_eq!(said.out, "bury: 0 done, 1 to be interrupted\n");
    ended_alone(&host, (id, other), "dead", "it hangs");
    assert_eq!(host.get("/v1/jobs/clear")["backlog"]["dead"], 1);
}

#[test]
fn a_task_that_sleeps_is_cancelled_by_a_command() {
    let (site, host) = endless("sleeps");
    let (id, other) = two_that_run(&host);
    run(&site, &["tasks", "cancel", &id.to_string()]).exits(0);
    ended_alone(&host, (id, other), "cancelled", "by hand");
}

#[test]
fn what_was_asked_for_while_it_ran_is_queued_when_it_was_cancelled() {
    let (_site, host) = endless("sleeps");
    let (id, other) = two_that_run(&host);
    assert_eq!(host.enqueue("clear", &["ends"]), [id]);
    let (status, body) = host.request("POST", "/v1/tasks/cancel", Some(&json!({ "ids": [id, other] })));
    assert_eq!(status, 200, "{body}");
    host.wait("it ends", || state(&host, id) == "cancelled");
    let successor = || host.tasks("clear", "running").into_iter().find(|task| task["key"] == "ends");
    host.wait("its successor runs", || successor().is_some());
    assert_ne!(successor().unwrap()["id"], id);
}

/// A site with a stopped host whose three tasks are dead.
fn three_dead() -> (Site, Vec<u64>) {
    let site = Site::with_job(&guest("fails_permanent"), "");
    let host = site.start();
    let ids = host.enqueue("clear", &["a", "b", "c\u{1b}[2J"]);
    host.wait("all are dead", || host.tasks("clear", "dead").len() == 3);
    assert_eq!(host.stop(), Some(0));
    (site, ids)
}

#[test]
fn tasks_are_listed_and_shown() {
    let site = Site::with_job(&guest("noop"), "");
    run(&site, &["tasks", "list"]).exits(1).says("there is no queue yet");
    let (site, ids) = three_dead();
    let said = run(&site, &["tasks", "list", "--job", "clear", "--state", "dead"]).exits(0);
    let rows: Vec<Vec<_>> = said.out.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0][..4], ["ID", "JOB", "STATE", "ATTEMPTS"], "{}", said.out);
    assert_eq!(rows[1][..4], [&ids[0].to_string(), "clear", "dead", "1"], "{}", said.out);
    assert_eq!((rows.len(), rows[1][5]), (4, "a"), "{}", said.out);
    assert!(!said.out.contains('\u{1b}') && said.out.contains("c\\u{1b}[2J"), "{}", said.out);
    let said = run(&site, &["tasks", "list", "--limit", "2", "--json"]).exits(0);
    assert_eq!((&said.json()["tasks"][1]["key"], &said.json()["next"]), (&json!("b"), &json!(ids[1])));
    let after = ids[1].to_string();
    let said = run(&site, &["tasks", "list", "--limit", "2", "--after", &after, "--json"]).exits(0).json();
    assert_eq!((said["tasks"].as_array().map(Vec::len), &said["next"]), (Some(1), &Value::Null));
    run(&site, &["tasks", "list", "--job", "claer"]).exits(1).says("did you mean `clear`?");

    let id = ids[0].to_string();
    let said = run(&site, &["tasks", "show", &id]).exits(0);
    for part in ["key       a\n", "state     dead\n", "attempts  1\n", "plugin    ", "\nattempt 1 began "] {
        assert!(said.out.contains(part), "`{part}` is not in:\n{}", said.out);
    }
    let shown = run(&site, &["tasks", "show", &id, "--json"]).exits(0).json();
    let host = site.start();
    assert_eq!(shown, task(&host, ids[0]), "as HTTP shows it");
    assert_eq!(shown["attempt_log"][0]["digest"], shown["digest"]);
    run(&site, &["tasks", "show", "999"]).exits(1).says("there is no task 999");
}

#[test]
fn what_is_dead_is_retried_by_a_command() {
    let (site, ids) = three_dead();
    site.install(&guest("noop"));
    let host = site.start();
    host.serving("clear");
    let id = ids[0].to_string();
    let said = run(&site, &["tasks", "retry", &id, "999"]).exits(1);
    assert_eq!(said.out, "retry: 1 done, 1 unknown\n");
    said.says("its key is queued as task ");
    said.says("there is no task 999");
    host.wait("it is done", || host.tasks("clear", "done").len() == 1);

    // Three by filter: nobody agreed to that.
    for args in [&["tasks", "retry", "--job", "clear"][..], &["tasks", "retry", "--job", "clear", "--state", "dead"]] {
        fed(&site, args, b"y\n").exits(2).says("3 dead tasks of clear match: repeat it with --yes");
    }
    run(&site, &["tasks", "retry", "--job", "clear", "--state", "done"]).exits(2).says("makes no sense");
    run(&site, &["tasks", "retry", "--job", "claer"]).exits(1).says("did you mean `clear`?");
    let said = run(&site, &["tasks", "retry", "--job", "clear", "--yes"]).exits(0);
    assert_eq!(said.out, "retry: 3 done\n");
    // They stay on record as what they were, and so does what came of them.
    host.wait("all are done", || host.tasks("clear", "done").len() == 4);
    assert_eq!(host.tasks("clear", "dead").len(), 3);
    assert_eq!(run(&site, &["tasks", "cancel", "--job", "clear"]).exits(0).out, "cancel: 0 done\n");
}

#[test]
fn what_waits_is_ended_by_filter_in_pages() {
    let site = Site::with_job(&guest("noop"), "");
    site.fill_queue("clear", 2700);
    let said = run(&site, &["tasks", "bury", "--job", "clear", "--why", "not these", "--yes"]).exits(0);
    assert_eq!(said.out, "bury: 2700 done\n");
    let host = site.start();
    assert_eq!(host.request("POST", "/v1/jobs/clear/pause", None).0, 200);
    assert_eq!(host.tasks("clear", "dead").len(), 2700);
    // And back, over HTTP.
    let (status, body) = host.request("POST", "/v1/tasks/retry", Some(&json!({ "job": "clear" })));
    assert_eq!(status, 200, "{body}");
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((&body["applied"], &body["next"]), (&json!(2700), &Value::Null), "{body}");
    assert_eq!(host.tasks("clear", "pending").len(), 2700);
    let ids: Vec<_> = host.tasks("clear", "pending").iter().map(|task| task["id"].clone()).collect();
    let (status, body) = host.request("POST", "/v1/tasks/cancel", Some(&json!({ "ids": ids })));
    assert_eq!(status, 200, "{body}");
    assert_eq!(host.tasks("clear", "cancelled").len(), 2700);
    assert_eq!(
        run(&site, &["tasks", "retry", "--job", "clear", "--state", "cancelled", "--yes"]).exits(0).out,
        "retry: 2700 done\n"
    );
}

/// A policy that fails at once would feed a retry by filter for ever.
#[test]
fn a_retry_ends_though_its_tasks_fail_again() {
    let (site, _) = three_dead();
    let host = site.start();
    host.serving("clear");
    for round in 1..=3 {
        let dead = host.tasks("clear", "dead").len();
        let said = run(&site, &["tasks", "retry", "--job", "clear", "--yes"]).exits(0);
        assert_eq!(said.out, format!("retry: {dead} done\n"), "round {round}");
        host.drained("clear");
    }
}

#[test]
fn nodes_are_shown_with_what_they_run() {
    let (site, host) = endless("sleeps");
    two_that_run(&host);
    let nodes = host.get("/v1/nodes");
    let holds = json!([{ "job": "clear", "tasks": 2 }]);
    assert_eq!((nodes["nodes"].as_array().map(Vec::len), &nodes["nodes"][0]["holds"]), (Some(1), &holds), "{nodes}");
    let said = crate::cli::beside(&site, &host, &["status"]).exits(0);
    let row = said.out.lines().find(|line| line.ends_with("clear: 2"));
    assert!(row.is_some_and(|row| row.contains(env!("CARGO_PKG_VERSION"))), "{}", said.out);
    // How far the job is behind: what waits beside those that run, and beside
    // what the node has claimed for when those are done.
    let keys: Vec<_> = (0..100).map(|number| format!("waits-{number}")).collect();
    host.enqueue("clear", &keys);
    host.wait("they are due", || host.get("/v1/jobs/clear")["backlog"]["age_ms"].as_u64() > Some(0));
    let backlog = host.get("/v1/jobs/clear")["backlog"].clone();
    let waits = host.tasks("clear", "pending");
    assert!(waits.iter().any(|task| task["run_at"] == backlog["oldest_due"]), "{backlog}");
}
