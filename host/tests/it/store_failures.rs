//! A store that fails: requests are refused without a half state, and the host
//! recovers by itself.

use std::fs;
use std::process::Command;

use rustix::io::Errno;
use serde_json::json;

use crate::small_disk::SmallDisk;
use crate::support::fuse::{Faulty, Op, When};
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

/// A mount of one file on another, as containers have them.
struct Bound(std::path::PathBuf);

impl Drop for Bound {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// Two hosts that call one database by two names: the second is refused, whatever
/// the names are.
#[test]
fn two_hosts_on_one_file_by_two_names_are_one_host() {
    let one = Site::with_job(&plugin("video-clear"), "");
    let first = one.start();
    first.serving("clear");
    let file = one.path().join("state/sweepd.db");
    let other = Site::with_job(&plugin("video-clear"), "");
    let name = other.path().join("state/sweepd.db");
    fs::create_dir(other.path().join("state")).unwrap();

    fs::hard_link(&file, &name).unwrap();
    let log = other.try_start().err().expect("it is refused");
    assert!(log.contains("2 names (hard links)"), "{log}");
    fs::remove_file(&name).unwrap();

    fs::write(&name, "").unwrap();
    assert!(Command::new("mount").arg("--bind").args([&file, &name]).status().unwrap().success());
    let bound = Bound(name);
    let log = other.try_start().err().expect("it is refused");
    assert!(log.contains("in use by another sweepd, under another name of the same file"), "{log}");
    first.enqueue("clear", &["a"]);
    first.drained("clear");
    assert_eq!(first.stop(), Some(0));
    drop(bound);
    let again = one.start();
    assert_eq!(again.tasks("clear", "done").len(), 1, "what was acknowledged is there");
}

/// A quota that is used up is a full disk: new tasks are refused with that reason,
/// and taken again when there is room.
#[test]
fn a_quota_that_is_used_up_is_a_full_disk() {
    let site = Site::with_job(&guest("noop"), "");
    let (behind, state) = (site.path().join("behind"), site.path().join("state"));
    fs::create_dir(&behind).unwrap();
    fs::create_dir(&state).unwrap();
    let faulty = Faulty::mount(&behind, &state);
    let host = site.start();
    host.serving("clear");
    faulty.fail(Op::Write, "sweepd.db-wal", When::Before(Errno::DQUOT));
    let add = |key: &str| host.request("POST", "/v1/jobs/clear/tasks", Some(&json!({ "key": key })));
    let (status, body) = add("during");
    assert!(status == 507 && body.contains("storage-full"), "{status}: {body}");
    let (status, why) = host.request("GET", "/readyz", None);
    assert!(status == 503 && why.contains("disk that holds the queue is full"), "{status}: {why}");
    faulty.heal();
    host.wait("tasks are taken again", || add("after").0 < 300);
    host.drained("clear");
    assert_eq!(host.stop(), Some(0));
}

/// A disk that fails below the state is no damaged database: it is told what
/// failed and how, and nothing that loses data is advised. When the disk answers
/// again, all goes on.
#[test]
fn a_disk_that_fails_below_the_state_is_told_as_that() {
    let site = Site::with_job(&guest("noop"), "");
    let (behind, state) = (site.path().join("behind"), site.path().join("state"));
    fs::create_dir(&behind).unwrap();
    fs::create_dir(&state).unwrap();
    let faulty = Faulty::mount(&behind, &state);
    let host = site.start();
    host.serving("clear");
    host.enqueue("clear", &["before"]);
    host.drained("clear");

    faulty.fail(Op::Write, "sweepd.db", When::Before(Errno::IO));
    let (status, body) = host.request("POST", "/v1/jobs/clear/tasks", Some(&json!({ "key": "during" })));
    assert_eq!(status, 503, "{body}");
    let is_told = |deed: &str| {
        let log = host.log();
        let told = log.lines().rev().find(|line| line.contains(deed) && line.contains("os error 5"));
        let told = told.map(str::to_owned);
        assert!(!log.contains("restore a backup"), "{log}");
        told
    };
    host.wait("it is told what failed", || {
        is_told("writing").or_else(|| is_told("syncing")).is_some_and(|line| line.contains("dmesg"))
    });
    host.wait("it is not ready", || host.request("GET", "/readyz", None).0 == 503);
    faulty.heal();
    host.wait("tasks are taken again", || {
        host.request("POST", "/v1/jobs/clear/tasks", Some(&json!({ "key": "after" }))).0 < 300
    });
    host.drained("clear");
    assert_eq!(host.stop(), Some(0));

    // From the start on: SQLite takes a read that fails for a damaged file.
    faulty.fail(Op::Read, "sweepd.db", When::Before(Errno::IO));
    let log = site.try_start().err().expect("it cannot start");
    let last = log.lines().last().unwrap_or_default();
    assert!(log.contains("reading") && log.contains("os error 5") && log.contains("may be whole"), "{last}");
    assert!(!log.contains("restore"), "{last}");
    faulty.heal();
    let host = site.start();
    assert!(host.tasks("clear", "done").len() >= 2, "it was whole");
    assert_eq!(host.stop(), Some(0));
}
