//! Servers' databases of earlier versions: brought up to date with their rows,
//! and left as they are by whoever only looks.

use std::fmt::Write as _;
use std::path::Path;

use sweepd::domain::digest::Digest;
use sweepd::domain::task::{TaskId, TaskState};
use sweepd::store::mysql::MySqlStore;
use sweepd::store::postgres::PostgresStore;
use sweepd::store::{SharedStore, StoreError};

use super::{MySqlHarness, PostgresHarness, SharedHarness as _, StoreHarness, mysql, postgres};

/// The steps of the first version, and the record of them.
fn first_version(folder: &str, names: &[&str], bytes: fn(&str) -> String) -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations").join(folder);
    let step = |name: &&str| std::fs::read_to_string(root.join(format!("{name}.sql"))).expect("a migration");
    let mut all: Vec<String> = names.iter().map(step).collect();
    let mut record = "INSERT INTO schema_migrations (version, name, checksum, applied_at) VALUES ".to_owned();
    for (nth, (name, sql)) in names.iter().zip(&all).enumerate() {
        let checksum = bytes(&Digest::of(sql.as_bytes()).to_string());
        let comma = if nth == 0 { "" } else { ", " };
        let _ = write!(record, "{comma}({}, '{name}', {checksum}, 0)", nth + 1);
    }
    all.push(record);
    all.push("INSERT INTO jobs (name, paused, scheduled) VALUES ('video-clear', 'by hand', 5)".to_owned());
    all
}

async fn is_up_to_date(store: SharedStore) {
    let jobs = store.jobs().await.expect("jobs are listed");
    assert_eq!((jobs[0].paused.as_deref(), jobs[0].once_over_budget), (Some("by hand"), false));
    let task = store.task(TaskId(1)).await.expect("it answers").expect("it is there");
    assert_eq!((task.key.as_str(), task.state), ("a", TaskState::Pending));
    store.resume(jobs[0].id, true).await.expect("it goes on");
    assert_eq!(store.take_allowance(jobs[0].id).await, Ok(true));
    store.close().await;
}

async fn is_not_looked_at(harness: &impl StoreHarness) {
    match harness.open_read_only().await {
        Err(StoreError::Incompatible(told)) => assert!(told.contains("sweepd migrate"), "{told}"),
        Err(error) => panic!("not incompatible: {error}"),
        Ok(_) => panic!("not incompatible: it opens"),
    }
}

#[tokio::test]
async fn postgres_is_brought_up_to_date_with_its_rows() {
    if !PostgresHarness::ready().await {
        return;
    }
    let harness = PostgresHarness::fresh().await;
    let record = "CREATE TABLE schema_migrations (
        version BIGINT PRIMARY KEY, name TEXT NOT NULL, checksum BYTEA NOT NULL, applied_at BIGINT NOT NULL)";
    postgres::tell(&harness.url(), record.to_owned()).await;
    for step in first_version("postgres", &["0001_queue"], |hex| format!("decode('{hex}', 'hex')")) {
        postgres::tell(&harness.url(), step).await;
    }
    let task = "INSERT INTO tasks (id, job, key, priority, run_at, enqueued_at) VALUES (1, 1, 'a', 2, 7, 7)";
    postgres::tell(&harness.url(), task.to_owned()).await;
    let pending = async || PostgresStore::pending_migrations(&harness.url()).await.expect("it is looked at");
    is_not_looked_at(&harness).await;
    assert_eq!(pending().await, ["0002_guard", "0003_clock", "0004_removed", "0005_made"]);
    is_up_to_date(harness.open().await).await;
    assert_eq!(pending().await, [""; 0]);
}

#[tokio::test]
async fn mariadb_is_brought_up_to_date_with_its_rows() {
    if !MySqlHarness::ready().await {
        return;
    }
    let harness = MySqlHarness::fresh().await;
    let record = "CREATE TABLE schema_migrations (
        version BIGINT PRIMARY KEY, name VARCHAR(255) NOT NULL, checksum VARBINARY(32) NOT NULL,
        applied_at BIGINT NOT NULL)";
    mysql::tell(&harness.url(), record.to_owned()).await;
    let names = [
        "0001_sequences",
        "0002_task_numbers",
        "0003_jobs",
        "0004_nodes",
        "0005_tasks",
        "0006_batches",
        "0007_history",
        "0008_attempts",
        "0009_requests",
    ];
    for step in first_version("mysql", &names, |hex| format!("UNHEX('{hex}')")) {
        mysql::tell(&harness.url(), step).await;
    }
    let task = "INSERT INTO tasks (id, job, `key`, priority, run_at, enqueued_at) VALUES (1, 1, 'a', 2, 7, 7)";
    mysql::tell(&harness.url(), task.to_owned()).await;
    let pending = async || MySqlStore::pending_migrations(&harness.url()).await.expect("it is looked at");
    is_not_looked_at(&harness).await;
    let later = [
        "0010_effects",
        "0011_holds",
        "0012_mounts",
        "0013_allowances",
        "0014_waits",
        "0015_lease_terms",
        "0016_removed",
        "0017_made",
    ];
    assert_eq!(pending().await, later);
    is_up_to_date(harness.open().await).await;
    assert_eq!(pending().await, [""; 0]);
}
