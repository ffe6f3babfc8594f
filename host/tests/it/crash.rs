//! kill -9 at any moment: what was acknowledged is done after a restart.

use std::fs;
use std::time::Duration;

use crate::support::{Site, plugin};

const TASKS: usize = 5_000;
const KILLS: usize = 30;

#[test]
fn thirty_kills_during_five_thousand_tasks() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let site = Site::with_job(&plugin("video-clear"), "concurrency = 2\n");
    let keys: Vec<String> = (0..TASKS).map(|number| format!("video-{number:05}")).collect();
    for key in &keys {
        fs::write(site.videos().join(key), key).unwrap();
    }
    let mut sent = 0;
    for round in 1..=KILLS {
        let host = site.start();
        // Every life gets its share of new work, so that each is killed in the middle of some.
        let share = TASKS * round / KILLS;
        host.enqueue("clear", &keys[sent..share]);
        sent = share;
        std::thread::sleep(Duration::from_millis(random.u64(0..150)));
        host.kill();
    }
    let host = site.start();
    host.drained("clear");
    assert_eq!(host.tasks("clear", "dead"), Vec::<serde_json::Value>::new(), "seed {seed}");
    let done = host.tasks("clear", "done");
    assert_eq!(done.len(), TASKS, "seed {seed}");
    let left = fs::read_dir(site.videos())
        .unwrap()
        .filter(|entry| !entry.as_ref().unwrap().file_name().to_string_lossy().starts_with(".sweepd-"))
        .count();
    assert_eq!(left, 0, "seed {seed}");
}

/// A task that takes its host down with it is found: from its second loss on
/// each loss is an attempt, and its neighbours lose none.
#[test]
fn a_task_that_kills_its_host_is_buried_alone() {
    let more = "concurrency = 1\n[job.limits]\ntask_deadline = \"60s\"\n[job.retry]\nmax_attempts = 2\nbackoff = \"10ms\"\n\
                [job.config]\nwork_ms = 60000\n";
    let site = Site::with_job(&crate::support::guest("slow"), more);
    let host = site.start();
    let ids = host.enqueue("clear", &["killer", "innocent"]);
    let state = |host: &crate::support::Sweepd, id: u64| {
        host.get(&format!("/v1/tasks/{id}"))["state"].as_str().unwrap().to_owned()
    };
    host.wait("it runs", || state(&host, ids[0]) == "running");
    host.kill();
    for _ in 0..2 {
        let host = site.start();
        host.wait("it runs again, alone", || state(&host, ids[0]) == "running");
        assert_eq!(state(&host, ids[1]), "pending");
        host.kill();
    }
    let host = site.start();
    host.wait("it is buried", || state(&host, ids[0]) == "dead");
    let note = host.get(&format!("/v1/tasks/{}", ids[0]))["note"].as_str().unwrap().to_owned();
    assert!(note.contains("lost 3 times"), "{note}");
    host.wait("its neighbour runs", || state(&host, ids[1]) == "running");
    assert_eq!(host.get(&format!("/v1/tasks/{}", ids[1]))["attempts"], 0);
}
