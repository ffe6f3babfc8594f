//! Two hosts on one database: work is shared, what is asked at one is heard at
//! the other, and what a dead one held is taken over.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::cli::run;
use crate::effects::{effects, lines};
use crate::stores::SharedHarness;
use crate::support::{Site, Sweepd, guest, plugin};

/// A database and the sites of two nodes, `a` and `b`, with one folder of
/// videos.
struct Cluster<H> {
    // Dropped first, before the database goes.
    a: Site,
    b: Site,
    database: H,
}

impl<H: SharedHarness> Cluster<H> {
    /// `None` where the server is not there, which was said.
    fn with(guest: &Path, job: &str) -> Option<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let database = runtime.block_on(async { if H::ready().await { Some(H::fresh().await) } else { None } })?;
        let (a, b) = (Site::new(), Site::new());
        let cluster = Self { a, b, database };
        for (site, name) in [(&cluster.a, "a"), (&cluster.b, "b")] {
            site.install(guest);
            cluster.configure(site, name, job);
        }
        Some(cluster)
    }

    fn configure(&self, site: &Site, name: &str, job: &str) {
        let text = format!(
            "node = \"{name}\"\nlabels = [\"disk-{name}\"]\nlease = \"2s\"\n\
             [server]\nlisten = \"127.0.0.1:0\"\nvideo_delete_record = \"clear\"\n\
             [database]\nurl = \"{}\"\nmax_connections = 4\n\
             [[job]]\nname = \"clear\"\nplugin = \"plugins/plugin.wasm\"\nmounts = [\"{}\"]\n{job}",
            self.database.url(),
            self.a.videos().display(),
        );
        fs::write(site.path().join("sweepd.toml"), text).unwrap();
    }

    fn start(&self) -> (Sweepd, Sweepd) {
        let (a, b) = (self.a.start(), self.b.start());
        a.serving("clear");
        b.serving("clear");
        (a, b)
    }
}

fn texts(values: &Value, field: &str) -> Vec<String> {
    let values = values.as_array().expect("a list").iter();
    values.map(|value| value[field].as_str().unwrap_or_default().to_owned()).collect()
}

fn work_is_shared_and_shown<H: SharedHarness>() {
    let job = "interval = \"200ms\"\ncapacity = 4\nconcurrency = 2\n[job.limits]\ntask_deadline = \"20m\"\n";
    let Some(cluster) = Cluster::<H>::with(&guest("waits_until_told"), job) else { return };
    let (a, b) = cluster.start();
    let keys: Vec<_> = (0..40).map(|number| format!("video-{number}")).collect();
    a.enqueue("clear", &keys);
    b.wait("both hold tasks", || {
        let nodes = b.get("/v1/nodes");
        let nodes = nodes["nodes"].as_array().expect("a list");
        nodes.iter().filter(|node| node["holds"][0]["tasks"].as_u64() > Some(0)).count() == 2
    });
    assert_eq!(texts(&b.get("/v1/nodes")["nodes"], "name"), ["a", "b"]);
    fs::write(cluster.a.videos().join("go"), "").unwrap();
    a.drained("clear");
    let done = b.tasks("clear", "done");
    assert_eq!(done.len(), 40);
    for name in ["a", "b"] {
        assert!(done.iter().any(|task| task["node"] == name), "{name} did nothing");
    }
    let status = cluster.b.command(&["status"]).output().unwrap();
    let status = String::from_utf8_lossy(&status.stdout).into_owned();
    assert!(status.contains("disk-a") && status.contains("disk-b"), "{status}");
}

fn a_killed_nodes_tasks_run_elsewhere<H: SharedHarness>() {
    let job = "interval = \"200ms\"\n[job.config]\nsleep_ms = 600000\n[job.limits]\ntask_deadline = \"20m\"\n";
    let Some(cluster) = Cluster::<H>::with(&guest("sleeps"), job) else { return };
    let a = cluster.a.start();
    a.serving("clear");
    let id = a.enqueue("clear", &["video"])[0];
    a.wait("it runs", || a.has("clear", "running"));
    let b = cluster.b.start();
    b.serving("clear");
    let task = |host: &Sweepd| host.get(&format!("/v1/tasks/{id}"));
    assert_eq!(task(&b)["node"], "a");
    a.kill();
    b.wait("it runs at the other node", || task(&b)["node"] == "b");
    let task = task(&b);
    assert_eq!((&task["losses"], &task["attempts"]), (&1.into(), &0.into()), "{task}");
}

fn a_pause_is_heard_everywhere<H: SharedHarness>() {
    let job = "interval = \"100ms\"\n[job.config]\nsleep_ms = 600000\n[job.limits]\ntask_deadline = \"20m\"\n";
    let Some(cluster) = Cluster::<H>::with(&guest("sleeps"), job) else { return };
    let b = cluster.b.start();
    b.serving("clear");
    b.enqueue("clear", &["video"]);
    b.wait("it runs", || b.has("clear", "running"));
    let a = cluster.a.start();
    let (status, body) = a.request("POST", "/v1/jobs/clear/pause", None);
    assert!(status < 300, "{body}");
    b.wait("the other node stops it", || b.get("/v1/jobs/clear")["paused"].is_string() && !b.has("clear", "running"));
    assert!(a.request("POST", "/v1/jobs/clear/resume", None).0 < 300);
    b.wait("it goes on", || b.has("clear", "running"));
}

fn what_runs_elsewhere_is_cancelled<H: SharedHarness>() {
    let job = "interval = \"100ms\"\n[job.config]\nsleep_ms = 600000\n[job.limits]\ntask_deadline = \"20m\"\n";
    let Some(cluster) = Cluster::<H>::with(&guest("sleeps"), job) else { return };
    let b = cluster.b.start();
    b.serving("clear");
    let id = b.enqueue("clear", &["video"])[0];
    b.wait("it runs", || b.has("clear", "running"));
    let a = cluster.a.start();
    let (status, body) = a.request("POST", &format!("/v1/tasks/{id}/cancel"), None);
    assert_eq!(status, 200, "{body}");
    a.wait("it ends", || a.get(&format!("/v1/tasks/{id}"))["state"] == "cancelled");
}

/// Nothing but the wake-up could bring it there so soon.
fn a_task_goes_where_its_files_are<H: SharedHarness>() {
    let interval = if H::TELLS { "1h" } else { "200ms" };
    let job = format!("interval = \"{interval}\"\nlabels = [\"disk-b\"]\n");
    let Some(cluster) = Cluster::<H>::with(&guest("noop"), &job) else { return };
    let (a, b) = (cluster.a.start(), cluster.b.start());
    b.serving("clear");
    let (status, body) = a.request("GET", "/video-delete-record/video", None);
    assert_eq!(status, 200, "{body}");
    b.wait("it is done", || b.has("clear", "done"));
    assert_eq!(b.tasks("clear", "done")[0]["node"], "b");
    let (status, body) = a.request("POST", "/v1/jobs/clear/sweep", None);
    assert_eq!(status, 409, "{body}");
    assert!(body.contains("disk-b"), "{body}");
    assert_eq!(a.request("GET", "/readyz?jobs=all", None).0, 200, "it needs no plugin here");
    let (status, body) = a.request("GET", "/readyz?job=clear", None);
    assert!(status == 503 && body.contains("\"elsewhere\""), "{status}: {body}");
}

fn one_node_scans<H: SharedHarness>() {
    let Some(cluster) = Cluster::<H>::with(&guest("discovers"), "interval = \"1h\"\n") else { return };
    fs::write(cluster.a.videos().join("found"), "").unwrap();
    // Each sweeps when it has its plugin, and only one of them may scan.
    let (a, b) = cluster.start();
    a.wait("it is found", || a.has("clear", "done"));
    a.wait("both have swept", || {
        [&a, &b].iter().all(|host| host.log().contains("serves") || host.get("/v1/jobs/clear")["slot"]["swaps"] == 1)
    });
    let by_hand = |host: &Sweepd| {
        let (status, body) = host.request("POST", "/v1/jobs/clear/sweep?wait=true", None);
        assert_eq!(status, 200, "{body}");
        serde_json::from_str::<Value>(&body).unwrap()["discovered"].as_u64().unwrap()
    };
    let found = [by_hand(&a), by_hand(&b)];
    assert_eq!(found.iter().sum::<u64>(), 1, "one scans, the other must not: {found:?}");
}

/// A policy at one node is kept in bounds by commands at another, at which no
/// host runs: they have nothing in common but database and files.
fn a_policy_is_kept_in_bounds_from_elsewhere<H: SharedHarness>() {
    let job = "interval = \"200ms\"\ntrash = \"1h\"\n[job.budget]\nsweep_files = 3\n";
    let Some(cluster) = Cluster::<H>::with(&plugin("video-clear"), job) else { return };
    let (videos, elsewhere) = (cluster.a.videos(), &cluster.b);
    let names = ["one", "two", "three", "four", "five"];
    for name in names {
        fs::write(videos.join(name), name).unwrap();
    }
    run(elsewhere, &[&["enqueue", "clear"], &names[..]].concat()).exits(0);
    let host = cluster.a.start();
    let paused = |host: &Sweepd| host.get("/v1/jobs/clear")["paused"].as_str().unwrap_or_default().to_owned();
    host.wait("the job is paused", || paused(&host).contains("over budget"));
    let left = || names.iter().filter(|name| videos.join(name).exists()).count();
    assert_eq!(left(), 2);
    let said = run(elsewhere, &["resume", "clear", "--once-over-budget"]).exits(0);
    assert!(said.out.contains("it was paused: over budget"), "{}", said.out);
    host.drained("clear");
    assert_eq!((left(), effects(elsewhere, &["--operation", "remove"]).len()), (0, 5));

    let trash = lines(&run(elsewhere, &["trash", "list", "clear", "--json"]).exits(0).out);
    let of = |name: &str| {
        let is_it = |file: &&Value| file["path"].as_str().is_some_and(|path| path.ends_with(name));
        trash.iter().find(is_it).expect("it is in the trash")["id"].as_str().unwrap().to_owned()
    };
    assert_eq!(trash.len(), 5);
    run(elsewhere, &["trash", "restore", "clear", &of("/one")]).exits(0);
    assert_eq!(fs::read_to_string(videos.join("one")).unwrap(), "one");
    assert_eq!(run(elsewhere, &["trash", "purge", "clear", &of("/two")]).exits(0).out, "1 purged\n");
    assert_eq!(run(elsewhere, &["trash", "purge", "clear", "--all", "--yes"]).exits(0).out, "3 purged\n");
    let mut fates = texts(&Value::from(effects(elsewhere, &["--operation", "remove"])), "fate");
    fates.sort();
    assert_eq!(fates, ["purged", "purged", "purged", "purged", "restored"]);

    run(elsewhere, &["hold", "add", "clear", "one", "--why", "case 17"]).exits(0);
    host.wait("the hold is heard of", || host.get("/v1/jobs/clear")["holds"] == 1);
    let ids = host.enqueue("clear", &["one"]);
    host.wait("it is held", || {
        let note = host.get(&format!("/v1/tasks/{}", ids[0]))["note"].clone();
        note.as_str().is_some_and(|note| note.contains("case 17"))
    });
    assert!(videos.join("one").exists());
    let hold = run(elsewhere, &["hold", "list", "clear", "--json"]).exits(0).json()["holds"][0]["id"].to_string();
    run(elsewhere, &["hold", "remove", "clear", &hold]).exits(0);
    host.wait("its end is heard of", || host.get("/v1/jobs/clear")["holds"] == 0);
    assert_eq!(host.request("POST", &format!("/v1/tasks/{}/retry", ids[0]), None).0, 200);
    host.drained("clear");
    assert!(!videos.join("one").exists());
    assert_eq!(run(elsewhere, &["mount", "list", "clear", "--json"]).exits(0).json()["mounts"][0]["state"], "right");
}

/// Makes a test of each, for one kind of database.
macro_rules! cluster {
    ($name:ident, $harness:ty) => {
        mod $name {
            cluster!(@each $harness: work_is_shared_and_shown, a_killed_nodes_tasks_run_elsewhere,
                a_pause_is_heard_everywhere, what_runs_elsewhere_is_cancelled, a_task_goes_where_its_files_are,
                one_node_scans, a_policy_is_kept_in_bounds_from_elsewhere);
        }
    };
    (@each $harness:ty: $($test:ident),+) => {
        $(
            #[test]
            fn $test() {
                super::$test::<$harness>();
            }
        )+
    };
}

cluster!(on_postgres, crate::stores::PostgresHarness);
cluster!(on_mysql, crate::stores::MySqlHarness);
