//! Schedules, with the real binary: a missed time is made up for, once.

use std::fs;

use crate::support::{Site, guest};

/// Sets back when the job's schedule was last scanned, as if the host had been
/// down since.
fn set_back(site: &Site, days: i64) {
    let database = rusqlite::Connection::open(site.path().join("state/sweepd.db")).unwrap();
    let changed = database.execute("UPDATE jobs SET scheduled = scheduled - ?1", [days * 86_400_000]).unwrap();
    assert_eq!(changed, 1);
}

#[test]
fn missed_times_are_one_scan() {
    let site = Site::with_job(&guest("discovers"), "schedule = \"0 3 * * *\"\ntime_zone = \"Europe/Berlin\"\n");
    fs::write(site.videos().join("found"), "").unwrap();
    let host = site.start();
    host.serving("clear");
    host.enqueue("clear", &["queued"]);
    host.drained("clear");
    let done = |host: &crate::support::Sweepd| host.tasks("clear", "done").len();
    assert_eq!(done(&host), 1, "what is queued is swept, and nothing is scanned");
    assert_eq!(host.stop(), Some(0));

    set_back(&site, 10);
    let host = site.start();
    host.wait("the missed scan is made up for", || done(&host) == 2);
    // Ten times were missed; ticks of 200 ms go by.
    for _ in 0..3 {
        host.enqueue("clear", &["queued"]);
        host.drained("clear");
    }
    let found = host.tasks("clear", "done").iter().filter(|task| task["key"] == "found").count();
    assert_eq!(found, 1);
}
