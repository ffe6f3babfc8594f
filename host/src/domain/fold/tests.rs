//! What of a call becomes one row, and what never does.

use std::collections::BTreeMap;

use super::*;
use crate::domain::digest::Digest;
use crate::domain::effect::EffectId;
use crate::domain::job::JobId;
use crate::domain::task::TaskId;
use crate::domain::time::Timestamp;

/// The rows of a call.
#[derive(Default)]
struct Rows {
    folds: Folds,
    all: BTreeMap<RowId, Effect>,
    last: u64,
}

impl Rows {
    fn effect(&mut self, operation: Operation, path: &str) -> Effect {
        self.last += 1;
        Effect {
            id: EffectId { journal: 1, number: self.last },
            job: JobId(1),
            task: TaskId(1),
            attempt: 1,
            digest: Digest::of(b"a component"),
            operation,
            mount: "/srv".into(),
            path: path.to_owned(),
            to: None,
            to_mount: None,
            size: 0,
            allocated: 0,
            modified: Timestamp(0),
            inode: 0,
            at: Timestamp(self.last),
            result: EffectResult::Done,
            trashed: false,
            times: 1,
            written: 0,
        }
    }

    fn end(&mut self, effect: Effect) {
        let row = effect.id.number;
        let folds = self.folds.ended(row, &effect);
        self.all.insert(row, effect);
        for Fold { row, into } in folds {
            let gone = self.all.remove(&row).expect("a row is folded once");
            self.all.get_mut(&into).expect("the row is there").absorb(&gone);
        }
    }

    fn does(&mut self, operation: Operation, path: &str) {
        let effect = self.effect(operation, path);
        self.end(effect);
    }

    fn moves(&mut self, path: &str, to: &str, inode: u64) {
        let effect = self.effect(Operation::Rename, path);
        self.end(Effect { to: Some(to.to_owned()), inode, ..effect });
    }

    /// What is on record: operation, path and how often.
    fn record(&self) -> Vec<(&'static str, &str, u64)> {
        self.all.values().map(|row| (row.operation.name(), row.path.as_str(), row.times)).collect()
    }
}

#[test]
fn what_is_made_and_removed_again_and_again_is_a_row_an_operation() {
    let mut rows = Rows::default();
    for turn in 0..100 {
        rows.does(Operation::Create, "a");
        let write = rows.effect(Operation::Write, "a");
        rows.end(Effect { inode: turn, written: 10, ..write });
        let removed = rows.effect(Operation::Remove, "a");
        rows.end(Effect { inode: turn, size: 10, allocated: 10, ..removed });
    }
    assert_eq!(rows.record(), [("create", "a", 100), ("write", "a", 100), ("remove", "a", 100)]);
    let removed = rows.all.values().last().unwrap();
    assert_eq!((removed.size, removed.cost().files, removed.cost().bytes), (1000, 100, 1000));
    let spent = rows.all.values().fold(crate::domain::budget::Spent::default(), |all, row| all.plus(row.cost()));
    assert_eq!((spent.made, spent.written), (100, 1000));
}

#[test]
fn folders_and_second_names_too() {
    let mut rows = Rows::default();
    for _ in 0..3 {
        rows.does(Operation::CreateFolder, "a");
        rows.does(Operation::RemoveFolder, "a");
        let link = rows.effect(Operation::Link, "file");
        rows.end(Effect { to: Some("b".to_owned()), inode: 7, ..link });
        rows.does(Operation::Remove, "b");
    }
    let wanted = [("create-folder", "a", 3), ("remove-folder", "a", 3), ("link", "file", 3), ("remove", "b", 3)];
    assert_eq!(rows.record(), wanted);
}

#[test]
fn what_stands_at_the_end_keeps_its_row() {
    let mut rows = Rows::default();
    for _ in 0..3 {
        rows.does(Operation::Create, "a");
        rows.does(Operation::Remove, "a");
    }
    rows.does(Operation::Create, "a");
    assert_eq!(rows.record(), [("create", "a", 3), ("remove", "a", 3), ("create", "a", 1)]);
}

#[test]
fn what_was_there_keeps_its_row() {
    let mut rows = Rows::default();
    rows.does(Operation::Remove, "a");
    for _ in 0..3 {
        rows.does(Operation::Create, "a");
        rows.does(Operation::Remove, "a");
    }
    rows.does(Operation::Remove, "b");
    let wanted = [("remove", "a", 1), ("create", "a", 3), ("remove", "a", 3), ("remove", "b", 1)];
    assert_eq!(rows.record(), wanted);
}

#[test]
fn what_is_in_the_trash_or_unknown_keeps_its_row() {
    for (trashed, result) in [(true, EffectResult::Done), (false, EffectResult::Unknown)] {
        let mut rows = Rows::default();
        for _ in 0..2 {
            rows.does(Operation::Create, "a");
            let removed = rows.effect(Operation::Remove, "a");
            rows.end(Effect { trashed, result: result.clone(), ..removed });
        }
        assert_eq!(rows.record().len(), 4);
    }
}

#[test]
fn what_fails_is_folded_with_what_failed_in_the_same_way() {
    let mut rows = Rows::default();
    for (path, error) in [("a", "no"), ("a", "no"), ("a", "never"), ("b", "no"), ("a", "no")] {
        let failed = rows.effect(Operation::CreateFolder, path);
        rows.end(Effect { result: EffectResult::Failed(error.to_owned()), ..failed });
    }
    let wanted = [("create-folder", "a", 3), ("create-folder", "a", 1), ("create-folder", "b", 1)];
    assert_eq!(rows.record(), wanted);
}

#[test]
fn what_is_done_to_the_same_file_again_is_folded_after_the_first() {
    let mut rows = Rows::default();
    for turn in 0..5 {
        rows.moves("a", "b", 7);
        rows.moves("b", "a", 7);
        let times = rows.effect(Operation::SetTimes, "a");
        rows.end(Effect { inode: 7, ..times });
        let cut = rows.effect(Operation::Truncate, "a");
        rows.end(Effect { inode: 7, size: if turn == 0 { 1 << 30 } else { 0 }, ..cut });
    }
    let mut record = rows.record();
    record.sort_unstable();
    let wanted = [
        ("rename", "a", 1),
        ("rename", "a", 4),
        ("rename", "b", 1),
        ("rename", "b", 4),
        ("set-times", "a", 1),
        ("set-times", "a", 4),
        ("truncate", "a", 1),
        ("truncate", "a", 1),
        ("truncate", "a", 3),
    ];
    assert_eq!(record, wanted);
    // Another file at the same path is another.
    rows.moves("a", "b", 8);
    assert_eq!(rows.all.len(), wanted.len() + 1);
}

#[test]
fn a_file_that_is_replaced_again_and_again_is_folded() {
    let mut rows = Rows::default();
    for turn in 0..10 {
        rows.does(Operation::Create, "new");
        // As `replace` tells it: the removal has the earlier number, and ends
        // after the move.
        let removed = rows.effect(Operation::Remove, "file");
        rows.moves("new", "file", 100 + turn);
        if turn > 0 {
            rows.end(Effect { inode: 99 + turn, ..removed });
        }
    }
    let record = rows.record();
    let wanted =
        [("create", "new", 9), ("rename", "new", 9), ("remove", "file", 9), ("create", "new", 1), ("rename", "new", 1)];
    assert_eq!(record, wanted);
}

#[test]
fn what_a_move_put_there_is_not_taken_for_what_was_made() {
    let mut rows = Rows::default();
    for _ in 0..2 {
        rows.does(Operation::CreateFolder, "d");
        rows.does(Operation::Create, "d/a");
        rows.moves("d", "e", 1);
        // With something of its own at `d/a`.
        rows.moves("precious", "d", 2);
        rows.does(Operation::Remove, "d/a");
    }
    let removed = rows.record().iter().filter(|(operation, ..)| *operation == "remove").count();
    assert_eq!(removed, 2);
}
