//! What people do to tasks by hand.

use sweepd::domain::intervention::{Action, Intervened};
use sweepd::domain::outcome::{Disposition, Finished};
use sweepd::domain::task::{Enqueued, Payload, TaskId, TaskState};
use sweepd::domain::time::Timestamp;
use sweepd::store::{Heartbeat, Intervene, InterveneAll, Progress, intervene_page};

use super::{Desk, LEASE, StoreHarness, all_dispositions, retry_in, task, with_payload};

impl<H: StoreHarness> Desk<H> {
    async fn by_hand(&self, action: Action, ids: &[TaskId]) -> Vec<Intervened> {
        let ask = Intervene { action, ids: ids.to_vec(), why: "as Ada asked".to_owned() };
        self.store.intervene(ask, self.at()).await.expect("it is answered")
    }

    async fn asked(&self) -> u64 {
        match self.store.heartbeat(self.node, LEASE, self.at()).await {
            Ok(Heartbeat::Held { asked }) => asked,
            other => panic!("the node lives: {other:?}"),
        }
    }
}

pub(super) async fn what_waits_ends(desk: Desk<impl StoreHarness>) {
    for (action, state) in [(Action::Cancel, TaskState::Cancelled), (Action::Bury, TaskState::Dead)] {
        let id = desk.new_task("a").await;
        assert_eq!(desk.by_hand(action, &[id]).await, [Intervened::Applied { task: id }]);
        let view = desk.view(id).await;
        assert_eq!((view.state, view.note.as_deref(), view.attempts), (state, Some("as Ada asked"), 0));
        assert_eq!(desk.claim(10).await, None);
        assert_eq!(desk.by_hand(action, &[id]).await, [Intervened::Refused { state }], "once is enough");
    }
}

pub(super) async fn what_runs_is_asked_to_end(mut desk: Desk<impl StoreHarness>) {
    for (action, state) in [(Action::Cancel, TaskState::Cancelled), (Action::Bury, TaskState::Dead)] {
        for disposition in all_dispositions() {
            let id = desk.new_task("a").await;
            let claimed = desk.claim_one().await;
            let before = desk.asked().await;
            assert_eq!(desk.by_hand(action, &[id]).await, [Intervened::Interrupting]);
            assert!(desk.asked().await > before, "its node hears of it");
            let asked = desk.store.cancellations(desk.node).await.expect("they are listed");
            let asked: Vec<_> = asked.iter().map(|ask| (ask.job, ask.task, ask.fence)).collect();
            assert_eq!(asked, [(desk.job, id, claimed.fence)]);
            assert_eq!(desk.view(id).await.state, TaskState::Running, "until its node writes back");

            assert_eq!(desk.finish(&claimed, disposition.clone()).await, Finished::Applied);
            let view = desk.view(id).await;
            match disposition.end() {
                Some(end) => assert_eq!(view.state, end, "what was done is done"),
                None => assert_eq!((view.state, view.note.as_deref()), (state, Some("as Ada asked"))),
            }
            assert_eq!(desk.finish(&claimed, disposition).await, Finished::Applied, "also when repeated");
            assert_eq!(desk.store.cancellations(desk.node).await, Ok(Vec::new()));
            desk.advance(10_000);
        }
    }
}

pub(super) async fn what_was_asked_survives_a_crash(mut desk: Desk<impl StoreHarness>) {
    let (a, b) = (desk.new_task("a").await, desk.new_task("b").await);
    desk.claim(10).await.expect("two are due");
    desk.by_hand(Action::Cancel, &[a]).await;
    assert_eq!(desk.add(with_payload("a", "again")).await, Enqueued::Successor(a));
    desk.crash().await;
    assert_eq!(desk.view(a).await.state, TaskState::Cancelled);
    assert_eq!(desk.view(b).await.state, TaskState::Pending);
    // The request that came while it ran is a task of its own.
    assert_eq!(desk.claim_keys(10).await, ["b"], "it was lost and comes alone");
    let claimed = desk.claim_one().await;
    assert_eq!((claimed.key.as_str(), claimed.losses), ("a", 0));
    assert!(claimed.id > b);
}

pub(super) async fn what_ended_is_queued_anew(desk: Desk<impl StoreHarness>) {
    let bury = Disposition::Bury("never".to_owned());
    for end in [bury, Disposition::Cancel("not wanted".to_owned())] {
        let id = desk.add(with_payload("a", "text")).await.id();
        let claimed = desk.claim_one().await;
        desk.finish(&claimed, end).await;
        let [Intervened::Applied { task }] = desk.by_hand(Action::Retry, &[id]).await[..] else {
            panic!("not applied")
        };
        assert_ne!(task, id);
        let anew = desk.claim_one().await;
        assert_eq!((anew.id, anew.key.as_str(), anew.attempt), (task, "a", 1));
        assert_eq!(anew.payload.as_ref().map(Payload::as_str), Some("text"));
        assert!(!desk.view(id).await.state.is_live(), "its end stays on record");
        desk.finish(&anew, Disposition::Done(None)).await;
    }
}

pub(super) async fn a_backoff_is_cut_short(desk: Desk<impl StoreHarness>) {
    let id = desk.new_task("a").await;
    let claimed = desk.claim_one().await;
    desk.finish(&claimed, retry_in(60)).await;
    assert_eq!(desk.claim(10).await, None);
    assert_eq!(desk.by_hand(Action::Retry, &[id]).await, [Intervened::Applied { task: id }]);
    assert_eq!(desk.claim_one().await.attempt, 2);
}

pub(super) async fn senseless_ones_are_refused(desk: Desk<impl StoreHarness>) {
    let (done, runs) = (desk.new_task("done").await, desk.new_task("runs").await);
    let claim = desk.claim(10).await.expect("two are due");
    desk.finish(&claim.tasks[0], Disposition::Done(None)).await;
    let refused = |state| Intervened::Refused { state };
    let answers = desk.by_hand(Action::Retry, &[done, runs, TaskId(999)]).await;
    assert_eq!(answers, [refused(TaskState::Done), refused(TaskState::Running), Intervened::Unknown]);
    assert_eq!(desk.by_hand(Action::Cancel, &[done]).await, [refused(TaskState::Done)]);
}

pub(super) async fn a_retry_of_a_live_key_is_that_task(desk: Desk<impl StoreHarness>) {
    let dead = desk.new_task("a").await;
    let claimed = desk.claim_one().await;
    desk.finish(&claimed, Disposition::Bury("never".to_owned())).await;
    let live = desk.new_task("a").await;
    assert_eq!(desk.by_hand(Action::Retry, &[dead]).await, [Intervened::Applied { task: live }]);
    desk.add(task("b")).await;
    assert_eq!(desk.claim_keys(10).await, ["a", "b"], "one live task a key");
}

pub(super) async fn all_that_match_are_taken_page_by_page(desk: Desk<impl StoreHarness>) {
    const TASKS: u64 = 1203;
    desk.enqueue((0..TASKS).map(|number| task(&format!("{number:04}"))).collect()).await;
    for (action, state) in [
        (Action::Bury, TaskState::Pending),
        (Action::Retry, TaskState::Dead),
        (Action::Retry, TaskState::Pending),
        (Action::Cancel, TaskState::Pending),
        (Action::Retry, TaskState::Cancelled),
    ] {
        let ask = InterveneAll { action, job: desk.job, state, why: "all of them".to_owned() };
        let begun = Progress::begin(&*desk.store, None).await.expect("it answers");
        // What was queued later is not meant.
        let earlier = Progress { queued_by: Timestamp(0), ..begun };
        let (tally, _) = intervene_page(&*desk.store, &ask, earlier).await.expect("it answers");
        assert_eq!(tally.total(), 0);

        let (mut place, mut pages, mut applied) = (Some(begun), 0, 0);
        while let Some(progress) = place {
            let (tally, next) = intervene_page(&*desk.store, &ask, progress).await.expect("it answers");
            assert_eq!(tally.total(), tally.applied);
            assert!(tally.applied <= 500, "no transaction is long");
            (place, pages, applied) = (next, pages + 1, applied + tally.applied);
        }
        assert_eq!((applied, pages), (TASKS, 3), "{action} of what is {state}");
    }
}
