//! Every kind of entry that Linux has, in every call that answers a kind, against
//! guests in three languages: none of it ends the guest.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};

use crate::cli::run;
use crate::support::{Site, Sweepd, guest, plugin};

/// Kinds as the guests name them, by the entry.
const KINDS: [(&str, &str); 12] = [
    ("block", "block"),
    ("char", "char"),
    ("datagrams", "other"),
    ("file", "file"),
    ("folder", "folder"),
    ("link", "link"),
    ("link-dangling", "link"),
    ("link-loop", "link"),
    ("link-out", "link"),
    ("link-socket", "link"),
    ("pipe", "other"),
    ("socket", "other"),
];

/// One entry of each kind. The sockets last as long as what is answered.
fn fill(folder: &Path) -> (UnixListener, UnixDatagram) {
    fs::write(folder.join("file"), "1").unwrap();
    fs::create_dir(folder.join("folder")).unwrap();
    let links = [("link", "file"), ("link-dangling", "nowhere"), ("link-loop", "link-loop"), ("link-socket", "socket")];
    for (name, to) in links {
        symlink(to, folder.join(name)).unwrap();
    }
    symlink("/dev/null", folder.join("link-out")).unwrap();
    let nodes = [
        ("pipe", FileType::Fifo, 0),
        // Of numbers that nothing in the kernel answers to.
        ("block", FileType::BlockDevice, makedev(240, 77)),
        ("char", FileType::CharacterDevice, makedev(240, 77)),
    ];
    for (name, kind, device) in nodes {
        mknodat(CWD, folder.join(name), kind, Mode::RWXU, device).expect("a node: the tests run as root");
    }
    (UnixListener::bind(folder.join("socket")).unwrap(), UnixDatagram::bind(folder.join("datagrams")).unwrap())
}

/// What a guest said of each entry, by name, then by question.
fn said(host: &Sweepd) -> BTreeMap<String, BTreeMap<String, String>> {
    host.enqueue("clear", &["look"]);
    host.drained("clear");
    let done = host.tasks("clear", "done");
    assert_eq!(done.len(), 1, "{:?}\n{}", host.tasks("clear", "dead"), host.log());
    assert_eq!(done[0]["attempts"], 1, "{}", done[0]);
    let note = done[0]["note"].as_str().unwrap();
    let line = |line: &str| {
        let (name, rest) = line.split_once(' ').expect("a name");
        // An answer may have blanks in it.
        let mut answers: BTreeMap<String, String> = BTreeMap::new();
        let mut last = String::new();
        for word in rest.split(' ') {
            match word.split_once('=') {
                Some((question, answer)) => {
                    question.clone_into(&mut last);
                    answers.insert(last.clone(), answer.to_owned());
                }
                None => answers.get_mut(&last).expect("a question").extend([" ", word]),
            }
        }
        (name.to_owned(), answers)
    };
    note.lines().map(line).collect()
}

/// The standard library of Rust has no words for devices on every target.
fn in_rust(kind: &str) -> &str {
    if matches!(kind, "block" | "char") { "other" } else { kind }
}

fn every_kind_is_told_and_removed(component: &Path, words: fn(&'static str) -> &'static str) {
    let site = Site::with_job(component, "concurrency = 1\n[job.limits]\ntask_deadline = \"2m\"\n");
    let _sockets = fill(&site.videos());
    let host = site.start();
    let said = said(&host);
    let names: Vec<_> = said.keys().map(String::as_str).collect();
    assert_eq!(names, KINDS.map(|(name, _)| name));
    for (name, kind) in KINDS {
        let (kind, answers) = (words(kind), &said[name]);
        assert_eq!(answers["lstat"], kind, "{name}: {answers:?}");
        // A listing may leave open what an entry is; CPython asks then.
        let unknown = kind == "other" || in_rust(kind) == "other";
        assert!(answers["listed"] == kind || (unknown && answers["listed"] == "-"), "{name}: {answers:?}");
        let (target, opens) = match name {
            "link-dangling" | "link-loop" | "link-out" => ("none", false),
            "link" => ("file", true),
            "link-socket" => ("other", false),
            _ => (kind, matches!(kind, "file" | "folder")),
        };
        assert_eq!(answers["stat"], target, "{name}: {answers:?}");
        assert_eq!(answers["open"] == "ok", opens, "{name}: {answers:?}");
        // Where on the machine an absolute link leads is not told.
        let link = if kind == "link" && name != "link-out" { "yes" } else { "no" };
        assert_eq!(answers["link"], link, "{name}: {answers:?}");
        assert_eq!(answers["remove"], "ok", "{name}: {answers:?}");
    }
    let left: Vec<_> = fs::read_dir(site.videos()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, [".sweepd-mount"]);
}

#[test]
fn every_kind_is_told_to_a_guest_in_rust() {
    every_kind_is_told_and_removed(&guest("lists_kinds"), in_rust);
}

#[test]
fn every_kind_is_told_to_a_guest_in_c() {
    every_kind_is_told_and_removed(&guest("lists_kinds_c"), |kind| kind);
}

#[test]
fn every_kind_is_told_to_a_guest_in_python() {
    every_kind_is_told_and_removed(&guest("lists_kinds_py"), |kind| kind);
}

/// A simulation answers by its overlay, which shows what was moved from where it
/// is on disk.
#[test]
fn every_kind_is_told_in_a_simulation() {
    let site = Site::with_job(&guest("lists_kinds"), "");
    let _sockets = fill(&site.videos());
    let host = site.start();
    host.serving("clear");
    assert_eq!(host.request("POST", "/v1/jobs/clear/pause", None).0, 200);
    host.enqueue("clear", &["look"]);
    let planned = run(&site, &["plan", "clear", "--json"]).exits(0).out;
    for (name, kind) in KINDS {
        assert!(kind == "folder" || planned.contains(&format!("videos/{name}")), "{name}: {planned}");
    }
    assert_eq!(fs::read_dir(site.videos()).unwrap().count(), KINDS.len() + 1, "all is still there");
}

/// A policy that scans asks what each entry is; from the 64th on that was looked
/// up ahead of it.
#[test]
fn a_scan_goes_past_entries_of_every_kind() {
    let site = Site::with_job(&guest("lists_kinds"), "[job.config]\nscan = \"yes\"\n");
    let _sockets = fill(&site.videos());
    let many: Vec<_> = (0..600).map(|number| UnixListener::bind(site.videos().join(format!("s{number}")))).collect();
    let host = site.start();
    host.wait("all that is neither file, folder nor link was found", || {
        let done = host.tasks("clear", "done");
        let keys: BTreeSet<_> = done.iter().map(|task| task["key"].as_str().unwrap().to_owned()).collect();
        keys.len() == many.len() + 5
    });
    assert!(host.get("/v1/jobs/clear")["last_error"].is_null());
}

/// The report that this came of: a folder with a socket, and one at the top.
#[test]
fn a_socket_is_removed_with_its_folder() {
    let site = Site::with_job(&plugin("video-clear"), "");
    fs::create_dir(site.videos().join("v")).unwrap();
    let _inner = fill(&site.videos().join("v"));
    let _top = UnixListener::bind(site.videos().join("s")).unwrap();
    let host = site.start();
    host.enqueue("clear", &["v", "s"]);
    host.drained("clear");
    assert_eq!(host.tasks("clear", "done").len(), 2, "{:?}", host.tasks("clear", "dead"));
    assert!(!site.videos().join("v").exists() && !site.videos().join("s").exists());
}
