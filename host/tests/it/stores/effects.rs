//! Effects on record: each once, as it was, for as long as it must.

use std::sync::Arc;

use sweepd::domain::budget::Spent;
use sweepd::domain::digest::Digest;
use sweepd::domain::effect::{Effect, EffectId, EffectResult, EffectView, Fate, Operation};
use sweepd::domain::outcome::{Disposition, Finished};
use sweepd::domain::task::TaskId;
use sweepd::domain::time::Timestamp;
use sweepd::store::{EffectFilter, Prune, Pruned, StoreError, WriteBack};

use super::{Desk, StoreHarness, register};

/// The journal of the effects here.
pub(super) const JOURNAL: u64 = 0x7fff_0000_1234_5678;

pub(super) fn taken(files: u64, bytes: u64) -> Spent {
    Spent { files, bytes, ..Spent::default() }
}

fn id(number: u64) -> EffectId {
    EffectId { journal: JOURNAL, number }
}

/// All that there are.
pub(super) fn all() -> EffectFilter {
    EffectFilter { oldest_first: true, limit: 10_000, ..EffectFilter::default() }
}

impl<H: StoreHarness> Desk<H> {
    /// A file of ten bytes is removed for good, at a time of its own.
    pub(super) fn removal(&self, number: u64) -> Effect {
        Effect {
            id: id(number),
            job: self.job,
            task: TaskId(7),
            attempt: 1,
            digest: Digest::of(b"a component"),
            operation: Operation::Remove,
            mount: "/srv/videos".into(),
            path: format!("2024/{number}.mp4"),
            to: None,
            to_mount: None,
            size: 10,
            allocated: 10,
            modified: Timestamp(5),
            inode: 99,
            at: Timestamp(1000 + number),
            result: EffectResult::Done,
            trashed: false,
            times: 1,
            written: 0,
        }
    }

    /// The same into the trash.
    pub(super) fn trashed(&self, number: u64) -> Effect {
        Effect { trashed: true, ..self.removal(number) }
    }

    pub(super) async fn record(&self, effects: Vec<Effect>) {
        self.store.record_effects(effects, self.at()).await.expect("they are on record");
    }

    pub(super) async fn effects(&self, filter: EffectFilter) -> Vec<EffectView> {
        self.store.effects(filter).await.expect("effects are listed")
    }

    /// The numbers of the effects that the filter finds.
    pub(super) async fn numbers(&self, filter: EffectFilter) -> Vec<u64> {
        self.effects(filter).await.iter().map(|view| view.effect.id.number).collect()
    }

    pub(super) async fn settle(&self, numbers: &[u64], fate: Fate) -> u64 {
        let ids: Vec<_> = numbers.iter().map(|number| id(*number)).collect();
        self.store.settle(&ids, fate, self.at()).await.expect("it is answered")
    }

    async fn forget(&self, effects_before: u64, limit: u32) -> Pruned {
        let (ended_before, effects_before) = (Timestamp(0), Timestamp(effects_before));
        let prune = Prune { ended_before, effects_before, limit };
        self.store.prune(prune, self.at()).await.expect("it is answered")
    }
}

pub(super) async fn they_stand_as_they_were(desk: Desk<impl StoreHarness>) {
    let long = format!("{}/é", "d".repeat(4000));
    let effects: Vec<_> = (1..)
        .zip(Operation::ALL)
        .map(|(number, operation)| Effect { operation, ..desk.removal(number) })
        .chain([
            Effect { path: long.clone(), to: Some(long), inode: u64::MAX, ..desk.removal(20) },
            Effect { to: Some("B ".to_owned()), to_mount: Some("/ΣΑΣ".into()), ..desk.removal(21) },
            Effect { result: EffectResult::Failed("no such file".to_owned()), ..desk.trashed(22) },
            Effect {
                result: EffectResult::Unknown,
                mount: "/".into(),
                path: "\u{1}\t\\%_'".to_owned(),
                ..desk.trashed(23)
            },
            Effect { path: String::new(), size: 1 << 62, allocated: 1 << 62, attempt: 3, ..desk.removal(24) },
        ])
        .collect();
    desk.record(effects.clone()).await;
    let views = desk.effects(all()).await;
    assert_eq!(views.iter().map(|view| view.effect.clone()).collect::<Vec<_>>(), effects);
    assert!(views.iter().all(|view| view.job_name == "video-clear"));
    let fates: Vec<_> =
        views.iter().filter_map(|view| Some((view.effect.id.number, view.fate?, view.fate_at?))).collect();
    assert_eq!(fates, [(23, Fate::Kept, desk.now)], "what failed is not in the trash");
}

pub(super) async fn a_write_back_brings_them(desk: Desk<impl StoreHarness>) {
    desk.new_task("a").await;
    let claimed = desk.claim_one().await;
    let finish = desk.finish_of(&claimed, Disposition::Done(None));
    let back = |effects| WriteBack { finishes: vec![finish.clone()], closed: vec![claimed.fence], effects };
    let answer = desk.store.finish(back(vec![desk.removal(1)]), desk.at()).await;
    assert_eq!(answer, Ok(vec![Finished::Applied]));
    assert_eq!(desk.numbers(all()).await, [1]);
    // Of another claim: it happened all the same.
    let mut stranger = back(vec![desk.removal(1), desk.removal(2)]);
    stranger.finishes[0].fence.0 += 1;
    assert_eq!(desk.store.finish(stranger, desk.at()).await, Ok(vec![Finished::Fenced]));
    assert_eq!(desk.numbers(all()).await, [1, 2]);
    let alone = WriteBack { effects: vec![desk.removal(3)], ..WriteBack::default() };
    assert_eq!(desk.store.finish(alone, desk.at()).await, Ok(Vec::new()));
    assert_eq!(desk.numbers(all()).await, [1, 2, 3]);
}

pub(super) async fn told_again_they_stay(mut desk: Desk<impl StoreHarness>) {
    let effects: Vec<_> = (1..=3).map(|number| desk.trashed(number)).collect();
    desk.record(effects.clone()).await;
    assert_eq!(desk.settle(&[2], Fate::Restored).await, 1);
    let before = desk.effects(all()).await;
    desk.advance(1000);
    let told: Vec<_> = effects
        .iter()
        .map(|effect| Effect { result: EffectResult::Failed("no".to_owned()), trashed: false, ..effect.clone() })
        .chain(effects.clone())
        .collect();
    desk.record(told).await;
    desk.record(Vec::new()).await;
    assert_eq!(desk.effects(all()).await, before);
}

pub(super) async fn what_was_unknown_is_learned(mut desk: Desk<impl StoreHarness>) {
    let unknown = |number| Effect { result: EffectResult::Unknown, ..desk.trashed(number) };
    desk.record((1..=4).map(unknown).collect()).await;
    assert_eq!(desk.settle(&[3, 4], Fate::Purged).await, 2);
    let settled = desk.now;
    desk.advance(1000);
    let failed = |number| Effect { result: EffectResult::Failed("no".to_owned()), ..desk.trashed(number) };
    // Twice in one call: the first that knows is believed.
    desk.record(vec![failed(1), desk.trashed(1), desk.trashed(2), failed(3), desk.trashed(4)]).await;
    let views = desk.effects(all()).await;
    let results: Vec<_> = views.iter().map(|view| matches!(view.effect.result, EffectResult::Done)).collect();
    assert_eq!(results, [false, true, false, true]);
    assert!(views.iter().all(|view| view.effect.result != EffectResult::Unknown));
    let fates: Vec<_> = views.iter().map(|view| view.fate.zip(view.fate_at)).collect();
    let purged = Some((Fate::Purged, settled));
    assert_eq!(fates, [None, Some((Fate::Kept, desk.now)), purged, purged]);
    let spent = desk.store.spent(desk.job, Timestamp(0), None).await;
    assert_eq!(spent, Ok(taken(2, 20)), "what failed costs nothing");
    let forgets = Effect { result: EffectResult::Unknown, ..desk.trashed(2) };
    desk.record(vec![forgets]).await;
    assert_eq!(desk.effects(all()).await, views, "what is known is not unlearned");
}

pub(super) async fn filters_are_told_apart(desk: Desk<impl StoreHarness>) {
    let other = register(&desk.store, "other").await;
    desk.record(vec![
        desk.removal(1),
        Effect { task: TaskId(8), operation: Operation::Create, ..desk.removal(2) },
        Effect { job: other, ..desk.removal(3) },
        Effect { operation: Operation::Rename, to: Some("2025/x".to_owned()), ..desk.removal(4) },
        Effect {
            operation: Operation::Link,
            to: Some("y".to_owned()),
            to_mount: Some("/srv/links/".into()),
            ..desk.removal(5)
        },
        desk.trashed(6),
        Effect { mount: "/".into(), path: "Srv/videos/z".to_owned(), ..desk.removal(7) },
        Effect { task: TaskId(8), ..desk.trashed(8) },
    ])
    .await;
    desk.settle(&[6], Fate::Purged).await;
    for (filter, wanted) in [
        (EffectFilter { job: Some(other), ..all() }, vec![3]),
        (EffectFilter { job: Some(desk.job), ..all() }, vec![1, 2, 4, 5, 6, 7, 8]),
        (EffectFilter { task: Some(TaskId(8)), ..all() }, vec![2, 8]),
        (EffectFilter { task: Some(TaskId(7)), job: Some(other), ..all() }, vec![3]),
        (EffectFilter { since: Some(Timestamp(1006)), ..all() }, vec![6, 7, 8]),
        (EffectFilter { until: Some(Timestamp(1003)), ..all() }, vec![1, 2]),
        (EffectFilter { since: Some(Timestamp(1002)), until: Some(Timestamp(1004)), ..all() }, vec![2, 3]),
        (EffectFilter { operation: Some(Operation::Create), ..all() }, vec![2]),
        (EffectFilter { fate: Some(Fate::Kept), ..all() }, vec![8]),
        (EffectFilter { fate: Some(Fate::Purged), job: Some(desk.job), ..all() }, vec![6]),
        (EffectFilter { fate: Some(Fate::Purged), job: Some(other), ..all() }, vec![]),
        (EffectFilter { fate: Some(Fate::Purged), task: Some(TaskId(8)), ..all() }, vec![]),
        (EffectFilter { fate: Some(Fate::Restored), ..all() }, vec![]),
    ] {
        assert_eq!(desk.numbers(filter.clone()).await, wanted, "{filter:?}");
    }
    for (prefix, wanted) in [
        ("/srv/videos/2024/1.mp4", vec![1]),
        ("/srv/videos/2025", vec![4]),
        ("/srv/links/y", vec![5]),
        ("/Srv", vec![7]),
        ("/srv/videos/2024/%", vec![]),
        ("2024", vec![]),
        ("/", vec![1, 2, 3, 4, 5, 6, 7, 8]),
    ] {
        let filter = EffectFilter { path_prefix: Some(prefix.to_owned()), ..all() };
        assert_eq!(desk.numbers(filter).await, wanted, "{prefix}");
    }
}

pub(super) async fn pages_follow_the_time(desk: Desk<impl StoreHarness>) {
    let other = register(&desk.store, "other").await;
    // Several at a time, of two jobs and two journals.
    let effects: Vec<_> = (1..=23_u64)
        .map(|number| {
            let job = if number % 3 == 0 { other } else { desk.job };
            let id = EffectId { journal: JOURNAL - number % 2, number };
            Effect { id, job, at: Timestamp(number / 5), ..desk.trashed(number) }
        })
        .collect();
    let mut places: Vec<_> = effects.iter().map(|effect| (effect.at, effect.id)).collect();
    desk.record(effects).await;
    for oldest_first in [true, false] {
        places.sort_unstable();
        if !oldest_first {
            places.reverse();
        }
        let filter = EffectFilter { oldest_first, limit: 4, ..EffectFilter::default() };
        for filter in [
            filter.clone(),
            EffectFilter { task: Some(TaskId(7)), ..filter.clone() },
            EffectFilter { fate: Some(Fate::Kept), ..filter },
        ] {
            let (mut found, mut after) = (Vec::new(), None);
            loop {
                let page = desk.effects(EffectFilter { after, ..filter.clone() }).await;
                found.extend(page.iter().map(|view| (view.effect.at, view.effect.id)));
                if page.len() < 4 {
                    break;
                }
                after = found.last().copied();
            }
            assert_eq!(found, places, "{filter:?}");
        }
    }
    assert_eq!(desk.numbers(EffectFilter { limit: 0, ..all() }).await, [0; 0]);
}

pub(super) async fn costs_are_summed_up(desk: Desk<impl StoreHarness>) {
    let other = register(&desk.store, "other").await;
    let spent = async |since, except| desk.store.spent(desk.job, Timestamp(since), except).await.expect("a sum");
    assert_eq!(spent(0, None).await, Spent::default());
    let foreign = EffectId { journal: 1, number: 6 };
    desk.record(vec![
        desk.removal(1),
        Effect { operation: Operation::Create, ..desk.removal(2) },
        Effect { result: EffectResult::Failed("no".to_owned()), ..desk.removal(3) },
        Effect { job: other, ..desk.removal(4) },
        Effect { operation: Operation::Rename, size: 100, allocated: 100, ..desk.removal(5) },
        Effect { id: foreign, size: 1000, allocated: 1000, at: Timestamp(1006), ..desk.removal(6) },
    ])
    .await;
    let one_made = |spent| Spent { made: 1, ..spent };
    assert_eq!(spent(0, None).await, one_made(taken(3, 1110)));
    assert_eq!(spent(1005, None).await, taken(2, 1100), "at that time is within");
    assert_eq!(spent(1006, None).await, taken(1, 1000));
    assert_eq!(spent(0, Some(JOURNAL)).await, taken(1, 1000));
    assert_eq!(spent(0, Some(1)).await, one_made(taken(2, 110)));
    assert_eq!(spent(0, Some(2)).await, one_made(taken(3, 1110)));
    let changed = async |since, until, except| {
        let (since, until) = (Timestamp(since), Timestamp(until));
        let changed = desk.store.changed_files(desk.job, since, until, except).await.expect("a count");
        (changed.removed, changed.made)
    };
    assert_eq!(changed(0, u64::MAX >> 1, None).await, (2, 1), "neither what failed nor what was moved");
    assert_eq!(changed(1002, 1006, None).await, (0, 1), "until is without");
    assert_eq!(changed(1006, 1007, None).await, (1, 0));
    assert_eq!(changed(0, 2000, Some(JOURNAL)).await, (1, 0));
    assert_eq!(changed(0, 2000, Some(1)).await, (1, 1));
    // More than any number holds.
    desk.record((10..14).map(|number| Effect { allocated: i64::MAX.unsigned_abs(), ..desk.removal(number) }).collect())
        .await;
    assert_eq!(spent(0, None).await, one_made(taken(7, i64::MAX.unsigned_abs())));
}

pub(super) async fn a_fate_is_settled_once(mut desk: Desk<impl StoreHarness>) {
    desk.record(vec![desk.trashed(1), desk.trashed(2), desk.trashed(3), desk.removal(4)]).await;
    desk.advance(1000);
    assert_eq!(desk.settle(&[3, 1, 4, 99, 1], Fate::Restored).await, 2, "what is kept, each once");
    let settled = desk.now;
    desk.advance(1000);
    assert_eq!(desk.settle(&[1, 2, 3], Fate::Purged).await, 1);
    assert_eq!(desk.settle(&[], Fate::Purged).await, 0);
    let fates: Vec<_> = desk.effects(all()).await.iter().map(|view| view.fate.zip(view.fate_at)).collect();
    let restored = Some((Fate::Restored, settled));
    assert_eq!(fates, [restored, Some((Fate::Purged, desk.now)), restored, None]);
    let back = desk.store.settle(&[id(1)], Fate::Kept, desk.at()).await;
    assert!(matches!(back, Err(StoreError::Rejected(_))), "{back:?}");
}

pub(super) async fn settled_at_once_by_two_it_counts_once(desk: Desk<impl StoreHarness>) {
    desk.record((1..=50).map(|number| desk.trashed(number)).collect()).await;
    let ids: Vec<_> = (1..=50).map(id).collect();
    let backwards: Vec<_> = ids.iter().rev().copied().collect();
    let (one, other) = tokio::join!(
        desk.store.settle(&ids, Fate::Restored, desk.at()),
        desk.store.settle(&backwards, Fate::Purged, desk.at())
    );
    assert_eq!(one.expect("it is answered") + other.expect("it is answered"), 50);
}

pub(super) async fn what_is_old_and_not_kept_goes(desk: Desk<impl StoreHarness>) {
    let other = register(&desk.store, "other").await;
    desk.record(vec![
        desk.removal(1),
        desk.trashed(2),
        desk.trashed(3),
        desk.trashed(4),
        Effect { job: other, ..desk.removal(5) },
        desk.removal(6),
    ])
    .await;
    desk.settle(&[3], Fate::Purged).await;
    desk.settle(&[4], Fate::Restored).await;
    assert_eq!(desk.forget(1001, 10).await, Pruned::default(), "at that time is not before it");
    assert_eq!(desk.forget(1006, 2).await, Pruned { tasks: 0, effects: 2, more: true });
    assert_eq!(desk.forget(1006, 2).await, Pruned { tasks: 0, effects: 2, more: true });
    assert_eq!(desk.forget(1006, 2).await, Pruned::default());
    assert_eq!(desk.numbers(all()).await, [2, 6], "what is in the trash stays on record");
    desk.settle(&[2], Fate::Purged).await;
    assert_eq!(desk.forget(1006, 2).await, Pruned { effects: 1, ..Pruned::default() });
}

pub(super) async fn many_come_at_once(mut desk: Desk<impl StoreHarness>) {
    let mount: Arc<str> = "/srv/videos".into();
    let effect = |number| Effect { mount: Arc::clone(&mount), ..desk.removal(number) };
    let many: Vec<_> = (1..=700).rev().chain(1..=10).map(effect).collect();
    desk.record(many).await;
    desk.reopen().await;
    assert_eq!(desk.numbers(all()).await, (1..=700).collect::<Vec<_>>());
}

pub(super) async fn told_by_several_at_once(desk: Desk<impl StoreHarness>) {
    let rising: Vec<_> = (1..=300).map(|number| desk.removal(number)).collect();
    let falling: Vec<_> = rising.iter().rev().cloned().collect();
    let (one, other) =
        tokio::join!(desk.store.record_effects(rising, desk.at()), desk.store.record_effects(falling, desk.at()));
    assert_eq!((one, other), (Ok(()), Ok(())));
    assert_eq!(desk.numbers(all()).await.len(), 300);
}
