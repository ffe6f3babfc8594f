//! A file system that loses an answer after it made the change: what is on record
//! is what the disk shows, the budget is charged, and nothing is lost from the
//! trash.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use rustix::io::Errno;
use serde_json::Value;

use crate::cli::run;
use crate::effects::{effects, lines};
use crate::support::fuse::{Faulty, Op, When};
use crate::support::{Site, Sweepd, guest, plugin};

/// A site of which the videos are on a file system that fails as it is told to,
/// and the folder behind that.
fn site(component: &str, more: &str) -> (Site, Faulty, PathBuf) {
    let component = if component == "video-clear" { plugin(component) } else { guest(component) };
    let site = Site::with_job(&component, &format!("concurrency = 1\n{more}"));
    let behind = site.path().join("behind");
    fs::create_dir(&behind).unwrap();
    let faulty = Faulty::mount(&behind, &site.videos());
    (site, faulty, behind)
}

/// Files with these names, and a host that knows the directory.
fn started(site: &Site, names: &[String]) -> Sweepd {
    for name in names {
        fs::write(site.videos().join(name), name).unwrap();
    }
    let host = site.start();
    host.serving("clear");
    host.wait("the mount is marked", || site.videos().join(".sweepd-mount").exists());
    host
}

fn names(many: usize) -> Vec<String> {
    (0..many).map(|number| format!("f{number:02}")).collect()
}

fn paused(host: &Sweepd) -> String {
    let mut why = Value::Null;
    host.wait("the job is paused", || {
        why = host.get("/v1/jobs/clear")["paused"].clone();
        why.is_string()
    });
    why.as_str().unwrap().to_owned()
}

/// How often each result is on record, of removals.
fn results(site: &Site) -> BTreeMap<String, usize> {
    let mut results = BTreeMap::new();
    for effect in effects(site, &["--operation", "remove"]) {
        *results.entry(effect["result"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    results
}

fn left(behind: &std::path::Path) -> usize {
    let entries = fs::read_dir(behind).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    entries.filter(|name| !name.starts_with(".sweepd-")).count()
}

/// All twenty went, and none was counted.
fn is_counted(error: Errno, result: &str) {
    let (site, faulty, behind) = site("video-clear", "[job.budget]\nsweep_files = 2\n");
    let names = names(20);
    let host = started(&site, &names);
    faulty.fail(Op::Unlink, "f", When::After(error));
    host.enqueue("clear", &names);
    assert!(paused(&host).contains("2 files"), "{}", paused(&host));
    assert_eq!(left(&behind), 18);
    assert_eq!(results(&site), BTreeMap::from([(result.to_owned(), 2)]));
}

#[test]
fn a_removal_that_is_answered_with_an_error_is_counted() {
    is_counted(Errno::IO, "done");
}

/// The kernel itself repeats a call after this, and then nothing is there: who
/// removed it does not show.
#[test]
fn a_removal_that_the_kernel_repeats_is_counted() {
    is_counted(Errno::STALE, "unknown");
}

/// What the disk as a whole answers is no task's fault.
#[test]
fn a_disk_that_answers_nothing_but_errors_is_waited_for() {
    let (site, faulty, behind) = site("video-clear", "[job.retry]\nmax_attempts = 1\n");
    let names = names(3);
    let host = started(&site, &names);
    faulty.fail(Op::Unlink, "f", When::AndBroken(Errno::IO));
    let ids = host.enqueue("clear", &names);
    let mut why = Value::Null;
    host.wait("it is told", || {
        why = host.get("/v1/jobs/clear")["hindered"].clone();
        why.is_string()
    });
    assert!(why.as_str().unwrap().contains("the file system of a mount answers with errors"), "{why}");
    for id in &ids {
        let task = host.get(&format!("/v1/tasks/{id}"));
        assert_eq!((task["state"].as_str(), task["attempts"].as_u64()), (Some("pending"), Some(0)), "{task}");
    }
    assert_eq!(left(&behind), 3);
    faulty.heal();
    host.drained("clear");
    assert_eq!(left(&behind), 0);
    for id in ids {
        assert_eq!(host.get(&format!("/v1/tasks/{id}"))["attempts"], 1);
    }
}

/// And what it answers of one file is that file's.
#[test]
fn an_error_of_one_file_is_its_tasks() {
    let (site, faulty, behind) = site("video-clear", "[job.retry]\nmax_attempts = 1\n");
    let names = names(3);
    let host = started(&site, &names);
    faulty.fail(Op::Unlink, "f01", When::Before(Errno::IO));
    let ids = host.enqueue("clear", &names);
    host.drained("clear");
    let state = |id: &u64| host.get(&format!("/v1/tasks/{id}"))["state"].as_str().unwrap().to_owned();
    assert_eq!(ids.iter().map(state).collect::<Vec<_>>(), ["done", "dead", "done"]);
    assert_eq!(left(&behind), 1);
    assert!(host.get("/v1/jobs/clear")["hindered"].is_null());
}

#[test]
fn an_error_before_the_change_costs_nothing() {
    let (site, faulty, behind) =
        site("video-clear", "[job.budget]\nsweep_files = 2\n[job.retry]\nbackoff = \"100ms\"\n");
    let names = names(2);
    let host = started(&site, &names);
    faulty.fail(Op::Unlink, "f", When::Before(Errno::IO));
    host.enqueue("clear", &names);
    host.wait("both were tried", || results(&site).get("failed").is_some_and(|failed| *failed >= 2));
    assert_eq!(left(&behind), 2);
    faulty.heal();
    host.drained("clear");
    assert_eq!((left(&behind), results(&site)["done"]), (0, 2));
    assert_eq!(host.get("/v1/jobs/clear")["paused"], Value::Null);
}

/// After the answer nothing can be asked any more.
#[test]
fn what_the_disk_does_not_tell_is_unknown_and_counted() {
    let (site, faulty, behind) = site("video-clear", "[job.budget]\nsweep_files = 2\n");
    let names = names(5);
    let host = started(&site, &names);
    faulty.fail(Op::Unlink, "f", When::AndGone(Errno::TIMEDOUT));
    host.enqueue("clear", &names);
    assert!(paused(&host).contains("2 files"), "{}", paused(&host));
    assert_eq!(left(&behind), 3);
    assert_eq!(results(&site), BTreeMap::from([("unknown".to_owned(), 2)]));
}

/// The trash as it is listed: ids by name.
fn listed(site: &Site) -> BTreeMap<String, String> {
    let of = |file: Value| {
        let name = file["path"].as_str().unwrap().rsplit('/').next().unwrap().to_owned();
        (name, file["id"].as_str().unwrap().to_owned())
    };
    lines(&run(site, &["trash", "list", "clear", "--json"]).exits(0).out).into_iter().map(of).collect()
}

fn fates(site: &Site) -> BTreeMap<String, String> {
    let of = |effect: Value| {
        let name = effect["path"].as_str().unwrap().rsplit('/').next().unwrap().to_owned();
        Some((name, effect["fate"].as_str()?.to_owned()))
    };
    effects(site, &["--operation", "remove"]).into_iter().filter_map(of).collect()
}

#[test]
fn a_file_whose_way_into_the_trash_was_answered_with_an_error_is_in_it() {
    let (site, faulty, behind) = site("video-clear", "trash = \"1h\"\n");
    let all = names(4);
    let host = started(&site, &all);
    faulty.fail(Op::Rename, "f", When::After(Errno::NOTCONN));
    host.enqueue("clear", &all);
    host.wait("all went", || left(&behind) == 0 && listed(&site).len() == 4);
    assert_eq!(results(&site)["done"], 4);
    faulty.heal();
    host.drained("clear");

    // The host's own ways out of it lose their answers, too.
    let trash = listed(&site);
    faulty.fail(Op::Rename, ".sweepd-trash/", When::After(Errno::IO));
    faulty.fail(Op::Unlink, ".sweepd-trash/", When::After(Errno::TIMEDOUT));
    assert_eq!(run(&site, &["trash", "restore", "clear", &trash["f00"]]).exits(0).out, "1 restored\n");
    assert_eq!(run(&site, &["trash", "purge", "clear", &trash["f01"]]).exits(0).out, "1 purged\n");
    faulty.heal();
    // And where they are refused nothing is said to have left.
    faulty.fail(Op::Rename, ".sweepd-trash/", When::Before(Errno::IO));
    faulty.fail(Op::Unlink, ".sweepd-trash/", When::Before(Errno::IO));
    run(&site, &["trash", "restore", "clear", &trash["f02"]]).exits(1);
    run(&site, &["trash", "purge", "clear", &trash["f03"]]).exits(1);
    let expected = [("f00", "restored"), ("f01", "purged"), ("f02", "kept"), ("f03", "kept")];
    assert_eq!(fates(&site), expected.map(|(name, fate)| (name.to_owned(), fate.to_owned())).into());
    faulty.heal();
    assert_eq!(fs::read_to_string(site.videos().join("f00")).unwrap(), "f00");
    run(&site, &["trash", "restore", "clear", &trash["f02"]]).exits(0);
    assert_eq!(fs::read_to_string(site.videos().join("f02")).unwrap(), "f02");
}

/// Where not even the trash can be asked, the file is listed all the same.
#[test]
fn a_file_that_may_be_in_the_trash_is_listed_there() {
    let (site, faulty, behind) = site("video-clear", "trash = \"1h\"\n[job.retry]\nmax_attempts = 1\n");
    let all = names(1);
    let host = started(&site, &all);
    faulty.fail(Op::Rename, "f", When::AndGone(Errno::IO));
    host.enqueue("clear", &all);
    host.drained("clear");
    assert_eq!((left(&behind), results(&site)), (0, BTreeMap::from([("unknown".to_owned(), 1)])));
    faulty.heal();
    let trash = listed(&site);
    run(&site, &["trash", "restore", "clear", &trash["f00"]]).exits(0);
    assert_eq!(fs::read_to_string(site.videos().join("f00")).unwrap(), "f00");
}

/// Every change that there is, each of which is made and answered with an error:
/// none stands there as if nothing had changed.
#[test]
fn no_change_that_was_made_is_on_record_as_failed() {
    let (site, faulty, behind) = site("changes_everything", "");
    fs::create_dir(behind.join("empty")).unwrap();
    fs::write(behind.join("file"), "content").unwrap();
    let host = started(&site, &[]);
    for op in [Op::Write, Op::Create, Op::MakeFolder, Op::Unlink, Op::RemoveFolder, Op::Rename, Op::Link, Op::Set] {
        for path in ["made", "file", "linked", "renamed", "empty"] {
            faulty.fail(op, path, When::After(Errno::IO));
        }
    }
    host.enqueue("clear", &["x"]);
    host.drained("clear");
    let all = effects(&site, &[]);
    let is_made = |operation: &str| {
        let results =
            all.iter().filter(|effect| effect["operation"] == operation).map(|effect| effect["result"].clone());
        results.collect::<Vec<_>>()
    };
    for operation in ["create", "create-folder", "link", "remove-folder"] {
        assert!(is_made(operation).contains(&"done".into()), "{operation}: {all:#?}");
    }
    for operation in ["write", "truncate", "set-times"] {
        let results = is_made(operation);
        assert!(!results.is_empty() && !results.contains(&"failed".into()), "{operation}: {all:#?}");
    }
    // Of what was moved only what was there to be moved.
    assert!(is_made("rename").contains(&"done".into()), "{all:#?}");
    assert!(behind.join("made-folder").exists() && behind.join("linked").exists() && !behind.join("empty").exists());
}
