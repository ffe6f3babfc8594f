//! Many callers at once, callers that give up, and the end.

use std::collections::HashSet;
use std::future::{Future, poll_fn};
use std::task::Poll;

use sweepd::domain::job::JobId;
use sweepd::domain::task::Enqueued;
use sweepd::store::{StoreError, TaskFilter};

use super::{Desk, StoreHarness, task};

pub(super) async fn callers_at_once_are_all_answered(desk: Desk<impl StoreHarness>) {
    let mut callers = tokio::task::JoinSet::new();
    for caller in 0..64 {
        let (store, job, at) = (desk.store.clone(), desk.job, desk.at());
        callers.spawn(async move {
            let mut answers = Vec::new();
            for number in 0..10 {
                let asked = vec![task(&format!("{caller}-{number}")), task("shared")];
                answers.extend(store.enqueue(job, asked, at).await.expect("it is queued"));
            }
            answers
        });
    }
    let (mut new, mut shared) = (HashSet::new(), HashSet::new());
    while let Some(answers) = callers.join_next().await {
        for (place, answer) in answers.expect("no panic").into_iter().enumerate() {
            match (place % 2, answer) {
                (0, Enqueued::New(id)) => assert!(new.insert(id), "a number of its own"),
                (1, Enqueued::New(id) | Enqueued::Pending(id)) => drop(shared.insert(id)),
                other => panic!("unexpected answer {other:?}"),
            }
        }
    }
    assert_eq!((new.len(), shared.len()), (640, 1));
}

pub(super) async fn a_bad_call_fails_alone(desk: Desk<impl StoreHarness>) {
    let mut callers = tokio::task::JoinSet::new();
    for caller in 0..60_i64 {
        let (store, at) = (desk.store.clone(), desk.at());
        let job = if caller % 3 == 0 { JobId(99) } else { desk.job };
        callers.spawn(async move {
            let answer = store.enqueue(job, vec![task(&caller.to_string())], at).await;
            (caller, answer)
        });
    }
    while let Some(done) = callers.join_next().await {
        let (caller, answer) = done.expect("no panic");
        if caller % 3 == 0 {
            assert!(matches!(answer, Err(StoreError::Rejected(_))), "{answer:?}");
        } else {
            assert!(matches!(answer.as_deref(), Ok([Enqueued::New(_)])), "{answer:?}");
        }
    }
    assert_eq!(desk.claim_keys(100).await.len(), 40);
}

pub(super) async fn a_dropped_call_is_stored_whole(desk: Desk<impl StoreHarness>) {
    for round in 0..20 {
        let asked = vec![task(&format!("{round}-a")), task(&format!("{round}-b"))];
        let mut call = Box::pin(desk.try_enqueue(desk.job, asked));
        // Handed over with the first poll, then forgotten.
        poll_fn(|context| {
            let _ = call.as_mut().poll(context);
            Poll::Ready(())
        })
        .await;
        drop(call);
    }
    // What comes later is written later.
    desk.new_task("after").await;
    let stored: HashSet<_> = desk.claim_keys(100).await.into_iter().collect();
    for round in 0..20 {
        let halves = ["a", "b"].map(|half| stored.contains(&format!("{round}-{half}")));
        assert_eq!(halves, [true, true], "round {round}");
    }
}

pub(super) async fn a_closed_store_says_so(desk: Desk<impl StoreHarness>) {
    desk.new_task("a").await;
    desk.store.close().await;
    let answer = desk.try_enqueue(desk.job, vec![task("b")]).await;
    assert!(matches!(answer, Err(StoreError::Unavailable(_))), "{answer:?}");
    let answer = desk.store.tasks(TaskFilter { limit: 10, ..TaskFilter::default() }).await;
    assert!(matches!(answer, Err(StoreError::Unavailable(_))), "{answer:?}");
    assert!(matches!(desk.store.check().await, Err(StoreError::Unavailable(_))));
    desk.store.close().await;
}

pub(super) async fn an_open_store_can_be_used(desk: Desk<impl StoreHarness>) {
    assert_eq!(desk.store.check().await, Ok(()));
    assert_eq!(desk.store.now(desk.at()).await, Ok(desk.now));
    assert!(desk.store.now(sweepd::store::At::Server).await.expect("it has a clock").0 > 1_700_000_000_000);
}
