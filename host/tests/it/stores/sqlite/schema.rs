//! Files that are not ours, or not ours yet.

use std::fs;
use std::path::Path;

use rusqlite::Connection;
use sweepd::store::StoreError;
use sweepd::store::sqlite::{SqliteOptions, SqliteStore};
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
