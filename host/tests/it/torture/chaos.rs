//! Breaks nodes, connections and the database server at random, and puts
//! everything right again.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use fastrand::Rng;

use super::check::{Queue, Violation};
use super::line::{Tail, Trace};
use super::nodes::{Ground, LEASE, Node, Remedy};
use super::proxy::{Cut, Proxy};
use super::servers::{Kind, Server, Stop};
use super::troubles::Trouble;
use super::watch::Watch;

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
    watch: Watch,
    /// Which nodes are in trouble, until when, and what ends it.
    troubled: Vec<(usize, Instant, Remedy)>,
    /// When the server may be written again.
    read_only_until: Option<Instant>,
    /// How often each kind of trouble came.
    troubles: Troubles,
    /// What is done next: each kind of trouble once, then whatever is chosen.
    next: Vec<Blow>,
}

/// How often a node was in each kind of trouble, or the server read only.
pub(super) type Troubles = BTreeMap<String, u64>;

/// When a node goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Plan {
    Up,
    /// It was killed.
    StartAt(Instant),
    /// It was stopped.
    ContinueAt(Instant),
    /// It was stopped, until another one has taken over from it, or then.
    ContinueAtWorst(Instant),
}

/// What can be done to them.
#[derive(Clone, Copy, Debug)]
enum Blow {
    Kill,
    Pause,
    CutAll,
    CutOne,
    StopServer,
    /// As in a failover that is not over: all sessions end, and new ones only read.
    ReadOnly,
    Trouble(Trouble),
}

impl Blow {
    /// Whether it leaves the node or the server up, and in trouble.
    fn is_trouble(self) -> bool {
        matches!(self, Self::ReadOnly | Self::Trouble(_))
    }

    fn name(self) -> String {
        match self {
            Self::Trouble(trouble) => format!("{trouble:?}"),
            blow => format!("{blow:?}"),
        }
    }
}

/// How often each is chosen, among how many. One file has a node alone: while
/// that is stopped, nothing happens at all.
const BLOWS_TO_ONE: &[(Blow, usize)] = &[
    (Blow::Kill, 7),
    (Blow::Pause, 1),
    (Blow::Trouble(Trouble::LogStalls), 1),
    (Blow::Trouble(Trouble::LogCloses), 1),
    (Blow::Trouble(Trouble::DiskFull), 2),
    (Blow::Trouble(Trouble::ClockJumps), 2),
    (Blow::Trouble(Trouble::NoDescriptors), 2),
];
const BLOWS_TO_ALL: &[(Blow, usize)] = &[
    (Blow::Kill, 8),
    (Blow::Pause, 10),
    (Blow::CutAll, 3),
    (Blow::CutOne, 10),
    (Blow::StopServer, 2),
    (Blow::ReadOnly, 2),
    (Blow::Trouble(Trouble::LogStalls), 1),
    (Blow::Trouble(Trouble::LogCloses), 1),
    (Blow::Trouble(Trouble::DiskFull), 2),
    (Blow::Trouble(Trouble::ClockJumps), 2),
    (Blow::Trouble(Trouble::NoDescriptors), 2),
];

fn choice(random: &mut Rng, blows: &[(Blow, usize)]) -> Blow {
    let all = blows.iter().flat_map(|(blow, often)| std::iter::repeat_n(*blow, *often));
    random.choice(all.collect::<Vec<_>>()).expect("there are some")
}

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
        let watch = Watch::over(Tail::of(ground.trace.path()));
        let blows = if server.is_some() { BLOWS_TO_ALL } else { BLOWS_TO_ONE };
        // What a mutant is caught by is not put off.
        let next = blows.iter().map(|(blow, _)| *blow).filter(|blow| mutant.is_none() && blow.is_trouble()).collect();
        let counts = blows.iter().filter(|(blow, _)| blow.is_trouble()).map(|(blow, _)| (blow.name(), 0)).collect();
        Self {
            nodes,
            plans,
            server,
            server_back: None,
            watch,
            troubled: Vec::new(),
            read_only_until: None,
            troubles: counts,
            next,
        }
    }

    /// Breaks things until `end`.
    pub(super) fn torment(&mut self, random: &mut Rng, trace: &Trace, end: Instant) {
        let blows = if self.server.is_some() { BLOWS_TO_ALL } else { BLOWS_TO_ONE };
        let (mut last, mut spared) = (Instant::now(), Duration::ZERO);
        while Instant::now() < end {
            self.tend(trace, Instant::now());
            if self.nodes.iter().all(|node| node.address().lock().expect("nobody panics with it").is_none()) {
                // A node that is killed while it starts shows nothing new.
                last = Instant::now();
            }
            if self.next.is_empty() {
                self.next.push(choice(random, blows));
            }
            if last.elapsed() >= spared && self.strike(self.next[0], random, trace) {
                self.next.remove(0);
                (last, spared) = (Instant::now(), Duration::from_millis(random.u64(50..800)));
            }
            thread::sleep(TICK);
        }
    }

    /// Answers whether it could; if not, it is to be tried again.
    fn strike(&mut self, blow: Blow, random: &mut Rng, trace: &Trace) -> bool {
        let now = Instant::now();
        let one = random.usize(..self.nodes.len());
        let pid = self.nodes[one].pid().unwrap_or_default();
        // Where there are several, one is left to take over.
        let others = self.plans.iter().enumerate().filter(|(other, plan)| *other != one && **plan == Plan::Up).count();
        let may_go = others > 0 || self.nodes.len() == 1;
        let is_in = matches!(blow, Blow::Trouble(trouble) if self.is_in(one, trouble));
        match (blow, &mut self.server) {
            (Blow::Kill, _) if may_go && self.plans[one] == Plan::Up => {
                self.nodes[one].kill();
                // Only now: what it started stands before.
                trace.say(&format!("kill {pid}\n"));
                // Some come back before their lease has ended, some after; an
                // only node at once.
                let at_most = if self.nodes.len() > 1 { 2 * LEASE } else { LEASE / 10 };
                self.plans[one] = Plan::StartAt(now + at_most.mul_f64(random.f64()));
            }
            // One that is idle has nothing to be overtaken in.
            (Blow::Pause, _) if may_go && self.plans[one] == Plan::Up && self.watch.is_at_work(pid) => {
                self.nodes[one].stop();
                trace.say(&format!("stop {pid}\n"));
                self.plans[one] = if random.u8(..4) > 0 {
                    Plan::ContinueAtWorst(now + 4 * LEASE)
                } else {
                    Plan::ContinueAt(now + LEASE.mul_f64(1.1 + random.f64()))
                };
            }
            (Blow::CutAll, Some((_, proxy))) => {
                proxy.cut_all();
                trace.say("cut all\n");
            }
            (Blow::CutOne, Some((_, proxy))) => {
                let cuts = [Cut::AfterCommit, Cut::AfterCommit, Cut::BeforeCommit, Cut::AfterAny];
                let cut = *random.choice(cuts.iter()).expect("there are some");
                proxy.cut_next(cut, random.u32(1..=4));
                trace.say(&format!("cut {cut:?}\n"));
            }
            (Blow::ReadOnly, Some((server, proxy))) if self.server_back.is_none() && self.read_only_until.is_none() => {
                if !server.set_read_only(true) {
                    return false;
                }
                proxy.cut_all();
                trace.say("server ReadOnly\n");
                self.read_only_until = Some(now + Duration::from_millis(random.u64(200..1_500)));
                *self.troubles.entry(blow.name()).or_default() += 1;
            }
            (Blow::Trouble(trouble), _) if self.plans[one] == Plan::Up && !is_in => {
                let Some(remedy) = self.nodes[one].trouble(trouble, random) else { return false };
                trace.say(&format!("trouble {trouble:?} {pid}\n"));
                self.troubled.push((one, now + trouble.lasts(random), remedy));
                *self.troubles.entry(blow.name()).or_default() += 1;
            }
            (Blow::StopServer, Some((server, _))) if self.server_back.is_none() => {
                let how = if random.bool() { Stop::Kill } else { Stop::Orderly };
                server.stop(how);
                trace.say(&format!("server {how:?}\n"));
                self.server_back = Some(now + Duration::from_millis(random.u64(..1_000)));
            }
            _ => return false,
        }
        true
    }

    /// Whether the node is in this trouble already.
    fn is_in(&self, node: usize, trouble: Trouble) -> bool {
        self.troubled.iter().any(|(troubled, _, remedy)| {
            *troubled == node
                && match remedy {
                    Remedy::Of(present) => *present == trouble,
                    Remedy::Descriptors(..) => trouble == Trouble::NoDescriptors,
                }
        })
    }

    /// Ends the troubles that are to be over by `now`; all of them with `None`.
    fn heal(&mut self, trace: &Trace, now: Option<Instant>) {
        let is_due = |until: Instant| now.is_none_or(|now| until <= now);
        for (node, _, remedy) in self.troubled.extract_if(.., |(_, until, _)| is_due(*until)) {
            trace.say("over\n");
            self.nodes[node].remedy(&remedy);
        }
        if let Some((server, _)) = &self.server
            && self.read_only_until.is_some_and(is_due)
            && server.set_read_only(false)
        {
            self.read_only_until = None;
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
        self.heal(trace, Some(now));
        let overtaken = self.watch.overtaken();
        for (node, plan) in self.nodes.iter_mut().zip(&mut self.plans) {
            let pid = node.pid().unwrap_or_default();
            let goes_on = match *plan {
                Plan::Up => false,
                Plan::StartAt(at) | Plan::ContinueAt(at) => at <= now,
                Plan::ContinueAtWorst(at) => at <= now || overtaken.contains(&pid),
            };
            if goes_on {
                if let Plan::ContinueAt(_) | Plan::ContinueAtWorst(_) = plan {
                    trace.say(&format!("continue {pid}\n"));
                    node.go_on();
                }
                *plan = Plan::Up;
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
        for plan in &mut self.plans {
            *plan = match *plan {
                Plan::Up | Plan::StartAt(_) => Plan::Up,
                // It stays until it has lost its lease.
                Plan::ContinueAt(at) | Plan::ContinueAtWorst(at) => {
                    Plan::ContinueAt(at.min(began + LEASE.mul_f64(1.1)))
                }
            };
        }
        self.server_back = None;
        if let Some((server, proxy)) = &mut self.server {
            proxy.relent();
            server.resume();
            server.wait_ready();
        }
        self.heal(trace, None);
        trace.say("calm\n");
        loop {
            self.tend(trace, Instant::now());
            let paused = self.plans.iter().any(|plan| *plan != Plan::Up);
            let Some(down) = self.nodes.iter().find(|node| paused || !node.serves()) else { return Ok(()) };
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

    /// How often each kind of trouble came; a kind that never did is there with 0.
    pub(super) fn troubles(&self) -> &Troubles {
        &self.troubles
    }

    /// How many connections to the database were cut.
    pub(super) fn cuts(&self) -> u64 {
        self.server.as_ref().map_or(0, |(_, proxy)| proxy.cuts())
    }
}
