//! Any order of commands leaves the store as a small model says.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{Config, TestRunner};
use sweepd::domain::outcome::{Disposition, Finished};
use sweepd::domain::task::{ClaimedTask, Enqueued, Fence, TaskId, TaskState};
use sweepd::store::{ClaimDue, TaskFilter};

use super::{Desk, StoreHarness, all_dispositions, due_at};

#[derive(Clone, Debug)]
enum Step {
    /// Queue a key, due so many milliseconds from now.
    Enqueue(u8, u64),
    Claim {
        limit: u32,
        lowest_first: bool,
        suspects: bool,
    },
    /// Write back one of all tasks ever claimed, also those of dead nodes.
    Finish {
        which: prop::sample::Index,
        disposition: Disposition,
        twice: bool,
    },
    Crash,
    Advance(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let disposition = prop::sample::select(all_dispositions().to_vec());
    prop_oneof![
        4 => (0..6_u8, 0..3_u64).prop_map(|(key, late)| Step::Enqueue(key, late * 2000)),
        3 => (0..4_u32, any::<bool>(), prop::bool::weighted(0.8))
            .prop_map(|(limit, lowest_first, suspects)| Step::Claim { limit, lowest_first, suspects }),
        4 => (any::<prop::sample::Index>(), disposition, prop::bool::weighted(0.2))
            .prop_map(|(which, disposition, twice)| Step::Finish { which, disposition, twice }),
        1 => Just(Step::Crash),
        2 => (1..4_u64).prop_map(|seconds| Step::Advance(seconds * 1000)),
    ]
}

/// A live task as it must be.
#[derive(Clone, Debug)]
struct Live {
    id: TaskId,
    run_at: u64,
    backoff: bool,
    attempts: u32,
    losses: u32,
    /// The fence while it runs.
    fence: Option<Fence>,
    /// When the successor is due.
    successor: Option<u64>,
}

impl Live {
    fn new(id: TaskId, run_at: u64) -> Self {
        Self { id, run_at, backoff: false, attempts: 0, losses: 0, fence: None, successor: None }
    }

    /// The run is over, and the task waits again.
    fn wait(&mut self, run_at: u64, backoff: bool) {
        (self.run_at, self.backoff, self.fence) = (run_at, backoff, None);
        if let Some(due) = self.successor.take() {
            self.ask(due);
        }
    }

    fn ask(&mut self, due: u64) {
        if !self.backoff {
            self.run_at = self.run_at.min(due);
        }
    }
}

/// The model beside the store.
struct Walk<H> {
    desk: Desk<H>,
    live: BTreeMap<u8, Live>,
    /// Write-backs that were applied, by what they were about.
    applied: Vec<(TaskId, Fence)>,
    claimed: Vec<ClaimedTask>,
    last_fence: Fence,
}

pub(super) async fn any_order_is_legal<H: StoreHarness>(desk: Desk<H>) {
    desk.store.close().await;
    let mut runner = TestRunner::new(Config { cases: 1, failure_persistence: None, ..Config::default() });
    for case in 0..24 {
        let steps = prop::collection::vec(step(), 1..60).new_tree(&mut runner).expect("steps").current();
        println!("case {case}: {steps:?}");
        let mut walk = Walk {
            desk: Desk::<H>::open().await,
            live: BTreeMap::new(),
            applied: Vec::new(),
            claimed: Vec::new(),
            last_fence: Fence(0),
        };
        for step in steps {
            walk.take(step).await;
        }
        walk.compare().await;
        walk.crash().await;
        walk.compare().await;
        walk.desk.store.close().await;
    }
}

impl<H: StoreHarness> Walk<H> {
    async fn take(&mut self, step: Step) {
        match step {
            Step::Enqueue(key, late) => self.enqueue(key, self.desk.now.0 + late).await,
            Step::Claim { limit, lowest_first, suspects } => self.claim(limit, lowest_first, suspects).await,
            Step::Finish { which, disposition, twice } => {
                if !self.claimed.is_empty() {
                    let task = which.get(&self.claimed).clone();
                    self.finish(&task, &disposition).await;
                    if twice {
                        self.finish(&task, &disposition).await;
                    }
                }
            }
            Step::Crash => self.crash().await,
            Step::Advance(millis) => self.desk.advance(millis),
        }
        self.compare().await;
    }

    async fn enqueue(&mut self, key: u8, due: u64) {
        let answer = self.desk.add(due_at(&key.to_string(), due)).await;
        match self.live.get_mut(&key) {
            None => {
                assert!(matches!(answer, Enqueued::New(_)), "{answer:?}");
                self.live.insert(key, Live::new(answer.id(), due));
            }
            Some(live) if live.fence.is_some() => {
                assert_eq!(answer, Enqueued::Successor(live.id));
                live.successor = Some(live.successor.map_or(due, |other| other.min(due)));
            }
            Some(live) => {
                assert_eq!(answer, Enqueued::Pending(live.id));
                live.ask(due);
            }
        }
    }

    async fn claim(&mut self, limit: u32, lowest_first: bool, suspects: bool) {
        let now = self.desk.now.0;
        let mut due: Vec<_> =
            self.live.values_mut().filter(|live| live.fence.is_none() && live.run_at <= now).collect();
        due.sort_by_key(|live| (live.run_at, live.id));
        match due.first() {
            Some(first) if suspects && first.losses > 0 => due.truncate(1),
            _ => due.retain(|live| live.losses == 0),
        }
        due.truncate(limit as usize);
        let claim = self.desk.claim_as(ClaimDue { lowest_first, suspects, ..self.desk.ask(limit) }).await;
        let Some(claim) = claim else {
            assert!(due.is_empty(), "due, but not claimed: {due:?}");
            return;
        };
        assert!(claim.fence > self.last_fence, "fences rise");
        self.last_fence = claim.fence;
        let claimed: Vec<_> = claim.tasks.iter().map(|task| task.id).collect();
        assert_eq!(claimed, due.iter().map(|live| live.id).collect::<Vec<_>>());
        for (live, task) in due.into_iter().zip(&claim.tasks) {
            assert_eq!((task.attempt, task.losses), (live.attempts + 1, live.losses));
            live.fence = Some(claim.fence);
        }
        self.claimed.extend(claim.tasks);
    }

    async fn finish(&mut self, task: &ClaimedTask, disposition: &Disposition) {
        let answer = self.desk.finish(task, disposition.clone()).await;
        let key: u8 = task.key.as_str().parse().expect("a key of ours");
        let now = self.desk.now.0;
        let holder = self.live.get_mut(&key).filter(|live| (live.id, live.fence) == (task.id, Some(task.fence)));
        let Some(live) = holder else {
            if answer == Finished::Applied {
                assert!(self.applied.contains(&(task.id, task.fence)), "applied under a dead fence: {task:?}");
            }
            return;
        };
        assert_eq!(answer, Finished::Applied);
        self.applied.push((task.id, task.fence));
        let due = |after: &Duration| self.desk.now.after(*after).0;
        match disposition {
            Disposition::Retry { after, .. } => {
                live.attempts += 1;
                live.wait(due(after), true);
            }
            Disposition::Postpone { after, .. } | Disposition::Release { after: Some(after) } => {
                live.wait(due(after), false);
            }
            Disposition::Release { after: None } => live.wait(live.run_at, false),
            _ => {
                let successor = live.successor;
                self.live.remove(&key);
                if let Some(due) = successor {
                    let id = self.desk.add(due_at(&key.to_string(), u64::MAX)).await.id();
                    assert!(id > task.id, "a successor has a fresh number");
                    self.live.insert(key, Live::new(id, due));
                }
            }
        }
        assert!(now <= self.desk.now.0);
    }

    async fn crash(&mut self) {
        let running = self.live.values().filter(|live| live.fence.is_some()).count();
        assert_eq!(self.desk.crash().await, running as u64, "no task runs without a batch");
        for live in self.live.values_mut().filter(|live| live.fence.is_some()) {
            live.attempts += u32::from(live.losses > 0);
            live.losses += 1;
            live.wait(live.run_at, false);
        }
    }

    /// One live row a key, each as the model has it.
    async fn compare(&self) {
        let filter = TaskFilter { limit: 10_000, ..TaskFilter::default() };
        let views = self.desk.store.tasks(filter).await.expect("tasks are listed");
        let live: Vec<_> = views.into_iter().filter(|view| view.state.is_live()).collect();
        assert_eq!(live.len(), self.live.len());
        for view in live {
            let model = &self.live[&view.key.parse::<u8>().expect("a key of ours")];
            let running = model.fence.is_some();
            assert_eq!(view.id, model.id);
            assert_eq!(view.state, if running { TaskState::Running } else { TaskState::Pending });
            assert_eq!((view.attempts, view.losses), (model.attempts, model.losses), "{view:?}");
            assert_eq!(view.successor, model.successor.is_some(), "{view:?}");
            assert_eq!(view.run_at.0, model.run_at, "{view:?}");
        }
    }
}
