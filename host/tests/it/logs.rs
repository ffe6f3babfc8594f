//! The log cannot harm the host: a reader that is gone or stalls, and a disk that
//! is full, cost lines, and nothing else.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use crate::support::{Site, Sweepd, plugin};

/// A site with a video, and a pipe beside it.
fn site() -> (Site, PathBuf) {
    let site = Site::with_job(&plugin("video-clear"), "");
    let pipe = site.path().join("pipe");
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    (site, pipe)
}

/// Both ends of the pipe, for a host that writes and a reader.
fn open(pipe: &Path) -> (File, File) {
    let reader = std::thread::spawn({
        let pipe = pipe.to_owned();
        move || File::open(pipe).unwrap()
    });
    (OpenOptions::new().write(true).open(pipe).unwrap(), reader.join().unwrap())
}

/// Deletions are acknowledged and done, again and again.
fn works(site: &Site, host: &Sweepd) {
    for number in 0..3 {
        let name = format!("video-{number}");
        fs::write(site.videos().join(&name), "x").unwrap();
        host.enqueue("clear", &[&name]);
        host.wait("it is removed", || !site.videos().join(&name).exists());
        host.drained("clear");
    }
    assert_eq!(host.request("GET", "/readyz", None).0, 200);
}

#[test]
fn a_host_whose_log_nobody_reads_any_more_goes_on() {
    let (site, pipe) = site();
    let (log, reader) = open(&pipe);
    let host = site.try_start_logging_to(log, &[]).unwrap();
    host.serving("clear");
    let mut reader = BufReader::new(reader);
    reader.read_line(&mut String::new()).unwrap();
    drop(reader);
    works(&site, &host);
    // Whoever reads next is told what was said meanwhile, in whole lines.
    let (_, reader) = open(&pipe);
    let line = BufReader::new(reader).lines().map(Result::unwrap).find(|line| line.contains("\"swept\"")).unwrap();
    let event: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(event["job"], "clear", "{event}");
    assert_eq!(host.stop(), Some(0));
}

#[test]
fn a_log_on_a_full_disk_costs_lines_and_nothing_else() {
    let (site, _) = site();
    let full = || OpenOptions::new().write(true).open("/dev/full").unwrap();
    let host = site.try_start_logging_to(full(), &[("SWEEPD_LOG", "trace")]).unwrap();
    works(&site, &host);
    let keys: Vec<_> = (0..12_000).map(|number| format!("none-{number}")).collect();
    host.enqueue("clear", &keys);
    host.drained("clear");
    host.wait("more is lost than waits", || host.get("/v1/jobs")["log"]["lost"].as_u64() > Some(0));
    let said = crate::cli::beside(&site, &host, &["status", "--check"]).exits(2);
    said.says("lines of the log are being lost: No space left on device");
    assert!(said.out.contains("lines were lost, and more are being lost"), "{}", said.out);
    assert_eq!(host.stop(), Some(0));
    // Nor does any command fail for it.
    let queued = site.command(&["enqueue", "clear", "a", "b/../c\u{7f}"]).stderr(full()).output().unwrap();
    assert!(queued.status.code().is_some_and(|code| code < 2), "{queued:?}");
    let closed = site.command(&["tasks", "list"]).stdout(full()).stderr(full()).status().unwrap();
    assert_eq!(closed.code(), Some(1), "what was asked for could not be told");
}

#[test]
fn a_reader_that_stalls_holds_up_neither_the_work_nor_the_end() {
    let (site, pipe) = site();
    let (log, mut reader) = open(&pipe);
    let host = site.try_start_logging_to(log, &[("SWEEPD_LOG", "trace")]).unwrap();
    host.serving("clear");
    // More than pipe and queue hold.
    let keys: Vec<_> = (0..12_000).map(|number| format!("none-{number}")).collect();
    host.enqueue("clear", &keys);
    host.drained("clear");
    works(&site, &host);
    // It reads on: what was lost is told.
    let mut text = String::new();
    let mut bytes = [0; 4096];
    while !text.contains("lines of the log were lost") {
        let read = reader.read(&mut bytes).unwrap();
        assert!(read > 0, "the host ended");
        text.push_str(&String::from_utf8_lossy(&bytes[..read]));
    }
    // And stalls again, with a full pipe.
    host.enqueue("clear", &keys);
    host.drained("clear");
    assert_eq!(host.stop(), Some(0));
    drop(reader);
}

/// The thread that writes the log panics: it costs the line in its hand, the host
/// goes on, and status says how much was lost.
#[test]
fn a_thread_of_the_log_that_panics_costs_a_line_and_is_started_again() {
    let (site, _) = site();
    let kill = site.path().join("kill");
    fs::create_dir(&kill).unwrap();
    let host = site.try_start_with(&[("SWEEPD_KILL", kill.to_str().unwrap())]).unwrap();
    host.serving("clear");
    fs::write(kill.join("sweepd-log"), "").unwrap();
    let status = || host.get("/v1/jobs");
    let part = || status()["parts"].as_array().into_iter().flatten().find(|part| part["name"] == "sweepd-log").cloned();
    let mut numbers = 0..;
    host.wait("it is started again", || {
        // It wakes the thread; nobody waits for it.
        host.enqueue("clear", &[format!("none-{}", numbers.next().unwrap())]);
        host.drained("clear");
        part().is_some_and(|part| part["down"] == false && part["restarts"] == 1)
    });
    host.says("lines of the log were lost");
    assert_eq!(status()["log"]["lost"], 1, "{}", status()["log"]);
    assert!(status()["log"]["losing"].is_null(), "{}", status()["log"]);
    let said = crate::cli::beside(&site, &host, &["status"]).exits(0).out;
    assert!(said.contains("log: 1 lines were lost"), "{said}");
    works(&site, &host);
    assert_eq!(host.stop(), Some(0));
}

/// The same of the thread for what a host says when it is up: nobody waits for it,
/// also at the end.
#[test]
fn a_thread_of_the_output_that_panics_holds_up_nothing() {
    let (site, _) = site();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let kill = site.path().join("kill");
    fs::create_dir(&kill).unwrap();
    fs::write(kill.join("sweepd-output"), "").unwrap();
    let mut command = site.command(&["run", "--log-format", "json"]);
    command.env("SWEEPD_KILL", &kill).env("SWEEPD_SERVER__LISTEN", format!("127.0.0.1:{port}"));
    let log = File::create(site.path().join("log")).unwrap();
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log).spawn().unwrap();
    let began = std::time::Instant::now();
    let ready =
        || ureq::get(format!("http://127.0.0.1:{port}/readyz")).call().is_ok_and(|answer| answer.status() == 200);
    while !ready() {
        assert!(began.elapsed() < crate::support::PATIENCE, "it does not get ready");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    assert!(!kill.join("sweepd-output").exists(), "it panicked");
    let pid = rustix::process::Pid::from_raw(child.id().cast_signed()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let log = fs::read_to_string(site.path().join("log")).unwrap();
    assert!(log.contains("a test asked `sweepd-output` to panic"), "{log}");
}

#[test]
fn a_command_whose_output_is_closed_ends_quietly() {
    let (site, _) = site();
    let host = site.start();
    host.enqueue("clear", &["a"]);
    host.drained("clear");
    host.stop();
    for args in [&["tasks", "list"][..], &["config", "check"], &["tasks", "list", "--json"], &["mount", "list"]] {
        let mut command = site.command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(command.stdout.take());
        let ended = command.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&ended.stderr);
        assert_eq!((ended.status.code(), &*said), (Some(0), ""), "{args:?}");
    }
}
