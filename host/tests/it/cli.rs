//! The command line of the real binary: exit codes, and what people and scripts
//! read.

use std::fs::{self, File};
use std::io::Write as _;
use std::net::TcpListener;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::support::{Site, Sweepd, guest, plugin};

/// What a command said, and its exit code.
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }
}

impl Said {
    #[track_caller]
    pub(crate) fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "standard output:\n{}\nstandard error:\n{}", self.out, self.err);
        self
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {}", self.out))
    }

    #[track_caller]
    pub(crate) fn says(&self, part: &str) {
        assert!(self.err.contains(part), "`{part}` is not in:\n{}", self.err);
    }
}

pub(crate) fn run(site: &Site, args: &[&str]) -> Said {
    site.command(args).stdin(Stdio::null()).output().unwrap().into()
}

/// A command beside the running host, which listens elsewhere than the file says.
pub(crate) fn beside(site: &Site, host: &Sweepd, args: &[&str]) -> Said {
    let address = host.address.to_string();
    site.command(args).env("SWEEPD_SERVER__LISTEN", address).stdin(Stdio::null()).output().unwrap().into()
}

/// A command with this on its standard input.
pub(crate) fn fed(site: &Site, args: &[&str], input: &[u8]) -> Said {
    let mut command = site.command(args);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    child.wait_with_output().unwrap().into()
}

fn set(site: &Site, from: &str, to: &str) {
    let file = site.path().join("sweepd.toml");
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.contains(from), "{text}");
    fs::write(file, text.replace(from, to)).unwrap();
}

fn pending(site: &Site) -> Value {
    run(site, &["status", "--json"]).exits(0).json()["jobs"][0]["backlog"]["pending"].clone()
}

#[test]
fn a_bad_configuration_is_told_with_file_line_and_nearest_key() {
    let site = Site::with_job(&guest("noop"), "");
    set(&site, "interval", "intervall");
    set(&site, "listen = \"127.0.0.1:0\"", "listen = \"nowhere\"");
    for command in [&["run"][..], &["config", "check"], &["enqueue", "clear", "a"], &["status"]] {
        let said = run(&site, command).exits(1);
        // All that is wrong is told at once.
        for part in ["sweepd.toml:", "intervall", "did you mean `interval`?", "server.listen", "nowhere"] {
            said.says(part);
        }
        assert_eq!(said.out, "", "{command:?}");
    }
    assert!(!site.path().join("state").exists(), "nothing was touched");
    fs::remove_file(site.path().join("sweepd.toml")).unwrap();
    let said = run(&site, &["run"]).exits(1);
    said.says("cannot read the configuration file");
    said.says("--config");
}

#[test]
fn a_configuration_is_checked_and_explained() {
    let site = Site::with_job(&guest("noop"), "concurrency = 3\n");
    let said = run(&site, &["config", "check"]).exits(0);
    assert!(said.out.starts_with("ok: "), "{}", said.out);
    for part in ["job       clear", "plugins/plugin.wasm", "at / (rw)", "3 executors", "queues for clear"] {
        assert!(said.out.contains(part), "`{part}` is not in:\n{}", said.out);
    }
    assert!(!said.out.contains("warning"), "{}", said.out);
    fs::remove_file(site.plugin_file()).unwrap();
    let said = run(&site, &["config", "check"]).exits(0);
    assert!(said.out.contains("warning: job clear: the plugin"), "{}", said.out);
    fs::remove_dir(site.videos()).unwrap();
    run(&site, &["config", "check"]).exits(1).says("mkdir -p");
}

#[test]
fn the_environment_overrides_the_file() {
    let site = Site::with_job(&guest("noop"), "");
    let with = |name: &str, value: &str, args: &[&str]| -> Said {
        site.command(args).env(name, value).stdin(Stdio::null()).output().unwrap().into()
    };
    let said = with("SWEEPD_JOB__CLEAR__CONCURRENCY", "7", &["config", "check"]).exits(0);
    assert!(said.out.contains("7 executors"), "{}", said.out);
    // The host itself: it goes to the port that the variable names, which is taken.
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = holder.local_addr().unwrap();
    let said = with("SWEEPD_SERVER__LISTEN", &taken.to_string(), &["run"]).exits(1);
    said.says(&format!("cannot listen on {taken}"));
    drop(holder);
    let said = with("SWEEPD_SERVER__LISTN", "x", &["config", "check"]).exits(1);
    said.says("SWEEPD_SERVER__LISTN");
    said.says("did you mean SWEEPD_SERVER__LISTEN?");
    let said = with("SWEEPD_JOB__CLEAR__INTERVAL", "soon", &["config", "check"]).exits(1);
    said.says("environment variable SWEEPD_JOB__CLEAR__INTERVAL");
}

#[test]
fn keys_are_queued_without_a_host() {
    let site = Site::with_job(&guest("noop"), "");
    let said = run(&site, &["enqueue", "clear", "a", "b", "a"]).exits(0);
    assert_eq!(said.out, "clear: 2 new, 1 already pending, 0 to follow a running one\n");
    let later = ["enqueue", "clear", "c", "--run-at", "2100-01-01T00:00:00Z", "--priority", "high", "--payload", "p"];
    run(&site, &later).exits(0);
    assert_eq!(pending(&site), 3);

    run(&site, &["enqueue", "claer", "a"]).exits(1).says("did you mean `clear`?");
    run(&site, &["enqueue", "clear", "a", "--priority", "top"]).exits(2).says("urgent, high, normal or low");
    run(&site, &["enqueue", "clear"]).exits(2);
    assert_eq!(pending(&site), 3);

    let host = site.start();
    host.wait("what is due is done", || host.tasks("clear", "done").len() == 2);
    let waiting = host.tasks("clear", "pending");
    assert_eq!((waiting.len(), &waiting[0]["key"], &waiting[0]["priority"]), (1, &"c".into(), &"high".into()));
}

#[test]
fn fifty_thousand_keys_from_standard_input() {
    const KEYS: u64 = 50_000;
    let site = Site::with_job(&guest("noop"), "");
    let enqueue = |prefix: &str| {
        let lines: Vec<_> = (0..KEYS).map(|number| format!("{prefix}-{number}\n")).collect();
        let file = site.path().join("ids.txt");
        fs::write(&file, lines.concat()).unwrap();
        let output = site.command(&["enqueue", "clear", "-"]).stdin(File::open(file).unwrap()).output().unwrap();
        Said::from(output).exits(0)
    };
    let said = enqueue("stopped");
    assert_eq!(said.out, "clear: 50000 new, 0 already pending, 0 to follow a running one\n");
    assert_eq!(said.err, "", "no bar where nobody watches");
    assert_eq!(pending(&site), KEYS);
    assert_eq!(enqueue("stopped").out, "clear: 0 new, 50000 already pending, 0 to follow a running one\n");

    let host = site.start();
    host.serving("clear");
    let said = enqueue("running");
    assert_eq!(said.out, "clear: 50000 new, 0 already pending, 0 to follow a running one\n");
    host.drained("clear");
    assert_eq!(host.tasks("clear", "done").len() as u64, 2 * KEYS);
}

#[test]
fn bad_lines_are_told_and_the_others_are_queued() {
    let site = Site::with_job(&guest("noop"), "");
    let long = "x".repeat(1025);
    let input = [b"good\n\n\xff\xfe\nnul\0\nwindows\r\n".as_slice(), long.as_bytes(), "\n影.mp4".as_bytes()].concat();
    let said = fed(&site, &["enqueue", "clear", "-"], &input).exits(1);
    let told: Vec<_> = said.err.lines().map(|line| line.split(':').next().unwrap()).collect();
    assert_eq!(told, ["line 3", "line 4", "line 5", "line 6"], "{}", said.err);
    for part in ["no UTF-8", "NUL", "carriage return", "1025 bytes"] {
        said.says(part);
    }
    assert_eq!(said.out, "clear: 2 new, 0 already pending, 0 to follow a running one, 4 wrong\n");
    let said = fed(&site, &["enqueue", "--null", "clear", "-"], b"two\nlines\0good\0").exits(0);
    assert_eq!(said.out, "clear: 1 new, 1 already pending, 0 to follow a running one\n");
    assert_eq!(pending(&site), 3);
    // A wrong key among the arguments is no different.
    let said = run(&site, &["enqueue", "clear", "", "other"]).exits(1);
    said.says("the key is empty");
    assert_eq!(pending(&site), 4);
}

#[test]
fn status_of_a_running_and_of_a_stopped_host() {
    let site = Site::with_job(&plugin("video-clear"), "");
    let said = run(&site, &["status"]).exits(1);
    said.says("there is no queue yet");
    said.says("sweepd run");

    let host = site.start();
    let digest = host.serving("clear")["slot"]["generation"]["digest"].clone();
    let said = beside(&site, &host, &["status"]).exits(0);
    let rows: Vec<Vec<_>> = said.out.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0][..2], ["sweepd", env!("CARGO_PKG_VERSION")], "{}", said.out);
    assert_eq!(rows[1][..5], ["JOB", "STATE", "PENDING", "RUNNING", "DEAD"], "{}", said.out);
    assert_eq!(rows[2][..7], ["clear", "serving", "0", "0", "0", "-", "1"], "{}", said.out);
    let short = format!("({})", &digest.as_str().unwrap()[..12]);
    assert_eq!(rows[2][7], short, "{}", said.out);
    assert_eq!(rows[3], ["NODE", "LABELS", "VERSION", "UP", "RUNS"], "{}", said.out);
    assert_eq!((rows[4][2], rows[4].last()), (env!("CARGO_PKG_VERSION"), Some(&"-")), "{}", said.out);
    let json = beside(&site, &host, &["status", "--json"]).exits(0).json();
    assert_eq!(json["running"], true, "{json}");
    assert_eq!(json["nodes"].as_array().map(Vec::len), Some(1), "{json}");
    assert_eq!(json["jobs"][0]["slot"]["generation"]["digest"], digest, "{json}");
    assert_eq!(host.stop(), Some(0));

    run(&site, &["enqueue", "clear", "a"]).exits(0);
    let said = run(&site, &["status"]).exits(0);
    said.says("no host answers at");
    let row: Vec<_> = said.out.lines().nth(1).unwrap_or_default().split_whitespace().collect();
    assert_eq!(row[..5], ["clear", "stopped", "1", "0", "0"], "{}", said.out);
    let json = run(&site, &["status", "--json"]).exits(0).json();
    assert_eq!(json["running"], false, "{json}");
    assert_eq!(json["jobs"][0]["backlog"]["pending"], 1, "{json}");
    assert_eq!(json["nodes"], serde_json::json!([]), "it signed off: {json}");
}

#[test]
fn tasks_as_json_come_from_standard_input() {
    let site = Site::with_job(&guest("noop"), "");
    let input = "{\"key\":\"a\",\"priority\":\"high\"}\n\n{\"kye\":\"b\"}\nnot json\n{\"key\":\"c\",\"payload\":\"p\"}";
    let said = fed(&site, &["enqueue", "--ndjson", "clear", "-"], input.as_bytes()).exits(1);
    assert_eq!(said.out, "clear: 2 new, 0 already pending, 0 to follow a running one, 2 wrong\n");
    let told: Vec<_> = said.err.lines().map(|line| line.split(':').next().unwrap()).collect();
    assert_eq!(told, ["line 3", "line 4"], "{}", said.err);
    said.says("did you mean `key`?");
    // The name of a file would be taken for a video's.
    run(&site, &["enqueue", "--ndjson", "clear", "videos.ndjson"]).exits(2).says("standard input");
    let lines: Vec<_> = (0..30_000).map(|number| format!("{{\"key\":\"key-{number}\"}}\n")).collect();
    let said = fed(&site, &["enqueue", "--ndjson", "clear", "-"], lines.concat().as_bytes()).exits(0);
    assert_eq!(said.out, "clear: 30000 new, 0 already pending, 0 to follow a running one\n");
    assert_eq!(pending(&site), 30_002);
}

#[test]
fn a_schema_is_migrated_by_hand() {
    let site = Site::with_job(&guest("noop"), "");
    let said = run(&site, &["migrate", "--dry-run"]).exits(0);
    assert!(said.out.starts_with("would apply 0001_"), "{}", said.out);
    assert!(!site.path().join("state").exists(), "nothing was made");
    let wanted = said.out.replace("would apply", "applied");
    assert_eq!(run(&site, &["migrate"]).exits(0).out, wanted);
    for again in [&["migrate"][..], &["migrate", "--dry-run"]] {
        assert_eq!(run(&site, again).exits(0).out, "the schema is up to date\n");
    }
    // Beside a running host, too.
    let host = site.start();
    assert_eq!(run(&site, &["migrate"]).exits(0).out, "the schema is up to date\n");
    drop(host);
    fs::write(site.path().join("state/sweepd.db"), "not a database, and long enough to be looked into").unwrap();
    run(&site, &["migrate", "--dry-run"]).exits(1).says("sweepd.db");
}

#[test]
fn status_check_tells_a_script_that_something_is_wrong() {
    let site = Site::with_job(&plugin("video-clear"), "");
    let host = site.start();
    host.serving("clear");
    let check = || beside(&site, &host, &["status", "--check"]);
    let error = || host.get("/v1/jobs/clear")["slot"]["error"].clone();
    assert_eq!(check().exits(0).err, "");

    fs::write(site.plugin_file(), "delete everything").unwrap();
    host.wait("the file is refused", || !error().is_null());
    let said = check().exits(2);
    said.says("wrong: clear: its plugin file: ");
    said.says("component");
    assert!(said.out.contains("the plugin file does not serve"), "{}", said.out);
    site.install(&plugin("video-clear"));
    host.wait("the file is taken", || error().is_null());
    check().exits(0);

    assert_eq!(host.request("POST", "/v1/jobs/clear/pause", Some(&serde_json::json!({ "reason": "lunch" }))).0, 200);
    check().exits(2).says("wrong: clear: paused: lunch");
    assert_eq!(host.request("POST", "/v1/jobs/clear/resume", None).0, 200);
    check().exits(0);
    assert_eq!(host.stop(), Some(0));
    run(&site, &["status", "--check"]).exits(2).says("wrong: no host answers");
}

#[test]
fn a_plugin_file_is_inspected_before_it_is_installed() {
    let site = Site::new();
    let file = |component: std::path::PathBuf| component.canonicalize().unwrap().to_str().unwrap().to_owned();
    // It needs no configuration.
    let said = run(&site, &["plugin", "inspect", &file(plugin("video-clear"))]).exits(0);
    for part in ["component\n", "world    job\n", "sweepd:job/executor@", "wasi:filesystem/types@", "taken    yes"] {
        assert!(said.out.contains(part), "`{part}` is not in:\n{}", said.out);
    }
    let digest = sweepd::domain::digest::Digest::of(&fs::read(plugin("video-clear")).unwrap()).to_string();
    assert!(said.out.contains(&digest), "{}", said.out);

    let said = run(&site, &["plugin", "inspect", &file(guest("other_world"))]).exits(1);
    assert!(
        said.out.contains("taken    no: ") && said.out.contains("does not export sweepd:job/executor"),
        "{}",
        said.out
    );

    let text = site.path().join("text.wasm");
    fs::write(&text, "delete everything").unwrap();
    let json = run(&site, &["plugin", "inspect", "--json", text.to_str().unwrap()]).exits(1).json();
    assert_eq!((&json["kind"], &json["world"]), (&"text".into(), &Value::Null), "{json}");
    assert!(json["refused"].as_str().is_some_and(|why| why.contains("not a WebAssembly component")), "{json}");

    run(&site, &["plugin", "inspect", "missing.wasm"]).exits(1).says("missing.wasm: No such file");
}

#[test]
fn help_has_examples() {
    for command in [
        &["--help"][..],
        &["enqueue", "--help"],
        &["status", "--help"],
        &["plugin", "inspect", "--help"],
        &["tasks", "list", "--help"],
        &["tasks", "show", "--help"],
        &["tasks", "cancel", "--help"],
        &["migrate", "--help"],
        &["import-legacy", "--help"],
    ] {
        let said = Said::from(Command::new(env!("CARGO_BIN_EXE_sweepd")).args(command).output().unwrap()).exits(0);
        let (_, examples) = said.out.split_once("Examples:\n").unwrap_or_else(|| panic!("{command:?}:\n{}", said.out));
        assert!(
            examples.trim_start().starts_with("sweepd ") || examples.contains("\n  sweepd "),
            "{command:?}:\n{}",
            said.out
        );
    }
}
