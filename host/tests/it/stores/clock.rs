//! The store's clock was set back: what it wrote by the earlier one is drawn in,
//! and what somebody named stays.

use std::time::Duration;

use sweepd::domain::budget::Spent;
use sweepd::domain::digest::Digest;
use sweepd::domain::effect::{Effect, EffectId};
use sweepd::domain::hold::Pattern;
use sweepd::domain::outcome::Disposition;
use sweepd::domain::task::TaskId;
use sweepd::domain::time::Timestamp;
use sweepd::store::{
    DrawnIn, EffectFilter, EndScan, EnqueueOnce, HoldRemoved, NewHold, Once, Prune, RequestKey, ScanEnded, ScanLease,
    TakeScan,
};

use super::{Desk, StoreHarness, due_at, postpone_by, retry_in, task};

/// How far the clock was ahead, in milliseconds.
pub(super) const AHEAD: u64 = 36_000_000;

impl<H: StoreHarness> Desk<H> {
    pub(super) fn set_back(&mut self, millis: u64) {
        self.now = Timestamp(self.now.0 - millis);
    }

    pub(super) async fn draw_in(&self) -> DrawnIn {
        self.store.draw_in(1000, self.at()).await.expect("it is drawn in")
    }

    /// The clock is ahead from here on. What was made by the server's own clock
    /// (a job is) was drawn in before.
    async fn ahead(&mut self) {
        self.draw_in().await;
        self.advance(AHEAD);
    }

    /// It is set back, and what that left is drawn in.
    async fn back(&mut self) -> DrawnIn {
        self.set_back(AHEAD);
        self.draw_in().await
    }
}

pub(super) async fn what_was_now_is_due_now(mut desk: Desk<impl StoreHarness>) {
    desk.ahead().await;
    desk.new_task("a").await;
    let ahead = desk.now;
    desk.set_back(AHEAD);
    assert_eq!(desk.claim_keys(10).await, [""; 0], "it is due in the future");
    let drawn = desk.draw_in().await;
    assert_eq!((drawn.tasks, drawn.latest), (1, Some(ahead)), "{drawn:?}");
    assert_eq!(desk.claim_keys(10).await, ["a"]);
}

pub(super) async fn a_wait_counts_from_now(mut desk: Desk<impl StoreHarness>) {
    desk.ahead().await;
    let released = Disposition::Release { after: Some(Duration::from_mins(1)) };
    let mut ids = Vec::new();
    for (key, disposition) in [("a", retry_in(60)), ("b", postpone_by(60)), ("c", released)] {
        ids.push(desk.new_task(key).await);
        let claimed = desk.claim_one().await;
        desk.finish(&claimed, disposition).await;
    }
    assert_eq!(desk.back().await.tasks, 3);
    for id in ids {
        assert_eq!(desk.view(id).await.run_at, Timestamp(desk.now.0 + 60_000));
    }
    desk.advance(59_999);
    assert_eq!(desk.claim_keys(10).await, [""; 0], "no wait is cut short");
    desk.advance(1);
    assert_eq!(desk.claim_keys(10).await, ["a", "b", "c"]);
}

pub(super) async fn a_successor_is_due_now(mut desk: Desk<impl StoreHarness>) {
    desk.draw_in().await;
    desk.new_task("a").await;
    let claimed = desk.claim_one().await;
    desk.advance(AHEAD);
    desk.add(task("a")).await;
    assert_eq!(desk.back().await.tasks, 1);
    desk.finish(&claimed, Disposition::Done(None)).await;
    assert_eq!(desk.claim_keys(10).await, ["a"]);
}

pub(super) async fn a_named_time_stays(mut desk: Desk<impl StoreHarness>) {
    desk.ahead().await;
    let named = desk.now.0 + 5000;
    let id = desk.add(due_at("a", named)).await.id();
    desk.add(due_at("a", named + 5000)).await;
    let both = desk.enqueue(vec![task("b"), due_at("b", named)]).await[0].id();
    let drawn = desk.back().await;
    assert_eq!(drawn.tasks, 1, "{drawn:?}");
    assert_eq!(desk.view(id).await.run_at, Timestamp(named));
    assert_eq!(desk.view(both).await.run_at, desk.now, "now was asked for, too");
    // Asked for by now, it is due; by hand, too.
    desk.add(task("a")).await;
    assert_eq!(desk.view(id).await.run_at, desk.now);
}

pub(super) async fn a_schedule_goes_on(mut desk: Desk<impl StoreHarness>) {
    desk.ahead().await;
    let take = async |desk: &Desk<_>, scheduled: Timestamp| {
        let take = TakeScan { job: desk.job, node: desk.node, scheduled: Some(scheduled) };
        desk.store.take_scan(take, desk.at()).await.expect("it is answered")
    };
    assert_eq!(take(&desk, desk.now).await, ScanLease::Taken);
    let end = EndScan { job: desk.job, node: desk.node, scheduled: desk.now };
    assert_eq!(desk.store.end_scan(end).await, Ok(ScanEnded::Recorded));
    desk.set_back(AHEAD);
    let next = Timestamp(desk.now.0 + 60_000);
    assert_eq!(take(&desk, next).await, ScanLease::Past, "it counts as scanned");
    assert_eq!(desk.draw_in().await.schedules, 1);
    assert_eq!(desk.store.jobs().await.expect("jobs are listed")[0].scheduled, desk.now);
    assert_eq!(take(&desk, next).await, ScanLease::Taken);
}

pub(super) async fn a_request_is_kept_and_goes(mut desk: Desk<impl StoreHarness>) {
    desk.ahead().await;
    let ask = EnqueueOnce {
        job: desk.job,
        request: RequestKey { key: "r".to_owned(), digest: Digest::of(b"a") },
        tasks: vec![task("a")],
    };
    let queued = desk.store.enqueue_once(ask.clone(), desk.at()).await;
    assert!(matches!(queued, Ok(Once::Queued(_))), "{queued:?}");
    assert_eq!(desk.back().await.records, 1);
    let kept = u64::try_from(RequestKey::KEPT.as_millis()).expect("a day");
    let prune = Prune { ended_before: Timestamp(0), effects_before: Timestamp(0), limit: 100 };
    desk.advance(kept - 1);
    desk.store.prune(prune, desk.at()).await.expect("it is answered");
    let repeated = desk.store.enqueue_once(ask.clone(), desk.at()).await;
    assert!(matches!(repeated, Ok(Once::Repeated(_))), "{repeated:?}");
    desk.advance(1);
    let anew = desk.store.enqueue_once(ask, desk.at()).await;
    assert!(matches!(anew, Ok(Once::Queued(_))), "{anew:?}");
}

impl<H: StoreHarness> Desk<H> {
    /// A removal of this desk's time, by a journal of its own: the later one has
    /// the lower number.
    fn removed_by(&self, journal: u64, trashed: bool) -> Effect {
        let id = EffectId { journal, number: 1 };
        Effect { id, at: self.now, trashed, ..self.removal(1) }
    }
}

pub(super) async fn effects_keep_their_order(mut desk: Desk<impl StoreHarness>) {
    desk.draw_in().await;
    desk.record(vec![desk.removed_by(9, false)]).await;
    desk.advance(AHEAD + 60_000);
    for journal in [8, 7, 6] {
        desk.advance(40_000);
        desk.record(vec![desk.removed_by(journal, false)]).await;
    }
    desk.set_back(AHEAD);
    let drawn = desk.draw_in().await;
    assert_eq!(drawn.effects, 3, "{drawn:?}");
    desk.record(vec![desk.removed_by(5, false)]).await;
    let listed = desk.effects(EffectFilter { limit: 10, ..EffectFilter::default() }).await;
    let journals: Vec<_> = listed.iter().map(|view| view.effect.id.journal).collect();
    assert!(listed.iter().all(|view| view.effect.at <= desk.now), "{listed:?}");
    assert_eq!(journals, [5, 6, 7, 8, 9], "the latest first, whatever the clock showed");
    // They were done in this hour, as far as anybody knows, and not for ten.
    let spent = async |desk: &Desk<_>| {
        let since = Timestamp(desk.now.0.saturating_sub(3_600_000));
        desk.store.spent(desk.job, since, None).await.expect("it is summed up")
    };
    assert_eq!(spent(&desk).await, Spent { files: 5, bytes: 50, ..Spent::default() });
    desk.advance(3_600_001);
    assert_eq!(spent(&desk).await, Spent::default());
}

pub(super) async fn a_trash_counts_from_now(mut desk: Desk<impl StoreHarness>) {
    desk.ahead().await;
    desk.record(vec![desk.removed_by(8, true), desk.removed_by(7, false)]).await;
    desk.back().await;
    let kept = desk.effects(EffectFilter { limit: 10, ..EffectFilter::default() }).await;
    let since: Vec<_> = kept.iter().filter_map(|view| view.fate_at).collect();
    assert_eq!(since, [desk.now]);
}

pub(super) async fn a_removed_hold_stays_removed(mut desk: Desk<impl StoreHarness>) {
    desk.ahead().await;
    let pattern = Pattern::new("a").expect("a pattern");
    let until = Timestamp(desk.now.0 + 1000);
    let new = NewHold { job: desk.job, pattern, until: None, why: "a lawsuit".to_owned() };
    let hold = desk.store.add_hold(new.clone(), desk.at()).await.expect("it holds");
    let stays = desk.store.add_hold(NewHold { until: Some(until), ..new }, desk.at()).await.expect("it holds");
    let removed = desk.store.remove_hold(desk.job, hold.id, desk.at()).await.expect("it is answered");
    assert!(matches!(removed, HoldRemoved::Removed(_)), "{removed:?}");
    desk.set_back(AHEAD);
    let standing = async |desk: &Desk<_>| desk.store.holds(desk.job, desk.at()).await.expect("holds are listed");
    assert_eq!(standing(&desk).await, std::slice::from_ref(&stays), "before anybody drew anything in");
    desk.draw_in().await;
    assert_eq!(standing(&desk).await[0].until, stays.until, "somebody named that time");
}

pub(super) async fn old_history_goes_all_the_same(mut desk: Desk<impl StoreHarness>) {
    desk.ahead().await;
    let id = desk.new_task("a").await;
    let claimed = desk.claim_one().await;
    desk.finish(&claimed, Disposition::Done(None)).await;
    assert_eq!(desk.back().await.records, 1);
    let ended = desk.view(id).await;
    assert!(ended.finished_at.is_some_and(|at| at <= desk.now), "{ended:?}");
    desk.advance(1);
    let prune = Prune { ended_before: desk.now, effects_before: Timestamp(0), limit: 100 };
    desk.store.prune(prune, desk.at()).await.expect("it is answered");
    assert_eq!(desk.store.task(id).await, Ok(None));
}

pub(super) async fn what_is_not_ahead_stays(mut desk: Desk<impl StoreHarness>) {
    desk.draw_in().await;
    assert!(desk.draw_in().await.is_nothing(), "once is enough");
    desk.new_task("a").await;
    let claimed = desk.claim_one().await;
    desk.finish(&claimed, retry_in(3600)).await;
    let effect = desk.removed_by(8, true);
    desk.record(vec![effect.clone()]).await;
    let due = desk.view(claimed.id).await.run_at;
    desk.set_back(10_000);
    let drawn = desk.draw_in().await;
    assert_eq!((drawn.is_nothing(), drawn.latest), (true, None), "clocks differ by as much: {drawn:?}");
    assert_eq!(desk.view(claimed.id).await.run_at, due);
    let kept = desk.effects(EffectFilter { limit: 10, ..EffectFilter::default() }).await;
    assert_eq!((kept[0].effect.at, kept[0].fate_at), (effect.at, Some(effect.at)));
}

pub(super) async fn it_is_done_little_by_little(mut desk: Desk<impl StoreHarness>) {
    desk.ahead().await;
    let tasks: Vec<_> = (0..5).map(|number| task(&number.to_string())).collect();
    let ids: Vec<TaskId> = desk.enqueue(tasks).await.iter().map(|queued| queued.id()).collect();
    desk.set_back(AHEAD);
    let (mut calls, mut all) = (Vec::new(), DrawnIn::default());
    loop {
        let drawn = desk.store.draw_in(2, desk.at()).await.expect("it is drawn in");
        calls.push(drawn.tasks);
        all = all.and(drawn);
        if !drawn.more {
            break;
        }
    }
    assert_eq!((calls, all.tasks), (vec![2, 2, 1], 5));
    for id in ids {
        assert_eq!(desk.view(id).await.run_at, desk.now);
    }
}
