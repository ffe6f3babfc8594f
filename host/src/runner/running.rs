//! The loops of a host: what each is called, and what becomes of the host where
//! one panics. What they do is their own modules'.

use std::sync::Arc;

use tokio::sync::{Notify, mpsc, watch};

use crate::plugin::{Compiler, Kept, Reloader, Unkept};
use crate::sandbox::Recorded;
use crate::stop::told;
use crate::store::SharedStore;
use crate::supervise::Tasks;

use super::clocks::Clocks;
use super::files::record_chunks;
use super::host::Seat;
use super::housekeeping::{Ages, keep_house};
use super::job::{Control, Job};
use super::lease::Node;
use super::pulse::Pulse;
use super::purge::{keep_trash, tell_of_left_over};
use super::revive::keep_job;

/// What shutting down waits for.
#[derive(Default)]
pub(super) struct Running {
    pub(super) runners: Tasks,
    /// Reloaders and the heartbeat: they end by themselves.
    pub(super) helpers: Tasks,
}

impl Running {
    /// Vital: what it holds when it panics is in the journal alone, which a start
    /// reads.
    pub(super) fn keep_record(
        &mut self,
        store: &SharedStore,
        chunks: mpsc::Receiver<Vec<Recorded>>,
        stop: &watch::Receiver<bool>,
    ) {
        let recorder = record_chunks(Arc::clone(store), chunks, stop.clone());
        self.helpers.vital("effects", stop.clone(), recorder);
    }

    /// Kept, where none of its tasks is under way: see `revive`.
    pub(super) fn keep_job(&mut self, job: &Arc<Job>, requests: mpsc::Receiver<Control>, stop: &watch::Receiver<bool>) {
        keep_job(&mut self.runners, job, requests, stop.clone());
    }

    /// Kept: each begins by looking at what there is.
    pub(super) fn keep_files(&mut self, job: &Arc<Job>, stop: &watch::Receiver<bool>) {
        let name = &job.spec.name;
        if job.spec.budget.needs_count() {
            let (job, told) = (Arc::clone(job), stop.clone());
            self.helpers.keep(format!("count {name}"), stop.clone(), move || Arc::clone(&job).keep_count(told.clone()));
        }
        let (job, told) = (Arc::clone(job), stop.clone());
        match job.spec.trash {
            Some(trash) => self
                .helpers
                .keep(format!("trash {name}"), stop.clone(), move || keep_trash(Arc::clone(&job), trash, told.clone())),
            None => {
                self.helpers
                    .keep_until_done(format!("trash {name}"), told, move || tell_of_left_over(Arc::clone(&job)));
            }
        }
    }

    /// Kept: what serves is in the slot, and what is to serve on disk.
    pub(super) fn keep_plugin(
        &mut self,
        job: &Arc<Job>,
        compiler: &Arc<Compiler>,
        kept: Kept,
        stop: &watch::Receiver<bool>,
    ) {
        let (job, compiler, told) = (Arc::clone(job), Arc::clone(compiler), stop.clone());
        // What broke and could not be written down outlives a panic.
        let unkept = Unkept::new(job.spec.name.clone(), Arc::clone(&job.slot), kept.clone());
        self.helpers.keep(format!("plugin {}", job.spec.name), stop.clone(), move || {
            let (job, compiler, told) = (Arc::clone(&job), Arc::clone(&compiler), told.clone());
            let (slot, keeping) = (Arc::clone(&job.slot), (kept.clone(), unkept.clone()));
            async move {
                let (spec, clock) = (Arc::clone(&job.spec), job.clock.clone());
                Reloader::new(spec, slot, compiler, keeping, clock).await.follow(told).await;
            }
        });
    }

    /// Kept: while the heart does not beat the lease runs out, and stops what must
    /// not go on.
    pub(super) fn keep_node(
        &mut self,
        node: &Arc<Node>,
        jobs: &Arc<[Seat]>,
        asked: &Arc<Notify>,
        stop: &watch::Receiver<bool>,
    ) {
        let (node, jobs, asked, told) = (Arc::clone(node), Arc::clone(jobs), Arc::clone(asked), stop.clone());
        self.helpers.keep("heartbeat", stop.clone(), move || {
            Pulse::new(Arc::clone(&node), Arc::clone(&jobs)).keep(told.clone(), Arc::clone(&asked))
        });
    }

    /// Kept: neither holds anything from round to round.
    pub(super) fn keep_store(
        &mut self,
        store: &SharedStore,
        clocks: &Arc<Clocks>,
        jobs: &Arc<[Seat]>,
        ages: Ages,
        stop: &watch::Receiver<bool>,
    ) {
        let (heard, jobs, told) = (Arc::clone(store), Arc::clone(jobs), stop.clone());
        self.helpers.keep("wake-up", stop.clone(), move || hear(Arc::clone(&heard), Arc::clone(&jobs), told.clone()));
        let (store, clocks, told) = (Arc::clone(store), Arc::clone(clocks), stop.clone());
        self.helpers.keep("housekeeping", stop.clone(), move || {
            keep_house(Arc::clone(&store), Arc::clone(&clocks), ages, told.clone())
        });
    }
}

/// Wakes the jobs when somebody else queued something.
async fn hear(store: SharedStore, jobs: Arc<[Seat]>, mut stop: watch::Receiver<bool>) {
    loop {
        tokio::select! {
            () = told(&mut stop) => return,
            () = store.woken() => jobs.iter().for_each(|seat| seat.job.wake()),
        }
    }
}
