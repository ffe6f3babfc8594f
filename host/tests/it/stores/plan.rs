//! An accepted plan is applied as a whole.

use sweepd::domain::digest::Digest;
use sweepd::domain::job::JobId;
use sweepd::domain::outcome::{Disposition, Finished};
use sweepd::domain::task::{Enqueued, TaskState};
use sweepd::store::{ApplyPlan, CursorUpdate, StoreError};

use super::{Desk, StoreHarness, postpone_by, task};

pub(super) async fn everything_at_once(desk: Desk<impl StoreHarness>) {
    let desk = desk.scanning().await;
    desk.enqueue(vec![task("a"), task("b"), task("c")]).await;
    let claim = desk.claim(10).await.expect("three are due");
    let digest = Digest::of(b"v1");
    let plan = ApplyPlan {
        job: desk.job,
        node: desk.node,
        finishes: vec![
            desk.finish_of(&claim.tasks[0], postpone_by(60)),
            desk.finish_of(&claim.tasks[1], Disposition::Cancel("not wanted".to_owned())),
        ],
        discoveries: vec![task("found"), task("c"), task("b")],
        cursor: Some(CursorUpdate { digest, cursor: Some("page 2".to_owned()) }),
    };
    let applied = desk.store.apply_plan(plan, desk.at()).await.expect("it is applied");
    assert_eq!(applied.finished, [Finished::Applied, Finished::Applied]);
    assert!(matches!(applied.enqueued[0], Enqueued::New(_)));
    assert_eq!(applied.enqueued[1], Enqueued::Successor(claim.tasks[2].id));
    assert!(matches!(applied.enqueued[2], Enqueued::New(_)), "a discarded key is free");
    assert_eq!(desk.view(claim.tasks[0].id).await.state, TaskState::Pending);
    assert_eq!(desk.view(claim.tasks[1].id).await.state, TaskState::Cancelled);
    assert_eq!(desk.store.cursor(desk.job, digest).await, Ok(Some("page 2".to_owned())));
    assert_eq!(desk.claim_keys(10).await, ["found", "b"]);
}

pub(super) async fn a_cursor_is_its_components(desk: Desk<impl StoreHarness>) {
    let mut desk = desk.scanning().await;
    let (old, new) = (Digest::of(b"v1"), Digest::of(b"v2"));
    assert_eq!(desk.store.cursor(desk.job, old).await, Ok(None));
    let update = |digest, cursor: Option<&str>| ApplyPlan {
        job: desk.job,
        node: desk.node,
        finishes: Vec::new(),
        discoveries: Vec::new(),
        cursor: Some(CursorUpdate { digest, cursor: cursor.map(str::to_owned) }),
    };
    let (first, second, end) = (update(old, Some("1")), update(new, Some("")), update(new, None));
    desk.store.apply_plan(first, desk.at()).await.expect("it is applied");
    desk.reopen().await;
    assert_eq!(desk.store.cursor(desk.job, old).await, Ok(Some("1".to_owned())));
    assert_eq!(desk.store.cursor(desk.job, new).await, Ok(None), "another component starts anew");
    desk.store.apply_plan(second, desk.at()).await.expect("it is applied");
    assert_eq!(desk.store.cursor(desk.job, new).await, Ok(Some(String::new())));
    assert_eq!(desk.store.cursor(desk.job, old).await, Ok(None));
    desk.store.apply_plan(end, desk.at()).await.expect("it is applied");
    assert_eq!(desk.store.cursor(desk.job, new).await, Ok(None), "the scan has ended");
}

pub(super) async fn a_refused_plan_leaves_nothing(desk: Desk<impl StoreHarness>) {
    let desk = desk.scanning().await;
    let id = desk.new_task("a").await;
    let claimed = desk.claim_one().await;
    let plan = ApplyPlan {
        job: JobId(99),
        node: desk.node,
        finishes: vec![desk.finish_of(&claimed, Disposition::Done(None))],
        discoveries: vec![task("found")],
        cursor: None,
    };
    let answer = desk.store.apply_plan(plan, desk.at()).await;
    assert!(matches!(answer, Err(StoreError::Rejected(_))), "{answer:?}");
    assert_eq!(desk.view(id).await.state, TaskState::Running);
    assert_eq!(desk.claim(10).await, None);
}

pub(super) async fn a_fenced_finish_spoils_nothing(desk: Desk<impl StoreHarness>) {
    let mut desk = desk;
    let id = desk.new_task("a").await;
    let stale = desk.claim_one().await;
    desk.crash().await;
    let desk = desk.scanning().await;
    let plan = ApplyPlan {
        job: desk.job,
        node: desk.node,
        finishes: vec![desk.finish_of(&stale, Disposition::Cancel("not wanted".to_owned()))],
        discoveries: vec![task("found")],
        cursor: None,
    };
    let applied = desk.store.apply_plan(plan, desk.at()).await.expect("it is applied");
    assert_eq!(applied.finished, [Finished::Fenced]);
    assert!(matches!(applied.enqueued[..], [Enqueued::New(_)]));
    assert_eq!(desk.view(id).await.state, TaskState::Pending);
}
