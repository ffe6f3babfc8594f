//! The journal by itself: what is in its files after what was done.

use std::fs::{self, File};
use std::path::PathBuf;

use super::*;
use crate::domain::digest::Digest;
use crate::domain::effect::{EffectResult, Operation};
use crate::domain::job::JobId;
use crate::domain::task::TaskId;
use crate::domain::time::Timestamp;

fn effect(journal: &Journal, path: &str) -> Effect {
    Effect {
        id: journal.next(),
        job: JobId(1),
        task: TaskId(2),
        attempt: 1,
        digest: Digest::of(b"x"),
        operation: Operation::Remove,
        mount: "/srv".into(),
        path: path.to_owned(),
        to: None,
        to_mount: None,
        size: 3,
        allocated: 3,
        modified: Timestamp(4),
        inode: 5,
        at: Timestamp(6),
        result: EffectResult::Unknown,
        trashed: false,
        times: 1,
        written: 0,
    }
}

fn intend(journal: &Journal, effect: &Effect) -> io::Result<Noted> {
    journal.intend(effect, BootTime::now())
}

/// The files of the folder that end so.
fn files(folder: &Path, suffix: &str) -> Vec<PathBuf> {
    let paths = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    paths.filter(|path| path.extension().is_some_and(|end| end == suffix)).collect()
}

fn segments(folder: &Path) -> usize {
    files(folder, segment::SUFFIX).len()
}

fn read(path: &Path) -> Vec<Effect> {
    let mut effects = Vec::new();
    leftovers::read(path, &fs::read(path).unwrap(), &mut effects);
    effects
}

#[test]
fn what_a_dead_host_left_is_read_back() {
    let folder = tempfile::tempdir().unwrap();
    let journal = Journal::begin(folder.path()).unwrap();
    let (a, b) = (effect(&journal, "a"), effect(&journal, "b"));
    intend(&journal, &a).unwrap();
    intend(&journal, &b).unwrap();
    let a = Effect { result: EffectResult::Done, ..a };
    journal.conclude(&a);
    assert!(leftovers(folder.path()).unwrap().effects.is_empty(), "its host lives");
    drop(journal);
    let left = leftovers(folder.path()).unwrap();
    assert_eq!(left.effects, [a, b]);
    left.settle();
    assert_eq!(segments(folder.path()), 0);
}

#[test]
fn a_torn_end_loses_nothing_before_it() {
    let folder = tempfile::tempdir().unwrap();
    let journal = Journal::begin(folder.path()).unwrap();
    intend(&journal, &effect(&journal, "a")).unwrap();
    let path = files(folder.path(), segment::SUFFIX).remove(0);
    drop(journal);
    let whole = fs::read(&path).unwrap();
    let length = u32::from_le_bytes(whole[..4].try_into().unwrap()) as usize;
    for torn in [vec![1], vec![9, 0, 0, 0, 1, 2, 3, 4, 5], vec![0xff; 300]] {
        let mut bytes = whole.clone();
        bytes[record::HEAD + length..][..torn.len()].copy_from_slice(&torn);
        // As it stands in the pages, and as the disk may have it.
        for end in [bytes.len(), record::HEAD + length + torn.len()] {
            fs::write(&path, &bytes[..end]).unwrap();
            assert_eq!(leftovers(folder.path()).unwrap().effects.len(), 1);
        }
    }
}

#[test]
fn what_is_written_is_in_the_file_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let journal = Journal::begin(folder.path()).unwrap();
    let path = files(folder.path(), segment::SUFFIX).remove(0);
    let long = "x".repeat(4000);
    let mut effects = Vec::new();
    for _ in 0..300 {
        let effect = effect(&journal, &long);
        let _noted = intend(&journal, &effect).unwrap();
        effects.push(effect);
    }
    assert_eq!(read(&path), effects);
}

#[test]
fn a_record_that_no_segment_holds_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let journal = Journal::begin(folder.path()).unwrap();
    let endless = "x".repeat(8 << 20);
    assert!(intend(&journal, &effect(&journal, &endless)).is_err());
    intend(&journal, &effect(&journal, "a")).unwrap().settle();
}

#[test]
fn a_segment_goes_when_the_database_has_it() {
    let folder = tempfile::tempdir().unwrap();
    let journal = Journal::begin(folder.path()).unwrap();
    let mut noted = Vec::new();
    let long = "x".repeat(4000);
    while segments(folder.path()) < 3 {
        noted.push(intend(&journal, &effect(&journal, &long)).unwrap());
    }
    for noted in noted {
        noted.settle();
    }
    assert_eq!(segments(folder.path()), 1, "the one that is written to");
}

#[test]
fn a_result_is_written_with_the_next_intent_or_by_a_flush() {
    let folder = tempfile::tempdir().unwrap();
    let journal = Journal::begin(folder.path()).unwrap();
    let path = files(folder.path(), segment::SUFFIX).remove(0);
    let results = || read(&path).into_iter().map(|effect| effect.result).collect::<Vec<_>>();
    let a = effect(&journal, "a");
    intend(&journal, &a).unwrap();
    journal.conclude(&Effect { result: EffectResult::Done, ..a });
    assert_eq!(results(), [EffectResult::Unknown]);
    let b = effect(&journal, "b");
    intend(&journal, &b).unwrap();
    assert_eq!(results(), [EffectResult::Done, EffectResult::Unknown]);
    journal.conclude(&Effect { result: EffectResult::Done, ..b });
    journal.flush();
    assert_eq!(results(), [EffectResult::Done, EffectResult::Done]);
}

#[test]
fn what_comes_after_a_cut_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let journal = Journal::begin(folder.path()).unwrap();
    let path = files(folder.path(), segment::SUFFIX).remove(0);
    intend(&journal, &effect(&journal, "lost")).unwrap();
    File::options().write(true).open(&path).unwrap().set_len(0).unwrap();
    let after = effect(&journal, "after");
    intend(&journal, &after).unwrap();
    assert_eq!(read(&path), [after], "a hole, and a record behind it");
}

#[test]
fn a_segment_that_was_cut_or_removed_is_given_up() {
    let folder = tempfile::tempdir().unwrap();
    let journal = Journal::begin(folder.path()).unwrap();
    for number in 0..2 {
        let path = files(folder.path(), segment::SUFFIX).remove(0);
        if number == 0 {
            File::options().write(true).open(&path).unwrap().set_len(100).unwrap();
        } else {
            fs::remove_dir_all(folder.path()).unwrap();
        }
        let effect = effect(&journal, "a");
        let noted = journal.intend(&effect, BootTime::now().after(LOOK_EVERY * (number + 1))).unwrap();
        let now: Vec<_> = files(folder.path(), segment::SUFFIX).into_iter().filter(|file| *file != path).collect();
        assert_eq!(read(&now[0]), [effect]);
        noted.settle();
    }
}

#[test]
#[cfg(target_os = "linux")]
fn on_a_full_disk_segments_go_round() {
    // Room for two segments, and not for the smallest beside them.
    let folder = disk::small::SmallDisk::new((8 << 20) + (128 << 10));
    let journal = Journal::begin(folder.path()).unwrap();
    let inodes = || {
        use std::os::unix::fs::MetadataExt as _;
        let all = fs::read_dir(folder.path()).unwrap();
        let mut all: Vec<_> = all.map(|entry| entry.unwrap().metadata().unwrap().ino()).collect();
        all.sort_unstable();
        all
    };
    let before = inodes();
    let long = "x".repeat(4000);
    for _ in 0..5000 {
        intend(&journal, &effect(&journal, &long)).unwrap().settle();
    }
    assert_eq!(inodes(), before, "20 MB went through 8");
    // What the database does not have is never written over.
    let kept: Vec<_> = std::iter::from_fn(|| intend(&journal, &effect(&journal, &long)).ok()).collect();
    assert!((1000..2100).contains(&kept.len()), "{}", kept.len());
    let read: usize = files(folder.path(), segment::SUFFIX).iter().map(|path| read(path).len()).sum();
    assert!(read >= kept.len());
    kept.into_iter().for_each(Noted::settle);
    intend(&journal, &effect(&journal, "goes on")).unwrap().settle();
    drop(journal);
}

/// As a host finds the disk that has no spare file there yet.
#[test]
#[cfg(target_os = "linux")]
fn a_disk_without_room_for_a_segment_has_room_for_a_small_one() {
    let folder = disk::small::SmallDisk::new(700 << 10);
    let journal = Journal::begin(folder.path()).unwrap();
    assert!(journal.check().is_ok(), "changes can be made");
    let size = || fs::metadata(files(folder.path(), segment::SUFFIX).remove(0)).unwrap().len();
    assert_eq!(size(), 256 << 10);
    let long = "x".repeat(4000);
    for _ in 0..500 {
        intend(&journal, &effect(&journal, &long)).unwrap().settle();
    }
    let kept: Vec<_> = std::iter::from_fn(|| intend(&journal, &effect(&journal, &long)).ok()).collect();
    assert!((50..170).contains(&kept.len()), "{}", kept.len());
    let read: usize = files(folder.path(), segment::SUFFIX).iter().map(|path| read(path).len()).sum();
    assert!(read >= kept.len(), "what the database does not have is never written over");
    let longer = "x".repeat(300 << 10);
    assert!(intend(&journal, &effect(&journal, &longer)).is_err(), "it is longer than there is room for");
    kept.into_iter().for_each(Noted::settle);
    intend(&journal, &effect(&journal, "goes on")).unwrap().settle();
    // The first deletions made room.
    std::process::Command::new("mount").args(["-o", "remount,size=16m"]).arg(folder.path()).status().unwrap();
    for _ in 0..200 {
        intend(&journal, &effect(&journal, &long)).unwrap().settle();
    }
    assert_eq!(size(), SIZE);
    drop(journal);
}

#[test]
fn a_killed_hosts_segment_is_the_next_ones() {
    let folder = tempfile::tempdir().unwrap();
    let journal = Journal::begin(folder.path()).unwrap();
    intend(&journal, &effect(&journal, "a")).unwrap();
    drop(journal);
    leftovers(folder.path()).unwrap().settle();
    let before = fs::read_dir(folder.path()).unwrap().count();
    assert_eq!((before, segments(folder.path())), (2, 0), "no space was given back");
    let journal = Journal::begin(folder.path()).unwrap();
    let path = files(folder.path(), segment::SUFFIX).remove(0);
    assert_eq!(read(&path), [], "nothing of it is read again");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), before);
    drop(journal);
}

#[test]
fn what_was_folded_is_read_back_as_one() {
    let folder = tempfile::tempdir().unwrap();
    let journal = Journal::begin(folder.path()).unwrap();
    let [first, second, third] = ["a", "a", "a"].map(|path| effect(&journal, path));
    let mut sum = Effect { result: EffectResult::Done, ..first.clone() };
    intend(&journal, &first).unwrap();
    journal.conclude(&sum);
    for other in [&second, &third] {
        intend(&journal, other).unwrap();
        sum.absorb(&Effect { result: EffectResult::Done, size: 7, allocated: 7, ..other.clone() });
        journal.fold(other.id, &sum);
    }
    drop(journal);
    assert_eq!(leftovers(folder.path()).unwrap().effects, [sum.clone()]);
    assert_eq!((sum.times, sum.size), (3, first.size + 14));

    // The sum is in the database already, and what was added since stands alone.
    let folder = tempfile::tempdir().unwrap();
    let journal = Journal::begin(folder.path()).unwrap();
    let more = effect(&journal, "a");
    intend(&journal, &more).unwrap();
    sum.absorb(&more);
    journal.fold(more.id, &sum);
    drop(journal);
    assert_eq!(leftovers(folder.path()).unwrap().effects, [sum]);
}

#[test]
fn what_was_written_is_read_back() {
    let folder = tempfile::tempdir().unwrap();
    let journal = Journal::begin(folder.path()).unwrap();
    let written = Effect { operation: Operation::Write, ..effect(&journal, "a") };
    intend(&journal, &written).unwrap();
    let written = Effect { result: EffectResult::Done, written: 4096, ..written };
    journal.conclude(&written);
    drop(journal);
    assert_eq!(leftovers(folder.path()).unwrap().effects, [written]);
}

#[test]
fn it_is_long_while_the_database_takes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let journal = Journal::begin(folder.path()).unwrap();
    let (mut noted, long) = (Vec::new(), "x".repeat(64 << 10));
    while !journal.is_long() {
        noted.push(intend(&journal, &effect(&journal, &long)).unwrap());
    }
    assert_eq!(segments(folder.path()) as u64, LONG + 1);
    noted.into_iter().for_each(Noted::settle);
    assert!(!journal.is_long());
}
