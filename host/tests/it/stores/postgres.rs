//! What only PostgreSQL has to stand: connections that are cut, few of them,
//! and a listener that loses its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection as _};
use sweepd::store::SharedStore;
use sweepd::store::postgres::{PostgresOptions, PostgresStore};

use super::servers::{address, reachable};
use super::{Desk, SharedHarness, StoreHarness};

/// The server of the tests, as a user who may make databases.
fn server() -> String {
    std::env::var("SWEEPD_TEST_POSTGRES").unwrap_or_else(|_| "postgres://postgres@127.0.0.1:5432/postgres".to_owned())
}

/// The same server, another database.
fn with_database(url: &str, database: &str) -> String {
    let (path, query) = url.split_once('?').unwrap_or((url, ""));
    let (server, _) = path.rsplit_once('/').expect("the URL names a database");
    format!("{server}/{database}?{query}")
}

async fn tell(url: &str, sql: String) {
    let mut conn = PgConnection::connect(url).await.expect("the server is there");
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut conn).await.expect("it does so");
    conn.close().await.expect("it closes");
}

/// A database of its own.
pub(crate) struct PostgresHarness {
    database: String,
}

impl PostgresHarness {
    async fn store(&self, url: &str, max_connections: u32) -> PostgresStore {
        let options = PostgresOptions { max_connections, ..PostgresOptions::default() };
        PostgresStore::open(url, options).await.expect("the database opens")
    }
}

impl StoreHarness for PostgresHarness {
    async fn ready() -> bool {
        reachable("PostgreSQL", &address(&server(), 5432)).await
    }

    async fn fresh() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let database = format!("it_{}_{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        tell(&server(), format!("CREATE DATABASE {database}")).await;
        Self { database }
    }

    async fn open(&self) -> SharedStore {
        Arc::new(self.store(&self.url(), 4).await)
    }
}

impl SharedHarness for PostgresHarness {
    const TELLS: bool = true;

    fn url(&self) -> String {
        with_database(&server(), &self.database)
    }
}

impl Drop for PostgresHarness {
    fn drop(&mut self) {
        let sql = format!("DROP DATABASE {} WITH (FORCE)", self.database);
        // A test's own runtime may be ending.
        let dropped = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(tell(&server(), sql));
        });
        if dropped.join().is_err() && !std::thread::panicking() {
            panic!("the database {} stays behind", self.database);
        }
    }
}

async fn desk() -> Desk<PostgresHarness> {
    Desk::open().await
}
