//! Queueing 200,000 tasks in calls of 10,000, each durable before the next; and
//! the bare loop that MariaDB is measured by.

use std::sync::Arc;
use std::time::Instant;

use sqlx::{Connection as _, Executor as _, MySqlConnection, Row as _};
use sweepd::domain::job::JobName;
use sweepd::domain::task::{self, NewTask};
use sweepd::store::sqlite::{SqliteOptions, SqliteStore};
use sweepd::store::{At, SharedStore};
use tokio::runtime::Runtime;

use super::databases::{Database, Kind};
use crate::report::{Report, median};
use crate::world;

fn how_many() -> usize {
    world::sized(200_000, 2000)
}
fn call() -> usize {
    world::sized(10_000, 1000)
}
fn rounds() -> usize {
    world::sized(3, 1)
}

/// The key of a number.
type Key<'a> = dyn Fn(usize) -> String + 'a;

pub(super) fn measure(report: &mut Report) {
    let sequential = |number: usize| format!("video-{number:06}");
    let random = |_| format!("{:032x}", fastrand::u128(..));
    let goals: [(Kind, &str, &Key<'_>, f64); 3] = [
        (Kind::Sqlite, "sequential", &sequential, 250_000.0),
        (Kind::Sqlite, "random", &random, 100_000.0),
        (Kind::Postgres, "sequential", &sequential, 120_000.0),
    ];
    for (kind, keys, key, goal) in goals {
        let rates: Vec<_> = (0..rounds()).filter_map(|_| rate(kind, key)).collect();
        if !rates.is_empty() {
            let detail = format!("{} tasks in calls of {}", how_many(), call());
            report.at_least(&format!("bulk enqueue, {keys} keys, {}", kind.name()), median(rates), goal, "/s", detail);
        }
    }
}

pub(super) fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}

fn rate(kind: Kind, key: &Key<'_>) -> Option<f64> {
    let database = Database::fresh(kind)?;
    let folder = world::folder();
    let new_task = |number| NewTask::now(task::Key::new(key(number)).expect("a key"));
    let tasks: Vec<NewTask> = (0..how_many()).map(new_task).collect();
    runtime().block_on(async {
        let store = open(&database, folder.path()).await;
        let job = store.register_job(&JobName::new("bench").expect("a name")).await.expect("a job").id;
        let began = Instant::now();
        for tasks in tasks.chunks(call()) {
            store.enqueue(job, tasks.to_vec(), At::Server).await.expect("they are queued");
        }
        let took = began.elapsed().as_secs_f64();
        store.close().await;
        Some(how_many() as f64 / took)
    })
}

async fn open(database: &Database, folder: &std::path::Path) -> SharedStore {
    match database.url() {
        None => Arc::new(SqliteStore::open(&folder.join("queue.db"), SqliteOptions::host()).expect("it opens")),
        Some(url) => super::databases::open_server(&url).await,
    }
}

/// Claims 500 rows and deletes them, again and again, with nothing around it;
/// rows a second.
pub(super) async fn bare_mariadb_loop(rows: usize) -> f64 {
    let database = Database::fresh(Kind::MariaDb).expect("it answered before");
    let mut conn = MySqlConnection::connect(&database.url().expect("a server")).await.expect("it connects");
    for sql in [
        "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
        "CREATE TABLE t (id BIGINT PRIMARY KEY AUTO_INCREMENT, k VARBINARY(64), state TINYINT, run_at BIGINT,
             UNIQUE (k), INDEX due (run_at, id))",
        "CREATE TABLE h (id BIGINT PRIMARY KEY, k VARBINARY(64), at BIGINT, INDEX (at))",
    ] {
        conn.execute(sql).await.expect("it is set up");
    }
    for first in (0..rows).step_by(1000) {
        let values: Vec<_> = (first..first + 1000).map(|number| format!("('video-{number:06}', 0, 1)")).collect();
        let insert = format!("INSERT INTO t (k, state, run_at) VALUES {}", values.join(", "));
        conn.execute(sqlx::AssertSqlSafe(insert)).await.expect("rows are inserted");
    }
    let began = Instant::now();
    loop {
        let mut claim = conn.begin().await.expect("it begins");
        let select = "SELECT id FROM t FORCE INDEX (due) WHERE run_at <= 1 AND state = 0 ORDER BY run_at, id LIMIT 500
                      FOR UPDATE SKIP LOCKED";
        let found = claim.fetch_all(select).await.expect("it claims");
        if found.is_empty() {
            return rows as f64 / began.elapsed().as_secs_f64();
        }
        let ids: Vec<_> = found.iter().map(|row| row.get::<i64, _>(0).to_string()).collect();
        let ids = ids.join(",");
        let take = format!("UPDATE t SET state = 1 WHERE id IN ({ids})");
        claim.execute(sqlx::AssertSqlSafe(take)).await.expect("it takes");
        claim.commit().await.expect("it commits");
        let mut finish = conn.begin().await.expect("it begins");
        let keep = format!("INSERT INTO h SELECT id, k, 1 FROM t WHERE id IN ({ids})");
        finish.execute(sqlx::AssertSqlSafe(keep)).await.expect("it keeps");
        let end = format!("DELETE FROM t WHERE id IN ({ids})");
        finish.execute(sqlx::AssertSqlSafe(end)).await.expect("it ends");
        finish.commit().await.expect("it commits");
    }
}
