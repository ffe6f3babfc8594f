//! The generated bindings of the contract, and their translation into domain
//! types, where every text for people is cut. Nothing else names generated types.

use std::time::Duration;

use wasmtime::component::{HasSelf, Linker};

use crate::domain::outcome::{self, Failure, Outcome, cut};
use crate::domain::plan::{self, Plan, SweepCall, Verdict};
use crate::domain::task::{ClaimedTask, TaskId};
use crate::domain::time::Timestamp;
use crate::sandbox::GuestState;

wasmtime::component::bindgen!({
    path: "../wit",
    world: "job",
    imports: { default: trappable },
});

pub(super) use exports::sweepd::job::dispatcher::{Guest as Dispatcher, GuestIndices as DispatcherIndices};
pub(super) use exports::sweepd::job::executor::{Guest as Executor, GuestIndices as ExecutorIndices};

use self::sweepd::job::{run, types};
use exports::sweepd::job::{dispatcher, executor};

/// Links the `run` interface.
pub(super) fn add_to_linker(linker: &mut Linker<GuestState>) -> wasmtime::Result<()> {
    run::add_to_linker::<GuestState, HasSelf<GuestState>>(linker, |state| state)
}

impl types::Host for GuestState {}

impl run::Host for GuestState {
    fn job(&mut self) -> wasmtime::Result<String> {
        Ok(GuestState::job(self).name.to_string())
    }

    fn config(&mut self, key: String) -> wasmtime::Result<Option<String>> {
        Ok(GuestState::job(self).config.get(&key).cloned())
    }

    fn deadline(&mut self) -> wasmtime::Result<u64> {
        Ok(GuestState::deadline(self).0)
    }

    fn removed_before(&mut self) -> wasmtime::Result<u64> {
        Ok(GuestState::removed_before(self))
    }

    fn simulated(&mut self) -> wasmtime::Result<bool> {
        Ok(GuestState::is_simulated(self))
    }
}

/// A task as the contract has it.
pub(super) fn task(task: &ClaimedTask, max_attempts: u32) -> types::Task {
    types::Task {
        id: task.id.0,
        key: task.key.as_str().to_owned(),
        payload: task.payload.as_ref().map(|payload| payload.as_str().to_owned()),
        attempt: task.attempt,
        max_attempts,
        enqueued_at: task.enqueued_at.0,
    }
}

/// A call of a sweep as the contract has it.
pub(super) fn sweep(call: &SweepCall) -> dispatcher::Sweep {
    dispatcher::Sweep {
        now: call.now.0,
        capacity: call.capacity,
        scan: call.scan,
        max_discoveries: u32::try_from(plan::MAX_DISCOVERIES).unwrap_or(u32::MAX),
        cursor: call.cursor.clone(),
    }
}

impl From<types::Failure> for Failure {
    fn from(failure: types::Failure) -> Self {
        match failure {
            types::Failure::Transient(why) => Self::Transient(cut(why)),
            types::Failure::Permanent(why) => Self::Permanent(cut(why)),
        }
    }
}

impl From<types::Postponement> for outcome::Postponement {
    fn from(ask: types::Postponement) -> Self {
        Self { delay: Duration::from_secs(ask.delay.into()), reason: ask.reason.map(cut) }
    }
}

impl From<executor::Outcome> for Outcome {
    fn from(outcome: executor::Outcome) -> Self {
        match outcome {
            executor::Outcome::Done(note) => Self::Done(note.map(cut)),
            executor::Outcome::Skipped(why) => Self::Skipped(cut(why)),
            executor::Outcome::Postpone(ask) => Self::Postpone(ask.into()),
        }
    }
}

impl From<dispatcher::Plan> for Plan {
    fn from(plan: dispatcher::Plan) -> Self {
        Self {
            decisions: plan
                .decisions
                .into_iter()
                .map(|decision| (TaskId(decision.task), decision.verdict.into()))
                .collect(),
            discoveries: plan.discoveries.into_iter().map(Into::into).collect(),
            cursor: plan.cursor,
        }
    }
}

impl From<dispatcher::Verdict> for Verdict {
    fn from(verdict: dispatcher::Verdict) -> Self {
        match verdict {
            dispatcher::Verdict::Run => Self::Run,
            dispatcher::Verdict::Postpone(ask) => Self::Postpone(ask.into()),
            dispatcher::Verdict::Discard(why) => Self::Discard(cut(why)),
        }
    }
}

impl From<dispatcher::Discovery> for plan::Discovery {
    fn from(found: dispatcher::Discovery) -> Self {
        Self {
            key: found.key,
            payload: found.payload,
            run_at: found.run_at.map(Timestamp),
            reason: found.reason.map(cut),
        }
    }
}
