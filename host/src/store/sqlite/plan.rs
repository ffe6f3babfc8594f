//! An accepted plan, as one transaction: what is not executed now, what the
//! policy found, and where its scan stands.

use super::fault::Fault;
use super::writing::{Command, Writing};
use super::{enqueue, finish, jobs};
use crate::store::{ApplyPlan, At, PlanApplied};

/// [`Store::apply_plan`](crate::store::Store::apply_plan).
pub(super) struct Apply {
    pub(super) plan: ApplyPlan,
    pub(super) at: At,
}

impl Command for Apply {
    type Answer = PlanApplied;

    fn rows(&self) -> usize {
        self.plan.finishes.len() + self.plan.discoveries.len() + 1
    }

    fn apply(&self, writing: &mut Writing<'_>) -> Result<PlanApplied, Fault> {
        let (plan, now) = (&self.plan, writing.now(self.at));
        jobs::must_exist(writing, plan.job)?;
        if plan.cursor.is_some() || !plan.discoveries.is_empty() {
            jobs::must_scan(writing, plan.job, plan.node)?;
        }
        let finished = finish::finish(writing, &plan.finishes, now)?;
        let enqueued = enqueue::enqueue(writing, plan.job, &plan.discoveries, now)?;
        if let Some(update) = &plan.cursor {
            jobs::set_cursor(writing, plan.job, update)?;
        }
        Ok(PlanApplied { finished, enqueued })
    }
}
