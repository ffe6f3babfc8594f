//! A sweep is simulated before it begins, where its job asks for that: one that
//! would go over the budget removes nothing at all.

use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::task::spawn_blocking;

use crate::sandbox::{Custody, Gate};
use crate::store::At;

use super::job::Job;
use super::simulation::Simulation;
use super::sweep::SweepEnd;

/// Whether the sweep may begin under this gate; where not, how it ended.
pub(super) async fn preflight(job: &Job, gate: &Arc<Gate>, scan: bool) -> Result<(), SweepEnd> {
    let Some(generation) = job.slot.current() else { return Err(SweepEnd::Stopped) };
    let now = job.store.now(At::Server).await.map_err(|error| SweepEnd::Failed(error.to_string()))?;
    let custody = Custody::simulated(Arc::clone(&job.spec), job.id, job.clock.clone());
    custody.holds.store(job.custody.holds.load_full());
    custody.meter.go_on_from(&job.custody.meter);
    let (store, gate) = (Some(Arc::clone(&job.store)), Arc::clone(gate));
    let open = Arc::clone(&gate);
    let simulation = Simulation { store, custody, generation, now, scan, limit: None, gate };
    let runtime = Handle::current();
    let simulated = spawn_blocking(move || simulation.run(&runtime, &mut drop)).await;
    let simulated = simulated.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
    if !open.is_open() {
        return Err(SweepEnd::Stopped);
    }
    match simulated {
        Ok(summary) => match summary.over_budget {
            None => Ok(()),
            Some(over) => Err(SweepEnd::FailedForGood(format!("preflight: {over}; nothing was removed"))),
        },
        Err(error) => Err(SweepEnd::Failed(format!("preflight: {error}"))),
    }
}
