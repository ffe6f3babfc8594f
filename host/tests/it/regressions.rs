//! What the replaced service did wrong, each as a test.

use std::collections::HashMap;
use std::fs;

use serde_json::Value;

use crate::support::{Site, guest, plugin};

/// A backlog of 20,000 with batches of three deadlocked it in 7 of 8 runs.
#[test]
fn a_backlog_of_twenty_thousand_in_batches_of_three() {
    let site = Site::with_job(&guest("noop"), "capacity = 3\nconcurrency = 1\n");
    site.fill_queue("clear", 20_000);
    let host = site.start();
    host.drained("clear");
    assert_eq!(host.tasks("clear", "done").len(), 20_000);
}

/// Overlapping sweeps executed each record 2.2 to 3.2 times, one of them 148
/// times.
#[test]
fn sweeps_do_not_overlap() {
    let more = "interval = \"10ms\"\ncapacity = 3\nconcurrency = 2\n";
    let site = Site::new();
    site.install(&guest("moves_a"));
    site.configure(&format!(
        "[[job]]\nname = \"clear\"\nplugin = \"plugins/plugin.wasm\"\nmounts = [\"videos\"]\n{more}"
    ));
    for folder in ["todo", "a"] {
        fs::create_dir(site.videos().join(folder)).unwrap();
    }
    let keys: Vec<_> = (0..2_000).map(|number| format!("video-{number}")).collect();
    for key in &keys {
        fs::write(site.videos().join("todo").join(key), "").unwrap();
    }
    let host = site.start();
    host.serving("clear");
    host.enqueue("clear", &keys);
    for _ in 0..50 {
        let (status, body) = host.request("POST", "/v1/jobs/clear/sweep", None);
        assert!(status < 300, "{body}");
    }
    host.drained("clear");
    // The guest buries a task whose file is no longer there to be moved.
    assert_eq!(host.tasks("clear", "dead"), Vec::<Value>::new());
    let mut runs: HashMap<String, u32> = HashMap::new();
    for task in host.tasks("clear", "done") {
        *runs.entry(task["key"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    assert_eq!(runs.len(), keys.len());
    assert!(runs.values().all(|runs| *runs == 1));
}

/// One record that could not be removed was retried 2,000 times in 24 s, three
/// of them stopped all others.
#[test]
fn what_cannot_be_removed_waits_and_stops_nobody() {
    let site = Site::for_another_user(&plugin("video-clear"), "capacity = 3\n[job.retry]\nbackoff = \"10m\"\n");
    let mut stuck = Vec::new();
    for number in 0..3 {
        let name = format!("stuck-{number}");
        fs::create_dir(site.videos().join(&name)).unwrap();
        fs::write(site.videos().join(&name).join("file"), "").unwrap();
        stuck.push(name);
    }
    let others: Vec<_> = (0..300).map(|number| format!("video-{number}")).collect();
    for name in &others {
        fs::write(site.videos().join(name), "").unwrap();
    }
    site.give_to_host();
    for name in &stuck {
        use std::os::unix::fs::PermissionsExt as _;
        fs::set_permissions(site.videos().join(name), fs::Permissions::from_mode(0o555)).unwrap();
    }
    let host = site.start();
    let ids = host.enqueue("clear", &stuck);
    host.wait("each has failed once", || ids.iter().all(|id| host.get(&format!("/v1/tasks/{id}"))["attempts"] == 1));
    host.enqueue("clear", &others);
    host.wait("the others are done", || host.tasks("clear", "done").len() == others.len());
    for id in ids {
        let task = host.get(&format!("/v1/tasks/{id}"));
        assert_eq!(task["state"], "pending", "{task}");
        assert_eq!(task["attempts"], 1, "the backoff is minutes: {task}");
        assert!(task["note"].as_str().unwrap().contains("ermission denied"), "{task}");
    }
}

/// A second instance on a port in use ended with exit code 0 and no word.
#[test]
fn a_second_instance_says_so_and_fails() {
    let site = Site::with_job(&guest("noop"), "");
    let host = site.start();
    let second = Site::with_job(&guest("noop"), "");
    let text = fs::read_to_string(second.path().join("sweepd.toml")).unwrap();
    let text = text.replace("127.0.0.1:0", &host.address.to_string());
    fs::write(second.path().join("sweepd.toml"), text).unwrap();
    let output = second.command(&["run"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("cannot listen on") && said.contains(&host.address.to_string()), "{said}");
    assert!(!second.path().join("state/sweepd.db").exists(), "it touched its database");
}

/// The same database under two hosts is refused as well.
#[test]
fn a_second_host_on_one_database_says_so_and_fails() {
    let site = Site::with_job(&guest("noop"), "");
    let _host = site.start();
    let log = site.try_start().err().expect("the second must not start");
    assert!(log.contains("sweepd.db"), "{log}");
}

/// Ids `.` and `..`, one with NUL, one longer than its column became permanent
/// poison or a 500.
#[test]
fn unusable_ids_are_refused_at_the_door() {
    let site = Site::with_job(&plugin("video-clear"), "");
    let host = site.start();
    let long = format!("/video-delete-record/{}", "x".repeat(1025));
    for path in [
        "/video-delete-record/%2E",
        "/video-delete-record/%2e%2e",
        "/video-delete-record/a%00b",
        "/video-delete-record/a%2Fb",
        "/video-delete-record/%FF",
        "/video-delete-record/",
        &long,
    ] {
        let (status, body) = host.request("GET", path, None);
        assert_eq!((status, body.as_str()), (400, "video id should not be empty!"), "{path}");
    }
    assert!(!host.has("clear", "pending"));
}

/// A sweep ended only with its slowest task, and what fell due meanwhile waited
/// for it beside idle executors.
#[test]
fn a_slow_task_holds_up_no_later_one() {
    let job = "concurrency = 2\n[job.limits]\ntask_deadline = \"20m\"\n[job.config]\nsleep_ms = 300000\n";
    let site = Site::with_job(&guest("sleeps"), job);
    let host = site.start();
    host.serving("clear");
    let first = host.enqueue("clear", &["slow"])[0];
    let state = |id: u64| host.get(&format!("/v1/tasks/{id}"))["state"].clone();
    host.wait("it runs", || state(first) == "running");
    let second = host.enqueue("clear", &["later"])[0];
    host.wait("the later one runs beside it", || state(second) == "running");
    assert_eq!(state(first), "running");
}
