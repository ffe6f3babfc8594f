//! Breaks nodes, connections and the database server at random, and puts
//! everything right again.

use std::thread;
use std::time::{Duration, Instant};

use fastrand::Rng;
use rustix::process::Signal;

use super::check::{Queue, Violation};
use super::line::Trace;
use super::nodes::{Ground, LEASE, Node};
use super::proxy::{Cut, Proxy};
use super::servers::{Kind, Server, Stop};

/// The database of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Database {
    /// One node, for a file has one.
    Sqlite,
    /// So many nodes on a server.
    Shared(Kind, usize),
}

/// Everything that can break.
pub(super) struct Cluster {
    pub(super) nodes: Vec<Node>,
    /// What is to happen to each node next.
    plans: Vec<Plan>,
    server: Option<(Server, Proxy)>,
    server_back: Option<Instant>,
}

/// When a node goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Plan {
    Up,
    /// It was killed.
    StartAt(Instant),
    /// It was stopped.
    ContinueAt(Instant),
}

/// What can be done to them.
#[derive(Clone, Copy, Debug)]
enum Blow {
    Kill,
    Pause,
    CutAll,
    CutOne,
    StopServer,
}

/// How likely each is: one file has a node alone, and while that is stopped
/// nothing happens at all.
const BLOWS_TO_ONE: [Blow; 8] =
    [Blow::Kill, Blow::Kill, Blow::Kill, Blow::Kill, Blow::Kill, Blow::Kill, Blow::Kill, Blow::Pause];
const BLOWS_TO_ALL: [Blow; 16] = [
    Blow::Kill,
    Blow::Kill,
    Blow::Kill,
    Blow::Kill,
    Blow::Pause,
    Blow::Pause,
    Blow::Pause,
    Blow::CutAll,
    Blow::CutAll,
    Blow::CutOne,
    Blow::CutOne,
    Blow::CutOne,
    Blow::CutOne,
    Blow::CutOne,
    Blow::CutOne,
    Blow::StopServer,
];

/// How often is looked whether something is to be done.
const TICK: Duration = Duration::from_millis(5);

impl Cluster {
    /// All is down but the server.
    pub(super) fn new(database: Database, ground: &Ground, mutant: Option<&'static str>) -> Self {
        let (server, count) = match database {
            Database::Sqlite => (None, 1),
            Database::Shared(kind, nodes) => {
                let server = Server::start(kind);
                let proxy = Proxy::before(server.address());
                (Some((server, proxy)), nodes)
            }
        };
        let url = server.as_ref().map(|(server, proxy)| server.url(proxy.address));
        let names = ["a", "b", "c", "d"];
        let nodes: Vec<_> = names[..count].iter().map(|name| Node::new(name, ground, url.as_deref(), mutant)).collect();
        let plans = nodes.iter().map(|_| Plan::Up).collect();
        Self { nodes, plans, server, server_back: None }
    }

    /// Breaks things until `end`.
    pub(super) fn torment(&mut self, random: &mut Rng, trace: &Trace, end: Instant) {
        let blows: &[Blow] = if self.server.is_some() { &BLOWS_TO_ALL } else { &BLOWS_TO_ONE };
        let (mut last, mut spared) = (Instant::now(), Duration::ZERO);
        while Instant::now() < end {
            self.tend(trace, Instant::now());
            if self.nodes.iter().all(|node| node.address().lock().expect("nobody panics with it").is_none()) {
                // A node that is killed while it starts shows nothing new.
                last = Instant::now();
            }
            if last.elapsed() >= spared {
                self.strike(*random.choice(blows).expect("there are some"), random, trace);
                (last, spared) = (Instant::now(), Duration::from_millis(random.u64(50..800)));
            }
            thread::sleep(TICK);
        }
    }

    fn strike(&mut self, blow: Blow, random: &mut Rng, trace: &Trace) {
        let now = Instant::now();
        let one = random.usize(..self.nodes.len());
        let pid = self.nodes[one].pid().unwrap_or_default();
        match (blow, &mut self.server) {
            (Blow::Kill, _) if !matches!(self.plans[one], Plan::StartAt(_)) => {
                trace.say(&format!("kill {pid}\n"));
                self.nodes[one].kill();
                // Some come back before their lease has ended, some after; an
                // only node at once.
                let at_most = if self.nodes.len() > 1 { 2 * LEASE } else { LEASE / 10 };
                self.plans[one] = Plan::StartAt(now + at_most.mul_f64(random.f64()));
            }
            (Blow::Pause, _) if self.plans[one] == Plan::Up => {
                self.nodes[one].signal(Signal::STOP);
                trace.say(&format!("stop {pid}\n"));
                let away = LEASE.mul_f64(1.1 + random.f64() / 2.0);
                self.plans[one] = Plan::ContinueAt(now + away);
            }
            (Blow::CutAll, Some((_, proxy))) => {
                proxy.cut_all();
                trace.say("cut all\n");
            }
            (Blow::CutOne, Some((_, proxy))) => {
                let cuts = [Cut::AfterCommit, Cut::AfterCommit, Cut::BeforeCommit, Cut::AfterAny];
                let cut = *random.choice(cuts.iter()).expect("there are some");
                proxy.cut_next(cut);
                trace.say(&format!("cut {cut:?}\n"));
            }
            (Blow::StopServer, Some((server, _))) if self.server_back.is_none() => {
                let how = if random.bool() { Stop::Kill } else { Stop::Orderly };
                server.stop(how);
                trace.say(&format!("server {how:?}\n"));
                self.server_back = Some(now + Duration::from_millis(random.u64(..3_000)));
            }
            _ => {}
        }
    }

    /// Brings back what is due by `now`.
    fn tend(&mut self, trace: &Trace, now: Instant) {
        if let Some((server, _)) = &mut self.server
            && self.server_back.is_none_or(|back| back <= now)
        {
            server.resume();
            self.server_back = None;
        }
        for (node, plan) in self.nodes.iter_mut().zip(&mut self.plans) {
            match *plan {
                Plan::StartAt(at) if at <= now => *plan = Plan::Up,
                Plan::ContinueAt(at) if at <= now => {
                    trace.say(&format!("continue {}\n", node.pid().unwrap_or_default()));
                    node.signal(Signal::CONT);
                    *plan = Plan::Up;
                }
                _ => {}
            }
            if *plan == Plan::Up {
                node.tend();
            }
        }
    }

    /// Puts everything right, and waits until every node serves; answers which
    /// one does not.
    pub(super) fn calm(&mut self, trace: &Trace, patience: Duration) -> Result<(), Violation> {
        let began = Instant::now();
        // What has a time comes now.
        let far = began + Duration::from_hours(1);
        if let Some((server, proxy)) = &mut self.server {
            proxy.relent();
            server.resume();
            server.wait_ready();
        }
        trace.say("calm\n");
        loop {
            self.tend(trace, far);
            let Some(down) = self.nodes.iter().find(|node| !node.serves()) else { return Ok(()) };
            if began.elapsed() > patience {
                return Err(Violation::Gone { node: down.name().to_owned() });
            }
            thread::sleep(TICK);
        }
    }

    /// What the queue says; while no node answers, that something is left.
    pub(super) fn queue(&self) -> Queue {
        let status = self.nodes.iter().find_map(Node::status).unwrap_or_default();
        let count = |what: &str| status["backlog"][what].as_u64();
        Queue {
            pending: count("pending").unwrap_or(1),
            running: count("running").unwrap_or(0),
            dead: count("dead").unwrap_or(0),
        }
    }

    /// How many connections to the database were cut.
    pub(super) fn cuts(&self) -> u64 {
        self.server.as_ref().map_or(0, |(_, proxy)| proxy.cuts())
    }
}
