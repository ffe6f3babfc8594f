//! The lease protocol, explored exhaustively: two nodes, one key, a clock, a
//! store, and everything that may happen between them in any order. Nodes die,
//! hang for longer than their lease, send heartbeats whose answers arrive late
//! or never, and write back what is no longer theirs.
//!
//! What happens to a row and to a lease is not described here again: the
//! transitions are the domain's own ([`Live`], [`LeaseTerm`]), which every
//! store is held to by the conformance suite. What is modelled is who may call
//! them when.

// length: one state machine, its properties and what breaks them are read together.

use std::time::Duration;

use stateright::{Checker as _, HasDiscoveries, Model, Property};
use sweepd::domain::live::{Live, Step};
use sweepd::domain::node::LeaseTerm;
use sweepd::domain::outcome::Disposition;
use sweepd::domain::task::{Fence, Key, NewTask, TaskId};
use sweepd::domain::time::Timestamp;

/// One tick of the clock, and a lease of two.
const TICK: u64 = 1000;
const LEASE: LeaseTerm = LeaseTerm(Duration::from_millis(2 * TICK));

/// How the protocol is played, and how far.
#[derive(Clone, Copy, Debug)]
struct Protocol {
    ticks: u64,
    enqueues: u8,
    lives: u8,
    claims: u64,
    beats: u8,
    deaths: u8,
    /// Which rule is broken, to see that the properties notice.
    broken: Option<Broken>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Broken {
    /// The node counts its lease from when the answer came.
    CountsFromTheAnswer,
    /// The node does not look at its lease before it changes a file.
    LooksAtNoLease,
    /// A write-back is applied under any fence.
    ChecksNoFence,
    /// An end forgets the request that came while the task ran.
    DropsTheSuccessor,
}

/// All there is, at one instant.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct World {
    now: Timestamp,
    store: Database,
    nodes: [Node; 2],
    enqueued: u8,
    beats: u8,
    deaths: u8,
    /// An acknowledged request has not seen an execution begin after it.
    owed: bool,
    /// The fence of the last change to the key's file.
    changed: Fence,
    /// A file was changed under a lower fence than before.
    went_back: bool,
    /// The key's row was written by somebody who did not hold it.
    usurped: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Database {
    row: Option<Live>,
    /// The life that holds the row.
    holder: Option<u8>,
    /// When the lease of each life ends; `None` once it is over.
    lives: Vec<Option<Timestamp>>,
    last_id: u64,
    last_fence: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Node {
    life: Option<u8>,
    /// Until when the node itself believes in its lease.
    believes: Timestamp,
    /// A heartbeat on its way, and when it was sent.
    beat: Option<(Timestamp, Beat)>,
    /// What it claimed.
    work: Option<(TaskId, Fence)>,
    /// Whether the claim's execution has begun.
    executing: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Beat {
    Sent,
    /// The store heard it; the answer is on its way.
    Answered(bool),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Event {
    Tick,
    Enqueue,
    Begin(usize),
    SendBeat(usize),
    HearBeat(usize),
    BeatAnswered(usize),
    BeatLost(usize),
    Claim(usize),
    Execute(usize),
    Change(usize),
    Finish(usize, End),
    Reap,
    Die(usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum End {
    Done,
    Release,
}

impl End {
    fn disposition(self) -> Disposition {
        match self {
            Self::Done => Disposition::Done(None),
            Self::Release => Disposition::Release { after: None },
        }
    }
}

fn request() -> NewTask {
    NewTask { run_at: Some(Timestamp(0)), ..NewTask::now(Key::new("k").expect("a key")) }
}

impl Model for Protocol {
    type State = World;
    type Action = Event;

    fn init_states(&self) -> Vec<World> {
        vec![World {
            now: Timestamp(TICK),
            store: Database::default(),
            nodes: Default::default(),
            enqueued: 0,
            beats: 0,
            deaths: 0,
            owed: false,
            changed: Fence(0),
            went_back: false,
            usurped: false,
        }]
    }

    fn actions(&self, world: &World, events: &mut Vec<Event>) {
        if world.now.0 < self.ticks * TICK {
            events.push(Event::Tick);
        }
        if world.enqueued < self.enqueues {
            events.push(Event::Enqueue);
        }
        if world.store.lives.iter().flatten().any(|end| LeaseTerm::has_ended(*end, world.now)) || world.is_orphaned() {
            events.push(Event::Reap);
        }
        for (number, node) in world.nodes.iter().enumerate() {
            if node.life.is_none() {
                if world.store.lives.len() < usize::from(self.lives) {
                    events.push(Event::Begin(number));
                }
                continue;
            }
            if world.deaths < self.deaths {
                events.push(Event::Die(number));
            }
            match node.beat {
                None if world.beats < self.beats => events.push(Event::SendBeat(number)),
                None => {}
                Some((_, Beat::Sent)) => events.extend([Event::HearBeat(number), Event::BeatLost(number)]),
                Some((_, Beat::Answered(_))) => events.extend([Event::BeatAnswered(number), Event::BeatLost(number)]),
            }
            match node.work {
                None if world.store.last_fence < self.claims => events.push(Event::Claim(number)),
                None => {}
                Some(_) if !node.executing => events.push(Event::Execute(number)),
                Some(_) => {
                    events.push(Event::Change(number));
                    events.extend([End::Done, End::Release].map(|end| Event::Finish(number, end)));
                }
            }
        }
    }

    fn next_state(&self, before: &World, event: Event) -> Option<World> {
        let mut world = before.clone();
        let happened = match event {
            Event::Tick => {
                world.now.0 += TICK;
                true
            }
            Event::Enqueue => {
                world.enqueue();
                true
            }
            Event::Reap => {
                world.reap();
                true
            }
            Event::Begin(node) => {
                world.begin(node);
                true
            }
            Event::Die(node) => {
                world.nodes[node] = Node::default();
                world.deaths += 1;
                true
            }
            Event::SendBeat(node) => {
                world.beats += 1;
                world.nodes[node].beat = Some((world.now, Beat::Sent));
                true
            }
            Event::BeatLost(node) => world.nodes[node].beat.take().is_some(),
            Event::HearBeat(node) => world.hear(node),
            Event::BeatAnswered(node) => world.answered(node, self.broken),
            Event::Claim(node) => world.claim(node),
            Event::Execute(node) => world.execute(node, self.broken),
            Event::Change(node) => world.change(node, self.broken),
            Event::Finish(node, end) => world.finish(node, end, self.broken),
        };
        happened.then_some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("files are changed in the order of fences", |_, world: &World| !world.went_back),
            Property::always("only the holder writes back", |_, world: &World| !world.usurped),
            Property::always("an acknowledged request is still to run", |_, world: &World| {
                !world.owed || world.will_run()
            }),
            Property::always("one node at a time may change files", |_, world: &World| world.active() <= 1),
            // The model goes where it matters.
            Property::sometimes("a node outlives its lease", |_, world: &World| {
                world.nodes.iter().any(|node| node.executing && node.believes <= world.now)
            }),
            Property::sometimes("a lost task runs elsewhere", |_, world: &World| {
                world.nodes.iter().any(|node| node.executing)
                    && world.store.row.as_ref().is_some_and(|row| row.losses > 0 && row.run.is_some())
            }),
        ]
    }
}

impl World {
    fn enqueue(&mut self) {
        self.enqueued += 1;
        self.owed = true;
        let id = self.store.fresh();
        let now = self.now;
        match &mut self.store.row {
            Some(row) => {
                row.enqueue(&request(), now);
            }
            row @ None => *row = Some(Live::new(id, &request(), now)),
        }
    }

    fn begin(&mut self, node: usize) {
        let life = u8::try_from(self.store.lives.len()).expect("few lives");
        self.store.lives.push(Some(LEASE.ends(self.now)));
        // The answer comes at once: a late one only makes the node believe less.
        self.nodes[node] = Node { life: Some(life), believes: self.now.after(LEASE.own_part()), ..Node::default() };
    }

    fn hear(&mut self, node: usize) -> bool {
        let (Some(life), Some((sent, Beat::Sent))) = (self.nodes[node].life, self.nodes[node].beat) else {
            return false;
        };
        let lease = &mut self.store.lives[usize::from(life)];
        let held = lease.is_some();
        *lease = lease.map(|_| LEASE.ends(self.now));
        self.nodes[node].beat = Some((sent, Beat::Answered(held)));
        true
    }

    fn answered(&mut self, number: usize, broken: Option<Broken>) -> bool {
        let now = self.now;
        let node = &mut self.nodes[number];
        let Some((sent, Beat::Answered(held))) = node.beat.take() else { return false };
        if held {
            let from = if broken == Some(Broken::CountsFromTheAnswer) { now } else { sent };
            node.believes = node.believes.max(from.after(LEASE.own_part()));
        } else {
            // Everything stops before a new life begins.
            *node = Node::default();
        }
        true
    }

    fn claim(&mut self, number: usize) -> bool {
        let Some(life) = self.nodes[number].life else { return false };
        if self.store.lives[usize::from(life)].is_none() {
            return false;
        }
        let now = self.now;
        let fence = Fence(self.store.last_fence + 1);
        let Some(row) = self.store.row.as_mut().filter(|row| row.is_due(now)) else { return false };
        row.claim(fence);
        self.nodes[number].work = Some((row.id, fence));
        (self.store.holder, self.store.last_fence) = (Some(life), fence.0);
        true
    }

    fn execute(&mut self, number: usize, broken: Option<Broken>) -> bool {
        if !self.may_act(number, broken) {
            return false;
        }
        self.nodes[number].executing = true;
        self.owed = false;
        true
    }

    fn change(&mut self, number: usize, broken: Option<Broken>) -> bool {
        let Some((_, fence)) = self.nodes[number].work.filter(|_| self.may_act(number, broken)) else { return false };
        self.went_back |= fence < self.changed;
        self.changed = self.changed.max(fence);
        true
    }

    /// The guard's question, before every change.
    fn may_act(&self, number: usize, broken: Option<Broken>) -> bool {
        self.now < self.nodes[number].believes || broken == Some(Broken::LooksAtNoLease)
    }

    fn finish(&mut self, number: usize, end: End, broken: Option<Broken>) -> bool {
        let node = &mut self.nodes[number];
        let Some((id, mut fence)) = node.work.take() else { return false };
        node.executing = false;
        let (life, now) = (node.life, self.now);
        let Some(row) = self.store.row.as_mut() else { return true };
        if broken == Some(Broken::ChecksNoFence) {
            fence = row.run.map_or(fence, |run| run.fence);
        } else if row.id != id {
            return true;
        }
        if broken == Some(Broken::DropsTheSuccessor) {
            row.successor = None;
        }
        let step = row.finish(fence, &end.disposition(), 0, now);
        self.usurped |= step != Step::Fenced && self.store.holder != life;
        self.store.settle(step);
        true
    }

    fn is_orphaned(&self) -> bool {
        let holder = self.store.holder.map(usize::from);
        holder.is_some_and(|life| self.store.lives[life].is_none())
    }

    fn reap(&mut self) {
        let now = self.now;
        for lease in &mut self.store.lives {
            *lease = lease.filter(|end| !LeaseTerm::has_ended(*end, now));
        }
        if self.is_orphaned() {
            let step = self.store.row.as_mut().map_or(Step::Fenced, Live::lose);
            self.store.settle(step);
        }
    }

    /// Whether an execution will begin after the last acknowledged request.
    fn will_run(&self) -> bool {
        let Some(row) = &self.store.row else { return false };
        let begun = self.nodes.iter().any(|node| node.executing && node.work == row.run.map(|run| (row.id, run.fence)));
        row.run.is_none() || row.successor.is_some() || !begun
    }

    fn active(&self) -> usize {
        self.nodes.iter().filter(|node| node.executing && self.now < node.believes).count()
    }
}

impl Database {
    fn fresh(&mut self) -> TaskId {
        self.last_id += 1;
        TaskId(self.last_id)
    }

    /// What a step leaves of the row.
    fn settle(&mut self, step: Step) {
        match step {
            Step::Fenced => return,
            Step::Waits => {}
            Step::Ended(_) => self.row = None,
            Step::Succeeded(_) => {
                let id = self.fresh();
                self.row = self.row.take().and_then(|row| row.promoted(id));
            }
        }
        self.holder = None;
    }
}

const ALL: Protocol = Protocol { ticks: 4, enqueues: 2, lives: 2, claims: 2, beats: 1, deaths: 1, broken: None };

#[test]
fn every_order_of_events_keeps_the_promises() {
    let checker = ALL.checker().threads(2).spawn_bfs().join();
    println!("{} states", checker.unique_state_count());
    assert!(checker.unique_state_count() > 300_000, "the model has shrunk: {}", checker.unique_state_count());
    checker.assert_properties();
}

#[test]
fn a_broken_rule_is_noticed() {
    for (broken, noticed) in [
        (Broken::CountsFromTheAnswer, "files are changed in the order of fences"),
        (Broken::LooksAtNoLease, "files are changed in the order of fences"),
        (Broken::ChecksNoFence, "only the holder writes back"),
        (Broken::DropsTheSuccessor, "an acknowledged request is still to run"),
    ] {
        let found = HasDiscoveries::AnyOf([noticed].into());
        let protocol = Protocol { broken: Some(broken), ..ALL };
        let checker = protocol.checker().threads(2).finish_when(found).spawn_bfs().join();
        assert!(checker.discovery(noticed).is_some(), "{broken:?} goes unnoticed");
    }
}
