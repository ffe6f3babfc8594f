//! Writing back: what each disposition does, under which fence, and again.

use std::time::Duration;

use sweepd::domain::digest::Digest;
use sweepd::domain::outcome::{Attempt, Disposition, Finish, Finished};
use sweepd::domain::task::{Enqueued, Fence, TaskId, TaskState};
use sweepd::domain::time::Timestamp;
use sweepd::store::{PeekDue, WriteBack};

use super::{Desk, StoreHarness, all_dispositions, due_at, postpone_by, retry_in, task, with_payload};

pub(super) async fn an_ended_task_is_in_history(mut desk: Desk<impl StoreHarness>) {
    let queued = desk.now;
    let id = desk.add(with_payload("a", "p")).await.id();
    desk.advance(10);
    let claimed = desk.claim_one().await;
    desk.advance(10);
    let note = Disposition::Done(Some("2 files".to_owned()));
    assert_eq!(desk.finish(&claimed, note).await, Finished::Applied);
    let view = desk.view(id).await;
    assert_eq!((view.key.as_str(), view.payload.as_deref()), ("a", Some("p")));
    assert_eq!((view.state, view.outcome.as_deref()), (TaskState::Done, Some("done")));
    assert_eq!((view.note.as_deref(), view.attempts), (Some("2 files"), 1));
    assert_eq!((view.enqueued_at, view.run_at, view.finished_at), (queued, queued, Some(desk.now)));
    assert_eq!(view.digest, Some(Digest::of(b"a component")));
    assert_eq!(desk.claim(10).await, None);
}

pub(super) async fn each_end_has_its_state(desk: Desk<impl StoreHarness>) {
    let ends = [
        (TaskState::Done, "done", None),
        (TaskState::Done, "skipped", Some("gone already")),
        (TaskState::Dead, "failed", Some("never")),
        (TaskState::Cancelled, "cancelled", Some("not wanted")),
    ];
    for (disposition, (state, outcome, note)) in all_dispositions().into_iter().zip(ends) {
        let id = desk.new_task("a").await;
        let claimed = desk.claim_one().await;
        desk.finish(&claimed, disposition).await;
        let view = desk.view(id).await;
        assert_eq!((view.state, view.outcome.as_deref(), view.note.as_deref()), (state, Some(outcome), note));
        assert_eq!(view.attempts, 1);
    }
}

pub(super) async fn a_discard_is_no_attempt(desk: Desk<impl StoreHarness>) {
    let id = desk.new_task("a").await;
    let claimed = desk.claim_one().await;
    let mut finish = desk.finish_of(&claimed, Disposition::Cancel("not wanted".to_owned()));
    finish.attempt.digest = None;
    assert_eq!(desk.write_back(finish).await, Finished::Applied);
    let view = desk.view(id).await;
    assert_eq!((view.state, view.attempts, view.digest), (TaskState::Cancelled, 0, None));
}

pub(super) async fn a_retry_waits_its_backoff(mut desk: Desk<impl StoreHarness>) {
    let id = desk.new_task("a").await;
    let claimed = desk.claim_one().await;
    assert_eq!(desk.finish(&claimed, retry_in(5)).await, Finished::Applied);
    let view = desk.view(id).await;
    assert_eq!((view.state, view.attempts), (TaskState::Pending, 1));
    assert_eq!((view.run_at.0, view.note.as_deref()), (desk.now.0 + 5000, Some("no luck")));
    desk.advance(4999);
    assert_eq!(desk.claim(10).await, None);
    desk.advance(1);
    assert_eq!(desk.claim_one().await.id, id);
}

pub(super) async fn a_postponement_is_no_attempt(desk: Desk<impl StoreHarness>) {
    let id = desk.new_task("a").await;
    let claimed = desk.claim_one().await;
    assert_eq!(desk.finish(&claimed, postpone_by(5)).await, Finished::Applied);
    let view = desk.view(id).await;
    assert_eq!((view.state, view.attempts), (TaskState::Pending, 0));
    assert_eq!((view.run_at.0, view.note.as_deref()), (desk.now.0 + 5000, Some("too early")));
}

pub(super) async fn a_chain_of_postponements_has_a_start(mut desk: Desk<impl StoreHarness>) {
    desk.new_task("a").await;
    let began = desk.now;
    for _ in 0..3 {
        let claimed = desk.claim_one().await;
        desk.finish(&claimed, postpone_by(1)).await;
        desk.advance(1000);
    }
    let claimed = desk.claim_one().await;
    assert_eq!(claimed.postponed_since, Some(began));
    desk.finish(&claimed, retry_in(1)).await;
    desk.advance(1000);
    assert_eq!(desk.claim_one().await.postponed_since, None, "an attempt ends the chain");
}

pub(super) async fn what_was_removed_adds_up_and_begins_the_chain_anew(mut desk: Desk<impl StoreHarness>) {
    desk.new_task("a").await;
    let finish = async |desk: &mut Desk<_>, disposition, removed| {
        let claimed = desk.claim_one().await;
        let mut finish = desk.finish_of(&claimed, disposition);
        finish.attempt.removed = removed;
        assert_eq!(desk.write_back(finish.clone()).await, Finished::Applied);
        assert_eq!(desk.write_back(finish).await, Finished::Applied, "told twice, it counts once");
        desk.advance(1000);
        claimed
    };
    assert_eq!(finish(&mut desk, postpone_by(1), 7).await.removed, 0);
    let began = desk.now;
    let claimed = finish(&mut desk, postpone_by(1), 1).await;
    assert_eq!((claimed.removed, claimed.postponed_since), (7, Some(Timestamp(began.0 - 1000))));
    let claimed = finish(&mut desk, postpone_by(1), 0).await;
    assert_eq!((claimed.removed, claimed.postponed_since), (8, Some(began)), "it got on then");
    let claimed = finish(&mut desk, Disposition::Release { after: None }, 2).await;
    assert_eq!((claimed.removed, claimed.postponed_since), (8, Some(began)));
    assert_eq!(finish(&mut desk, retry_in(1), 30).await.removed, 10);
    let peek = PeekDue { job: desk.job, horizon: desk.now, after: None, limit: 10 };
    let peeked = desk.store.peek_due(peek).await.expect("it is answered");
    assert_eq!(peeked.tasks[0].removed, 40);
    // Its successor begins at nothing.
    let claimed = desk.claim_one().await;
    assert_eq!(claimed.removed, 40);
    assert_eq!(desk.add(task("a")).await, Enqueued::Successor(claimed.id));
    desk.finish(&claimed, Disposition::Done(None)).await;
    assert_eq!(desk.claim_one().await.removed, 0);
}

pub(super) async fn a_release_leaves_no_trace(desk: Desk<impl StoreHarness>) {
    let id = desk.add(due_at("a", 999_000)).await.id();
    let before = desk.view(id).await;
    let claimed = desk.claim_one().await;
    assert_eq!(desk.finish(&claimed, Disposition::Release { after: None }).await, Finished::Applied);
    assert_eq!(desk.view(id).await, before);
    assert_eq!(desk.claim_one().await.attempt, 1);
}

pub(super) async fn a_release_may_wait(desk: Desk<impl StoreHarness>) {
    let id = desk.new_task("a").await;
    let claimed = desk.claim_one().await;
    let after = Some(Duration::from_secs(3));
    desk.finish(&claimed, Disposition::Release { after }).await;
    let view = desk.view(id).await;
    assert_eq!((view.state, view.run_at.0), (TaskState::Pending, desk.now.0 + 3000));
    desk.add(task("a")).await;
    assert_eq!(desk.view(id).await.run_at, desk.now, "it is no backoff");
}

pub(super) async fn repeated_it_answers_the_same(desk: Desk<impl StoreHarness>) {
    for (number, disposition) in all_dispositions().into_iter().enumerate() {
        let id = desk.new_task(&format!("task-{number}")).await;
        let claimed = desk.claim(1).await.expect("one is due").tasks.remove(0);
        assert_eq!(claimed.id, id);
        let finish = desk.finish_of(&claimed, disposition);
        assert_eq!(desk.write_back(finish.clone()).await, Finished::Applied);
        let after = desk.view(id).await;
        assert_eq!(desk.write_back(finish.clone()).await, Finished::Applied, "{finish:?}");
        assert_eq!(desk.view(id).await, after, "once is enough: {finish:?}");
        if after.state == TaskState::Pending && after.run_at <= desk.now {
            let again = desk.claim_one().await;
            desk.finish(&again, Disposition::Done(None)).await;
        }
    }
    // And twice in one call.
    let id = desk.new_task("twice").await;
    let claimed = desk.claim_one().await;
    let finish = desk.finish_of(&claimed, retry_in(1));
    let write_back =
        WriteBack { finishes: vec![finish.clone(), finish], closed: vec![claimed.fence], effects: Vec::new() };
    let answers = desk.store.finish(write_back, desk.at()).await.expect("it is answered");
    assert_eq!(answers, [Finished::Applied, Finished::Applied]);
    assert_eq!(desk.view(id).await.attempts, 1);
}

pub(super) async fn a_retry_is_known_after_the_next_claim(mut desk: Desk<impl StoreHarness>) {
    desk.new_task("a").await;
    let claimed = desk.claim_one().await;
    let finish = desk.finish_of(&claimed, retry_in(1));
    desk.write_back(finish.clone()).await;
    desk.advance(1000);
    let again = desk.claim_one().await;
    assert_eq!(desk.write_back(finish).await, Finished::Applied);
    assert_eq!(desk.finish(&again, Disposition::Done(None)).await, Finished::Applied);
}

pub(super) async fn another_fence_is_refused(mut desk: Desk<impl StoreHarness>) {
    let id = desk.new_task("a").await;
    let stale = desk.claim_one().await;
    desk.crash().await;
    for disposition in all_dispositions() {
        assert_eq!(desk.finish(&stale, disposition).await, Finished::Fenced, "while it waits");
    }
    let claimed = desk.claim_one().await;
    for disposition in all_dispositions() {
        assert_eq!(desk.finish(&stale, disposition).await, Finished::Fenced, "while it runs again");
    }
    assert_eq!(desk.view(id).await.state, TaskState::Running);
    desk.finish(&claimed, Disposition::Done(None)).await;
    assert_eq!(desk.finish(&stale, Disposition::Done(None)).await, Finished::Fenced, "when it has ended");
}

pub(super) async fn a_stranger_is_refused(desk: Desk<impl StoreHarness>) {
    let attempt = Attempt { number: 1, node: desk.node, started: desk.now, ended: desk.now, digest: None, removed: 0 };
    for disposition in all_dispositions() {
        let finish = Finish { id: TaskId(77), fence: Fence(1), disposition, attempt: attempt.clone() };
        assert_eq!(desk.write_back(finish).await, Finished::Fenced);
    }
    // Never claimed: no fence fits it.
    let id = desk.new_task("a").await;
    let finish = Finish { id, fence: Fence(0), disposition: Disposition::Done(None), attempt };
    assert_eq!(desk.write_back(finish).await, Finished::Fenced);
    assert_eq!(desk.view(id).await.state, TaskState::Pending);
}

pub(super) async fn answers_keep_the_order(mut desk: Desk<impl StoreHarness>) {
    desk.new_task("stale").await;
    let stale = desk.claim_one().await;
    desk.crash().await;
    desk.claim_one().await;
    desk.enqueue(vec![task("a"), task("b")]).await;
    let claim = desk.claim(10).await.expect("two are due");
    let finishes = vec![
        desk.finish_of(&claim.tasks[0], Disposition::Done(None)),
        desk.finish_of(&stale, Disposition::Done(None)),
        desk.finish_of(&claim.tasks[1], retry_in(1)),
    ];
    let write_back = WriteBack { finishes, closed: vec![claim.fence], effects: Vec::new() };
    let answers = desk.store.finish(write_back, desk.at()).await.expect("it is answered");
    assert_eq!(answers, [Finished::Applied, Finished::Fenced, Finished::Applied]);
}

pub(super) async fn a_closed_batch_with_running_tasks_stays(mut desk: Desk<impl StoreHarness>) {
    desk.enqueue(vec![task("a"), task("b")]).await;
    let claim = desk.claim(10).await.expect("two are due");
    desk.finish(&claim.tasks[0], Disposition::Done(None)).await;
    assert_eq!(desk.crash().await, 1, "the other is found, though its batch was called closed");
    assert_eq!(desk.claim_keys(10).await, ["b"]);
}

pub(super) async fn an_ended_key_is_free(desk: Desk<impl StoreHarness>) {
    let id = desk.new_task("a").await;
    let claimed = desk.claim_one().await;
    desk.finish(&claimed, Disposition::Bury("never".to_owned())).await;
    assert!(matches!(desk.add(task("a")).await, Enqueued::New(new) if new > id));
}

pub(super) async fn finished_is_durable(mut desk: Desk<impl StoreHarness>) {
    let id = desk.new_task("a").await;
    let claimed = desk.claim_one().await;
    let finish = desk.finish_of(&claimed, Disposition::Done(None));
    desk.write_back(finish.clone()).await;
    let before = desk.view(id).await;
    assert_eq!(desk.crash().await, 0);
    assert_eq!(desk.view(id).await, before);
    assert_eq!(desk.write_back(finish).await, Finished::Applied, "known after a restart");
}
