//! What is mounted below a mount is not the plugin's, and the host's own folders
//! are nobody's, by whatever path they are reached.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::cli::run;
use crate::effects::effects;
use crate::support::{Site, guest, plugin};
use crate::zoo::{answers, note};

/// Something that is mounted for as long as it lives.
struct Mounted(PathBuf);

impl Mounted {
    /// Binds a folder or file.
    fn bind(from: &Path, at: &Path) -> Self {
        Self::by(Command::new("mount").arg("--bind").arg(from), at)
    }

    /// An empty file system in memory.
    fn memory(at: &Path) -> Self {
        Self::by(Command::new("mount").args(["-t", "tmpfs", "none"]), at)
    }

    fn by(command: &mut Command, at: &Path) -> Self {
        assert!(command.arg(at).status().unwrap().success(), "the tests mount as root");
        Self(at.to_owned())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// In the mount a folder `sub` with files, into which `precious`, which lies
/// beside the mount, is bound.
fn site(component: &Path, mount: &str, more: &str) -> (Site, PathBuf, Mounted) {
    let site = Site::new();
    site.install(component);
    configure(&site, mount, more);
    let precious = site.path().join("precious");
    fs::create_dir_all(precious.join("deep")).unwrap();
    for file in ["one", "deep/two"] {
        fs::write(precious.join(file), "precious").unwrap();
    }
    let inner = site.videos().join("sub/inner");
    fs::create_dir_all(&inner).unwrap();
    fs::write(site.videos().join("sub/own"), "1").unwrap();
    let mounted = Mounted::bind(&precious, &inner);
    (site, precious, mounted)
}

fn configure(site: &Site, mount: &str, more: &str) {
    site.configure(&format!(
        "[[job]]\nname = \"clear\"\nplugin = \"plugins/plugin.wasm\"\nmounts = [{{ path = \"videos\"{mount} }}]\n\
         interval = \"200ms\"\n{more}"
    ));
}

fn files(folder: &Path) -> Vec<String> {
    let mut all: Vec<_> = ["one", "deep/two"].into_iter().filter(|file| folder.join(file).exists()).collect();
    all.sort_unstable();
    all.into_iter().map(str::to_owned).collect()
}

const ONCE: &str = "[job.retry]\nmax_attempts = 1\n";

/// Without the rule all of `precious` went with the folder above it.
fn is_not_emptied(trash: &str) {
    let (site, precious, _mounted) = site(&plugin("video-clear"), "", &format!("{trash}{ONCE}"));
    let host = site.start();
    host.enqueue("clear", &["sub"]);
    host.drained("clear");
    assert_eq!(files(&precious), ["deep/two", "one"]);
    let dead = host.tasks("clear", "dead");
    let why = dead[0]["note"].as_str().unwrap();
    assert!(why.contains("sub/inner") && why.contains("mounted"), "{why}");
    host.says("cross_mounts = true");
    assert!(effects(&site, &[]).iter().all(|effect| !effect["path"].as_str().unwrap().contains("inner/")));
}

#[test]
fn a_mount_below_a_mount_is_not_emptied() {
    is_not_emptied("");
}

#[test]
fn a_mount_below_a_mount_is_not_emptied_into_the_trash() {
    is_not_emptied("trash = \"1h\"\n");
}

#[test]
fn a_mount_below_a_mount_is_emptied_where_that_is_wanted() {
    let (site, precious, _mounted) = site(&plugin("video-clear"), ", cross_mounts = true", ONCE);
    run(&site, &["config", "check"]).exits(0);
    let host = site.start();
    host.enqueue("clear", &["sub"]);
    host.drained("clear");
    assert_eq!(files(&precious), [""; 0]);
    assert!(!site.videos().join("sub/own").exists());
    // What is mounted there stays, and is told.
    host.says("something else is mounted there");
    assert!(precious.exists() && !host.has("clear", "done"));
}

/// Every call that there is, at the mount itself, below it, and at a file that is
/// bound to another.
#[test]
fn nothing_is_done_to_what_is_mounted_below() {
    let (site, precious, _mounted) = site(&guest("tries_paths"), "", "concurrency = 1\n");
    let (file, at) = (site.path().join("precious.txt"), site.videos().join("bound.txt"));
    fs::write(&file, "precious").unwrap();
    fs::write(&at, "").unwrap();
    let _file = Mounted::bind(&file, &at);
    let memory = site.videos().join("memory");
    fs::create_dir(&memory).unwrap();
    let _memory = Mounted::memory(&memory);
    fs::write(memory.join("kept"), "precious").unwrap();
    let before = fs::metadata(&file).unwrap().modified().unwrap();
    let host = site.start();
    let ways = [
        ("sub/inner", true),
        ("sub/inner/.", false),
        ("sub/inner/one", false),
        ("sub/../sub/inner/deep/two", false),
        ("bound.txt", true),
        ("memory", true),
        ("memory/kept", false),
        ("memory/new", false),
    ];
    for (path, is_told) in ways {
        let task = host.enqueue("clear", &[path])[0];
        host.drained("clear");
        let task = host.get(&format!("/v1/tasks/{task}"));
        for (operation, (code, text)) in answers(note(&task)) {
            // Itself it is a folder or a file like any other, to be looked at.
            let looks = ["stat", "stat-followed", "hash", "hash-followed"].contains(&operation);
            assert_eq!(code == "ok", (looks && is_told) || operation == "make-bait", "{operation} of {path}: {text}");
            assert!(!text.contains("precious"), "{operation} of {path}");
        }
    }
    assert_eq!(files(&precious), ["deep/two", "one"]);
    assert_eq!(fs::read_to_string(memory.join("kept")).unwrap(), "precious");
    assert_eq!(fs::read_dir(&memory).unwrap().count(), 1);
    assert_eq!(fs::metadata(&file).unwrap().modified().unwrap(), before);
    assert_eq!(fs::read_to_string(&file).unwrap(), "precious");
}

/// A plan says what would come of it, and a share is one of what plugins reach.
#[test]
fn a_plan_and_a_count_stop_at_a_mount_below() {
    let (site, _precious, _mounted) =
        site(&plugin("video-clear"), "", &format!("{ONCE}[job.budget]\nsweep_share = \"100%\"\n"));
    let host = site.start();
    host.wait("the files are counted", || host.log().contains("counted the files of the mounts"));
    host.says("\"files\":1,");
    assert_eq!(host.stop(), Some(0));
    run(&site, &["enqueue", "clear", "sub"]).exits(0);
    let planned = run(&site, &["plan", "clear", "--json"]).exits(0).out;
    assert!(!planned.contains("inner/one") && !planned.contains("inner/deep"), "{planned}");
    assert!(planned.contains("mounted"), "it says why: {planned}");
}

/// A file that was removed before its folder was covered is not put back into what
/// covers it.
#[test]
fn a_restore_makes_nothing_in_what_is_mounted_meanwhile() {
    let site = Site::with_job(&plugin("video-clear"), "trash = \"1h\"\n");
    fs::create_dir_all(site.videos().join("a/b")).unwrap();
    fs::write(site.videos().join("a/b/x"), "x").unwrap();
    let host = site.start();
    host.enqueue("clear", &["a"]);
    host.drained("clear");
    fs::create_dir(site.videos().join("a")).unwrap();
    let other = site.path().join("other");
    fs::create_dir(&other).unwrap();
    let mounted = Mounted::bind(&other, &site.videos().join("a"));
    let restore = ["trash", "restore", "clear", "--path", "videos/a"];
    let said = run(&site, &restore).exits(1);
    said.says("something else is mounted at");
    assert_eq!(fs::read_dir(&other).unwrap().count(), 0);
    drop(mounted);
    run(&site, &restore).exits(0);
    assert_eq!(fs::read_to_string(site.videos().join("a/b/x")).unwrap(), "x");
}

/// Two jobs, of which the directory of the first is seen by the second through a
/// bind mount: its marker and trash have other paths there, and are the same.
fn second(mount: &str, at: &str) -> (Site, Mounted) {
    let site = Site::new();
    fs::create_dir_all(site.path().join("outer").join(at)).unwrap();
    site.install(&plugin("video-clear"));
    fs::copy(guest("tries_paths"), site.path().join("plugins/tries.wasm")).unwrap();
    let job = |name: &str, plugin: &str, mounts: &str, more: &str| {
        format!(
            "[[job]]\nname = \"{name}\"\nplugin = \"plugins/{plugin}.wasm\"\nmounts = {mounts}\ninterval = \"200ms\"\n{more}"
        )
    };
    let mine = job("clear", "plugin", "[\"videos\"]", "trash = \"1h\"\n");
    let other = job("other", "tries", &format!("[{{ path = \"outer\"{mount} }}]"), "concurrency = 1\n");
    site.configure(&(mine + &other));
    fs::write(site.videos().join("a"), "in the trash").unwrap();
    let host = site.start();
    host.enqueue("clear", &["a"]);
    host.enqueue("other", &["nothing"]);
    host.drained("clear");
    host.drained("other");
    assert_eq!(host.stop(), Some(0));
    let from = if at.ends_with("trash") { site.videos().join(".sweepd-trash") } else { site.videos() };
    let mounted = Mounted::bind(&from, &site.path().join("outer").join(at));
    (site, mounted)
}

fn tries_in_vain(site: &Site, paths: &[String]) {
    let host = site.start();
    for path in paths {
        let task = host.enqueue("other", &[path])[0];
        host.drained("other");
        let task = host.get(&format!("/v1/tasks/{task}"));
        assert_eq!(task["state"], "done", "{task}");
        for (operation, (code, text)) in answers(note(&task)) {
            let looks = ["stat", "stat-followed", "hash", "hash-followed"].contains(&operation);
            let is_trash_itself = path == "sub/trash";
            assert!(
                code != "ok" || operation == "make-bait" || (looks && is_trash_itself),
                "{operation} of {path}: {text}"
            );
            assert!(!text.contains("in the trash"), "{operation} of {path}");
        }
    }
    let trash: Vec<_> = fs::read_dir(site.videos().join(".sweepd-trash")).unwrap().collect();
    assert_eq!(trash.len(), 1);
    assert!(site.videos().join(".sweepd-mount").exists());
    run(site, &["trash", "restore", "clear", "--path", "videos/a"]).exits(0);
    assert_eq!(fs::read_to_string(site.videos().join("a")).unwrap(), "in the trash");
}

fn in_trash(site: &Site) -> String {
    let mut entries = fs::read_dir(site.videos().join(".sweepd-trash")).unwrap();
    entries.next().expect("a file").unwrap().file_name().into_string().unwrap()
}

#[test]
fn the_trash_of_another_job_is_out_of_reach_through_a_bind_mount() {
    for mount in ["", ", cross_mounts = true"] {
        let (site, _mounted) = second(mount, "sub/videos");
        let file = in_trash(&site);
        let paths = [
            "sub/videos/.sweepd-trash".to_owned(),
            format!("sub/videos/.sweepd-trash/{file}"),
            format!("sub/videos/.sweepd-trash/../.sweepd-trash/{file}"),
            "sub/videos/.sweepd-trash/new".to_owned(),
            "sub/videos/.sweepd-mount".to_owned(),
        ];
        tries_in_vain(&site, &paths);
    }
}

#[test]
fn a_trash_that_is_bound_to_another_name_is_out_of_reach() {
    for mount in ["", ", cross_mounts = true"] {
        let (site, _mounted) = second(mount, "sub/trash");
        let file = in_trash(&site);
        let paths = ["sub/trash".to_owned(), format!("sub/trash/{file}"), "sub/trash/new".to_owned()];
        tries_in_vain(&site, &paths);
    }
}

/// No mount is crossed: the second job's own directory is another path to the
/// folder in which the first one's lies.
#[test]
fn the_trash_of_a_job_further_down_in_the_same_tree_is_out_of_reach() {
    let (site, mounted) = second("", "x");
    drop(mounted);
    // `outer` shows the folder in which the other job's directory lies.
    let around = site.path().join("around");
    fs::create_dir(&around).unwrap();
    // The job knows its own directory by the marker in it.
    fs::copy(site.path().join("outer/.sweepd-mount"), around.join(".sweepd-mount")).unwrap();
    fs::rename(site.videos(), around.join("videos")).unwrap();
    std::os::unix::fs::symlink("around/videos", site.videos()).unwrap();
    let _outer = Mounted::bind(&around, &site.path().join("outer"));
    let file = in_trash(&site);
    let host = site.start();
    for path in
        ["videos/.sweepd-trash".to_owned(), format!("videos/.sweepd-trash/{file}"), "videos/.sweepd-mount".to_owned()]
    {
        let task = host.enqueue("other", &[&path])[0];
        host.drained("other");
        let task: Value = host.get(&format!("/v1/tasks/{task}"));
        for (operation, (code, text)) in answers(note(&task)) {
            assert!(code != "ok" || operation == "make-bait", "{operation} of {path}: {text}");
        }
    }
    assert_eq!(in_trash(&site), file);
    assert!(site.videos().join(".sweepd-mount").exists());
}

/// Whoever mounts the trash itself as a directory of data is refused.
#[test]
fn a_trash_is_no_mount() {
    let (site, _mounted) = second("", "trash");
    let text = fs::read_to_string(site.path().join("sweepd.toml")).unwrap();
    fs::write(
        site.path().join("sweepd.toml"),
        text.replace("path = \"outer\"", "path = \"outer/trash\"").replace("\"other\"", "\"third\""),
    )
    .unwrap();
    let host = site.start();
    host.enqueue("third", &["x"]);
    host.wait("it says so", || host.log().contains("is the trash of another mount"));
    assert!(!host.has("third", "done"));
    assert_eq!(fs::read_dir(site.videos().join(".sweepd-trash")).unwrap().count(), 1, "not even a marker");
}
