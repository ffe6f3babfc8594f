//! An effect on record and all that may happen to it: the rules that every
//! store keeps in its SQL, as functions over one value.
//!
//! ```text
//!  recorded ──▶ known ─────────────────────────────────▶ forgotten, by age
//!     │           ▲  │ went into the trash                    ▲
//!     ▼           │  └─▶ kept ──settle──▶ restored · purged ──┘
//!  unknown ───────┘
//! ```
//! Its invariants: an effect is on record once, however often it is told; what
//! is known is never unlearned; how often it was done is never less than it was;
//! what lies in the trash is never forgotten.

use super::effect::{Effect, EffectResult, Fate};
use super::time::Timestamp;

/// One row of the record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// The effect.
    pub effect: Effect,
    /// What became of what it put into the trash, and since when by the clock
    /// of the store; `None` where it put nothing there.
    pub fate: Option<(Fate, Timestamp)>,
}

impl Recorded {
    /// An effect that was not on record.
    #[must_use]
    pub fn new(effect: Effect, now: Timestamp) -> Self {
        let fate = first_fate(&effect).map(|fate| (fate, now));
        Self { effect, fate }
    }

    /// The same effect is told again. Only how it ended is learned from that,
    /// where it was not known, and that more was folded into it since.
    pub fn again(&mut self, later: &Effect, now: Timestamp) {
        if !replaces(&self.effect, later) {
            return;
        }
        let Effect { size, allocated, modified, inode, trashed, written, .. } = *later;
        let (result, times) = (later.result.clone(), later.times.max(self.effect.times));
        self.effect =
            Effect { size, allocated, modified, inode, result, trashed, times, written, ..self.effect.clone() };
        if self.fate.is_none_or(|(fate, _)| fate == Fate::Kept) {
            self.fate = first_fate(later).map(|fate| (fate, now));
        }
    }

    /// What lay in the trash left it. Answers whether it did: only what is
    /// kept can.
    pub fn settle(&mut self, fate: Fate, now: Timestamp) -> bool {
        let kept = self.fate.is_some_and(|(fate, _)| fate == Fate::Kept);
        if kept {
            self.fate = Some((fate, now));
        }
        kept
    }

    /// Whether it may be forgotten.
    #[must_use]
    pub fn may_go(&self, before: Timestamp) -> bool {
        self.effect.at < before && self.fate.is_none_or(|(fate, _)| fate != Fate::Kept)
    }
}

/// What lies in the trash for all that is known.
#[must_use]
pub fn first_fate(effect: &Effect) -> Option<Fate> {
    let failed = matches!(effect.result, EffectResult::Failed(_));
    (effect.trashed && !failed).then_some(Fate::Kept)
}

/// Whether the later of two accounts of an effect is believed: it knows how the
/// effect ended, or that it was done more often.
#[must_use]
pub fn replaces(earlier: &Effect, later: &Effect) -> bool {
    match (&earlier.result, &later.result) {
        (_, EffectResult::Unknown) => false,
        (EffectResult::Unknown, _) => true,
        _ => later.times > earlier.times,
    }
}

#[cfg(test)]
mod tests {
    use super::super::digest::Digest;
    use super::super::effect::{EffectId, Operation};
    use super::super::job::JobId;
    use super::super::task::TaskId;
    use super::*;

    fn removed(result: EffectResult) -> Effect {
        Effect {
            id: EffectId { journal: 1, number: 1 },
            job: JobId(1),
            task: TaskId(1),
            attempt: 1,
            digest: Digest::of(b"a component"),
            operation: Operation::Remove,
            mount: "/srv".into(),
            path: "a".to_owned(),
            to: None,
            to_mount: None,
            size: 7,
            allocated: 7,
            modified: Timestamp(1),
            inode: 1,
            at: Timestamp(2),
            result,
            trashed: true,
            times: 1,
            written: 0,
        }
    }

    #[test]
    fn what_is_known_stays_known() {
        let failed = EffectResult::Failed("no".to_owned());
        for (first, second, then) in [
            (EffectResult::Done, failed.clone(), EffectResult::Done),
            (EffectResult::Done, EffectResult::Unknown, EffectResult::Done),
            (EffectResult::Unknown, EffectResult::Done, EffectResult::Done),
            (EffectResult::Unknown, failed.clone(), failed),
        ] {
            let mut row = Recorded::new(removed(first), Timestamp(5));
            row.again(&removed(second), Timestamp(6));
            assert_eq!(row.effect.result, then);
        }
    }

    #[test]
    fn what_is_folded_only_grows() {
        let folded = |times| Effect {
            times,
            size: 7 * times,
            allocated: 7 * times,
            trashed: false,
            ..removed(EffectResult::Done)
        };
        let mut row = Recorded::new(folded(2), Timestamp(5));
        for (told, then) in [(1, 2), (2, 2), (5, 5), (3, 5)] {
            row.again(&folded(told), Timestamp(6));
            assert_eq!((row.effect.times, row.effect.size), (then, 7 * then));
        }
        row.again(&Effect { result: EffectResult::Unknown, ..folded(9) }, Timestamp(7));
        assert_eq!((row.effect.times, row.effect.result), (5, EffectResult::Done));
    }

    #[test]
    fn a_fate_is_settled_once() {
        let mut row = Recorded::new(removed(EffectResult::Unknown), Timestamp(5));
        assert!(!row.may_go(Timestamp(9)), "it lies in the trash");
        assert!(row.settle(Fate::Restored, Timestamp(6)) && !row.settle(Fate::Purged, Timestamp(7)));
        row.again(&removed(EffectResult::Done), Timestamp(8));
        assert_eq!(row.fate, Some((Fate::Restored, Timestamp(6))));
        assert!(row.may_go(Timestamp(3)) && !row.may_go(Timestamp(2)));
    }

    #[test]
    fn what_was_not_done_is_not_in_the_trash() {
        let failed = removed(EffectResult::Failed("no".to_owned()));
        assert_eq!(Recorded::new(failed.clone(), Timestamp(5)).fate, None);
        let mut row = Recorded::new(removed(EffectResult::Unknown), Timestamp(5));
        row.again(&failed, Timestamp(6));
        assert_eq!(row.fate, None);
    }
}
