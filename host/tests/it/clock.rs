//! The clock is set while the host runs, and between two runs: nothing stops,
//! nothing is allowed that was not, and it is told.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection as _};

use crate::cli::{beside, run};
use crate::stores::{PostgresHarness, SharedHarness as _, StoreHarness as _};
use crate::support::{Site, Sweepd, guest, plugin};

const MINUTE: i64 = 60;
const HOUR: i64 = 3600;

/// The clock of a site's host: the machine's, and what a test adds.
struct Clock {
    file: PathBuf,
    /// That of the database's server is set along with it.
    server: Option<ServerClock>,
}

impl Clock {
    fn of(site: &Site) -> Self {
        Self::with(site, None)
    }

    fn with(site: &Site, server: Option<ServerClock>) -> Self {
        let state = site.path().join("state");
        fs::create_dir_all(&state).unwrap();
        let clock = Self { file: state.join("clock"), server };
        clock.set(0);
        clock
    }

    /// It is so many seconds ahead from here on.
    fn set(&self, ahead: i64) {
        let mut of_machine = ahead;
        if let Some(server) = &self.server {
            server.set(ahead);
            if server.alone {
                of_machine = 0;
            }
        }
        let new = self.file.with_extension("new");
        fs::write(&new, (of_machine * 1000).to_string()).unwrap();
        fs::rename(new, &self.file).unwrap();
    }

    fn start(&self, site: &Site) -> Sweepd {
        let file = self.file.display().to_string();
        let host = site.try_start_with(&[("SWEEPD_CLOCK", &file)]);
        host.unwrap_or_else(|log| panic!("the host did not start:\n{log}"))
    }
}

/// The clock of a PostgreSQL database of the test's own: whoever names `public`
/// before the catalogue meets another `clock_timestamp()` there.
struct ServerClock {
    database: PostgresHarness,
    /// Whether the machine of the host keeps its own time.
    alone: bool,
}

impl ServerClock {
    fn fresh(alone: bool) -> Option<Self> {
        let database = runtime().block_on(async {
            if PostgresHarness::ready().await { Some(PostgresHarness::fresh().await) } else { None }
        })?;
        let clock = Self { database, alone };
        clock.tell(
            "CREATE TABLE ahead (seconds BIGINT NOT NULL);
             INSERT INTO ahead VALUES (0);
             CREATE FUNCTION clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE AS $$
                 SELECT pg_catalog.clock_timestamp() + make_interval(secs => (SELECT seconds FROM public.ahead)) $$",
        );
        Some(clock)
    }

    fn url(&self) -> String {
        format!("{}options=-c%20search_path%3Dpublic,pg_catalog", self.database.url())
    }

    fn set(&self, ahead: i64) {
        self.tell(&format!("UPDATE ahead SET seconds = {ahead}"));
    }

    fn tell(&self, sql: &str) {
        runtime().block_on(async {
            let mut conn = PgConnection::connect(&self.database.url()).await.unwrap();
            sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut conn).await.unwrap();
            conn.close().await.unwrap();
        });
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// The machine's time, in milliseconds.
fn now() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

/// Waits until the host says that its clock was set so.
fn noticed(host: &Sweepd, way: &str) -> Value {
    let mut notice = Value::Null;
    host.wait("it is noticed", || {
        notice = host.get("/v1/jobs")["clock"].clone();
        notice["set"] == way
    });
    notice
}

fn task(host: &Sweepd, id: u64) -> Value {
    host.get(&format!("/v1/tasks/{id}"))
}

fn pause(host: &Sweepd, job: &str) {
    let (status, body) = host.request("POST", &format!("/v1/jobs/{job}/pause"), Some(&json!({ "reason": "later" })));
    assert_eq!(status, 200, "{body}");
}

fn resume(host: &Sweepd, job: &str) {
    let (status, body) = host.request("POST", &format!("/v1/jobs/{job}/resume"), None);
    assert_eq!(status, 200, "{body}");
}

/// Jobs that scan by a schedule, fail, postpone and wait.
fn several(database: Option<&str>) -> Site {
    let site = Site::new();
    let mut jobs = String::new();
    if let Some(url) = database {
        let _ = writeln!(jobs, "[database]\nurl = \"{url}\"");
    }
    for (name, component, more) in [
        ("clear", "noop", ""),
        ("scans", "discovers", "schedule = \"0 * * * *\"\ntime_zone = \"UTC\"\n"),
        ("fails", "fails_transient", "[job.retry]\nbackoff = \"1h\"\n"),
        ("postpones", "postpones", "[job.config]\ndelay = \"1800\"\n"),
    ] {
        fs::create_dir(site.path().join(name)).unwrap();
        fs::write(site.path().join(name).join("found"), "").unwrap();
        fs::copy(guest(component), site.path().join(format!("plugins/{name}.wasm"))).unwrap();
        let _ = write!(
            jobs,
            "[[job]]\nname = \"{name}\"\nplugin = \"plugins/{name}.wasm\"\nmounts = [\"{name}\"]\n\
             interval = \"200ms\"\n{more}"
        );
    }
    site.configure(&jobs);
    site
}

/// Ten hours ahead, everything is asked for; back, everything goes on.
fn all_goes_on(between: impl FnOnce(&Site, &Clock, Sweepd) -> Sweepd) {
    all_goes_on_with(None, between);
}

fn all_goes_on_with(server: Option<ServerClock>, between: impl FnOnce(&Site, &Clock, Sweepd) -> Sweepd) {
    let site = several(server.as_ref().map(ServerClock::url).as_deref());
    let clock = Clock::with(&site, server);
    let host = clock.start(&site);
    for job in ["clear", "scans", "fails", "postpones"] {
        host.serving(job);
    }
    clock.set(10 * HOUR);
    // Before it goes back: what is set twice between two looks is not seen.
    noticed(&host, "forward");
    let scans = |host: &Sweepd| host.tasks("scans", "done").len();
    host.wait("the times that passed are scanned", || scans(&host) == 1);
    pause(&host, "clear");
    let waits = host.enqueue("clear", &["waits"])[0];
    let named = now() + 12 * 3_600_000;
    let (status, body) =
        host.request("POST", "/v1/jobs/clear/tasks", Some(&json!([{ "key": "named", "run_at": named }])));
    assert_eq!(status, 201, "{body}");
    let (failed, postponed) = (host.enqueue("fails", &["a"])[0], host.enqueue("postpones", &["a"])[0]);
    host.wait("both wait", || task(&host, failed)["attempts"] == 1 && task(&host, postponed)["note"] == "not yet");
    // An hour and half an hour from a time that is ten hours ahead.
    assert!(task(&host, failed)["run_at"].as_u64() > Some(now() + 10 * 3_600_000));

    let host = between(&site, &clock, host);
    let notice = noticed(&host, "back");
    assert!(notice["by_ms"].as_u64().is_some_and(|by| (35_000_000..=36_100_000).contains(&by)), "{notice}");
    assert!(notice["message"].as_str().unwrap().contains("was set back by"), "{notice}");
    let said = beside(&site, &host, &["status"]).exits(0);
    assert!(said.out.contains("clock (") && said.out.contains("was set back by"), "{}", said.out);
    host.wait("it is drawn in", || host.log().contains("times in the future were drawn in"));
    host.wait("what waited by now is drawn in", || task(&host, waits)["run_at"].as_u64() <= Some(now()));
    let due = |id: u64| task(&host, id)["run_at"].as_u64().unwrap();
    host.wait("both wait from now", || {
        let within = |id: u64, most: u64| due(id) > now() && due(id) <= now() + most * 1000;
        within(failed, 3600 + 900) && within(postponed, 1800)
    });
    resume(&host, "clear");
    host.wait("it is done", || task(&host, waits)["state"] == "done");
    let named_task = host.tasks("clear", "pending");
    assert_eq!((named_task.len(), &named_task[0]["run_at"]), (1, &json!(named)), "{named_task:?}");
    // The next time of the schedule comes when it comes, and not in ten hours.
    clock.set(HOUR);
    host.wait("the schedule goes on", || scans(&host) == 2);
}

#[test]
fn a_clock_that_is_set_back_while_the_host_runs_stops_nothing() {
    all_goes_on(|_, clock, host| {
        clock.set(0);
        let notice = noticed(&host, "back");
        host.says("clock was set back by");
        assert_eq!(host.log().matches("clock was set back by").count(), 1, "{}", host.log());
        assert!(notice["message"].as_str().unwrap().contains("the machine's clock"), "{notice}");
        host
    });
}

#[test]
fn a_clock_that_is_set_back_between_two_runs_stops_nothing() {
    all_goes_on(|site, clock, host| {
        host.kill();
        clock.set(0);
        clock.start(site)
    });
}

/// All nodes go by the database's clock, which is set back with theirs: one machine
/// has both.
#[test]
fn a_clock_of_a_shared_database_that_is_set_back_stops_nothing() {
    let Some(server) = ServerClock::fresh(false) else { return };
    all_goes_on_with(Some(server), |_, clock, host| {
        clock.set(0);
        noticed(&host, "back");
        host.says("clock was set back by");
        host
    });
}

/// The database's alone, as after a failover to another server.
#[test]
fn a_failover_to_a_server_whose_clock_is_behind_stops_nothing() {
    let Some(server) = ServerClock::fresh(true) else { return };
    all_goes_on_with(Some(server), |_, clock, host| {
        clock.set(0);
        let notice = noticed(&host, "back");
        assert!(notice["message"].as_str().unwrap().contains("the database's clock"), "{notice}");
        host
    });
}

/// The same while no host runs.
#[test]
fn a_clock_of_a_shared_database_that_is_set_back_between_two_runs_stops_nothing() {
    let Some(server) = ServerClock::fresh(false) else { return };
    all_goes_on_with(Some(server), |site, clock, host| {
        assert_eq!(host.stop(), Some(0));
        clock.set(0);
        clock.start(site)
    });
}

fn videos(site: &Site, count: u32) {
    for number in 0..count {
        fs::write(site.videos().join(format!("video-{number:07}")), [7; 100]).unwrap();
    }
    site.fill_queue("clear", count);
}

fn left(site: &Site) -> usize {
    let is_video = |entry: &fs::DirEntry| !entry.file_name().to_string_lossy().starts_with('.');
    fs::read_dir(site.videos()).unwrap().filter(|entry| is_video(entry.as_ref().unwrap())).count()
}

fn is_over_budget(host: &Sweepd) {
    host.wait("it pauses itself", || {
        let why = host.get("/v1/jobs/clear")["paused"].clone();
        why.as_str().is_some_and(|why| why.contains("3 files in an hour"))
    });
}

/// Whichever way the clock is set, an hour is an hour.
#[test]
fn no_clock_gives_or_takes_a_budget() {
    let site = Site::with_job(&plugin("video-clear"), "[job.budget]\nhour_files = 3\n");
    videos(&site, 10);
    let clock = Clock::of(&site);
    clock.set(10 * HOUR);
    let host = clock.start(&site);
    is_over_budget(&host);
    assert_eq!(left(&site), 7);
    // Back, in this life and in the next: the hour is used up, as it was.
    clock.set(0);
    noticed(&host, "back");
    resume(&host, "clear");
    is_over_budget(&host);
    assert_eq!(host.get("/v1/jobs/clear")["taken"]["hour"]["files"], 3);
    host.kill();
    let host = clock.start(&site);
    resume(&host, "clear");
    is_over_budget(&host);
    // Forward: no hour has passed.
    clock.set(2 * HOUR);
    noticed(&host, "forward");
    resume(&host, "clear");
    is_over_budget(&host);
    assert_eq!(left(&site), 7);
    host.kill();
    // And after an hour it is free, not after ten.
    clock.set(61 * MINUTE);
    let host = clock.start(&site);
    resume(&host, "clear");
    host.wait("it takes three more", || left(&site) == 4);
    is_over_budget(&host);
    assert_eq!(left(&site), 4);
}

/// A trash keeps files as long as it says, and the later of two goes back.
#[test]
fn a_trash_from_the_future_is_as_old_as_it_is() {
    let site = Site::with_job(&plugin("video-clear"), "trash = \"1h\"\n");
    let clock = Clock::of(&site);
    clock.set(10 * HOUR);
    let host = clock.start(&site);
    let remove = |host: &Sweepd, content: &str| {
        fs::write(site.videos().join("a"), content).unwrap();
        host.enqueue("clear", &["a"]);
        host.drained("clear");
        assert!(!site.videos().join("a").exists());
    };
    remove(&host, "first");
    assert_eq!(host.stop(), Some(0));
    clock.set(0);
    let host = clock.start(&site);
    noticed(&host, "back");
    remove(&host, "second");
    let listed = run(&site, &["effects", "--json"]).exits(0);
    let times: Vec<u64> = crate::effects::lines(&listed.out).iter().filter_map(|one| one["at"].as_u64()).collect();
    assert!(!times.is_empty() && times.iter().all(|at| *at <= now()), "{}", listed.out);
    run(&site, &["trash", "restore", "clear", "--path", "videos/a"]).exits(1);
    assert_eq!(fs::read_to_string(site.videos().join("a")).unwrap(), "second");
    assert_eq!(host.stop(), Some(0));
    // The other one goes after its hour.
    clock.set(61 * MINUTE);
    let host = clock.start(&site);
    let trash = site.videos().join(".sweepd-trash");
    host.wait("it is purged", || fs::read_dir(&trash).unwrap().next().is_none());
}

/// A hold stands as long as it was meant to, though the clock says that it ended.
#[test]
fn a_clock_that_is_set_forward_ends_no_hold() {
    let site = Site::with_job(&plugin("video-clear"), "");
    fs::write(site.videos().join("a"), "a").unwrap();
    let clock = Clock::of(&site);
    let host = clock.start(&site);
    host.serving("clear");
    let until = now() + 3_600_000;
    let (status, body) =
        host.request("POST", "/v1/jobs/clear/holds", Some(&json!({ "pattern": "a", "why": "law", "until": until })));
    assert_eq!(status, 201, "{body}");
    clock.set(10 * HOUR);
    let id = host.enqueue("clear", &["a"])[0];
    host.wait("it is held back", || task(&host, id)["note"].as_str().is_some_and(|note| note.contains("law")));
    let notice = noticed(&host, "forward");
    assert!(notice["message"].as_str().unwrap().contains("set forward by 10h"), "{notice}");
    assert!(site.videos().join("a").exists());
    assert_eq!(host.get("/v1/jobs/clear")["holds"], 1);
    host.says("was set forward by");
    assert_eq!(host.log().matches("was set forward by").count(), 1, "{}", host.log());
}
