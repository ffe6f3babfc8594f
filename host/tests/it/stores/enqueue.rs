//! Queueing, and keys that are queued already.

use sweepd::domain::job::JobId;
use sweepd::domain::outcome::{Disposition, Finished};
use sweepd::domain::task::{Enqueued, NewTask, Priority, TaskState};
use sweepd::domain::time::Timestamp;
use sweepd::store::StoreError;

use super::{Desk, StoreHarness, due_at, postpone_by, register, retry_in, task, with_payload};

pub(super) async fn a_new_task_is_pending(desk: Desk<impl StoreHarness>) {
    let asked =
        NewTask { run_at: Some(Timestamp(2_000_000)), priority: Priority::High, ..with_payload("a", "{\"x\":1}") };
    let Enqueued::New(id) = desk.add(asked).await else { panic!("the queue was empty") };
    let view = desk.view(id).await;
    assert_eq!((view.id, view.job.as_str(), view.key.as_str()), (id, "video-clear", "a"));
    assert_eq!(view.payload.as_deref(), Some("{\"x\":1}"));
    assert_eq!((view.state, view.priority), (TaskState::Pending, Priority::High));
    assert_eq!((view.enqueued_at, view.run_at), (desk.now, Timestamp(2_000_000)));
    assert_eq!((view.attempts, view.losses, view.successor), (0, 0, false));
    assert_eq!((view.note, view.outcome, view.digest, view.finished_at), (None, None, None, None));
}

pub(super) async fn a_pending_key_answers_its_task(mut desk: Desk<impl StoreHarness>) {
    let id = desk.new_task("a").await;
    let before = desk.view(id).await;
    desk.advance(1000);
    assert_eq!(desk.add(task("a")).await, Enqueued::Pending(id));
    assert_eq!(desk.view(id).await, before, "nothing about it changed");
}

pub(super) async fn a_payload_given_replaces(desk: Desk<impl StoreHarness>) {
    let id = desk.add(with_payload("a", "first")).await.id();
    desk.add(task("a")).await;
    assert_eq!(desk.view(id).await.payload.as_deref(), Some("first"), "none given, none replaced");
    desk.add(with_payload("a", "second")).await;
    assert_eq!(desk.view(id).await.payload.as_deref(), Some("second"));
    desk.add(with_payload("a", "")).await;
    assert_eq!(desk.view(id).await.payload.as_deref(), Some(""), "an empty one is one");
}

pub(super) async fn the_higher_priority_wins(desk: Desk<impl StoreHarness>) {
    let id = desk.new_task("a").await;
    desk.add(NewTask { priority: Priority::Low, ..task("a") }).await;
    assert_eq!(desk.view(id).await.priority, Priority::Normal);
    desk.add(NewTask { priority: Priority::Urgent, ..task("a") }).await;
    assert_eq!(desk.view(id).await.priority, Priority::Urgent);
}

pub(super) async fn the_earlier_run_at_wins(desk: Desk<impl StoreHarness>) {
    let id = desk.add(due_at("a", 3_000_000)).await.id();
    desk.add(due_at("a", 4_000_000)).await;
    assert_eq!(desk.view(id).await.run_at, Timestamp(3_000_000));
    desk.add(due_at("a", 2_000_000)).await;
    assert_eq!(desk.view(id).await.run_at, Timestamp(2_000_000));
    desk.add(task("a")).await;
    assert_eq!(desk.view(id).await.run_at, desk.now, "no run-at is now");
}

pub(super) async fn a_backoff_is_not_shortened(mut desk: Desk<impl StoreHarness>) {
    let id = desk.new_task("a").await;
    let claimed = desk.claim_one().await;
    assert_eq!(desk.finish(&claimed, retry_in(60)).await, Finished::Applied);
    let due = desk.view(id).await.run_at;
    assert_eq!(desk.add(with_payload("a", "new")).await, Enqueued::Pending(id));
    let view = desk.view(id).await;
    assert_eq!(view.run_at, due, "the backoff stays");
    assert_eq!(view.payload.as_deref(), Some("new"), "the rest is taken");
    assert_eq!(desk.claim(10).await, None);

    // After the next claim it is no backoff any more.
    desk.advance(60_000);
    let claimed = desk.claim_one().await;
    assert_eq!(desk.finish(&claimed, postpone_by(60)).await, Finished::Applied);
    desk.add(task("a")).await;
    assert_eq!(desk.view(id).await.run_at, desk.now);
}

pub(super) async fn a_postponement_is_shortened(desk: Desk<impl StoreHarness>) {
    let id = desk.new_task("a").await;
    let claimed = desk.claim_one().await;
    desk.finish(&claimed, postpone_by(60)).await;
    assert_eq!(desk.claim(10).await, None);
    assert_eq!(desk.add(task("a")).await, Enqueued::Pending(id));
    assert_eq!(desk.claim_one().await.id, id);
}

pub(super) async fn a_key_twice_in_one_call(desk: Desk<impl StoreHarness>) {
    let answers = desk.enqueue(vec![task("a"), task("b"), with_payload("a", "later")]).await;
    let id = answers[0].id();
    assert_eq!(answers[0], Enqueued::New(id));
    assert!(matches!(answers[1], Enqueued::New(_)));
    assert_eq!(answers[2], Enqueued::Pending(id));
    assert_eq!(desk.view(id).await.payload.as_deref(), Some("later"));
}

pub(super) async fn jobs_do_not_share_keys(desk: Desk<impl StoreHarness>) {
    let id = desk.new_task("a").await;
    let other = register(&desk.store, "other").await;
    let answers = desk.try_enqueue(other, vec![task("a")]).await.expect("it is queued");
    assert!(matches!(answers[0], Enqueued::New(new) if new != id));
}

pub(super) async fn an_unknown_job_is_rejected(desk: Desk<impl StoreHarness>) {
    let answer = desk.try_enqueue(JobId(99), vec![task("a")]).await;
    assert!(matches!(answer, Err(StoreError::Rejected(_))), "{answer:?}");
}

pub(super) async fn nothing_is_queued_by_nothing(desk: Desk<impl StoreHarness>) {
    assert_eq!(desk.enqueue(Vec::new()).await, []);
    assert_eq!(desk.claim(10).await, None);
}

pub(super) async fn queued_is_durable(mut desk: Desk<impl StoreHarness>) {
    let id = desk.add(with_payload("a", "p")).await.id();
    let before = desk.view(id).await;
    desk.reopen().await;
    assert_eq!(desk.view(id).await, before);
}

pub(super) async fn numbers_are_never_used_again(mut desk: Desk<impl StoreHarness>) {
    let mut last = desk.new_task("a").await;
    for _ in 0..3 {
        let claimed = desk.claim_one().await;
        desk.finish(&claimed, Disposition::Done(None)).await;
        desk.crash().await;
        let next = desk.new_task("a").await;
        assert!(next > last);
        last = next;
    }
}

pub(super) async fn a_large_call_is_one(desk: Desk<impl StoreHarness>) {
    let tasks: Vec<_> = (0..10_500).map(|number| task(&format!("video-{number}"))).collect();
    let answers = desk.enqueue(tasks).await;
    assert_eq!(answers.len(), 10_500);
    assert!(answers.iter().all(|answer| matches!(answer, Enqueued::New(_))));
    let claimed = desk.claim_keys(10_500).await;
    assert_eq!(claimed.len(), 10_500);
    assert_eq!((claimed[0].as_str(), claimed[10_499].as_str()), ("video-0", "video-10499"));
}
