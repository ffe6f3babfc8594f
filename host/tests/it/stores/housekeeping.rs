//! What ended long ago is forgotten, a little at a time.

use sweepd::domain::digest::Digest;
use sweepd::domain::outcome::Disposition;
use sweepd::domain::task::TaskId;
use sweepd::domain::time::Timestamp;
use sweepd::store::{EnqueueOnce, Once, Prune, Pruned, RequestKey};

use super::{Desk, StoreHarness, retry_in, task};

impl<H: StoreHarness> Desk<H> {
    async fn prune(&self, ended_before: Timestamp, limit: u32) -> Pruned {
        let effects_before = Timestamp(0);
        self.store.prune(Prune { ended_before, effects_before, limit }, self.at()).await.expect("it is answered")
    }

    /// A task that failed once and then ended.
    async fn ended(&mut self, key: &str) -> TaskId {
        let id = self.new_task(key).await;
        let claimed = self.claim_one().await;
        self.finish(&claimed, retry_in(1)).await;
        self.advance(1000);
        let claimed = self.claim_one().await;
        self.finish(&claimed, Disposition::Done(None)).await;
        id
    }
}

pub(super) async fn old_history_goes(mut desk: Desk<impl StoreHarness>) {
    let old = desk.ended("old").await;
    desk.advance(1000);
    let border = desk.now;
    let young = desk.ended("young").await;
    let live = desk.new_task("live").await;
    let claimed = desk.claim_one().await;
    desk.finish(&claimed, retry_in(60)).await;
    assert_eq!(desk.prune(border, 100).await, Pruned { tasks: 1, ..Pruned::default() });
    assert_eq!(desk.store.task(old).await, Ok(None));
    assert_eq!(desk.store.attempts(old).await, Ok(Vec::new()));
    assert_eq!(desk.store.attempts(young).await.expect("attempts are listed").len(), 2);
    assert_eq!(desk.store.attempts(live).await.expect("attempts are listed").len(), 1, "live tasks keep theirs");
    assert_eq!(desk.prune(border, 100).await, Pruned::default());
}

pub(super) async fn little_by_little(mut desk: Desk<impl StoreHarness>) {
    for number in 0..5 {
        desk.ended(&number.to_string()).await;
    }
    desk.advance(1000);
    let mut calls = Vec::new();
    loop {
        let pruned = desk.prune(desk.now, 2).await;
        calls.push(pruned.tasks);
        if !pruned.more {
            break;
        }
    }
    assert_eq!(calls, [2, 2, 1]);
}

pub(super) async fn requests_go(mut desk: Desk<impl StoreHarness>) {
    let ask = |content: &str| EnqueueOnce {
        job: desk.job,
        request: RequestKey { key: "r".to_owned(), digest: Digest::of(content.as_bytes()) },
        tasks: vec![task(content)],
    };
    let (first, second) = (ask("a"), ask("b"));
    desk.store.enqueue_once(first, desk.at()).await.expect("it is answered");
    desk.prune(desk.now, 100).await;
    let again = desk.store.enqueue_once(second.clone(), desk.at()).await;
    assert_eq!(again, Ok(Once::Mismatch), "it is still known");
    desk.advance(u64::try_from(RequestKey::KEPT.as_millis()).expect("a day"));
    desk.prune(desk.now, 100).await;
    assert!(matches!(desk.store.enqueue_once(second, desk.at()).await, Ok(Once::Queued(_))));
}
