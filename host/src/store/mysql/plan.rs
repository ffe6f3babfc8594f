//! An accepted plan, as one transaction: what is not executed now, what the
//! policy found, and where its scan stands.

use async_trait::async_trait;

use super::enqueue::{Asked, enqueue};
use super::fault::Fault;
use super::writing::{Command, Work};
use super::{finish, jobs};
use crate::store::{ApplyPlan, At, PlanApplied};

/// [`Store::apply_plan`](crate::store::Store::apply_plan).
pub(super) struct Apply {
    pub(super) plan: ApplyPlan,
    pub(super) at: At,
}

#[async_trait]
impl Command for Apply {
    type Answer = PlanApplied;

    fn numbers(&self) -> usize {
        self.plan.discoveries.len()
    }

    async fn apply(&self, work: &mut Work<'_>) -> Result<PlanApplied, Fault> {
        let (plan, now) = (&self.plan, work.now(self.at));
        jobs::must_exist(work.conn(), plan.job).await?;
        if plan.cursor.is_some() || !plan.discoveries.is_empty() {
            jobs::must_scan(work.conn(), plan.job, plan.node).await?;
        }
        let finished = finish::finish(work.conn(), &plan.finishes, now).await?;
        let asked: Vec<_> = plan.discoveries.iter().map(|task| Asked { job: plan.job, task, now }).collect();
        let (conn, numbers) = work.conn_and_numbers();
        let enqueued = enqueue(conn, numbers, &asked).await?;
        if let Some(update) = &plan.cursor {
            jobs::set_cursor(conn, plan.job, update).await?;
        }
        Ok(PlanApplied { finished, enqueued })
    }
}
