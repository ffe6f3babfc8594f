//! What is timed, the same for every peer that is a Rust library.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use tokio::sync::{Notify, mpsc};

use crate::cli::Measure;
use crate::report::Measured;
use crate::scratch::Scratch;
use crate::settings::Settings;

/// A peer that hangs is an error, not a bench that never ends.
pub(crate) const LIMIT: Duration = Duration::from_mins(15);

/// Jobs inserted at once by the preparation.
const CHUNK: u64 = 1_000;

/// A peer: a queue whose tables stand, with no worker running yet.
pub(crate) trait Queue: Sized {
    /// Connects, and makes the tables where they are missing.
    async fn open(scratch: &Scratch, settings: &Settings) -> Result<Self>;

    /// A query that finds a row while a job is not done for good.
    fn unfinished(&self) -> &'static str;

    /// Inserts jobs with these keys, all or none.
    async fn insert(&mut self, keys: Vec<String>) -> Result<()>;

    /// Starts the workers, whose handler does nothing but tell the witness.
    async fn start(&mut self, witness: Arc<Witness>) -> Result<()>;

    /// Stops the workers, whatever they leave unfinished, and disconnects.
    async fn close(self) -> Result<()>;
}

/// What every handler tells that it runs.
pub(crate) struct Witness {
    left: AtomicU64,
    /// Told when the last job has run, or a worker failed.
    over: Notify,
    failure: OnceLock<String>,
    started: mpsc::UnboundedSender<Instant>,
}

impl Witness {
    fn new(jobs: u64) -> (Arc<Self>, mpsc::UnboundedReceiver<Instant>) {
        let (started, starts) = mpsc::unbounded_channel();
        (Arc::new(Self { left: AtomicU64::new(jobs), over: Notify::new(), failure: OnceLock::new(), started }), starts)
    }

    /// Called first thing in each handler.
    pub(crate) fn runs(&self) {
        // Nobody listens any more once the last job of the run is done.
        let _ = self.started.send(Instant::now());
        if self.left.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.over.notify_one();
        }
    }

    /// Called when a worker ends on its own: the run is of no use any more. Of several failures the first is kept.
    pub(crate) fn fails(&self, failure: String) {
        let _ = self.failure.set(failure);
        self.over.notify_one();
    }

    /// Waits until all jobs of the run have started, once each.
    async fn over(&self) -> Result<()> {
        self.over.notified().await;
        self.failure.get().map_or(Ok(()), |failure| bail!("a worker of the peer failed: {failure}"))
    }
}

/// Measures one peer.
pub(crate) async fn measured<Q: Queue>(
    scratch: &Scratch,
    settings: &Settings,
    measure: Measure,
    jobs: u64,
) -> Result<Measured> {
    let mut queue = Q::open(scratch, settings).await?;
    if measure == Measure::BurnDown {
        for first in (0..jobs).step_by(usize::try_from(CHUNK)?) {
            queue.insert((first..jobs.min(first + CHUNK)).map(key).collect()).await?;
        }
        // Connected anew, the peer plans with the statistics of what waits for it.
        queue.close().await?;
        scratch.settle().await?;
        queue = Q::open(scratch, settings).await?;
    }
    let measured = async {
        match measure {
            Measure::BurnDown => burn_down(&mut queue, scratch, jobs).await,
            Measure::Latency => latency(&mut queue, jobs).await,
        }
    };
    let measured = tokio::time::timeout(LIMIT, measured).await.context("the peer did not finish in time")??;
    queue.close().await?;
    Ok(measured)
}

/// Seconds from the start of the workers to the last of the waiting jobs being done in the database.
async fn burn_down<Q: Queue>(queue: &mut Q, scratch: &Scratch, jobs: u64) -> Result<Measured> {
    let (witness, _starts) = Witness::new(jobs);
    let start = Instant::now();
    queue.start(Arc::clone(&witness)).await?;
    witness.over().await?;
    // A query sees what was committed when it began: the time before the one that finds nothing is the end.
    loop {
        let asked = start.elapsed();
        if !scratch.finds(queue.unfinished()).await? {
            return Ok(Measured::Seconds(asked.as_secs_f64()));
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Milliseconds from before each enqueue to the start of its handler, one job at a time.
async fn latency<Q: Queue>(queue: &mut Q, jobs: u64) -> Result<Measured> {
    let (witness, mut starts) = Witness::new(jobs);
    queue.start(Arc::clone(&witness)).await?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut latencies = Vec::new();
    for job in 0..jobs {
        // Random, so that no poll of the peer falls into step with the enqueues.
        tokio::time::sleep(Duration::from_micros(fastrand::u64(20_000..60_000))).await;
        let before = Instant::now();
        queue.insert(vec![key(job)]).await?;
        let started = tokio::select! {
            biased;
            started = starts.recv() => started.context("the workers are gone")?,
            failed = witness.over() => return failed.and(Err(anyhow!("more jobs ran than were enqueued"))),
        };
        latencies.push(started.duration_since(before).as_secs_f64() * 1000.0);
    }
    Ok(Measured::Latencies(latencies))
}

/// The same keys as our own bench uses.
fn key(job: u64) -> String {
    format!("video-{job:06}")
}
