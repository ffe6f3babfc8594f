//! What the ledger allows, refuses and remembers.

use super::*;
use crate::domain::budget::{Allowance, Share};
use proptest::prelude::*;

const ONE: Spent = Spent { files: 1, bytes: 100, made: 0, written: 0 };
const HALF: Allowance = Allowance { files: None, bytes: None, share: Some(Share(500_000)), made: None, written: None };
const NOW: Timestamp = Timestamp(90 * SLOT);

fn ledger(sweep: Allowance, hour: Allowance) -> Ledger {
    Ledger::new(Budget { sweep, hour })
}

fn files(files: u64) -> Allowance {
    Allowance { files: Some(files), ..Allowance::default() }
}

/// Removes one file where that is within the budget.
fn remove(ledger: &mut Ledger) -> Result<(), OverBudget> {
    ledger.take(ONE, NOW)?;
    ledger.changed(Changed { removed: 1, made: 0 }, NOW);
    Ok(())
}

/// Removes as many as it may.
fn remove_all(ledger: &mut Ledger) -> u64 {
    let mut removed = 0;
    while remove(ledger).is_ok() {
        removed += 1;
    }
    removed
}

#[test]
fn a_sweep_and_an_hour_have_bounds_of_their_own() {
    let mut ledger = ledger(files(2), files(3));
    ledger.begin_sweep(Others::default(), false);
    assert_eq!((ledger.take(ONE, NOW), ledger.take(ONE, NOW)), (Ok(()), Ok(())));
    assert_eq!(ledger.take(ONE, NOW), Err(OverBudget::Files { period: Period::Sweep, allowed: 2 }));
    assert!(ledger.over().is_some());
    ledger.begin_sweep(Others::default(), false);
    assert_eq!(ledger.over(), None);
    assert_eq!(ledger.take(ONE, NOW), Ok(()));
    assert_eq!(ledger.take(ONE, NOW), Err(OverBudget::Files { period: Period::Hour, allowed: 3 }));
    let later = Timestamp(NOW.0 + (SLOTS + 1) * SLOT);
    assert_eq!(ledger.take(ONE, later), Ok(()));
}

#[test]
fn what_others_took_counts_and_what_failed_does_not() {
    let mut ledger = ledger(files(10), files(3));
    let others = Others { spent: Spent { files: 2, ..Spent::default() }, ..Others::default() };
    ledger.begin_sweep(others, false);
    assert_eq!(ledger.take(ONE, NOW), Ok(()));
    assert!(ledger.take(ONE, NOW).is_err());
    ledger.give_back(ONE);
    assert_eq!(ledger.take(ONE, NOW), Ok(()));
    assert_eq!(ledger.in_sweep(), ONE);
}

#[test]
fn an_exempt_sweep_is_counted_and_not_stopped() {
    let mut ledger = ledger(files(1), files(1));
    ledger.begin_sweep(Others::default(), true);
    for _ in 0..5 {
        assert_eq!(ledger.take(ONE, NOW), Ok(()));
    }
    assert_eq!(ledger.over(), None);
    assert_eq!(ledger.would_be_over(), Some(&OverBudget::Files { period: Period::Sweep, allowed: 1 }));
    ledger.begin_sweep(Others::default(), false);
    assert!(ledger.take(ONE, NOW).is_err(), "the hour remembers");
}

#[test]
fn what_is_over_is_no_reason_to_refuse_something_else() {
    let two = Allowance { made: Some(2), ..Allowance::default() };
    let mut ledger = ledger(two, two);
    let made = |made| Spent { made, ..Spent::default() };
    ledger.begin_sweep(Others::default(), true);
    assert_eq!(ledger.take(made(5), NOW), Ok(()));
    ledger.begin_sweep(Others::default(), false);
    assert_eq!(ledger.take(made(1), NOW), Err(OverBudget::Made { period: Period::Hour, allowed: 2 }));
    assert_eq!(ledger.take(ONE, NOW), Ok(()));
}

#[test]
fn a_share_waits_for_the_count() {
    let mut ledger = ledger(HALF, Allowance::default());
    ledger.begin_sweep(Others::default(), false);
    assert!(!ledger.is_ready());
    assert_eq!(ledger.take(ONE, NOW), Err(OverBudget::NotCounted));
    ledger.counted(4);
    assert!(ledger.is_ready());
    ledger.begin_sweep(Others::default(), false);
    assert_eq!(remove_all(&mut ledger), 2);
}

#[test]
fn a_share_is_one_of_what_was_there_when_its_period_began() {
    let mut sweep = ledger(HALF, Allowance::default());
    sweep.counted(10);
    sweep.begin_sweep(Others::default(), false);
    assert_eq!(remove_all(&mut sweep), 5);
    let over = OverBudget::Share { period: Period::Sweep, share: Share(500_000), all: 10 };
    assert_eq!(sweep.over(), Some(&over));
    // A count in the middle of the sweep does not move its bound.
    sweep.counted(5);
    assert_eq!(remove_all(&mut sweep), 0);
    sweep.begin_sweep(Others::default(), false);
    assert_eq!(remove_all(&mut sweep), 2, "half of the five that are left");

    let mut hour = ledger(Allowance::default(), HALF);
    hour.counted(10);
    hour.begin_sweep(Others::default(), false);
    assert_eq!(remove_all(&mut hour), 5);
    hour.begin_sweep(Others::default(), false);
    assert_eq!(remove_all(&mut hour), 0, "the hour goes on");
}

#[test]
fn making_files_moves_no_bound() {
    for (sweep, hour) in [(HALF, Allowance::default()), (Allowance::default(), HALF)] {
        let mut ledger = ledger(sweep, hour);
        ledger.counted(10);
        ledger.begin_sweep(Others::default(), false);
        ledger.changed(Changed { removed: 0, made: 1000 }, NOW);
        assert_eq!(remove_all(&mut ledger), 5);
    }
}

#[test]
fn after_a_restart_the_hour_is_one_of_what_stood_at_its_beginning() {
    let mut ledger = ledger(Allowance::default(), HALF);
    // Of ten files an earlier life removed three and moved one.
    ledger.counted(7);
    let others =
        Others { spent: Spent { files: 4, bytes: 400, ..Spent::default() }, changed: Changed { removed: 3, made: 0 } };
    ledger.begin_sweep(others, false);
    assert_eq!(remove_all(&mut ledger), 1);
    let over = OverBudget::Share { period: Period::Hour, share: Share(500_000), all: 10 };
    assert_eq!(ledger.over(), Some(&over));
}

/// What a policy does to one file.
#[derive(Clone, Copy, Debug)]
enum Deed {
    Remove,
    Overwrite,
    Make,
    Fail,
}

fn deeds() -> impl Strategy<Value = Vec<Deed>> {
    let (remove, others) = (Just(Deed::Remove), [Deed::Overwrite, Deed::Make, Deed::Fail]);
    let deed = prop_oneof![remove, proptest::sample::select(others.to_vec())];
    proptest::collection::vec(deed, 0..40)
}

fn budgets() -> impl Strategy<Value = Budget> {
    let allowance = || {
        let (files, bytes) = (proptest::option::of(0_u64..20), proptest::option::of(0_u64..2000));
        let share = proptest::option::of((0_u32..=1_000_000).prop_map(Share));
        (files, bytes, share).prop_map(|(files, bytes, share)| Allowance {
            files,
            bytes,
            share,
            ..Allowance::default()
        })
    };
    (allowance(), allowance()).prop_map(|(sweep, hour)| Budget { sweep, hour })
}

/// Does them until one is refused, in mounts with so many files. Answers what
/// it did, as the record has it, and how many files are left.
fn act(ledger: &mut Ledger, mut files: u64, deeds: &[Deed]) -> (Others, u64) {
    let mut done = Others::default();
    for deed in deeds {
        let changed = match deed {
            Deed::Remove if files == 0 => continue,
            Deed::Make => Changed { removed: 0, made: 1 },
            Deed::Remove | Deed::Overwrite | Deed::Fail => {
                if ledger.take(ONE, NOW).is_err() {
                    break;
                }
                Changed { removed: u64::from(matches!(deed, Deed::Remove)), made: 0 }
            }
        };
        match deed {
            Deed::Fail => ledger.give_back(ONE),
            Deed::Make => {}
            Deed::Remove | Deed::Overwrite => done.spent = done.spent.plus(ONE),
        }
        ledger.changed(changed, NOW);
        done.changed = done.changed.plus(changed);
        files = files + changed.made - changed.removed;
    }
    (done, files)
}

proptest! {
    /// What is added up ahead is what the minutes of the hour say.
    #[test]
    fn an_hour_is_all_its_minutes(steps in proptest::collection::vec((0_u64..25, deeds()), 0..20)) {
        let mut ledger = ledger(Allowance::default(), files(u64::MAX));
        ledger.counted(1000);
        let (mut minutes, mut at) = (Vec::new(), NOW.0 / SLOT);
        for (later, deeds) in steps {
            at += later;
            let now = Timestamp(at * SLOT);
            for deed in deeds {
                prop_assert_eq!(ledger.take(ONE, now), Ok(()));
                let changed = Changed { removed: u64::from(matches!(deed, Deed::Remove)), made: 0 };
                if matches!(deed, Deed::Fail) {
                    ledger.give_back(ONE);
                } else {
                    minutes.push((at, ONE, changed));
                }
                ledger.changed(changed, now);
            }
            let kept = || minutes.iter().filter(|(minute, ..)| minute + SLOTS >= at);
            prop_assert_eq!(ledger.in_hour(now), kept().fold(Spent::default(), |all, (_, spent, _)| all.plus(*spent)));
            let before = kept().fold(Changed::default(), |all, (.., changed)| all.plus(*changed));
            prop_assert_eq!(ledger.an_hour_ago(), ledger.files.map(|files| before.undone(files)));
        }
    }

    /// A run that goes on, one after a restart, a preflight and a plan come to
    /// the same verdict on the same deeds.
    #[test]
    fn run_restart_preflight_and_plan_agree(
        budget in budgets(), before in 0_u64..40, earlier in deeds(), deeds in deeds(),
    ) {
        let mut run = Ledger::new(budget);
        run.counted(before);
        run.begin_sweep(Others::default(), true);
        let (done, left) = act(&mut run, before, &earlier);
        run.begin_sweep(Others::default(), false);

        let mut preflight = run.clone();
        let mut restarted = Ledger::new(budget);
        restarted.counted(left);
        let mut plan = restarted.clone();
        restarted.begin_sweep(done, false);
        plan.begin_sweep(done, true);

        act(&mut run, left, &deeds);
        for other in [&mut preflight, &mut restarted, &mut plan] {
            act(other, left, &deeds);
            prop_assert_eq!(other.would_be_over(), run.over());
        }
        prop_assert_eq!(plan.over(), None);
    }
}
