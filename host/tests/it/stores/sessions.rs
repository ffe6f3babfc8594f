//! Sessions in a wrong state: those of a failover, those that lost what was
//! prepared or set in them, and those that a server's odd defaults would spoil.
//! Each costs itself, and no caller is refused for it.

use std::sync::Arc;

use sqlx::mysql::MySqlConnection;
use sqlx::{AssertSqlSafe, Connection as _};
use sweepd::domain::job::JobId;
use sweepd::domain::node::NodeId;
use sweepd::domain::outcome::{Attempt, Disposition, Finish};
use sweepd::legacy::{LegacyTable, LegacyUrl};
use sweepd::store::mysql::{MySqlOptions, MySqlStore};
use sweepd::store::postgres::{PostgresOptions, PostgresStore};
use sweepd::store::{At, ClaimDue, SharedStore, Store as _, StoreError, TaskFilter, WriteBack};

use super::postgres::tell;
use super::{LEASE, PostgresHarness, SharedHarness as _, StoreHarness as _, node, register, task};
use crate::support::PATIENCE;
use crate::torture::servers::{Kind, Server};

/// Connections of each store here.
const CONNECTIONS: u32 = 4;

/// A store with a node and a job, on the database's own clock.
pub(super) struct Worker {
    store: SharedStore,
    node: NodeId,
    job: JobId,
    name: String,
}

impl Worker {
    pub(super) async fn on(store: SharedStore, name: &str) -> Self {
        let begun = store.begin_incarnation(node(name), At::Server).await.expect("a life begins");
        let job = register(&store, "video-clear").await;
        Self { store, node: begun.node, job, name: name.to_owned() }
    }

    pub(super) fn store(&self) -> &SharedStore {
        &self.store
    }

    pub(super) fn job(&self) -> JobId {
        self.job
    }

    /// Every kind of call once; each must be answered at the first try.
    pub(super) async fn work(&self, round: u32) {
        let keys = (0..5).map(|number| task(&format!("{}-{round}-{number}", self.name))).collect();
        let queued = self.store.enqueue(self.job, keys, At::Server).await.expect("tasks are queued");
        let horizon = self.store.now(At::Server).await.expect("the clock is read");
        let ask = ClaimDue { job: self.job, node: self.node, horizon, limit: 3, lowest_first: false, suspects: true };
        if let Some(claim) = self.store.claim_due(ask).await.expect("a claim is answered") {
            let finishes = claim.tasks.iter().map(|task| {
                let attempt = Attempt {
                    number: task.attempt,
                    node: self.node,
                    started: horizon,
                    ended: horizon,
                    digest: None,
                    removed: 0,
                };
                Finish { id: task.id, fence: task.fence, disposition: Disposition::Done(None), attempt }
            });
            let (finishes, closed) = (finishes.collect(), vec![claim.fence]);
            let write_back = WriteBack { finishes, closed, effects: Vec::new() };
            self.store.finish(write_back, At::Server).await.expect("a write-back is answered");
        }
        self.store.heartbeat(self.node, LEASE, At::Server).await.expect("a heartbeat is answered");
        self.store.reap(At::Server).await.expect("the dead are reaped");
        let filter = TaskFilter { job: Some(self.job), limit: 100, ..TaskFilter::default() };
        assert!(!self.store.tasks(filter).await.expect("tasks are listed").is_empty());
        self.store.jobs().await.expect("jobs are listed");
        self.store.task(queued[0].id()).await.expect("a task is looked up").expect("it is known");
        self.store.check().await.expect("the store can be used");
    }

    /// Opens as many sessions as the store may have: those that write hold one
    /// each.
    async fn open_all(&self) {
        let beats = (0..2 * CONNECTIONS).map(|_| {
            let (store, job) = (Arc::clone(&self.store), self.job);
            tokio::spawn(async move { drop(store.set_paused(job, None).await) })
        });
        for beat in beats.collect::<Vec<_>>() {
            beat.await.expect("no panic");
        }
    }
}

async fn postgres(harness: &PostgresHarness, name: &str) -> Worker {
    let options = PostgresOptions { max_connections: CONNECTIONS, ..PostgresOptions::default() };
    let store = PostgresStore::open(&harness.url(), options).await.expect("the database opens");
    Worker::on(Arc::new(store), name).await
}

/// The name of the harness's database.
fn database(harness: &PostgresHarness) -> String {
    let url = harness.url();
    let path = url.split('?').next().expect("a URL");
    path.rsplit('/').next().expect("it names a database").to_owned()
}

/// Ends all connections to a database but that of whoever says so.
async fn end_connections(harness: &PostgresHarness) {
    let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
               WHERE datname = current_database() AND pid <> pg_backend_pid()";
    tell(&harness.url(), sql.to_owned()).await;
}

#[tokio::test]
async fn sessions_of_a_failover_are_given_up() {
    if !PostgresHarness::ready().await {
        return;
    }
    let harness = PostgresHarness::fresh().await;
    let (worker, name) = (postgres(&harness, "a").await, database(&harness));
    worker.work(0).await;
    tell(&harness.url(), format!("ALTER DATABASE {name} SET default_transaction_read_only = on")).await;
    end_connections(&harness).await;
    worker.open_all().await;
    let refused = worker.store.enqueue(worker.job, vec![task("refused")], At::Server).await;
    assert!(matches!(&refused, Err(StoreError::Unavailable(told)) if told.contains("name the primary")), "{refused:?}");
    assert!(worker.store.check().await.is_err(), "it is not ready, and does not say that it is");
    // Reads go on, in sessions that will not write.
    worker.store.jobs().await.expect("jobs are listed");
    tell(&harness.url(), format!("SET TRANSACTION READ WRITE; ALTER DATABASE {name} RESET ALL")).await;
    for round in 1..5 {
        worker.work(round).await;
    }
    worker.store.close().await;
}

/// A trigger leaves the sessions of whoever beats in another state, and goes.
#[tokio::test]
async fn a_session_that_lost_its_state_costs_itself_alone() {
    if !PostgresHarness::ready().await {
        return;
    }
    let harness = PostgresHarness::fresh().await;
    let worker = postgres(&harness, "a").await;
    let states = [
        "DEALLOCATE ALL",
        "SET search_path = pg_catalog",
        "SET default_transaction_read_only = on",
        "SET default_transaction_isolation = serializable",
    ];
    for (round, state) in (0..).zip(states) {
        worker.open_all().await;
        worker.work(2 * round).await;
        let trigger = format!(
            "CREATE FUNCTION spoil() RETURNS trigger LANGUAGE plpgsql
                 AS $$ BEGIN EXECUTE '{state}'; RETURN NEW; END $$;
             CREATE TRIGGER spoil BEFORE UPDATE ON jobs FOR EACH ROW EXECUTE FUNCTION spoil()"
        );
        tell(&harness.url(), trigger).await;
        worker.open_all().await;
        tell(&harness.url(), "DROP TRIGGER spoil ON jobs; DROP FUNCTION spoil".to_owned()).await;
        worker.work(2 * round + 1).await;
    }
    worker.store.close().await;
}

#[tokio::test]
async fn a_plan_that_no_longer_fits_is_made_anew() {
    if !PostgresHarness::ready().await {
        return;
    }
    let harness = PostgresHarness::fresh().await;
    let worker = postgres(&harness, "a").await;
    worker.work(0).await;
    for width in [300, 400] {
        tell(&harness.url(), format!("ALTER TABLE jobs ALTER COLUMN name TYPE VARCHAR({width})")).await;
        // "cached plan must not change result type", in each session that had one.
        for _ in 0..2 * CONNECTIONS {
            worker.store.jobs().await.expect("jobs are listed");
            register(&worker.store, "video-clear").await;
        }
    }
    worker.work(1).await;
    worker.store.close().await;
}

#[tokio::test]
async fn killed_sessions_are_made_anew() {
    if !PostgresHarness::ready().await {
        return;
    }
    let harness = PostgresHarness::fresh().await;
    let worker = postgres(&harness, "a").await;
    for round in 0..3 {
        worker.open_all().await;
        end_connections(&harness).await;
        worker.work(round).await;
    }
    worker.store.close().await;
}

/// Two nodes that start at once on an empty database, and then work, whatever
/// its defaults are.
#[tokio::test]
async fn a_postgres_with_odd_defaults_serves_two_nodes_at_once() {
    if !PostgresHarness::ready().await {
        return;
    }
    for round in 0..3 {
        let harness = PostgresHarness::fresh().await;
        let name = database(&harness);
        let defaults = [
            "default_transaction_isolation = 'serializable'",
            "default_transaction_deferrable = on",
            "lock_timeout = '1ms'",
            "idle_in_transaction_session_timeout = '1ms'",
            "idle_session_timeout = '1min'",
            "standard_conforming_strings = off",
            "client_encoding = 'LATIN1'",
            "timezone = 'Asia/Kathmandu'",
            "datestyle = 'SQL, DMY'",
            "bytea_output = 'escape'",
            "plan_cache_mode = 'force_custom_plan'",
            "enable_nestloop = off",
            "enable_indexscan = off",
            // The last: it would stop whoever sets another.
            "statement_timeout = '1ms'",
        ];
        for default in defaults {
            tell(&harness.url(), format!("ALTER DATABASE {name} SET {default}")).await;
        }
        let (a, b) = tokio::join!(postgres(&harness, "a"), postgres(&harness, "b"));
        tokio::join!(a.work(round), b.work(round));
        tokio::join!(a.work(round + 1), b.work(round + 1));
        tokio::join!(a.store.close(), b.store.close());
    }
}

#[tokio::test]
async fn a_search_path_that_moved_leads_to_no_new_queue() {
    if !PostgresHarness::ready().await {
        return;
    }
    let harness = PostgresHarness::fresh().await;
    let (worker, name) = (postgres(&harness, "a").await, database(&harness));
    worker.work(0).await;
    tell(&harness.url(), format!("CREATE SCHEMA elsewhere; ALTER DATABASE {name} SET search_path = elsewhere")).await;
    end_connections(&harness).await;
    worker.work(1).await;
    worker.store.close().await;
    let opened = PostgresStore::open(&harness.url(), PostgresOptions::default()).await.err();
    let Some(StoreError::Incompatible(told)) = opened else { panic!("it is not refused: {opened:?}") };
    assert!(told.contains("`public`") && told.contains("`elsewhere`") && told.contains("search_path="), "{told}");
    // Who says where, is heard.
    let all = PostgresStore::pending_migrations(&PostgresHarness::fresh().await.url()).await.expect("it is looked at");
    for (schema, migrations) in [("public", 0), ("elsewhere", all.len())] {
        let url = format!("{}options=-c%20search_path%3D{schema}", harness.url());
        let pending = PostgresStore::pending_migrations(&url).await.expect("it is looked at");
        assert_eq!(pending.len(), migrations, "{schema}");
        PostgresStore::open(&url, PostgresOptions::default()).await.expect("it opens").close().await;
    }
}

/// A MariaDB of the test's own, whose global settings disturb nobody, and the
/// URL of a user without special rights.
struct Mariadb {
    server: Server,
}

impl Mariadb {
    async fn start() -> Self {
        let server = tokio::task::spawn_blocking(|| Server::start(Kind::Mariadb)).await.expect("it starts");
        let server = Self { server };
        server.tell("CREATE USER sweepd@'127.0.0.1'; GRANT ALL ON sweepd.* TO sweepd@'127.0.0.1'").await;
        server
    }

    fn url(&self) -> String {
        self.server.url(self.server.address()).replacen("root@", "sweepd@", 1)
    }

    /// Says so as the server's administrator.
    async fn tell(&self, sql: &str) {
        let mut conn = self.connect().await;
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut conn).await.expect("it does so");
        conn.close().await.expect("it closes");
    }

    /// As the administrator, whatever sessions begin with here.
    async fn connect(&self) -> MySqlConnection {
        let url = self.server.url(self.server.address());
        let mut conn = MySqlConnection::connect(&url).await.expect("the server is there");
        let plain = "SET SESSION sql_mode = '', autocommit = 1, completion_type = 0, tx_read_only = 0,
                         tx_isolation = 'READ-COMMITTED', sql_select_limit = 1000, sql_safe_updates = 0";
        sqlx::raw_sql(plain).execute(&mut conn).await.expect("it does so");
        conn
    }

    /// The numbers of the user's connections.
    async fn sessions(&self) -> Vec<u64> {
        let mut conn = self.connect().await;
        let sql = "SELECT CAST(id AS UNSIGNED) FROM information_schema.processlist WHERE user = 'sweepd' ORDER BY id";
        sqlx::query_scalar(sql).fetch_all(&mut conn).await.expect("they are listed")
    }

    async fn kill_sessions(&self) {
        let mut conn = self.connect().await;
        for session in self.sessions().await {
            // One may have ended by itself.
            let _ = sqlx::raw_sql(AssertSqlSafe(format!("KILL {session}"))).execute(&mut conn).await;
        }
    }

    async fn worker(&self, name: &str) -> Worker {
        let options = MySqlOptions { max_connections: CONNECTIONS, ..MySqlOptions::default() };
        let store = MySqlStore::open(&self.url(), options).await.expect("the database opens");
        Worker::on(Arc::new(store), name).await
    }
}

/// One test for all, as one server is started for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mariadb_with_odd_defaults_and_failovers() {
    let server = Mariadb::start().await;
    server
        .tell(
            "SET GLOBAL sql_mode = 'ANSI_QUOTES,NO_BACKSLASH_ESCAPES,PIPES_AS_CONCAT,PAD_CHAR_TO_FULL_LENGTH';
             SET GLOBAL tx_isolation = 'SERIALIZABLE'; SET GLOBAL completion_type = 'CHAIN';
             SET GLOBAL sql_select_limit = 1; SET GLOBAL sql_safe_updates = 1; SET GLOBAL sql_auto_is_null = 1;
             SET GLOBAL innodb_lock_wait_timeout = 1; SET GLOBAL lock_wait_timeout = 1;
             SET GLOBAL max_statement_time = 0.5; SET GLOBAL character_set_server = latin1;
             SET GLOBAL time_zone = '+05:45'; SET GLOBAL autocommit = 0;
             SET GLOBAL init_connect = 'SET SESSION autocommit = 0'",
        )
        .await;
    let (a, b) = tokio::join!(server.worker("a"), server.worker("b"));
    for round in 0..3 {
        tokio::join!(a.work(round), b.work(round));
    }
    b.store.close().await;
    removed_is_removed(&server).await;
    sessions_that_only_read_are_given_up(&server, &a).await;
    a_server_that_only_reads_costs_its_sessions(&server, &a).await;
    server.kill_sessions().await;
    a.work(30).await;
    a.store.close().await;
}

/// The replaced service's table, in a session that would commit nothing.
async fn removed_is_removed(server: &Mariadb) {
    server.tell("CREATE TABLE sweepd.video_del_rec (video_id VARCHAR(64) PRIMARY KEY)").await;
    server.tell("INSERT INTO sweepd.video_del_rec VALUES ('a'), ('b'), ('c')").await;
    let url = LegacyUrl::parse(&server.url()).expect("a URL");
    let table = LegacyTable::open(&url, &"video_del_rec".parse().expect("a name")).await.expect("it opens");
    assert_eq!(table.page(None).await, Ok(vec!["a".to_owned(), "b".to_owned(), "c".to_owned()]));
    assert_eq!(table.remove(&["a".to_owned(), "c".to_owned()]).await, Ok(2));
    let mut conn = server.connect().await;
    let sql = "SELECT CAST(COUNT(*) AS SIGNED) FROM sweepd.video_del_rec";
    let left: i64 = sqlx::query_scalar(sql).fetch_one(&mut conn).await.expect("they are counted");
    assert_eq!(left, 1, "others see it at once");
    server.tell("SET GLOBAL read_only = 1").await;
    assert!(table.remove(&["b".to_owned()]).await.is_err());
    server.tell("SET GLOBAL read_only = 0").await;
    assert_eq!(table.remove(&["b".to_owned()]).await, Ok(1));
}

/// Sessions that began while the server's default was to read only stay so.
async fn sessions_that_only_read_are_given_up(server: &Mariadb, worker: &Worker) {
    server.tell("SET GLOBAL tx_read_only = 1").await;
    server.kill_sessions().await;
    worker.open_all().await;
    let refused = worker.store.enqueue(worker.job, vec![task("refused")], At::Server).await;
    assert!(matches!(&refused, Err(StoreError::Unavailable(told)) if told.contains("name the primary")), "{refused:?}");
    assert!(worker.store.check().await.is_err(), "it is not ready, and does not say that it is");
    worker.store.jobs().await.expect("jobs are listed");
    server.tell("SET GLOBAL tx_read_only = 0").await;
    for round in 10..14 {
        worker.work(round).await;
    }
}

/// A primary that became a replica refuses in every session: new ones may lead
/// to the new primary.
async fn a_server_that_only_reads_costs_its_sessions(server: &Mariadb, worker: &Worker) {
    worker.open_all().await;
    let before = server.sessions().await;
    assert!(!before.is_empty());
    server.tell("SET GLOBAL read_only = 1").await;
    let refused = worker.store.enqueue(worker.job, vec![task("refused")], At::Server).await;
    assert!(matches!(&refused, Err(StoreError::Unavailable(told)) if told.contains("name the primary")), "{refused:?}");
    worker.store.jobs().await.expect("jobs are listed");
    server.tell("SET GLOBAL read_only = 0").await;
    for round in 20..24 {
        worker.work(round).await;
    }
    let began = std::time::Instant::now();
    while server.sessions().await.iter().any(|session| before.contains(session)) {
        assert!(began.elapsed() < PATIENCE, "an old session is still in use");
        worker.store.set_paused(worker.job, None).await.expect("it is answered");
    }
}
