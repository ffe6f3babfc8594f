//! What else the guarded sandbox asks: by what a mount is known, whether a
//! sweep may go over its budget, what is due, and to look without a change.

use sweepd::domain::effect::{EffectId, Fate};
use sweepd::domain::hold::{HoldId, Pattern};
use sweepd::domain::job::{JobId, JobName};
use sweepd::domain::node::NodeId;
use sweepd::domain::outcome::Disposition;
use sweepd::domain::task::{Fence, NewTask, Priority};
use sweepd::domain::time::Timestamp;
use sweepd::store::{
    ApplyPlan, ClaimDue, EffectFilter, EndScan, Intervene, NewHold, PeekDue, Prune, StoreError, TakeScan, TaskFilter,
    WriteBack,
};

use super::effects::all;
use super::{Desk, LEASE, StoreHarness, due_at, node, register, retry_in, task, with_payload};

pub(super) async fn a_mount_is_known(mut desk: Desk<impl StoreHarness>) {
    let other = register(&desk.store, "other").await;
    let id = async |desk: &Desk<_>, job, at: &str| desk.store.mount_id(job, at).await.expect("it is answered");
    assert_eq!(id(&desk, desk.job, "/videos").await, None);
    desk.store.set_mount_id(desk.job, "/videos", "one").await.expect("it is kept");
    desk.store.set_mount_id(desk.job, "/Videos", "two").await.expect("it is kept");
    desk.store.set_mount_id(other, "/videos", "three").await.expect("it is kept");
    desk.store.set_mount_id(desk.job, "/videos", "four").await.expect("it is kept");
    desk.reopen().await;
    assert_eq!(id(&desk, desk.job, "/videos").await.as_deref(), Some("four"));
    assert_eq!(id(&desk, desk.job, "/Videos").await.as_deref(), Some("two"));
    assert_eq!(id(&desk, other, "/videos").await.as_deref(), Some("three"));
    assert_eq!(id(&desk, desk.job, "/videos ").await, None);
    let nobody = desk.store.set_mount_id(JobId(99), "/videos", "x").await;
    assert!(matches!(nobody, Err(StoreError::Rejected(_))), "{nobody:?}");
}

impl<H: StoreHarness> Desk<H> {
    /// Why the job is paused, and whether it may go over its budget.
    async fn standing(&self) -> (Option<String>, bool) {
        let jobs = self.store.jobs().await.expect("jobs are listed");
        let row = jobs.into_iter().find(|row| row.id == self.job).expect("the job is there");
        (row.paused, row.once_over_budget)
    }

    async fn pause(&self) {
        self.store.set_paused(self.job, Some("over budget")).await.expect("it is paused");
    }

    async fn resume(&self, once_over_budget: bool) {
        self.store.resume(self.job, once_over_budget).await.expect("it goes on");
    }
}

pub(super) async fn a_permission_is_taken_once(mut desk: Desk<impl StoreHarness>) {
    let take = async |desk: &Desk<_>| desk.store.take_allowance(desk.job).await.expect("it is answered");
    assert!(!take(&desk).await);
    desk.pause().await;
    desk.resume(false).await;
    assert_eq!(desk.standing().await, (None, false));
    desk.pause().await;
    desk.resume(true).await;
    desk.resume(true).await;
    assert_eq!(desk.standing().await, (None, true));
    desk.pause().await;
    desk.reopen().await;
    assert_eq!(desk.standing().await, (Some("over budget".to_owned()), true), "a pause takes it not away");
    desk.resume(false).await;
    assert_eq!(desk.standing().await, (None, true));
    let name = JobName::new("video-clear").expect("a good name");
    assert!(desk.store.register_job(&name).await.expect("it is there").once_over_budget);
    let takers = [(); 4].map(|()| desk.store.take_allowance(desk.job));
    let taken = futures_of(takers).await;
    assert_eq!(taken, 1, "once, whoever asks");
    assert_eq!(desk.standing().await, (None, false));
    assert!(!take(&desk).await);
    let nobody = desk.store.resume(JobId(99), true).await;
    assert!(matches!(nobody, Err(StoreError::Rejected(_))), "{nobody:?}");
}

/// How many of four calls at once were answered with true.
async fn futures_of(calls: [impl Future<Output = Result<bool, StoreError>>; 4]) -> usize {
    let [one, two, three, four] = calls;
    let (one, two, three, four) = tokio::join!(one, two, three, four);
    [one, two, three, four].into_iter().filter(|taken| *taken.as_ref().expect("it is answered")).count()
}

impl<H: StoreHarness> Desk<H> {
    /// The keys of all that is due, page by page, with what was seen of each.
    async fn peeked(&self, limit: u32) -> Vec<String> {
        let (mut keys, mut after) = (Vec::new(), None);
        loop {
            let peek = PeekDue { job: self.job, horizon: self.now, after, limit };
            let peeked = self.store.peek_due(peek).await.expect("it is answered");
            assert!(peeked.tasks.iter().all(|task| task.fence == Fence(0)));
            keys.extend(super::keys(&peeked.tasks));
            match peeked.next {
                Some(next) => after = Some(next),
                None => return keys,
            }
        }
    }
}

pub(super) async fn what_is_due_is_seen_in_order(desk: Desk<impl StoreHarness>) {
    let other = register(&desk.store, "other").await;
    desk.try_enqueue(other, vec![task("others")]).await.expect("it is queued");
    let now = desk.now.0;
    let of = |key: &str, priority| NewTask { priority, ..task(key) };
    desk.enqueue(vec![
        of("low", Priority::Low),
        of("urgent", Priority::Urgent),
        task("c"),
        task("d"),
        of("high", Priority::High),
        due_at("later", now + 1),
        due_at("older", now - 5),
        due_at("oldest", now - 9),
        of("low 2", Priority::Low),
    ])
    .await;
    desk.pause().await;
    let wanted = ["urgent", "high", "oldest", "older", "c", "d", "low", "low 2"];
    for limit in [1, 2, 3, 4, 8, 100] {
        assert_eq!(desk.peeked(limit).await, wanted, "{limit} a page");
    }
    assert_eq!(desk.claim(100).await, None, "the job is paused");
    desk.resume(false).await;
    assert_eq!(desk.claim_keys(100).await, wanted, "a claim takes the same");
    assert_eq!(desk.peeked(3).await, [""; 0], "what runs is not due");
}

pub(super) async fn it_is_seen_as_a_claim_would_have_it(mut desk: Desk<impl StoreHarness>) {
    desk.add(with_payload("a", "{}")).await;
    let claimed = desk.claim_one().await;
    desk.finish(&claimed, retry_in(1)).await;
    desk.advance(1000);
    desk.new_task("lost").await;
    desk.claim(10).await.expect("two are due");
    desk.crash().await;
    desk.new_task("b").await;
    let peek = PeekDue { job: desk.job, horizon: desk.now, after: None, limit: 10 };
    let peeked = desk.store.peek_due(peek).await.expect("it is answered");
    assert_eq!(super::keys(&peeked.tasks), ["a", "lost", "b"]);
    for seen in peeked.tasks {
        let mut claim = desk.claim(1).await.expect("it is due");
        let mut claimed = claim.tasks.pop().expect("one task");
        desk.finish(&claimed, Disposition::Done(None)).await;
        claimed.fence = Fence(0);
        assert_eq!(seen, claimed);
    }
}

/// A reader beside a host sees all that the host does, and can do nothing.
pub(super) async fn a_reader_changes_nothing(desk: Desk<impl StoreHarness>) {
    let id = desk.new_task("a").await;
    desk.claim(1).await.expect("it is due");
    desk.record(vec![desk.removal(1)]).await;
    let reader = desk.harness.open_read_only().await.expect("it opens");
    assert_eq!(reader.check().await, Ok(()));
    let (job, now, at) = (desk.job, desk.now, desk.at());
    let pattern = Pattern::new("a").expect("a pattern");
    let hold = NewHold { job, pattern, until: None, why: String::new() };
    let plan = ApplyPlan { job, node: desk.node, finishes: Vec::new(), discoveries: Vec::new(), cursor: None };
    let intervene =
        Intervene { action: sweepd::domain::intervention::Action::Cancel, ids: vec![id], why: String::new() };
    let claim = ClaimDue { job, node: desk.node, horizon: now, limit: 1, lowest_first: false, suspects: true };
    let prune = Prune { ended_before: now, effects_before: now, limit: 10 };
    let effect = EffectId { journal: 1, number: 1 };
    let name = JobName::new("new").expect("a good name");
    let refused = [
        reader.begin_incarnation(node("b"), at).await.err(),
        reader.heartbeat(desk.node, LEASE, at).await.err(),
        reader.end_incarnation(desk.node, at).await.err(),
        reader.release_unheld(desk.node, job, &[], at).await.err(),
        reader.register_job(&name).await.err(),
        reader.set_paused(job, Some("x")).await.err(),
        reader.resume(job, true).await.err(),
        reader.take_allowance(job).await.err(),
        reader.take_scan(TakeScan { job, node: NodeId(1), scheduled: None }, at).await.err(),
        reader.end_scan(EndScan { job, node: NodeId(1), scheduled: now }).await.err(),
        reader.give_up_scan(job, desk.node).await.err(),
        reader.enqueue(job, vec![task("b")], at).await.err(),
        reader.claim_due(claim).await.err(),
        reader.finish(WriteBack { effects: vec![desk.removal(2)], ..WriteBack::default() }, at).await.err(),
        reader.apply_plan(plan, at).await.err(),
        reader.intervene(intervene, at).await.err(),
        reader.record_effects(vec![desk.removal(2)], at).await.err(),
        reader.settle(&[effect], Fate::Purged, at).await.err(),
        reader.add_hold(hold, at).await.err(),
        reader.remove_hold(job, HoldId(1), at).await.err(),
        reader.set_mount_id(job, "/", "x").await.err(),
        reader.prune(prune, at).await.err(),
        reader.forget_oldest(1, 1).await.err(),
    ];
    for (nth, error) in refused.into_iter().enumerate() {
        assert!(matches!(&error, Some(StoreError::Rejected(told)) if told.contains("read only")), "{nth}: {error:?}");
    }
    // What the host writes later is seen.
    desk.new_task("b").await;
    let listed = reader.tasks(TaskFilter { limit: 10, ..TaskFilter::default() }).await.expect("tasks are listed");
    assert_eq!(listed.iter().map(|task| task.key.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    let peek = PeekDue { job, horizon: now, after: None, limit: 10 };
    assert_eq!(reader.peek_due(peek).await, desk.store.peek_due(peek).await);
    assert_eq!(reader.effects(all()).await, desk.store.effects(all()).await);
    assert_eq!(reader.effects(EffectFilter { limit: 1, ..all() }).await.map(|effects| effects.len()), Ok(1));
    assert_eq!(reader.jobs().await, desk.store.jobs().await);
    assert_eq!(reader.spent(job, Timestamp(0), None).await.map(|spent| spent.files), Ok(1));
    reader.close().await;
    assert!(desk.claim(10).await.is_some(), "the host goes on");
    desk.store.close().await;
    // And where no host runs.
    let reader = desk.harness.open_read_only().await.expect("it opens");
    assert_eq!(reader.jobs().await.map(|jobs| jobs.len()), Ok(1));
    reader.close().await;
}
