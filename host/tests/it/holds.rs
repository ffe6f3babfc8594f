//! What is held is not touched, by whomever the hold was put there.

use std::fs;

use serde_json::{Value, json};
use sweepd::domain::time::Clock;

use crate::cli::{beside, run};
use crate::support::{Site, Sweepd, plugin};

fn site() -> (Site, Sweepd) {
    let site = Site::with_job(&plugin("video-clear"), "");
    for name in ["a", "b"] {
        fs::write(site.videos().join(name), name).unwrap();
    }
    let host = site.start();
    host.serving("clear");
    (site, host)
}

fn task(host: &Sweepd, id: u64) -> Value {
    host.get(&format!("/v1/tasks/{id}"))
}

/// It waits because of the hold, and says so: it was postponed since this was
/// asked, or just before.
fn is_held_back(host: &Sweepd, id: u64, why: &str) {
    let began = Clock::system().now().0;
    host.wait("it is postponed", || {
        let task = task(host, id);
        task["note"].as_str().is_some_and(|note| note.contains(why))
            && task["state"] == "pending"
            && task["run_at"].as_u64() > Some(began + 500)
    });
}

#[test]
fn a_hold_over_http_holds_from_the_answer_on() {
    let (site, host) = site();
    let new = json!({ "pattern": "a", "why": "case 17" });
    let (status, body) = host.request("POST", "/v1/jobs/clear/holds", Some(&new));
    assert_eq!(status, 201, "{body}");
    let hold: Value = serde_json::from_str(&body).unwrap();
    let ids = host.enqueue("clear", &["a", "b"]);
    is_held_back(&host, ids[0], "case 17");
    host.wait("the other goes", || task(&host, ids[1])["state"] == "done");
    assert!(site.videos().join("a").exists() && !site.videos().join("b").exists());
    assert_eq!(host.get("/v1/jobs/clear")["holds"], 1);
    // The same once more is the same.
    let (_, again) = host.request("POST", "/v1/jobs/clear/holds", Some(&new));
    assert_eq!(serde_json::from_str::<Value>(&again).unwrap()["id"], hold["id"]);
    assert_eq!(host.get("/v1/jobs/clear/holds")["holds"].as_array().map(Vec::len), Some(1));

    let (status, body) = host.request("DELETE", &format!("/v1/jobs/clear/holds/{}", hold["id"]), None);
    assert_eq!(status, 200, "{body}");
    assert_eq!(host.request("POST", &format!("/v1/tasks/{}/retry", ids[0]), None).0, 200);
    host.wait("it goes", || task(&host, ids[0])["state"] == "done");
    assert!(!site.videos().join("a").exists());
    assert_eq!(host.request("DELETE", &format!("/v1/jobs/clear/holds/{}", hold["id"]), None).0, 404);
    let past = json!({ "pattern": "a", "why": "x", "until": 1 });
    let (status, body) = host.request("POST", "/v1/jobs/clear/holds", Some(&past));
    assert!(status == 422 && body.contains("is past"), "{status}: {body}");
}

#[test]
fn a_hold_by_a_command_is_taken_up_at_the_next_heartbeat() {
    let (site, host) = site();
    let said = run(&site, &["hold", "add", "clear", "**", "--until", "30d", "--why", "an audit"]).exits(0);
    assert!(said.out.contains("hold 1 on ** until 2") && said.out.contains("next heartbeat"), "{}", said.out);
    host.wait("it is taken up", || host.get("/v1/jobs/clear")["holds"] == 1);
    let ids = host.enqueue("clear", &["a"]);
    is_held_back(&host, ids[0], "an audit");
    assert!(site.videos().join("a").exists());
    let said = beside(&site, &host, &["status"]).exits(0);
    assert!(said.out.contains("clear: 1 hold (sweepd hold list clear)"), "{}", said.out);

    // It outlives the host.
    assert_eq!(host.stop(), Some(0));
    let host = site.start();
    host.serving("clear");
    assert_eq!(host.get("/v1/jobs/clear")["holds"], 1);
    assert_eq!(host.request("POST", &format!("/v1/tasks/{}/retry", ids[0]), None).0, 200);
    is_held_back(&host, ids[0], "an audit");
    assert!(site.videos().join("a").exists());

    let listed = run(&site, &["hold", "list", "clear", "--json"]).exits(0).json();
    assert_eq!((&listed["holds"][0]["pattern"], &listed["holds"][0]["why"]), (&json!("**"), &json!("an audit")));
    let said = run(&site, &["hold", "list", "clear"]).exits(0);
    assert!(said.out.lines().nth(1).is_some_and(|row| row.contains("an audit")), "{}", said.out);
    run(&site, &["hold", "remove", "clear", "1"]).exits(0);
    run(&site, &["hold", "remove", "clear", "1"]).exits(1).says("there is no hold 1 of clear");
    host.wait("it is taken up", || host.get("/v1/jobs/clear")["holds"] == 0);
    assert_eq!(host.request("POST", &format!("/v1/tasks/{}/retry", ids[0]), None).0, 200);
    host.wait("it goes", || task(&host, ids[0])["state"] == "done");
}

#[test]
fn a_hold_that_holds_nothing_is_refused() {
    let site = Site::with_job(&plugin("video-clear"), "");
    for bad in ["x/../a", "..", "/", "./."] {
        run(&site, &["hold", "add", "clear", bad, "--why", "x"]).exits(2).says("is no pattern");
    }
    run(&site, &["hold", "add", "clear", "a", "--why", ""]).exits(2).says("--why");
    run(&site, &["hold", "add", "claer", "a", "--why", "x"]).exits(1).says("did you mean `clear`?");
    let past = ["hold", "add", "clear", "a", "--why", "x", "--until", "2000-01-01T00:00:00Z"];
    run(&site, &past).exits(1).says("is past");
    assert_eq!(run(&site, &["hold", "list", "clear", "--json"]).exits(0).json(), json!({ "holds": [] }));
}

/// Only `*`, `?` and `**` mean anything; whatever else is in a name is the name.
#[test]
fn a_hold_means_what_it_says() {
    let names = ["film [HD].mp4", "{a,b}", "[!x]", "c++ (1).ts", "é1"];
    let patterns = ["film [HD].mp4", "{a,b}", "./[!x]", "c++ (1).t?", "?1"];
    let site = Site::with_job(&plugin("video-clear"), "");
    for name in names {
        fs::write(site.videos().join(name), name).unwrap();
    }
    fs::create_dir(site.videos().join("[old]")).unwrap();
    fs::write(site.videos().join("[old]/kept"), "").unwrap();
    for (number, pattern) in (1..).zip(patterns) {
        let said = run(&site, &["hold", "add", "clear", pattern, "--why", "law"]).exits(0);
        assert!(said.out.contains(&format!("hold {number} on {}", pattern.trim_start_matches("./"))), "{}", said.out);
        assert!(said.out.contains("it holds 1 file now, such as /"), "{pattern}: {}", said.out);
        assert_eq!(said.err, "", "{pattern}");
    }
    let host = site.start();
    host.serving("clear");
    let new = json!({ "pattern": "[old]/**", "why": "law" });
    let (status, body) = host.request("POST", "/v1/jobs/clear/holds", Some(&new));
    assert_eq!(status, 201, "{body}");
    let placed: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((&placed["now"]["files"], &placed["now"]["complete"]), (&json!(1), &json!(true)), "{placed}");
    let example = placed["now"]["example"].as_str().unwrap();
    assert!(example.ends_with("/[old]/kept") && placed.get("warning").is_none(), "{placed}");

    fs::write(site.videos().join("free"), "").unwrap();
    let keys: Vec<_> = names.into_iter().chain(["[old]", "free"]).collect();
    let ids = host.enqueue("clear", &keys);
    host.wait("what is free goes", || !site.videos().join("free").exists());
    for id in &ids[..=names.len()] {
        host.wait("it is held", || task(&host, *id)["note"].as_str().is_some_and(|note| note.contains("law")));
    }
    for name in names.into_iter().chain(["[old]/kept"]) {
        assert!(site.videos().join(name).exists(), "{name} is gone");
    }
}

#[test]
fn a_hold_that_holds_nothing_now_is_put_in_place_with_a_warning() {
    let (site, host) = site();
    let said = run(&site, &["hold", "add", "clear", "holidays/**", "--why", "law"]).exits(0);
    assert!(said.out.contains("it holds 0 files now"), "{}", said.out);
    assert!(said.err.contains("warning: it holds no file now; check the pattern"), "{}", said.err);
    let new = json!({ "pattern": "[a]", "why": "law" });
    let (status, body) = host.request("POST", "/v1/jobs/clear/holds", Some(&new));
    assert!(status == 201 && body.contains("it holds no file now; check the pattern"), "{status}: {body}");
    // A mount that is gone is told, and the hold stands all the same.
    fs::remove_dir_all(site.videos()).unwrap();
    let new = json!({ "pattern": "a", "why": "law" });
    let (status, body) = host.request("POST", "/v1/jobs/clear/holds", Some(&new));
    let placed: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, &placed["now"]["complete"]), (201, &json!(false)), "{body}");
    assert!(placed["now"]["error"].is_string() && placed.get("warning").is_none(), "{body}");
}

/// Mounts are known by their real paths: a hold by way of a link is put on what
/// the link leads to, and one that reaches no mount is refused.
#[test]
fn a_hold_by_way_of_a_link_holds_what_it_leads_to() {
    let site = Site::with_job(&plugin("video-clear"), "");
    std::os::unix::fs::symlink(site.videos(), site.path().join("link")).unwrap();
    let hold = |args: &[&str]| site.command(&[&["hold"], args].concat()).output().unwrap();
    let by_link = site.path().join("link/2024/**").display().to_string();
    let added = hold(&["add", "clear", &by_link, "--why", "law"]);
    assert!(added.status.success(), "{}", String::from_utf8_lossy(&added.stderr));
    let real = site.videos().canonicalize().unwrap().join("2024/**").display().to_string();
    let listed = String::from_utf8(hold(&["list", "clear", "--json"]).stdout).unwrap();
    assert!(listed.contains(&real), "{listed}");
    let outside = hold(&["add", "clear", "/nowhere/2024", "--why", "law"]);
    let said = String::from_utf8_lossy(&outside.stderr);
    assert!(!outside.status.success() && said.contains("holds nothing: the mounts of the job are"), "{said}");
}
