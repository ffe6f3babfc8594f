//! Requests that name themselves are done once.

use std::time::Duration;

use sweepd::domain::digest::Digest;
use sweepd::domain::task::NewTask;
use sweepd::store::{EnqueueOnce, Once, RequestKey};

use super::{Desk, StoreHarness, register, task};

impl<H: StoreHarness> Desk<H> {
    fn request(&self, key: &str, content: &str) -> EnqueueOnce {
        let request = RequestKey { key: key.to_owned(), digest: Digest::of(content.as_bytes()) };
        let tasks: Vec<NewTask> = content.split(' ').map(task).collect();
        EnqueueOnce { job: self.job, request, tasks }
    }

    async fn once(&self, ask: EnqueueOnce) -> Once {
        self.store.enqueue_once(ask, self.at()).await.expect("it is answered")
    }
}

pub(super) async fn done_once(mut desk: Desk<impl StoreHarness>) {
    let Once::Queued(first) = desk.once(desk.request("r", "a b a")).await else { panic!("it is new") };
    assert_eq!(first.len(), 3);
    assert_eq!(desk.claim_keys(10).await, ["a", "b"]);
    desk.reopen().await;
    // Otherwise it would leave a successor.
    assert_eq!(desk.once(desk.request("r", "a b a")).await, Once::Repeated(first));
    assert!(!desk.view(first_id(&desk).await).await.successor);
    let other = EnqueueOnce { job: register(&desk.store, "other").await, ..desk.request("r", "x") };
    assert!(matches!(desk.once(other).await, Once::Queued(_)), "another job's requests are its own");
}

async fn first_id<H: StoreHarness>(desk: &Desk<H>) -> sweepd::domain::task::TaskId {
    let filter = sweepd::store::TaskFilter { job: Some(desk.job), limit: 1, ..Default::default() };
    desk.store.tasks(filter).await.expect("tasks are listed")[0].id
}

pub(super) async fn another_content_is_a_mistake(desk: Desk<impl StoreHarness>) {
    desk.once(desk.request("r", "a")).await;
    assert_eq!(desk.once(desk.request("r", "b")).await, Once::Mismatch);
    assert_eq!(desk.claim_keys(10).await, ["a"]);
}

pub(super) async fn forgotten_after_a_day(mut desk: Desk<impl StoreHarness>) {
    desk.once(desk.request("r", "a")).await;
    let kept = u64::try_from(RequestKey::KEPT.as_millis()).expect("a day");
    desk.advance(kept - 1);
    assert!(matches!(desk.once(desk.request("r", "a")).await, Once::Repeated(_)));
    desk.advance(1);
    assert!(matches!(desk.once(desk.request("r", "b")).await, Once::Queued(_)));
    assert!(matches!(desk.once(desk.request("r", "b")).await, Once::Repeated(_)));
    assert_eq!(RequestKey::KEPT, Duration::from_hours(24));
}

pub(super) async fn asked_at_once_done_once(desk: Desk<impl StoreHarness>) {
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..16 {
        let (store, ask, at) = (desk.store.clone(), desk.request("r", "a b c"), desk.at());
        callers.spawn(async move { store.enqueue_once(ask, at).await.expect("it is answered") });
    }
    let (mut queued, mut answers) = (0, Vec::new());
    while let Some(once) = callers.join_next().await {
        match once.expect("no panic") {
            Once::Queued(answer) => {
                queued += 1;
                answers.push(answer);
            }
            Once::Repeated(answer) => answers.push(answer),
            Once::Mismatch => panic!("it is the same content"),
        }
    }
    assert_eq!(queued, 1);
    assert!(answers.iter().all(|answer| *answer == answers[0]));
}
