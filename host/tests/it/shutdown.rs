//! SIGTERM and SIGHUP: what runs may end, the rest is queued again, a second signal exits.

use rustix::process::Signal;

use crate::support::{Site, guest};

#[test]
fn running_tasks_end_and_the_others_wait() {
    let site = Site::with_job(&guest("slow"), "concurrency = 1\n[job.config]\nwork_ms = 700\n");
    let host = site.start();
    let ids = host.enqueue("clear", &["first", "second", "third"]);
    host.wait("the first runs", || host.has("clear", "running"));
    assert_eq!(host.stop(), Some(0));
    let host = site.start();
    let losses: Vec<_> = ids.iter().map(|id| host.get(&format!("/v1/tasks/{id}"))["losses"].clone()).collect();
    assert!(losses.iter().all(|losses| losses == 0), "nothing was lost: {losses:?}");
    host.drained("clear");
    assert_eq!(host.tasks("clear", "done").len(), 3);
}

#[test]
fn what_does_not_end_in_its_grace_is_interrupted() {
    let more = "concurrency = 1\n[job.limits]\ntask_deadline = \"10m\"\n[job.config]\nwork_ms = 600000\n";
    let site = Site::with_job(&guest("slow"), more);
    let text = std::fs::read_to_string(site.path().join("sweepd.toml")).unwrap();
    std::fs::write(site.path().join("sweepd.toml"), text.replace("grace = \"5s\"", "grace = \"200ms\"")).unwrap();
    let host = site.start();
    let ids = host.enqueue("clear", &["endless"]);
    host.wait("it runs", || host.has("clear", "running"));
    assert_eq!(host.stop(), Some(0));
    let host = site.start();
    let task = host.get(&format!("/v1/tasks/{}", ids[0]));
    assert_eq!((task["attempts"].as_u64(), task["losses"].as_u64()), (Some(0), Some(0)), "{task}");
}

#[test]
fn a_second_signal_ends_at_once() {
    let more = "concurrency = 1\n[job.limits]\ntask_deadline = \"10m\"\n[job.config]\nwork_ms = 600000\n";
    let site = Site::with_job(&guest("slow"), more);
    let text = std::fs::read_to_string(site.path().join("sweepd.toml")).unwrap();
    std::fs::write(site.path().join("sweepd.toml"), text.replace("grace = \"5s\"", "grace = \"10m\"")).unwrap();
    let host = site.start();
    host.enqueue("clear", &["endless"]);
    host.wait("it runs", || host.has("clear", "running"));
    host.signal(Signal::TERM);
    host.wait("it stops", || host.log().contains("stopping for SIGTERM"));
    assert_ne!(host.stop(), Some(0));
}

#[test]
fn a_terminal_that_goes_is_a_graceful_stop() {
    let site = Site::with_job(&guest("slow"), "concurrency = 1\n[job.config]\nwork_ms = 700\n");
    let host = site.start();
    let id = host.enqueue("clear", &["first"])[0];
    host.wait("it runs", || host.has("clear", "running"));
    host.signal(Signal::HUP);
    host.says("stopping for SIGHUP");
    // The shell sends it, and the kernel once more.
    host.signal(Signal::HUP);
    assert_eq!(host.ended(), Some(0));
    let host = site.start();
    assert_eq!(host.get(&format!("/v1/tasks/{id}"))["state"], "done", "it was let end");
}

#[test]
fn a_host_that_is_to_outlive_its_terminal_does() {
    let site = Site::with_job(&guest("noop"), "");
    let host = site.try_start_after("trap '' HUP").unwrap();
    host.serving("clear");
    host.signal(Signal::HUP);
    host.enqueue("clear", &["a"]);
    host.drained("clear");
    let log = host.whole_log();
    assert!(log.contains("stopping for SIGTERM") && !log.contains("SIGHUP"), "{log}");
}
