//! What only PostgreSQL has to stand: connections that are cut, few of them,
//! and a listener that loses its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection as _};
use sweepd::domain::outcome::{Disposition, Finished};
use sweepd::domain::task::{Enqueued, TaskState};
use sweepd::store::postgres::{PostgresOptions, PostgresStore};
use sweepd::store::{SharedStore, Store as _, StoreError, WriteBack};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

use super::servers::{address, reachable};
use super::{Desk, LEASE, SharedHarness, StoreHarness, node, retry_in, task, with_payload};
use crate::support::PATIENCE;

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

pub(super) async fn tell(url: &str, sql: String) {
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
        // No server is killed here, and the disk is what these tests would wait for.
        tell(&server(), format!("ALTER DATABASE {database} SET synchronous_commit = off")).await;
        Self { database }
    }

    async fn open(&self) -> SharedStore {
        Arc::new(self.store(&self.url(), 4).await)
    }

    async fn open_read_only(&self) -> Result<SharedStore, StoreError> {
        let options = PostgresOptions { read_only: true, ..PostgresOptions::default() };
        Ok(Arc::new(PostgresStore::open(&self.url(), options).await?))
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
        let dropped = dropped.join().is_ok();
        assert!(dropped || std::thread::panicking(), "the database {} stays behind", self.database);
    }
}

async fn desk() -> Desk<PostgresHarness> {
    Desk::open().await
}

/// What a test does to the connections that pass through a [`Proxy`].
#[derive(Default)]
struct Cuts {
    /// How many commits are cut off yet: each is let through to the server, and
    /// its answer is not.
    after_commit: AtomicU32,
    /// The same, except that the server does not see the commit either.
    before_commit: AtomicU32,
    /// How many claims are cut off yet: each is held up on its way to the
    /// server, and its answer is lost.
    on_claim: AtomicU32,
    /// Lets a claim that is held up go on.
    go_on: Notify,
    /// The server is done with one.
    arrived: Notify,
}

impl Cuts {
    fn take(count: &AtomicU32) -> bool {
        count.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
    }
}

/// A way to the server that loses connections around a commit.
struct Proxy {
    port: u16,
    cuts: Arc<Cuts>,
}

impl Proxy {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("it is bound").port();
        let cuts = Arc::new(Cuts::default());
        let shared = Arc::clone(&cuts);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(address(&server(), 5432)).await.expect("the server is there");
                tokio::spawn(pass(client, server, Arc::clone(&shared)));
            }
        });
        Self { port, cuts }
    }

    fn url(&self, harness: &PostgresHarness) -> String {
        let url = harness.url();
        let url = url.replacen(&address(&url, 5432), &format!("127.0.0.1:{}", self.port), 1);
        // Encrypted, a commit could not be told from the rest.
        format!("{url}&sslmode=disable")
    }
}

/// Passes bytes both ways until a commit is to be cut off.
async fn pass(client: TcpStream, server: TcpStream, cuts: Arc<Cuts>) {
    let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
        (client.into_split(), server.into_split());
    let (mut asked, mut answered) = (vec![0; 1 << 20], vec![0; 1 << 20]);
    loop {
        tokio::select! {
            read = from_client.read(&mut asked) => {
                let asked = &asked[..read.unwrap_or(0)];
                let commits = asked.windows(6).any(|part| part == b"COMMIT");
                if asked.is_empty() || commits && Cuts::take(&cuts.before_commit) {
                    return;
                }
                // The claim is the only statement that runs (is bound) at that time.
                if asked[0] == b'B' && Cuts::take(&cuts.on_claim) {
                    drop((from_client, to_client));
                    cuts.go_on.notified().await;
                    send_last(asked, from_server, to_server).await;
                    return cuts.arrived.notify_one();
                }
                if commits && Cuts::take(&cuts.after_commit) {
                    drop((from_client, to_client));
                    return send_last(asked, from_server, to_server).await;
                }
                to_server.write_all(asked).await.expect("the server is there");
            }
            read = from_server.read(&mut answered) => {
                let answered = &answered[..read.unwrap_or(0)];
                if answered.is_empty() || to_client.write_all(answered).await.is_err() {
                    return;
                }
            }
        }
    }
}

/// The server does as asked, and nobody learns of it.
async fn send_last(asked: &[u8], mut from_server: OwnedReadHalf, mut to_server: OwnedWriteHalf) {
    to_server.write_all(asked).await.expect("the server is there");
    to_server.shutdown().await.expect("the server is there");
    let mut answered = [0; 1024];
    while from_server.read(&mut answered).await.is_ok_and(|read| read > 0) {}
}

#[tokio::test]
async fn a_cut_commit_loses_nothing() {
    if !PostgresHarness::ready().await {
        return;
    }
    let desk = desk().await;
    let proxy = Proxy::start().await;
    let store = desk.harness.store(&proxy.url(&desk.harness), 4).await;
    for (before, after) in [(1, 0), (0, 1), (2, 0), (0, 2), (1, 1)] {
        proxy.cuts.before_commit.store(before, Ordering::SeqCst);
        proxy.cuts.after_commit.store(after, Ordering::SeqCst);
        let key = format!("{before}-{after}");
        let answer = store.enqueue(desk.job, vec![with_payload(&key, "p")], desk.at()).await;
        let id = answer.expect("it is repeated until it is known")[0].id();
        assert_eq!(desk.view(id).await.key, key);
    }
    // Cut again and again, it is not known, and that is what is answered.
    proxy.cuts.after_commit.store(u32::MAX, Ordering::SeqCst);
    let answer = store.enqueue(desk.job, vec![task("unknown")], desk.at()).await;
    assert!(matches!(answer, Err(StoreError::Unknown(_))), "{answer:?}");
    proxy.cuts.after_commit.store(0, Ordering::SeqCst);
    let again = store.enqueue(desk.job, vec![task("unknown")], desk.at()).await.expect("it is queued");
    assert!(matches!(again[..], [Enqueued::Pending(_)]), "it was stored, and is not stored twice: {again:?}");
    // Where the server saw no commit, it was not stored.
    proxy.cuts.before_commit.store(u32::MAX, Ordering::SeqCst);
    let answer = store.enqueue(desk.job, vec![task("never")], desk.at()).await;
    assert!(matches!(answer, Err(StoreError::Unknown(_))), "{answer:?}");
    proxy.cuts.before_commit.store(0, Ordering::SeqCst);
    let again = store.enqueue(desk.job, vec![task("never")], desk.at()).await.expect("it is queued");
    assert!(matches!(again[..], [Enqueued::New(_)]), "{again:?}");
    assert_eq!(desk.claim_keys(100).await.len(), 7);
    store.close().await;
}

#[tokio::test]
async fn a_cut_write_back_is_applied_once() {
    if !PostgresHarness::ready().await {
        return;
    }
    let desk = desk().await;
    let proxy = Proxy::start().await;
    let store = desk.harness.store(&proxy.url(&desk.harness), 4).await;
    let ids = desk.enqueue(vec![task("a"), task("b")]).await;
    let claim = desk.claim(10).await.expect("two are due");
    let finishes =
        vec![desk.finish_of(&claim.tasks[0], Disposition::Done(None)), desk.finish_of(&claim.tasks[1], retry_in(5))];
    proxy.cuts.after_commit.store(1, Ordering::SeqCst);
    let write_back = WriteBack { finishes, closed: vec![claim.fence], effects: Vec::new() };
    let answers = store.finish(write_back, desk.at()).await.expect("it is answered");
    assert_eq!(answers, [Finished::Applied, Finished::Applied]);
    let [a, b] = [desk.view(ids[0].id()).await, desk.view(ids[1].id()).await];
    assert_eq!((a.state, a.attempts), (TaskState::Done, 1));
    assert_eq!((b.state, b.attempts), (TaskState::Pending, 1), "one attempt, not two");
    store.close().await;
}

#[tokio::test]
async fn a_cut_claim_holds_nothing() {
    if !PostgresHarness::ready().await {
        return;
    }
    let desk = desk().await;
    let proxy = Proxy::start().await;
    let store = desk.harness.store(&proxy.url(&desk.harness), 4).await;
    for arrives_first in [true, false] {
        let id = desk.new_task("a").await;
        proxy.cuts.on_claim.store(1, Ordering::SeqCst);
        let answer = store.claim_due(desk.ask(10)).await;
        assert!(matches!(answer, Err(StoreError::Unknown(_))), "{answer:?}");
        let release = || store.release_unheld(desk.node, desk.job, &[], desk.at());
        if arrives_first {
            proxy.cuts.go_on.notify_one();
            proxy.cuts.arrived.notified().await;
            assert_eq!(desk.view(id).await.state, TaskState::Running);
            assert_eq!(release().await, Ok(1));
        } else {
            assert_eq!(release().await, Ok(0), "it is not there yet");
            proxy.cuts.go_on.notify_one();
            proxy.cuts.arrived.notified().await;
            assert_eq!(desk.view(id).await.state, TaskState::Pending, "it comes too late");
        }
        let claimed = desk.claim_one().await;
        assert_eq!((claimed.id, claimed.losses), (id, 0));
        desk.finish(&claimed, Disposition::Done(None)).await;
    }
    store.close().await;
}

#[tokio::test]
async fn few_connections_serve_many_callers() {
    if !PostgresHarness::ready().await {
        return;
    }
    let desk = desk().await;
    let url = format!("{}&application_name=bounded", desk.harness.url());
    let store = Arc::new(desk.harness.store(&url, 2).await);
    let mut callers = tokio::task::JoinSet::new();
    for caller in 0..200 {
        let (store, ask, job, at) = (Arc::clone(&store), desk.ask(1), desk.job, desk.at());
        callers.spawn(async move {
            store.enqueue(job, vec![task(&caller.to_string())], at).await.expect("it is queued");
            store.claim_due(ask).await.expect("it is answered");
            store.backlog(job, at).await.expect("it is answered");
            store.heartbeat(ask.node, LEASE, at).await.expect("it is answered");
        });
    }
    let mut conn = PgConnection::connect(&server()).await.expect("the server is there");
    let mut most: i64 = 0;
    while !callers.is_empty() {
        let count = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'bounded' AND datname = $1";
        let count = sqlx::query_scalar(count).bind(&desk.harness.database).fetch_one(&mut conn).await;
        most = most.max(count.expect("it is counted"));
        if let Ok(Some(done)) = tokio::time::timeout(Duration::from_millis(5), callers.join_next()).await {
            done.expect("no panic");
        }
    }
    assert!((1..=2).contains(&most), "{most} connections were open");
    store.close().await;
}

#[tokio::test]
async fn a_listener_connects_again() {
    if !PostgresHarness::ready().await {
        return;
    }
    let desk = desk().await;
    let url = format!("{}&application_name=ears", desk.harness.url());
    let listener = desk.harness.store(&url, 1).await;
    let life = listener.begin_incarnation(node("b"), desk.at()).await.expect("a life begins");
    for round in 0..3 {
        // The first is for what may have been missed before.
        tokio::time::timeout(PATIENCE, listener.woken()).await.expect("it listens");
        desk.new_task(&format!("{round}")).await;
        tokio::time::timeout(PATIENCE, listener.woken()).await.expect("it hears");
        let own = listener.enqueue(desk.job, vec![task("own")], desk.at()).await;
        own.expect("it is queued");
        let deaf = tokio::time::timeout(Duration::from_millis(200), listener.woken()).await;
        assert!(deaf.is_err(), "it does not wake itself");
        let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%' AND datname = ";
        tell(&server(), format!("{cut}'{}'", desk.harness.database)).await;
    }
    listener.end_incarnation(life.node, desk.at()).await.expect("a life ends");
    listener.close().await;
}

#[tokio::test]
async fn other_schemas_are_left_alone() {
    if !PostgresHarness::ready().await {
        return;
    }
    let message = async |harness: &PostgresHarness| {
        let opened = PostgresStore::open(&harness.url(), PostgresOptions::default()).await;
        match opened.err() {
            Some(StoreError::Incompatible(message)) => message,
            other => panic!("not incompatible: {other:?}"),
        }
    };
    let foreign = PostgresHarness::fresh().await;
    tell(&foreign.url(), "CREATE TABLE schema_migrations (version TEXT)".to_owned()).await;
    assert!(message(&foreign).await.contains("another program"));

    let ours = PostgresHarness::fresh().await;
    let pending = PostgresStore::pending_migrations(&ours.url()).await;
    let all = ["0001_queue", "0002_guard", "0003_clock", "0004_removed", "0005_made"];
    assert_eq!(pending, Ok(all.map(str::to_owned).to_vec()));
    let refused = PostgresOptions { migrate: false, ..PostgresOptions::default() };
    let refused = PostgresStore::open(&ours.url(), refused).await.err();
    assert!(matches!(&refused, Some(StoreError::Incompatible(told)) if told.contains("sweepd migrate")), "{refused:?}");
    ours.open().await.close().await;
    assert_eq!(PostgresStore::pending_migrations(&ours.url()).await, Ok(Vec::new()));
    tell(&ours.url(), "INSERT INTO schema_migrations VALUES (99, '0099_future', '', 0)".to_owned()).await;
    let told = message(&ours).await;
    assert!(told.contains("version 99") && told.contains("newer sweepd") && told.contains(&ours.database), "{told}");
    tell(&ours.url(), "DELETE FROM schema_migrations WHERE version = 99".to_owned()).await;
    tell(&ours.url(), "UPDATE schema_migrations SET checksum = ''".to_owned()).await;
    assert!(message(&ours).await.contains("0001_queue"));
}

#[tokio::test]
async fn a_server_that_is_away_is_named_without_its_password() {
    let free = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = free.local_addr().expect("it is bound").port();
    drop(free);
    let url = format!("postgres://sweepd:secret@127.0.0.1:{port}/queue");
    let opened = PostgresStore::open(&url, PostgresOptions::default()).await.err();
    let Some(StoreError::Unavailable(told)) = opened else { panic!("not unavailable: {opened:?}") };
    assert!(told.contains(&format!("127.0.0.1:{port}/queue")) && !told.contains("secret"), "{told}");
}
