//! Schedules, with the real binary: a missed time is made up for, once, and a
//! time counts as scanned when its scan went to its end.

use std::fs;

use rustix::process::Signal;

use crate::support::fuse::{Faulty, Op, When};
use crate::support::{Site, Sweepd, guest};

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
    let done = |host: &Sweepd| host.tasks("clear", "done").len();
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

/// A site whose job scans by a schedule a folder that fails as it is told to, with
/// a time that was missed.
fn missed() -> (Site, Faulty) {
    let site = Site::with_job(&guest("discovers"), "schedule = \"0 3 * * *\"\ntime_zone = \"UTC\"\n");
    let behind = site.path().join("behind");
    fs::create_dir(&behind).unwrap();
    fs::write(behind.join("found"), "").unwrap();
    let faulty = Faulty::mount(&behind, &site.videos());
    let host = site.start();
    host.serving("clear");
    host.enqueue("clear", &["queued"]);
    host.drained("clear");
    assert_eq!(host.stop(), Some(0));
    set_back(&site, 10);
    (site, faulty)
}

fn is_found(host: &Sweepd) -> bool {
    host.tasks("clear", "done").iter().any(|task| task["key"] == "found")
}

#[test]
fn a_scan_that_fails_is_tried_again_and_holds_up_no_task() {
    let (site, _healthy) = missed();
    // It fails whenever it is to scan, and at no other time.
    site.install(&guest("bad_discoveries"));
    let host = site.start();
    host.wait("the scan fails", || host.get("/v1/jobs/clear")["last_error"]["message"].to_string().contains("refused"));
    for number in 0..3 {
        host.enqueue("clear", &[format!("due-{number}")]);
        host.drained("clear");
    }
    assert!(!is_found(&host));
    site.install(&guest("discovers"));
    host.wait("the time is not lost", || is_found(&host));
    host.drained("clear");
    assert_eq!(host.stop(), Some(0));
    // It is on record: the next start does not scan again.
    fs::write(site.path().join("behind/later"), "").unwrap();
    let host = site.start();
    host.serving("clear");
    host.enqueue("clear", &["queued"]);
    host.drained("clear");
    assert!(!host.tasks("clear", "done").iter().any(|task| task["key"] == "later"));
}

#[test]
fn a_host_that_is_killed_amid_a_scan_scans_again() {
    let (site, faulty) = missed();
    faulty.fail(Op::List, "", When::Never);
    let host = site.start();
    host.serving("clear");
    host.wait("it scans", || faulty.waits());
    // Nothing of it runs any more but the call that the kernel waits for.
    host.signal(Signal::KILL);
    faulty.heal();
    assert_eq!(host.ended(), None);
    let host = site.start();
    host.wait("the time is not lost", || is_found(&host));
}
