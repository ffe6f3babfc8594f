//! Claiming: order, bounds, fences.

use std::collections::HashSet;

use sweepd::domain::outcome::{Disposition, Finished};
use sweepd::domain::task::{NewTask, Payload, Priority, TaskState};
use sweepd::domain::time::Timestamp;
use sweepd::store::ClaimDue;

use super::{Desk, StoreHarness, due_at, keys, postpone_by, register, retry_in, task, with_payload};

fn of_priority(key: &str, priority: Priority) -> NewTask {
    NewTask { priority, ..task(key) }
}

pub(super) async fn urgent_first_then_the_oldest(desk: Desk<impl StoreHarness>) {
    desk.enqueue(vec![
        of_priority("low", Priority::Low),
        task("now-1"),
        task("now-2"),
        due_at("older", 999_000),
        of_priority("urgent", Priority::Urgent),
        of_priority("high", Priority::High),
    ])
    .await;
    assert_eq!(desk.claim_keys(4).await, ["urgent", "high", "older", "now-1"]);
    assert_eq!(desk.claim_keys(4).await, ["now-2", "low"]);
}

pub(super) async fn the_lowest_first_when_asked(desk: Desk<impl StoreHarness>) {
    desk.enqueue(vec![task("normal"), of_priority("urgent", Priority::Urgent), of_priority("low", Priority::Low)])
        .await;
    let claim = desk.claim_as(ClaimDue { lowest_first: true, ..desk.ask(2) }).await;
    assert_eq!(keys(&claim.expect("three are due").tasks), ["low", "normal"]);
}

pub(super) async fn the_horizon_and_the_limit_hold(mut desk: Desk<impl StoreHarness>) {
    let now = desk.now.0;
    desk.enqueue(vec![due_at("later", now + 1), due_at("now", now), due_at("before", now - 1)]).await;
    assert_eq!(desk.claim_keys(1).await, ["before"]);
    assert_eq!(desk.claim_keys(0).await, [""; 0]);
    assert_eq!(desk.claim_keys(10).await, ["now"]);
    desk.advance(1);
    assert_eq!(desk.claim_keys(10).await, ["later"]);
}

pub(super) async fn nothing_due_is_none(desk: Desk<impl StoreHarness>) {
    assert_eq!(desk.claim(10).await, None);
    desk.add(due_at("later", desk.now.0 + 1)).await;
    assert_eq!(desk.claim(10).await, None);
}

pub(super) async fn what_runs_is_not_claimed(desk: Desk<impl StoreHarness>) {
    let id = desk.new_task("a").await;
    desk.claim_one().await;
    assert_eq!(desk.claim(10).await, None);
    assert_eq!(desk.view(id).await.state, TaskState::Running);
}

pub(super) async fn fences_rise(mut desk: Desk<impl StoreHarness>) {
    desk.enqueue(vec![task("a"), task("b"), task("c")]).await;
    let first = desk.claim(2).await.expect("three are due");
    assert!(first.tasks.iter().all(|task| task.fence == first.fence), "one fence a claim");
    let second = desk.claim(2).await.expect("one is left");
    assert!(second.fence > first.fence);
    desk.finish(&second.tasks[0], Disposition::Done(None)).await;
    desk.crash().await;
    desk.new_task("c").await;
    // The same key in a new row, after a restart: still above.
    let mut last = second.fence;
    while let Some(claim) = desk.claim(1).await {
        assert!(claim.fence > last);
        last = claim.fence;
    }
    assert!(last > second.fence);
}

pub(super) async fn attempts_count_from_one(mut desk: Desk<impl StoreHarness>) {
    desk.new_task("a").await;
    for attempt in 1..=3 {
        let claimed = desk.claim_one().await;
        assert_eq!(claimed.attempt, attempt);
        assert_eq!(desk.finish(&claimed, retry_in(1)).await, Finished::Applied);
        desk.advance(1000);
    }
    let claimed = desk.claim_one().await;
    desk.finish(&claimed, postpone_by(1)).await;
    desk.advance(1000);
    assert_eq!(desk.claim_one().await.attempt, 4, "a postponement is none");
}

pub(super) async fn a_task_with_losses_comes_alone(mut desk: Desk<impl StoreHarness>) {
    desk.enqueue(vec![task("a"), task("b")]).await;
    desk.claim(10).await;
    assert_eq!(desk.crash().await, 2);
    desk.new_task("c").await;
    for key in ["a", "b"] {
        let claimed = desk.claim_one().await;
        assert_eq!((claimed.key.as_str(), claimed.losses, claimed.attempt), (key, 1, 1));
    }
    assert_eq!(desk.claim_keys(10).await, ["c"]);
}

pub(super) async fn a_task_with_losses_waits_for_its_turn(mut desk: Desk<impl StoreHarness>) {
    desk.add(due_at("lost", desk.now.0)).await;
    desk.claim_one().await;
    desk.crash().await;
    desk.enqueue(vec![due_at("older", 999_000), task("younger")]).await;
    assert_eq!(desk.claim_keys(10).await, ["older", "younger"]);
    assert_eq!(desk.claim_keys(10).await, ["lost"]);
}

pub(super) async fn a_task_with_losses_waits_unless_allowed(mut desk: Desk<impl StoreHarness>) {
    desk.new_task("lost").await;
    desk.claim_one().await;
    desk.crash().await;
    desk.enqueue(vec![task("a"), task("b")]).await;
    let others = ClaimDue { suspects: false, ..desk.ask(10) };
    let claim = desk.claim_as(others).await.expect("two may be claimed");
    assert_eq!(keys(&claim.tasks), ["a", "b"]);
    assert_eq!(desk.claim_as(others).await, None);
    assert_eq!(desk.claim_keys(10).await, ["lost"]);
}

pub(super) async fn claims_at_once_share_nothing(desk: Desk<impl StoreHarness>) {
    desk.enqueue((0..200).map(|number| task(&number.to_string())).collect()).await;
    let mut claims = tokio::task::JoinSet::new();
    for _ in 0..16 {
        let (store, ask) = (desk.store.clone(), desk.ask(25));
        claims.spawn(async move { store.claim_due(ask).await });
    }
    let (mut seen, mut fences) = (HashSet::new(), HashSet::new());
    while let Some(claim) = claims.join_next().await {
        let Some(claim) = claim.expect("no panic").expect("a claim is answered") else {
            continue;
        };
        assert!(fences.insert(claim.fence), "a fence of its own");
        for task in claim.tasks {
            assert!(seen.insert(task.id), "task {} was claimed twice", task.id);
        }
    }
    assert_eq!(seen.len(), 200);
}

pub(super) async fn another_jobs_tasks_stay(desk: Desk<impl StoreHarness>) {
    let other = register(&desk.store, "other").await;
    desk.try_enqueue(other, vec![task("theirs")]).await.expect("it is queued");
    assert_eq!(desk.claim(10).await, None);
    let claim = desk.claim_as(ClaimDue { job: other, ..desk.ask(10) }).await;
    assert_eq!(keys(&claim.expect("it is due").tasks), ["theirs"]);
}

pub(super) async fn a_claim_carries_the_task(mut desk: Desk<impl StoreHarness>) {
    let queued = desk.now;
    let id = desk.add(with_payload("影", "läuft")).await.id();
    desk.advance(1000);
    let claimed = desk.claim_one().await;
    assert_eq!((claimed.id, claimed.key.as_str()), (id, "影"));
    assert_eq!(claimed.payload.as_ref().map(Payload::as_str), Some("läuft"));
    assert_eq!((claimed.enqueued_at, claimed.postponed_since), (queued, None));
    desk.finish(&claimed, postpone_by(1)).await;
    let since = desk.now;
    desk.advance(1000);
    assert_eq!(desk.claim_one().await.postponed_since, Some(Timestamp(since.0)));
}
