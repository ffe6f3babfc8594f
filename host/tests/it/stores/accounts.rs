//! Any order of accounts of effects, whole or in part, again and again, leaves
//! the record as the domain's own rules say ([`Recorded`]).

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{Config, TestRunner};
use sweepd::domain::budget::Spent;
use sweepd::domain::effect::{Effect, EffectId, EffectResult, Fate};
use sweepd::domain::recorded::Recorded;
use sweepd::domain::time::Timestamp;
use sweepd::store::{Prune, WriteBack};

use super::effects::{JOURNAL, all};
use super::{Desk, StoreHarness};

/// One account of an effect: which, how it ended, whether into the trash, and how
/// often it was done.
type Account = (u64, u8, bool, u64);

#[derive(Clone, Debug)]
enum Command {
    /// Tells of effects, by a write-back or without; perhaps once more.
    Tell {
        accounts: Vec<Account>,
        with_finish: bool,
        again: bool,
    },
    Settle(Vec<u64>, bool),
    Forget(u64),
    Advance,
}

fn command() -> impl Strategy<Value = Command> {
    let account = (1..8_u64, 0..3_u8, prop::bool::weighted(0.7), 1..4_u64);
    prop_oneof![
        6 => (prop::collection::vec(account, 0..6), any::<bool>(), prop::bool::weighted(0.3))
            .prop_map(|(accounts, with_finish, again)| Command::Tell { accounts, with_finish, again }),
        2 => (prop::collection::vec(1..8_u64, 0..4), any::<bool>()).prop_map(|(ids, purged)| Command::Settle(ids, purged)),
        1 => (1000..1010_u64).prop_map(Command::Forget),
        1 => Just(Command::Advance),
    ]
}

fn id(number: u64) -> EffectId {
    EffectId { journal: JOURNAL, number }
}

pub(super) async fn any_order_is_legal<H: StoreHarness>(desk: Desk<H>) {
    desk.store.close().await;
    let mut runner = TestRunner::new(Config { cases: 1, failure_persistence: None, ..Config::default() });
    for case in 0..12 {
        let commands = prop::collection::vec(command(), 1..40).new_tree(&mut runner).expect("commands").current();
        println!("case {case}: {commands:?}");
        let mut desk = Desk::<H>::open().await;
        let mut record = BTreeMap::new();
        for command in commands {
            desk.take(command, &mut record).await;
            desk.compare(&record).await;
        }
        desk.store.close().await;
    }
}

impl<H: StoreHarness> Desk<H> {
    fn account(&self, (number, result, trashed, times): Account) -> Effect {
        let result = match result {
            0 => EffectResult::Done,
            1 => EffectResult::Failed("no".to_owned()),
            _ => EffectResult::Unknown,
        };
        // What was there before is found out with the result, and so is how often.
        let (size, times) = if result == EffectResult::Unknown { (0, 1) } else { (10 * times, times) };
        Effect { result, trashed, size, allocated: size, times, ..self.removal(number) }
    }

    async fn take(&mut self, command: Command, record: &mut BTreeMap<u64, Recorded>) {
        let now = self.now;
        match command {
            Command::Tell { accounts, with_finish, again } => {
                let effects: Vec<_> = accounts.into_iter().map(|account| self.account(account)).collect();
                for _ in 0..=u8::from(again) {
                    if with_finish {
                        let back = WriteBack { effects: effects.clone(), ..WriteBack::default() };
                        self.store.finish(back, self.at()).await.expect("a write-back is answered");
                    } else {
                        self.record(effects.clone()).await;
                    }
                    for effect in &effects {
                        let row = record.entry(effect.id.number);
                        row.and_modify(|row| row.again(effect, now))
                            .or_insert_with(|| Recorded::new(effect.clone(), now));
                    }
                }
            }
            Command::Settle(numbers, purged) => {
                let fate = if purged { Fate::Purged } else { Fate::Restored };
                let ids: Vec<_> = numbers.iter().map(|number| id(*number)).collect();
                let settled = self.store.settle(&ids, fate, self.at()).await.expect("it is answered");
                let mut expected = 0;
                for number in numbers {
                    expected += u64::from(record.get_mut(&number).is_some_and(|row| row.settle(fate, now)));
                }
                assert_eq!(settled, expected);
            }
            Command::Forget(before) => {
                let prune = Prune { ended_before: Timestamp(0), effects_before: Timestamp(before), limit: 100 };
                let pruned = self.store.prune(prune, self.at()).await.expect("it is answered");
                let there = record.len();
                record.retain(|_, row| !row.may_go(Timestamp(before)));
                assert_eq!(pruned.effects, (there - record.len()) as u64);
            }
            Command::Advance => self.advance(1000),
        }
    }

    async fn compare(&self, record: &BTreeMap<u64, Recorded>) {
        let stored: Vec<_> = self
            .effects(all())
            .await
            .into_iter()
            .map(|view| Recorded { effect: view.effect, fate: view.fate.zip(view.fate_at) })
            .collect();
        assert_eq!(stored, record.values().cloned().collect::<Vec<_>>());
        let spent = self.store.spent(self.job, Timestamp(0), None).await.expect("a sum");
        let cost = record.values().map(|row| row.effect.cost()).fold(Spent::default(), Spent::plus);
        assert_eq!(spent, cost);
    }
}
