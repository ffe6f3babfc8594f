//! A job works in the directory that it knows: another one in its place is not
//! mistaken for one from which everything is gone already.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use crate::cli::run;
use crate::support::{Site, Sweepd, plugin};

/// A host that knows its mount, and has removed a file from it.
fn at_work() -> (Site, Sweepd) {
    // The wall would let in no other directory than the first.
    let site = Site::with_job(&plugin("video-clear"), "[sandbox]\nlandlock = \"off\"\n");
    fs::write(site.videos().join("first"), "1").unwrap();
    let host = site.start();
    host.enqueue("clear", &["first"]);
    host.drained("clear");
    assert!(!site.videos().join("first").exists());
    (site, host)
}

fn unmount(site: &Site) -> PathBuf {
    let away = site.path().join("unmounted");
    fs::rename(site.videos(), &away).unwrap();
    away
}

/// The job pauses, with this in the reason, and charges the task nothing.
fn pauses(host: &Sweepd, task: u64, reason: &str) {
    let mut why = Value::Null;
    host.wait("the job is paused", || {
        why = host.get("/v1/jobs/clear")["paused"].clone();
        why.is_string()
    });
    let why = why.as_str().unwrap();
    assert!(why.contains(reason), "{why}");
    assert!(why.contains("sweepd mount accept clear, then sweepd resume clear"), "{why}");
    let task = host.get(&format!("/v1/tasks/{task}"));
    assert_eq!((task["state"].as_str(), task["attempts"].as_u64()), (Some("pending"), Some(0)), "{task}");
}

fn state(site: &Site, code: i32) -> String {
    let listed = run(site, &["mount", "list", "clear", "--json"]).exits(code).json();
    listed["mounts"][0]["state"].as_str().unwrap().to_owned()
}

#[test]
fn an_unmounted_disk_is_waited_for() {
    let (site, host) = at_work();
    let away = unmount(&site);
    fs::write(away.join("two"), "2").unwrap();
    let ids = host.enqueue("clear", &["two"]);
    host.wait("the failure is said", || host.get("/v1/jobs/clear")["last_error"].is_object());
    let mounts = host.get("/v1/jobs/clear/mounts");
    assert_eq!(mounts["mounts"][0]["state"], "unusable", "{mounts}");
    let status = host.get("/v1/jobs/clear");
    assert_eq!(status["paused"], Value::Null, "{status}");
    fs::rename(away, site.videos()).unwrap();
    host.drained("clear");
    assert_eq!(host.get(&format!("/v1/tasks/{}", ids[0]))["attempts"], 1);
    assert!(!site.videos().join("two").exists());
    assert_eq!(state(&site, 0), "right");
}

#[test]
fn an_empty_folder_in_its_place_pauses_the_job_until_it_is_accepted() {
    let (site, host) = at_work();
    unmount(&site);
    fs::create_dir(site.videos()).unwrap();
    let ids = host.enqueue("clear", &["two"]);
    pauses(&host, ids[0], "its marker .sweepd-mount is missing");
    assert_eq!(state(&site, 1), "unmarked");
    run(&site, &["mount", "list"]).exits(1).says("sweepd mount accept clear, then sweepd resume clear");
    assert!(!site.videos().join(".sweepd-mount").exists(), "looking marks nothing");

    fs::write(site.videos().join("two"), "2").unwrap();
    let said = run(&site, &["mount", "accept", "clear", "videos"]).exits(0);
    assert!(said.out.contains("it is paused; go on with: sweepd resume clear"), "{}", said.out);
    assert_eq!(state(&site, 0), "right");
    assert!(site.videos().join("two").exists());
    run(&site, &["resume", "clear"]).exits(0);
    host.drained("clear");
    assert!(!site.videos().join("two").exists());
    run(&site, &["mount", "accept", "clear", "elsewhere"]).exits(1).says("elsewhere is no mount of clear");
}

#[test]
fn a_folder_with_a_marker_of_its_own_pauses_the_job_until_it_is_accepted() {
    let (site, host) = at_work();
    let away = unmount(&site);
    fs::create_dir(site.videos()).unwrap();
    fs::write(site.videos().join(".sweepd-mount"), "0123456789abcdef0123456789abcdef\n").unwrap();
    fs::write(site.videos().join("two"), "2").unwrap();
    let ids = host.enqueue("clear", &["two"]);
    pauses(&host, ids[0], "it is another one than before");
    assert_eq!(state(&site, 1), "another");

    let (status, body) = host.request("POST", "/v1/jobs/clear/mounts/accept", None);
    assert!(status == 200 && body.contains("\"state\":\"right\""), "{status}: {body}");
    assert_eq!(host.get("/v1/jobs/clear/mounts")["mounts"][0]["known_by"], "0123456789abcdef0123456789abcdef");
    assert_eq!(host.request("POST", "/v1/jobs/clear/resume", None).0, 200);
    host.drained("clear");
    assert!(!site.videos().join("two").exists());

    // And the first one is now the wrong one, whatever this node remembers.
    fs::rename(site.videos(), site.path().join("second")).unwrap();
    fs::rename(away, site.videos()).unwrap();
    fs::write(site.videos().join("three"), "3").unwrap();
    let ids = host.enqueue("clear", &["three"]);
    pauses(&host, ids[0], "it is another one than before");
    assert!(site.videos().join("three").exists());
}

#[test]
fn a_second_job_may_work_in_the_same_directory() {
    let site = Site::new();
    site.install(&plugin("video-clear"));
    let job = |name: &str| {
        format!(
            "[[job]]\nname = \"{name}\"\nplugin = \"plugins/plugin.wasm\"\nmounts = [\"videos\"]\ninterval = \"200ms\"\n"
        )
    };
    site.configure(&job("clear"));
    for name in ["one", "two"] {
        fs::write(site.videos().join(name), name).unwrap();
    }
    let host = site.start();
    host.enqueue("clear", &["one"]);
    host.drained("clear");
    assert_eq!(host.stop(), Some(0));
    site.configure(&(job("clear") + &job("second")));
    let host = site.start();
    host.enqueue("second", &["two"]);
    host.drained("second");
    assert!(!site.videos().join("two").exists());
    assert_eq!(host.get("/v1/jobs/second")["paused"], Value::Null);
}

#[test]
fn a_database_begun_anew_does_not_know_the_directory() {
    let (site, host) = at_work();
    assert_eq!(host.stop(), Some(0));
    fs::remove_dir_all(site.path().join("state")).unwrap();
    fs::write(site.videos().join("two"), "2").unwrap();
    let host = site.start();
    let ids = host.enqueue("clear", &["two"]);
    pauses(&host, ids[0], "it carries the marker of another database");
    assert_eq!(state(&site, 1), "foreign");
    assert!(site.videos().join("two").exists());
    run(&site, &["mount", "accept", "clear"]).exits(0);
    run(&site, &["resume", "clear"]).exits(0);
    host.drained("clear");
    assert!(!site.videos().join("two").exists());
}

/// A host was killed after it had marked the directory and before it could say
/// so: its next life must not wait for somebody.
#[test]
fn a_mark_that_a_killed_host_left_is_its_own() {
    use sweepd::domain::job::JobName;
    use sweepd::store::Store as _;
    use sweepd::store::sqlite::{SqliteOptions, SqliteStore};
    let mark = "0123456789abcdef0123456789abcdef";
    let site = Site::with_job(&plugin("video-clear"), "");
    fs::create_dir(site.path().join("state")).unwrap();
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let file = site.path().join("state/sweepd.db");
        let store = SqliteStore::open(&file, SqliteOptions::host()).unwrap();
        let row = store.register_job(&JobName::new("clear").unwrap()).await.unwrap();
        store.set_mount_id(row.id, "new /", mark).await.unwrap();
        store.close().await;
    });
    fs::write(site.videos().join(".sweepd-mount"), mark).unwrap();
    fs::write(site.videos().join("one"), "1").unwrap();
    let host = site.start();
    host.enqueue("clear", &["one"]);
    host.drained("clear");
    assert!(!site.videos().join("one").exists());
    assert_eq!(host.get("/v1/jobs/clear/mounts")["mounts"][0]["known_by"], mark);
}
