//! A job takes away no more than its budget: it pauses itself before, says so,
//! and goes on when a person lets it.

use std::fs;

use serde_json::Value;

use crate::cli::{beside, run};
use crate::support::{Site, Sweepd, plugin};

const FILES: u32 = 10;

/// A site with ten files of 100 bytes and a task for each, queued before there
/// is a host, so that one sweep meets all.
fn ten(budget: &str) -> Site {
    let site = Site::with_job(&plugin("video-clear"), &format!("concurrency = 2\n[job.budget]\n{budget}\n"));
    for number in 0..FILES {
        fs::write(site.videos().join(format!("video-{number:07}")), [7; 100]).unwrap();
    }
    site.fill_queue("clear", FILES);
    site
}

fn left(site: &Site) -> usize {
    let is_video = |entry: &fs::DirEntry| !entry.file_name().to_string_lossy().starts_with('.');
    fs::read_dir(site.videos()).unwrap().filter(|entry| is_video(entry.as_ref().unwrap())).count()
}

fn is_paused(host: &Sweepd) -> String {
    let mut why = Value::Null;
    host.wait("the job is paused", || {
        why = host.get("/v1/jobs/clear")["paused"].clone();
        why.is_string()
    });
    why.as_str().unwrap().to_owned()
}

/// The job pauses after `taken` files for this reason, and no task is charged.
fn stops_after(site: &Site, host: &Sweepd, taken: usize, reason: &str) {
    let why = is_paused(host);
    assert!(why.contains(reason), "{why}");
    assert_eq!(left(site), FILES as usize - taken, "{why}");
    let pending = host.tasks("clear", "pending");
    assert_eq!((pending.len(), host.tasks("clear", "running").len()), (FILES as usize - taken, 0));
    assert!(pending.iter().all(|task| task["attempts"] == 0 && task["losses"] == 0), "{pending:?}");
}

#[test]
fn a_sweep_takes_no_more_files_than_it_may() {
    let site = ten("sweep_files = 3");
    let host = site.start();
    stops_after(&site, &host, 3, "over budget: the job may take away 3 files in one sweep");
    let status = host.get("/v1/jobs/clear");
    assert!(status["last_error"]["message"].as_str().unwrap().contains("over budget"), "{status}");
    assert_eq!(
        (&status["taken"]["sweep"]["files"], &status["taken"]["budget"]["sweep"]["files"]),
        (&3.into(), &3.into())
    );
    host.says("paused: over budget");
    let said = beside(&site, &host, &["status", "--check"]).exits(2);
    assert!(said.out.contains("clear: paused: over budget"), "{}", said.out);
    // How much that is of the disk is the file system's affair.
    assert!(said.out.contains("took away 3 files ("), "{}", said.out);
    assert!(said.out.contains(") in the last sweep of at most 3 files, 3 files ("), "{}", said.out);
    said.says("clear: paused: over budget");

    // Resumed, it takes as many again. By a command, beside the host.
    let said = run(&site, &["resume", "clear"]).exits(0);
    assert!(said.out.starts_with("clear is resumed; it was paused: over budget"), "{}", said.out);
    host.wait("it goes on and pauses again", || {
        let status = host.get("/v1/jobs/clear");
        left(&site) == 4 && status["paused"].is_string()
    });
    stops_after(&site, &host, 6, "3 files in one sweep");
    let said = run(&site, &["resume", "clear", "--once-over-budget"]).exits(0);
    assert!(said.out.contains("its next sweep may go over the budget"), "{}", said.out);
    host.drained("clear");
    assert_eq!((left(&site), host.tasks("clear", "done").len()), (0, 10));
    // Once: the next is bounded again.
    for number in 0..FILES {
        fs::write(site.videos().join(format!("video-{number:07}")), [7; 100]).unwrap();
    }
    run(&site, &["pause", "clear", "--why", "to queue them together"]).exits(0);
    assert_eq!(is_paused(&host), "to queue them together");
    host.enqueue("clear", &(0..FILES).map(|number| format!("video-{number:07}")).collect::<Vec<_>>());
    run(&site, &["resume", "clear"]).exits(0);
    host.wait("it pauses itself", || {
        host.get("/v1/jobs/clear")["paused"].as_str().is_some_and(|why| why.contains("over budget"))
    });
    assert_eq!(left(&site), 7);
}

#[test]
fn a_sweep_takes_no_more_bytes_than_it_may() {
    // By what they take of the disk: a block each.
    let site = ten("sweep_bytes = \"10KiB\"");
    let host = site.start();
    stops_after(&site, &host, 2, "the job may take away 10.0 KiB in one sweep");
}

#[test]
fn a_sweep_takes_no_larger_share_than_it_may() {
    let site = ten("sweep_share = \"40%\"");
    let host = site.start();
    stops_after(&site, &host, 4, "40% of 10 files in one sweep");
}

/// A share is one of the files that stood there before: plan, preflight and run
/// say the same of a sweep that is just within it, and of one that is not.
#[test]
fn plan_preflight_and_run_agree_about_a_share() {
    for (queued, within) in [(5, true), (6, false)] {
        for preflight in [false, true] {
            let more = format!("preflight = {preflight}\n[job.budget]\nsweep_share = \"50%\"\nhour_share = \"50%\"\n");
            let site = Site::with_job(&plugin("video-clear"), &more);
            for number in 0..FILES {
                fs::write(site.videos().join(format!("video-{number:07}")), [7; 100]).unwrap();
            }
            site.fill_queue("clear", queued);
            let planned = over_in_plan(&site);
            let host = site.start();
            if within {
                assert_eq!(planned, Value::Null);
                host.drained("clear");
                assert_eq!((left(&site), &host.get("/v1/jobs/clear")["paused"]), (5, &Value::Null));
            } else {
                let over = "over budget: the job may take away 50% of 10 files in one sweep, and asks for more";
                assert_eq!(planned, over);
                let why = is_paused(&host);
                assert!(why.contains(over), "{why}");
                assert_eq!(left(&site), if preflight { 10 } else { 5 }, "{why}");
            }
        }
    }
}

/// What a plan says that the budget would be exceeded by.
fn over_in_plan(site: &Site) -> Value {
    let said = run(site, &["plan", "clear", "--json"]).exits(0);
    let last: Value = serde_json::from_str(said.out.lines().last().unwrap()).unwrap();
    last["summary"]["over_budget"].clone()
}

/// After a restart the hour's share is still one of what stood there when the
/// hour began, and what the hour has seen counts in plan and preflight as well.
#[test]
fn the_share_of_an_hour_goes_on_over_a_restart() {
    for preflight in [false, true] {
        let more = format!("preflight = {preflight}\n[job.budget]\nhour_share = \"50%\"\n");
        let site = Site::with_job(&plugin("video-clear"), &more);
        for number in 0..FILES {
            fs::write(site.videos().join(format!("video-{number:07}")), [7; 100]).unwrap();
        }
        site.fill_queue("clear", 3);
        let host = site.start();
        host.drained("clear");
        assert_eq!(left(&site), 7);
        // Within the same life, and after a restart.
        host.enqueue("clear", &["video-0000003"]);
        host.drained("clear");
        host.kill();
        let queue = |key: &str| run(&site, &["enqueue", "clear", key]).exits(0);
        queue("video-0000004");
        assert_eq!(over_in_plan(&site), Value::Null, "five of ten");
        let host = site.start();
        host.drained("clear");
        assert_eq!((left(&site), &host.get("/v1/jobs/clear")["paused"]), (5, &Value::Null));
        assert_eq!(host.stop(), Some(0));
        queue("video-0000005");
        let over = "over budget: the job may take away 50% of 10 files in an hour, and asks for more";
        assert_eq!(over_in_plan(&site), over);
        let host = site.start();
        let why = is_paused(&host);
        assert!(why.contains(over), "{why}");
        assert_eq!(left(&site), 5);
    }
}

#[test]
fn an_hour_goes_on_over_a_restart() {
    let site = ten("hour_files = 5\nhour_bytes = \"1MiB\"");
    let host = site.start();
    stops_after(&site, &host, 5, "5 files in an hour");
    host.kill();
    let host = site.start();
    host.serving("clear");
    stops_after(&site, &host, 5, "5 files in an hour");
    let (status, body) = host.request("POST", "/v1/jobs/clear/resume", None);
    assert_eq!(status, 200, "{body}");
    host.wait("it tried", || host.get("/v1/jobs/clear")["last_error"].is_object());
    stops_after(&site, &host, 5, "5 files in an hour");
    let once = serde_json::json!({ "once_over_budget": true });
    assert_eq!(host.request("POST", "/v1/jobs/clear/resume", Some(&once)).0, 200);
    host.drained("clear");
    assert_eq!(left(&site), 0);
}

#[test]
fn an_hour_bounds_bytes_as_well() {
    let site = ten("hour_bytes = \"14KiB\"");
    let host = site.start();
    stops_after(&site, &host, 3, "the job may take away 14.0 KiB in an hour");
}

#[test]
fn a_job_is_paused_and_resumed_by_commands_without_a_host() {
    let site = ten("hour_files = 100");
    let said = run(&site, &["pause", "clear", "--why", "lunch"]).exits(0);
    assert!(said.out.starts_with("clear is paused: lunch; "), "{}", said.out);
    let host = site.start();
    host.serving("clear");
    assert_eq!(is_paused(&host), "lunch");
    assert_eq!(left(&site), 10);
    run(&site, &["resume", "claer"]).exits(1).says("did you mean `clear`?");
    run(&site, &["resume", "clear"]).exits(0);
    host.drained("clear");
    assert_eq!(left(&site), 0);
    let said = run(&site, &["resume", "clear"]).exits(0);
    assert!(said.out.starts_with("clear was not paused"), "{}", said.out);
}
