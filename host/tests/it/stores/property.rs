//! Any order of commands leaves the store as the domain's own rules say
//! ([`Live`]): what the SQL of each store does to a row is compared with what
//! those functions do to a value, step by step.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{Config, TestRunner};
use sweepd::domain::intervention::{Action, Effect, Intervened};
use sweepd::domain::live::{Live, Step};
use sweepd::domain::outcome::{Disposition, Finished};
use sweepd::domain::task::{ClaimedTask, Fence, NewTask, Payload, Priority, TaskId, TaskState};
use sweepd::domain::time::Timestamp;
use sweepd::store::{ClaimDue, Heartbeat, Intervene, TaskFilter};

use super::{Desk, LEASE, StoreHarness, all_dispositions, task, with_payload};

#[derive(Clone, Debug)]
enum Command {
    /// Queue a key, due so many milliseconds from now.
    Enqueue {
        key: u8,
        late: u64,
        priority: Priority,
        payload: Option<u8>,
    },
    Claim {
        limit: u32,
        lowest_first: bool,
        suspects: bool,
    },
    /// Write back one of all tasks ever claimed, also those of dead nodes.
    Finish {
        which: prop::sample::Index,
        disposition: Disposition,
        removed: u64,
        twice: bool,
    },
    /// By hand, to the live task of a key.
    Intervene(Action, u8),
    Crash,
    Advance(u64),
    /// The clock is set back by so many seconds, more than is tolerated.
    SetBack(u64),
}

fn command() -> impl Strategy<Value = Command> {
    let disposition = prop::sample::select(all_dispositions().to_vec());
    let priority = prop::sample::select(Priority::ALL.to_vec());
    let enqueue = (0..6_u8, 0..3_u64, priority, prop::option::of(0..3_u8));
    prop_oneof![
        4 => enqueue.prop_map(|(key, late, priority, payload)| {
            Command::Enqueue { key, late: late * 2000, priority, payload }
        }),
        3 => (0..4_u32, any::<bool>(), prop::bool::weighted(0.8))
            .prop_map(|(limit, lowest_first, suspects)| Command::Claim { limit, lowest_first, suspects }),
        4 => (any::<prop::sample::Index>(), disposition, 0..3_u64, prop::bool::weighted(0.2))
            .prop_map(|(which, disposition, removed, twice)| Command::Finish { which, disposition, removed, twice }),
        1 => (prop::sample::select(Action::ALL.to_vec()), 0..6_u8).prop_map(|(action, key)| Command::Intervene(action, key)),
        1 => Just(Command::Crash),
        2 => (1..4_u64).prop_map(|seconds| Command::Advance(seconds * 1000)),
        1 => (11..15_u64).prop_map(Command::SetBack),
    ]
}

/// The rules beside the store.
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
    for case in 0..16 {
        let commands = prop::collection::vec(command(), 1..60).new_tree(&mut runner).expect("commands").current();
        println!("case {case}: {commands:?}");
        let mut walk = Walk {
            desk: Desk::<H>::open().await,
            live: BTreeMap::new(),
            applied: Vec::new(),
            claimed: Vec::new(),
            last_fence: Fence(0),
        };
        for command in commands {
            walk.take(command).await;
        }
        walk.crash().await;
        walk.compare().await;
        walk.desk.store.close().await;
    }
}

impl<H: StoreHarness> Walk<H> {
    async fn take(&mut self, command: Command) {
        match command {
            Command::Enqueue { key, late, priority, payload } => {
                let text = payload.map(|payload| payload.to_string());
                let task = text.map_or_else(|| task(&key.to_string()), |text| with_payload(&key.to_string(), &text));
                // Now, or a time that is named, which a clock that is set leaves.
                let run_at = (late > 0).then(|| Timestamp(self.desk.now.0 + late));
                self.enqueue(key, NewTask { run_at, priority, ..task }).await;
            }
            Command::Claim { limit, lowest_first, suspects } => self.claim(limit, lowest_first, suspects).await,
            Command::Finish { which, disposition, removed, twice } => {
                if !self.claimed.is_empty() {
                    let task = which.get(&self.claimed).clone();
                    self.finish(&task, &disposition, removed).await;
                    if twice {
                        self.finish(&task, &disposition, removed).await;
                    }
                }
            }
            Command::Intervene(action, key) => self.intervene(action, key).await,
            Command::Crash => self.crash().await,
            Command::Advance(millis) => self.desk.advance(millis),
            Command::SetBack(seconds) => self.set_back(seconds).await,
        }
        self.compare().await;
    }

    async fn enqueue(&mut self, key: u8, task: NewTask) {
        let answer = self.desk.add(task.clone()).await;
        match self.live.get_mut(&key) {
            None => {
                assert!(matches!(answer, sweepd::domain::task::Enqueued::New(_)), "{answer:?}");
                self.live.insert(key, Live::new(answer.id(), &task, self.desk.now));
            }
            Some(live) => assert_eq!(answer, live.enqueue(&task, self.desk.now)),
        }
    }

    async fn claim(&mut self, limit: u32, lowest_first: bool, suspects: bool) {
        let now = self.desk.now;
        let mut due: Vec<_> = self.live.values_mut().filter(|live| live.is_due(now)).collect();
        due.sort_by_key(|live| (live.priority, live.run_at, live.id));
        if lowest_first {
            due.sort_by_key(|live| std::cmp::Reverse(live.priority));
        }
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
            assert_eq!((&task.payload, task.postponed_since), (&live.payload, live.postponed_since));
            assert_eq!(task.removed, live.removed);
            live.claim(claim.fence);
        }
        self.claimed.extend(claim.tasks);
    }

    async fn finish(&mut self, task: &ClaimedTask, disposition: &Disposition, removed: u64) {
        let mut finish = self.desk.finish_of(task, disposition.clone());
        finish.attempt.removed = removed;
        let answer = self.desk.write_back(finish).await;
        let (key, now) = (key_of(task), self.desk.now);
        let step = match self.live.get_mut(&key).filter(|live| live.id == task.id) {
            Some(live) => live.finish(task.fence, disposition, removed, now),
            None => Step::Fenced,
        };
        match step {
            Step::Fenced if answer == Finished::Applied => {
                assert!(self.applied.contains(&(task.id, task.fence)), "applied under a dead fence: {task:?}");
                return;
            }
            Step::Fenced => return,
            Step::Waits => {}
            Step::Ended(_) | Step::Succeeded(_) => self.end(key).await,
        }
        assert_eq!(answer, Finished::Applied);
        self.applied.push((task.id, task.fence));
    }

    /// The row's task has ended; what is left is its successor's.
    async fn end(&mut self, key: u8) {
        let ended = self.live.remove(&key).expect("it was live");
        let last = ended.id;
        if ended.successor.is_some() {
            let id = self.live_id(key).await.expect("a successor has the row");
            assert!(id > last, "a successor has a fresh number");
            self.live.extend(ended.promoted(id).map(|next| (key, next)));
        }
    }

    async fn intervene(&mut self, action: Action, key: u8) {
        let Some(live) = self.live.get_mut(&key) else { return };
        let (id, now) = (live.id, self.desk.now);
        let state = if live.run.is_some() { TaskState::Running } else { TaskState::Pending };
        let ask = Intervene { action, ids: vec![id], why: "as Ada asked".to_owned() };
        let answer = self.desk.store.intervene(ask, self.desk.at()).await.expect("it is answered");
        let expected = match action.on(state) {
            Effect::Refused => Intervened::Refused { state },
            Effect::DueNow => {
                live.make_due(now);
                Intervened::Applied { task: id }
            }
            Effect::Ends(_) => {
                self.live.remove(&key);
                Intervened::Applied { task: id }
            }
            Effect::Asked(end) => {
                live.ask(end);
                Intervened::Interrupting
            }
            Effect::Anew => unreachable!("it is live"),
        };
        assert_eq!(answer, [expected]);
    }

    async fn crash(&mut self) {
        let running: Vec<u8> = self.live.iter().filter(|(_, live)| live.run.is_some()).map(|(key, _)| *key).collect();
        let recovered = self.desk.crash().await;
        let mut waiting = 0;
        for key in running {
            match self.live.get_mut(&key).map_or(Step::Fenced, Live::lose) {
                Step::Ended(_) | Step::Succeeded(_) => self.end(key).await,
                Step::Waits => waiting += 1,
                Step::Fenced => unreachable!("it ran"),
            }
        }
        assert_eq!(recovered, waiting, "no task runs without a batch");
    }

    async fn set_back(&mut self, seconds: u64) {
        self.desk.set_back(seconds * 1000);
        self.desk.draw_in().await;
        self.live.values_mut().for_each(|live| live.draw_in(self.desk.now));
        let held = self.desk.store.heartbeat(self.desk.node, LEASE, self.desk.at()).await;
        assert!(matches!(held, Ok(Heartbeat::Held { .. })), "{held:?}");
    }

    async fn live_id(&self, key: u8) -> Option<TaskId> {
        let views = self.views().await;
        views.iter().find(|view| view.key == key.to_string()).map(|view| view.id)
    }

    async fn views(&self) -> Vec<sweepd::domain::task::TaskView> {
        let filter = TaskFilter { limit: 10_000, ..TaskFilter::default() };
        let views = self.desk.store.tasks(filter).await.expect("tasks are listed");
        views.into_iter().filter(|view| view.state.is_live()).collect()
    }

    /// One live row a key, each as the rules have it.
    async fn compare(&self) {
        let views = self.views().await;
        assert_eq!(views.len(), self.live.len());
        for view in views {
            let live = &self.live[&view.key.parse::<u8>().expect("a key of ours")];
            let state = if live.run.is_some() { TaskState::Running } else { TaskState::Pending };
            assert_eq!((view.id, view.state, view.priority), (live.id, state, live.priority), "{view:?}");
            assert_eq!((view.attempts, view.losses), (live.attempts, live.losses), "{view:?}");
            assert_eq!((view.run_at, view.successor), (live.run_at, live.successor.is_some()), "{view:?}");
            assert_eq!(view.payload.as_deref(), live.payload.as_ref().map(Payload::as_str), "{view:?}");
        }
    }
}

fn key_of(task: &ClaimedTask) -> u8 {
    task.key.as_str().parse().expect("a key of ours")
}
