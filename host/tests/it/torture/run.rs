//! One run: rounds of torment, after each of which all is put right and what is
//! due is asked for.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use fastrand::Rng;

use super::chaos::{Cluster, Database, Troubles};
use super::check::{Checker, Queue, Seen, Violation};
use super::line::Tail;
use super::nodes::{Ground, LEASE};
use super::writer::Writer;

/// A writer that asks a stopped node waits for long: beside other nodes there
/// have to be more of them.
fn writers(database: Database) -> usize {
    match database {
        Database::Sqlite => 3,
        Database::Shared(..) => 8,
    }
}

/// How long everything is broken before it is put right.
const ROUND: Duration = Duration::from_secs(5);

/// How long the queue may take to get empty then.
const PATIENCE: Duration = Duration::from_mins(1);

/// After that what was acknowledged has been executed; only the last lines may
/// still be on their way.
const LAST_LINES: Duration = Duration::from_secs(2);

/// What to run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Torture {
    pub(super) database: Database,
    pub(super) mutant: Option<&'static str>,
    /// No round begins after this time.
    pub(super) length: Duration,
    pub(super) seed: u64,
}

/// What came of it.
pub(super) struct Found {
    torture: Torture,
    pub(super) violations: Vec<Violation>,
    pub(super) seen: Seen,
    pub(super) cuts: u64,
    /// How often a node was in each kind of trouble, or the server read only.
    pub(super) troubles: Troubles,
    rounds: u32,
    took: Duration,
}

impl Torture {
    /// Runs until the time is up or something is wrong.
    pub(super) fn run(self) -> Found {
        println!("{self:?}; SWEEPD_SEED={} repeats what is done, if not when", self.seed);
        let mut random = Rng::with_seed(self.seed);
        let ground = Ground::new();
        let mut cluster = Cluster::new(self.database, &ground, self.mutant);
        let count = writers(self.database);
        let mut writers: Vec<_> = (0..count).map(|name| Writer::new(name, count, random.fork())).collect();
        let mut trace = Tail::of(ground.trace.path());
        let mut checker = Checker::default();
        let patience = if self.mutant.is_some() { PATIENCE / 6 } else { PATIENCE };
        let mut rounds = 0;
        checker.violations.extend(cluster.calm(&ground.trace, PATIENCE).err());
        let began = Instant::now();
        while checker.violations.is_empty() && began.elapsed() < self.length {
            rounds += 1;
            round(&mut cluster, &mut writers, &ground, &mut random);
            checker.violations.extend(cluster.calm(&ground.trace, patience).err());
            let calm = Instant::now();
            let queue = drained(&cluster, patience);
            // By then a node has beaten, and knows whether its lease holds: mostly.
            thread::sleep(LEASE.saturating_sub(calm.elapsed()));
            let all_over = Instant::now();
            checker.read(&trace.more());
            while checker.is_owed() && all_over.elapsed() < LAST_LINES
                || checker.lacks_a_loss() && all_over.elapsed() < patience
            {
                thread::sleep(Duration::from_millis(20));
                checker.read(&trace.more());
            }
            checker.settle(queue);
            eprintln!("{:?} round {rounds} after {:?}: {:?}", self.database, began.elapsed(), checker.seen);
        }
        let Checker { violations, seen, .. } = checker;
        let (cuts, troubles) = (cluster.cuts(), cluster.troubles().clone());
        if violations.is_empty() == self.mutant.is_some() {
            for node in &cluster.nodes {
                let log = node.log();
                let start = log.floor_char_boundary(log.len().saturating_sub(4_000));
                eprintln!("the log of {} ends with:\n{}", node.name(), &log[start..]);
            }
            drop(cluster);
            eprintln!("the trace is kept in {}", ground.keep().display());
        }
        Found { torture: self, violations, seen, cuts, troubles, rounds, took: began.elapsed() }
    }
}

/// Writers write and things break.
fn round(cluster: &mut Cluster, writers: &mut [Writer], ground: &Ground, random: &mut Rng) {
    let addresses: Vec<_> = cluster.nodes.iter().map(|node| node.address().clone()).collect();
    let (trace, stop) = (&ground.trace, AtomicBool::new(false));
    thread::scope(|scope| {
        for writer in writers {
            let (addresses, stop) = (&addresses, &stop);
            scope.spawn(move || writer.write(addresses, trace, stop));
        }
        cluster.torment(random, trace, Instant::now() + ROUND);
        stop.store(true, Ordering::SeqCst);
    });
}

/// Waits until the queue is empty; answers what it says last.
fn drained(cluster: &Cluster, patience: Duration) -> Queue {
    let began = Instant::now();
    loop {
        let queue = cluster.queue();
        if queue.pending + queue.running == 0 || began.elapsed() > patience {
            return queue;
        }
        thread::sleep(Duration::from_millis(20));
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { torture, violations, seen, cuts, troubles, rounds, took } = self;
        writeln!(f, "{torture:?}: {rounds} rounds in {took:?}, {cuts} connections cut, {seen:?}")?;
        writeln!(f, "in trouble: {troubles:?}")?;
        writeln!(f, "{} violations", violations.len())?;
        violations.iter().take(20).try_for_each(|violation| writeln!(f, "- {violation}"))
    }
}
