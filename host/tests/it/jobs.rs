//! Several jobs in one host; pause, resume and sweep by hand.

use std::fs;

use crate::support::{Site, guest, plugin};

#[test]
fn jobs_have_their_own_plugins_and_folders() {
    let site = Site::new();
    for (name, component) in [("clear", plugin("video-clear")), ("keep", plugin("video-archive"))] {
        fs::copy(component, site.path().join(format!("plugins/{name}.wasm"))).unwrap();
        fs::create_dir(site.path().join(name)).unwrap();
        fs::write(site.path().join(name).join("v"), "").unwrap();
    }
    site.configure(
        "[[job]]\nname = \"clear\"\nplugin = \"plugins/clear.wasm\"\nmounts = [\"clear\"]\n\
         [[job]]\nname = \"keep\"\nplugin = \"plugins/keep.wasm\"\nmounts = [\"keep\"]\n",
    );
    let host = site.start();
    for job in ["clear", "keep"] {
        host.enqueue(job, &["v"]);
        host.drained(job);
    }
    assert!(!site.path().join("clear/v").exists());
    assert!(site.path().join("keep/archive/v").exists());
}

#[test]
fn a_paused_job_changes_nothing_until_it_is_resumed() {
    let site = Site::with_job(&plugin("video-clear"), "");
    fs::write(site.videos().join("v"), "").unwrap();
    let host = site.start();
    host.serving("clear");
    assert!(host.request("POST", "/v1/jobs/clear/pause", None).0 < 300);
    host.enqueue("clear", &["v"]);
    let (status, body) = host.request("POST", "/v1/jobs/clear/sweep", None);
    assert_eq!(status, 409, "{body}");
    // Through a restart as well.
    assert_eq!(host.stop(), Some(0));
    let host = site.start();
    host.serving("clear");
    assert!(host.get("/v1/jobs/clear")["paused"].is_string());
    assert!(site.videos().join("v").exists());
    assert!(host.request("POST", "/v1/jobs/clear/resume", None).0 < 300);
    host.drained("clear");
    assert!(!site.videos().join("v").exists());
}

#[test]
fn a_pause_interrupts_what_runs_and_costs_no_attempt() {
    let more = "[job.limits]\ntask_deadline = \"10m\"\n[job.config]\nwork_ms = 600000\n";
    let site = Site::with_job(&guest("slow"), more);
    let host = site.start();
    let ids = host.enqueue("clear", &["long"]);
    host.wait("it runs", || host.has("clear", "running"));
    assert!(host.request("POST", "/v1/jobs/clear/pause", None).0 < 300);
    let task = host.get(&format!("/v1/tasks/{}", ids[0]));
    assert_eq!((task["state"].as_str(), task["attempts"].as_u64()), (Some("pending"), Some(0)), "{task}");
}

/// A job whose clock does not come round during a test.
fn without_ticks() -> Site {
    let site = Site::new();
    site.install(&guest("noop"));
    site.configure(
        "[[job]]\nname = \"clear\"\nplugin = \"plugins/plugin.wasm\"\nmounts = [\"videos\"]\ninterval = \"1h\"\n",
    );
    site
}

#[test]
fn an_enqueue_wakes_the_job() {
    let site = without_ticks();
    let host = site.start();
    host.serving("clear");
    // Its first sweep, which needs no waking, is over.
    let (status, body) = host.request("POST", "/v1/jobs/clear/sweep?wait=true", None);
    assert_eq!(status, 200, "{body}");
    for round in 0..3 {
        host.enqueue("clear", &[format!("video-{round}")]);
        host.drained("clear");
    }
}

/// A host that would look by itself only in ten minutes: longer than the test waits.
#[test]
fn a_command_beside_the_host_wakes_it() {
    let site = Site::new();
    site.install(&plugin("video-clear"));
    site.configure(
        "[[job]]\nname = \"clear\"\nplugin = \"plugins/plugin.wasm\"\nmounts = [\"videos\"]\ninterval = \"10m\"\n",
    );
    let host = site.start();
    host.serving("clear");
    // Its first sweep, which needs no waking, is over.
    let (status, body) = host.request("POST", "/v1/jobs/clear/sweep?wait=true", None);
    assert_eq!(status, 200, "{body}");
    for video in ["a.mp4", "b.mp4"] {
        let file = site.videos().join(video);
        fs::write(&file, "").unwrap();
        assert!(site.command(&["enqueue", "clear", video]).output().unwrap().status.success());
        // No tick comes round in the time that this waits.
        host.wait("the video is gone", || !file.exists());
    }
}

#[test]
fn a_running_key_gets_one_successor() {
    let more = "concurrency = 1\n[job.limits]\ntask_deadline = \"20m\"\n";
    let site = Site::with_job(&guest("waits_until_told"), more);
    let host = site.start();
    let first = host.enqueue("clear", &["v"])[0];
    host.wait("it runs", || host.get(&format!("/v1/tasks/{first}"))["state"] == "running");
    assert_eq!(host.enqueue("clear", &["v", "v"]), [first, first]);
    fs::write(site.videos().join("go"), "").unwrap();
    host.drained("clear");
    let done = host.tasks("clear", "done");
    assert_eq!(done.len(), 2, "{done:?}");
}

#[test]
fn a_sweep_by_hand_answers_with_its_report() {
    let site = without_ticks();
    let host = site.start();
    host.serving("clear");
    let (status, body) = host.request("POST", "/v1/jobs/clear/sweep?wait=true", None);
    assert_eq!(status, 200, "{body}");
    let report: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert!(report["started_at"].as_u64().is_some_and(|at| at > 0), "{report}");
}

/// A pause that a guest meets in the middle of its file calls is no failure of
/// the task: the folder is left half removed, and the next run goes on.
#[test]
fn a_pause_met_in_a_file_call_costs_no_attempt() {
    const FILES: usize = 60_000;
    let site = Site::with_job(&plugin("video-clear"), "");
    let big = site.videos().join("big");
    fs::create_dir(&big).unwrap();
    (0..FILES).for_each(|number| fs::write(big.join(number.to_string()), "").unwrap());
    let host = site.start();
    host.serving("clear");
    let ids = host.enqueue("clear", &["big"]);
    host.wait("it runs", || host.has("clear", "running"));
    let (status, body) = host.request("POST", "/v1/jobs/clear/pause", None);
    assert_eq!(status, 200, "{body}");
    let task = host.get(&format!("/v1/tasks/{}", ids[0]));
    assert_eq!((task["state"].as_str(), task["attempts"].as_u64()), (Some("pending"), Some(0)), "{task}");
    let left = || fs::read_dir(&big).unwrap().count();
    let after_the_pause = left();
    assert!(after_the_pause > 0);
    assert!(host.request("POST", "/v1/jobs/clear/pause", None).0 < 300);
    assert_eq!(left(), after_the_pause, "nothing is changed after a pause");
    assert!(host.request("POST", "/v1/jobs/clear/resume", None).0 < 300);
    host.drained("clear");
    assert!(!big.exists());
}
