//! No loop and no thread of the host ends unnoticed: it is started again, or the
//! process ends; meanwhile the host is not ready, and says what is down.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::cli::beside;
use crate::stores::SharedHarness;
use crate::support::{Site, Sweepd, guest, plugin};

/// A host whose parts are told to panic by a file in this folder.
fn start(site: &Site) -> (Sweepd, PathBuf) {
    let folder = site.path().join("kill");
    fs::create_dir_all(&folder).unwrap();
    let host = site.try_start_with(&[("SWEEPD_KILL", folder.to_str().unwrap())]).unwrap();
    host.serving("clear");
    (host, folder)
}

/// Kills all of these, and waits until each is started again.
fn start_again(site: &Site, host: &Sweepd, kill: &Path, parts: &[&str], work: bool) {
    for part in parts {
        fs::write(kill.join(part), "").unwrap();
    }
    let (mut unready, mut shown) = (String::new(), false);
    let mut keys = 0..;
    host.wait("all were started again", || {
        if work {
            // It wakes threads that rest.
            host.enqueue("clear", &[format!("key-{}", keys.next().unwrap())]);
        }
        let (status, body) = host.request("GET", "/readyz", None);
        if status == 503 {
            unready += &body;
            shown |= beside(site, host, &["status", "--check"]).code == Some(2);
        } else if !shown && let Some(part) = parts.first() {
            // Once more, and for twice as long: the command takes its time.
            fs::write(kill.join(part), "").unwrap();
        }
        let status = host.get("/v1/jobs");
        let none = Vec::new();
        let known = status["parts"].as_array().unwrap_or(&none);
        let up = |part: &Value| part["down"] == false && part["restarts"].as_u64() >= Some(1);
        let up: BTreeSet<_> = known.iter().filter(|part| up(part)).filter_map(|part| part["name"].as_str()).collect();
        parts.iter().all(|part| up.contains(part))
    });
    assert!(parts.iter().any(|part| unready.contains(part)), "it was not ready: {unready}");
    assert!(shown, "the command says so, too");
    host.wait("it is ready again", || host.request("GET", "/readyz", None).0 == 200);
    host.drained("clear");
    let status = beside(site, host, &["status"]).exits(0).out;
    assert!(parts.iter().all(|part| status.contains(part)), "{status}");
}

#[test]
fn a_loop_that_panics_is_started_again_and_shown() {
    let more = "trash = \"1h\"\n[job.budget]\nsweep_share = \"50%\"\n";
    let site = Site::with_job(&guest("noop_job"), more);
    let (host, kill) = start(&site);
    let parts = [
        "count clear",
        "heartbeat",
        "housekeeping",
        "plan-clear",
        "plugin clear",
        "sweepd-epoch",
        "trash clear",
        "wake-up",
    ];
    start_again(&site, &host, &kill, &parts, true);
    // With a task under way the process would end instead.
    start_again(&site, &host, &kill, &["job clear"], false);
    // What is asked of a loop that was started again is done.
    assert_eq!(host.request("POST", "/v1/jobs/clear/pause", None).0, 200);
    assert_eq!(host.request("POST", "/v1/jobs/clear/resume", None).0, 200);
    assert_eq!(host.stop(), Some(0));
}

#[test]
fn a_part_that_nothing_can_replace_ends_the_process() {
    for part in ["effects", "exec-0-clear", "http", "sweepd-store"] {
        let site = Site::with_job(&plugin("video-clear"), "concurrency = 1\n");
        fs::write(site.videos().join("a"), "x").unwrap();
        let (host, kill) = start(&site);
        fs::write(kill.join(part), "").unwrap();
        // The host may be gone before it answers.
        let _ = host.try_request("POST", "/v1/jobs/clear/tasks", Some(&serde_json::json!([{ "key": "a" }])));
        let log = site.path().join("log");
        assert_eq!(host.ended(), Some(1), "{part}: {}", fs::read_to_string(&log).unwrap());
        let log = fs::read_to_string(log).unwrap();
        assert!(log.contains(part), "{part}: {log}");
        let (host, _) = start(&site);
        host.enqueue("clear", &["a"]);
        host.wait("it is removed", || !site.videos().join("a").exists());
        host.drained("clear");
    }
}

#[test]
fn a_job_whose_loop_panics_amid_its_tasks_ends_the_process_and_no_task_is_lost() {
    let site = Site::with_job(&guest("slow"), "concurrency = 1\n[job.config]\nwork_ms = 1000\n");
    let (host, kill) = start(&site);
    let ids = host.enqueue("clear", &["a"]);
    host.wait("it runs", || host.has("clear", "running"));
    fs::write(kill.join("job clear"), "").unwrap();
    assert_eq!(host.ended(), Some(1));
    let (host, _) = start(&site);
    host.drained("clear");
    assert_eq!(host.get(&format!("/v1/tasks/{}", ids[0]))["state"], "done");
}

fn parts_of_a_shared_store<H: SharedHarness>(parts: &[&str]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let database = runtime.block_on(async { if H::ready().await { Some(H::fresh().await) } else { None } });
    let Some(database) = database else { return };
    let site = Site::new();
    site.install(&guest("noop_job"));
    site.configure(&format!(
        "[database]\nurl = \"{}\"\n[[job]]\nname = \"clear\"\nplugin = \"plugins/plugin.wasm\"\n\
         mounts = [\"videos\"]\ninterval = \"200ms\"\n",
        database.url()
    ));
    let (host, kill) = start(&site);
    start_again(&site, &host, &kill, parts, false);
    assert_eq!(host.stop(), Some(0));
}

#[test]
fn the_loops_of_postgres_are_started_again() {
    parts_of_a_shared_store::<crate::stores::PostgresHarness>(&["committer", "listener"]);
}

#[test]
fn the_loops_of_mysql_are_started_again() {
    parts_of_a_shared_store::<crate::stores::MySqlHarness>(&["committer"]);
}
