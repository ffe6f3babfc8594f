//! Every way to write a path that leads elsewhere, with everything that can be
//! done to one. Without the resolution beneath the mount's descriptor
//! (`sandbox/beneath.rs`, `place.rs`) most of them would get there.

use std::fs;
use std::os::unix::fs::symlink;

use serde_json::json;

use super::{answers, note, tree};
use crate::support::{Site, Sweepd, guest};

const ALONE: &str = "concurrency = 1\ntrash = \"24h\"\n";

/// Beside the mount a file and a folder of which nothing may be seen; in it a
/// file, a folder, and links that lead out.
fn site(more: &str) -> Site {
    let site = Site::with_job(&guest("tries_paths"), &format!("{ALONE}{more}"));
    let (outside, videos) = (site.path().join("outside"), site.videos());
    for folder in [&outside, &videos.join("folder"), &videos.join(".sweepd-trash")] {
        fs::create_dir(folder).unwrap();
    }
    fs::write(site.path().join("outside.txt"), "s3cret").unwrap();
    fs::write(outside.join("secret"), "s3cret").unwrap();
    fs::write(videos.join(".sweepd-trash/planted"), "s3cret").unwrap();
    for name in ["a", "b", "c", "d", "folder/a", "folder/b", "folder/c", "folder/d"] {
        fs::write(videos.join(name), "inside").unwrap();
    }
    for (name, to) in [
        ("link-up", ".."),
        ("link-file", "../outside.txt"),
        ("link-folder", "../outside"),
        ("link-chain", "link-folder"),
        ("link-root", "/"),
        ("link-absolute", outside.to_str().unwrap()),
        ("link-home", videos.to_str().unwrap()),
        ("link-loop", "link-loop"),
        ("link-trash", ".sweepd-trash"),
        ("link-planted", "folder/../.sweepd-trash/planted"),
        ("link-marker", ".sweepd-mount"),
        ("link-proc", "/proc/self"),
        ("folder/link-up", "../.."),
    ] {
        symlink(to, videos.join(name)).unwrap();
    }
    site
}

/// What the guest noted about each path, tried one after the other.
fn tried(host: &Sweepd, paths: &[String]) -> Vec<(String, String)> {
    let tasks: Vec<_> =
        (0..).zip(paths).map(|(number, path)| json!({ "key": format!("path-{number:03}"), "payload": path })).collect();
    let (status, answer) = host.request("POST", "/v1/jobs/clear/tasks", Some(&tasks.into()));
    assert_eq!(status, 201, "{answer}");
    host.drained("clear");
    let done = host.tasks("clear", "done");
    assert_eq!(done.len(), paths.len(), "{:?}", host.tasks("clear", "dead"));
    paths.iter().cloned().zip(done.iter().map(|task| note(task).to_owned())).collect()
}

/// The operations that succeeded, without the one on the guest's own file.
fn succeeded(note: &str) -> Vec<&str> {
    let all = answers(note).into_iter();
    all.filter(|(operation, (code, _))| *code == "ok" && *operation != "make-bait").map(|(name, _)| name).collect()
}

fn nothing_succeeds(site: &Site, paths: &[String]) {
    let (mount, outside) = (tree(&site.videos()), tree(&site.path().join("outside")));
    let host = site.start();
    for (path, note) in tried(&host, paths) {
        assert_eq!(succeeded(&note), [""; 0], "{path}:\n{note}");
        assert!(!note.contains("s3cret"), "{path}:\n{note}");
    }
    assert_eq!(tree(&site.videos()), mount);
    assert_eq!(tree(&site.path().join("outside")), outside);
    assert_eq!(fs::read_to_string(site.path().join("outside.txt")).unwrap(), "s3cret");
    assert_eq!(fs::read_to_string(site.videos().join(".sweepd-trash/planted")).unwrap(), "s3cret");
    assert!(fs::read_to_string(site.videos().join(".sweepd-mount")).is_ok(), "the marker is there");
}

fn owned(paths: &[&str]) -> Vec<String> {
    paths.iter().map(|path| (*path).to_owned()).collect()
}

/// Whatever is reached if this fails is the test's own: none of the paths
/// names something of the machine's that could be changed.
#[test]
fn no_path_leads_out_of_a_mount() {
    let site = site("");
    let here = site.path().to_str().unwrap().to_owned();
    let mut paths = owned(&[
        "..",
        "../",
        "../.",
        "./..",
        "../outside.txt",
        "..//outside.txt",
        "./../outside.txt",
        "../outside",
        "../outside/",
        "../outside/secret",
        "../outside/new",
        "../new",
        "../videos",
        "../videos/a",
        "folder/../../outside.txt",
        "folder/..//../outside.txt",
        "folder/./../../outside.txt",
        "folder/../../videos/a",
        "/",
        "//",
        "/.",
        "/..",
        "/proc/self/environ",
        "link-up/outside.txt",
        "link-up/outside/secret",
        "link-up/videos/a",
        "link-up/new",
        "link-folder/secret",
        "link-folder/.",
        "link-folder/..",
        "link-folder/new",
        "link-folder/../outside.txt",
        "link-chain/secret",
        "link-root/proc/self/environ",
        "link-absolute/secret",
        "link-home/a",
        "link-home/../outside.txt",
        "link-loop/a",
        "link-proc/environ",
        "link-proc/cwd/outside.txt",
        "folder/link-up/outside.txt",
        "folder/link-up/videos/a",
        "./folder/./link-up/./outside.txt",
    ]);
    let starts =
        ["", "/", "/.", "/..", "/proc/self/root", "link-root", "link-root/..", "../../../../../../../../../.."];
    for start in starts {
        paths.extend(["outside.txt", "videos/a", "new"].map(|end| format!("{start}{here}/{end}")));
    }
    nothing_succeeds(&site, &paths);
}

/// A descriptor of a folder grants what is beneath it, and nothing above.
#[test]
fn no_path_leads_up_from_a_folder() {
    let site = site("[job.config]\nfrom = \"folder\"\n");
    nothing_succeeds(&site, &owned(&["..", "../a", "../folder/a", "../new", "./../a", "link-up/outside.txt"]));
}

/// Guarded by `is_reserved` in every place that resolves a name.
#[test]
fn what_the_host_keeps_for_itself_is_out_of_reach() {
    let paths = owned(&[
        ".sweepd-mount",
        "./.sweepd-mount",
        "folder/../.sweepd-mount",
        ".sweepd-mount/",
        ".SWEEPD-MOUNT",
        ".Sweepd-Mount",
        ".\u{17f}weepd-mount",
        ".sweepd\u{200b}-mount",
        ".sweepd-trash",
        ".sweepd-trash/",
        ".sweepd-trash/.",
        ".sweepd-trash/planted",
        ".sweepd-trash//planted",
        ".sweepd-trash/./planted",
        ".sweepd-trash/new",
        "folder/../.sweepd-trash/planted",
        ".SWEEPD-TRASH/planted",
        ".sweepd-trash/../.sweepd-trash/planted",
        ".sweepd-new",
        "link-trash/planted",
        "link-trash/.",
        "link-trash/new",
    ]);
    nothing_succeeds(&site(""), &paths);
}

/// The link itself lies in the mount and may be moved and removed there; where
/// it leads is never reached.
#[test]
fn a_link_that_leads_out_is_not_followed() {
    let site = site("");
    let outside = tree(&site.path().join("outside"));
    let paths = owned(&[
        "link-file",
        "link-up",
        "link-folder",
        "link-chain",
        "link-root",
        "link-absolute",
        "link-home",
        "link-loop",
        "link-trash",
        "link-planted",
        "link-marker",
        "link-proc",
        "folder/link-up",
    ]);
    let host = site.start();
    for (path, note) in tried(&host, &paths) {
        assert!(!note.contains("s3cret"), "{path}:\n{note}");
        let answers = answers(&note);
        for operation in [
            "stat-followed",
            "hash-followed",
            "read",
            "list",
            "open",
            "open-to-write",
            "make-new",
            "make",
            "set-times-followed",
            "link-in",
            "link-in-followed",
            "symlink",
        ] {
            assert_ne!(answers[operation].0, "ok", "{operation} of {path}:\n{note}");
        }
        // Where on the machine a link leads is none of a guest's business.
        assert!(!answers["readlink"].1.starts_with('/'), "{path}:\n{note}");
    }
    assert_eq!(tree(&site.path().join("outside")), outside);
    assert_eq!(fs::read_to_string(site.path().join("outside.txt")).unwrap(), "s3cret");
    assert_eq!(fs::read_to_string(site.videos().join(".sweepd-trash/planted")).unwrap(), "s3cret");
}

/// The kernel bounds names and paths, and a NUL would cut one short.
#[test]
fn a_path_that_can_name_nothing_names_nothing() {
    let long = ["a/".repeat(2_500), "./".repeat(2_500) + "a", "x".repeat(300), format!("folder/{}", "x".repeat(256))];
    let mut paths =
        owned(&["", "a%00", "%00", "a%00/../../outside.txt", "folder%00/a", "a/", "a/.", "a/..", "a//", "a/b"]);
    paths.extend(long);
    let site = site("");
    nothing_succeeds(&site, &paths);
}

#[test]
fn a_path_that_can_name_nothing_is_told_why() {
    let host_site = site("");
    let host = host_site.start();
    let paths = ["x".repeat(300), "./".repeat(2_500) + "a", "a%00b".to_owned(), "../a".to_owned(), "/a".to_owned()];
    let codes: Vec<_> = tried(&host, &paths).iter().map(|(_, note)| answers(note)["stat"].0.to_owned()).collect();
    assert_eq!(codes, ["name-too-long", "name-too-long", "invalid", "not-permitted", "not-permitted"]);
}

/// The other side of it: what stays within the mount works, however it is
/// written.
#[test]
fn a_path_that_stays_inside_works() {
    let site = site("");
    symlink("folder", site.videos().join("link-in")).unwrap();
    let host = site.start();
    let paths = owned(&["./a", "folder/../b", "folder//a", ".//folder/./b", "folder/../folder/c", "link-in/d", "c"]);
    for (path, note) in tried(&host, &paths) {
        let answers = answers(&note);
        assert_eq!((answers["read"], answers["stat"]), (("ok", "inside"), ("ok", "6")), "{path}:\n{note}");
        assert_eq!(answers["rename-in"].0, "ok", "{path}:\n{note}");
    }
}

/// Opening a pipe waits for its other end, where no deadline reaches; only
/// files and folders are opened (`sandbox/opening.rs`).
#[test]
fn what_is_neither_file_nor_folder_is_not_opened() {
    let site = site("");
    let pipe = site.videos().join("pipe");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(site.videos().join("socket")).unwrap();
    symlink("pipe", site.videos().join("link-pipe")).unwrap();
    let host = site.start();
    for (path, note) in tried(&host, &owned(&["link-pipe", "pipe", "socket"])) {
        let answers = answers(&note);
        for operation in ["read", "list", "open", "open-to-write", "link-in"] {
            assert_ne!(answers[operation].0, "ok", "{operation} of {path}:\n{note}");
        }
    }
}

/// A marker that a guest sees is one that a policy of "remove all" removes.
#[test]
fn a_listing_has_nothing_of_the_hosts_own() {
    let site = Site::with_job(&guest("discovers"), "trash = \"24h\"\n");
    fs::create_dir(site.videos().join(".sweepd-trash")).unwrap();
    fs::write(site.videos().join(".sweepd-notes"), "").unwrap();
    fs::write(site.videos().join("seen"), "").unwrap();
    let host = site.start();
    host.wait("it has looked", || !host.tasks("clear", "done").is_empty());
    let keys: Vec<_> = host.tasks("clear", "done").iter().map(|task| task["key"].clone()).collect();
    assert!(keys.iter().all(|key| key == "seen"), "{keys:?}");
    assert!(site.videos().join(".sweepd-mount").exists());
}
