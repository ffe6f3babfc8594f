//! One host a file, and tools beside it.

use std::collections::HashSet;
use std::fs;
use std::sync::Arc;

use sweepd::store::sqlite::{SqliteOptions, SqliteStore};
use sweepd::store::{Heartbeat, Store as _, StoreError, TaskFilter};
use tempfile::TempDir;

use super::{assert_sound, copy_of, desk, message, with};
use crate::stores::{LEASE, StoreHarness as _, keys, node, task};

#[tokio::test]
async fn a_second_host_is_told_who_has_the_file() {
    let desk = desk().await;
    let told = message(SqliteStore::open(&desk.harness.file(), SqliteOptions::host()));
    let process = format!("process {}", std::process::id());
    for part in ["sweepd.db", "another sweepd", &process] {
        assert!(told.contains(part), "{told}");
    }
    // By a link to it, too.
    let link = desk.harness.0.path().join("link.db");
    std::os::unix::fs::symlink(desk.harness.file(), &link).expect("a link");
    message(SqliteStore::open(&link, SqliteOptions::host()));
    desk.store.close().await;
    SqliteStore::open(&link, SqliteOptions::host()).expect("closed, the file is free");
}

#[tokio::test]
async fn a_dropped_store_frees_the_file() {
    let mut desk = desk().await;
    let id = desk.new_task("a").await;
    let closed =
        Arc::new(SqliteStore::open(&with(&desk.harness.file(), ".other"), SqliteOptions::host()).expect("it opens"));
    drop(std::mem::replace(&mut desk.store, closed));
    desk.store = desk.harness.open().await;
    assert_eq!(desk.view(id).await.key, "a");
}

#[tokio::test]
async fn many_hosts_race_for_a_new_file() {
    let folder = TempDir::new().expect("a folder");
    let file = folder.path().join("sweepd.db");
    let open = || {
        let file = file.clone();
        std::thread::spawn(move || SqliteStore::open(&file, SqliteOptions::host()))
    };
    let racing: Vec<_> = (0..8).map(|_| open()).collect();
    let opened: Vec<_> = racing.into_iter().map(|thread| thread.join().expect("no panic")).collect();
    assert_eq!(opened.iter().filter(|store| store.is_ok()).count(), 1);

    drop(opened);
    let tools: Vec<_> = (0..8)
        .map(|_| {
            let file = file.clone();
            std::thread::spawn(move || SqliteStore::open(&file, SqliteOptions::beside()))
        })
        .collect();
    for tool in tools {
        tool.join().expect("no panic").expect("tools have room beside each other");
    }
}

#[tokio::test]
async fn tools_work_beside_the_host() {
    let desk = desk().await;
    let tool = SqliteStore::open(&desk.harness.file(), SqliteOptions::beside()).expect("it opens");
    let answers = tool.enqueue(desk.job, vec![task("from a tool")], desk.at()).await.expect("it is queued");
    assert_eq!(keys(&desk.claim(10).await.expect("it is due").tasks), ["from a tool"]);
    desk.new_task("from the host").await;
    assert!(tool.task(answers[0].id()).await.expect("it answers").is_some());
    tool.close().await;
    desk.new_task("after the tool").await;
    assert_sound(&desk.harness.file());
}

#[tokio::test]
async fn a_tool_and_the_host_never_give_one_number_twice() {
    let desk = desk().await;
    let tool = SqliteStore::open(&desk.harness.file(), SqliteOptions::beside()).expect("it opens");
    let mut ids = HashSet::new();
    for number in 0..20 {
        let ours = desk.new_task(&format!("host-{number}")).await;
        let theirs = tool.enqueue(desk.job, vec![task(&format!("tool-{number}"))], desk.at()).await;
        assert!(ids.insert(ours) && ids.insert(theirs.expect("it is queued")[0].id()));
    }
}

#[tokio::test]
async fn who_only_looks_makes_nothing_and_changes_nothing() {
    let desk = desk().await;
    let file = desk.harness.file();
    let elsewhere = with(&file, ".other");
    let told = message(SqliteStore::open(&elsewhere, SqliteOptions::read_only()));
    assert!(told.contains(".other"), "{told}");
    assert!(!elsewhere.exists() && !with(&elsewhere, ".lock").exists(), "nothing is made");
    desk.new_task("a").await;
    // As a kill left it: the log holds what the database does not yet.
    let (_folder, copy) = copy_of(&file);
    desk.store.close().await;
    for database in [copy, file] {
        let before = fs::read(&database).expect("it reads");
        let reader = SqliteStore::open(&database, SqliteOptions::read_only()).expect("it opens");
        let tasks = reader.tasks(TaskFilter { limit: 9, ..TaskFilter::default() }).await;
        assert_eq!(tasks.map(|tasks| tasks.len()), Ok(1));
        reader.close().await;
        assert!(matches!(reader.jobs().await, Err(StoreError::Unavailable(_))), "it is closed");
        assert!(fs::read(&database).expect("it reads") == before, "no byte was written");
        let host = SqliteStore::open(&database, SqliteOptions::host()).expect("no lock was left");
        host.close().await;
        assert_sound(&database);
    }
}

#[tokio::test]
async fn a_tool_is_no_host() {
    let desk = desk().await;
    desk.new_task("a").await;
    desk.claim_one().await;
    let tool = SqliteStore::open(&desk.harness.file(), SqliteOptions::beside()).expect("it opens");
    let answer = tool.begin_incarnation(node("tool"), desk.at()).await;
    assert!(matches!(answer, Err(StoreError::Rejected(_))), "{answer:?}");
    let beat = desk.store.heartbeat(desk.node, LEASE, desk.at()).await;
    assert_eq!(beat, Ok(Heartbeat::Held { asked: 0 }));
}

/// SQLite keeps a log beside each name: what stands in one is lost under another.
#[tokio::test]
async fn a_file_with_a_second_name_is_refused() {
    let desk = desk().await;
    let id = desk.new_task("a").await;
    let file = desk.harness.file();
    let link = desk.harness.0.path().join("link.db");
    fs::hard_link(&file, &link).expect("a link");
    for options in [SqliteOptions::host(), SqliteOptions::beside()] {
        let told = message(SqliteStore::open(&link, options));
        assert!(told.contains("2 names") && told.contains("link.db"), "{told}");
    }
    assert!(!with(&link, "-wal").exists(), "nothing was opened");
    desk.new_task("b").await;
    assert_eq!(desk.view(id).await.key, "a", "its host goes on");
    desk.store.close().await;
    message(SqliteStore::open(&file, SqliteOptions::host()));
    fs::remove_file(&link).expect("it goes");
    // What a host leaves that was killed while it wrote the file back is no name of anybody's.
    fs::hard_link(&file, with(&file, ".healing")).expect("a link");
    let store = SqliteStore::open(&file, SqliteOptions::host()).expect("it opens");
    assert!(store.task(id).await.expect("it answers").is_some());
}
