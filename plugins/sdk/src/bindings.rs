//! The generated side of the contract, and the bridge from it to the crate's
//! own types. Nothing else names a generated type.
//!
//! A component's type is the union of the worlds that were linked into it, so
//! two halves are generated: `executor-only` as it stands, and a world that
//! exports the dispatcher. [`job!`](crate::job) exports both halves, which is
//! the world `job`; [`executor!`](crate::executor) exports the first. Worlds
//! that share an export cannot be generated in one crate: the macros generated
//! for it have one name.

use std::io::{self, Write as _};
use std::marker::PhantomData;

use crate::types::{Decision, Discovery, Failure, Outcome, Plan, Postponement, Sweep, Task, Verdict};
use crate::words::without_numbers;
use crate::{Dispatcher, Executor};

/// World `executor-only`.
#[allow(
    missing_docs,
    unsafe_code,
    unused_qualifications,
    clippy::pedantic,
    reason = "generated; exports and memory that crosses the boundary are unsafe by nature"
)]
pub mod executing {
    wit_bindgen::generate!({
        path: "../../wit",
        world: "executor-only",
        pub_export_macro: true,
        export_macro_name: "export_executor",
    });
}

/// The half of world `job` that `executor-only` lacks.
#[allow(
    missing_docs,
    unsafe_code,
    unused_qualifications,
    clippy::pedantic,
    reason = "generated; exports and memory that crosses the boundary are unsafe by nature"
)]
pub mod dispatching {
    wit_bindgen::generate!({
        path: "../../wit",
        inline: "
            package sweepd:sdk;
            world dispatcher-only {
                export sweepd:job/dispatcher@0.1.0;
            }
        ",
        with: { "sweepd:job/types@0.1.0": super::executing::sweepd::job::types },
        pub_export_macro: true,
        export_macro_name: "export_dispatcher",
    });
}

use dispatching::exports::sweepd::job::dispatcher as d;
use executing::exports::sweepd::job::executor as e;
use executing::sweepd::job::types as t;

/// What the macros export: a policy behind the generated traits.
#[derive(Debug)]
pub struct Bridge<P>(PhantomData<P>);

impl<P: Executor> e::Guest for Bridge<P> {
    fn execute(task: t::Task) -> Result<e::Outcome, t::Failure> {
        let result = P::execute(&task.into());
        flush();
        match result {
            Ok(outcome) => Ok(outcome.into()),
            Err(failure) => Err(failure.into()),
        }
    }
}

impl<P: Dispatcher> d::Guest for Bridge<P> {
    fn dispatch(sweep: d::Sweep, due: Vec<t::Task>) -> Result<d::Plan, t::Failure> {
        let due: Vec<Task> = due.into_iter().map(Task::from).collect();
        let result = P::dispatch(&sweep.into(), &due);
        flush();
        match result {
            Ok(plan) => Ok(plan.into()),
            Err(failure) => Err(failure.into()),
        }
    }
}

/// Hands over what was printed without a line's end, while it still is this
/// call's: the next one may be about another task.
fn flush() {
    #[allow(clippy::disallowed_methods, reason = "a plugin's own output, which the host escapes")]
    let _ = io::stdout().flush();
}

impl From<t::Task> for Task {
    fn from(task: t::Task) -> Self {
        Self {
            id: task.id,
            key: task.key,
            payload: task.payload,
            attempt: task.attempt,
            max_attempts: task.max_attempts,
            enqueued_at: task.enqueued_at,
        }
    }
}

impl From<d::Sweep> for Sweep {
    fn from(sweep: d::Sweep) -> Self {
        Self {
            now: sweep.now,
            capacity: sweep.capacity,
            scan: sweep.scan,
            max_discoveries: sweep.max_discoveries,
            cursor: sweep.cursor,
        }
    }
}

impl From<Failure> for t::Failure {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Transient(why) => Self::Transient(without_numbers(why)),
            Failure::Permanent(why) => Self::Permanent(without_numbers(why)),
        }
    }
}

impl From<Postponement> for t::Postponement {
    fn from(postponement: Postponement) -> Self {
        Self { delay: postponement.delay, reason: postponement.reason.map(without_numbers) }
    }
}

impl From<Outcome> for e::Outcome {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Done(note) => Self::Done(note.map(without_numbers)),
            Outcome::Skipped(why) => Self::Skipped(without_numbers(why)),
            Outcome::Postpone(postponement) => Self::Postpone(postponement.into()),
        }
    }
}

impl From<Verdict> for d::Verdict {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Run => Self::Run,
            Verdict::Postpone(postponement) => Self::Postpone(postponement.into()),
            Verdict::Discard(why) => Self::Discard(without_numbers(why)),
        }
    }
}

impl From<Plan> for d::Plan {
    fn from(plan: Plan) -> Self {
        Self {
            decisions: plan.decisions.into_iter().map(Into::into).collect(),
            discoveries: plan.discoveries.into_iter().map(Into::into).collect(),
            cursor: plan.cursor,
        }
    }
}

impl From<Decision> for d::Decision {
    fn from(decision: Decision) -> Self {
        Self { task: decision.task, verdict: decision.verdict.into() }
    }
}

impl From<Discovery> for d::Discovery {
    fn from(discovery: Discovery) -> Self {
        Self { key: discovery.key, payload: discovery.payload, run_at: discovery.run_at, reason: discovery.reason }
    }
}
