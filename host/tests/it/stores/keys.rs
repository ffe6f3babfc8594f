//! Keys are bytes: nothing folds, trims or composes them.

use sweepd::domain::task::{Enqueued, Key, MAX_KEY, MAX_PAYLOAD, NewTask, Payload};

use super::{Desk, StoreHarness, task};

pub(super) async fn bytes_make_the_key(mut desk: Desk<impl StoreHarness>) {
    let different = [
        "A1",
        "a1",
        "a1 ",
        " a1",
        "a1\t",
        "a1\n",
        "caf\u{e9}",
        "cafe\u{301}",
        "CAFÉ",
        "ß",
        "ss",
        "ﬁ",
        "fi",
        "İ",
        "i",
        "ı",
        "影",
        "a\u{200b}1",
        "%",
        "_",
        "'",
        "\"",
        "\\",
        "1",
        "01",
        "1.0",
        "0x31",
        "\u{10ffff}",
        "🎬",
    ];
    let answers = desk.enqueue(different.iter().map(|key| task(key)).collect()).await;
    for (key, answer) in different.iter().zip(&answers) {
        assert!(matches!(answer, Enqueued::New(_)), "{key:?} was taken for another key");
    }
    desk.reopen().await;
    for (key, answer) in different.iter().zip(&answers) {
        assert_eq!(desk.add(task(key)).await, Enqueued::Pending(answer.id()), "{key:?}");
        assert_eq!(desk.view(answer.id()).await.key, *key);
    }
    assert_eq!(desk.claim_keys(100).await, different);
}

pub(super) async fn the_longest_key_and_payload(desk: Desk<impl StoreHarness>) {
    let longest = "影".repeat(MAX_KEY / 3) + "a";
    let other = "影".repeat(MAX_KEY / 3) + "b";
    assert_eq!(longest.len(), MAX_KEY);
    let payload = "ä".repeat(MAX_PAYLOAD / 2);
    let large = NewTask {
        payload: Some(Payload::new(payload.clone()).expect("just short enough")),
        ..NewTask::now(Key::new(longest.clone()).expect("just short enough"))
    };
    let id = desk.add(large).await.id();
    assert!(matches!(desk.add(task(&other)).await, Enqueued::New(_)), "they differ in the last byte");
    let view = desk.view(id).await;
    assert_eq!((view.key, view.payload.as_ref()), (longest.clone(), Some(&payload)));
    let claim = desk.claim(1).await.expect("two are due");
    assert_eq!(claim.tasks[0].key.as_str(), longest);
    assert_eq!(claim.tasks[0].payload.as_ref().map(Payload::as_str), Some(payload.as_str()));
}
