//! What the host keeps from a guest, and keeps about it: holds, budgets, and
//! every change on record.

use std::fs;

use serde_json::json;
use sweepd::domain::effect::{Effect, EffectResult, Operation};
use sweepd::domain::hold::Pattern;
use sweepd::domain::job::JobName;
use sweepd::store::sqlite::{SqliteOptions, SqliteStore};
use sweepd::store::{At, EffectFilter, NewHold, Store as _};

use super::{answers, ended, note, tree};
use crate::guests::task;
use crate::support::{Site, guest};

/// Something done with the site's store, while no host runs.
fn with_store<T, F: Future<Output = T>>(site: &Site, with: impl FnOnce(SqliteStore) -> F) -> T {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let file = site.path().join("state/sweepd.db");
        with(SqliteStore::open(&file, SqliteOptions::host()).unwrap()).await
    })
}

/// All effects on record, oldest first.
fn effects(site: &Site) -> Vec<Effect> {
    with_store(site, async |store| {
        let filter = EffectFilter { oldest_first: true, limit: 10_000, ..EffectFilter::default() };
        let effects = store.effects(filter).await.unwrap();
        store.close().await;
        effects.into_iter().map(|view| view.effect).collect()
    })
}

/// Without the host's own note of it (`Call::meet`) the guest's answer would
/// count, and the task be done.
#[test]
fn a_guest_that_swallows_a_hold_is_postponed() {
    let site = Site::with_job(&guest("swallows_errors"), "");
    for name in ["held", "free"] {
        fs::write(site.videos().join(name), "precious").unwrap();
    }
    with_store(&site, async |store| {
        let job = store.register_job(&JobName::new("clear").unwrap()).await.unwrap().id;
        let hold = NewHold { job, pattern: Pattern::new("held").unwrap(), until: None, why: "a trial".to_owned() };
        store.add_hold(hold, At::Server).await.unwrap();
        store.close().await;
    });
    let host = site.start();
    let ids = host.enqueue("clear", &["held", "free"]);
    host.wait("one is done, one postponed", || {
        let held = task(&host, ids[0]);
        task(&host, ids[1])["state"] == "done" && held["note"].is_string() && held["state"] == "pending"
    });
    let held = task(&host, ids[0]);
    assert!(held["note"].as_str().unwrap().contains("a trial"), "{held}");
    assert_eq!(held["attempts"], 0, "{held}");
    let left = [("/held", "precious"), ("/free-moved", "overwritten")];
    assert_eq!(tree(&site.videos()), left.map(|(path, content)| (path.to_owned(), content.to_owned())).into());
}

/// Without the count before each removal (`sandbox/meter.rs`) one task would
/// take everything.
#[test]
fn over_budget_a_job_stops_before_the_next_removal() {
    let site = Site::with_job(&guest("removes_all"), "[job.budget]\nsweep_files = 3\n");
    for number in 0..10 {
        fs::write(site.videos().join(format!("file-{number}")), "").unwrap();
    }
    let host = site.start();
    let id = host.enqueue("clear", &["all"])[0];
    host.wait("the job is paused", || host.get("/v1/jobs/clear")["paused"].is_string());
    let paused = host.get("/v1/jobs/clear")["paused"].as_str().unwrap().to_owned();
    assert!(paused.contains("over budget"), "{paused}");
    assert_eq!(tree(&site.videos()).len(), 7);
    host.wait("the task is released", || task(&host, id)["state"] == "pending");
    assert_eq!(task(&host, id)["attempts"], 0);

    let (status, answer) = host.request("POST", "/v1/jobs/clear/resume", Some(&json!({ "once_over_budget": true })));
    assert!(status < 300, "{status}: {answer}");
    host.drained("clear");
    assert_eq!(tree(&site.videos()).len(), 0);
    assert_eq!(task(&host, id)["state"], "done");
}

/// What `changes_everything` does to files with all rights, in order. What is
/// empty is not emptied again.
const ALL: [Operation; 15] = [
    Operation::Create,
    Operation::CreateFolder,
    Operation::Link,
    Operation::Write,
    Operation::Write,
    Operation::Truncate,
    Operation::Truncate,
    Operation::SetTimes,
    Operation::SetTimes,
    Operation::Rename,
    Operation::Remove,
    Operation::Rename,
    Operation::Rename,
    Operation::RemoveFolder,
    Operation::Remove,
];

fn site_of_all(more: &str) -> Site {
    let site = Site::with_job(&guest("changes_everything"), more);
    fs::write(site.videos().join("file"), "content").unwrap();
    fs::create_dir(site.videos().join("empty")).unwrap();
    site
}

fn operations(effects: &[Effect]) -> Vec<Operation> {
    effects.iter().map(|effect| effect.operation).collect()
}

/// Without the record in `perform` (`sandbox/deeds.rs`) a change would leave no
/// trace.
#[test]
fn every_change_is_on_record() {
    let site = site_of_all("");
    let host = site.start();
    let id = host.enqueue("clear", &["all"])[0];
    host.drained("clear");
    let done = task(&host, id);
    let answers = answers(note(&done));
    assert_eq!(answers["symlink"].0, "not-permitted", "{done}");
    host.stop();
    let effects = effects(&site);
    assert_eq!(operations(&effects), ALL, "{answers:?}");
    for effect in &effects {
        assert_eq!((effect.task.0, effect.attempt), (id, 1));
    }
    assert!(effects.iter().all(|effect| effect.result == EffectResult::Done), "{effects:#?}");
}

/// The change is made before its answer is; what has no room for the answer
/// traps, and the change is on record none the less.
#[test]
fn a_change_whose_answer_has_no_room_is_on_record() {
    let site = Site::with_job(&guest("raw_paths"), "[job.retry]\nmax_attempts = 1\n");
    fs::write(site.videos().join("file"), "").unwrap();
    let host = site.start();
    let task = ended(&host, "nowhere");
    assert_eq!(task["state"], "dead", "{task}");
    host.stop();
    assert_eq!(operations(&effects(&site)), [Operation::Remove]);
    assert_eq!(tree(&site.videos()).len(), 0);
}

/// The journal survives kill -9, and is brought in at the next start.
#[test]
fn every_change_is_on_record_after_kill_9() {
    let site = site_of_all("[job.config]\nthen_hang = true\n[job.limits]\ntask_deadline = \"10m\"\n");
    let host = site.start();
    let id = host.enqueue("clear", &["all"])[0];
    host.wait("it has done it all", || host.log().contains("hanging"));
    host.kill();
    assert_eq!(effects(&site).len(), 0, "nothing of it was in the database");
    // A host that has nothing else to do brings it in.
    fs::remove_file(site.plugin_file()).unwrap();
    let host = site.start();
    host.stop();
    let effects = effects(&site);
    for operation in Operation::ALL {
        assert!(operations(&effects).contains(&operation), "{operation}: {effects:#?}");
    }
    assert!(effects.iter().all(|effect| effect.task.0 == id), "{effects:#?}");
    let done = |operation| {
        let mut all = effects.iter().filter(|effect: &&Effect| effect.operation == operation);
        all.any(|effect| effect.result == EffectResult::Done)
    };
    assert!(done(Operation::Remove) && done(Operation::Rename) && done(Operation::RemoveFolder), "{effects:#?}");
}
