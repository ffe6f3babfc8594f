//! From just before an enqueue over HTTP to the first instruction of the
//! executor, on an idle system, one task at a time. The executor itself reads
//! the clock, inside the sandbox.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::databases::{Kind, Place};
use super::peers::{self, Measure};
use crate::report::Report;
use crate::support::Sweepd;
use crate::world;

fn tasks() -> usize {
    world::sized(200, 5)
}

pub(super) fn measure(report: &mut Report) {
    for (kind, goal) in [(Kind::Sqlite, 0.5), (Kind::Postgres, 0.75)] {
        let Some((p50, p99)) = ours(kind) else { continue };
        let peers = peers::all(kind, Measure::Latency, tasks());
        let river = peers.iter().find(|peer| peer.peer == "river");
        let (river_p50, river_p99) = river.map_or((f64::NAN, f64::NAN), |river| (river.p50_ms, river.p99_ms));
        let detail = format!("{p50:.2} ms; {}", peers::latencies(&peers));
        let name = format!("enqueue to start on {}", kind.name());
        report.at_most(&format!("{name}, p50 of River's"), p50 / river_p50, goal, "ratio", detail);
        let detail = format!("{p99:.2} ms; River {river_p99:.2} ms");
        report.at_most(&format!("{name}, p99 of River's"), p99 / river_p99, 1.0, "ratio", detail);
    }
}

fn ours(kind: Kind) -> Option<(f64, f64)> {
    let place = Place::fresh(kind, "stamps", "")?;
    // The file that the guest writes must not be the disk's business.
    let host = place.site.start();
    host.serving("clear");
    let mut client = Client::connect(&host);
    let mut waits: Vec<f64> = Vec::with_capacity(tasks());
    for number in 0..tasks() {
        std::thread::sleep(Duration::from_millis(fastrand::u64(20..60)));
        let key = format!("video-{number:06}");
        let before = nanos();
        client.enqueue(&key);
        let called = stamp(&place.site.videos().join(key));
        waits.push((called - before) as f64 / 1e6);
    }
    waits.sort_by(f64::total_cmp);
    Some((waits[tasks() / 2], waits[tasks() * 99 / 100]))
}

fn nanos() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_nanos()
}

/// What the executor wrote, once it is there.
fn stamp(file: &Path) -> u128 {
    for _ in 0..10_000 {
        if let Some(stamp) = std::fs::read_to_string(file).ok().and_then(|text| text.parse().ok()) {
            return stamp;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    panic!("the task never ran");
}

/// One connection that is kept.
struct Client(TcpStream);

impl Client {
    fn connect(host: &Sweepd) -> Self {
        let stream = TcpStream::connect(host.address).expect("it connects");
        stream.set_nodelay(true).expect("no delay");
        Self(stream)
    }

    fn enqueue(&mut self, key: &str) {
        let request = format!("GET /video-delete-record/{key} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n");
        self.0.write_all(request.as_bytes()).expect("it is sent");
        let mut answer = [0; 1024];
        let length = self.0.read(&mut answer).expect("it is answered");
        assert!(answer[..length].starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer[..length]));
    }
}
