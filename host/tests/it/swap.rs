//! Plugins are swapped while they work: nothing is lost, nothing runs twice,
//! and what cannot serve does not.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use serde_json::Value;

use crate::rollback::{digest_of, serving, wait_for};
use crate::support::{Site, Sweepd, guest, plugin};

#[test]
fn two_hundred_swaps_under_twenty_thousand_tasks() {
    const SWAPS: usize = 200;
    const TASKS: usize = 20_000;
    let site = Site::with_job(&guest("moves_a"), "concurrency = 2\n");
    for folder in ["todo", "a", "b"] {
        fs::create_dir(site.videos().join(folder)).unwrap();
    }
    let keys: Vec<String> = (0..TASKS).map(|number| format!("video-{number:05}")).collect();
    for key in &keys {
        fs::write(site.videos().join("todo").join(key), "").unwrap();
    }
    let host = site.start();
    host.serving("clear");
    let policies = [guest("moves_b"), guest("moves_a")];
    for (swap, keys) in keys.chunks(TASKS / SWAPS).enumerate() {
        let policy = &policies[swap % 2];
        site.install(policy);
        // Half of the share before the swap is seen, half after: both stream through it.
        let (before, after) = keys.split_at(keys.len() / 2);
        host.enqueue("clear", before);
        wait_for(&host, policy);
        host.enqueue("clear", after);
    }
    host.drained("clear");

    let done = host.tasks("clear", "done");
    assert_eq!(done.len(), TASKS);
    assert_eq!(host.tasks("clear", "dead"), Vec::<Value>::new());
    let digests = [("a", digest_of(&policies[1])), ("b", digest_of(&policies[0]))];
    let mut ran = [0, 0];
    for task in &done {
        let by = digests.iter().position(|(_, digest)| task["digest"] == digest.as_str()).expect("a known digest");
        assert_eq!(task["note"], digests[by].0, "the record names the code that ran: {task}");
        ran[by] += 1;
    }
    for (by, (folder, _)) in digests.iter().enumerate() {
        assert_eq!(fs::read_dir(site.videos().join(folder)).unwrap().count(), ran[by], "{folder}");
        assert!(ran[by] > 0, "both policies ran");
    }
    assert_eq!(host.get("/v1/jobs/clear")["slot"]["swaps"], SWAPS as u64 + 1);
}

#[test]
fn the_new_policy_takes_over_at_once_under_a_backlog_of_millions() {
    const TASKS: u32 = 2_000_000;
    let site = Site::with_job(&guest("noop_job"), "capacity = 500\nconcurrency = 1\nmax_sweep = \"500ms\"\n");
    site.fill_queue("clear", TASKS);
    let host = site.start();
    host.wait("the first policy works", || host.has("clear", "done"));
    let swapped = guest("noop");
    site.install(&swapped);
    wait_for(&host, &swapped);
    // A sweep offers what was due when it began; the next one is half a second away at most,
    // and its first batch begins with the most urgent task: it shows whose batch that is.
    let marker = serde_json::json!({ "key": "marker", "priority": "urgent" });
    let (status, body) = host.request("POST", "/v1/jobs/clear/tasks", Some(&marker));
    assert_eq!(status, 201, "{body}");
    let marker: Value = serde_json::from_str(&body).unwrap();
    let task = || host.get(&format!("/v1/tasks/{}", marker["id"]));
    host.wait("the next batch is executed", || task()["state"] == "done");
    assert_eq!(task()["digest"], digest_of(&swapped).as_str());
    let status = host.get("/v1/jobs/clear");
    assert_eq!(status["backlog"]["more"], true, "the backlog must still be large: {status}");
}

/// Makes the plugin's file unusable.
type Breaks<'a> = Box<dyn Fn() + 'a>;

#[test]
fn what_cannot_serve_does_not_and_says_so() {
    let site = Site::with_job(&plugin("video-clear"), "");
    let good = digest_of(&plugin("video-clear"));
    let whole = fs::read(plugin("video-clear")).unwrap();
    let mut host = site.start();
    host.serving("clear");
    let bad: [(&str, Breaks<'_>, &str); 5] = [
        ("half of a file", Box::new(|| fs::write(site.plugin_file(), &whole[..whole.len() / 2]).unwrap()), "component"),
        ("a text", Box::new(|| fs::write(site.plugin_file(), "delete everything").unwrap()), "component"),
        ("nothing", Box::new(|| fs::write(site.plugin_file(), "").unwrap()), "component"),
        ("another world", Box::new(|| site.install(&guest("other_world"))), "does not export sweepd:job/executor"),
        ("no file", Box::new(|| fs::remove_file(site.plugin_file()).unwrap()), "No such file"),
    ];
    for (what, make, said) in bad {
        site.install(&plugin("video-clear"));
        host.wait("the good one serves", || host.get("/v1/jobs/clear")["slot"]["error"].is_null());
        make();
        host.wait("the error is said", || {
            host.get("/v1/jobs/clear")["slot"]["error"]["message"]
                .as_str()
                .is_some_and(|message| message.contains(said))
        });
        assert_eq!(serving(&host), good.as_str(), "{what}");
        works(&site, &host, what);

        assert_eq!(host.stop(), Some(0));
        host = site.start();
        let status = host.serving("clear");
        assert_eq!(status["slot"]["generation"]["digest"], good.as_str(), "{what}, after a restart");
        assert_eq!(status["slot"]["generation"]["kept"], true, "{what}, after a restart");
        let message = status["slot"]["error"]["message"].as_str().unwrap_or_default();
        assert!(message.contains(said), "{what}, after a restart: {message}");
        works(&site, &host, what);
    }
}

/// Clears one video.
fn works(site: &Site, host: &Sweepd, name: &str) {
    let video = site.videos().join(name);
    fs::write(&video, "").unwrap();
    host.enqueue("clear", &[name]);
    host.wait("the video is cleared", || !video.exists());
    host.drained("clear");
}

#[test]
fn a_plugin_that_appears_later_is_taken() {
    let site = Site::with_job(&plugin("video-clear"), "");
    fs::remove_file(site.plugin_file()).unwrap();
    let host = site.start();
    host.enqueue("clear", &["early"]);
    assert_eq!(host.request("GET", "/readyz?job=clear", None).0, 503);
    site.install(&plugin("video-clear"));
    host.drained("clear");
    assert_eq!(host.request("GET", "/readyz?job=clear", None).0, 200);
}

#[test]
fn every_way_of_replacing_the_file_is_seen() {
    let site = Site::with_job(&guest("noop"), "");
    let host = site.start();
    host.serving("clear");
    // By `mv`.
    site.install(&guest("noop_job"));
    wait_for(&host, &guest("noop_job"));
    // In place.
    fs::write(site.plugin_file(), fs::read(guest("noop")).unwrap()).unwrap();
    wait_for(&host, &guest("noop"));
}

#[test]
fn a_changed_link_is_seen_as_kubernetes_changes_it() {
    let site = Site::with_job(&guest("noop"), "");
    let folder = site.path().join("plugins");
    let version = |name: &str, component: PathBuf| {
        fs::create_dir(folder.join(name)).unwrap();
        fs::copy(component, folder.join(name).join("plugin.wasm")).unwrap();
    };
    fs::remove_file(site.plugin_file()).unwrap();
    version("..2026_01", guest("noop"));
    symlink("..2026_01", folder.join("..data")).unwrap();
    symlink("..data/plugin.wasm", site.plugin_file()).unwrap();
    let host = site.start();
    wait_for(&host, &guest("noop"));
    version("..2026_02", guest("noop_job"));
    symlink("..2026_02", folder.join("..data_tmp")).unwrap();
    fs::rename(folder.join("..data_tmp"), folder.join("..data")).unwrap();
    wait_for(&host, &guest("noop_job"));
}

#[test]
fn a_folder_in_the_place_of_the_plugins_is_seen_where_no_wall_stands() {
    let site = Site::with_job(&guest("noop_job"), "[sandbox]\nlandlock = \"off\"\n");
    let folder = site.path().join("plugins");
    let host = site.start();
    wait_for(&host, &guest("noop_job"));
    fs::rename(&folder, site.path().join("old-plugins")).unwrap();
    fs::create_dir(&folder).unwrap();
    fs::copy(guest("noop"), site.plugin_file()).unwrap();
    wait_for(&host, &guest("noop"));
}
