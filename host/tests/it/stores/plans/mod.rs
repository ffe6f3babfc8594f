//! How the database goes about each statement of the store: kept as a snapshot,
//! so that one that begins to read a whole table is seen before a queue of ten
//! million rows shows it.
//!
//! The statements are read from the store's own source: one that is not looked
//! at cannot be forgotten. `SWEEPD_TEST_ACCEPT=1` writes the snapshot anew.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use rusqlite::Connection;

use super::sqlite::SqliteHarness;
use super::{StoreHarness as _, register};

mod statements;

/// The tables that grow.
const LARGE: [&str; 4] = ["tasks", "history", "attempts", "effects"];

#[tokio::test]
async fn sqlite_reads_no_large_table_whole() {
    let harness = SqliteHarness::fresh().await;
    let store = harness.open().await;
    register(&store, "video-clear").await;
    store.close().await;
    let conn = Connection::open(harness.file()).expect("it opens");
    rusqlite::vtab::array::load_module(&conn).expect("the module of arrays");
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut plans = BTreeMap::new();
    for (file, sql) in statements::of(&root.join("src/store/sqlite")) {
        let plan = plan(&conn, &sql).unwrap_or_else(|error| panic!("{file}: {error}\n{sql}"));
        for line in &plan {
            let whole = LARGE.iter().any(|table| line == &format!("SCAN {table}"));
            assert!(!whole, "{file} reads all of a table: {line}\n{sql}");
        }
        plans.insert(format!("{file}: {}", one_line(&sql)), plan);
    }
    assert!(plans.len() > 40, "statements are missing: only {} were found", plans.len());
    compare(&root.join("tests/it/stores/plans/sqlite.txt"), &plans);
}

fn plan(conn: &Connection, sql: &str) -> rusqlite::Result<Vec<String>> {
    let mut explain = conn.prepare(&format!("EXPLAIN QUERY PLAN {sql}"))?;
    // Parameters stay unbound: a plan does not look at them.
    let mut rows = explain.raw_query();
    let mut lines = Vec::new();
    while let Some(row) = rows.next()? {
        lines.push(row.get(3)?);
    }
    Ok(lines)
}

fn one_line(sql: &str) -> String {
    sql.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn compare(snapshot: &Path, plans: &BTreeMap<String, Vec<String>>) {
    let mut text = String::new();
    for (statement, lines) in plans {
        let _ = writeln!(text, "{statement}");
        for line in lines {
            let _ = writeln!(text, "    {line}");
        }
    }
    if std::env::var_os("SWEEPD_TEST_ACCEPT").is_some() {
        fs::write(snapshot, &text).expect("the snapshot is written");
    }
    let kept = fs::read_to_string(snapshot).expect("there is a snapshot");
    assert!(text == kept, "plans have changed; look at them, then accept them with SWEEPD_TEST_ACCEPT=1:\n{text}");
}
