//! What became of a change whose answer was lost, or does not tell: asked of the
//! disk.
//!
//! The answer is lost with the host that waited for it ([`reconcile`]), or on its
//! way from a file system that is somewhere else (`Call::became`). The invariant:
//! what the disk does not tell is not guessed.

use std::path::Path;

use rustix::fs::{AtFlags, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::domain::effect::{Effect, EffectResult, Operation, is_shortened};

use super::beneath::{self, Borders, Links};
use super::marker::MARKER;
use super::mounts::TRASH;
use super::view::{allocated, modified};

/// What became of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Became {
    Made,
    NotMade,
    /// The disk does not tell.
    Unknown,
}

/// What stands at a name, if anything does; or why that cannot be told.
pub(super) type Look = Result<Option<Stat>, Errno>;

/// What the disk shows where a change was to be made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shown {
    /// At its place.
    pub(super) here: Look,
    /// At the new place of what is moved or linked.
    pub(super) there: Option<Look>,
    /// In the trash, under the name of the effect.
    pub(super) in_trash: Look,
    /// Whether the file system keeps the number of a file for as long as there is
    /// the file: then one with another number is another file.
    pub(super) keeps_numbers: bool,
}

/// What a system call's error says of the change: whether it was not made for
/// sure. Any other may have been answered after it: a file system on the network
/// or in user space lost its answer, or was interrupted while it waited for it.
pub(super) fn tells(error: Errno) -> bool {
    matches!(
        error,
        Errno::ACCESS
            | Errno::AGAIN
            | Errno::BADF
            | Errno::BUSY
            | Errno::DQUOT
            | Errno::EXIST
            | Errno::FAULT
            | Errno::FBIG
            | Errno::ILSEQ
            | Errno::INVAL
            | Errno::ISDIR
            | Errno::LOOP
            | Errno::MFILE
            | Errno::MLINK
            | Errno::NAMETOOLONG
            | Errno::NFILE
            | Errno::NOENT
            | Errno::NOMEM
            | Errno::NOSPC
            | Errno::NOSYS
            | Errno::NOTDIR
            | Errno::NOTEMPTY
            | Errno::OPNOTSUPP
            | Errno::OVERFLOW
            | Errno::PERM
            | Errno::ROFS
            | Errno::TXTBSY
            | Errno::XDEV
    )
}

/// Whether it is what a change is answered that is made a second time: a network's
/// file system repeats what it heard no answer to.
pub(super) fn may_be_repeated(error: Errno) -> bool {
    matches!(error, Errno::NOENT | Errno::EXIST)
}

/// What became of it, as far as the disk tells.
pub(super) fn became(effect: &Effect, shown: &Shown) -> Became {
    // A number that was given out anew tells nothing.
    let is_it = |look: &Look| match look {
        Ok(Some(stat)) => inode(stat) == effect.inode && (shown.keeps_numbers || is_alike(stat, effect)),
        _ => false,
    };
    match effect.operation {
        Operation::Remove if effect.trashed => match shown.in_trash {
            Ok(Some(_)) => Became::Made,
            Ok(None) if is_it(&shown.here) => Became::NotMade,
            _ => Became::Unknown,
        },
        Operation::Remove | Operation::RemoveFolder => match shown.here {
            Ok(Some(_)) if is_it(&shown.here) => Became::NotMade,
            // It may be the same file with another number.
            Ok(Some(stat)) if !shown.keeps_numbers || is_alike(&stat, effect) => Became::Unknown,
            Ok(_) => Became::Made,
            Err(_) => Became::Unknown,
        },
        Operation::Rename | Operation::Link => match shown.there {
            Some(there) if is_it(&there) => Became::Made,
            Some(Ok(_)) if is_it(&shown.here) => Became::NotMade,
            _ => Became::Unknown,
        },
        Operation::Create | Operation::CreateFolder => match shown.here {
            Ok(Some(_)) => Became::Made,
            Ok(None) => Became::NotMade,
            Err(_) => Became::Unknown,
        },
        Operation::Truncate if is_it(&shown.here) => match shown.here {
            Ok(Some(stat)) if is_alike(&stat, effect) => Became::NotMade,
            Ok(Some(stat)) if size(&stat) != effect.size => Became::Made,
            _ => Became::Unknown,
        },
        Operation::Truncate | Operation::Write | Operation::SetTimes => Became::Unknown,
    }
}

/// The effect with a result, as far as the disk tells.
#[must_use]
pub fn reconcile(mut effect: Effect) -> Effect {
    if effect.result == EffectResult::Unknown {
        let shown = shown(&effect);
        effect.result = match became(&effect, &shown) {
            Became::Made => EffectResult::Done,
            Became::NotMade => EffectResult::Failed("the host was lost before it was made".to_owned()),
            Became::Unknown => EffectResult::Unknown,
        };
        // The result was lost, and with it how much was written.
        let wrote = matches!(effect.operation, Operation::Write | Operation::Truncate);
        if wrote && !matches!(effect.result, EffectResult::Failed(_)) {
            effect.written = grown(&effect, &shown.here);
        }
        effect.trashed &= !matches!(effect.result, EffectResult::Failed(_));
    }
    effect
}

/// What the disk shows to somebody who has only the paths.
fn shown(effect: &Effect) -> Shown {
    let to = effect.to.as_ref().map(|to| (effect.to_mount.as_ref().unwrap_or(&effect.mount), to));
    Shown {
        here: look(&effect.mount, &effect.path),
        there: to.map(|(mount, to)| look(mount, to)),
        in_trash: look(&effect.mount, &format!("{TRASH}/{}", effect.id)),
        keeps_numbers: rustix::fs::open(&*effect.mount, OFlags::CLOEXEC | beneath::only_place(), Mode::empty())
            .is_ok_and(keeps_numbers),
    }
}

/// What a file takes of the disk, in bytes. A file system that is not one of those
/// known to keep numbers, and says that there are no blocks, tells nothing but the size.
pub(super) fn allocated_in(root: impl std::os::fd::AsFd, stat: &Stat) -> u64 {
    match (allocated(stat), size(stat)) {
        (0, size) if size > 0 && !keeps_numbers(&root) => size,
        (allocated, _) => allocated,
    }
}

/// Whether a file system is known to keep the number of a file for as long as there
/// is the file, also over a remount. Others make numbers up as they go: FAT and its
/// kind, those in user space and most that lie over others.
#[cfg(target_os = "linux")]
pub(super) fn keeps_numbers(file: impl std::os::fd::AsFd) -> bool {
    // Of linux/magic.h: ext, XFS, btrfs, tmpfs, F2FS, ZFS, bcachefs, NFS.
    const KEEP: [u32; 8] =
        [0xEF53, 0x5846_5342, 0x9123_683E, 0x0102_1994, 0xF2F5_2010, 0x2FC1_2FC1, 0xCA45_1A4E, 0x6969];
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the numbers have 32 bits")]
    rustix::fs::fstatfs(file).is_ok_and(|about| KEEP.contains(&(about.f_type as u32)))
}

#[cfg(not(target_os = "linux"))]
pub(super) fn keeps_numbers(_: impl std::os::fd::AsFd) -> bool {
    false
}

/// By how much the file is longer than it was: at least so much was written.
fn grown(effect: &Effect, here: &Look) -> u64 {
    let stat = here.as_ref().ok().and_then(Option::as_ref).filter(|stat| inode(stat) == effect.inode);
    stat.map_or(0, |stat| size(stat).saturating_sub(effect.size))
}

/// Where a mount is not the directory that was changed, where something else was
/// mounted over a part of it, and where the path is not whole, nothing is told.
fn look(mount: &str, path: &str) -> Look {
    if is_shortened(path) {
        return Err(Errno::NAMETOOLONG);
    }
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC | beneath::only_place();
    let root = rustix::fs::open(Path::new(mount), flags, Mode::empty())?;
    rustix::fs::statat(&root, MARKER, AtFlags::SYMLINK_NOFOLLOW)?;
    look_beneath(&root, path)
}

/// What stands at a path without links beneath a folder.
pub(super) fn look_beneath(root: impl std::os::fd::AsFd, path: &str) -> Look {
    let (parents, name) = path.rsplit_once('/').unwrap_or((".", path));
    match beneath::open_folder(root.as_fd(), parents, Links::Refuse, Borders::Keep) {
        Ok(folder) => look_at(Ok(&folder), name),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(error) => Err(error),
    }
}

/// What stands at a name in a folder.
pub(super) fn look_at(folder: Result<impl std::os::fd::AsFd, Errno>, name: &str) -> Look {
    match rustix::fs::statat(folder?, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether it could be the very same: as large, and not changed since.
fn is_alike(stat: &Stat, effect: &Effect) -> bool {
    (size(stat), modified(stat)) == (effect.size, effect.modified)
}

fn size(stat: &Stat) -> u64 {
    u64::try_from(stat.st_size).unwrap_or(0)
}

#[allow(clippy::unnecessary_cast, reason = "an inode has another width elsewhere")]
fn inode(stat: &Stat) -> u64 {
    stat.st_ino as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::digest::Digest;
    use crate::domain::effect::EffectId;
    use crate::domain::job::JobId;
    use crate::domain::task::TaskId;
    use crate::domain::time::Timestamp;
    use std::fs;

    /// An effect on the file `a` in this mount, about which nothing is known.
    fn effect(mount: &Path, operation: Operation, trashed: bool) -> Effect {
        let stat = rustix::fs::lstat(mount.join("a")).unwrap();
        Effect {
            id: EffectId { journal: 7, number: 1 },
            job: JobId(1),
            task: TaskId(1),
            attempt: 1,
            digest: Digest::of(b""),
            operation,
            mount: mount.to_str().unwrap().into(),
            path: "a".to_owned(),
            to: matches!(operation, Operation::Rename | Operation::Link).then(|| "b".to_owned()),
            to_mount: None,
            size: size(&stat),
            allocated: size(&stat),
            modified: modified(&stat),
            inode: inode(&stat),
            at: Timestamp(0),
            result: EffectResult::Unknown,
            trashed,
            times: 1,
            written: 0,
        }
    }

    fn mount() -> tempfile::TempDir {
        let mount = tempfile::tempdir().unwrap();
        fs::write(mount.path().join("a"), "a").unwrap();
        fs::write(mount.path().join(MARKER), "x").unwrap();
        fs::create_dir(mount.path().join(TRASH)).unwrap();
        mount
    }

    #[test]
    fn the_disk_is_asked_what_was_made() {
        let not_made = |of: &Effect| matches!(reconcile(of.clone()).result, EffectResult::Failed(_));
        for (operation, trashed) in [
            (Operation::Remove, false),
            (Operation::Remove, true),
            (Operation::Rename, false),
            (Operation::Link, false),
            (Operation::Truncate, false),
        ] {
            let mount = mount();
            let path = |name: &str| mount.path().join(name);
            let of = effect(mount.path(), operation, trashed);
            assert!(not_made(&of), "{operation}");
            match operation {
                Operation::Remove if trashed => fs::rename(path("a"), path(&format!("{TRASH}/{}", of.id))).unwrap(),
                Operation::Remove => fs::remove_file(path("a")).unwrap(),
                Operation::Rename => fs::rename(path("a"), path("b")).unwrap(),
                Operation::Link => fs::hard_link(path("a"), path("b")).unwrap(),
                _ => fs::write(path("a"), "").unwrap(),
            }
            let found = reconcile(of.clone());
            assert_eq!((found.result, found.trashed), (EffectResult::Done, trashed), "{operation}");
            // In another directory, or where there is none, nothing is told.
            fs::remove_file(path(MARKER)).unwrap();
            assert_eq!(reconcile(of.clone()).result, EffectResult::Unknown, "{operation}");
            drop(mount);
            assert_eq!(reconcile(of).result, EffectResult::Unknown, "{operation}");
        }
    }

    #[test]
    fn what_a_lost_host_wrote_is_what_the_file_grew_by() {
        for (operation, result) in
            [(Operation::Truncate, EffectResult::Done), (Operation::Write, EffectResult::Unknown)]
        {
            let mount = mount();
            let of = effect(mount.path(), operation, false);
            fs::OpenOptions::new().write(true).open(mount.path().join("a")).unwrap().set_len(of.size + 7).unwrap();
            let found = reconcile(of);
            assert_eq!((found.result, found.written), (result, 7), "{operation}");
        }
    }

    #[test]
    fn what_the_disk_does_not_tell_is_unknown() {
        let mount = mount();
        for operation in [Operation::Write, Operation::SetTimes] {
            assert_eq!(reconcile(effect(mount.path(), operation, false)).result, EffectResult::Unknown);
        }
        // Neither here nor in the trash: somebody purged it, or never was asked to.
        let of = effect(mount.path(), Operation::Remove, true);
        fs::remove_file(mount.path().join("a")).unwrap();
        let found = reconcile(of);
        assert_eq!((found.result, found.trashed), (EffectResult::Unknown, true));
    }

    /// After a remount the same file has another number, and another file perhaps
    /// the old one.
    #[test]
    fn numbers_tell_nothing_where_they_are_not_kept() {
        let mount = mount();
        let here = look(mount.path().to_str().unwrap(), "a");
        fs::write(mount.path().join("c"), "another").unwrap();
        let other = look(mount.path().to_str().unwrap(), "c");
        assert!(keeps_numbers(fs::File::open(mount.path()).unwrap()) || !cfg!(target_os = "linux"));
        for operation in [Operation::Remove, Operation::RemoveFolder] {
            let of = effect(mount.path(), operation, false);
            let elsewhere = Effect { inode: of.inode + 1, size: of.size + 1, ..of.clone() };
            let coincides = Effect { size: of.size + 1, ..of.clone() };
            for (effect, here, keeps_numbers, expected) in [
                (&of, here, true, Became::NotMade),
                (&of, here, false, Became::NotMade),
                (&of, other, true, Became::Made),
                (&of, other, false, Became::Unknown),
                (&elsewhere, here, true, Became::Made),
                (&elsewhere, here, false, Became::Unknown),
                (&coincides, here, true, Became::NotMade),
                (&coincides, here, false, Became::Unknown),
                (&of, Ok(None), false, Became::Made),
            ] {
                let shown = Shown { here, there: None, in_trash: Ok(None), keeps_numbers };
                assert_eq!(became(effect, &shown), expected, "{operation} {keeps_numbers}");
            }
        }
        let of = effect(mount.path(), Operation::Rename, false);
        let there = Some(other);
        for (keeps_numbers, expected) in [(true, Became::NotMade), (false, Became::NotMade)] {
            let shown = Shown { here, there, in_trash: Ok(None), keeps_numbers };
            assert_eq!(became(&of, &shown), expected);
        }
        let coincides = Effect { inode: inode(&other.unwrap().unwrap()), ..of };
        for (keeps_numbers, expected) in [(true, Became::Made), (false, Became::Unknown)] {
            let shown = Shown { here, there, in_trash: Ok(None), keeps_numbers };
            assert_eq!(became(&coincides, &shown), expected);
        }
    }

    #[test]
    fn the_errors_of_a_lost_answer_tell_nothing() {
        for lost in [
            Errno::IO,
            Errno::INTR,
            Errno::STALE,
            Errno::TIMEDOUT,
            Errno::NOTCONN,
            Errno::CONNRESET,
            Errno::CONNABORTED,
            Errno::HOSTUNREACH,
            Errno::NETDOWN,
            Errno::PIPE,
            Errno::PROTO,
        ] {
            assert!(!tells(lost), "{lost}");
        }
        assert!(tells(Errno::NOTEMPTY) && tells(Errno::ACCESS) && may_be_repeated(Errno::NOENT));
    }
}
