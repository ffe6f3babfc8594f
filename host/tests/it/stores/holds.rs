//! Holds: put in place once, ended by their time or by hand.

use sweepd::domain::hold::{Hold, HoldId, Pattern};
use sweepd::domain::job::JobId;
use sweepd::domain::time::Timestamp;
use sweepd::store::{HoldRemoved, NewHold, Prune, StoreError};

use super::{Desk, StoreHarness, register};

impl<H: StoreHarness> Desk<H> {
    fn new_hold(&self, pattern: &str) -> NewHold {
        let pattern = Pattern::new(pattern).expect("a pattern");
        NewHold { job: self.job, pattern, until: None, why: "a lawsuit".to_owned() }
    }

    async fn hold(&self, hold: NewHold) -> Hold {
        self.store.add_hold(hold, self.at()).await.expect("it holds")
    }

    async fn held(&self, job: JobId) -> Vec<Hold> {
        self.store.holds(job, self.at()).await.expect("holds are listed")
    }

    async fn let_go(&self, job: JobId, hold: HoldId) -> HoldRemoved {
        self.store.remove_hold(job, hold, self.at()).await.expect("it is answered")
    }
}

pub(super) async fn they_stand_until_they_end(mut desk: Desk<impl StoreHarness>) {
    let other = register(&desk.store, "other").await;
    let until = Timestamp(desk.now.0 + 1000);
    let first = desk.hold(desk.new_hold("2024/**")).await;
    let second = desk.hold(NewHold { until: Some(until), ..desk.new_hold("Σ a/*.mp4") }).await;
    let others = desk.hold(NewHold { job: other, ..desk.new_hold("2024/**") }).await;
    assert!(first.id < second.id && second.id < others.id, "numbers rise");
    assert_eq!((first.job, first.pattern.as_str(), first.since), (desk.job, "2024/**", desk.now));
    assert_eq!((second.pattern.as_str(), second.until, second.why.as_str()), ("Σ a/*.mp4", Some(until), "a lawsuit"));
    assert_eq!(desk.held(desk.job).await, [first.clone(), second]);
    assert_eq!(desk.held(other).await, [others]);
    desk.advance(999);
    assert_eq!(desk.held(desk.job).await.len(), 2);
    desk.advance(1);
    assert_eq!(desk.held(desk.job).await, std::slice::from_ref(&first));
    desk.reopen().await;
    assert_eq!(desk.held(desk.job).await, [first]);
    let nobody = desk.store.add_hold(NewHold { job: JobId(99), ..desk.new_hold("a") }, desk.at()).await;
    assert!(matches!(nobody, Err(StoreError::Rejected(_))), "{nobody:?}");
}

pub(super) async fn one_is_removed_once(mut desk: Desk<impl StoreHarness>) {
    let other = register(&desk.store, "other").await;
    let hold = desk.hold(desk.new_hold("a")).await;
    let kept = desk.hold(desk.new_hold("b")).await;
    assert_eq!(desk.let_go(other, hold.id).await, HoldRemoved::NotThere, "another job's");
    assert_eq!(desk.let_go(desk.job, HoldId(99)).await, HoldRemoved::NotThere);
    assert_eq!(desk.let_go(desk.job, hold.id).await, HoldRemoved::Removed(hold.clone()));
    assert_eq!(desk.let_go(desk.job, hold.id).await, HoldRemoved::NotThere);
    assert_eq!(desk.held(desk.job).await, [kept]);
    let until = Some(Timestamp(desk.now.0 + 1));
    let short = desk.hold(NewHold { until, ..desk.new_hold("c") }).await;
    desk.advance(1);
    assert_eq!(desk.let_go(desk.job, short.id).await, HoldRemoved::NotThere, "it ended by itself");
    assert!(desk.hold(desk.new_hold("a")).await.id > short.id, "numbers are not given out again");
}

pub(super) async fn the_same_is_put_in_place_once(mut desk: Desk<impl StoreHarness>) {
    let first = desk.hold(desk.new_hold("a")).await;
    desk.advance(1000);
    assert_eq!(desk.hold(desk.new_hold("a")).await, first);
    let until = Some(Timestamp(desk.now.0 + 5));
    for another in [
        NewHold { until, ..desk.new_hold("a") },
        NewHold { why: "A lawsuit".to_owned(), ..desk.new_hold("a") },
        desk.new_hold("A"),
    ] {
        assert_ne!(desk.hold(another).await.id, first.id);
    }
    assert_eq!(desk.held(desk.job).await.len(), 4);
    desk.let_go(desk.job, first.id).await;
    assert_ne!(desk.hold(desk.new_hold("a")).await.id, first.id, "what was removed holds nothing");
}

pub(super) async fn there_are_not_too_many(desk: Desk<impl StoreHarness>) {
    let first = desk.hold(desk.new_hold("0")).await;
    for number in 1..NewHold::MOST {
        desk.hold(desk.new_hold(&number.to_string())).await;
    }
    let more = desk.store.add_hold(desk.new_hold("one more"), desk.at()).await;
    assert!(matches!(&more, Err(StoreError::Rejected(told)) if told.contains("1000 holds")), "{more:?}");
    assert_eq!(desk.hold(desk.new_hold("0")).await, first, "the same is not one more");
    desk.let_go(desk.job, first.id).await;
    desk.hold(desk.new_hold("one more")).await;
}

pub(super) async fn ended_ones_are_forgotten(mut desk: Desk<impl StoreHarness>) {
    let until = Some(Timestamp(desk.now.0 + 5));
    desk.hold(NewHold { until, ..desk.new_hold("short") }).await;
    let long = desk.hold(desk.new_hold("long")).await;
    let removed = desk.hold(desk.new_hold("removed")).await;
    desk.let_go(desk.job, removed.id).await;
    desk.advance(1000);
    let before = desk.now;
    let prune = Prune { ended_before: desk.now, effects_before: Timestamp(0), limit: 10 };
    desk.store.prune(prune, desk.at()).await.expect("it is answered");
    // Back when all of them stood.
    desk.now = Timestamp(before.0 - 1001);
    assert_eq!(desk.held(desk.job).await, [long]);
}
