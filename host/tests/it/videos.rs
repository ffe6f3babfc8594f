//! video-clear over real files and folders: what may go is gone, what failed
//! says why, and nothing else is touched.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use crate::support::fuse::{Faulty, Op, When};
use crate::support::{Site, plugin};

const RETRY: &str = "concurrency = 3\n[job.retry]\nmax_attempts = 2\nbackoff = \"50ms\"\n";

/// Names that clean-up scripts stumble over.
fn awkward_names() -> Vec<String> {
    vec![
        "视频-影片一号.mp4".to_owned(),
        "my holiday video.mp4".to_owned(),
        "-rf".to_owned(),
        "--help".to_owned(),
        ".hidden".to_owned(),
        "…".to_owned(),
        "a*b?[c].mp4".to_owned(),
        "$(reboot);`id`'\"".to_owned(),
        "e\u{301}".to_owned(),
        "\u{e9}".to_owned(),
        "trailing ".to_owned(),
        "%2e%2e".to_owned(),
        "x".repeat(255),
        "影".repeat(85),
    ]
}

fn write(path: &Path, size: usize) {
    fs::write(path, vec![1; size]).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}

/// Makes files and folders to be removed, and answers their names.
fn make_videos(videos: &Path) -> Vec<String> {
    let mut names = awkward_names();
    for (number, name) in names.iter().enumerate() {
        write(&videos.join(name), number * 100);
    }
    for number in 0..900 {
        let name = format!("video-{number:04}.mp4");
        write(&videos.join(&name), [0, 1, 4096, 70_000][number % 4]);
        names.push(name);
    }
    for number in 0..100 {
        let name = format!("dash-{number:03}");
        fs::create_dir_all(videos.join(&name).join("audio/en")).unwrap();
        for file in ["manifest.mpd", "init.mp4", "audio/en/1.m4s", "audio/en/2.m4s"] {
            write(&videos.join(&name).join(file), 10);
        }
        names.push(name);
    }
    let hls = videos.join("hls");
    fs::create_dir(&hls).unwrap();
    write(&hls.join("master.m3u8"), 200);
    (0..500).for_each(|segment| write(&hls.join(format!("segment-{segment:05}.ts")), 188));
    names.push("hls".to_owned());
    let mut deep = videos.join("deep");
    for _ in 0..200 {
        fs::create_dir(&deep).unwrap();
        write(&deep.join("file"), 1);
        deep.push("d");
    }
    names.push("deep".to_owned());
    names
}

#[test]
fn a_thousand_videos_of_every_kind() {
    let site = Site::for_another_user(&plugin("video-clear"), RETRY);
    let videos = site.videos();
    let names = make_videos(&videos);
    write(&videos.join("bystander.mp4"), 5);
    write(&site.path().join("beside.mp4"), 5);
    symlink("../beside.mp4", videos.join("link-out")).unwrap();
    symlink("..", videos.join("folder-link-out")).unwrap();
    let locked = videos.join("locked");
    fs::create_dir(&locked).unwrap();
    write(&locked.join("file"), 5);
    site.give_to_host();
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o555)).unwrap();

    let host = site.start();
    let mut keys = names.clone();
    keys.extend(["link-out", "folder-link-out", "locked", "no-such-video"].map(str::to_owned));
    let refused = ["..", ".", "a/b", "/etc/passwd", "..\\x", "line\nbreak", "../beside.mp4", "hls/../bystander.mp4"];
    keys.extend(refused.map(str::to_owned));
    host.enqueue("clear", &keys);
    host.drained("clear");

    let done: BTreeMap<String, Value> = by_key(host.tasks("clear", "done"));
    let dead: BTreeMap<String, Value> = by_key(host.tasks("clear", "dead"));
    for name in &names {
        assert!(fs::symlink_metadata(videos.join(name)).is_err(), "{name} is still there: {:?}", dead.get(name));
        assert_eq!(done.get(name).map(|task| &task["outcome"]), Some(&"done".into()), "{name}");
    }
    assert_eq!(done["no-such-video"]["outcome"], "skipped");
    assert!(fs::symlink_metadata(videos.join("link-out")).is_err(), "a link goes itself");
    assert!(fs::symlink_metadata(videos.join("folder-link-out")).is_err(), "a link goes itself");
    assert!(locked.join("file").exists());
    let why = dead["locked"]["note"].as_str().unwrap();
    assert!(why.contains("ermission denied"), "{why}");
    assert_eq!(dead["locked"]["attempts"], 2);
    for key in refused {
        let task = dead.get(key).unwrap_or_else(|| panic!("{key} was not refused"));
        assert_eq!(task["attempts"], 1, "{key} is refused for good: {task}");
        assert!(task["note"].as_str().is_some_and(|why| !why.is_empty()), "{key}: {task}");
    }
    assert_eq!(done.len(), names.len() + 3);
    assert_eq!(dead.len(), refused.len() + 1);
    assert!(videos.join("bystander.mp4").exists());
    assert!(site.path().join("beside.mp4").exists());
    let left: Vec<_> = fs::read_dir(&videos)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .filter(|name| name != ".sweepd-mount")
        .collect();
    assert_eq!(left.len(), 2, "{left:?}");
}

/// A site of which the videos are on a disk that takes so long to remove a file,
/// and the folder behind it. However fast the machine, a tree takes longer than a
/// call may.
fn on_a_slow_disk(each: Duration, more: &str) -> (Site, Faulty, PathBuf) {
    let site = Site::with_job(&plugin("video-clear"), more);
    let behind = site.path().join("behind");
    fs::create_dir(&behind).unwrap();
    let slow = Faulty::mount(&behind, &site.videos());
    slow.fail(Op::Unlink, "", When::Late(each));
    (site, slow, behind)
}

/// A folder of so many empty files.
fn tree(folder: &Path, files: usize) {
    fs::create_dir(folder).unwrap();
    (0..files).for_each(|number| write(&folder.join(format!("segment-{number}.ts")), 0));
}

/// Each call ends in time with what it did so far, and that costs nothing: no
/// attempt, no patience of `max_postponed`, no crash of the plugin. What waits
/// behind the trees has its turn before they are gone.
#[test]
fn trees_that_take_longer_than_a_deadline_go_call_by_call() {
    let more = "concurrency = 1\nmax_postponed = \"1s\"\n[job.limits]\ntask_deadline = \"500ms\"\n\
                [job.retry]\nmax_attempts = 100\nbackoff = \"10ms\"\nmax_backoff = \"10ms\"\n";
    let (site, _slow, behind) = on_a_slow_disk(Duration::from_millis(5), more);
    let trees = ["a", "b", "c", "d"];
    // More than twice as long each.
    for name in trees {
        tree(&behind.join(name), 240);
    }
    write(&behind.join("small"), 1);
    let host = site.start();
    host.enqueue("clear", &["a", "b", "c", "d", "small"]);
    let goes_on = |task: &Value| {
        let note = task["note"].as_str().unwrap_or_default();
        note.starts_with("removed ") && note.ends_with(" files, going on")
    };
    host.wait("a tree goes on", || host.tasks("clear", "pending").iter().any(goes_on));
    host.drained("clear");
    let done = by_key(host.tasks("clear", "done"));
    let ended = |key: &str| (done[key]["finished_at"].as_u64().unwrap(), done[key]["id"].as_u64().unwrap());
    for name in trees {
        assert_eq!(done[name]["note"], "removed 240 files over several calls", "{}", done[name]);
        assert!(!behind.join(name).exists());
        assert!(ended("small").0 <= ended(name).0, "{done:?}");
        let removed = host.get(&format!("/v1/effects?task={}&operation=remove&limit=1000", ended(name).1));
        assert_eq!(
            removed["effects"].as_array().map(Vec::len),
            Some(240),
            "each is on record, whichever call removed it"
        );
    }
    let status = host.get("/v1/jobs/clear");
    assert!(status["paused"].is_null() && status["slot"]["set_aside"].is_null(), "{status}");
    assert_eq!(status["backlog"]["dead"], 0, "{status}");
}

/// A video of very many segments on a slow disk, which takes many times as long as
/// a call may, with all other settings as they are by default: 25,000 segments at
/// 10 ms each are to the deadline of 30 s what these are to half a second.
#[test]
fn a_tree_that_takes_many_deadlines_goes_with_default_settings() {
    let (site, _slow, behind) = on_a_slow_disk(Duration::from_millis(10), "[job.limits]\ntask_deadline = \"500ms\"\n");
    tree(&behind.join("hls"), 420);
    let host = site.start();
    let id = host.enqueue("clear", &["hls"])[0];
    host.drained("clear");
    let task = host.get(&format!("/v1/tasks/{id}"));
    assert_eq!(task["state"], "done", "{task}");
    assert_eq!(task["note"], "removed 420 files over several calls", "{task}");
    assert_eq!(task["attempts"], 1, "what a call did in time costs no attempt: {task}");
    assert!(!behind.join("hls").exists());
    let calls =
        host.log().lines().filter(|line| line.contains("\"swept\"") && line.contains("\"postponed\":1")).count();
    assert!(calls >= 5, "it took {calls} calls");
    let status = host.get("/v1/jobs/clear");
    assert!(status["paused"].is_null() && status["slot"]["set_aside"].is_null(), "{status}");
}

/// The names of a folder are never all in the guest's memory.
#[test]
fn a_large_folder_goes_within_little_memory() {
    let site = Site::with_job(&plugin("video-clear"), "[job.limits]\nmemory = \"4MiB\"\n");
    let folder = site.videos().join("large");
    fs::create_dir(&folder).unwrap();
    let tail = "x".repeat(200);
    (0..20_000).for_each(|number| write(&folder.join(format!("{number}-{tail}")), 0));
    let host = site.start();
    host.enqueue("clear", &["large"]);
    host.drained("clear");
    let done = host.tasks("clear", "done");
    assert_eq!(done.len(), 1, "{:?}", host.tasks("clear", "dead"));
    assert!(done[0]["note"].as_str().unwrap().starts_with("removed 20,000 files"), "{}", done[0]);
    assert_eq!(done[0]["attempts"], 1, "{}", done[0]);
    assert!(!folder.exists());
}

fn by_key(tasks: Vec<Value>) -> BTreeMap<String, Value> {
    tasks.into_iter().map(|task| (task["key"].as_str().unwrap().to_owned(), task)).collect()
}

#[test]
fn the_template_says_where_videos_are() {
    let site = Site::with_job(&plugin("video-clear"), "[job.config]\npath = \"done/{key}.mp4\"\n");
    fs::create_dir(site.videos().join("done")).unwrap();
    write(&site.videos().join("done/7.mp4"), 1);
    write(&site.videos().join("7"), 1);
    let host = site.start();
    host.enqueue("clear", &["7"]);
    host.drained("clear");
    assert!(!site.videos().join("done/7.mp4").exists());
    assert!(site.videos().join("7").exists());
}

#[test]
fn a_folder_that_was_made_anew_is_another_until_somebody_says_so() {
    // The wall would not let it in.
    let site = Site::with_job(&plugin("video-clear"), "[sandbox]\nlandlock = \"off\"\n");
    let host = site.start();
    write(&site.videos().join("one"), 1);
    host.enqueue("clear", &["one"]);
    host.drained("clear");
    fs::remove_dir_all(site.videos()).unwrap();
    fs::create_dir(site.videos()).unwrap();
    write(&site.videos().join("two"), 1);
    let ids = host.enqueue("clear", &["two"]);
    host.wait("the job is paused", || host.get("/v1/jobs/clear")["paused"].is_string());
    let why = host.get("/v1/jobs/clear")["paused"].as_str().unwrap().to_owned();
    assert!(why.contains("its marker .sweepd-mount is missing"), "{why}");
    assert!(site.videos().join("two").exists());
    assert_eq!(host.get(&format!("/v1/tasks/{}", ids[0]))["attempts"], 0);
}

#[test]
fn a_missing_mount_charges_no_task() {
    let site = Site::with_job(&plugin("video-clear"), "");
    let host = site.start();
    host.serving("clear");
    fs::rename(site.videos(), site.path().join("unmounted")).unwrap();
    let ids = host.enqueue("clear", &["one"]);
    host.wait("the failure is said", || host.get("/v1/jobs/clear")["last_error"].is_object());
    let task = host.get(&format!("/v1/tasks/{}", ids[0]));
    assert_eq!((task["state"].as_str(), task["attempts"].as_u64()), (Some("pending"), Some(0)), "{task}");
    write(&site.path().join("unmounted/one"), 1);
    fs::rename(site.path().join("unmounted"), site.videos()).unwrap();
    host.drained("clear");
    assert_eq!(host.get(&format!("/v1/tasks/{}", ids[0]))["outcome"], "done");
}

#[test]
fn video_archive_moves_instead() {
    let site = Site::with_job(&plugin("video-archive"), "");
    write(&site.videos().join("old.mp4"), 9);
    let host = site.start();
    host.enqueue("clear", &["old.mp4", "gone.mp4"]);
    host.drained("clear");
    assert_eq!(fs::read(site.videos().join("archive/old.mp4")).unwrap().len(), 9);
    let done = by_key(host.tasks("clear", "done"));
    assert_eq!(done["gone.mp4"]["outcome"], "skipped");
}
