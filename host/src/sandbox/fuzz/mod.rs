//! The property behind every path: wherever a guest's path leads by `place`, that
//! is within the mount, is nothing that the host keeps for itself, and is the very
//! file to which the kernel resolves the same path beneath the same folder.
//!
//! Random trees with folders, files and links of every kind; random paths from
//! their tops and folders; on the disk as it is, and through an overlay whose
//! changes were also made for real to a twin of the tree. `cargo xtask fuzz` runs
//! it for as long as one likes.

mod tree;

use std::fs::File;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::{Config, TestError, TestRunner};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use self::tree::{Change, Kind, Tree};
use super::beneath;
use super::marker::MARKER;
use super::mounts::{Mount, TRASH, is_reserved};
use super::overlay::{Entry, Overlay};
use super::place::{self, Folder, Spot};

#[derive(Clone, Debug)]
struct Case {
    tree: Vec<(Index, &'static str, Kind)>,
    changes: Vec<Change>,
    /// From which folder, and the path.
    paths: Vec<(Index, String)>,
}

fn name() -> impl Strategy<Value = &'static str> {
    select(vec!["a", "b", "c", "d"])
}

fn path() -> impl Strategy<Value = String> {
    let pieces = prop_oneof![
        12 => name(),
        4 => Just(".."),
        1 => Just("."),
        1 => Just(""),
        1 => select(vec![TRASH, MARKER, ".SWEEPD-TRASH", "out"]),
    ];
    let slash = |one_in| prop_oneof![one_in => Just(""), 1 => Just("/")];
    (slash(15), prop::collection::vec(pieces, 1..7), slash(5))
        .prop_map(|(start, pieces, end)| format!("{start}{}{end}", pieces.join("/")))
}

fn case() -> impl Strategy<Value = Case> {
    let kind = prop_oneof![
        5 => Just(Kind::Folder),
        3 => Just(Kind::File),
        5 => path().prop_map(Kind::Link),
        1 => path().prop_map(Kind::LinkHome),
        1 => Just(Kind::LinkOut),
    ];
    let change = prop_oneof![
        any::<Index>().prop_map(Change::Remove),
        (any::<Index>(), any::<Index>(), name()).prop_map(|(what, to, name)| Change::Move(what, to, name)),
        (any::<Index>(), name()).prop_map(|(at, name)| Change::Make(at, name)),
    ];
    let tree = prop::collection::vec((any::<Index>(), name(), kind), 4..16);
    let paths = prop::collection::vec((any::<Index>(), path()), 40);
    (tree, prop::collection::vec(change, 1..6), paths).prop_map(|(tree, changes, paths)| Case { tree, changes, paths })
}

/// What was found: a known thing by its number, or one that was made later.
type Found = Option<usize>;

/// One path, by the guard over `ours` and by the kernel in `theirs`: the same
/// tree, or its twin that was changed for real.
struct Trial<'a> {
    ours: &'a Tree,
    theirs: &'a Tree,
    mount: &'a Arc<Mount>,
    overlay: Option<&'a Overlay>,
    /// Whether a name of the host's own is on some way: there the overlay may
    /// refuse what is allowed on disk.
    by_reserved: bool,
}

impl Trial<'_> {
    fn run(&self, from: &str, path: &str, follow: bool) -> Result<(), TestCaseError> {
        let ours = self.by_guard(from, path, follow)?;
        let theirs = self.by_kernel(from, path, follow)?;
        // By the kernel a slash at the end follows a link, by the guard `follow`.
        if !follow && path.ends_with('/') {
            return Ok(());
        }
        match (ours, theirs) {
            (Ok(ours), Ok(Some(theirs))) => prop_assert_eq!(ours, theirs, "another file"),
            (Ok(_), Ok(None)) => prop_assert!(false, "what the host keeps for itself"),
            (Err(error), Ok(Some(_))) => {
                prop_assert!(self.overlay.is_some() && self.by_reserved, "{error}, but it is there");
            }
            // A link at the end may lead out of the folder and stay in the mount.
            (Ok(_), Err(error)) => prop_assert!(follow && !from.is_empty(), "found, but: {error}"),
            (Err(_), _) => {}
        }
        Ok(())
    }

    /// What the guard lets through, after checking where that is.
    fn by_guard(&self, from: &str, path: &str, follow: bool) -> Result<Result<Found, Errno>, TestCaseError> {
        let Spot::Folder(from) =
            place::locate(&Folder::top(self.mount), &format!("{from}/.")[usize::from(from.is_empty())..], self.overlay)
                .map_err(|error| TestCaseError::fail(format!("{from}: {error}")))?
        else {
            return Err(TestCaseError::fail("a folder is no name"));
        };
        let spot = place::locate(&from, path, self.overlay).and_then(|spot| match spot {
            Spot::Name(place) if follow => place::follow(&place, self.overlay),
            spot => Ok(spot),
        });
        let spot = match spot {
            Ok(spot) => spot,
            Err(error) => return Ok(Err(error)),
        };
        let folder = match &spot {
            Spot::Folder(folder) => folder,
            Spot::Name(place) => {
                prop_assert!(!place.folder.path.is_empty() || !is_reserved(&place.name));
                prop_assert!(!place.name.contains('/') && !matches!(place.name.as_str(), "" | "." | ".."));
                &place.folder
            }
        };
        if let Some(fd) = folder.fd() {
            let real = beneath::path_of(fd).unwrap();
            let Ok(within) = real.strip_prefix(&self.ours.top) else {
                return Err(TestCaseError::fail(format!("{} is outside", real.display())));
            };
            let first = within.iter().next().and_then(|name| name.to_str()).unwrap_or_default();
            prop_assert!(!is_reserved(first), "{} is the host's own", real.display());
            if self.overlay.is_none() {
                prop_assert_eq!(within.to_str(), Some(folder.path.as_str()), "the path on record");
            }
        }
        self.stands(&spot)
    }

    fn stands(&self, spot: &Spot) -> Result<Result<Found, Errno>, TestCaseError> {
        let stat = match spot {
            Spot::Folder(folder) => folder.fd().map(rustix::fs::fstat).transpose(),
            Spot::Name(place) => {
                let changed = self.overlay.and_then(|overlay| overlay.get(place.folder.key().unwrap(), &place.name));
                let stat = match changed {
                    None => place.folder.disk().and_then(|folder| stat_at(folder, &place.name)).map(Some),
                    Some(Entry::Gone) => Err(Errno::NOENT),
                    Some(Entry::Made(_)) => Ok(None),
                    Some(Entry::Moved(real)) => stat_at(real.folder.as_fd(), &real.name).map(Some),
                };
                let is_file = |stat: &rustix::fs::Stat| FileType::from_raw_mode(stat.st_mode) != FileType::Directory;
                match stat {
                    Ok(Some(stat)) if place.must_be_folder && is_file(&stat) => Err(Errno::NOTDIR),
                    stat => stat,
                }
            }
        };
        let inode = match stat {
            Ok(stat) => stat.map(|stat| stat.st_ino),
            Err(error) => return Ok(Err(error)),
        };
        prop_assert!(inode.is_none_or(|inode| !self.ours.forbidden.contains(&inode)), "it is not the guest's");
        Ok(Ok(inode.and_then(|inode| self.ours.known.get(&inode).copied())))
    }

    /// What the kernel finds beneath `from`; `None` for what is the host's own.
    fn by_kernel(&self, from: &str, path: &str, follow: bool) -> Result<Result<Option<Found>, Errno>, TestCaseError> {
        let from = File::open(self.theirs.top.join(from)).map_err(|error| TestCaseError::fail(error.to_string()))?;
        let last = if follow { OFlags::empty() } else { OFlags::NOFOLLOW };
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        let flags = OFlags::PATH | OFlags::CLOEXEC | last;
        // Anybody's rename may disturb it.
        let opened = loop {
            match rustix::fs::openat2(&from, path, flags, Mode::empty(), resolve) {
                Err(Errno::AGAIN | Errno::INTR) => {}
                opened => break opened,
            }
        };
        Ok(opened.and_then(|fd| {
            let inode = rustix::fs::fstat(&fd)?.st_ino;
            let allowed = !self.theirs.forbidden.contains(&inode);
            Ok(allowed.then(|| self.theirs.known.get(&inode).copied()))
        }))
    }
}

fn stat_at(folder: BorrowedFd<'_>, name: &str) -> Result<rustix::fs::Stat, Errno> {
    rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)
}

/// Checks one case, on disk and through an overlay; answers how many paths that
/// were.
fn check(case: &Case) -> Result<u64, TestCaseError> {
    let ours = Tree::new(&case.tree);
    let mut twin = Tree::new(&case.tree);
    let (mount, mut overlay) = (ours.mount(), Overlay::default());
    let is_by = |text: &str| text.to_lowercase().contains(".sweepd-");
    let links = case.tree.iter().any(|(_, _, kind)| matches!(kind, Kind::Link(to) | Kind::LinkHome(to) if is_by(to)));
    let mut tried = 0;
    let mut try_all = |theirs: &Tree, overlay: Option<&Overlay>| {
        let folders = theirs.all(true);
        for (from, path) in &case.paths {
            let (from, by_reserved) = (from.get(&folders), links || is_by(path));
            let trial = Trial { ours: &ours, theirs, mount: &mount, overlay, by_reserved };
            for follow in [false, true] {
                tried += 1;
                trial.run(from, path, follow).map_err(|error| {
                    let over = if overlay.is_some() { " through the overlay" } else { "" };
                    TestCaseError::fail(format!("{path:?} from {from:?}, follow {follow}{over}: {error}"))
                })?;
            }
        }
        Ok::<(), TestCaseError>(())
    };
    try_all(&ours, None)?;
    for change in &case.changes {
        twin.change(change, &Folder::top(&mount), &mut overlay);
    }
    try_all(&twin, Some(&overlay))?;
    Ok(tried)
}

/// Runs so many cases; answers how many paths they tried.
fn run(cases: u32) -> u64 {
    let mut runner = TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() });
    let tried = std::cell::Cell::new(0);
    let outcome = runner.run(&case(), |case| {
        tried.set(tried.get() + check(&case)?);
        Ok(())
    });
    match outcome {
        Ok(()) => tried.get(),
        Err(TestError::Fail(why, case)) => panic!("{why}\n{case:#?}"),
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn no_path_leads_astray() {
    assert!(run(192) > 10_000);
}

/// By its name `.` it was where it is on disk, and its links led to nothing.
#[test]
fn a_moved_folder_is_where_the_guest_found_it_by_every_name() {
    let tree = Tree::new(&[]);
    std::fs::create_dir_all(tree.top.join("old/there")).unwrap();
    std::os::unix::fs::symlink("there", tree.top.join("old/link")).unwrap();
    let (mount, mut overlay) = (tree.mount(), Overlay::default());
    let top = Folder::top(&mount);
    let Spot::Name(old) = place::locate(&top, "old", None).unwrap() else { panic!("it is a name") };
    let key = old.folder.key().unwrap();
    overlay.set(key, "new", Entry::Moved(Box::new(tree::on_disk(&old)))).unwrap();
    overlay.set(key, "old", Entry::Gone).unwrap();
    let Spot::Folder(new) = place::locate(&top, "new/.", Some(&overlay)).unwrap() else { panic!("it is a folder") };
    for path in ["link", "./link", "././link", "there/../link"] {
        let Spot::Name(link) = place::locate(&new, path, Some(&overlay)).unwrap() else { panic!("it is a name") };
        let spot = place::follow(&link, Some(&overlay));
        assert!(matches!(&spot, Ok(Spot::Name(at)) if at.path() == "new/there"), "{path}: {spot:?}");
    }
}

/// For `cargo xtask fuzz`.
#[test]
#[ignore = "takes as long as SWEEPD_FUZZ_MINUTES says"]
fn long() {
    let minutes = std::env::var("SWEEPD_FUZZ_MINUTES").expect("SWEEPD_FUZZ_MINUTES is set");
    let length = Duration::from_mins(minutes.parse().expect("SWEEPD_FUZZ_MINUTES is a number"));
    let (began, mut cases, mut tried) = (Instant::now(), 0_u64, 0);
    while began.elapsed() < length {
        tried += run(1_000);
        cases += 1_000;
    }
    println!("{cases} trees, {tried} paths tried, none led astray");
}
