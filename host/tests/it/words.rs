//! What people read: nothing of others steers a terminal or forges a line, and
//! what went wrong is told with its cause first.

// length: one behaviour, over every way by which a text reaches a person.

use std::ffi::OsStr;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::cli::{Said, beside, fed, run};
use crate::support::{Site, Sweepd, guest, plugin};

/// What others may write: ends of lines, escapes, C1 controls, marks that turn the
/// order of the line around, characters without width.
const HOSTILE: &str = "x\n2026-01-01T00:00:00Z  INFO all is well\r\u{1b}[2J\u{9b}1m\u{202e}gpj\u{2066}\u{200b}";

/// How it is shown.
const SHOWN: &str = "x\\n2026-01-01T00:00:00Z  INFO all is well\\r\\u{1b}[2J\\u{9b}1m\\u{202e}gpj\\u{2066}\\u{200b}";

/// Nothing that a terminal would obey, or not show.
#[track_caller]
fn is_plain(what: &str, text: &str) {
    let bad = |c: char| {
        (c.is_control() && c != '\n')
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
    };
    assert!(!text.contains(bad), "{what}: {text:?}");
    assert!(!text.lines().any(|line| line.starts_with("2026-01-01T00:00:00Z  INFO all is well")), "{what}: {text}");
}

/// A command whose output is for people and contains what is hostile, as it is
/// shown.
#[track_caller]
fn shows(site: &Site, args: &[&str]) {
    let said: Said = site.command(args).stdin(Stdio::null()).output().unwrap().into();
    let text = format!("{}{}", said.out, said.err);
    is_plain(&args.join(" "), &text);
    assert!(text.contains(SHOWN), "{args:?}:\n{text}");
}

#[test]
fn what_others_wrote_is_escaped_wherever_a_person_sees_it() {
    let site = Site::with_job(&plugin("video-clear"), "trash = \"1h\"\n");
    fs::write(site.videos().join("good"), "x").unwrap();
    // A key that video-clear buries, and its words with the key in them.
    fed(&site, &["enqueue", "--null", "clear", "-"], format!("{HOSTILE}\0good\0").as_bytes()).exits(0);
    let host = site.start();
    host.wait("one is done and one is dead", || host.has("clear", "done") && host.has("clear", "dead"));
    host.stop();
    run(&site, &["pause", "clear", "--why", HOSTILE]).exits(0);
    run(&site, &["hold", "add", "clear", "a\u{1b}[2J\u{202e}b", "--why", HOSTILE]).exits(0);
    let dead = run(&site, &["tasks", "list", "--state", "dead", "--json"]).json();
    let id = dead["tasks"][0]["id"].to_string();
    for args in [
        &["status"][..],
        &["tasks", "list"],
        &["tasks", "show", &id],
        &["hold", "list", "clear"],
        &["pause", "clear", "--why", HOSTILE],
        &["resume", "clear"],
        // Whatever is repeated of an argument, by clap or by a command.
        &["status", HOSTILE],
        &["tasks", "show", HOSTILE],
        &["tasks", "cancel", "--job", HOSTILE],
        &["effects", "--since", HOSTILE],
        &["enqueue", HOSTILE, "a"],
        &["plan", HOSTILE],
        &["plugin", "inspect", HOSTILE],
        &["plugin", "pin", HOSTILE, "a"],
        &["--log", HOSTILE, "status"],
    ] {
        shows(&site, args);
    }
    let mut elsewhere = Command::new(env!("CARGO_BIN_EXE_sweepd"));
    let said = Said::from(elsewhere.args(["--config", HOSTILE, "status"]).output().unwrap()).exits(1);
    is_plain("--config", &said.err);
    said.says(SHOWN);
    // JSON means what it meant, and steers no terminal either.
    for args in [&["status", "--json"][..], &["tasks", "show", &id, "--json"], &["hold", "list", "clear", "--json"]] {
        let said = run(&site, args).exits(0);
        is_plain(&args.join(" "), &said.out);
    }
    let shown = run(&site, &["tasks", "show", &id, "--json"]).json();
    assert_eq!(shown["key"], HOSTILE);
    fed(&site, &["enqueue", "--null", "clear", "-"], format!("{HOSTILE}\0").as_bytes()).exits(0);
    shows(&site, &["plan", "clear"]);
}

#[test]
fn paths_in_the_trash_and_on_record_are_escaped() {
    let site = Site::with_job(&guest("removes_all"), "trash = \"1h\"\n");
    let name = HOSTILE.replace('/', "");
    fs::write(site.videos().join(&name), "x").unwrap();
    let host = site.start();
    host.enqueue("clear", &["all"]);
    host.drained("clear");
    host.stop();
    assert!(!site.videos().join(&name).exists());
    for args in [&["effects"][..], &["trash", "list"]] {
        shows(&site, args);
    }
    // Something stands there now: why it is not restored is told with its path.
    fs::write(site.videos().join(&name), "y").unwrap();
    shows(&site, &["trash", "restore", "clear", "--all"]);
    let listed = run(&site, &["trash", "list", "--json"]).exits(0);
    is_plain("trash list --json", &listed.out);
}

/// The log in this format while the host meets all that is hostile.
fn log_in(format: &str) -> String {
    let site = Site::with_job(&guest("aborts_c"), "[job.retry]\nmax_attempts = 1\n");
    let log = site.path().join("log");
    let file = fs::File::create(&log).unwrap();
    let host = site.try_start_logging_to(file, &[("SWEEPD_LOG_FORMAT", format)]).unwrap();
    host.enqueue("clear", &[HOSTILE]);
    host.wait("it is dead", || host.has("clear", "dead"));
    host.request("POST", "/v1/jobs/clear/pause", Some(&json!({ "reason": HOSTILE })));
    host.stop();
    fs::read_to_string(log).unwrap()
}

#[test]
fn a_line_of_the_log_stays_one_line() {
    let text = log_in("human");
    is_plain("human", &text);
    // Each line is the host's: it begins with a time and a level.
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let time = words.next().unwrap_or_default();
        assert!(time.len() == 27 && time.ends_with('Z') && time.starts_with("20"), "{line}");
        assert!(matches!(words.next(), Some("INFO" | "WARN" | "ERROR" | "DEBUG")), "{line}");
    }
    // What the guest printed, and the key, are in it.
    assert!(text.contains("no index of \\u{1b}[2Jx"), "{text}");
    assert!(text.contains(&format!("key={SHOWN}")), "{text}");
    let text = log_in("json");
    is_plain("json", &text);
    let buried: Value = text
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .find(|line| line["key"].is_string())
        .unwrap();
    assert_eq!(buried["key"], HOSTILE);
}

/// What a server answers, as it came.
fn raw(host: &Sweepd, path: &str) -> String {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, host.address.port())).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text.split_once("\r\n\r\n").expect("a head").1.to_owned()
}

#[test]
fn answers_of_the_server_steer_no_terminal() {
    let site = Site::with_job(&guest("fails_permanent"), "");
    let host = site.start();
    let ids = host.enqueue("clear", &[HOSTILE]);
    host.wait("it is dead", || host.has("clear", "dead"));
    for path in [format!("/v1/tasks/{}", ids[0]), "/v1/tasks".to_owned(), "/v1/jobs/%C2%9B2J%E2%80%AE".to_owned()] {
        is_plain(&path, &raw(&host, &path));
    }
    assert_eq!(host.get(&format!("/v1/tasks/{}", ids[0]))["key"], HOSTILE);
}

/// The note of a task that the guest dies of, and what the log says as a warning.
fn dies_of(component: &Path, key: &str) -> (String, String) {
    let site = Site::with_job(component, "[job.retry]\nmax_attempts = 1\n");
    run(&site, &["enqueue", "clear", key]).exits(0);
    // A plan tells the same, and what the guest printed.
    let planned = run(&site, &["plan", "clear"]).exits(0);
    let log = site.path().join("log");
    let host = site.try_start_logging_to(fs::File::create(&log).unwrap(), &[]).unwrap();
    host.wait("it is dead", || host.has("clear", "dead"));
    let note = host.tasks("clear", "dead")[0]["note"].as_str().unwrap().to_owned();
    host.stop();
    assert!(planned.out.contains(&note.replace('\u{1b}', "\\u{1b}")), "{note}\nis not in\n{}", planned.out);
    let listed = run(&site, &["tasks", "list"]).exits(0).out;
    let begin: String = note.replace('\u{1b}', "\\u{1b}").chars().take(80).collect();
    assert!(listed.contains(&begin), "{begin}\nis not in\n{listed}");
    let lines = fs::read_to_string(log).unwrap();
    let warnings = lines.lines().filter(|line| line.contains("\"WARN\"")).collect::<Vec<_>>().join("\n");
    (note, warnings)
}

#[test]
fn a_panic_in_rust_is_told_by_its_message() {
    let (note, warnings) = dies_of(&guest("traps"), "k1");
    assert!(note.starts_with("the plugin trapped: thread '"), "{note}");
    for part in ["panicked at ", "traps.rs:", "a bug in the policy, at task k1", "unreachable"] {
        assert!(note.contains(part), "`{part}` is not in: {note}");
    }
    assert!(!note.contains("RUST_BACKTRACE") && !note.contains("0x"), "{note}");
    assert!(warnings.contains("a bug in the policy, at task k1"), "{warnings}");
}

#[test]
fn an_abort_in_c_is_told_by_its_last_lines_and_functions() {
    let (note, warnings) = dies_of(&guest("aborts_c"), "k2");
    assert!(note.starts_with("the plugin trapped: no index of \u{1b}[2Jk2 | forged: all is well ("), "{note:?}");
    assert!(note.contains("give_up_on < "), "{note}");
    assert!(!note.contains("0x"), "{note}");
    assert!(warnings.contains("no index of"), "{warnings}");
    // Without a word it is the trap's name; after a flood it is the end of it.
    let (note, _) = dies_of(&guest("aborts_c"), "quiet");
    assert!(note.starts_with("the plugin trapped: wasm `unreachable` instruction executed, in "), "{note}");
    let (note, _) = dies_of(&guest("aborts_c"), "flood");
    assert!(note.contains("no index of \u{1b}[2Jflood | forged: all is well"), "{note}");
    assert!(note.len() < 800, "{}", note.len());
}

#[test]
fn a_traceback_of_python_is_told_with_its_exception() {
    let (note, warnings) = dies_of(&guest("raises_py"), "k3");
    for part in ["in execute", "in look_up", "ValueError: no index of k3"] {
        assert!(note.contains(part), "`{part}` is not in: {note}");
    }
    assert!(!note.contains("0x"), "{note}");
    assert!(warnings.contains("ValueError: no index of k3"), "{warnings}");
}

#[test]
fn a_crash_in_dispatch_is_told_by_its_message() {
    let site = Site::with_job(&guest("traps_in_dispatch"), "");
    run(&site, &["enqueue", "clear", "a"]).exits(0);
    run(&site, &["plan", "clear"]).exits(1).says("a bug in the policy's dispatcher");
    let host = site.start();
    let told = || host.get("/v1/jobs/clear")["last_error"]["message"].as_str().map(str::to_owned);
    host.wait("it is said", || told().is_some());
    assert!(told().unwrap().contains("a bug in the policy's dispatcher"), "{:?}", told());
    let status = beside(&site, &host, &["status"]).exits(0).out;
    assert!(status.contains("a bug in the policy's dispatcher"), "{status}");
}

#[test]
fn a_plan_shows_what_guests_print() {
    let site = Site::with_job(&guest("prints"), "");
    run(&site, &["enqueue", "clear", "key-1"]).exits(0);
    let said = run(&site, &["--log-format", "human", "plan", "clear"]).exits(0);
    for stream in ["stdout", "stderr"] {
        let line = said.err.lines().find(|line| line.contains("key-1") && line.contains(stream));
        assert!(line.is_some(), "nothing of {stream} in\n{}", said.err);
    }
}

#[test]
fn a_refusal_is_told_by_the_right_that_is_missing() {
    for (rights, right) in [("\"ro\"", "delete"), ("[\"list\", \"stat\", \"rename\"]", "delete")] {
        let site = Site::new();
        site.install(&plugin("video-clear"));
        site.configure(&format!(
            "[[job]]\nname = \"clear\"\nplugin = \"plugins/plugin.wasm\"\ninterval = \"100ms\"\n\
             [[job.mounts]]\npath = \"videos\"\nrights = {rights}\n[job.retry]\nmax_attempts = 1\n"
        ));
        fs::write(site.videos().join("a"), "x").unwrap();
        run(&site, &["enqueue", "clear", "a"]).exits(0);
        let planned = run(&site, &["plan", "clear"]).exits(0).out;
        let host = site.start();
        host.wait("it is dead", || host.has("clear", "dead"));
        let note = host.tasks("clear", "dead")[0]["note"].as_str().unwrap().to_owned();
        let wanted = format!("the plugin does not have the right `{right}` in {}", site.videos().display());
        assert!(note.contains(&wanted), "{note}");
        assert!(!note.contains("Read-only") && !note.contains("os error"), "{note}");
        assert!(planned.contains(&wanted), "{planned}");
        host.says(&wanted);
    }
}

#[test]
fn what_is_left_in_a_folder_is_named_with_the_way_to_remove_it() {
    let site = Site::with_job(&plugin("video-clear"), "[job.retry]\nmax_attempts = 1\n");
    let folder = site.videos().join("it's");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("seen"), "x").unwrap();
    fs::write(folder.join(OsStr::from_bytes(b"caf\xe9.mp4")), "x").unwrap();
    let host = site.start();
    host.enqueue("clear", &["it's"]);
    host.wait("it is dead", || host.has("clear", "dead"));
    let note = host.tasks("clear", "dead")[0]["note"].as_str().unwrap().to_owned();
    assert!(note.contains(&format!("{} is not empty: `caf\\xe9.mp4` is left in it", folder.display())), "{note}");
    assert!(!note.contains("os error"), "{note}");
    // What it advises works.
    let (_, advice) = note.split_once("remove it by hand: ").unwrap_or_else(|| panic!("{note}"));
    let (advice, _) = advice.split_once("; the plugin says: ").unwrap_or_else(|| panic!("{note}"));
    assert!(Command::new("sh").args(["-c", advice]).status().unwrap().success());
    assert!(!folder.exists());
}

#[test]
fn a_name_that_is_composed_otherwise_is_pointed_out() {
    let site = Site::with_job(&plugin("video-clear"), "");
    fs::write(site.videos().join("cafe\u{301}"), "x").unwrap();
    let host = site.start();
    host.enqueue("clear", &["caf\u{e9}", "cafe", "th\u{e9}"]);
    host.drained("clear");
    let done = host.tasks("clear", "done");
    let note = |key: &str| done.iter().find(|task| task["key"] == key).unwrap()["note"].as_str().unwrap().to_owned();
    assert!(note("caf\u{e9}").starts_with("already gone; but cafe\\u{301} stands there"), "{}", note("caf\u{e9}"));
    assert_eq!((note("cafe").as_str(), note("th\u{e9}").as_str()), ("already gone", "already gone"));
    assert!(site.videos().join("cafe\u{301}").exists());
}

#[test]
fn a_server_that_refuses_is_told_so() {
    // A port at which nobody listens.
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
    for scheme in ["postgres", "mysql"] {
        let site = Site::with_job(&guest("noop"), "");
        let url = format!("{scheme}://u:secret@127.0.0.1:{port}/q");
        let with = |args: &[&str]| -> Said {
            site.command(args).env("SWEEPD_DATABASE__URL", &url).stdin(Stdio::null()).output().unwrap().into()
        };
        let said = with(&["plan", "clear"]).exits(1);
        for part in ["Connection refused", "help: repeat the command"] {
            said.says(part);
        }
        for part in ["overloaded", "by itself", "not queued twice", "secret"] {
            assert!(!said.err.contains(part), "`{part}` is in: {}", said.err);
        }
        with(&["enqueue", "clear", "a"]).exits(1).says("not queued twice");
    }
}

#[test]
fn a_plan_beside_a_stopped_host_leaves_nothing_behind() {
    let site = Site::with_job(&plugin("video-clear"), "");
    run(&site, &["enqueue", "clear", "a"]).exits(0);
    let names = || {
        let mut names: Vec<_> =
            fs::read_dir(site.path().join("state")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let before = names();
    run(&site, &["plan", "clear"]).exits(0);
    assert_eq!(names(), before);
    run(&site, &["migrate", "--dry-run"]).exits(0);
    assert_eq!(names(), before);
    // Beside a host that runs, its log stays.
    let host = site.start();
    host.drained("clear");
    run(&site, &["plan", "clear"]).exits(0);
    host.enqueue("clear", &["b"]);
    host.drained("clear");
    assert_eq!(host.stop(), Some(0));
}

#[test]
fn both_ways_of_taking_a_file_away_are_named() {
    let site = Site::with_job(&plugin("video-clear"), "[job.config]\narchive = \"old\"\n");
    fs::write(site.videos().join("a"), "x").unwrap();
    run(&site, &["enqueue", "clear", "a"]).exits(0);
    let other = plugin("video-archive").display().to_string();
    let said = run(&site, &["plan", "clear", "--against", &other]).exits(0);
    let line = said.out.lines().find(|line| line.starts_with("~ ")).unwrap_or_else(|| panic!("{}", said.out));
    let videos = site.videos();
    let videos = videos.display();
    assert_eq!(line, format!("~ {videos}/a  serving: remove, candidate: rename -> {videos}/old/a"));
    assert!(!said.out.lines().any(|line| line.starts_with("- ") || line.starts_with("+ ")), "{}", said.out);
    let said = run(&site, &["plan", "clear", "--against", &other, "--json"]).exits(0);
    let lines: Vec<Value> = said.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&lines[0]["kind"], &lines[0]["serving"]["operation"]), (&json!("otherwise"), &json!("remove")));
    assert_eq!(lines[0]["candidate"]["operation"], "rename");
    assert_eq!((&lines[1]["otherwise"], &lines[1]["both"]), (&json!(1), &json!(0)));
}

#[test]
fn the_whole_trash_is_restored_and_nothing_selected_is_nothing_done() {
    let site = Site::with_job(&guest("removes_all"), "trash = \"1h\"\n");
    for name in ["a", "b"] {
        fs::write(site.videos().join(name), "x").unwrap();
    }
    let host = site.start();
    host.enqueue("clear", &["all"]);
    host.drained("clear");
    for body in [json!({ "path": "" }), json!({ "ids": [] }), json!({}), json!([null, true])] {
        for action in ["purge", "restore"] {
            let (status, problem) = host.request("POST", &format!("/v1/jobs/clear/trash/{action}"), Some(&body));
            assert!(matches!(status, 400 | 422), "{action} {body}: {problem}");
        }
    }
    host.stop();
    let kept = || run(&site, &["trash", "list", "--json"]).exits(0).out.lines().count();
    assert_eq!(kept(), 2);
    for args in [&["--path="][..], &[], &["--all", "--path", "/"]] {
        run(&site, &[&["trash", "restore", "clear"], args].concat()).exits(2);
    }
    assert_eq!(kept(), 2);
    run(&site, &["trash", "restore", "clear", "--since", "1h"]).exits(0);
    assert!(site.videos().join("a").exists() && site.videos().join("b").exists());
    let host = site.start();
    host.enqueue("clear", &["again"]);
    host.drained("clear");
    host.stop();
    assert_eq!(run(&site, &["trash", "restore", "clear", "--all"]).exits(0).out, "2 restored\n");
}
