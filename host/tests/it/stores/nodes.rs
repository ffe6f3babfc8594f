//! Lives of nodes: what a crash costs, and what a good end does not.

use sweepd::domain::digest::Digest;
use sweepd::domain::job::JobName;
use sweepd::domain::node::Holding;
use sweepd::domain::outcome::{Disposition, Finished};
use sweepd::domain::task::TaskState;
use sweepd::store::{ClaimDue, Heartbeat, StoreError};

use super::{Desk, LEASE, StoreHarness, postpone_by, register, retry_in, task};

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
        assert_eq!(desk.store.heartbeat(desk.node, LEASE, desk.at()).await, Ok(Heartbeat::Held { asked: 0 }));
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

pub(super) async fn a_paused_job_is_not_claimed(desk: Desk<impl StoreHarness>) {
    desk.new_task("a").await;
    desk.store.set_paused(desk.job, Some("disk is being moved")).await.expect("it pauses");
    assert_eq!(desk.claim(10).await, None);
    let rows = desk.store.jobs().await.expect("jobs are listed");
    let rows: Vec<_> = rows.iter().map(|row| (row.name.as_str(), row.paused.as_deref())).collect();
    assert_eq!(rows, [("video-clear", Some("disk is being moved"))]);
    desk.store.set_paused(desk.job, None).await.expect("it goes on");
    desk.claim_one().await;
}

pub(super) async fn who_lives_is_listed(mut desk: Desk<impl StoreHarness>) {
    desk.enqueue(vec![task("a"), task("b"), task("c")]).await;
    desk.claim(2).await.expect("three are due");
    let nodes = desk.store.nodes(desk.at()).await.expect("nodes are listed");
    let [node] = nodes.as_slice() else { panic!("one lives: {nodes:?}") };
    assert_eq!((node.id, node.name.as_str(), node.version.as_str()), (desk.node, "a", "0.1.0"));
    assert_eq!((node.started_at, node.labels.as_slice()), (desk.now, ["disk-a".to_owned()].as_slice()));
    assert_eq!(node.holds, [Holding { job: "video-clear".to_owned(), tasks: 2 }]);
    desk.crash().await;
    let nodes = desk.store.nodes(desk.at()).await.expect("nodes are listed");
    assert_eq!(nodes.iter().map(|node| node.id).collect::<Vec<_>>(), [desk.node], "the dead are not");
    assert_eq!(nodes[0].holds, []);
}

pub(super) async fn what_is_not_held_is_released(desk: Desk<impl StoreHarness>) {
    desk.enqueue(vec![task("a"), task("b"), task("c")]).await;
    let held = desk.claim(1).await.expect("three are due");
    let unheld = desk.claim(1).await.expect("two are due");
    let released = desk.store.release_unheld(desk.node, desk.job, &[held.fence], desk.at()).await;
    assert_eq!(released, Ok(1));
    assert_eq!(desk.finish(&unheld.tasks[0], Disposition::Done(None)).await, Finished::Fenced);
    assert_eq!(desk.finish(&held.tasks[0], Disposition::Done(None)).await, Finished::Applied);
    let view = desk.view(unheld.tasks[0].id).await;
    assert_eq!((view.state, view.losses, view.attempts), (TaskState::Pending, 0, 0));
    assert_eq!(desk.store.release_unheld(desk.node, desk.job, &[], desk.at()).await, Ok(0));
}

pub(super) async fn each_attempt_is_on_record(mut desk: Desk<impl StoreHarness>) {
    let id = desk.new_task("a").await;
    desk.claim_one().await;
    desk.crash().await;
    desk.claim_one().await;
    desk.crash().await;
    for disposition in [retry_in(1), postpone_by(1), Disposition::Done(Some("at last".to_owned()))] {
        let claimed = desk.claim_one().await;
        desk.advance(10);
        desk.finish(&claimed, disposition).await;
        desk.advance(2000);
    }
    let attempts = desk.store.attempts(id).await.expect("attempts are listed");
    let outcomes: Vec<_> = attempts.iter().map(|attempt| (attempt.number, attempt.outcome.as_str())).collect();
    assert_eq!(outcomes, [(1, "lost"), (2, "failed"), (3, "done")], "a loss among others and a postponement are none");
    assert!(attempts.iter().all(|attempt| attempt.node.as_deref() == Some("a")));
    assert_eq!(attempts[1].note.as_deref(), Some("no luck"));
    assert_eq!((attempts[1].digest, attempts[2].digest), (Some(Digest::of(b"a component")), attempts[1].digest));
    assert_eq!(attempts[2].note.as_deref(), Some("at last"));
    assert_eq!(desk.view(id).await.node.as_deref(), Some("a"));
    assert_eq!(desk.store.attempts(sweepd::domain::task::TaskId(999)).await, Ok(Vec::new()));
}
