//! Each limit of a job holds: what is within it runs, what is over it ends as
//! the reference says, and says which key it was.

use std::time::Instant;

use serde_json::{Value, json};

use crate::support::{Site, Sweepd, guest};

const ONCE: &str = "[job.retry]\nmax_attempts = 1\n";

/// A host whose job `clear` runs this guest under these lines of
/// `[job.limits]`.
fn limited(name: &str, limits: &str) -> (Site, Sweepd) {
    let site = Site::with_job(&guest(name), &format!("[job.limits]\n{limits}\n{ONCE}"));
    let host = site.start();
    (site, host)
}

/// The ended task of this payload.
fn run(host: &Sweepd, payload: &str) -> Value {
    let body = json!({ "key": format!("key-{payload}"), "payload": payload });
    let (status, answer) = host.request("POST", "/v1/jobs/clear/tasks", Some(&body));
    assert_eq!(status, 201, "{answer}");
    let id = serde_json::from_str::<Value>(&answer).unwrap()["id"].clone();
    let task = || host.get(&format!("/v1/tasks/{id}"));
    host.wait("it ends", || !["pending", "running"].contains(&task()["state"].as_str().unwrap()));
    task()
}

fn note(task: &Value) -> &str {
    task["note"].as_str().unwrap_or_default()
}

/// What cannot start under a limit is not taken, and the limit is named.
fn does_not_start(limits: &str, said: &str) {
    let (_site, host) = limited("noop", limits);
    host.wait("it is refused", || host.get("/v1/jobs/clear")["slot"]["error"].is_object());
    let status = host.get("/v1/jobs/clear");
    assert!(status["slot"]["error"]["message"].as_str().unwrap().contains(said), "{limits}: {status}");
}

#[test]
fn elements_of_a_table_are_limited() {
    does_not_start("table_elements = 1", "job.limits.table_elements");
    let (_site, host) = limited("noop", "table_elements = 100000");
    assert_eq!(run(&host, "")["state"], "done");
}

#[test]
fn core_instances_are_limited() {
    does_not_start("instances = 1", "instance count too high");
}

#[test]
fn fuel_ends_a_call_that_takes_too_many_instructions() {
    let (_site, host) = limited("digs_deep", "fuel = 60000");
    assert_eq!(note(&run(&host, "100")), "100");
    let task = run(&host, "3000");
    assert_eq!(task["state"], "dead");
    assert!(note(&task).contains("out of fuel: one call may take 60000 instructions (job.limits.fuel)"), "{task}");
    // Each call has its own: all of these together take more.
    for depth in 300..330 {
        assert_eq!(note(&run(&host, &depth.to_string())), depth.to_string());
    }
}

#[test]
fn an_endless_loop_runs_out_of_fuel_before_its_deadline() {
    let site =
        Site::with_job(&guest("loops"), &format!("[job.limits]\nfuel = 100000000\ntask_deadline = \"10m\"\n{ONCE}"));
    let host = site.start();
    assert!(note(&run(&host, "")).contains("out of fuel"));
}

#[test]
fn fuel_does_not_replace_the_deadline() {
    let site = Site::with_job(
        &guest("loops"),
        &format!("[job.limits]\nfuel = 9000000000000000000\ntask_deadline = \"300ms\"\n{ONCE}"),
    );
    let host = site.start();
    assert!(note(&run(&host, "")).contains("deadline"));
}

#[test]
fn the_stack_is_as_large_as_configured() {
    const DEPTH: &str = "2000";
    for (stack, state) in [("64KiB", "dead"), ("1MiB", "done")] {
        let site = Site::with_job(&guest("digs_deep"), &format!("{ONCE}[sandbox]\nstack = \"{stack}\"\n"));
        let host = site.start();
        let task = run(&host, DEPTH);
        assert_eq!(task["state"], state, "{stack}: {task}");
        if state == "dead" {
            assert!(note(&task).contains("call stack exhausted"), "{task}");
        }
        // The host goes on.
        assert_eq!(note(&run(&host, "5")), "5");
        assert_eq!(note(&run(&host, "6")), "6");
    }
}

#[test]
fn an_endless_recursion_costs_one_attempt() {
    let (_site, host) = limited("digs_deep", "");
    let task = run(&host, "18446744073709551615");
    assert_eq!((task["state"].as_str(), task["attempts"].as_u64()), (Some("dead"), Some(1)), "{task}");
    assert_eq!(note(&run(&host, "5")), "5");
}

#[test]
fn a_long_answer_is_a_crash_that_names_its_limit() {
    let (_site, host) = limited("answers_much", "answer = \"1MiB\"");
    assert_eq!(run(&host, "900000")["state"], "done");
    let task = run(&host, "2000000");
    assert_eq!(task["state"], "dead");
    assert!(note(&task).contains("it handed over more than 1048576 bytes at once (job.limits.answer)"), "{task}");
    assert_eq!(run(&host, "7")["state"], "done");
}

/// Two tasks print sixteen megabytes each, of which each may have all.
#[test]
fn output_is_limited_by_the_second_over_all_instances() {
    const RATE: usize = 64 << 10;
    let site = Site::with_job(
        &guest("floods_output"),
        &format!("concurrency = 2\n[job.limits]\noutput = \"64MiB\"\noutput_rate = \"64KiB\"\n{ONCE}"),
    );
    let host = site.start();
    host.serving("clear");
    let before = printed(&host);
    let began = Instant::now();
    host.enqueue("clear", &["one", "two"]);
    // Nobody waits for the rate, which lets 32 MB through in eight minutes: longer
    // than this waits.
    host.drained("clear");
    let seconds = usize::try_from(began.elapsed().as_secs()).unwrap() + 2;
    host.says("job.limits.output_rate");
    let printed = printed(&host) - before;
    assert!(printed > 0 && printed <= RATE * seconds, "{printed} bytes in {seconds} s");
    assert_eq!(host.tasks("clear", "done").len(), 2);
}

/// Bytes of the guest in the log.
fn printed(host: &Sweepd) -> usize {
    host.log()
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|line| line["stream"].is_string())
        .map(|line| line["message"].as_str().map_or(0, str::len))
        .sum()
}

/// A claim that the dispatcher's memory does not hold comes back smaller, and no
/// task is charged for it.
#[test]
fn a_claim_that_does_not_fit_the_memory_is_made_smaller() {
    let more = "concurrency = 1\ncapacity = 2000\n[job.limits]\nmemory = \"8MiB\"\n";
    let site = Site::with_job(&guest("noop_job"), more);
    let host = site.start();
    host.serving("clear");
    assert!(host.request("POST", "/v1/jobs/clear/pause", None).0 < 300);
    let payload = "x".repeat(60_000);
    for round in 0..20 {
        let task = |number: u32| json!({ "key": format!("{round}-{number}"), "payload": payload });
        let tasks: Vec<_> = (0..20).map(task).collect();
        assert_eq!(host.request("POST", "/v1/jobs/clear/tasks", Some(&json!(tasks))).0, 201);
    }
    assert!(host.request("POST", "/v1/jobs/clear/resume", None).0 < 300);
    host.drained("clear");
    let done = host.tasks("clear", "done");
    assert_eq!(done.len(), 400);
    assert!(done.iter().all(|task| task["attempts"] == 1), "a claim that is made smaller is no attempt");
    assert!(host.log().contains("memory"), "it did not fit: {}", host.log());
    let status = host.get("/v1/jobs/clear");
    assert!(status["paused"].is_null() && status["slot"]["set_aside"].is_null(), "{status}");
}
