//! A store that fails: requests are refused without a half state, and the host
//! recovers by itself.

use std::fs;

use serde_json::json;

use crate::small_disk::SmallDisk;
use crate::support::{Site, Sweepd, guest, plugin};

#[test]
fn a_removed_database_file_is_written_again() {
    let site = Site::with_job(&plugin("video-clear"), "");
    let host = site.start();
    host.serving("clear");
    assert!(host.request("POST", "/v1/jobs/clear/pause", None).0 < 300);
    host.enqueue("clear", &["before"]);
    for file in ["sweepd.db", "sweepd.db-wal", "sweepd.db-shm"] {
        let _ = fs::remove_file(site.path().join("state").join(file));
    }
    let mut acknowledged = vec!["before".to_owned()];
    let mut number = 0;
    host.wait("requests are taken again", || {
        number += 1;
        let key = format!("during-{number}");
        let (status, body) = host.request("POST", "/v1/jobs/clear/tasks", Some(&json!({ "key": key })));
        assert!([200, 201, 500, 503].contains(&status), "{status}: {body}");
        if status == 201 {
            acknowledged.push(key);
        }
        status == 201
    });
    assert_eq!(host.stop(), Some(0));
    // What was acknowledged is in the file, not only in the process.
    let host = site.start();
    let pending: Vec<_> =
        host.tasks("clear", "pending").iter().map(|task| task["key"].as_str().unwrap().to_owned()).collect();
    for key in acknowledged {
        assert!(pending.contains(&key), "{key} is lost: {pending:?}");
    }
}

#[test]
fn a_full_disk_refuses_and_recovers() {
    let site = Site::with_job(&guest("noop"), "");
    let disk = SmallDisk::tmpfs(&site.path().join("state"), "size=12m");
    let host = site.start();
    host.serving("clear");
    assert!(host.request("POST", "/v1/jobs/clear/pause", None).0 < 300);
    let (acknowledged, refused) = fill(&host);
    assert!(refused, "the disk never was full");
    assert_eq!(host.tasks("clear", "pending").len(), acknowledged, "no half state");
    assert_eq!(host.request("GET", "/healthz", None).0, 200);
    disk.remount("size=64m");
    host.wait("requests are taken again", || {
        host.request("POST", "/v1/jobs/clear/tasks", Some(&json!({ "key": "after" }))).0 < 300
    });
    assert_eq!(host.tasks("clear", "pending").len(), acknowledged + 1);
    assert!(host.request("POST", "/v1/jobs/clear/resume", None).0 < 300);
    host.drained("clear");
    assert_eq!(host.tasks("clear", "done").len(), acknowledged + 1);
    drop(host);
}

/// Queues pairs of large tasks until one is refused; answers how many were
/// acknowledged.
fn fill(host: &Sweepd) -> (usize, bool) {
    let payload = "x".repeat(60_000);
    let mut acknowledged = 0;
    for number in 0..500 {
        let task = |part: &str| json!({ "key": format!("{number}-{part}"), "payload": payload });
        let (status, body) = host.request("POST", "/v1/jobs/clear/tasks", Some(&json!([task("a"), task("b")])));
        match status {
            201 => acknowledged += 2,
            507 => return (acknowledged, true),
            _ => panic!("{status}: {body}"),
        }
    }
    (acknowledged, false)
}
