//! State and videos on one disk that is full to the last byte: the tool that
//! frees it must go on, also after a restart, and a full disk is never a signal.

// length: one behaviour, on every kind of disk that is full.

use std::fs;
use std::path::Path;

use serde_json::json;

use crate::cli::{beside, run};
use crate::small_disk::SmallDisk;
use crate::support::{Site, Sweepd, guest, plugin};

const MIB: usize = 1 << 20;

/// A site whose state and videos are on `disk`, a folder of it.
fn site(component: &Path, more: &str) -> Site {
    let site = Site::new();
    site.install(component);
    let text = format!(
        "state = \"disk/state\"\nshutdown_grace = \"5s\"\n[server]\nlisten = \"127.0.0.1:0\"\n\
         [[job]]\nname = \"clear\"\nplugin = \"plugins/plugin.wasm\"\nmounts = [\"disk/videos\"]\n\
         interval = \"200ms\"\n{more}"
    );
    fs::write(site.path().join("sweepd.toml"), text).unwrap();
    site
}

fn disk_of(site: &Site) -> std::path::PathBuf {
    site.path().join("disk")
}

fn videos(site: &Site) -> std::path::PathBuf {
    disk_of(site).join("videos")
}

/// Makes videos of this size, and answers their names.
fn make(site: &Site, prefix: &str, count: usize, bytes: usize) -> Vec<String> {
    fs::create_dir_all(videos(site)).unwrap();
    let names: Vec<_> = (0..count).map(|number| format!("{prefix}-{number}")).collect();
    for name in &names {
        fs::write(videos(site).join(name), vec![1; bytes]).unwrap();
    }
    names
}

/// Queues the deletions while the job is paused, so that they are acknowledged
/// and wait.
fn acknowledge(host: &Sweepd, names: &[String]) {
    host.serving("clear");
    assert!(host.request("POST", "/v1/jobs/clear/pause", None).0 < 300);
    host.enqueue("clear", names);
}

fn go_on(host: &Sweepd) {
    let (status, body) = host.request("POST", "/v1/jobs/clear/resume", None);
    assert!(status < 300, "{status}: {body}");
}

fn are_gone(site: &Site, names: &[String]) -> bool {
    names.iter().all(|name| !videos(site).join(name).exists())
}

/// Acknowledged deletions free the disk, in the running host and in one that
/// starts on the full disk after a kill and after a stop in good order.
fn is_freed_through_sweepd_alone(mount: impl Fn(&Path) -> SmallDisk) {
    let site = site(&plugin("video-clear"), "");
    let disk = mount(&disk_of(&site));
    make(&site, "other", 1, 1);
    let mut host = site.start();
    for round in 0..3 {
        let names = make(&site, &format!("round-{round}"), 8, MIB);
        acknowledge(&host, &names);
        match round {
            0 => disk.fill(),
            1 => {
                host.kill();
                disk.fill();
                host = site.start();
            }
            _ => {
                assert_eq!(host.stop(), Some(0));
                disk.fill();
                host = site.start();
            }
        }
        go_on(&host);
        host.drained("clear");
        assert!(are_gone(&site, &names), "round {round}\n{}", host.log());
        assert_eq!(host.tasks("clear", "dead"), [] as [serde_json::Value; 0]);
        assert!(disk.write(4 * MIB).is_ok(), "round {round}: the disk has room");
        host.wait("it is ready", || host.request("GET", "/readyz", None).0 == 200);
        disk.empty();
    }
    let effects = run(&site, &["effects", "--json", "--operation", "remove"]).exits(0).out;
    assert_eq!(effects.lines().filter(|line| line.contains("\"done\"")).count(), 24, "all is on record: {effects}");
}

#[test]
fn a_full_tmpfs_is_freed_through_sweepd_alone() {
    is_freed_through_sweepd_alone(|at| SmallDisk::tmpfs(at, "size=64m"));
}

#[test]
fn a_full_ext4_is_freed_through_sweepd_alone() {
    is_freed_through_sweepd_alone(|at| SmallDisk::ext4(at, 64 << 20));
}

#[test]
fn a_full_btrfs_is_freed_through_sweepd_alone() {
    is_freed_through_sweepd_alone(|at| SmallDisk::btrfs(at, 256 << 20));
}

/// A state folder as an older version left it has nothing that a full disk could
/// be given: the cache gives way, and the host starts and frees the disk.
#[test]
fn a_state_folder_of_an_older_version_starts_on_a_full_disk() {
    let site = site(&plugin("video-clear"), "");
    let disk = SmallDisk::ext4(&disk_of(&site), 64 << 20);
    let names = make(&site, "a", 8, MIB);
    let host = site.start();
    acknowledge(&host, &names);
    assert_eq!(host.stop(), Some(0));
    let state = disk_of(&site).join("state");
    for entry in fs::read_dir(&state).unwrap().chain(fs::read_dir(state.join("journal")).unwrap()) {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if name.contains(".reserve-") || path.extension().is_some_and(|end| end == "spare") {
            fs::remove_file(path).unwrap();
        }
    }
    assert!(fs::read_dir(state.join("cache")).unwrap().count() > 0);
    disk.fill();
    let host = site.start();
    host.says("gave up 1 compiled components");
    go_on(&host);
    host.drained("clear");
    assert!(are_gone(&site, &names));
    host.wait("it is ready", || host.request("GET", "/readyz", None).0 == 200);
    assert_eq!(host.stop(), Some(0));
}

/// Where there is nothing at all to give up, it says exactly what to do.
#[test]
fn a_first_start_on_a_full_disk_says_what_to_do() {
    let site = site(&plugin("video-clear"), "");
    let disk = SmallDisk::ext4(&disk_of(&site), 64 << 20);
    let names = make(&site, "a", 2, MIB);
    disk.fill();
    let log = site.try_start().err().expect("it cannot start");
    assert!(log.contains("state") && log.contains("free 8 MiB there, then start this again"), "{log}");
    assert!(run(&site, &["enqueue", "clear", "a-0"]).err.contains("free 8 MiB"), "a command says so, too");
    disk.empty();
    let host = site.start();
    host.enqueue("clear", &names);
    host.drained("clear");
    assert!(are_gone(&site, &names));
}

/// Into the trash nothing is freed, so that removing must need no room, and
/// purging makes some.
#[test]
fn a_full_disk_with_trash_is_freed_by_purging() {
    let site = site(&plugin("video-clear"), "trash = \"1h\"\n");
    let disk = SmallDisk::ext4(&disk_of(&site), 64 << 20);
    let names = make(&site, "a", 8, MIB);
    let host = site.start();
    acknowledge(&host, &names);
    // The job has not removed anything yet, nor looked at an executor's mounts.
    go_on(&host);
    host.drained("clear");
    let more = make(&site, "b", 8, MIB);
    acknowledge(&host, &more);
    disk.fill();
    go_on(&host);
    host.drained("clear");
    assert!(are_gone(&site, &more));
    assert!(disk.write(4 * MIB).is_err(), "it is all in the trash");
    let said = run(&site, &["trash", "purge", "clear", "--all", "--yes"]).exits(0);
    assert_eq!(said.out, "16 purged\n");
    assert!(disk.write(4 * MIB).is_ok());

    // And by itself, where the job says so, also at the start.
    disk.empty();
    let names = make(&site, "c", 8, MIB);
    host.enqueue("clear", &names);
    host.drained("clear");
    host.kill();
    disk.fill();
    site.append("trash_min_free = \"4MiB\"\n");
    let host = site.start();
    host.wait("the trash gives way", || disk.write(2 * MIB).is_ok());
}

/// No job can work then, and that is told the same wherever it is asked.
#[test]
fn a_journal_without_room_is_told_by_readiness_and_by_status_alike() {
    let site = site(&plugin("video-clear"), "");
    // The queue is elsewhere: it takes tasks all the same.
    let queue = site.path().join("queue/queue.db");
    site.append(&format!("[database]\nurl = \"sqlite://{}\"\n", queue.display()));
    let disk = SmallDisk::tmpfs(&disk_of(&site), "size=64m");
    make(&site, "a", 1, 1);
    let host = site.start();
    host.serving("clear");
    host.wait("the mount is marked", || videos(&site).join(".sweepd-mount").exists());
    assert_eq!(host.stop(), Some(0));
    // Nor is a segment left of an earlier life, or a cache that could be given up for one.
    for folder in ["journal", "cache"] {
        fs::remove_dir_all(disk_of(&site).join("state").join(folder)).unwrap();
    }
    disk.fill();
    let host = site.start();
    host.serving("clear");
    let (status, body) = host.request("GET", "/readyz?job=clear", None);
    let document: serde_json::Value = serde_json::from_str(&body).unwrap();
    let told = &document["jobs"][0];
    assert_eq!((status, &told["reason"]), (503, &json!("cannot-change-files")), "{body}");
    assert!(told["detail"].as_str().unwrap().contains("the disk of the state folder is full"), "{body}");
    let same = json!({ "reason": told["reason"], "detail": told["detail"] });
    assert_eq!(host.get("/v1/jobs/clear")["cannot_work"], same);
    assert_eq!(host.get("/v1/jobs")["jobs"][0]["cannot_work"], same);
    beside(&site, &host, &["status", "--check"]).exits(2).says("wrong: clear: cannot-change-files: ");
    disk.empty();
    host.wait("it can work again", || host.request("GET", "/readyz?jobs=all", None).0 == 200);
    assert_eq!(host.get("/v1/jobs/clear")["cannot_work"], serde_json::Value::Null);
    assert_eq!(host.stop(), Some(0));
}

/// The first removal into the trash is on a full disk.
#[test]
fn the_trash_is_made_with_the_marker() {
    let site = site(&plugin("video-clear"), "trash = \"1h\"\n");
    let disk = SmallDisk::ext4(&disk_of(&site), 64 << 20);
    let names = make(&site, "a", 4, MIB);
    let host = site.start();
    host.serving("clear");
    host.wait("the mount is marked", || videos(&site).join(".sweepd-mount").exists());
    assert!(videos(&site).join(".sweepd-trash").is_dir());
    acknowledge(&host, &names);
    disk.fill();
    go_on(&host);
    host.drained("clear");
    assert!(are_gone(&site, &names));
    assert_eq!(fs::read_dir(videos(&site).join(".sweepd-trash")).unwrap().count(), 4);
}

/// The folder of removed files grows with their number, and a full disk has no
/// block for it: nothing is removed for good instead, and nothing fails.
#[test]
fn a_trash_without_room_makes_the_job_wait() {
    let site = site(&plugin("video-clear"), "trash = \"1h\"\n");
    let _disk = SmallDisk::tmpfs(&disk_of(&site), "size=64m");
    let disk = SmallDisk::ext4(&videos(&site), 16 << 20);
    let names = make(&site, "a", 400, 10);
    let host = site.start();
    host.serving("clear");
    host.wait("the mount is marked", || videos(&site).join(".sweepd-mount").exists());
    acknowledge(&host, &names);
    disk.fill();
    go_on(&host);
    assert_eq!(host.request("GET", "/readyz", None).0, 200, "the host is ready whatever its job waits for");
    let ready = || host.request("GET", "/readyz?job=clear", None);
    host.wait("the job says that it waits", || ready().0 == 503 && ready().1.contains("trash"));
    assert!(ready().1.contains("\"cannot-change-files\""), "{}", ready().1);
    let status = host.get("/v1/jobs/clear");
    assert!(status["hindered"].as_str().is_some_and(|why| why.contains("sweepd trash purge")), "{status}");
    let pending = host.tasks("clear", "pending");
    assert!(!pending.is_empty() && pending.iter().all(|task| task["attempts"] == 0), "{pending:?}");
    disk.empty();
    host.drained("clear");
    assert!(are_gone(&site, &names));
    assert_eq!(fs::read_dir(videos(&site).join(".sweepd-trash")).unwrap().count(), 400);
    host.wait("it is ready", || ready().0 == 200);
}

/// A file system without a free inode has bytes, and no file can be made.
#[test]
fn without_a_free_inode_deletions_go_on() {
    let site = site(&plugin("video-clear"), "");
    let disk = SmallDisk::tmpfs(&disk_of(&site), "size=64m,nr_inodes=150");
    let names = make(&site, "a", 8, 10);
    let host = site.start();
    acknowledge(&host, &names);
    assert_eq!(host.stop(), Some(0));
    disk.fill_inodes();
    let host = site.start();
    go_on(&host);
    host.drained("clear");
    assert!(are_gone(&site, &names));
}

/// What frees nothing goes on as long as the reserve lasts, new tasks are refused
/// meanwhile, and the refusal is over when there is room.
#[test]
fn new_tasks_are_refused_while_queued_ones_go_on() {
    let site = site(&guest("noop"), "");
    let disk = SmallDisk::tmpfs(&disk_of(&site), "size=64m");
    make(&site, "a", 1, 1);
    let host = site.start();
    let names: Vec<_> = (0..2000).map(|number| format!("early-{number}")).collect();
    acknowledge(&host, &names);
    disk.fill();
    let payload = "x".repeat(60_000);
    let mut queued = names.len();
    let refused = loop {
        let task = json!({ "key": format!("late-{queued}"), "payload": payload });
        let (status, body) = host.request("POST", "/v1/jobs/clear/tasks", Some(&task));
        if status != 201 {
            break (status, body);
        }
        queued += 1;
    };
    assert_eq!(refused.0, 507, "{}", refused.1);
    assert!(refused.1.contains("storage-full") && refused.1.contains("disk"), "{}", refused.1);
    assert!(queued > names.len(), "the first part of the reserve is for new tasks, too");
    let said = run(&site, &["enqueue", "clear", "by-hand", "--payload", &payload]);
    assert_ne!(said.code, Some(0));
    assert!(said.err.contains("full"), "{}", said.err);
    go_on(&host);
    host.drained("clear");
    disk.empty();
    host.wait("new tasks are taken again", || {
        host.request("POST", "/v1/jobs/clear/tasks", Some(&json!({ "key": "after", "payload": payload }))).0 == 201
    });
    host.wait("the reserve is there again", || disk_of(&site).join("state/sweepd.db.reserve-2").exists());
    host.drained("clear");
}

/// On a file system that copies on write a page that has its space needs more
/// when it is touched again. Where no room can be made, the job waits and says
/// so; the host lives.
#[test]
fn a_full_disk_that_copies_on_write_is_no_signal() {
    let site = site(&plugin("video-clear"), "");
    let _disk = SmallDisk::tmpfs(&disk_of(&site), "size=64m");
    let state = SmallDisk::btrfs(&disk_of(&site).join("state"), 256 << 20);
    make(&site, "other", 1, 1);
    let host = site.start();
    for round in 0..3 {
        host.wait("new tasks are taken", || host.request("GET", "/readyz", None).0 == 200);
        // On another disk: removing them frees nothing of the state's.
        let names = make(&site, &format!("round-{round}"), 300, 10);
        acknowledge(&host, &names);
        state.fill();
        go_on(&host);
        host.wait("they are gone, or the host says why not", || {
            // Pages that are on the disk are written elsewhere the next time.
            rustix::fs::sync();
            are_gone(&site, &names) || host.request("GET", "/readyz?jobs=all", None).0 == 503
        });
        state.empty();
        host.drained("clear");
        assert!(are_gone(&site, &names));
    }
    assert_eq!(host.stop(), Some(0));
}

/// Somebody cuts what SQLite keeps under the running host: an error, or nothing
/// at all, but never a signal, and nothing that was acknowledged afterwards is
/// lost.
#[test]
fn a_database_file_that_is_cut_is_no_signal() {
    let cut = |site: &Site, suffix: &str| {
        let path = disk_of(site).join(format!("state/sweepd.db{suffix}"));
        fs::File::options().write(true).open(path).unwrap().set_len(0).unwrap();
    };
    for (suffix, is_mended) in [("-shm", true), ("-wal", false), ("", false)] {
        let site = site(&plugin("video-clear"), "");
        make(&site, "other", 1, 1);
        let host = site.start();
        host.serving("clear");
        // What is in the database, and no longer in its log.
        assert_eq!(host.stop(), Some(0));
        let host = site.start();
        acknowledge(&host, &["before".to_owned()]);
        cut(&site, suffix);
        let mut queued = Vec::new();
        let mut answers = Vec::new();
        let mut add = |number: usize| {
            let key = format!("after-{number}");
            let (status, body) = host.request("POST", "/v1/jobs/clear/tasks", Some(&json!({ "key": key })));
            if status == 201 {
                queued.push(key);
            }
            answers.push(body);
            status
        };
        if is_mended {
            let mut numbers = 0..;
            host.wait("it is mended", || add(numbers.next().unwrap()) == 201 && numbers.start > 5);
            host.says("keep other programs out of the state folder");
        } else {
            host.wait("it is told", || host.request("GET", "/readyz", None).0 == 503);
            for number in 0..5 {
                add(number);
            }
        }
        assert_eq!(host.request("GET", "/healthz", None).0, 200, "`{suffix}`: it lives");
        if !is_mended {
            assert!(queued.is_empty(), "what would be lost is not acknowledged: {answers:?}");
            assert!(host.log().contains(&format!("sweepd.db{suffix} was cut by another program")), "{}", host.log());
        }
        let ended = host.stop();
        assert!(ended.is_some(), "`{suffix}`: no signal ended it");
        if is_mended {
            let host = site.start();
            let keys: Vec<_> = host.tasks("clear", "pending").iter().map(|task| task["key"].clone()).collect();
            assert_eq!(keys.len(), queued.len() + 1, "{keys:?}");
        }
    }
}

/// Somebody cuts the journal under the running host.
#[test]
fn a_journal_that_is_cut_is_no_signal() {
    let site = site(&plugin("video-clear"), "");
    let _disk = SmallDisk::tmpfs(&disk_of(&site), "size=64m");
    make(&site, "other", 1, 1);
    let host = site.start();
    for round in 0..3 {
        let names = make(&site, &format!("round-{round}"), 50, 10);
        host.serving("clear");
        for entry in fs::read_dir(disk_of(&site).join("state/journal")).unwrap() {
            fs::File::options().write(true).open(entry.unwrap().path()).unwrap().set_len(0).unwrap();
        }
        host.enqueue("clear", &names);
        host.drained("clear");
        assert!(are_gone(&site, &names));
    }
    assert_eq!(host.stop(), Some(0));
}
