//! Lives of nodes: what a crash costs, and what a good end does not.

use sweepd::domain::job::JobName;
use sweepd::domain::outcome::{Disposition, Finished};
use sweepd::domain::task::TaskState;
use sweepd::store::{ClaimDue, Heartbeat, StoreError};

use super::{Desk, LEASE, StoreHarness, register, task};

pub(super) async fn a_crash_is_a_loss(mut desk: Desk<impl StoreHarness>) {
    let other = register(&desk.store, "other").await;
    desk.enqueue(vec![task("a"), task("b"), task("waits")]).await;
    desk.try_enqueue(other, vec![task("c")]).await.expect("it is queued");
    let claim = desk.claim(2).await.expect("three are due");
    desk.claim_as(ClaimDue { job: other, ..desk.ask(1) }).await.expect("one is due");
    assert_eq!(desk.crash().await, 3);
    for task in &claim.tasks {
        let view = desk.view(task.id).await;
        assert_eq!((view.state, view.losses, view.attempts), (TaskState::Pending, 1, 0));
        assert!(view.note.expect("it says why").contains("lost"));
    }
    assert_eq!(desk.claim_keys(10).await, ["a"], "first come, but alone");
    assert_eq!(desk.crash().await, 1, "only what ran is recovered");
}

pub(super) async fn a_good_end_is_none(mut desk: Desk<impl StoreHarness>) {
    let id = desk.new_task("a").await;
    let before = desk.view(id).await;
    let claimed = desk.claim_one().await;
    desk.store.end_incarnation(desk.node, desk.at()).await.expect("a life ends");
    assert_eq!(desk.view(id).await, before);
    assert_eq!(desk.finish(&claimed, Disposition::Done(None)).await, Finished::Fenced);
    assert_eq!(desk.crash().await, 0);
    assert_eq!(desk.claim_one().await.losses, 0);
}

pub(super) async fn a_lost_node_is_fenced(mut desk: Desk<impl StoreHarness>) {
    desk.new_task("a").await;
    let claimed = desk.claim_one().await;
    let dead = desk.node;
    desk.crash().await;
    assert_eq!(desk.store.heartbeat(dead, LEASE, desk.at()).await, Ok(Heartbeat::Lost));
    assert_eq!(desk.finish(&claimed, Disposition::Done(None)).await, Finished::Fenced);
    let answer = desk.store.claim_due(ClaimDue { node: dead, ..desk.ask(10) }).await;
    assert!(matches!(answer, Err(StoreError::Rejected(_))), "{answer:?}");
    assert_eq!(desk.claim_keys(10).await, ["a"]);
}

pub(super) async fn a_loss_alone_is_an_attempt(mut desk: Desk<impl StoreHarness>) {
    let id = desk.new_task("a").await;
    desk.claim_one().await;
    desk.crash().await;
    for lost in 1..=3 {
        let claimed = desk.claim_one().await;
        assert_eq!((claimed.losses, claimed.attempt), (lost, lost), "its start is on record");
        desk.crash().await;
        let view = desk.view(id).await;
        assert_eq!((view.losses, view.attempts), (lost + 1, lost));
    }
    // A release of a task that runs alone is neither.
    let claimed = desk.claim_one().await;
    desk.finish(&claimed, Disposition::Release { after: None }).await;
    desk.crash().await;
    let view = desk.view(id).await;
    assert_eq!((view.losses, view.attempts), (4, 3));
}

pub(super) async fn a_loss_among_others_is_none(mut desk: Desk<impl StoreHarness>) {
    // Alone by chance is not alone on record.
    let id = desk.new_task("a").await;
    desk.claim_one().await;
    desk.crash().await;
    assert_eq!(desk.view(id).await.attempts, 0);
}

pub(super) async fn finished_tasks_are_not_recovered(mut desk: Desk<impl StoreHarness>) {
    desk.enqueue(vec![task("a"), task("b")]).await;
    let claim = desk.claim(10).await.expect("two are due");
    desk.finish(&claim.tasks[1], Disposition::Done(None)).await;
    assert_eq!(desk.crash().await, 1);
    assert_eq!(desk.claim_keys(10).await, ["a"]);
}

pub(super) async fn a_heartbeat_holds(mut desk: Desk<impl StoreHarness>) {
    for _ in 0..3 {
        assert_eq!(desk.store.heartbeat(desk.node, LEASE, desk.at()).await, Ok(Heartbeat::Held));
        desk.advance(2000);
    }
    desk.store.end_incarnation(desk.node, desk.at()).await.expect("a life ends");
    assert_eq!(desk.store.heartbeat(desk.node, LEASE, desk.at()).await, Ok(Heartbeat::Lost));
}

pub(super) async fn pauses_and_jobs_are_durable(mut desk: Desk<impl StoreHarness>) {
    let name = JobName::new("video-clear").expect("a good name");
    desk.store.set_paused(desk.job, Some("disk is being moved")).await.expect("it pauses");
    desk.crash().await;
    let row = desk.store.register_job(&name).await.expect("it is known");
    assert_eq!((row.id, row.paused.as_deref()), (desk.job, Some("disk is being moved")));
    desk.store.set_paused(desk.job, None).await.expect("it goes on");
    desk.reopen().await;
    let row = desk.store.register_job(&name).await.expect("it is known");
    assert_eq!((row.id, row.paused), (desk.job, None));
    assert_ne!(register(&desk.store, "other").await, desk.job);
}
