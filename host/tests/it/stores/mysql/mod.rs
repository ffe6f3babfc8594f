//! What only MariaDB has to stand: its collations, its schemas that no
//! transaction holds, connections that are cut, and few of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use sqlx::mysql::MySqlConnection;
use sqlx::{AssertSqlSafe, Connection as _};
use sweepd::store::mysql::{MySqlOptions, MySqlStore};
use sweepd::store::{SharedStore, StoreError};

use super::servers::{address, reachable};
use super::{SharedHarness, StoreHarness};

mod measure;
mod server;

/// The server of the tests, as a user who may make databases.
fn server() -> String {
    std::env::var("SWEEPD_TEST_MYSQL").unwrap_or_else(|_| "mysql://root@127.0.0.1:3306/mysql".to_owned())
}

/// The same server, another database.
fn with_database(url: &str, database: &str) -> String {
    let (path, query) = url.split_once('?').unwrap_or((url, ""));
    let (server, _) = path.rsplit_once('/').expect("the URL names a database");
    format!("{server}/{database}?{query}")
}

pub(super) async fn tell(url: &str, sql: String) {
    let mut conn = MySqlConnection::connect(url).await.expect("the server is there");
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut conn).await.expect("it does so");
    conn.close().await.expect("it closes");
}

/// A database of its own.
pub(crate) struct MySqlHarness {
    database: String,
}

impl MySqlHarness {
    async fn store(&self, max_connections: u32) -> MySqlStore {
        let options = MySqlOptions { max_connections, ..MySqlOptions::default() };
        MySqlStore::open(&self.url(), options).await.expect("the database opens")
    }
}

impl StoreHarness for MySqlHarness {
    async fn ready() -> bool {
        reachable("MariaDB", &address(&server(), 3306)).await
    }

    async fn fresh() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let database = format!("it_{}_{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        // A collation that would take one key for another.
        let sql = format!("CREATE DATABASE {database} CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci");
        tell(&server(), sql).await;
        Self { database }
    }

    async fn open(&self) -> SharedStore {
        Arc::new(self.store(4).await)
    }

    async fn open_read_only(&self) -> Result<SharedStore, StoreError> {
        let options = MySqlOptions { read_only: true, ..MySqlOptions::default() };
        Ok(Arc::new(MySqlStore::open(&self.url(), options).await?))
    }
}

impl SharedHarness for MySqlHarness {
    const TELLS: bool = false;

    fn url(&self) -> String {
        with_database(&server(), &self.database)
    }
}

impl Drop for MySqlHarness {
    fn drop(&mut self) {
        let sql = format!("DROP DATABASE {}", self.database);
        // A test's own runtime may be ending.
        let dropped = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(tell(&server(), sql));
        });
        let dropped = dropped.join().is_ok();
        assert!(dropped || std::thread::panicking(), "the database {} stays behind", self.database);
    }
}
