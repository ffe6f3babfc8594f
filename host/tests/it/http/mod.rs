//! The HTTP API over a real socket, byte for byte where a client library would
//! put a request right first.

mod bounds;
mod routes;
mod streams;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::{PATIENCE, Site, Sweepd, guest, plugin};

const QUEUED: (u16, &str) = (200, "delete video successfully");
const UNUSABLE: (u16, &str) = (400, "video id should not be empty!");

/// An answer as it came.
struct Reply {
    status: u16,
    head: String,
    body: String,
}

impl Reply {
    fn read(stream: TcpStream) -> Self {
        let mut bytes = Vec::new();
        BufReader::new(stream).read_to_end(&mut bytes).unwrap();
        let text = String::from_utf8(bytes).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text:?}"));
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        Self { status: status.expect("a status"), head: head.to_owned(), body: body.to_owned() }
    }

    fn header(&self, wanted: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| value)
    }

    fn plain(&self) -> (u16, &str) {
        (self.status, &self.body)
    }

    /// The document of an error; checks all that is the same in every one.
    fn problem(&self) -> Value {
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{}\n{}", self.head, self.body);
        let document: Value = serde_json::from_str(&self.body).unwrap();
        assert_eq!(document["status"], self.status);
        for field in ["title", "detail"] {
            assert!(document[field].as_str().is_some_and(|text| !text.is_empty()), "{document}");
        }
        document
    }

    /// The status and the word of an error.
    fn word(&self) -> (u16, String) {
        let problem = self.problem();
        let word = problem["type"].as_str().unwrap().strip_prefix("urn:problem-type:sweepd:");
        (self.status, word.expect("sweepd's own type").to_owned())
    }
}

fn connect(host: &Sweepd) -> TcpStream {
    let stream = TcpStream::connect(host.address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Sends these bytes and reads until the host closes.
fn exchange(host: &Sweepd, bytes: &[u8]) -> Reply {
    let mut stream = connect(host);
    stream.write_all(bytes).unwrap();
    Reply::read(stream)
}

/// One request with these header lines, each with its end.
fn ask(host: &Sweepd, method: &str, target: &[u8], headers: &str, body: &str) -> Reply {
    let mut bytes =
        [method.as_bytes(), b" ", target, b" HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n"].concat();
    if !body.is_empty() {
        bytes.extend(format!("content-length: {}\r\n", body.len()).bytes());
    }
    bytes.extend(format!("{headers}\r\n{body}").bytes());
    exchange(host, &bytes)
}

fn get(host: &Sweepd, path: &str) -> Reply {
    ask(host, "GET", path.as_bytes(), "", "")
}

fn post(host: &Sweepd, path: &str, body: &Value) -> Reply {
    ask(host, "POST", path.as_bytes(), "content-type: application/json\r\n", &body.to_string())
}

/// A site whose job has no plugin yet: what is queued stays pending.
fn idle() -> Site {
    let site = Site::with_job(&guest("noop"), "");
    std::fs::remove_file(site.plugin_file()).unwrap();
    site
}

/// Puts `keys` into the `[server]` table.
fn set_server(site: &Site, keys: &str) {
    let file = site.path().join("sweepd.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(file, text.replace("[server]\n", &format!("[server]\n{keys}\n"))).unwrap();
}

fn pending_keys(host: &Sweepd) -> Vec<String> {
    host.tasks("clear", "pending").iter().map(|task| task["key"].as_str().unwrap().to_owned()).collect()
}
