//! The database under a running host is read-only for a while, as in a
//! failover, and the sessions of that time outlive it.

use serde_json::json;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection as _};

use crate::stores::{PostgresHarness, SharedHarness as _, StoreHarness as _};
use crate::support::{Site, guest};

#[test]
fn a_host_goes_on_after_a_failover_by_itself() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    if !runtime.block_on(PostgresHarness::ready()) {
        return;
    }
    let database = runtime.block_on(PostgresHarness::fresh());
    let url = database.url();
    let name = url.split('?').next().and_then(|path| path.rsplit('/').next()).unwrap();
    let tell = |sql: String| {
        runtime.block_on(async {
            let mut conn = PgConnection::connect(&url).await.unwrap();
            sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut conn).await.unwrap();
        });
    };
    let site = Site::new();
    site.install(&guest("noop"));
    site.configure(&format!(
        "[database]\nurl = \"{url}\"\nmax_connections = 4\n\
         [[job]]\nname = \"clear\"\nplugin = \"plugins/plugin.wasm\"\nmounts = [\"videos\"]\ninterval = \"200ms\"\n"
    ));
    let host = site.start();
    host.serving("clear");
    let enqueue = |key: &str| host.request("POST", "/v1/jobs/clear/tasks", Some(&json!({ "key": key }))).0;
    assert_eq!(enqueue("before"), 201);

    tell(format!("ALTER DATABASE {name} SET default_transaction_read_only = on"));
    tell(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
         WHERE datname = current_database() AND pid <> pg_backend_pid()"
            .to_owned(),
    );
    host.wait("requests are refused", || enqueue("during") == 503);
    host.wait("it is not ready", || host.request("GET", "/readyz", None).0 == 503);
    // Status is read: all connections of the host are made, and only read.
    for _ in 0..8 {
        host.get("/v1/jobs/clear");
    }
    tell(format!("SET TRANSACTION READ WRITE; ALTER DATABASE {name} RESET ALL"));

    for number in 0..20 {
        assert_eq!(enqueue(&format!("after-{number}")), 201, "{}", host.log());
    }
    assert_eq!(host.request("GET", "/readyz", None).0, 200);
    host.drained("clear");
    assert_eq!(host.tasks("clear", "done").len(), 21);
    let log = host.whole_log();
    assert!(!log.contains("the lease was lost"), "{log}");
}
