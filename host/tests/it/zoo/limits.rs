//! Guests that ask for more than there is: each costs what guarantee 8 says,
//! and the host and the other jobs go on.

use std::fs;

use super::{ended, note};
use crate::guests::{
    PATIENT, QUICK, beside_another_job, charges_no_task, costs_the_task_its_attempts, other_works, task,
};
use crate::support::Sweepd;

const ROOMY: &str = "[job.limits]\nmemory = \"512MiB\"\nanswer = \"512MiB\"\n";

/// The bound of the stack (`plugin/engine.rs`).
#[test]
fn a_recursion_without_end_costs_one_attempt() {
    costs_the_task_its_attempts("recurses", PATIENT, "stack");
}

/// It passed its trial, and fails when it is started for a task.
#[test]
fn a_start_that_traps_charges_no_task() {
    charges_no_task("traps_at_start", PATIENT, "unreachable");
}

/// What does not get through its trial (`Plugin::try_start`) never serves.
fn is_not_taken(name: &str, said: &str) {
    let (_site, host) = beside_another_job(name, QUICK, "");
    let ids = host.enqueue("clear", &["bystander"]);
    host.wait("the failure is said", || {
        host.get("/v1/jobs/clear")["slot"]["error"]["message"].as_str().is_some_and(|message| message.contains(said))
    });
    assert_eq!(task(&host, ids[0])["attempts"], 0);
    other_works(&host);
}

/// The deadline holds from the first instruction on.
#[test]
fn a_start_that_loops_is_not_taken() {
    is_not_taken("loops_at_start", "deadline");
}

/// The bounds of memory and time do, too.
#[test]
fn a_start_that_eats_memory_is_not_taken() {
    is_not_taken("eats_memory_at_start", "deadline");
}

/// Without the cut a note of 100 MB would be stored.
#[test]
fn an_answer_that_is_too_long_is_cut_or_refused() {
    let (_site, host) = beside_another_job("says_too_much", ROOMY, "");
    for key in ["done", "skipped", "failure"] {
        let task = ended(&host, key);
        assert!(task["note"].as_str().is_some_and(|note| note.len() <= 4096), "{key}");
    }
    other_works(&host);
}

#[test]
fn a_cursor_of_100_mb_is_refused() {
    charges_no_task("huge_cursor", ROOMY, "cursor");
}

#[test]
fn a_million_discoveries_are_refused() {
    charges_no_task("million_discoveries", ROOMY, "discoveries");
}

/// The table of a guest's resources is bounded (`sandbox/guest.rs`): it gets an
/// error, or its call ends, before the host has none left.
#[test]
fn a_flood_of_descriptors_ends() {
    let (site, host) = beside_another_job("floods_descriptors", PATIENT, "");
    fs::write(site.videos().join("file"), "").unwrap();
    for key in ["file", "streams", "waits"] {
        let task = ended(&host, key);
        assert!(!task["note"].as_str().unwrap().contains("then nothing"), "{key}: {task}");
        other_works(&host);
    }
    // Nothing of it stays open.
    let open = || fs::read_dir(format!("/proc/{}/fd", host.pid())).unwrap().count();
    host.wait("they are closed", || open() < 200);
}

/// The threads that look up ahead, without those that the kernel is ending.
fn threads_ahead(host: &Sweepd) -> usize {
    const PF_EXITING: u64 = 4;
    let is_ahead = |stat: &String| {
        let (name, rest) = stat.split_once(" (").unwrap().1.rsplit_once(") ").unwrap();
        let flags: u64 = rest.split(' ').nth(6).unwrap().parse().unwrap();
        name == "sweepd-ahead" && flags & PF_EXITING == 0
    };
    // First all that there are: who is met later was there at the same time.
    let threads: Vec<_> = fs::read_dir(format!("/proc/{}/task", host.pid())).unwrap().flatten().collect();
    let stats = threads.iter().filter_map(|thread| fs::read_to_string(thread.path().join("stat")).ok());
    stats.filter(is_ahead).count()
}

/// The threads that look up ahead are bounded (`MOST_AHEAD` in `sandbox/guard.rs`),
/// whether listings stay open or follow each other, and go with the listings.
#[test]
fn many_scans_at_a_time_take_few_threads() {
    let limits = "[job.limits]\nmemory = \"16MiB\"\ndispatch_deadline = \"5m\"\n";
    let (site, host) = beside_another_job("scans_many", limits, "");
    // More than are looked up ahead: the threads wait for the guest.
    let (folders, files) = (8, 4_000);
    for folder in 0..folders {
        let folder = site.videos().join(format!("folder-{folder}"));
        fs::create_dir(&folder).unwrap();
        (0..files).for_each(|file| fs::write(folder.join(file.to_string()), "7").unwrap());
    }
    let ids = host.enqueue("clear", &["go"]);
    let mut most = 0;
    host.wait("it keeps its listings open", || {
        most = most.max(threads_ahead(&host));
        most >= 2
    });
    fs::write(site.videos().join("seen"), "").unwrap();
    host.wait("it has scanned", || {
        most = most.max(threads_ahead(&host));
        task(&host, ids[0])["state"] == "done"
    });
    assert_eq!(most, 2, "threads");
    // 150 of each folder, twice.
    host.says("1200 bytes and 1200 bytes");
    host.wait("they have ended", || threads_ahead(&host) == 0);
    other_works(&host);
}

#[test]
fn preopens_are_no_way_to_more() {
    let (site, host) = beside_another_job("juggles_preopens", PATIENT, "");
    fs::write(site.path().join("outside.txt"), "s3cret").unwrap();
    let task = ended(&host, "drop");
    assert!(!note(&task).contains("true"), "{task}");
    // All of them do not fit into the table of its resources.
    assert_eq!(ended(&host, "keep")["state"], "dead");
    other_works(&host);
}

/// What a guest asks the host to have ready is bounded, each in its place.
#[test]
fn asking_for_too_much_gives_less() {
    let (site, host) = beside_another_job("asks_for_too_much", PATIENT, "");
    fs::write(site.videos().join("file"), "content").unwrap();
    let said = |key: &str| {
        let task = ended(&host, key);
        task["note"].as_str().unwrap_or_default().to_owned()
    };
    assert!(said("random").contains("trap"), "random bytes without bound");
    assert_eq!(said("read"), "7");
    assert_eq!(said("read-at-end"), "invalid");
    assert_eq!(said("write"), "invalid");
    assert_eq!(said("stream"), "false");
    assert_eq!(said("size"), "invalid");
    assert_eq!(said("stdin"), "false");
    assert_eq!(fs::read_to_string(site.videos().join("file")).unwrap(), "content");
    other_works(&host);
}
