use crate::domain::plugin_history::SetAside;

use super::*;

fn component(bytes: &[u8]) -> Accepted {
    let digest = Digest::of(bytes);
    let size = bytes.len() as u64;
    Accepted { digest, size, accepted_at: Timestamp(1), world: None, answered: false, set_aside: None }
}

fn keep(kept: &Kept, bytes: &[u8]) -> Digest {
    kept.keep(&component(bytes), bytes).unwrap();
    Digest::of(bytes)
}

fn newest_first(kept: &Kept) -> Vec<Digest> {
    kept.history().unwrap().accepted.iter().rev().map(|entry| entry.digest).collect()
}

fn components(kept: &Kept) -> usize {
    let is_component = |entry: &fs::DirEntry| entry.path().extension().is_some_and(|kind| kind == "wasm");
    fs::read_dir(&kept.folder).unwrap().map(Result::unwrap).filter(is_component).count()
}

#[test]
fn the_last_ten_are_kept() {
    let state = tempfile::tempdir().unwrap();
    let kept = Kept::of(state.path(), "video-clear");
    assert_eq!(newest_first(&kept), []);
    let digests: Vec<_> = (0..12_u8).map(|n| keep(&kept, &[n])).collect();
    keep(&kept, &[5]);
    let newest = newest_first(&kept);
    assert_eq!(newest.len(), 10);
    assert_eq!(newest[..2], [digests[5], digests[11]]);
    assert_eq!(kept.read(digests[5]).unwrap(), [5]);
    assert!(kept.read(digests[0]).is_err());
    assert_eq!(components(&kept), 10);
}

#[test]
fn a_pinned_component_is_kept_however_many_follow() {
    let state = tempfile::tempdir().unwrap();
    let kept = Kept::of(state.path(), "a");
    let first = keep(&kept, b"first");
    kept.steer(&Steer::Pin { digest: first.to_string() }, Timestamp(0)).unwrap();
    for n in 0..30_u8 {
        keep(&kept, &[n]);
    }
    assert_eq!(kept.read(first).unwrap(), b"first");
    assert_eq!(components(&kept), 10);
}

#[test]
fn a_changed_component_is_refused() {
    let state = tempfile::tempdir().unwrap();
    let kept = Kept::of(state.path(), "a");
    let digest = keep(&kept, b"x");
    keep(&kept, b"z");
    fs::write(kept.file(digest), "y").unwrap();
    assert!(kept.read(digest).unwrap_err().to_string().contains("was changed"));
    let before = kept.history().unwrap();
    let pin = kept.steer(&Steer::Pin { digest: digest.to_string() }, Timestamp(0)).unwrap_err();
    assert!(pin.to_string().contains("was changed"), "{pin}");
    assert_eq!(kept.history().unwrap(), before, "nothing serves less than it did");
}

#[test]
fn a_damaged_or_missing_copy_is_listed_and_made_anew_with_its_component() {
    let state = tempfile::tempdir().unwrap();
    let kept = Kept::of(state.path(), "a");
    let digest = keep(&kept, b"good");
    for (state, spoil) in [
        (CopyState::Damaged, Box::new(|file: &Path| fs::write(file, "gooe").unwrap()) as Box<dyn Fn(&Path)>),
        (CopyState::Missing, Box::new(|file: &Path| fs::remove_file(file).unwrap())),
    ] {
        spoil(&kept.file(digest));
        let listed = kept.listed(kept.history().unwrap());
        assert_eq!(listed.iter().map(|listed| listed.copy).collect::<Vec<_>>(), [state]);
        assert_eq!(kept.look_through().unwrap(), listed);
        keep(&kept, b"good");
        assert_eq!(kept.copy(digest), CopyState::Intact);
        assert_eq!(kept.look_through().unwrap(), []);
    }
}

#[test]
fn what_is_half_written_goes_at_the_start() {
    let state = tempfile::tempdir().unwrap();
    let kept = Kept::of(state.path(), "a");
    let digest = keep(&kept, b"x");
    for name in ["half.new", "history.new"] {
        fs::write(kept.folder.join(name), "half").unwrap();
    }
    kept.look_through().unwrap();
    assert!(!kept.folder.join("half.new").exists() && !kept.folder.join("history.new").exists());
    assert_eq!(newest_first(&kept), [digest]);
}

#[test]
fn what_cannot_be_written_leaves_nothing_behind() {
    let state = tempfile::tempdir().unwrap();
    let kept = Kept::of(state.path(), "a");
    keep(&kept, b"x");
    // A folder in the place of the file: it can be written, but not put there.
    fs::create_dir(kept.file(Digest::of(b"y"))).unwrap();
    assert!(kept.keep(&component(b"y"), b"y").is_err());
    assert_eq!(
        fs::read_dir(&kept.folder)
            .unwrap()
            .filter(|entry| { entry.as_ref().unwrap().path().extension().is_some_and(|kind| kind == NEW) })
            .count(),
        0
    );
    assert_eq!(newest_first(&kept), [Digest::of(b"x")]);
}

#[test]
fn a_folder_that_is_gone_is_made_anew() {
    let state = tempfile::tempdir().unwrap();
    let kept = Kept::of(state.path(), "a");
    keep(&kept, b"x");
    fs::remove_dir_all(state.path().join("components")).unwrap();
    let digest = keep(&kept, b"y");
    assert_eq!((newest_first(&kept), kept.copy(digest)), (vec![digest], CopyState::Intact));
}

#[test]
fn no_flipped_bit_of_a_history_is_believed() {
    let state = tempfile::tempdir().unwrap();
    let kept = Kept::of(state.path(), "a");
    let digest = keep(&kept, b"x");
    let mark = SetAside { at: Timestamp(7), why: "it traps".to_owned() };
    kept.change(|history| {
        history.set_aside(digest, mark.clone());
        Ok::<_, io::Error>(())
    })
    .unwrap();
    let (whole, history) = (fs::read(kept.history_file()).unwrap(), kept.history().unwrap());
    let mut refused = 0;
    for bit in 0..whole.len() * 8 {
        let mut flipped = whole.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        match understand(&flipped) {
            // A space that became another white space, or another spelling of the same.
            Ok(understood) => assert_eq!(understood, history, "bit {bit}"),
            Err(_) => refused += 1,
        }
    }
    assert!(refused > whole.len() * 4, "{refused} of {} bits", whole.len() * 8);
}

#[test]
fn what_an_earlier_version_kept_is_taken_over() {
    let state = tempfile::tempdir().unwrap();
    let kept = Kept::of(state.path(), "a");
    fs::create_dir_all(&kept.folder).unwrap();
    let digests = [&b"old"[..], b"new"].map(|bytes| {
        fs::write(kept.file(Digest::of(bytes)), bytes).unwrap();
        Digest::of(bytes)
    });
    let gone = Digest::of(b"gone");
    fs::write(kept.folder.join("order"), format!("{gone}\n{}\n{}\n", digests[0], digests[1])).unwrap();
    assert_eq!(kept.history().unwrap().instead(), [digests[1], digests[0]]);
    let next = keep(&kept, b"next");
    assert_eq!(newest_first(&kept), [next, digests[1], digests[0]]);
    assert!(!kept.folder.join("order").exists());
}

#[test]
fn a_history_that_cannot_be_read_is_no_empty_one() {
    let state = tempfile::tempdir().unwrap();
    let kept = Kept::of(state.path(), "a");
    keep(&kept, b"x");
    for file in [kept.history_file(), kept.history_copy()] {
        fs::write(file, "{\"accepted\": [").unwrap();
    }
    let error = kept.history().unwrap_err().to_string();
    assert!(error.contains("history.json") && error.contains("remove it"), "{error}");
    assert!(kept.keep(&component(b"y"), b"y").is_err());
    assert!(!kept.mend().unwrap());
    assert_eq!(fs::read_to_string(kept.history_file()).unwrap(), "{\"accepted\": [");
}

#[test]
fn a_history_that_is_garbled_or_gone_is_known_from_its_copy() {
    let state = tempfile::tempdir().unwrap();
    let kept = Kept::of(state.path(), "a");
    let (first, second) = (keep(&kept, b"1"), keep(&kept, b"2"));
    let ask = Steer::Rollback { to: Some(first.to_string()), why: "removes too much".to_owned() };
    kept.steer(&ask, Timestamp(7)).unwrap();
    let known = kept.history().unwrap();
    assert!(known.mark_of(second).is_some());
    let garble = |file: &Path| fs::write(file, "\0\0").unwrap();
    let remove = |file: &Path| fs::remove_file(file).unwrap();
    for spoil in [&garble as &dyn Fn(&Path), &remove] {
        for (file, is_the_history) in [(kept.history_file(), true), (kept.history_copy(), false)] {
            spoil(&file);
            assert_eq!(kept.history().unwrap(), known, "{}", file.display());
            assert_eq!(kept.mend().unwrap(), is_the_history);
            assert!(!kept.mend().unwrap(), "once");
        }
    }
    garble(&kept.history_file());
    keep(&kept, b"3");
    assert!(kept.history().unwrap().mark_of(second).is_some(), "a change begins from the copy");
}

#[test]
fn nobodys_change_is_lost() {
    const EACH: u64 = 50;
    let state = tempfile::tempdir().unwrap();
    let digest = keep(&Kept::of(state.path(), "a"), b"x");
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                // One of its own, as another process would have it.
                let kept = Kept::of(state.path(), "a");
                for _ in 0..EACH {
                    let count = |history: &mut PluginHistory| {
                        let at = history.mark_of(digest).map_or(1, |mark| mark.at.0 + 1);
                        history.set_aside(digest, SetAside { at: Timestamp(at), why: "counted".to_owned() });
                        Ok::<_, io::Error>(())
                    };
                    kept.change(count).unwrap();
                }
            });
        }
    });
    let history = Kept::of(state.path(), "a").history().unwrap();
    assert_eq!(history.mark_of(digest).unwrap().at, Timestamp(4 * EACH));
}

#[test]
fn asking_of_a_job_that_never_ran_leaves_no_trace() {
    let state = tempfile::tempdir().unwrap();
    let kept = Kept::of(state.path(), "a");
    let ask = Steer::Rollback { to: None, why: "x".to_owned() };
    assert!(matches!(kept.steer(&ask, Timestamp(0)), Err(SteerError::Refused(Refused::NothingBefore))));
    assert!(!kept.folder.exists());
}
