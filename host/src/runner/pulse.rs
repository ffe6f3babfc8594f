//! What a node does at every heartbeat: it extends its lease, looks at the
//! clocks, takes over from the dead, and hears what people asked of jobs and tasks at other nodes.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use crate::domain::job::JobId;
use crate::sandbox::Gate;
use crate::stop::told;
use crate::store::{At, JobRow, Reaped, Store, StoreError};

use super::host::Seat;
use super::job::Control;
use super::lease::{Beat, Node};

/// The heartbeat of a node, and all that hangs on it.
pub(super) struct Pulse {
    pub(super) node: Arc<Node>,
    pub(super) seats: Arc<[Seat]>,
    /// How often was asked for a running task of this life to end, as far as
    /// that was heeded.
    asked: u64,
}

impl Pulse {
    pub(super) fn new(node: Arc<Node>, seats: Arc<[Seat]>) -> Self {
        Self { node, seats, asked: 0 }
    }

    /// Beats until `stop` becomes true, and at once when something was asked of
    /// this node itself.
    pub(super) async fn keep(mut self, mut stop: watch::Receiver<bool>, asked: Arc<tokio::sync::Notify>) {
        let mut tick = tokio::time::interval(self.node.interval());
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = told(&mut stop) => return,
                _ = tick.tick() => {}
                () = asked.notified() => {}
            }
            if let Err(error) = self.beat().await {
                tracing::warn!("the heartbeat was not stored, the lease runs out: {error}");
                continue;
            }
            if let Err(error) = self.look_around().await {
                tracing::warn!("what other nodes did could not be read: {error}");
            }
        }
    }

    async fn beat(&mut self) -> Result<(), StoreError> {
        let seats = Arc::clone(&self.seats);
        let beat = self.node.beat(|| seats.iter().for_each(|seat| drop(seat.job.close_gate()))).await?;
        let asked = match beat {
            Beat::Held { asked } => asked,
            Beat::Anew => 0,
        };
        if asked > self.asked {
            // A call that is stuck in the kernel must not hold up the heartbeat.
            drop(shut_out(&*self.seats[0].job.store, &self.node, &self.seats).await?);
        }
        self.asked = asked;
        Ok(())
    }

    async fn look_around(&self) -> Result<(), StoreError> {
        let store = &self.seats[0].job.store;
        let look = self.seats[0].job.clocks.look().await?;
        // By the very time that was looked at: a clock that is set forward right
        // after it takes nobody for dead.
        let reaped = match look.reap_at {
            Some(now) => store.reap(At::Fixed(now)).await?,
            None => Reaped::default(),
        };
        if reaped.nodes > 0 {
            tracing::warn!(nodes = reaped.nodes, tasks = reaped.tasks, "took over from nodes whose lease had ended");
        }
        if reaped.tasks > 0 || look.drawn {
            self.seats.iter().for_each(|seat| seat.job.wake());
        }
        let rows: HashMap<JobId, JobRow> = store.jobs().await?.into_iter().map(|row| (row.id, row)).collect();
        for seat in self.seats.iter() {
            seat.job.take_up_holds().await?;
            seat.job.marks.forget();
            let Some(JobRow { paused, once_over_budget, .. }) = rows.get(&seat.job.id) else { continue };
            seat.job.may_exceed.fetch_or(*once_over_budget, Ordering::SeqCst);
            if *paused == seat.job.view().paused {
                continue;
            }
            match &seat.control {
                // Sixteen requests wait already: this one comes again.
                Some(control) => drop(control.try_send(Control::Follow { paused: paused.clone() })),
                None => seat.job.note_paused(paused.clone()),
            }
        }
        Ok(())
    }
}

/// Interrupts what people want to end and this node runs. Drained, the gates
/// that it answers with let no more changes of these tasks through.
pub(super) async fn shut_out(store: &dyn Store, node: &Node, seats: &[Seat]) -> Result<Vec<Arc<Gate>>, StoreError> {
    let mut gates = Vec::new();
    for cancellation in store.cancellations(node.id()).await? {
        if let Some(seat) = seats.iter().find(|seat| seat.job.id == cancellation.job) {
            tracing::info!(job = %seat.job.spec.name, task = cancellation.task.0, "interrupting it as somebody asked");
            let gate = seat.job.gate();
            gate.shut_out(cancellation.task);
            gates.push(gate);
        }
    }
    Ok(gates)
}
