//! Behind a pooler, the real pgbouncer: whole sessions serve, and what gives each
//! transaction another session is refused at the start, with the reason.

use std::fs;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use sweepd::store::postgres::{PostgresOptions, PostgresStore};
use sweepd::store::{At, Store as _, StoreError};
use tempfile::TempDir;

use super::sessions::Worker;
use super::{PostgresHarness, SharedHarness as _, StoreHarness as _, task};
use crate::support::{PATIENCE, Site, guest};

/// `nobody`: it does not run as root.
const ANOTHER_USER: u32 = 65_534;

/// A pooler before the tests' server; it ends when dropped.
struct Pooler {
    child: Child,
    port: u16,
    folder: TempDir,
}

impl Pooler {
    /// In this mode, with these lines more.
    fn start(harness: &PostgresHarness, mode: &str, lines: &str) -> Self {
        let folder = tempfile::Builder::new().prefix("pooler-").tempdir_in("/tmp").expect("a folder");
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let port = free.local_addr().expect("an address").port();
        drop(free);
        let server = super::servers::address(&harness.url(), 5432);
        let (host, server_port) = server.rsplit_once(':').expect("host and port");
        let (user, password) = user(&harness.url());
        let (users, ini, log) = ("users", "ini", "log");
        let [users, ini, log] = [users, ini, log].map(|name| folder.path().join(name));
        fs::write(&users, format!("\"{user}\" \"{password}\"\n")).expect("a file writes");
        let text = format!(
            "[databases]\n* = host={host} port={server_port}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
             listen_port = {port}\nauth_type = trust\nauth_file = {}\npool_mode = {mode}\nunix_socket_dir =\n\
             logfile = {}\n{lines}",
            users.display(),
            log.display()
        );
        fs::write(&ini, text).expect("a file writes");
        let mut command = Command::new(program());
        command.arg(&ini).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        if rustix::process::geteuid().is_root() {
            for path in [folder.path(), &users, &ini] {
                std::os::unix::fs::chown(path, Some(ANOTHER_USER), Some(ANOTHER_USER)).expect("it is given away");
            }
            command.uid(ANOTHER_USER).gid(ANOTHER_USER);
        }
        let child = command.spawn().expect("pgbouncer starts (Debian's package `pgbouncer`)");
        let pooler = Self { child, port, folder };
        let began = Instant::now();
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            assert!(began.elapsed() < PATIENCE, "pgbouncer does not listen:\n{}", pooler.said());
            std::thread::sleep(Duration::from_millis(20));
        }
        pooler
    }

    fn said(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    fn url(&self, harness: &PostgresHarness) -> String {
        let url = harness.url();
        let url = url.replacen(&super::servers::address(&url, 5432), &format!("127.0.0.1:{}", self.port), 1);
        format!("{url}&sslmode=disable")
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Debian keeps it out of a user's search path.
fn program() -> PathBuf {
    let usual = PathBuf::from("/usr/sbin/pgbouncer");
    if usual.exists() { usual } else { "pgbouncer".into() }
}

/// User and password of a URL.
fn user(url: &str) -> (String, String) {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split('/').next().unwrap_or_default();
    let named = authority.rsplit_once('@').map_or("postgres", |(user, _)| user);
    let (user, password) = named.split_once(':').unwrap_or((named, ""));
    (user.to_owned(), password.to_owned())
}

#[tokio::test]
async fn a_pool_of_transactions_is_refused_with_the_reason() {
    if !PostgresHarness::ready().await {
        return;
    }
    let harness = PostgresHarness::fresh().await;
    for mode in ["transaction", "statement"] {
        for more in ["", "ignore_startup_parameters = options\n"] {
            let pooler = Pooler::start(&harness, mode, more);
            for read_only in [false, true] {
                let options = PostgresOptions { read_only, ..PostgresOptions::default() };
                let opened = PostgresStore::open(&pooler.url(&harness), options).await.err();
                let Some(StoreError::Incompatible(told)) = opened else {
                    panic!("{mode} {more}: not refused: {opened:?}\n{}", pooler.said());
                };
                let (reason, help) = ("transaction or statement pooling", "pool_mode = session");
                assert!(told.contains(reason) && told.contains(help), "{told}");
            }
        }
    }
    let pooler = Pooler::start(&harness, "transaction", "");
    let site = Site::new();
    site.install(&guest("noop"));
    site.configure(&format!(
        "[database]\nurl = \"{}\"\n[[job]]\nname = \"clear\"\nplugin = \"plugins/plugin.wasm\"\nmounts = [\"videos\"]\n",
        pooler.url(&harness)
    ));
    let log = tokio::task::spawn_blocking(move || site.try_start().err()).await.expect("no panic");
    let log = log.expect("the host does not start");
    assert!(log.contains("transaction or statement pooling"), "{log}");
}

#[tokio::test]
async fn a_pool_of_whole_sessions_serves() {
    if !PostgresHarness::ready().await {
        return;
    }
    let harness = PostgresHarness::fresh().await;
    let name = harness.url().split('?').next().and_then(|path| path.rsplit('/').next()).expect("a name").to_owned();
    // What sessions are set to must reach them, however the pooler takes it.
    let default = format!("ALTER DATABASE {name} SET default_transaction_isolation = 'serializable'");
    super::postgres::tell(&harness.url(), default).await;
    for more in
        ["", "ignore_startup_parameters = options\n", "ignore_startup_parameters = extra_float_digits,options\n"]
    {
        let pooler = Pooler::start(&harness, "session", more);
        let url = pooler.url(&harness);
        let open = async |name: &str| {
            let store = PostgresStore::open(&url, PostgresOptions { max_connections: 4, ..PostgresOptions::default() });
            let store = store.await.unwrap_or_else(|error| panic!("{error}\n{}", pooler.said()));
            Worker::on(Arc::new(store), name).await
        };
        let (a, b) = (open("a").await, open("b").await);
        for round in 0..3 {
            tokio::join!(a.work(round), b.work(round));
        }
        let reader = PostgresStore::open(&url, PostgresOptions { read_only: true, ..PostgresOptions::default() }).await;
        let reader = reader.unwrap_or_else(|error| panic!("a plan looks at it, too: {error}\n{}", pooler.said()));
        assert!(!reader.jobs().await.expect("jobs are listed").is_empty());
        reader.close().await;
        // Listening has a session of its own.
        let heard = tokio::time::timeout(PATIENCE, async {
            tokio::join!(b.store().woken(), async {
                a.store().enqueue(a.job(), vec![task("wakes")], At::Server).await.expect("it is queued");
            });
        });
        heard.await.expect("it is heard");
        tokio::join!(a.store().close(), b.store().close());
    }
}
