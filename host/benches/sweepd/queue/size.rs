//! Ten million pending rows against ten thousand: claiming and finishing 500 at
//! a time must cost about the same.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sqlx::{AssertSqlSafe, Connection as _, Executor as _, MySqlConnection, PgConnection};
use sweepd::domain::digest::Digest;
use sweepd::domain::job::{JobId, JobName};
use sweepd::domain::node::{LeaseTerm, NewNode};
use sweepd::domain::outcome::{Attempt, Disposition, Finish};
use sweepd::domain::time::Timestamp;
use sweepd::store::sqlite::{SqliteOptions, SqliteStore};
use sweepd::store::{At, ClaimDue, SharedStore, WriteBack};

use super::bulk;
use super::databases::{Database, Kind, open_server};
use crate::report::{Report, median};
use crate::world;

fn few_rows() -> u64 {
    world::sized(10_000, 1000)
}
fn many_rows() -> u64 {
    world::sized(10_000_000, 2000)
}
const BATCH: u32 = 500;
fn rounds() -> usize {
    world::sized(19, 1)
}

/// Keys that rise with their tasks, or keys without any order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Keys {
    Sequential,
    Random,
}

pub(crate) fn measure(report: &mut Report) {
    for kind in Kind::ALL {
        let Some(few) = cost(kind, few_rows(), Keys::Sequential) else { continue };
        let many = cost(kind, many_rows(), Keys::Sequential).expect("it answered before");
        let random = cost(kind, many_rows(), Keys::Random).expect("it answered before");
        let name = kind.name();
        let detail = format!("{:.2} µs a row, random keys {:.2} µs", many.0, random.0);
        report.at_most(&format!("claim of ten million rows, {name}"), many.0 / few.0, 1.2, "ratio", detail);
        let detail = format!("{:.2} µs a row, random keys {:.2} µs", many.1, random.1);
        report.at_most(&format!("finish of ten million rows, {name}"), many.1 / few.1, 1.5, "ratio", detail);
    }
}

/// Microseconds a row of a claim and of a finish.
fn cost(kind: Kind, rows: u64, keys: Keys) -> Option<(f64, f64)> {
    let database = Database::fresh(kind)?;
    let folder = world::folder();
    bulk::runtime().block_on(async {
        let file = folder.path().join("queue.db");
        let store: SharedStore = match database.url() {
            None => Arc::new(SqliteStore::open(&file, SqliteOptions::host()).expect("it opens")),
            Some(url) => open_server(&url).await,
        };
        let job = store.register_job(&JobName::new("bench").expect("a name")).await.expect("a job").id;
        match database.url() {
            None => {
                // Nobody else writes while the rows are made.
                store.close().await;
                fill_file(&file, job, rows, keys);
                let store: SharedStore = Arc::new(SqliteStore::open(&file, SqliteOptions::host()).expect("it opens"));
                return Some(claim_and_finish(&store, job).await);
            }
            Some(url) => fill_server(kind, &url, job, rows, keys).await,
        }
        database.settle();
        Some(claim_and_finish(&store, job).await)
    })
}

fn fill_file(file: &std::path::Path, job: JobId, rows: u64, keys: Keys) {
    let key = match keys {
        Keys::Sequential => "CAST(printf('video-%08d', i) AS BLOB)",
        Keys::Random => "CAST(hex(randomblob(16)) AS BLOB)",
    };
    let sql = format!(
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows})
         INSERT INTO tasks (id, job, key, priority, run_at, enqueued_at) SELECT i, {}, {key}, 2, i, 1 FROM n;
         UPDATE sequences SET value = {rows} WHERE name = 'task';",
        job.0
    );
    let conn = rusqlite::Connection::open(file).expect("it opens");
    conn.execute_batch(&sql).expect("rows are made");
}

async fn fill_server(kind: Kind, url: &str, job: JobId, rows: u64, keys: Keys) {
    if kind == Kind::Postgres {
        let key = match keys {
            Keys::Sequential => "convert_to('video-' || lpad(i::text, 8, '0'), 'UTF8')",
            Keys::Random => "convert_to(md5(i::text), 'UTF8')",
        };
        let sql = format!(
            "INSERT INTO tasks (job, key, priority, run_at, enqueued_at)
             SELECT {}, {key}, 2, i, 1 FROM generate_series(1, {rows}) AS i",
            job.0
        );
        let mut conn = PgConnection::connect(url).await.expect("it connects");
        conn.execute(AssertSqlSafe(sql)).await.expect("rows are made");
        return;
    }
    let key = match keys {
        Keys::Sequential => "concat('video-', lpad(seq, 8, '0'))",
        Keys::Random => "md5(seq)",
    };
    let mut conn = MySqlConnection::connect(url).await.expect("it connects");
    // In pieces: a transaction of ten million rows outgrows the server's logs.
    for first in (1..=rows).step_by(100_000) {
        let last = rows.min(first + 99_999);
        let sql = format!(
            "INSERT INTO tasks (id, job, `key`, priority, run_at, enqueued_at)
             SELECT 1000000000 + seq, {}, {key}, 2, seq, 1 FROM seq_{first}_to_{last}",
            job.0
        );
        conn.execute(AssertSqlSafe(sql)).await.expect("rows are made");
    }
    conn.execute("ANALYZE TABLE tasks").await.expect("it is looked at");
}

async fn claim_and_finish(store: &SharedStore, job: JobId) -> (f64, f64) {
    let lease = LeaseTerm(Duration::from_hours(1));
    let (name, version) = ("bench".to_owned(), "0".to_owned());
    let about = NewNode { name, labels: Vec::new(), version, lease };
    let node = store.begin_incarnation(about, At::Server).await.expect("a life begins").node;
    let horizon = Timestamp(u64::from(u32::MAX));
    let ask = ClaimDue { job, node, horizon, limit: BATCH, lowest_first: false, suspects: true };
    let (mut claims, mut finishes) = (Vec::new(), Vec::new());
    let attempt =
        Attempt { number: 1, node, started: horizon, ended: horizon, digest: Some(Digest::of(b"bench")), removed: 0 };
    for _ in 0..rounds() {
        let began = Instant::now();
        let claim = store.claim_due(ask).await.expect("it is answered").expect("rows are due");
        claims.push(micros_a_row(began));
        assert_eq!(claim.tasks.len(), BATCH as usize);
        let finish = |id, fence| Finish { id, fence, disposition: Disposition::Done(None), attempt: attempt.clone() };
        let finishes_of = claim.tasks.iter().map(|task| finish(task.id, task.fence)).collect();
        let write_back = WriteBack { finishes: finishes_of, closed: vec![claim.fence], effects: Vec::new() };
        let began = Instant::now();
        store.finish(write_back, At::Server).await.expect("it is answered");
        finishes.push(micros_a_row(began));
    }
    store.close().await;
    (median(claims), median(finishes))
}

fn micros_a_row(began: Instant) -> f64 {
    began.elapsed().as_secs_f64() * 1e6 / f64::from(BATCH)
}
