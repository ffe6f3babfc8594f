//! Guests that misbehave cost what guarantee 8 says, and no more; and what
//! guests are promised they get.

use std::fs;

use serde_json::{Value, json};

use crate::support::{Site, Sweepd, guest, plugin};

pub(crate) const QUICK: &str =
    "[job.limits]\ntask_deadline = \"400ms\"\ndispatch_deadline = \"400ms\"\nmemory = \"16MiB\"\n";
pub(crate) const PATIENT: &str = "[job.limits]\nmemory = \"16MiB\"\n";
const TWICE: &str = "[job.retry]\nmax_attempts = 2\nbackoff = \"10ms\"\n";

/// A host with the guest as job `clear` and a well-behaved job `other`.
pub(crate) fn beside_another_job(name: &str, limits: &str, more: &str) -> (Site, Sweepd) {
    let site = Site::new();
    site.install(&guest(name));
    fs::copy(guest("noop"), site.path().join("plugins/other.wasm")).unwrap();
    fs::create_dir(site.path().join("other")).unwrap();
    site.configure(&format!(
        "[[job]]\nname = \"other\"\nplugin = \"plugins/other.wasm\"\nmounts = [\"other\"]\ninterval = \"100ms\"\n\
         [[job]]\nname = \"clear\"\nplugin = \"plugins/plugin.wasm\"\nmounts = [\"videos\"]\ninterval = \"100ms\"\nbreaker = 0\n{limits}{TWICE}{more}"
    ));
    let host = site.start();
    (site, host)
}

pub(crate) fn task(host: &Sweepd, id: u64) -> Value {
    host.get(&format!("/v1/tasks/{id}"))
}

/// The other job goes on.
pub(crate) fn other_works(host: &Sweepd) {
    let ids = host.enqueue("other", &["still-here"]);
    host.wait("the other job works", || task(host, ids[0])["state"] == "done");
}

/// What the guest did in `execute` costs one task its attempts, says why, and
/// nothing else.
pub(crate) fn costs_the_task_its_attempts(name: &str, limits: &str, said: &str) {
    let (_site, host) = beside_another_job(name, limits, "");
    let ids = host.enqueue("clear", &["victim"]);
    host.wait("it is buried", || task(&host, ids[0])["state"] == "dead");
    let task = task(&host, ids[0]);
    assert_eq!(task["attempts"], 2, "{task}");
    assert!(task["note"].as_str().is_some_and(|note| note.contains(said)), "{name}: {task}");
    other_works(&host);
}

#[test]
fn a_trap_costs_one_attempt() {
    costs_the_task_its_attempts("traps", PATIENT, "trapped");
}

#[test]
fn an_endless_loop_costs_one_attempt() {
    costs_the_task_its_attempts("loops", QUICK, "deadline");
}

#[test]
fn a_memory_bomb_costs_one_attempt() {
    costs_the_task_its_attempts("eats_memory", PATIENT, "more memory than its limit");
}

#[test]
fn a_transient_failure_costs_one_attempt() {
    costs_the_task_its_attempts("fails_transient", PATIENT, "");
}

#[test]
fn a_permanent_failure_is_not_tried_again() {
    let (_site, host) = beside_another_job("fails_permanent", PATIENT, "");
    let ids = host.enqueue("clear", &["victim"]);
    host.wait("it is buried", || task(&host, ids[0])["state"] == "dead");
    assert_eq!(task(&host, ids[0])["attempts"], 1);
}

#[test]
fn a_sleep_ends_at_the_deadline() {
    let (_site, host) = beside_another_job("sleeps", QUICK, "[job.config]\nsleep_ms = 3600000\n");
    let ids = host.enqueue("clear", &["sleeper"]);
    // The wait for it ends long before an hour of sleep would.
    host.wait("it is buried", || task(&host, ids[0])["state"] == "dead");
    assert!(task(&host, ids[0])["note"].as_str().unwrap().contains("deadline"));
}

#[test]
fn a_flood_of_output_is_cut() {
    let (_site, host) = beside_another_job("floods_output", PATIENT, "");
    let ids = host.enqueue("clear", &["flood"]);
    host.drained("clear");
    assert_eq!(task(&host, ids[0])["state"], "done");
    host.says("output cut");
    let log = host.log();
    assert!(log.len() < 2_000_000, "the log has {} bytes", log.len());
    other_works(&host);
}

#[test]
fn output_is_logged_with_job_task_and_generation() {
    let site = Site::with_job(&guest("prints"), "");
    let host = site.start();
    let ids = host.enqueue("clear", &["影-1"]);
    host.drained("clear");
    let log = host.whole_log();
    let lines: Vec<Value> = log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    for stream in ["stdout", "stderr"] {
        let line = lines
            .iter()
            .find(|line| line["stream"] == stream && line["message"].as_str().is_some_and(|said| said.contains("影-1")))
            .unwrap_or_else(|| panic!("nothing of {stream} in\n{log}"));
        assert_eq!(line["job"], "clear");
        assert_eq!(line["task"], ids[0]);
        assert_eq!(line["generation"], 1);
    }
}

/// What the guest did in `dispatch` charges no task: it is released, the sweep
/// backs off, and status says why.
pub(crate) fn charges_no_task(name: &str, limits: &str, said: &str) {
    let (_site, host) = beside_another_job(name, limits, "");
    let ids = host.enqueue("clear", &["bystander"]);
    host.wait("the failure is said", || {
        host.get("/v1/jobs/clear")["last_error"]["message"].as_str().is_some_and(|message| message.contains(said))
    });
    // It may be claimed for the next sweep just now.
    host.wait("it is released", || task(&host, ids[0])["state"] == "pending");
    let task = task(&host, ids[0]);
    assert_eq!(task["attempts"], 0, "{name}: {task}");
    other_works(&host);
}

#[test]
fn a_trap_in_dispatch_charges_no_task() {
    charges_no_task("traps_in_dispatch", PATIENT, "trapped");
}

#[test]
fn an_endless_loop_in_dispatch_charges_no_task() {
    charges_no_task("loops_in_dispatch", QUICK, "deadline");
}

#[test]
fn a_failing_dispatcher_charges_no_task() {
    charges_no_task("fails_in_dispatch_transient", PATIENT, "the dispatcher failed");
}

#[test]
fn a_plan_with_unknown_tasks_is_refused() {
    charges_no_task("foreign_ids", PATIENT, "was not offered");
}

#[test]
fn a_plan_that_repeats_itself_is_refused() {
    charges_no_task("repeats_ids", PATIENT, "twice");
}

#[test]
fn a_plan_with_too_many_discoveries_is_refused() {
    charges_no_task("huge_plan", PATIENT, "plan");
}

#[test]
fn a_dispatcher_that_fails_for_good_pauses_its_job() {
    let (_site, host) = beside_another_job("fails_in_dispatch_permanent", PATIENT, "");
    let ids = host.enqueue("clear", &["bystander"]);
    host.wait("the job is paused", || host.get("/v1/jobs/clear")["paused"].is_string());
    assert_eq!(task(&host, ids[0])["attempts"], 0);
    other_works(&host);
}

#[test]
fn a_dispatcher_changes_nothing() {
    let site = Site::with_job(&guest("changes_in_dispatch"), "");
    fs::write(site.videos().join("file"), "precious").unwrap();
    let before = listing(&site);
    let host = site.start();
    let ids = host.enqueue("clear", &["file"]);
    host.wait("it has tried", || !host.has("clear", "pending") && !host.has("clear", "running"));
    assert_eq!(listing(&site), before, "{}", task(&host, ids[0]));
    assert_eq!(fs::read_to_string(site.videos().join("file")).unwrap(), "precious");
    let tried = task(&host, ids[0])["note"].as_str().unwrap().to_owned();
    assert!(!tried.contains("succeeded"), "{tried}");
}

/// Whether it is the host's, and not what people put there.
fn is_hosts_own(entry: &fs::DirEntry) -> bool {
    entry.file_name().to_string_lossy().starts_with(".sweepd-")
}

fn listing(site: &Site) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(site.videos())
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| !is_hosts_own(entry))
        .map(|entry| format!("{} {:?}", entry.file_name().display(), entry.metadata().unwrap().modified().unwrap()))
        .collect();
    names.sort();
    names
}

/// By `..`, by absolute paths, and by links that somebody else put into the
/// mount.
#[test]
fn nobody_climbs_out_of_a_mount() {
    let site = Site::with_job(&guest("climbs_out"), "");
    fs::write(site.path().join("outside.txt"), "s3cret").unwrap();
    fs::write(site.videos().join("inside.txt"), "").unwrap();
    for (name, to) in [
        ("link-up", ".."),
        ("link-file", "../outside.txt"),
        ("link-root", "/"),
        ("link-etc", "/etc"),
        ("link-proc", "/proc/self"),
    ] {
        std::os::unix::fs::symlink(to, site.videos().join(name)).unwrap();
    }
    let before = names(site.path());
    let host = site.start();
    let body = json!({ "key": "climb", "payload": site.path() });
    let (status, answer) = host.request("POST", "/v1/jobs/clear/tasks", Some(&body));
    assert_eq!(status, 201, "{answer}");
    host.drained("clear");
    let task = host.tasks("clear", "done").remove(0);
    assert_eq!(task["note"], "reached: ; linked: ", "{task}");
    assert_eq!(fs::read_to_string(site.path().join("outside.txt")).unwrap(), "s3cret");
    let after: Vec<_> = names(site.path()).into_iter().filter(|name| name != "log" && name != "state").collect();
    assert_eq!(after, before);
}

fn names(folder: &std::path::Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Opening a pipe waits for whoever opens its other end, where no deadline
/// reaches: it held the thread, and with it the job, for ever.
#[test]
fn a_named_pipe_holds_nobody() {
    let site = Site::with_job(&guest("climbs_out"), "");
    let pipe = site.videos().join("inside.txt");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0).unwrap();
    let host = site.start();
    host.enqueue("clear", &["climb"]);
    host.drained("clear");
    assert_eq!(host.tasks("clear", "done").len(), 1);
}

/// A link is a path that somebody else may follow with more rights.
#[test]
fn a_guest_makes_no_symbolic_links() {
    let site = Site::with_job(&guest("climbs_out"), "");
    let host = site.start();
    host.enqueue("clear", &["climb"]);
    host.drained("clear");
    for entry in fs::read_dir(site.videos()).unwrap() {
        assert!(!entry.unwrap().file_type().unwrap().is_symlink());
    }
}

#[test]
fn no_change_begins_after_the_deadline() {
    let more = "[job.limits]\ntask_deadline = \"300ms\"\n[job.retry]\nmax_attempts = 1\n";
    let site = Site::with_job(&guest("changes_after_deadline"), more);
    for name in ["late", "file"] {
        fs::write(site.videos().join(name), "").unwrap();
    }
    let before = listing(&site);
    let host = site.start();
    let ids = host.enqueue("clear", &["late"]);
    host.wait("it is buried", || task(&host, ids[0])["state"] == "dead");
    assert_eq!(listing(&site), before);
}

#[test]
fn no_environment_no_arguments_no_network() {
    let site = Site::with_job(&guest("sees_env"), "");
    let host = site.start();
    let ids = host.enqueue("clear", &["look"]);
    host.drained("clear");
    let seen = task(&host, ids[0])["note"].as_str().unwrap().to_owned();
    assert!(!seen.contains("PATH") && !seen.contains("HOME"), "{seen}");

    let site = Site::with_job(&guest("opens_socket"), "");
    let host = site.start();
    let ids = host.enqueue("clear", &["connect"]);
    host.drained("clear");
    let task = task(&host, ids[0]);
    assert_eq!(task["state"], "done", "{task}");
    let said = task["note"].as_str().unwrap().to_owned();
    assert!(!said.contains("connected"), "{said}");
}

#[test]
fn the_run_interface_answers() {
    let site = Site::with_job(&guest("reads_config"), "[job.config]\ngreeting = \"good morning\"\n");
    let host = site.start();
    let ids = host.enqueue("clear", &["ask"]);
    host.drained("clear");
    let said = task(&host, ids[0])["note"].as_str().unwrap().to_owned();
    assert!(said.contains("clear") && said.contains("good morning"), "{said}");
}

#[test]
fn payloads_reach_the_plugin() {
    let site = Site::with_job(&guest("fills_payload"), "");
    let host = site.start();
    let body = json!({ "key": "k", "payload": "{\"size\": 5}" });
    let (status, answer) = host.request("POST", "/v1/jobs/clear/tasks", Some(&body));
    assert_eq!(status, 201, "{answer}");
    host.drained("clear");
    assert_eq!(host.tasks("clear", "done")[0]["note"], "{\"size\": 5}");
}

#[test]
fn postponed_tasks_wait_without_an_attempt() {
    for name in ["postpones", "postpones_in_dispatch"] {
        let site = Site::with_job(&guest(name), "[job.config]\ndelay = 3600\n");
        let host = site.start();
        let ids = host.enqueue("clear", &["later"]);
        host.wait("it is postponed", || {
            let task = task(&host, ids[0]);
            task["state"] == "pending"
                && task["run_at"].as_u64() > task["enqueued_at"].as_u64().map(|at| at + 3_000_000)
        });
        assert_eq!(task(&host, ids[0])["attempts"], 0, "{name}");
    }
}

#[test]
fn discarded_tasks_end_as_cancelled() {
    let site = Site::with_job(&guest("discards"), "");
    let host = site.start();
    let ids = host.enqueue("clear", &["never"]);
    host.drained("clear");
    let task = task(&host, ids[0]);
    assert_eq!(task["state"], "cancelled");
    assert!(task["note"].is_string(), "{task}");
}

#[test]
fn tasks_that_a_plan_does_not_name_are_held_back() {
    let site = Site::with_job(&guest("names_none"), "");
    let host = site.start();
    let ids = host.enqueue("clear", &["unnamed"]);
    let due = task(&host, ids[0])["run_at"].as_u64().unwrap();
    host.wait("it is released", || task(&host, ids[0])["run_at"].as_u64().is_some_and(|at| at > due));
    assert_eq!(task(&host, ids[0])["attempts"], 0);
    host.says("does not name");
}

#[test]
fn a_policy_finds_work_of_its_own() {
    let site = Site::with_job(&guest("discovers"), "[job.config]\nbatch = 7\n");
    for number in 0..25 {
        fs::write(site.videos().join(format!("orphan-{number:02}")), "").unwrap();
    }
    let host = site.start();
    host.wait("all are found", || host.tasks("clear", "done").len() >= 25);
    let mut keys: Vec<_> =
        host.tasks("clear", "done").iter().map(|task| task["key"].as_str().unwrap().to_owned()).collect();
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), 25);
}

#[test]
fn a_task_of_its_own_instance() {
    let site = Site::with_job(&plugin("video-clear"), "isolation = \"task\"\n");
    let keys: Vec<_> = (0..200).map(|number| format!("video-{number}")).collect();
    for key in &keys {
        fs::write(site.videos().join(key), "").unwrap();
    }
    let host = site.start();
    host.enqueue("clear", &keys);
    host.drained("clear");
    assert_eq!(listing(&site), [""; 0]);
}

/// The wall clock is the machine's, and an enqueue at an idle host is no matter
/// of its interval.
#[test]
fn a_guest_reads_the_time_and_is_called_at_once() {
    let site = Site::with_job(&guest("stamps"), "");
    let host = site.start();
    host.serving("clear");
    let nanos = || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos();
    let before = nanos();
    host.enqueue("clear", &["stamp"]);
    host.drained("clear");
    let stamp: u128 = fs::read_to_string(site.videos().join("stamp")).unwrap().parse().unwrap();
    assert!(before <= stamp && stamp <= nanos());
}
