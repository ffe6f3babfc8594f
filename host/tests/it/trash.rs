//! What goes into the trash can be put back, and leaves it in time.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use crate::cli::{fed, run};
use crate::effects::{effects, lines};
use crate::support::{Site, Sweepd, plugin};

fn site(more: &str) -> Site {
    Site::with_job(&plugin("video-clear"), more)
}

fn write(site: &Site, names: &[&str]) {
    for name in names {
        fs::write(site.videos().join(name), name).unwrap();
    }
}

/// Removes files with these names, each with its name as content.
fn remove(site: &Site, host: &Sweepd, names: &[&str]) -> Vec<u64> {
    write(site, names);
    let ids = host.enqueue("clear", names);
    host.drained("clear");
    for name in names {
        assert!(!site.videos().join(name).exists(), "{name}");
    }
    ids
}

/// What stands in the trash, by the names of the effects.
fn in_trash(site: &Site) -> BTreeSet<String> {
    let entries = fs::read_dir(site.videos().join(".sweepd-trash")).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// What is listed, by name in the mount: the effect's id.
fn listed(site: &Site) -> BTreeMap<String, String> {
    let videos = format!("{}/", site.videos().canonicalize().unwrap().display());
    let of = |file: Value| {
        let path = file["path"].as_str().unwrap().strip_prefix(&videos).unwrap().to_owned();
        (path, file["id"].as_str().unwrap().to_owned())
    };
    lines(&run(site, &["trash", "list", "clear", "--json"]).exits(0).out).into_iter().map(of).collect()
}

fn fates(site: &Site) -> Vec<String> {
    effects(site, &["--operation", "remove"]).iter().map(|one| one["fate"].as_str().unwrap_or("-").to_owned()).collect()
}

fn reads(site: &Site, name: &str) -> String {
    fs::read_to_string(site.videos().join(name)).unwrap()
}

#[test]
fn what_was_removed_is_put_back_by_commands() {
    let site = site("trash = \"1h\"\n");
    let host = site.start();
    let ids = remove(&site, &host, &["a", "c", "d"]);
    fs::create_dir_all(site.videos().join("x/y")).unwrap();
    write(&site, &["x/y/b"]);
    host.enqueue("clear", &["x"]);
    host.drained("clear");
    let trash = listed(&site);
    assert_eq!(trash.values().cloned().collect::<BTreeSet<_>>(), in_trash(&site));
    assert!(!site.videos().join("x").exists());

    // By id, by path, by task; folders are made again.
    let said = run(&site, &["trash", "restore", "clear", &trash["a"]]).exits(0);
    assert_eq!((said.out.as_str(), reads(&site, "a").as_str()), ("1 restored\n", "a"));
    let said = run(&site, &["trash", "restore", "clear", "--path", "videos/x/", "--since", "1h"]).exits(0);
    assert_eq!((said.out.as_str(), reads(&site, "x/y/b").as_str()), ("1 restored\n", "x/y/b"));
    // Nothing is overwritten.
    fs::write(site.videos().join("c"), "new").unwrap();
    let task = ids[1].to_string();
    let said = run(&site, &["trash", "restore", "clear", "--task", &task]).exits(1);
    assert_eq!(said.out, "0 restored, 1 refused\n");
    said.says("it is not overwritten; move that away first");
    assert_eq!(reads(&site, "c"), "new");
    fs::remove_file(site.videos().join("c")).unwrap();
    run(&site, &["trash", "restore", "clear", "--task", &task]).exits(0);
    assert_eq!(reads(&site, "c"), "c");

    assert_eq!(listed(&site).into_keys().collect::<Vec<_>>(), ["d"]);
    let mut fates = fates(&site);
    fates.sort();
    assert_eq!(fates, ["kept", "restored", "restored", "restored"]);
    run(&site, &["trash", "restore", "clear", &trash["a"]]).exits(1).says("is not in the trash of this job");
    // What is back stays: its task is done.
    host.drained("clear");
    assert!(site.videos().join("a").exists());
    let said = run(&site, &["trash", "list"]).exits(0);
    assert!(said.out.lines().count() == 2 && said.out.contains(&trash["d"]), "{}", said.out);
}

#[test]
fn what_was_removed_is_put_back_and_purged_over_http() {
    let site = site("trash = \"1h\"\n");
    let host = site.start();
    let ids = remove(&site, &host, &["a", "b", "c"]);
    let page = host.get("/v1/jobs/clear/trash?limit=2");
    assert_eq!(page["files"].as_array().map(Vec::len), Some(2), "{page}");
    let rest = host.get(&format!("/v1/jobs/clear/trash?limit=2&after={}", page["next"].as_str().unwrap()));
    assert_eq!((rest["files"].as_array().map(Vec::len), &rest["next"]), (Some(1), &Value::Null));
    let trash = listed(&site);
    let ask = |what: &str, body: Value| -> Value {
        let (status, body) = host.request("POST", &format!("/v1/jobs/clear/trash/{what}"), Some(&body));
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).unwrap()
    };
    let done = ask("restore", json!({ "ids": [trash["a"], "0123456789abcdef-1"] }));
    let results: Vec<_> = done["results"].as_array().unwrap().iter().map(|one| one["result"].clone()).collect();
    assert!(results.contains(&json!("restored")) && results.contains(&json!("not-there")), "{done}");
    assert_eq!(reads(&site, "a"), "a");
    fs::write(site.videos().join("b"), "new").unwrap();
    let done = ask("restore", json!({ "task": ids[1] }));
    assert_eq!((&done["results"][0]["result"], done["results"].as_array().map(Vec::len)), (&json!("refused"), Some(1)));
    assert!(done["results"][0]["detail"].as_str().unwrap().contains("not overwritten"), "{done}");
    let done = ask("purge", json!({ "all": true }));
    assert_eq!((done["results"].as_array().map(Vec::len), &done["next"]), (Some(2), &Value::Null), "{done}");
    assert_eq!((in_trash(&site).len(), reads(&site, "b").as_str()), (0, "new"));
    let mut fates = fates(&site);
    fates.sort();
    assert_eq!(fates, ["purged", "purged", "restored"]);
}

#[test]
fn of_two_that_stood_in_one_place_the_later_goes_back() {
    let site = site("trash = \"1h\"\n");
    let host = site.start();
    remove(&site, &host, &["a"]);
    fs::write(site.videos().join("a"), "later").unwrap();
    host.enqueue("clear", &["a"]);
    host.drained("clear");
    run(&site, &["trash", "restore", "clear", "--path", "videos/a"]).exits(1);
    assert_eq!(reads(&site, "a"), "later");
    assert_eq!(in_trash(&site).len(), 1);
}

#[test]
fn what_is_purged_by_hand_is_agreed_to() {
    let site = site("trash = \"1h\"\n");
    let host = site.start();
    remove(&site, &host, &["a", "b", "c"]);
    let trash = listed(&site);
    assert_eq!(run(&site, &["trash", "purge", "clear", &trash["a"]]).exits(0).out, "1 purged\n");
    assert_eq!(run(&site, &["trash", "purge", "clear", "--older-than", "1h"]).exits(0).out, "0 purged\n");
    let refused = "2 files in the trash of clear match: repeat it with --yes to purge all of them";
    fed(&site, &["trash", "purge", "clear", "--all"], b"y\n").exits(2).says(refused);
    assert_eq!(in_trash(&site).len(), 2);
    assert_eq!(run(&site, &["trash", "purge", "clear", "--all", "--yes"]).exits(0).out, "2 purged\n");
    assert_eq!((in_trash(&site).len(), fates(&site)), (0, vec!["purged".to_owned(); 3]));
}

#[test]
fn what_was_kept_for_long_enough_goes_also_while_the_job_is_paused() {
    let site = site("trash = \"1s\"\n");
    let host = site.start();
    host.serving("clear");
    remove(&site, &host, &["a", "b", "c"]);
    assert_eq!(host.request("POST", "/v1/jobs/clear/pause", None).0, 200);
    host.wait("they are purged", || in_trash(&site).is_empty() && fates(&site) == ["purged"; 3]);
    let all = effects(&site, &["--operation", "remove"]);
    for one in &all {
        let kept = one["fate_at"].as_u64().unwrap() - one["at"].as_u64().unwrap();
        assert!(kept >= 1000, "it was kept for {kept} ms: {one}");
    }
    assert_eq!(run(&site, &["trash", "list", "--json"]).exits(0).out, "");
}

#[test]
fn purging_keeps_to_its_rate() {
    let site = site("trash = \"1s\"\npurge_rate = \"20 files, 1GiB\"\n");
    let names: Vec<String> = (0..61).map(|number| format!("f{number:02}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let host = site.start();
    remove(&site, &host, &names);
    host.wait("they are purged", || fates(&site).iter().all(|fate| fate == "purged"));
    let mut at: Vec<u64> =
        effects(&site, &["--operation", "remove"]).iter().map(|one| one["fate_at"].as_u64().unwrap()).collect();
    at.sort_unstable();
    // Sixty-one files are put on record in four lots, at least a second apart.
    let took = at[60] - at[0];
    assert!(took >= 1900, "they went in {took} ms");
}

#[test]
fn the_oldest_go_early_where_the_disk_is_full() {
    let site = site("trash = \"30d\"\n");
    let host = site.start();
    remove(&site, &host, &["a", "b"]);
    assert_eq!((host.stop(), in_trash(&site).len()), (Some(0), 2));
    site.set_job(&plugin("video-clear"), "trash = \"30d\"\ntrash_min_free = \"1EiB\"\n");
    let host = site.start();
    host.wait("they are purged", || fates(&site) == ["purged"; 2]);
    assert!(in_trash(&site).is_empty());
    host.says("before their time");
}

#[test]
fn nothing_is_purged_in_a_directory_that_is_not_the_known_one() {
    let site = site("trash = \"1h\"\n");
    let host = site.start();
    remove(&site, &host, &["a"]);
    assert_eq!(host.stop(), Some(0));
    let id = listed(&site)["a"].clone();
    let marker = site.videos().join(".sweepd-mount");
    let right = fs::read(&marker).unwrap();
    fs::write(&marker, "another\n").unwrap();
    site.set_job(&plugin("video-clear"), "trash = \"1s\"\n");
    let host = site.start();
    host.wait("it says so", || host.log().contains("stay in the trash"));
    assert_eq!(in_trash(&site), [id.clone()].into());
    for what in [["trash", "purge", "clear", &id], ["trash", "restore", "clear", &id]] {
        run(&site, &what).exits(1).says("is not the directory in which this job worked");
    }
    assert_eq!((in_trash(&site).len(), fates(&site)), (1, vec!["kept".to_owned()]));
    fs::write(&marker, right).unwrap();
    assert_eq!(host.stop(), Some(0));
    let host = site.start();
    host.wait("it is purged", || fates(&site) == ["purged"]);
}

#[test]
fn a_trash_that_is_not_there_is_not_purged() {
    let site = site("trash = \"1h\"\n");
    let host = site.start();
    remove(&site, &host, &["a"]);
    assert_eq!(host.stop(), Some(0));
    let (trash, away) = (site.videos().join(".sweepd-trash"), site.path().join("away"));
    fs::rename(&trash, &away).unwrap();
    site.set_job(&plugin("video-clear"), "trash = \"1s\"\n");
    let host = site.start();
    host.wait("it says so", || host.log().contains(".sweepd-trash cannot be used"));
    assert_eq!(fates(&site), ["kept"]);
    assert_eq!(host.stop(), Some(0));
    if trash.exists() {
        fs::remove_dir(&trash).unwrap();
    }
    fs::rename(&away, &trash).unwrap();
    let host = site.start();
    host.wait("it is purged", || fates(&site) == ["purged"]);
    assert!(in_trash(&site).is_empty());
}

#[test]
fn what_is_left_in_the_trash_of_a_job_without_one_is_told_and_kept() {
    let site = site("trash = \"1s\"\n");
    let host = site.start();
    host.serving("clear");
    assert_eq!(host.stop(), Some(0));
    site.set_job(&plugin("video-clear"), "trash = \"1h\"\n");
    let host = site.start();
    remove(&site, &host, &["a", "b"]);
    assert_eq!(host.stop(), Some(0));
    site.set_job(&plugin("video-clear"), "");
    let host = site.start();
    host.wait("it is told", || host.log().contains("2 files are in the trash of this job"));
    let trash = listed(&site);
    assert_eq!(trash.len(), 2);
    run(&site, &["trash", "restore", "clear", &trash["a"]]).exits(0);
    run(&site, &["trash", "purge", "clear", &trash["b"]]).exits(0);
    assert_eq!((reads(&site, "a").as_str(), in_trash(&site).len()), ("a", 0));
}

#[test]
fn what_left_the_trash_unrecorded_is_put_on_record_as_it_is() {
    let site = site("trash = \"1h\"\n");
    let host = site.start();
    remove(&site, &host, &["a", "b"]);
    let trash = listed(&site);
    // As if the host had been lost between file and record.
    let folder = site.videos().join(".sweepd-trash");
    fs::rename(folder.join(&trash["a"]), site.videos().join("a")).unwrap();
    fs::remove_file(folder.join(&trash["b"])).unwrap();
    let said = run(&site, &["trash", "restore", "clear", &trash["a"], &trash["b"]]).exits(1);
    said.says("neither in the trash nor in its place");
    let fate = |name: &str| {
        let path = site.videos().join(name);
        effects(&site, &["--path", path.to_str().unwrap()])[0]["fate"].as_str().unwrap().to_owned()
    };
    assert_eq!((fate("a").as_str(), fate("b").as_str()), ("restored", "purged"));
}

const FILES: usize = 4000;
const KILLS: usize = 8;

/// Kills hosts in the middle of sweeps, and answers the last one, which had its
/// time, with the names of the files.
fn killed(trash: bool) -> (Site, Sweepd, Vec<String>) {
    let seed = fastrand::u64(..);
    eprintln!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let site = site(if trash { "concurrency = 2\ntrash = \"1h\"\n" } else { "concurrency = 2\n" });
    let names: Vec<String> = (0..FILES).map(|number| format!("video-{number:05}")).collect();
    for name in &names {
        fs::write(site.videos().join(name), name).unwrap();
    }
    let mut sent = 0;
    for round in 1..=KILLS {
        let host = site.start();
        let share = FILES * round / KILLS;
        host.enqueue("clear", &names[sent..share]);
        sent = share;
        // Into the middle of the work, wherever that is.
        std::thread::sleep(Duration::from_millis(random.u64(0..200)));
        host.kill();
        let there = names.iter().filter(|name| site.videos().join(name).exists()).count();
        if trash && site.videos().join(".sweepd-trash").exists() {
            assert_eq!(there + in_trash(&site).len(), FILES, "each is in one of the two (seed {seed})");
        }
    }
    let host = site.start();
    host.drained("clear");
    (site, host, names)
}

/// The effects of removals that were made, by path.
fn made(site: &Site) -> BTreeMap<PathBuf, Value> {
    let mut made = BTreeMap::new();
    for effect in effects(site, &[]) {
        assert_ne!(effect["result"], "unknown", "the disk could tell: {effect}");
        if effect["result"] == "done" {
            let path = PathBuf::from(effect["path"].as_str().unwrap());
            assert!(made.insert(path, effect.clone()).is_none(), "twice: {effect}");
        }
    }
    made
}

#[test]
fn killed_hosts_lose_no_file_to_the_trash() {
    let (site, host, names) = killed(true);
    assert_eq!(host.tasks("clear", "done").len(), FILES);
    let (made, trash) = (made(&site), in_trash(&site));
    let videos = site.videos().canonicalize().unwrap();
    for name in &names {
        let effect = made.get(&videos.join(name)).unwrap_or_else(|| panic!("{name} has no effect on record"));
        assert_eq!((&effect["trashed"], &effect["fate"]), (&json!(true), &json!("kept")), "{effect}");
        assert!(trash.contains(effect["id"].as_str().unwrap()), "{effect}");
        assert!(!videos.join(name).exists(), "{name}");
    }
    assert_eq!(trash.len(), FILES);
    let said = run(&site, &["trash", "restore", "clear", "--path", "videos/"]).exits(0);
    assert_eq!(said.out, format!("{FILES} restored\n"));
    for name in &names {
        assert_eq!(&reads(&site, name), name);
    }
    assert_eq!((in_trash(&site).len(), listed(&site).len()), (0, 0));
}

#[test]
fn killed_hosts_remove_nothing_that_is_not_on_record() {
    let (site, _host, names) = killed(false);
    let made = made(&site);
    let videos = site.videos().canonicalize().unwrap();
    for name in &names {
        assert!(!videos.join(name).exists() && made.contains_key(&videos.join(name)), "{name}");
    }
    assert_eq!(made.len(), FILES);
}
