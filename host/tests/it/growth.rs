//! What a plugin makes is bounded: by the budget of its job, by the limits of a
//! call, and by the room that the state folder has. Removing never is.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use sweepd::domain::effect::{Effect, EffectResult, Operation};
use sweepd::store::sqlite::{SqliteOptions, SqliteStore};
use sweepd::store::{EffectFilter, Store as _};

use crate::cli::{beside, run};
use crate::guests::task;
use crate::support::{Site, Sweepd, guest, plugin};

const ONCE: &str = "[job.retry]\nmax_attempts = 1\n";

/// A site whose job `clear` runs the guest that makes as much as it is asked.
fn makes_much(more: &str) -> Site {
    let site = Site::with_job(&guest("makes_much"), more);
    fs::write(site.videos().join("linked"), "").unwrap();
    fs::create_dir(site.videos().join("there")).unwrap();
    site
}

/// How many of the mount's entries have a name that begins so.
fn count(site: &Site, prefix: &str) -> usize {
    let entries = fs::read_dir(site.videos()).unwrap();
    entries.filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with(prefix)).count()
}

fn size(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |file| file.len())
}

/// Why the job paused itself, when it has.
fn paused(host: &Sweepd) -> String {
    let mut why = Value::Null;
    host.wait("the job is paused", || {
        why = host.get("/v1/jobs/clear")["paused"].clone();
        why.is_string()
    });
    why.as_str().unwrap().to_owned()
}

/// The note of a task when it has ended badly.
fn dead(host: &Sweepd, key: &str) -> String {
    let id = host.enqueue("clear", &[key])[0];
    host.wait("the task is dead", || task(host, id)["state"] == "dead");
    task(host, id)["note"].as_str().unwrap().to_owned()
}

/// The note of a task when it is done.
fn done(host: &Sweepd, key: &str) -> String {
    let id = host.enqueue("clear", &[key])[0];
    host.wait("the task has ended", || !matches!(task(host, id)["state"].as_str(), Some("pending" | "running")));
    assert_eq!(task(host, id)["state"], "done", "{}", task(host, id));
    task(host, id)["note"].as_str().unwrap().to_owned()
}

fn resume(host: &Sweepd, once_over_budget: bool) {
    let body = json!({ "once_over_budget": once_over_budget });
    let (status, answer) = host.request("POST", "/v1/jobs/clear/resume", Some(&body));
    assert_eq!(status, 200, "{answer}");
}

#[test]
fn a_sweep_writes_no_more_than_it_may() {
    let site = makes_much("[job.budget]\nsweep_written = \"100KiB\"\n");
    let host = site.start();
    let id = host.enqueue("clear", &["write 2048"])[0];
    let why = paused(&host);
    assert!(why.contains("over budget: the job may write 100.0 KiB in one sweep"), "{why}");
    assert_eq!(size(&site.videos().join("written")), 100 << 10);
    host.wait("the task is back", || task(&host, id)["state"] == "pending");
    assert_eq!(task(&host, id)["attempts"], 0);
    let status = host.get("/v1/jobs/clear");
    assert_eq!(status["taken"]["sweep"]["written"], 100 << 10, "{status}");
    let effects = host.get("/v1/effects?job=clear&operation=write");
    assert_eq!(effects["effects"][0]["written"], 100 << 10, "{effects}");
    let said = beside(&site, &host, &["status", "--check"]).exits(2);
    assert!(said.out.contains("(100.0K) in the last sweep of at most 100.0K"), "{}", said.out);

    resume(&host, true);
    host.drained("clear");
    assert_eq!((size(&site.videos().join("written")), &task(&host, id)["state"]), (2 << 20, &json!("done")));
}

#[test]
fn making_a_file_longer_is_writing() {
    let site = makes_much("[job.budget]\nsweep_written = \"100KiB\"\n");
    let host = site.start();
    assert_eq!(done(&host, "grow 60"), "grew 60 KiB");
    host.enqueue("clear", &["grow 1000"]);
    let why = paused(&host);
    assert!(why.contains("the job may write 100.0 KiB in one sweep"), "{why}");
    assert_eq!(size(&site.videos().join("grown")), 60 << 10);
}

#[test]
fn a_sweep_makes_no_more_files_and_folders_than_it_may() {
    for (what, made) in [("folders", "folder-"), ("links", "link-")] {
        let site = makes_much("[job.budget]\nsweep_made = 20\n");
        let host = site.start();
        host.enqueue("clear", &[format!("{what} 50")]);
        let why = paused(&host);
        assert!(why.contains("the job may make 20 files and folders in one sweep"), "{why}");
        assert_eq!(count(&site, made), 20);
    }
    let site = makes_much("[job.budget]\nsweep_made = 20\n");
    let host = site.start();
    let id = host.enqueue("clear", &["files 50"])[0];
    paused(&host);
    assert_eq!(count(&site, "file-"), 20);
    let said = beside(&site, &host, &["status"]).exits(0);
    assert!(said.out.contains("clear: made 20 files and folders (0B) in the last sweep of at most 20"), "{}", said.out);
    // Resumed, it makes as many again, and then, once, all.
    resume(&host, false);
    host.wait("it pauses again", || count(&site, "file-") == 40 && host.get("/v1/jobs/clear")["paused"].is_string());
    resume(&host, true);
    host.drained("clear");
    assert_eq!((count(&site, "file-"), &task(&host, id)["state"]), (50, &json!("done")));
}

#[test]
fn the_hour_of_what_is_made_goes_on_over_a_restart() {
    let site = makes_much("[job.budget]\nhour_made = 20\nhour_written = \"1MiB\"\n");
    fs::write(site.videos().join("grown"), "").unwrap();
    let host = site.start();
    assert_eq!(done(&host, "write 512"), "wrote 512 KiB");
    let id = host.enqueue("clear", &["files 50"])[0];
    let why = paused(&host);
    assert!(why.contains("the job may make 20 files and folders in an hour"), "{why}");
    // One of them is the file that was written.
    assert_eq!(count(&site, "file-"), 19);
    host.kill();
    let host = site.start();
    host.serving("clear");
    resume(&host, false);
    host.wait("it tried", || host.get("/v1/jobs/clear")["last_error"].is_object());
    paused(&host);
    assert_eq!(count(&site, "file-"), 19);
    resume(&host, true);
    host.drained("clear");
    assert_eq!((count(&site, "file-"), &task(&host, id)["state"]), (50, &json!("done")));
    // What was written before the restart counts, too.
    host.enqueue("clear", &["grow 600"]);
    let why = paused(&host);
    assert!(why.contains("the job may write 1.0 MiB in an hour"), "{why}");
    assert_eq!(size(&site.videos().join("grown")), 0);
}

#[test]
fn a_call_that_changes_too_much_costs_its_attempt() {
    let site = makes_much(&format!("[job.limits]\nchanges = 50\n{ONCE}"));
    let host = site.start();
    let note = dead(&host, "folders 1000");
    assert!(note.contains("more changes than one call may make, 50 (job.limits.changes)"), "{note}");
    assert_eq!(count(&site, "folder-"), 50);
    let note = dead(&host, "churn 1000");
    assert!(note.contains("(job.limits.changes)"), "{note}");
    // Each call has its own.
    for _ in 0..3 {
        assert_eq!(done(&host, "churn 25"), "did 25");
    }
}

#[test]
fn a_call_that_writes_too_much_costs_its_attempt() {
    let site = makes_much(&format!("[job.limits]\nwritten = \"1MiB\"\n{ONCE}"));
    let host = site.start();
    for (key, file) in [("write 2048", "written"), ("grow 2048", "grown")] {
        let note = dead(&host, key);
        assert!(note.contains("more than one call may write, 1.0 MiB (job.limits.written)"), "{note}");
        assert!(size(&site.videos().join(file)) <= 1 << 20, "{key}");
    }
    assert_eq!(size(&site.videos().join("written")), 1 << 20, "up to the limit it writes");
    assert_eq!(done(&host, "write 1024"), "wrote 1024 KiB");
}

#[test]
fn without_room_for_the_state_nothing_is_made_and_all_is_removed() {
    let more =
        "[[job]]\nname = \"second\"\nplugin = \"plugins/clear.wasm\"\nmounts = [\"videos\"]\ninterval = \"200ms\"\n";
    let site = makes_much(&format!("{ONCE}{more}"));
    fs::copy(plugin("video-clear"), site.path().join("plugins/clear.wasm")).unwrap();
    fs::write(site.videos().join("file"), "content").unwrap();
    let host = site.try_start_with(&[("SWEEPD_STATE_MIN_FREE", "1PiB")]).unwrap();
    for key in ["write 4", "grow 4", "folders 1", "files 1", "links 1", "churn 1"] {
        let note = dead(&host, key);
        assert!(note.to_lowercase().contains("space"), "{key}: {note}");
    }
    host.says("less than 1.0 PiB free (state_min_free)");
    let told = host.get("/v1/jobs");
    assert!(told["no_room"].as_str().is_some_and(|why| why.contains("state_min_free")), "{told}");
    beside(&site, &host, &["status", "--check"]).exits(2).says("state_min_free");
    host.enqueue("second", &["file"]);
    host.drained("second");
    let mut left: Vec<_> = fs::read_dir(site.videos()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.retain(|name| !name.to_string_lossy().starts_with(".sweepd-"));
    left.sort();
    assert_eq!(left, ["linked", "there"]);
}

#[test]
fn a_preflight_and_a_plan_see_what_would_be_made() {
    let site = makes_much("preflight = true\n[job.budget]\nsweep_made = 5\n");
    let host = site.start();
    host.enqueue("clear", &["folders 50"]);
    let why = paused(&host);
    assert!(why.contains("preflight: over budget: the job may make 5 files and folders in one sweep"), "{why}");
    assert_eq!(count(&site, "folder-"), 0);
    let said = run(&site, &["plan", "clear"]).exits(0);
    assert!(said.out.contains("over budget: the job may make 5 files and folders in one sweep"), "{}", said.out);
    resume(&host, true);
    host.drained("clear");
    assert_eq!(count(&site, "folder-"), 50);
}

/// All effects of a site on record, oldest first.
fn effects(site: &Site) -> Vec<Effect> {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let store = SqliteStore::open(&site.path().join("state/sweepd.db"), SqliteOptions::host()).unwrap();
        let filter = EffectFilter { oldest_first: true, limit: 100_000, ..EffectFilter::default() };
        let effects = store.effects(filter).await.unwrap();
        store.close().await;
        effects.into_iter().map(|view| view.effect).collect()
    })
}

/// How often something was done in all, and in how many rows.
fn times(effects: &[Effect], operation: Operation) -> (u64, usize) {
    let of = || {
        let of = effects.iter().filter(|effect| effect.operation == operation);
        of.filter(|effect| effect.result == EffectResult::Done)
    };
    (of().map(|effect| effect.times).sum(), of().count())
}

#[test]
fn what_cancels_out_is_folded_and_counted() {
    // A call that is tried again on a busy machine would be counted twice.
    let site = makes_much("[job.limits]\ntask_deadline = \"10m\"\n");
    let host = site.start();
    for key in ["churn 10000", "rewrite 2000", "flip 2000", "touch 2000", "fail 2000"] {
        done(&host, key);
    }
    done(&host, "folders 3000");
    host.stop();
    let effects = effects(&site);
    for (operation, wanted) in [
        (Operation::Create, 12_000),
        (Operation::Write, 2000),
        (Operation::Remove, 12_000),
        (Operation::RemoveFolder, 2000),
        (Operation::SetTimes, 2000),
    ] {
        let (times, rows) = times(&effects, operation);
        assert_eq!(times, wanted, "{operation}");
        assert!(rows <= 10, "{operation}: {rows}");
    }
    // What stands keeps its row; what failed is counted by itself.
    assert_eq!(times(&effects, Operation::CreateFolder), (5000, 3001));
    let failed: Vec<_> = effects.iter().filter(|effect| effect.result != EffectResult::Done).collect();
    assert_eq!(failed.iter().map(|effect| effect.times).collect::<Vec<_>>(), [2000], "{failed:?}");
    let written: u64 = effects.iter().map(|effect| effect.written).sum();
    assert_eq!(written, 2000 * 4096);
    let said = run(&site, &["effects", "--operation", "set-times"]).exits(0);
    assert!(said.out.contains("set-times x1999"), "{}", said.out);
}

#[test]
fn what_was_folded_is_counted_after_kill_9_too() {
    let site = makes_much("[job.limits]\ntask_deadline = \"10m\"\n");
    let host = site.start();
    host.enqueue("clear", &["churn 4000000000"]);
    let folded = || {
        let document = host.get("/v1/effects?job=clear&operation=create");
        let pages = document["effects"].as_array().unwrap().clone();
        pages.iter().map(|effect| effect["times"].as_u64().unwrap_or(1)).sum::<u64>()
    };
    host.wait("much was handed over before the end of the call", || folded() > 5000);
    let journal: u64 = fs::read_dir(site.path().join("state/journal")).unwrap().map(|_| 1).sum();
    assert!(journal < 10, "what is on record leaves the journal: {journal} segments");
    host.kill();
    let before = effects(&site);
    // A host that has nothing else to do brings in the rest.
    fs::remove_file(site.plugin_file()).unwrap();
    site.start().stop();
    let effects = effects(&site);
    let ((made, rows), (removed, _)) = (times(&effects, Operation::Create), times(&effects, Operation::Remove));
    assert!(made >= times(&before, Operation::Create).0 && made >= removed, "{made} made, {removed} removed");
    assert!(made - removed <= 1, "{made} made, {removed} removed");
    assert!(rows < 10, "{rows}");
}

#[test]
fn what_is_in_the_trash_is_never_folded() {
    let site = makes_much("trash = \"1h\"\n");
    let host = site.start();
    done(&host, "churn 50");
    host.stop();
    let effects = effects(&site);
    assert_eq!((times(&effects, Operation::Create), times(&effects, Operation::Remove)), ((50, 50), (50, 50)));
    assert!(effects.iter().all(|effect| effect.trashed == (effect.operation == Operation::Remove)));
}

#[test]
fn the_record_is_bounded_by_its_size() {
    let site = makes_much("trash = \"1h\"\n");
    let host = site.start();
    done(&host, "churn 20");
    done(&host, "folders 900");
    host.stop();
    assert_eq!(effects(&site).len(), 940);
    let host = site.try_start_with(&[("SWEEPD_DATABASE__EFFECTS_MAX", "100KiB")]).unwrap();
    host.wait("the oldest are forgotten", || host.log().contains("before their time: all took about"));
    host.says("database.effects_max is 100.0 KiB");
    host.stop();
    let left = effects(&site);
    assert!((100..300).contains(&left.len()), "{}", left.len());
    assert_eq!(left.iter().filter(|effect| effect.trashed).count(), 20, "what is in the trash stays on record");
    let last = left.iter().rfind(|effect| effect.operation == Operation::CreateFolder).unwrap();
    assert_eq!(last.path, "folder-899", "the latest stay");
}
