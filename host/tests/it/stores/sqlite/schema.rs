//! Files that are not ours, or not ours yet.

use std::fs;
use std::path::Path;

use rusqlite::Connection;
use sweepd::domain::digest::Digest;
use sweepd::domain::task::{TaskId, TaskState};
use sweepd::store::sqlite::{SqliteOptions, SqliteStore};
use sweepd::store::{Store as _, StoreError};
use tempfile::TempDir;

use super::{desk, message};

fn incompatible(file: &Path) -> String {
    match SqliteStore::open(file, SqliteOptions::host()) {
        Err(StoreError::Incompatible(message)) => message,
        other => panic!("not incompatible: {other:?}"),
    }
}

#[tokio::test]
async fn a_newer_schema_is_left_alone() {
    let desk = desk().await;
    desk.new_task("a").await;
    desk.store.close().await;
    let file = desk.harness.file();
    let conn = Connection::open(&file).expect("it opens");
    conn.execute("INSERT INTO schema_migrations VALUES (99, '0099_future', x'00', 0)", []).expect("a row");
    let told = incompatible(&file);
    assert!(told.contains("version 99") && told.contains("newer sweepd") && told.contains("sweepd.db"), "{told}");
    conn.execute("DELETE FROM schema_migrations WHERE version = 99", []).expect("a row");
    SqliteStore::open(&file, SqliteOptions::host()).expect("it is ours again");
}

#[tokio::test]
async fn a_changed_migration_is_noticed() {
    let desk = desk().await;
    desk.store.close().await;
    let file = desk.harness.file();
    let conn = Connection::open(&file).expect("it opens");
    conn.execute("UPDATE schema_migrations SET checksum = x'00'", []).expect("a row");
    assert!(incompatible(&file).contains("0001_queue"));
}

#[tokio::test]
async fn other_files_are_not_taken_for_databases() {
    let folder = TempDir::new().expect("a folder");
    let text = folder.path().join("notes.txt");
    fs::write(&text, "not a database, but long enough to be looked at\n".repeat(100)).expect("a file");
    assert!(incompatible(&text).contains("no SQLite database"));
    assert!(fs::read_to_string(&text).expect("it is there").starts_with("not a database"));

    let foreign = folder.path().join("photos.db");
    Connection::open(&foreign).and_then(|conn| conn.execute_batch("CREATE TABLE photos (x)")).expect("a table");
    assert!(incompatible(&foreign).contains("another program's"));

    let told = message(SqliteStore::open(folder.path(), SqliteOptions::host()));
    assert!(told.contains(&folder.path().display().to_string()), "{told}");
}

/// A database as the first version left it, with a paused job and a task.
fn of_the_first_version(file: &Path) {
    let sql = include_str!("../../../../migrations/sqlite/0001_queue.sql");
    let conn = Connection::open(file).expect("it opens");
    conn.pragma_update(None, "journal_mode", "WAL").expect("a log");
    conn.execute_batch(sql).expect("a schema");
    conn.execute_batch(
        "CREATE TABLE schema_migrations (
             version INTEGER PRIMARY KEY, name TEXT NOT NULL, checksum BLOB NOT NULL, applied_at INTEGER NOT NULL
         ) STRICT;
         PRAGMA application_id = 0x53574550;
         INSERT INTO jobs (name, paused, scheduled) VALUES ('video-clear', 'by hand', 5);
         INSERT INTO tasks (id, job, key, priority, run_at, enqueued_at) VALUES (1, 1, CAST('a' AS BLOB), 2, 7, 7);",
    )
    .expect("rows");
    let checksum = Digest::of(sql.as_bytes());
    let row = (1, "0001_queue", checksum.as_bytes(), 0);
    conn.execute("INSERT INTO schema_migrations VALUES (?1, ?2, ?3, ?4)", row).expect("a row");
}

#[tokio::test]
async fn an_older_database_is_brought_up_to_date_with_its_rows() {
    let folder = TempDir::new().expect("a folder");
    let file = folder.path().join("sweepd.db");
    of_the_first_version(&file);
    let pending = ["0002_guard", "0003_clock", "0004_removed", "0005_made"].map(str::to_owned).to_vec();
    assert_eq!(SqliteStore::pending_migrations(&file), Ok(pending));
    let store = SqliteStore::open(&file, SqliteOptions::host()).expect("it opens");
    let jobs = store.jobs().await.expect("jobs are listed");
    assert_eq!((jobs[0].paused.as_deref(), jobs[0].once_over_budget), (Some("by hand"), false));
    let task = store.task(TaskId(1)).await.expect("it answers").expect("it is there");
    assert_eq!((task.key.as_str(), task.state), ("a", TaskState::Pending));
    store.resume(jobs[0].id, true).await.expect("it goes on");
    assert_eq!(store.take_allowance(jobs[0].id).await, Ok(true));
    store.close().await;
    assert_eq!(SqliteStore::pending_migrations(&file), Ok(Vec::new()));
}

#[tokio::test]
async fn an_older_database_is_not_changed_by_looking_at_it() {
    let folder = TempDir::new().expect("a folder");
    let file = folder.path().join("sweepd.db");
    of_the_first_version(&file);
    let before = fs::read(&file).expect("it reads");
    match SqliteStore::open(&file, SqliteOptions::read_only()) {
        Err(StoreError::Incompatible(told)) => assert!(told.contains("0002_guard") && told.contains("sweepd migrate")),
        other => panic!("not incompatible: {other:?}"),
    }
    assert!(fs::read(&file).expect("it reads") == before, "nothing was written");
}
