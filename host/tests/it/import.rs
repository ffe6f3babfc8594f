//! Moving over from the replaced service: its table in a real MariaDB, in a
//! database of its own.

use std::process::{Command, Stdio};

use sqlx::AssertSqlSafe;
use sqlx::mysql::{MySqlConnectOptions, MySqlPool, MySqlPoolOptions};
use sweepd::legacy::{LegacyError, LegacyTable, LegacyUrl};
use tokio::runtime::Runtime;

use crate::cli::Said;
use crate::stores::servers::{address, reachable};
use crate::support::{PATIENCE, Site, Sweepd, guest};

/// A server's database, dropped at the end.
struct Old {
    runtime: Runtime,
    pool: MySqlPool,
    server: String,
    name: String,
}

impl Old {
    /// A database with a table `video_del_rec` of this character set and
    /// collation. `None` where the server is not there, which was said.
    fn with_table(name: &str, collation: &str) -> Option<Self> {
        let url = std::env::var("SWEEPD_TEST_MYSQL").unwrap_or_else(|_| "mysql://root@127.0.0.1:3306/mysql".to_owned());
        let runtime = Runtime::new().unwrap();
        let options: MySqlConnectOptions = url.parse().expect("SWEEPD_TEST_MYSQL is a URL");
        if !runtime.block_on(reachable("MariaDB", &address(&url, 3306))) {
            return None;
        }
        let connecting = MySqlPoolOptions::new().max_connections(2).connect_with(options);
        let pool = runtime.block_on(connecting).expect("the server takes us");
        let name = format!("it_import_{}_{name}", std::process::id());
        let (server, _) = url.split('?').next().and_then(|url| url.rsplit_once('/')).expect("a URL with a database");
        let old = Self { runtime, pool, server: server.to_owned(), name };
        let set = collation.split('_').next().unwrap();
        old.run(&format!("DROP DATABASE IF EXISTS `{}`", old.name));
        old.run(&format!("CREATE DATABASE `{}`", old.name));
        old.run(&format!(
            "CREATE TABLE {} (video_id VARCHAR(64) PRIMARY KEY) CHARACTER SET {set} COLLATE {collation}",
            old.table()
        ));
        Some(old)
    }

    fn table(&self) -> String {
        format!("`{}`.video_del_rec", self.name)
    }

    fn url(&self) -> String {
        format!("{}/{}", self.server, self.name)
    }

    fn run(&self, sql: &str) {
        self.runtime.block_on(sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&self.pool)).unwrap();
    }

    fn insert(&self, ids: &[&str]) {
        for ids in ids.chunks(1000) {
            let rows = vec!["(?)"; ids.len()].join(", ");
            let mut query =
                sqlx::query(AssertSqlSafe(format!("INSERT INTO {} VALUES {rows}", self.table()))).persistent(false);
            for id in ids {
                query = query.bind(*id);
            }
            self.runtime.block_on(query.execute(&self.pool)).unwrap();
        }
    }

    /// The rows, by their bytes.
    fn rows(&self) -> Vec<String> {
        let sql = format!("SELECT CAST(CONVERT(video_id USING utf8mb4) AS BINARY) FROM {} ORDER BY 1", self.table());
        let rows: Vec<Vec<u8>> =
            self.runtime.block_on(sqlx::query_scalar(AssertSqlSafe(sql)).fetch_all(&self.pool)).unwrap();
        rows.into_iter().map(|id| String::from_utf8(id).unwrap()).collect()
    }

    fn open(&self) -> Result<LegacyTable, LegacyError> {
        let url = LegacyUrl::parse(&self.url()).unwrap();
        self.runtime.block_on(LegacyTable::open(&url, &"video_del_rec".parse().unwrap()))
    }

    fn command(&self, site: &Site, args: &[&str]) -> Command {
        let mut command = site.command(&[&["import-legacy", "--job", "clear"], args].concat());
        command.env("SWEEPD_LEGACY_URL", self.url()).stdin(Stdio::null());
        command
    }

    fn import(&self, site: &Site) -> Said {
        self.command(site, &[]).output().unwrap().into()
    }
}

impl Drop for Old {
    fn drop(&mut self) {
        let sql = format!("DROP DATABASE IF EXISTS `{}`", self.name);
        let _ = self.runtime.block_on(sqlx::raw_sql(AssertSqlSafe(sql)).execute(&self.pool));
    }
}

/// A site whose job has no plugin: what is queued stays pending.
fn idle() -> Site {
    let site = Site::with_job(&guest("noop"), "");
    std::fs::remove_file(site.plugin_file()).unwrap();
    site
}

fn pending(host: &Sweepd) -> Vec<String> {
    let mut keys: Vec<_> =
        host.tasks("clear", "pending").iter().map(|task| task["key"].as_str().unwrap().to_owned()).collect();
    keys.sort();
    keys
}

#[test]
fn ids_that_the_old_collation_took_for_one_are_two_videos() {
    // Every one is a row of its own here; under the usual collation the first
    // four would be one, and so would the two accents.
    let Some(old) = Old::with_table("bytes", "utf8mb4_nopad_bin") else { return };
    let ids = ["A1", "a1", "á1", "a1 ", "\u{e9}", "e\u{301}", "影.mp4", "🎬"];
    old.insert(&ids);
    let site = idle();
    let said = old.import(&site).exits(0);
    assert_eq!(said.out, "clear: 8 new, 0 already pending, 0 to follow a running one\n");
    assert_eq!(said.err, "", "no bar where nobody watches");
    let mut wanted = ids.map(str::to_owned);
    wanted.sort();
    let host = site.start();
    assert_eq!(pending(&host), wanted);
    assert_eq!(old.rows(), wanted, "a copy leaves the rows");
    // Repeated, it queues nothing twice.
    assert_eq!(old.import(&site).exits(0).out, "clear: 0 new, 8 already pending, 0 to follow a running one\n");
}

/// Between the look at `A1` and its removal the old service can have replaced
/// it by `a1`, which is no task yet.
#[test]
fn only_the_very_row_that_was_taken_is_removed() {
    for collation in ["utf8mb4_general_ci", "utf8mb4_unicode_ci", "utf8mb3_general_ci", "latin1_swedish_ci"] {
        let Some(old) = Old::with_table(&format!("exact_{collation}"), collation) else { return };
        old.insert(&["A1", "b", "é", "x "]);
        let table = old.open().unwrap();
        let page = old.runtime.block_on(table.page(None)).unwrap();
        let mut sorted = page.clone();
        sorted.sort();
        assert_eq!(sorted, ["A1", "b", "x ", "é"], "{collation}");
        old.run(&format!("DELETE FROM {}", old.table()));
        old.insert(&["a1", "b", "É", "x"]);
        assert_eq!(old.runtime.block_on(table.remove(&page)), Ok(1), "{collation}");
        assert_eq!(old.rows(), ["a1", "x", "É"], "{collation}");
        let rest = old.runtime.block_on(table.page(None)).unwrap();
        assert_eq!(old.runtime.block_on(table.remove(&rest)), Ok(3), "{collation}");
        assert_eq!(old.runtime.block_on(table.rows()), Ok(0), "{collation}");
    }
}

#[test]
fn a_large_table_is_taken_in_pages() {
    const ROWS: usize = 12_345;
    let Some(old) = Old::with_table("large", "latin1_swedish_ci") else { return };
    let ids: Vec<_> = (0..ROWS).map(|number| format!("Video é {number}")).collect();
    old.insert(&ids.iter().map(String::as_str).collect::<Vec<_>>());
    let table = old.open().unwrap();
    assert_eq!(old.runtime.block_on(table.rows()), Ok(ROWS as u64));
    let (mut after, mut read) = (None, Vec::new());
    loop {
        let page = old.runtime.block_on(table.page(after.as_deref())).unwrap();
        assert!(page.len() <= LegacyTable::PAGE);
        let Some(last) = page.last() else { break };
        after = Some(last.clone());
        read.extend(page);
    }
    read.sort();
    let mut wanted = ids;
    wanted.sort();
    assert!(read == wanted, "each row once");
    // By the primary key: a page must not cost the whole table.
    let plan = format!(
        "EXPLAIN SELECT video_id FROM {} WHERE video_id > CONVERT('Video' USING latin1) COLLATE latin1_swedish_ci ORDER BY video_id LIMIT 1000",
        old.table()
    );
    let plan: String = old.runtime.block_on(async {
        use sqlx::Row as _;
        sqlx::query(AssertSqlSafe(plan)).fetch_one(&old.pool).await.unwrap().get::<String, _>("key")
    });
    assert_eq!(plan, "PRIMARY");
    let site = idle();
    assert_eq!(old.import(&site).exits(0).out, "clear: 12345 new, 0 already pending, 0 to follow a running one\n");
}

#[test]
fn ids_that_name_no_video_are_told_and_left() {
    let Some(old) = Old::with_table("bad", "utf8mb4_general_ci") else { return };
    old.insert(&["good", "", "a\nb", "nul\0", "..", "a/b"]);
    let site = idle();
    let said = old.import(&site).exits(1);
    assert_eq!(said.out, "clear: 1 new, 0 already pending, 0 to follow a running one, 5 wrong\n");
    for part in ["`` names no video", "`a\\nb`", "`nul\\u{0}`", "`..`", "`a/b`", "left in place"] {
        said.says(part);
    }
    assert_eq!(old.rows().len(), 6);
}

#[test]
fn new_rows_are_followed_and_removed_once_their_tasks_are_durable() {
    let Some(old) = Old::with_table("follow", "utf8mb4_general_ci") else { return };
    old.insert(&["first", "Second", "a\tb"]);
    let site = idle();
    let host = site.start();
    let mut command = old.command(&site, &["--follow"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let began = std::time::Instant::now();
    let until = |what: &str, done: &dyn Fn() -> bool| {
        while !done() {
            assert!(began.elapsed() < PATIENCE, "waited in vain until {what}");
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    };
    until("the rows are gone", &|| old.rows() == ["a\tb"]);
    assert_eq!(pending(&host), ["Second", "first"], "whoever is removed is queued");
    // An old writer is still about.
    old.insert(&["SECOND", "third"]);
    until("the new rows are gone", &|| old.rows() == ["a\tb"]);
    assert_eq!(pending(&host), ["SECOND", "Second", "first", "third"]);
    let pid = rustix::process::Pid::from_raw(child.id().cast_signed()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert!(child.try_wait().is_ok());
    let said = Said::from(child.wait_with_output().unwrap()).exits(1);
    assert_eq!(said.out, "clear: 4 new, 0 already pending, 0 to follow a running one, 1 wrong, 4 rows removed\n");
    assert_eq!(said.err.matches("names no video").count(), 1, "told once: {}", said.err);
}

/// kill -9 between the commit of a task and the removal of its row: the row is
/// taken again, and merges with its task.
#[test]
fn an_import_that_was_killed_is_repeated() {
    let Some(old) = Old::with_table("killed", "utf8mb4_general_ci") else { return };
    let ids: Vec<_> = (0..5000).map(|number| format!("v{number}")).collect();
    old.insert(&ids.iter().map(String::as_str).collect::<Vec<_>>());
    let site = idle();
    let mut child = old.command(&site, &["--follow"]).stdout(Stdio::null()).spawn().unwrap();
    let began = std::time::Instant::now();
    while old.rows().len() == ids.len() {
        assert!(began.elapsed() < PATIENCE, "it removes rows");
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let left = old.rows();
    let said = old.import(&site).exits(0);
    let host = site.start();
    let mut wanted = ids;
    wanted.sort();
    assert!(pending(&host) == wanted, "{} left, {}", left.len(), said.out);
}

#[test]
fn what_cannot_be_imported_is_said_without_the_password() {
    let Some(old) = Old::with_table("wrong", "utf8mb4_general_ci") else { return };
    let site = idle();
    let url = old.url();
    let with = |url: &str, args: &[&str]| -> Said {
        old.command(&site, args).env("SWEEPD_LEGACY_URL", url).output().unwrap().into()
    };
    let (_, host) = url.rsplit_once('@').unwrap_or(("", url.trim_start_matches("mysql://")));
    old.run(&format!("CREATE TABLE `{}`.other (video_id VARCHAR(64))", old.name));
    old.run(&format!("CREATE TABLE `{}`.binaries (video_id VARBINARY(64) PRIMARY KEY)", old.name));
    old.run(&format!("CREATE TABLE `{}`.pairs (video_id VARCHAR(64), x INT, PRIMARY KEY (video_id, x))", old.name));
    for (url, args, part) in [
        (url.clone(), &["--table", "missing"][..], "there is no table missing with a column video_id"),
        (url.clone(), &["--table", "other"], "not the table's key"),
        (url.clone(), &["--table", "pairs"], "not the table's key"),
        (url.clone(), &["--table", "binaries"], "no text"),
        (format!("mysql://nobody:s3cret@{host}"), &[], "Access denied"),
        (
            "mysql://root:s3cret@127.0.0.1:1/videos".to_owned(),
            &[],
            "127.0.0.1:1/videos: the old database cannot be used now: ",
        ),
        ("mysql://root:s3cret@127.0.0.1:1/videos".to_owned(), &[], "refused"),
        ("mysql://root:s3#cret@127.0.0.1/videos".to_owned(), &[], "percent encoding"),
        ("s3cret".to_owned(), &[], "begins with mysql://"),
    ] {
        let said = with(&url, args).exits(1);
        said.says(part);
        assert!(!said.err.contains("cret"), "{}", said.err);
    }
    let shown = site.command(&["import-legacy", "--url", "mysql://root:s3cret@h/d", "--tabel", "x"]).output().unwrap();
    assert!(!String::from_utf8_lossy(&shown.stderr).contains("s3cret"));
    let (status, help) = (
        shown.status.code(),
        Command::new(env!("CARGO_BIN_EXE_sweepd"))
            .args(["import-legacy", "--help"])
            .env("SWEEPD_LEGACY_URL", "s3cret")
            .output()
            .unwrap(),
    );
    assert_eq!((status, String::from_utf8_lossy(&help.stdout).contains("s3cret")), (Some(2), false));
}
