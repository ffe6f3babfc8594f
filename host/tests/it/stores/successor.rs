//! A key that is asked for while it runs.

use std::time::Duration;

use sweepd::domain::outcome::{Disposition, Finished};
use sweepd::domain::task::{ClaimedTask, Enqueued, NewTask, Payload, Priority, TaskId, TaskState};
use sweepd::domain::time::Timestamp;

use super::{Desk, StoreHarness, all_dispositions, due_at, postpone_by, retry_in, task, with_payload};

/// A running task whose row has a successor with this payload, urgent, due at
/// the time of asking.
async fn running_with_successor<H: StoreHarness>(desk: &mut Desk<H>, payload: &str) -> ClaimedTask {
    desk.add(with_payload("a", "old")).await;
    let claimed = desk.claim_one().await;
    desk.advance(100);
    let asked = NewTask { priority: Priority::Urgent, ..with_payload("a", payload) };
    assert_eq!(desk.add(asked).await, Enqueued::Successor(claimed.id));
    claimed
}

/// The one live task of the job.
async fn the_live_one<H: StoreHarness>(desk: &Desk<H>) -> TaskId {
    desk.add(NewTask { priority: Priority::Low, ..due_at("a", u64::MAX) }).await.id()
}

pub(super) async fn a_running_key_keeps_one(mut desk: Desk<impl StoreHarness>) {
    let claimed = running_with_successor(&mut desk, "new").await;
    let view = desk.view(claimed.id).await;
    assert_eq!((view.state, view.successor), (TaskState::Running, true));
    assert_eq!(view.payload.as_deref(), Some("old"), "the run keeps what it was given");
    assert_eq!(view.priority, Priority::Normal);
    assert_eq!(desk.claim(10).await, None, "two at once never run");
}

pub(super) async fn requests_merge(mut desk: Desk<impl StoreHarness>) {
    desk.new_task("a").await;
    let claimed = desk.claim_one().await;
    let first = desk.now;
    let later = first.0 + 60_000;
    desk.add(NewTask { priority: Priority::Low, ..due_at("a", later) }).await;
    desk.advance(100);
    desk.add(NewTask { priority: Priority::High, ..with_payload("a", "p") }).await;
    desk.add(due_at("a", later)).await;
    let earliest = desk.now;
    desk.finish(&claimed, Disposition::Done(None)).await;
    let view = desk.view(the_live_one(&desk).await).await;
    assert_eq!((view.payload.as_deref(), view.priority), (Some("p"), Priority::High));
    assert_eq!((view.run_at, view.enqueued_at), (earliest, first));
}

pub(super) async fn every_end_promotes(mut desk: Desk<impl StoreHarness>) {
    for disposition in all_dispositions().into_iter().take(4) {
        let claimed = running_with_successor(&mut desk, "new").await;
        let asked = desk.now;
        assert_eq!(desk.finish(&claimed, disposition.clone()).await, Finished::Applied);
        assert!(!desk.view(claimed.id).await.state.is_live(), "{disposition:?}");
        let next = desk.claim_one().await;
        assert!(next.id > claimed.id, "{disposition:?}");
        assert_eq!(next.payload.as_ref().map(Payload::as_str), Some("new"));
        assert_eq!((next.attempt, next.losses, next.enqueued_at), (1, 0, asked));
        desk.finish(&next, Disposition::Done(None)).await;
        assert_eq!(desk.claim(10).await, None, "one successor, not more");
    }
}

pub(super) async fn a_promoted_task_is_new(mut desk: Desk<impl StoreHarness>) {
    desk.add(with_payload("a", "old")).await;
    let claimed = desk.claim_one().await;
    desk.finish(&claimed, retry_in(1)).await;
    desk.advance(1000);
    let claimed = desk.claim_one().await;
    assert_eq!(desk.add(task("a")).await, Enqueued::Successor(claimed.id));
    desk.finish(&claimed, Disposition::Bury("never".to_owned())).await;
    let view = desk.view(the_live_one(&desk).await).await;
    assert_eq!((view.state, view.attempts, view.losses), (TaskState::Pending, 0, 0));
    assert_eq!((view.note, view.payload, view.successor), (None, None, false));
    let buried = desk.view(claimed.id).await;
    assert_eq!((buried.state, buried.attempts), (TaskState::Dead, 2));
    assert_eq!(buried.payload.as_deref(), Some("old"));
}

pub(super) async fn a_retry_takes_it_in(mut desk: Desk<impl StoreHarness>) {
    let claimed = running_with_successor(&mut desk, "new").await;
    assert_eq!(desk.finish(&claimed, retry_in(5)).await, Finished::Applied);
    let view = desk.view(claimed.id).await;
    assert_eq!((view.state, view.successor, view.attempts), (TaskState::Pending, false, 1));
    assert_eq!((view.payload.as_deref(), view.priority), (Some("new"), Priority::Urgent));
    assert_eq!(view.run_at.0, desk.now.0 + 5000, "a backoff is not shortened");
}

pub(super) async fn a_request_without_payload_replaces_none(desk: Desk<impl StoreHarness>) {
    let id = desk.add(with_payload("a", "old")).await.id();
    let claimed = desk.claim_one().await;
    desk.add(task("a")).await;
    desk.finish(&claimed, Disposition::Release { after: None }).await;
    assert_eq!(desk.view(id).await.payload.as_deref(), Some("old"));
}

pub(super) async fn a_postponement_takes_it_in(mut desk: Desk<impl StoreHarness>) {
    let claimed = running_with_successor(&mut desk, "new").await;
    let asked = desk.now;
    desk.advance(100);
    desk.finish(&claimed, postpone_by(5)).await;
    let view = desk.view(claimed.id).await;
    assert_eq!((view.state, view.successor), (TaskState::Pending, false));
    assert_eq!((view.payload.as_deref(), view.run_at), (Some("new"), asked));
}

pub(super) async fn a_release_takes_it_in(mut desk: Desk<impl StoreHarness>) {
    let claimed = running_with_successor(&mut desk, "new").await;
    let asked = desk.now;
    let after = Some(Duration::from_secs(5));
    desk.finish(&claimed, Disposition::Release { after }).await;
    let view = desk.view(claimed.id).await;
    assert_eq!((view.state, view.successor), (TaskState::Pending, false));
    assert_eq!((view.payload.as_deref(), view.run_at), (Some("new"), asked));
}

pub(super) async fn a_loss_takes_it_in(mut desk: Desk<impl StoreHarness>) {
    let claimed = running_with_successor(&mut desk, "new").await;
    assert_eq!(desk.crash().await, 1);
    let view = desk.view(claimed.id).await;
    assert_eq!((view.state, view.successor, view.losses), (TaskState::Pending, false, 1));
    assert_eq!((view.payload.as_deref(), view.priority), (Some("new"), Priority::Urgent));
    assert!(view.run_at <= Timestamp(desk.now.0));
}

pub(super) async fn it_is_durable(mut desk: Desk<impl StoreHarness>) {
    let claimed = running_with_successor(&mut desk, "new").await;
    desk.reopen().await;
    desk.finish(&claimed, Disposition::Done(None)).await;
    desk.reopen().await;
    let next = desk.claim_one().await;
    assert_eq!(next.payload.as_ref().map(Payload::as_str), Some("new"));
}

pub(super) async fn the_old_write_back_may_be_repeated(mut desk: Desk<impl StoreHarness>) {
    let claimed = running_with_successor(&mut desk, "new").await;
    let finish = desk.finish_of(&claimed, Disposition::Done(None));
    desk.write_back(finish.clone()).await;
    assert_eq!(desk.write_back(finish.clone()).await, Finished::Applied);
    let next = desk.claim_one().await;
    assert_eq!(desk.write_back(finish).await, Finished::Applied);
    assert_eq!(desk.view(next.id).await.state, TaskState::Running, "the successor is untouched");
}
