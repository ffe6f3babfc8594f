//! The file below a running host: removed, replaced, full, copied.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use rusqlite::Connection;
use sweepd::domain::job::JobName;
use sweepd::domain::outcome::Disposition;
use sweepd::domain::task::{Enqueued, NewTask, Priority, TaskState};
use sweepd::store::sqlite::{SqliteOptions, SqliteStore};
use sweepd::store::{At, Store as _, StoreError, TaskFilter, WriteBack};

use super::{SqliteHarness, assert_sound, copy_of, desk, message, with};
use crate::stores::{Desk, LEASE, StoreHarness as _, task, with_payload};

#[tokio::test]
async fn a_removed_file_is_written_back() {
    for suffixes in [&["", "-wal", "-shm"][..], &[""], &["", "-wal"]] {
        let mut desk = desk().await;
        let before = desk.add(with_payload("before", "p")).await.id();
        leave_holes(&desk).await;
        assert_eq!(desk.view(before).await.state, TaskState::Pending, "a reader has the file open");
        desk.harness.remove(suffixes);
        let after = desk.new_task("after").await;
        assert_eq!(desk.view(after).await.key, "after", "readers see the new file");
        desk.claim(1).await.expect("two are due");
        let copy = with(&desk.harness.file(), ".healing");
        assert!(!copy.exists());
        assert_sound(&desk.harness.file());
        assert_eq!(desk.crash().await, 1, "{suffixes:?}: all of it is in the file");
        assert_eq!(desk.view(before).await.payload.as_deref(), Some("p"));
        assert_eq!(desk.view(after).await.state, TaskState::Pending);
    }
}

/// Fills pages and frees most, so that a copy of the database differs from it
/// page by page; then starts the log anew.
async fn leave_holes(desk: &Desk<SqliteHarness>) {
    let payload = "x".repeat(1000);
    let many = (0..300).map(|number| with_payload(&format!("fill-{number}"), &payload));
    desk.enqueue(many.map(|task| NewTask { priority: Priority::Urgent, ..task }).collect()).await;
    let claim = desk.claim(300).await.expect("they are due");
    let finishes = claim.tasks.iter().map(|task| desk.finish_of(task, Disposition::Done(None))).collect();
    let closed = vec![claim.fence];
    desk.store.finish(WriteBack { finishes, closed, effects: Vec::new() }, desk.at()).await.expect("they are done");
    // What is in the log from now on fits only the file that is there now.
    let other = Connection::open(desk.harness.file()).expect("it opens");
    let copied = other.query_row("PRAGMA wal_checkpoint(RESTART)", [], |row| row.get::<_, i64>(0));
    assert_eq!(copied, Ok(0));
    desk.new_task("in the log").await;
}

#[tokio::test]
async fn a_removed_folder_is_made_again() {
    let mut desk = desk().await;
    let id = desk.new_task("a").await;
    fs::remove_dir_all(desk.harness.file().parent().expect("a folder")).expect("it was there");
    assert_eq!(desk.store.check().await, Ok(()));
    let second = SqliteStore::open(&desk.harness.file(), SqliteOptions::host());
    assert!(message(second).contains("another sweepd"), "the lock is there again, too");
    desk.reopen().await;
    assert_eq!(desk.view(id).await.key, "a");
}

#[tokio::test]
async fn a_removed_log_is_written_into_the_file() {
    for suffixes in [&["-wal"][..], &["-wal", "-shm"]] {
        let mut desk = desk().await;
        let before = desk.new_task("before").await;
        assert_eq!(desk.view(before).await.key, "before", "a reader has the log open");
        desk.harness.remove(suffixes);
        let after = desk.new_task("after").await;
        assert_eq!(desk.view(after).await.key, "after");
        assert_sound(&desk.harness.file());
        // As after a kill: the next host reads what is on the disk.
        let image = copy_of(&desk.harness.file());
        let store = SqliteStore::open(&image.1, SqliteOptions::host()).expect("it opens");
        assert!(store.task(before).await.expect("it answers").is_some());
        assert!(store.task(after).await.expect("it answers").is_some());
        desk.reopen().await;
        assert_eq!(desk.view(before).await.key, "before");
    }
}

#[tokio::test]
async fn another_file_in_its_place_is_left_alone() {
    let backup = {
        let desk = desk().await;
        desk.new_task("from the backup").await;
        desk.store.close().await;
        fs::read(desk.harness.file()).expect("it is there")
    };
    let mut desk = desk().await;
    desk.new_task("a").await;
    desk.harness.remove(&["", "-wal", "-shm"]);
    fs::write(desk.harness.file(), &backup).expect("it is restored");
    for answer in [desk.try_enqueue(desk.job, vec![task("b")]).await.map(drop), desk.store.check().await] {
        let message = message(answer);
        assert!(message.contains("restart sweepd") && message.contains("sweepd.db"), "{message}");
    }
    desk.store.close().await;
    assert_eq!(fs::read(desk.harness.file()).expect("it is there"), backup, "not a byte was changed");
    desk.crash().await;
    assert_eq!(desk.claim_keys(10).await, ["from the backup"]);
}

#[tokio::test]
async fn a_full_disk_refuses_and_recovers() {
    let harness = SqliteHarness::fresh().await;
    let options = SqliteOptions { max_pages: Some(200), ..SqliteOptions::host() };
    let store = SqliteStore::open(&harness.file(), options).expect("it opens");
    let job = store.register_job(&JobName::new("video-clear").expect("a name")).await.expect("a job").id;
    let payload = "x".repeat(20_000);
    let mut stored = 0;
    let refused = loop {
        let pair = ["a", "b"].map(|half| with_payload(&format!("{stored}-{half}"), &payload));
        match store.enqueue(job, pair.to_vec(), At::Server).await {
            Ok(_) => stored += 1,
            Err(error) => break error,
        }
    };
    let StoreError::Full(told) = refused else { panic!("{refused:?}") };
    assert!(told.contains("full") && told.contains("sweepd.db"), "{told}");
    assert!(stored > 10);
    let all = TaskFilter { limit: 1000, ..TaskFilter::default() };
    let listed = store.tasks(all.clone()).await.expect("reading goes on");
    assert_eq!(listed.len(), stored * 2, "no pair is half there");

    // Somebody makes room, and the same store goes on.
    let other = Connection::open(harness.file()).expect("it opens");
    other.execute("DELETE FROM tasks WHERE id <= 10", []).expect("rows are deleted");
    assert_eq!(store.check().await, Ok(()));
    let answers = store.enqueue(job, vec![with_payload("after", &payload)], At::Server).await;
    assert!(matches!(answers.as_deref(), Ok([Enqueued::New(_)])), "{answers:?}");
    assert_eq!(store.tasks(all).await.expect("reading goes on").len(), stored * 2 - 10 + 1);
}

#[tokio::test]
async fn what_is_answered_is_in_the_files() {
    let desk = desk().await;
    for round in 0..10 {
        let id = desk.new_task(&round.to_string()).await;
        let (_folder, copy) = copy_of(&desk.harness.file());
        let store = SqliteStore::open(&copy, SqliteOptions::host()).expect("it opens");
        assert!(store.task(id).await.expect("it answers").is_some(), "round {round}");
    }
}

#[tokio::test]
async fn only_its_user_may_read_it() {
    let desk = desk().await;
    desk.new_task("a").await;
    let mode = |path: &Path| fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
    let file = desk.harness.file();
    assert_eq!(mode(file.parent().expect("a folder")), 0o700);
    for suffix in ["", "-wal", "-shm", ".lock"] {
        assert_eq!(mode(&with(&file, suffix)), 0o600, "{suffix}");
    }
}

#[tokio::test]
async fn an_idle_claim_writes_nothing() {
    let desk = desk().await;
    desk.new_task("a").await;
    desk.claim_one().await;
    let log = with(&desk.harness.file(), "-wal");
    let written = || {
        let log = fs::metadata(&log).expect("it is there");
        (log.len(), log.modified().expect("a time"))
    };
    let before = written();
    for _ in 0..10 {
        assert_eq!(desk.claim(10).await, None);
        desk.store.heartbeat(desk.node, LEASE, desk.at()).await.expect("it is held");
        assert_eq!(desk.store.check().await, Ok(()));
    }
    assert_eq!(written(), before);
}
