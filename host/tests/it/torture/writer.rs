//! Clients that queue keys and note what they were told. Each owns its keys, so
//! that the numbers of a key are sent one after the other.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use fastrand::Rng;
use serde_json::{Value, json};

use super::line::Trace;
use super::nodes::{Address, JOB};

/// How many hot keys all writers have together.
pub(super) const HOT: usize = 50;

/// Items that are hot keys, of ten.
const HOT_OF_TEN: u8 = 7;

/// An answer that takes longer is not waited for.
const PATIENCE: Duration = Duration::from_secs(2);

/// One client.
pub(super) struct Writer {
    name: usize,
    random: Rng,
    agent: ureq::Agent,
    /// Its hot keys, each with the number that it was sent with last.
    hot: Vec<(String, u64)>,
    /// How many other keys it has sent, each once.
    cold: u64,
}

/// What a client was told.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Told {
    /// All is durable; which of them are new tasks.
    Acked(Vec<bool>),
    /// Nothing was stored.
    Refused,
    /// Neither.
    Nothing,
}

impl Writer {
    /// The writer `name` of so many.
    pub(super) fn new(name: usize, of: usize, random: Rng) -> Self {
        let config = ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(PATIENCE));
        let hot = (name..HOT).step_by(of).map(|number| (format!("hot-{number:02}"), 0)).collect();
        Self { name, random, agent: config.build().into(), hot, cold: 0 }
    }

    /// Queues keys at any of these nodes until `stop` is set.
    pub(super) fn write(&mut self, nodes: &[Address], trace: &Trace, stop: &AtomicBool) {
        while !stop.load(Ordering::SeqCst) {
            thread::sleep(Duration::from_millis(self.random.u64(5..40)));
            let node = self.random.choice(nodes).expect("there are nodes");
            let Some(address) = *node.lock().expect("nobody panics with it") else { continue };
            let items = self.items();
            trace.say(&lines("sent", &items));
            match self.queue(address, &items) {
                Told::Acked(new) => trace.say(&acked(&items, &new)),
                Told::Refused => trace.say(&lines("refused", &items)),
                Told::Nothing => {}
            }
        }
    }

    /// Different keys, each with its next number.
    fn items(&mut self) -> Vec<(String, u64)> {
        let mut items = Vec::new();
        self.random.shuffle(&mut self.hot);
        for hot in 0..self.random.usize(1..=6) {
            items.push(if self.random.u8(..10) < HOT_OF_TEN {
                let (key, number) = &mut self.hot[hot];
                *number += 1;
                (key.clone(), *number)
            } else {
                self.cold += 1;
                (format!("cold-{}-{}", self.name, self.cold), 1)
            });
        }
        items
    }

    fn queue(&self, address: SocketAddr, items: &[(String, u64)]) -> Told {
        let item = |(key, number): &(String, u64)| json!({ "key": key, "payload": number.to_string() });
        let body = items.iter().map(item).collect::<Value>().to_string();
        let url = format!("http://{address}/v1/jobs/{JOB}/tasks");
        let asked = self.agent.post(url).content_type("application/json").send(body);
        let Ok(mut response) = asked else { return Told::Nothing };
        let status = response.status().as_u16();
        // Also of an acknowledgement the whole must arrive.
        match response.body_mut().read_to_string() {
            Ok(body) if status == 200 || status == 201 => Told::Acked(new(&body)),
            Ok(body) => told_by(status, &body),
            Err(_) => Told::Nothing,
        }
    }
}

/// Of each task that was queued, whether it is a new one.
fn new(body: &str) -> Vec<bool> {
    let body: Value = serde_json::from_str(body).expect("JSON");
    let tasks = body["tasks"].as_array().expect("tasks");
    tasks.iter().map(|task| task["new"].as_bool().expect("whether it is new")).collect()
}

/// Which refusals say that nothing was done: see docs/reference/http.md.
fn told_by(status: u16, body: &str) -> Told {
    let problem: Value = serde_json::from_str(body).unwrap_or_default();
    let word = problem["type"].as_str().and_then(|urn| urn.strip_prefix("urn:problem-type:sweepd:"));
    match (status, word) {
        (507, Some("storage-full")) | (503, Some("busy" | "store-unavailable" | "stopping" | "not-ready")) => {
            Told::Refused
        }
        (503, Some("unconfirmed" | "too-slow")) | (500, _) => Told::Nothing,
        _ => panic!("an answer that no writer should get: {status}: {body}"),
    }
}

fn acked(items: &[(String, u64)], new: &[bool]) -> String {
    assert_eq!(items.len(), new.len(), "one answer an item");
    items.iter().zip(new).fold(String::new(), |mut lines, ((key, number), new)| {
        let _ = writeln!(lines, "acked {key} {number} {}", if *new { "new" } else { "live" });
        lines
    })
}

fn lines(word: &str, items: &[(String, u64)]) -> String {
    items.iter().fold(String::new(), |mut lines, (key, number)| {
        // Writing into a string cannot fail.
        let _ = writeln!(lines, "{word} {key} {number}");
        lines
    })
}
