//! What a host waits for at its start: it says what, answers health checks
//! meanwhile, and a signal ends the wait.

use std::io::Read as _;
use std::net::TcpListener;

use rusqlite::Connection as Sqlite;
use rustix::process::Signal;
use serde_json::Value;
use sqlx::mysql::MySqlConnection;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection as _};

use crate::stores::{MySqlHarness, PostgresHarness, SharedHarness};
use crate::support::{PATIENCE, Site, Sweepd, guest};

/// A site whose queue is at `url`; `more` is in `[database]`.
fn site(url: &str, more: &str) -> Site {
    let site = Site::new();
    site.install(&guest("noop"));
    site.configure(&format!(
        "[database]\nurl = \"{url}\"\n{more}[[job]]\nname = \"clear\"\nplugin = \"plugins/plugin.wasm\"\n\
         mounts = [\"videos\"]\ninterval = \"200ms\"\n"
    ));
    site
}

/// A port at which nobody listens.
fn nobody() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// The host lives, and is not ready.
fn is_starting(host: &Sweepd) {
    assert_eq!(host.request("GET", "/healthz", None), (200, "ok".to_owned()));
    let (status, body) = host.request("GET", "/readyz", None);
    let document: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, &document["reason"]), (503, &"starting".into()), "{body}");
    let (status, body) = host.request("POST", "/v1/jobs/clear/tasks", Some(&serde_json::json!({ "key": "a" })));
    assert_eq!(status, 503, "{body}");
}

#[test]
fn a_server_that_is_not_there_is_waited_for_and_a_signal_ends_the_wait() {
    for scheme in ["postgres", "mysql"] {
        for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
            let site = site(&format!("{scheme}://u@127.0.0.1:{}/q", nobody()), "");
            let host = site.begin();
            host.says("waiting for the database, for 60s at most (database.wait)");
            host.says("onnection refused");
            is_starting(&host);
            host.signal(signal);
            assert_eq!(host.ended(), Some(0), "{scheme}, {signal:?}");
        }
    }
}

#[test]
fn a_server_that_says_nothing_is_told_and_a_signal_ends_the_wait() {
    for scheme in ["postgres", "mysql"] {
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let site = site(&format!("{scheme}://u@{}/q", silent.local_addr().unwrap()), "");
        let host = site.begin();
        host.says("the database has not answered for 2s, waiting: ");
        is_starting(&host);
        host.signal(Signal::TERM);
        assert_eq!(host.ended(), Some(0), "{scheme}");
    }
}

#[test]
fn each_new_reason_is_told_and_the_last_one_is_the_end() {
    let port = nobody();
    let site = site(&format!("postgres://u@127.0.0.1:{port}/q"), "wait = \"4s\"\n");
    let host = site.begin();
    host.says("onnection refused");
    // Something listens by now, and is no database.
    let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
    listener.set_nonblocking(true).unwrap();
    let closes = || {
        if let Ok((mut client, _)) = listener.accept() {
            let _ = client.set_read_timeout(Some(PATIENCE));
            let _ = client.read(&mut [0; 64]);
        }
    };
    let said = || host.log().matches("waiting for the database").count();
    host.wait("another reason is told", || {
        closes();
        said() >= 2
    });
    let log = site.path().join("log");
    host.wait("it says why it ends", || {
        closes();
        host.log().contains("error: ")
    });
    assert_eq!(host.ended(), Some(1));
    let log = std::fs::read_to_string(log).unwrap();
    assert_eq!(log.matches("onnection refused").count(), 1, "told once: {log}");
}

/// A session that holds a lock.
enum Holder {
    Postgres(PgConnection),
    MySql(MySqlConnection),
}

impl Holder {
    async fn connect(url: &str) -> Self {
        if url.starts_with("postgres") {
            return Self::Postgres(PgConnection::connect(url).await.unwrap());
        }
        Self::MySql(MySqlConnection::connect(url).await.unwrap())
    }

    async fn tell(&mut self, sql: &str) {
        let sql = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()));
        match self {
            Self::Postgres(conn) => sql.execute(conn).await.map(drop).unwrap(),
            Self::MySql(conn) => sql.execute(conn).await.map(drop).unwrap(),
        }
    }
}

/// Somebody holds the lock under which a schema is brought up to date.
fn the_lock_of_migrations_is_waited_for<H: SharedHarness>(lock: &str, unlock: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let Some(database) = runtime.block_on(async { if H::ready().await { Some(H::fresh().await) } else { None } })
    else {
        return;
    };
    let mut holder = runtime.block_on(Holder::connect(&database.url()));
    let mut tell = |sql: &str| runtime.block_on(holder.tell(sql));
    tell(lock);
    let site = site(&database.url(), "");
    let host = site.begin();
    host.says("has the lock of migrations");
    is_starting(&host);
    host.signal(Signal::TERM);
    assert_eq!(host.ended(), Some(0));

    let host = site.begin();
    host.says("has the lock of migrations");
    tell(unlock);
    host.wait("it is ready", || host.request("GET", "/readyz", None).0 == 200);
    assert_eq!(host.stop(), Some(0));
}

#[test]
fn the_lock_of_migrations_of_postgres_is_waited_for() {
    // `sweepd` in ASCII.
    let number = 0x7377_6565_7064_i64;
    the_lock_of_migrations_is_waited_for::<PostgresHarness>(
        &format!("SELECT pg_advisory_lock({number})"),
        &format!("SELECT pg_advisory_unlock({number})"),
    );
}

#[test]
fn the_lock_of_migrations_of_mysql_is_waited_for() {
    let name = "CONCAT('sweepd.', MD5(DATABASE()))";
    the_lock_of_migrations_is_waited_for::<MySqlHarness>(
        &format!("SELECT GET_LOCK({name}, 0)"),
        &format!("SELECT RELEASE_LOCK({name})"),
    );
}

#[test]
fn a_locked_file_is_waited_for() {
    // An empty one, of which the schema is to be made; and one that is up to date.
    for up_to_date in [false, true] {
        let site = Site::with_job(&guest("noop"), "");
        let file = site.path().join("state/sweepd.db");
        if up_to_date {
            let host = site.start();
            host.serving("clear");
            assert_eq!(host.stop(), Some(0));
        } else {
            std::fs::create_dir(site.path().join("state")).unwrap();
        }
        let holder = Sqlite::open(&file).unwrap();
        holder.execute_batch("PRAGMA journal_mode = WAL; BEGIN IMMEDIATE").unwrap();
        let host = site.begin();
        host.says("the database has not answered for 2s, waiting: ");
        is_starting(&host);
        host.signal(Signal::TERM);
        assert_eq!(host.ended(), Some(0), "up to date: {up_to_date}");

        let host = site.begin();
        host.says("another process holds its write lock");
        is_starting(&host);
        holder.execute_batch("ROLLBACK").unwrap();
        host.wait("it is ready", || host.request("GET", "/readyz", None).0 == 200);
        assert_eq!(host.stop(), Some(0));
    }
}

#[test]
fn a_file_that_another_host_has_is_not_waited_for() {
    let site = Site::with_job(&guest("noop"), "");
    let host = site.start();
    host.serving("clear");
    let log = site.try_start().err().expect("one host a file");
    assert!(log.contains("is in use by another sweepd") && !log.contains("waiting for the database"), "{log}");
    assert_eq!(host.stop(), Some(0));
}
