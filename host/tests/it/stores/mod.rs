//! One conformance suite for every store: what [`Store`] promises, checked
//! against each database through the trait alone.
//!
//! A database joins with a [`StoreHarness`] and one line at the end of this
//! file. [`conformance!`] lists all checks; one that is not listed is unused
//! code, which does not pass `clippy`.

use std::future::Future;
use std::time::Duration;

use sweepd::domain::digest::Digest;
use sweepd::domain::job::{JobId, JobName};
use sweepd::domain::node::{LeaseTerm, NewNode, NodeId};
use sweepd::domain::outcome::{Attempt, Disposition, Finish, Finished};
use sweepd::domain::task::{ClaimedTask, Enqueued, Key, NewTask, Payload, TaskId, TaskView};
use sweepd::domain::time::Timestamp;
use sweepd::store::{At, Claim, ClaimDue, SharedStore, StoreError, TakeScan, WriteBack};

mod accounts;
mod claim;
mod clock;
mod effects;
mod enqueue;
mod finish;
mod group;
mod growth;
mod guard;
mod holds;
mod housekeeping;
mod interventions;
mod keys;
mod listing;
mod mysql;
mod nodes;
mod older;
mod plan;
mod plans;
mod pooler;
mod postgres;
mod property;
mod requests;
mod scan;
pub(crate) mod servers;
mod sessions;
mod shared;
mod sqlite;
mod successor;

pub(crate) use mysql::MySqlHarness;
pub(crate) use postgres::PostgresHarness;

/// A database of its own for one check; it goes when this is dropped.
pub(crate) trait StoreHarness: Send + Sync + Sized + 'static {
    /// Whether the database's server is there; where it is not, that was said.
    fn ready() -> impl Future<Output = bool> + Send {
        std::future::ready(true)
    }

    /// An empty database.
    fn fresh() -> impl Future<Output = Self> + Send;

    /// Opens it as a host does. Whoever opened it before has closed it.
    fn open(&self) -> impl Future<Output = SharedStore> + Send;

    /// Opens it only to be looked at.
    fn open_read_only(&self) -> impl Future<Output = Result<SharedStore, StoreError>> + Send;
}

/// A database that nodes share: several may have it open.
pub(crate) trait SharedHarness: StoreHarness {
    /// Whether a node hears at once what another one queued.
    const TELLS: bool;

    /// Where the database is, as a configuration names it.
    fn url(&self) -> String;
}

/// The lease of every incarnation here.
const LEASE: LeaseTerm = LeaseTerm(Duration::from_secs(6));

/// A node of this name.
fn node(name: &str) -> NewNode {
    NewNode { name: name.to_owned(), labels: vec!["disk-a".to_owned()], version: "0.1.0".to_owned(), lease: LEASE }
}

/// A store with one job and one node, and a clock that is moved by hand.
pub(crate) struct Desk<H> {
    harness: H,
    store: SharedStore,
    job: JobId,
    node: NodeId,
    now: Timestamp,
}

impl<H: StoreHarness> Desk<H> {
    async fn open() -> Self {
        let harness = H::fresh().await;
        let store = harness.open().await;
        let now = Timestamp(1_000_000);
        let job = register(&store, "video-clear").await;
        let begun = store.begin_incarnation(node("a"), At::Fixed(now)).await;
        let node = begun.expect("a first life begins").node;
        Self { harness, store, job, node, now }
    }

    fn at(&self) -> At {
        At::Fixed(self.now)
    }

    fn advance(&mut self, millis: u64) {
        self.now = Timestamp(self.now.0 + millis);
    }

    /// Closes the store and opens it again, in good order but without ending
    /// the incarnation.
    async fn reopen(&mut self) {
        self.store.close().await;
        self.store = self.harness.open().await;
    }

    /// All nodes die, their leases end, and this one comes back; answers what
    /// was recovered.
    async fn crash(&mut self) -> u64 {
        self.reopen().await;
        let ended = At::Fixed(LEASE.ends(self.now));
        let reaped = self.store.reap(ended).await.expect("the dead are reaped");
        let begun = self.store.begin_incarnation(node("a"), self.at()).await;
        let incarnation = begun.expect("a node comes back");
        assert!(incarnation.node > self.node, "numbers of lives rise");
        self.node = incarnation.node;
        reaped.tasks + incarnation.recovered
    }

    /// The desk's node is the one that scans.
    async fn scanning(self) -> Self {
        let take = TakeScan { job: self.job, node: self.node, scheduled: None };
        self.store.take_scan(take, self.at()).await.expect("the scan is free");
        self
    }

    async fn try_enqueue(&self, job: JobId, tasks: Vec<NewTask>) -> Result<Vec<Enqueued>, StoreError> {
        self.store.enqueue(job, tasks, self.at()).await
    }

    async fn enqueue(&self, tasks: Vec<NewTask>) -> Vec<Enqueued> {
        self.try_enqueue(self.job, tasks).await.expect("tasks are queued")
    }

    async fn add(&self, task: NewTask) -> Enqueued {
        self.enqueue(vec![task]).await[0]
    }

    /// A new task with this key, due now.
    async fn new_task(&self, key: &str) -> TaskId {
        match self.add(task(key)).await {
            Enqueued::New(id) => id,
            other => panic!("`{key}` is not new: {other:?}"),
        }
    }

    fn ask(&self, limit: u32) -> ClaimDue {
        ClaimDue { job: self.job, node: self.node, horizon: self.now, limit, lowest_first: false, suspects: true }
    }

    async fn claim_as(&self, ask: ClaimDue) -> Option<Claim> {
        self.store.claim_due(ask).await.expect("a claim is answered")
    }

    async fn claim(&self, limit: u32) -> Option<Claim> {
        self.claim_as(self.ask(limit)).await
    }

    /// Claims what must be exactly one task.
    async fn claim_one(&self) -> ClaimedTask {
        let claim = self.claim(10).await.expect("a task is due");
        let [task] = claim.tasks.try_into().expect("just one task is due");
        task
    }

    /// Claims `limit` and answers their keys in order.
    async fn claim_keys(&self, limit: u32) -> Vec<String> {
        let claim = self.claim(limit).await;
        claim.map_or_else(Vec::new, |claim| keys(&claim.tasks))
    }

    /// The write-back of one task as its executor would make it.
    fn finish_of(&self, task: &ClaimedTask, disposition: Disposition) -> Finish {
        let attempt = Attempt {
            number: task.attempt,
            node: self.node,
            started: self.now,
            ended: self.now,
            digest: Some(Digest::of(b"a component")),
            removed: 0,
        };
        Finish { id: task.id, fence: task.fence, disposition, attempt }
    }

    async fn write_back(&self, finish: Finish) -> Finished {
        let closed = vec![finish.fence];
        let finishes = vec![finish];
        let answer = self.store.finish(WriteBack { finishes, closed, effects: Vec::new() }, self.at()).await;
        answer.expect("a write-back is answered")[0]
    }

    async fn finish(&self, task: &ClaimedTask, disposition: Disposition) -> Finished {
        self.write_back(self.finish_of(task, disposition)).await
    }

    async fn view(&self, id: TaskId) -> TaskView {
        self.store.task(id).await.expect("a task is looked up").expect("the task is known")
    }
}

async fn register(store: &SharedStore, name: &str) -> JobId {
    let name = JobName::new(name).expect("a good name");
    store.register_job(&name).await.expect("a job is registered").id
}

fn task(key: &str) -> NewTask {
    NewTask::now(Key::new(key).expect("a good key"))
}

fn with_payload(key: &str, payload: &str) -> NewTask {
    NewTask { payload: Some(Payload::new(payload).expect("a good payload")), ..task(key) }
}

fn due_at(key: &str, millis: u64) -> NewTask {
    NewTask { run_at: Some(Timestamp(millis)), ..task(key) }
}

fn keys(tasks: &[ClaimedTask]) -> Vec<String> {
    tasks.iter().map(|task| task.key.as_str().to_owned()).collect()
}

fn retry_in(seconds: u64) -> Disposition {
    Disposition::Retry { after: Duration::from_secs(seconds), error: "no luck".to_owned() }
}

fn postpone_by(seconds: u64) -> Disposition {
    Disposition::Postpone { after: Duration::from_secs(seconds), reason: Some("too early".to_owned()) }
}

/// Every disposition, with the delays of those that wait.
fn all_dispositions() -> [Disposition; 8] {
    [
        Disposition::Done(None),
        Disposition::Skipped("gone already".to_owned()),
        Disposition::Bury("never".to_owned()),
        Disposition::Cancel("not wanted".to_owned()),
        retry_in(5),
        postpone_by(5),
        Disposition::Release { after: None },
        Disposition::Release { after: Some(Duration::from_secs(5)) },
    ]
}

/// Makes a test of each check, for one store.
macro_rules! conformance {
    ($harness:ty) => {
        conformance! { $harness =>
            enqueue {
                a_new_task_is_pending, a_pending_key_answers_its_task, a_payload_given_replaces,
                the_higher_priority_wins, the_earlier_run_at_wins, a_backoff_is_not_shortened,
                a_postponement_is_shortened, a_key_twice_in_one_call, jobs_do_not_share_keys,
                an_unknown_job_is_rejected, nothing_is_queued_by_nothing, queued_is_durable,
                numbers_are_never_used_again, a_large_call_is_one,
            }
            claim {
                urgent_first_then_the_oldest, the_lowest_first_when_asked, the_horizon_and_the_limit_hold,
                nothing_due_is_none, what_runs_is_not_claimed, fences_rise, attempts_count_from_one,
                a_task_with_losses_comes_alone, a_task_with_losses_waits_for_its_turn, a_task_with_losses_waits_unless_allowed,
                claims_at_once_share_nothing, another_jobs_tasks_stay, a_claim_carries_the_task,
            }
            finish {
                an_ended_task_is_in_history, each_end_has_its_state, a_discard_is_no_attempt,
                a_retry_waits_its_backoff, a_postponement_is_no_attempt, a_chain_of_postponements_has_a_start,
                what_was_removed_adds_up_and_begins_the_chain_anew,
                a_release_leaves_no_trace, a_release_may_wait, repeated_it_answers_the_same,
                a_retry_is_known_after_the_next_claim, another_fence_is_refused, a_stranger_is_refused,
                answers_keep_the_order, a_closed_batch_with_running_tasks_stays, an_ended_key_is_free,
                finished_is_durable,
            }
            successor {
                a_running_key_keeps_one, requests_merge, every_end_promotes, a_promoted_task_is_new,
                a_retry_takes_it_in, a_request_without_payload_replaces_none, a_postponement_takes_it_in, a_release_takes_it_in, a_loss_takes_it_in,
                it_is_durable, the_old_write_back_may_be_repeated,
            }
            nodes {
                a_crash_is_a_loss, a_good_end_is_none, a_lost_node_is_fenced, a_loss_alone_is_an_attempt,
                a_loss_among_others_is_none, finished_tasks_are_not_recovered, a_heartbeat_holds,
                pauses_and_jobs_are_durable, a_paused_job_is_not_claimed, who_lives_is_listed, what_is_not_held_is_released,
                each_attempt_is_on_record,
            }
            interventions {
                what_waits_ends, what_runs_is_asked_to_end, what_was_asked_survives_a_crash, what_ended_is_queued_anew,
                a_backoff_is_cut_short, senseless_ones_are_refused, a_retry_of_a_live_key_is_that_task,
                all_that_match_are_taken_page_by_page,
            }
            requests { done_once, another_content_is_a_mistake, forgotten_after_a_day, asked_at_once_done_once }
            scan { one_node_scans, a_time_is_scanned_until_its_scan_ended, only_who_scans_discovers }
            housekeeping { old_history_goes, little_by_little, requests_go }
            plan {
                everything_at_once, a_cursor_is_its_components, a_refused_plan_leaves_nothing,
                a_fenced_finish_spoils_nothing,
            }
            keys { bytes_make_the_key, the_longest_key_and_payload }
            group {
                callers_at_once_are_all_answered, a_bad_call_fails_alone, a_dropped_call_is_stored_whole,
                a_closed_store_says_so, an_open_store_can_be_used,
            }
            listing {
                pages_ascend, a_large_job_is_paged, states_are_told_apart, jobs_are_told_apart, the_backlog_counts,
                the_next_due_is_the_first, an_unknown_task_is_none,
            }
            effects {
                they_stand_as_they_were, a_write_back_brings_them, told_again_they_stay, what_was_unknown_is_learned,
                filters_are_told_apart, pages_follow_the_time, costs_are_summed_up, a_fate_is_settled_once,
                settled_at_once_by_two_it_counts_once, what_is_old_and_not_kept_goes, many_come_at_once,
                told_by_several_at_once,
            }
            holds {
                they_stand_until_they_end, one_is_removed_once, the_same_is_put_in_place_once, there_are_not_too_many,
                ended_ones_are_forgotten,
            }
            growth { what_is_made_is_summed_up, what_is_folded_only_grows, the_oldest_go_where_all_are_too_much }
            guard {
                a_mount_is_known, a_permission_is_taken_once, what_is_due_is_seen_in_order,
                it_is_seen_as_a_claim_would_have_it, a_reader_changes_nothing,
            }
            clock {
                what_was_now_is_due_now, a_wait_counts_from_now, a_successor_is_due_now, a_named_time_stays,
                a_schedule_goes_on, a_request_is_kept_and_goes, effects_keep_their_order, a_trash_counts_from_now,
                a_removed_hold_stays_removed, old_history_goes_all_the_same, what_is_not_ahead_stays,
                it_is_done_little_by_little,
            }
            property { any_order_is_legal }
            accounts { any_order_is_legal }
        }
    };
    ($harness:ty => $($module:ident { $($check:ident),+ $(,)? })+) => {
        $(
            mod $module {
                use super::super::{Desk, StoreHarness, $module};
                $(
                    #[tokio::test]
                    async fn $check() {
                        if <$harness as StoreHarness>::ready().await {
                            $module::$check(Desk::<$harness>::open().await).await;
                        }
                    }
                )+
            }
        )+
    };
}

/// Makes a test of each check that only a database of many nodes must pass.
macro_rules! conformance_of_shared {
    ($harness:ty) => {
        conformance! { $harness =>
            shared {
                an_ended_lease_is_reaped_once, a_held_lease_is_not, a_dead_node_cannot_claim, what_a_late_node_writes_is_refused,
                nodes_share_the_work, many_claimers_take_each_task_once, opened_at_once, one_wakes_the_other,
                the_clock_is_the_databases, a_lease_is_no_longer_than_it_is,
            }
        }
    };
}

mod on_sqlite {
    conformance!(super::super::sqlite::SqliteHarness);
}

mod on_postgres {
    conformance!(super::super::postgres::PostgresHarness);
    conformance_of_shared!(super::super::postgres::PostgresHarness);
}

mod on_mysql {
    conformance!(super::super::mysql::MySqlHarness);
    conformance_of_shared!(super::super::mysql::MySqlHarness);
}
