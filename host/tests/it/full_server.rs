//! A disk of the database's server that is full: new tasks are refused with that
//! reason, what waits to be written back waits, and all goes on by itself.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde_json::json;

use crate::small_disk::SmallDisk;
use crate::support::{Site, Sweepd, plugin};
use crate::torture::servers::{Kind, Server};

/// Tasks that were done before the disk was full.
const WARM: usize = 20;

/// A server whose tables are on a small disk, and where they are.
fn server_on_a_small_disk(kind: Kind) -> (Server, SmallDisk, String) {
    let server = Server::start(kind);
    let url = server.url(server.address());
    let folder: PathBuf = match kind {
        Kind::Postgres => server.folder().join("tables"),
        // The folder of a database: MariaDB's log and system tables are elsewhere.
        Kind::Mariadb => server.folder().join("data/sweepd"),
    };
    let disk = SmallDisk::tmpfs(&folder, "size=48m");
    server.give(&folder);
    let url = if kind == Kind::Postgres {
        let place = folder.display();
        let tell = |database: &str, sql: &str| {
            let url = on(&url, database);
            let said = Command::new("psql").args([&url, "-v", "ON_ERROR_STOP=1", "-qc", sql]).output().unwrap();
            assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
        };
        tell("postgres", &format!("CREATE TABLESPACE small LOCATION '{place}'"));
        tell("postgres", "CREATE DATABASE sweepd TABLESPACE small");
        on(&url, "sweepd")
    } else {
        url
    };
    (server, disk, url)
}

/// The same server, another database.
fn on(url: &str, database: &str) -> String {
    let (server, _) = url.rsplit_once('/').expect("the URL names a database");
    format!("{server}/{database}")
}

/// Each table has a page by now, so that claims go on for a while.
fn is_warm(host: &Sweepd) {
    host.serving("clear");
    host.enqueue("clear", &(0..WARM).map(|number| format!("warm-{number}")).collect::<Vec<_>>());
    host.drained("clear");
}

fn a_full_disk_of_a_server_refuses_and_recovers(kind: Kind) {
    let (server, disk, url) = server_on_a_small_disk(kind);
    let site = Site::new();
    site.install(&plugin("video-clear"));
    site.configure(&format!(
        "[database]\nurl = \"{url}\"\n[[job]]\nname = \"clear\"\nplugin = \"plugins/plugin.wasm\"\n\
         mounts = [\"videos\"]\ninterval = \"200ms\"\n"
    ));
    let names: Vec<_> = (0..300).map(|number| format!("video-{number}")).collect();
    for name in &names {
        fs::write(site.videos().join(name), "x").unwrap();
    }
    let host = site.start();
    is_warm(&host);
    assert!(host.request("POST", "/v1/jobs/clear/pause", None).0 < 300);
    host.enqueue("clear", &names);
    disk.fill();
    // MariaDB itself ends where a longer value meets a full disk.
    let payload = "x".repeat(if kind == Kind::Mariadb { 200 } else { 3_000 });
    let mut queued = 0;
    let refused = loop {
        let task = |part: usize| json!({ "key": format!("late-{queued}-{part}"), "payload": payload });
        let tasks: Vec<_> = (0..10).map(task).collect();
        let (status, body) = host.request("POST", "/v1/jobs/clear/tasks", Some(&json!(tasks)));
        if status != 201 {
            break (status, body);
        }
        queued += 1;
    };
    assert_eq!(refused.0, 507, "{}\n{}\n{}", refused.1, host.log(), server.said());
    assert!(refused.1.contains("storage-full") && refused.1.contains("disk"), "{}", refused.1);
    let ready = || host.request("GET", "/readyz", None);
    let (status, why) = ready();
    assert!(status == 503 && why.contains("the disk that holds the queue is full"), "{status}: {why}");
    assert_eq!(ready().0, 503, "and it stays so, however often it is asked");
    assert!(host.log().contains("free space on the server's disk"), "{}", host.log());
    // What can be written back is; the rest is tried until it is.
    host.wait("it is resumed", || {
        let resumed = host.request("POST", "/v1/jobs/clear/resume", None).0;
        if resumed == 507 {
            disk.empty();
        }
        resumed < 300
    });
    disk.empty();
    host.wait("it is ready", || ready().0 == 200);
    host.drained("clear");
    for name in &names {
        assert!(!site.videos().join(name).exists(), "{name}");
    }
    assert_eq!(host.tasks("clear", "dead"), [] as [serde_json::Value; 0]);
    let done = host.tasks("clear", "done");
    assert_eq!(done.len(), WARM + names.len() + queued * 10, "each that was acknowledged, once");
    let (status, body) = host.request("POST", "/v1/jobs/clear/tasks", Some(&json!({ "key": "after" })));
    assert_eq!(status, 201, "{body}");
    host.drained("clear");
    assert_eq!(host.stop(), Some(0));
}

#[test]
fn a_full_disk_of_postgres_refuses_and_recovers() {
    a_full_disk_of_a_server_refuses_and_recovers(Kind::Postgres);
}

#[test]
fn a_full_disk_of_mariadb_refuses_and_recovers() {
    a_full_disk_of_a_server_refuses_and_recovers(Kind::Mariadb);
}

/// Results that cannot be stored are tried again: the files are gone, the records
/// follow, and no task is charged.
#[test]
fn results_wait_until_the_disk_of_the_server_has_room() {
    let (_server, disk, url) = server_on_a_small_disk(Kind::Postgres);
    let site = Site::new();
    site.install(&plugin("video-clear"));
    site.configure(&format!(
        "[database]\nurl = \"{url}\"\n[[job]]\nname = \"clear\"\nplugin = \"plugins/plugin.wasm\"\n\
         mounts = [\"videos\"]\ninterval = \"200ms\"\n"
    ));
    // Long names: their history does not fit where the tasks were.
    let names: Vec<_> = (0..4000).map(|number| format!("{number:04}-{}", "x".repeat(200))).collect();
    for name in &names {
        fs::write(site.videos().join(name), "x").unwrap();
    }
    let host = site.start();
    is_warm(&host);
    assert!(host.request("POST", "/v1/jobs/clear/pause", None).0 < 300);
    host.enqueue("clear", &names);
    disk.fill();
    assert!(host.request("POST", "/v1/jobs/clear/resume", None).0 < 300);
    host.says("results could not be stored, trying again");
    assert!(host.log().contains("the database has no room"), "{}", host.log());
    host.wait("it is named", || {
        let (status, why) = host.request("GET", "/readyz", None);
        status == 503 && why.contains("disk")
    });
    disk.empty();
    host.drained("clear");
    assert_eq!(fs::read_dir(site.videos()).unwrap().count(), 1, "the marker stays");
    assert_eq!(host.tasks("clear", "done").len(), WARM + names.len());
    assert_eq!(host.tasks("clear", "dead"), [] as [serde_json::Value; 0]);
    host.wait("it is ready", || host.request("GET", "/readyz", None).0 == 200);
    assert_eq!(host.stop(), Some(0));
}
