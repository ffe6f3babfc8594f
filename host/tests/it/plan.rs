//! `sweepd plan`: the real policy over the real queue and files, and nothing
//! changes.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, SystemTime};

use serde_json::Value;

use crate::small_disk::SmallDisk;
use crate::support::{Site, guest, plugin};

fn plan(site: &Site, args: &[&str]) -> Output {
    let output = site.command(&[&["plan", "clear"], args].concat()).output().expect("the binary starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output
}

/// The lines of `--json`.
fn foreseen(site: &Site, args: &[&str]) -> Vec<Value> {
    let output = plan(site, &[args, &["--json"]].concat());
    String::from_utf8(output.stdout).unwrap().lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

fn summary(lines: &[Value]) -> &Value {
    let last = lines.last().expect("a line");
    assert_eq!(last["kind"], "summary");
    &last["summary"]
}

fn enqueue(site: &Site, keys: &[&str]) {
    let output = site.command(&[&["enqueue", "clear"], keys].concat()).output().expect("the binary starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// All that is in a folder, with content and times.
fn image(folder: &Path) -> Vec<(String, Option<Vec<u8>>, SystemTime)> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap()) {
        let (path, metadata) = (entry.path(), entry.metadata().unwrap());
        if metadata.is_dir() {
            all.push((path.display().to_string(), None, metadata.modified().unwrap()));
            all.extend(image(&path));
        } else {
            all.push((path.display().to_string(), fs::read(&path).ok(), metadata.modified().unwrap()));
        }
    }
    all.sort();
    all
}

fn rows(site: &Site) -> Vec<String> {
    let output = site.command(&["tasks", "list", "--json"]).output().expect("the binary starts");
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

/// What the kernel would refuse a run it refuses a plan, which says so.
#[test]
fn a_plan_foretells_what_would_fail() {
    let site = Site::with_job(&plugin("video-clear"), "[job.retry]\nmax_attempts = 1\n");
    // Flags take a file system that has them.
    let _disk = SmallDisk::ext4(&site.videos(), 16 << 20);
    let videos = site.videos();
    for name in ["plain", "fixed", "grows"] {
        fs::write(videos.join(name), "1").unwrap();
    }
    fs::create_dir(videos.join("locked")).unwrap();
    fs::write(videos.join("locked/file"), "1").unwrap();
    let chattr = |flag: &str, name: &str| {
        assert!(Command::new("chattr").arg(flag).arg(videos.join(name)).status().unwrap().success());
    };
    let flags = [("i", "fixed"), ("a", "grows"), ("i", "locked")];
    for (flag, name) in flags {
        chattr(&format!("+{flag}"), name);
    }
    let keys = ["plain", "fixed", "grows", "locked"];
    enqueue(&site, &keys);
    let text = String::from_utf8(plan(&site, &[]).stdout).unwrap();
    let lines = foreseen(&site, &[]);
    assert_eq!(summary(&lines)["operations"]["remove"]["files"], 1, "{text}");
    for name in ["fixed", "grows", "locked/file"] {
        let line =
            text.lines().find(|line| line.contains(&format!("videos/{name} "))).unwrap_or_else(|| panic!("{text}"));
        assert!(line.contains("would fail: Operation not permitted"), "{line}");
    }
    // Nor can a mount be worked in that cannot be marked.
    chattr("+i", "");
    let text = String::from_utf8(plan(&site, &[]).stdout).unwrap();
    assert_eq!(text.matches("would fail: Operation not permitted").count(), 4, "{text}");
    chattr("-i", "");
    // And that is what becomes of them.
    let host = site.start();
    host.drained("clear");
    let done = host.tasks("clear", "done");
    assert_eq!(done.iter().map(|task| task["key"].as_str().unwrap()).collect::<Vec<_>>(), ["plain"]);
    assert_eq!(host.tasks("clear", "dead").len(), 3);
    for (flag, name) in flags {
        chattr(&format!("-{flag}"), name);
    }
}

#[test]
fn a_plan_tells_what_would_go_and_changes_nothing() {
    let site = Site::with_job(&plugin("video-clear"), "trash = \"1h\"\n[job.budget]\nsweep_files = 3\n");
    fs::create_dir_all(site.videos().join("tree/inner")).unwrap();
    for file in ["one", "tree/a", "tree/inner/b", "other"] {
        fs::write(site.videos().join(file), "x".repeat(100)).unwrap();
    }
    enqueue(&site, &["one", "tree", "missing"]);
    let (files, tasks) = (image(&site.videos()), rows(&site));
    let state: Vec<_> =
        image(&site.path().join("state")).into_iter().filter(|(path, ..)| path.ends_with("sweepd.db")).collect();
    let lines = foreseen(&site, &[]);
    assert_eq!(image(&site.videos()), files);
    assert_eq!(rows(&site), tasks);
    let after: Vec<_> =
        image(&site.path().join("state")).into_iter().filter(|(path, ..)| path.ends_with("sweepd.db")).collect();
    assert_eq!(state, after, "the database is the same, byte by byte");

    let gone: Vec<_> = lines
        .iter()
        .filter(|line| line["kind"] == "effect" && line["operation"] == "remove")
        .map(|line| line["path"].as_str().unwrap().rsplit_once("videos/").unwrap().1)
        .collect();
    assert_eq!(gone.len(), 3, "{lines:?}");
    for file in ["one", "tree/a", "tree/inner/b"] {
        assert!(gone.contains(&file), "{file}: {gone:?}");
    }
    let summary = summary(&lines);
    // The folders can only be removed where the view shows them empty by then.
    assert_eq!(summary["operations"]["remove-folder"]["files"], 2);
    assert_eq!(summary["operations"]["remove"]["bytes"], 300);
    assert_eq!(
        (&summary["due"], &summary["ends"]["done"], &summary["ends"]["skipped"]),
        (&3.into(), &2.into(), &1.into())
    );
    assert!(summary["over_budget"].is_null(), "{summary}");
}

#[test]
fn a_plan_says_that_it_would_go_over_the_budget() {
    let site = Site::with_job(&plugin("video-clear"), "[job.budget]\nsweep_files = 1\n");
    for file in ["one", "two"] {
        fs::write(site.videos().join(file), "").unwrap();
    }
    enqueue(&site, &["one", "two"]);
    let text = String::from_utf8(plan(&site, &[]).stdout).unwrap();
    assert!(text.contains("over budget: the job may take away 1 files in one sweep"), "{text}");
    assert!(text.contains("nothing was changed"), "{text}");
}

/// What one task moves another one finds moved: the policy sees a tree in which
/// its own changes were made, and names are not given twice.
#[test]
fn later_tasks_see_what_earlier_ones_would_have_done() {
    let site = Site::with_job(&plugin("video-archive"), "concurrency = 1\n[job.config]\narchive = \"b\"\n");
    fs::create_dir(site.videos().join("a")).unwrap();
    fs::write(site.videos().join("a/film"), "x").unwrap();
    fs::create_dir_all(site.videos().join("b")).unwrap();
    fs::write(site.videos().join("b/a"), "taken").unwrap();
    // First the folder is moved; then the file of that name is at another place.
    enqueue(&site, &["a"]);
    let files = image(&site.videos());
    let lines = foreseen(&site, &[]);
    assert_eq!(image(&site.videos()), files);
    let moved = lines.iter().find(|line| line["operation"] == "rename").unwrap_or_else(|| panic!("{lines:?}"));
    assert!(moved["to"].as_str().unwrap().ends_with("videos/b/a~2"), "{moved}");
    assert_eq!(summary(&lines)["ends"]["done"], 1, "{lines:?}");
}

#[test]
fn two_policies_are_compared() {
    let site = Site::with_job(&plugin("video-clear"), "");
    for file in ["one", "two"] {
        fs::write(site.videos().join(file), "").unwrap();
    }
    enqueue(&site, &["one", "two"]);
    let candidate = guest("noop").display().to_string();
    let lines = foreseen(&site, &["--against", &candidate]);
    let only: Vec<_> = lines.iter().filter(|line| line["kind"] == "only").collect();
    assert_eq!(only.len(), 2);
    assert!(only.iter().all(|line| line["by"] == "serving"));
    let same = foreseen(&site, &["--against", &plugin("video-clear").display().to_string()]);
    assert_eq!(same.last().unwrap()["both"], 2);
    assert_eq!(same.len(), 1, "they do the same: {same:?}");
}

#[test]
fn a_scan_is_simulated_with_what_it_finds() {
    let site = Site::with_job(&guest("finds_old"), "[job.config]\nseconds = 3600\n");
    let old = SystemTime::now() - Duration::from_hours(2);
    for number in 0..30 {
        let file = File::create(site.videos().join(format!("v{number}"))).unwrap();
        if number % 3 == 0 {
            file.set_modified(old).unwrap();
        }
    }
    // Before any host ran: there is no queue yet.
    let lines = foreseen(&site, &[]);
    let found = summary(&lines);
    assert_eq!((&found["discovered"], &found["operations"]["remove"]["files"]), (&10.into(), &10.into()), "{found}");
    assert_eq!(lines[0]["reason"], "it is old", "{}", lines[0]);
    assert_eq!(summary(&foreseen(&site, &["--no-scan"]))["discovered"], 0);
    assert_eq!(summary(&foreseen(&site, &["--limit", "4"]))["operations"]["remove"]["files"], 4);
    assert!(!site.path().join("state").exists(), "a plan makes no queue");
}

/// What a plan foresees is what a sweep then does.
#[test]
fn the_sweep_does_what_the_plan_said() {
    let site = Site::with_job(&guest("finds_old"), "[job.config]\nseconds = 3600\n");
    let old = SystemTime::now() - Duration::from_hours(2);
    // Enough that what the entries are is looked up ahead of the policy.
    for number in 0..3000 {
        let file = File::create(site.videos().join(format!("v{number}"))).unwrap();
        if number % 12 == 0 {
            file.set_modified(old).unwrap();
        }
    }
    let lines = foreseen(&site, &[]);
    let mut planned: Vec<_> = lines
        .iter()
        .filter(|line| line["kind"] == "effect")
        .map(|line| line["path"].as_str().unwrap().to_owned())
        .collect();
    planned.sort();
    let before = image(&site.videos());
    let host = site.start();
    host.wait("it has swept", || host.tasks("clear", "done").len() == 250);
    let left = image(&site.videos());
    let mut gone: Vec<_> =
        before.into_iter().map(|(path, ..)| path).filter(|path| !left.iter().any(|(left, ..)| left == path)).collect();
    gone.sort();
    let canonical = |path: &String| {
        path.replace(&site.path().display().to_string(), &site.path().canonicalize().unwrap().display().to_string())
    };
    assert_eq!(gone.iter().map(canonical).collect::<Vec<_>>(), planned);
}

#[test]
fn a_preflight_stops_before_the_first_removal() {
    let site = Site::with_job(&plugin("video-clear"), "preflight = true\n[job.budget]\nsweep_files = 3\n");
    let keys: Vec<_> = (0..10).map(|number| format!("v{number}")).collect();
    for key in &keys {
        fs::write(site.videos().join(key), "").unwrap();
    }
    let keys: Vec<_> = keys.iter().map(String::as_str).collect();
    enqueue(&site, &keys);
    let host = site.start();
    host.wait("the job is paused", || host.get("/v1/jobs/clear")["paused"].is_string());
    let why = host.get("/v1/jobs/clear")["paused"].as_str().unwrap().to_owned();
    assert!(why.contains("preflight") && why.contains("3 files in one sweep"), "{why}");
    for key in &keys {
        assert!(site.videos().join(key).exists(), "{key}");
    }
    assert_eq!(host.tasks("clear", "pending").len(), 10);
    let (status, body) =
        host.request("POST", "/v1/jobs/clear/resume", Some(&serde_json::json!({ "once_over_budget": true })));
    assert_eq!(status, 200, "{body}");
    host.drained("clear");
    assert!(keys.iter().all(|key| !site.videos().join(key).exists()));
}

#[test]
fn a_candidate_that_is_no_component_is_told_so() {
    let site = Site::with_job(&plugin("video-clear"), "");
    fs::write(site.path().join("x.wasm"), "no").unwrap();
    let output = site.command(&["plan", "clear", "--plugin", "x.wasm"]).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && error.contains("x.wasm"), "{error}");
    let output = site.command(&["plan", "claer"]).output().unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("did you mean `clear`"));
}
