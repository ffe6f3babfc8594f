//! A job works in the directory that it knows: another one in its place is not
//! mistaken for one from which everything is gone already.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use crate::cli::run;
use crate::small_disk::SmallDisk;
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

/// The same directory with other rights is the same directory.
#[test]
fn changed_rights_make_no_other_directory() {
    let site = Site::new();
    site.install(&plugin("video-clear"));
    let configure = |rights: &str| {
        site.configure(&format!(
            "[[job]]\nname = \"clear\"\nplugin = \"plugins/plugin.wasm\"\ninterval = \"200ms\"\n\
             mounts = [{{ path = \"videos\", rights = {rights} }}]\n[job.retry]\nmax_attempts = 1\n"
        ));
    };
    // Known by its root first, then by its marker, and then by either.
    let rights = ["\"ro\"", "\"rw\"", "[\"list\", \"stat\"]", "\"ro\"", "[\"list\", \"stat\", \"delete\"]"];
    for (number, rights) in rights.iter().enumerate() {
        configure(rights);
        fs::write(site.videos().join("video"), "1").unwrap();
        let host = site.start();
        host.enqueue("clear", &["video"]);
        host.drained("clear");
        let status = host.get("/v1/jobs/clear");
        assert!(status["paused"].is_null(), "{rights}: {status}");
        assert_eq!(state(&site, 0), "right", "{rights}");
        let may_remove = rights.contains("delete") || rights.contains("rw");
        assert_eq!(site.videos().join("video").exists(), !may_remove, "{rights}");
        assert_eq!(site.videos().join(".sweepd-mount").exists(), number > 0, "{rights}");
        assert_eq!(host.stop(), Some(0));
    }
    // Another one is another, whatever the rights are.
    fs::remove_dir_all(site.videos()).unwrap();
    fs::create_dir(site.videos()).unwrap();
    configure("\"ro\"");
    let host = site.start();
    let ids = host.enqueue("clear", &["video"]);
    pauses(&host, ids[0], "its marker .sweepd-mount is missing");
}

/// A disk that cannot be written is no fault of what is to be done on it.
#[test]
fn a_disk_that_becomes_read_only_is_waited_for() {
    let site = Site::with_job(&plugin("video-clear"), "[job.retry]\nmax_attempts = 2\nbackoff = \"50ms\"\n");
    let disk = SmallDisk::tmpfs(&site.videos(), "size=16m");
    let host = site.start();
    fs::write(site.videos().join("first"), "1").unwrap();
    host.enqueue("clear", &["first"]);
    host.drained("clear");
    let names: Vec<_> = (0..1000).map(|number| format!("video-{number}")).collect();
    for name in &names {
        fs::write(site.videos().join(name), "1").unwrap();
    }
    disk.remount("ro");
    let ids = host.enqueue("clear", &names);
    let mut why = Value::Null;
    host.wait("the job waits", || {
        why = host.get("/v1/jobs/clear")["waiting"].clone();
        why.is_string()
    });
    assert!(why.as_str().unwrap().contains("its file system is read-only"), "{why}");
    let status = host.get("/v1/jobs/clear");
    assert_eq!((&status["paused"], &status["backlog"]["dead"]), (&Value::Null, &0.into()), "{status}");
    disk.remount("rw");
    host.drained("clear");
    assert_eq!(host.tasks("clear", "done").len(), 1001);
    for id in ids {
        assert_eq!(host.get(&format!("/v1/tasks/{id}"))["attempts"], 1);
    }
}

/// The same where the job has another mount: what is to be done there is done.
#[test]
fn a_read_only_mount_holds_up_no_other_one() {
    let site = Site::new();
    site.install(&plugin("video-clear"));
    site.configure(
        "[[job]]\nname = \"clear\"\nplugin = \"plugins/plugin.wasm\"\ninterval = \"200ms\"\n\
         mounts = [{ path = \"videos\", at = \"/\" }, { path = \"other\", at = \"/other\" }]\n\
         [job.retry]\nmax_attempts = 1\n",
    );
    fs::create_dir(site.path().join("other")).unwrap();
    let disk = SmallDisk::tmpfs(&site.videos(), "size=16m");
    let host = site.start();
    host.serving("clear");
    let marked = || ["videos", "other"].iter().all(|mount| site.path().join(mount).join(".sweepd-mount").exists());
    host.enqueue("clear", &["nothing"]);
    host.wait("both are known", marked);
    host.drained("clear");
    fs::write(site.videos().join("stuck"), "1").unwrap();
    disk.remount("ro");
    let ids = host.enqueue("clear", &["stuck"]);
    host.wait("it is told", || host.get("/v1/jobs/clear")["hindered"].is_string());
    let status = host.get("/v1/jobs/clear");
    let why = status["hindered"].as_str().unwrap();
    assert!(why.contains("videos: the file system of a mount is read-only"), "{why}");
    host.enqueue("clear", &["gone-already"]);
    host.wait("the others go on", || host.tasks("clear", "done").iter().any(|task| task["key"] == "gone-already"));
    let task = host.get(&format!("/v1/tasks/{}", ids[0]));
    assert_eq!((task["state"].as_str(), task["attempts"].as_u64()), (Some("pending"), Some(0)), "{task}");
    disk.remount("rw");
    host.drained("clear");
    assert!(!site.videos().join("stuck").exists());
    assert_eq!(host.get(&format!("/v1/tasks/{}", ids[0]))["attempts"], 1);
}

/// Where plugins may go into what is mounted below a mount, that can be read-only
/// while the mount is not: its task fails, and the others run.
#[test]
fn a_read_only_disk_below_a_mount_is_its_tasks_trouble() {
    let site = Site::new();
    site.install(&plugin("video-clear"));
    site.configure(
        "[[job]]\nname = \"clear\"\nplugin = \"plugins/plugin.wasm\"\ninterval = \"200ms\"\n\
         mounts = [{ path = \"videos\", cross_mounts = true }]\n[job.retry]\nmax_attempts = 1\n",
    );
    let below = site.videos().join("below");
    fs::create_dir(&below).unwrap();
    let disk = SmallDisk::tmpfs(&below, "size=16m");
    fs::write(below.join("stays"), "1").unwrap();
    fs::write(site.videos().join("goes"), "1").unwrap();
    disk.remount("ro");
    let host = site.start();
    host.serving("clear");
    // The key names the folder at which it is mounted.
    let ids = host.enqueue("clear", &["below", "goes"]);
    host.drained("clear");
    assert_eq!(host.get(&format!("/v1/tasks/{}", ids[0]))["state"], "dead");
    assert_eq!(host.get(&format!("/v1/tasks/{}", ids[1]))["state"], "done");
    assert!(below.join("stays").exists() && !site.videos().join("goes").exists());
    assert!(host.get("/v1/jobs/clear")["hindered"].is_null());
}

/// What is full is the mount, and not what is written there.
#[test]
fn a_disk_without_room_for_what_is_made_is_waited_for() {
    let site = Site::with_job(&plugin("video-archive"), "[job.retry]\nmax_attempts = 1\n");
    let disk = SmallDisk::tmpfs(&site.videos(), "size=16m,nr_inodes=40");
    fs::write(site.videos().join("video"), "1").unwrap();
    let host = site.start();
    host.serving("clear");
    // The archive's folder is not there yet, and takes an inode.
    host.enqueue("clear", &["nothing"]);
    host.drained("clear");
    disk.fill_inodes();
    let ids = host.enqueue("clear", &["video"]);
    host.wait("it is told", || host.get("/v1/jobs/clear")["hindered"].is_string());
    let why = host.get("/v1/jobs/clear")["hindered"].as_str().unwrap().to_owned();
    assert!(why.contains("the file system of a mount is full"), "{why}");
    let task = host.get(&format!("/v1/tasks/{}", ids[0]));
    assert_eq!((task["state"].as_str(), task["attempts"].as_u64()), (Some("pending"), Some(0)), "{task}");
    disk.empty();
    host.drained("clear");
    assert_eq!(host.get(&format!("/v1/tasks/{}", ids[0]))["outcome"], "done");
    assert!(site.videos().join("archive/video").exists());
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
