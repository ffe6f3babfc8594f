//! What is made is summed up, what is folded only grows, and the record of
//! effects has a size.

use sweepd::domain::budget::Spent;
use sweepd::domain::effect::{Effect, EffectResult, Fate, Operation};
use sweepd::domain::time::Timestamp;
use sweepd::store::Forgotten;

use super::effects::{all, taken};
use super::{Desk, StoreHarness, register};

pub(super) async fn what_is_made_is_summed_up(desk: Desk<impl StoreHarness>) {
    let made = |operation, number| Effect { operation, size: 0, allocated: 0, ..desk.removal(number) };
    desk.record(vec![
        Effect { times: 3, ..made(Operation::Create, 1) },
        made(Operation::CreateFolder, 2),
        made(Operation::Link, 3),
        Effect { written: 4096, ..made(Operation::Write, 4) },
        Effect { written: 100, size: 50, allocated: 50, ..made(Operation::Truncate, 5) },
        Effect { result: EffectResult::Failed("no".to_owned()), ..made(Operation::Create, 6) },
    ])
    .await;
    let spent = desk.store.spent(desk.job, Timestamp(0), None).await;
    assert_eq!(spent, Ok(Spent { files: 1, bytes: 50, made: 5, written: 4196 }));
    // Of what was folded, each counts.
    let changed = desk.store.changed_files(desk.job, Timestamp(0), Timestamp(2000), None).await;
    assert_eq!(changed.map(|changed| (changed.removed, changed.made)), Ok((0, 4)));
}

pub(super) async fn what_is_folded_only_grows(mut desk: Desk<impl StoreHarness>) {
    let folded = |desk: &Desk<_>, times| Effect {
        operation: Operation::Create,
        times,
        written: 10 * times,
        size: 0,
        allocated: 0,
        ..desk.removal(1)
    };
    for (told, then) in [(2, 2), (1, 2), (500, 500), (3, 500)] {
        desk.record(vec![folded(&desk, told), desk.removal(2)]).await;
        let first = desk.effects(all()).await.remove(0).effect;
        assert_eq!((first.times, first.written), (then, 10 * then));
        desk.advance(1000);
    }
    // Twice at once, and without its end.
    let unknown = Effect { result: EffectResult::Unknown, ..folded(&desk, 900) };
    desk.record(vec![folded(&desk, 600), folded(&desk, 700), unknown]).await;
    assert_eq!(desk.effects(all()).await.remove(0).effect, folded(&desk, 700));
    let spent = desk.store.spent(desk.job, Timestamp(0), None).await;
    assert_eq!(spent, Ok(Spent { made: 700, written: 7000, ..taken(1, 10) }));
}

pub(super) async fn the_oldest_go_where_all_are_too_much(desk: Desk<impl StoreHarness>) {
    let other = register(&desk.store, "other").await;
    let weigh = async || desk.store.effects_weight().await.expect("a sum");
    assert_eq!(weigh().await, 0);
    let mut effects: Vec<_> = (1..=20).map(|number| desk.removal(number)).collect();
    for of_other in effects.iter_mut().filter(|effect| effect.id.number % 2 == 0) {
        of_other.job = other;
    }
    effects[0].trashed = true;
    effects[1].trashed = true;
    desk.record(effects).await;
    desk.settle(&[2], Fate::Purged).await;
    let (all_of_them, long) = (weigh().await, "d".repeat(4000));
    assert!(all_of_them >= 20 * 300, "{all_of_them}");
    // Of both jobs by age, whatever the limit; the first is in a trash.
    let one = all_of_them / 20;
    let forgotten = desk.store.forget_oldest(one * 4, 3).await.expect("it is answered");
    assert_eq!(forgotten.effects, 3);
    assert_eq!(weigh().await, all_of_them - forgotten.weight);
    assert_eq!(desk.numbers(all()).await, [1].into_iter().chain(5..=20).collect::<Vec<_>>());
    let more = desk.store.forget_oldest(1, 100).await.expect("it is answered");
    assert_eq!((more.effects, desk.numbers(all()).await.len()), (1, 16));
    // A long path weighs more.
    let before = weigh().await;
    desk.record(vec![Effect { path: long, ..desk.removal(30) }]).await;
    assert!(weigh().await > before + 4000);
    let rest = desk.store.forget_oldest(u64::MAX, 100).await.expect("it is answered");
    assert_eq!((rest.effects, desk.numbers(all()).await), (16, vec![1]));
    assert_eq!(desk.store.forget_oldest(u64::MAX, 100).await, Ok(Forgotten::default()));
}
