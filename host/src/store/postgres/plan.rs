//! An accepted plan, as one transaction: what is not executed now, what the
//! policy found, and where its scan stands.

use async_trait::async_trait;

use super::Command;
use super::enqueue::{self, Asked};
use super::fault::Fault;
use super::writing::Work;
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

    async fn apply(&self, work: &mut Work) -> Result<PlanApplied, Fault> {
        let (plan, now) = (&self.plan, work.now(self.at));
        jobs::must_exist(work, plan.job).await?;
        if plan.cursor.is_some() || !plan.discoveries.is_empty() {
            jobs::must_scan(work, plan.job, plan.node).await?;
        }
        let (finished, _) = finish::finish(work, &plan.finishes, now).await?;
        let asked: Vec<_> = plan.discoveries.iter().map(|task| Asked { job: plan.job.0, task, now }).collect();
        let enqueued = enqueue::enqueue(work, &asked).await?;
        if let Some(update) = &plan.cursor {
            jobs::set_cursor(work, plan.job, update).await?;
        }
        Ok(PlanApplied { finished, enqueued })
    }
}
