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
    let host = site.try_start_logging_to(full(), &[]).unwrap();
    works(&site, &host);
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
