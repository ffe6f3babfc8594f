//! Counts the files of a mount, slowly: for budgets that are a share of them.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::Duration;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};

use crate::domain::job;

use super::beneath::{self, Borders, Links};
use super::kept;
use super::mounts::{Identity, is_reserved};

/// After so many entries the disk gets a rest.
const AT_ONCE: u64 = 2000;
const REST: Duration = Duration::from_millis(2);

/// How many files the mount holds, in all its folders; those of the host itself
/// are not counted, nor is what plugins do not get into because it is mounted
/// below, and no link is followed. Blocks the thread, and ends early with an error
/// where `go_on` says no.
pub fn count_files(mount: &job::Mount, go_on: impl Fn() -> bool) -> io::Result<u64> {
    let (mut files, mut seen) = (0, 0);
    let all = walk(
        mount,
        |_| true,
        |_, is_file| {
            files += u64::from(is_file);
            seen += 1;
            if seen % AT_ONCE == 0 {
                std::thread::sleep(REST);
            }
            seen % AT_ONCE != 0 || go_on()
        },
    )?;
    if all { Ok(files) } else { Err(io::ErrorKind::Interrupted.into()) }
}

/// So many folders on the way are held open; those above are opened anew when it
/// is their turn again.
const MOST_OPEN: usize = 8;

/// A folder on the way.
struct Level {
    /// `None` where it was closed.
    folder: Option<OwnedFd>,
    /// How much of the path is its own.
    length: usize,
    /// Folders in it that are to be gone through.
    below: Vec<String>,
}

/// Visits what is in the mount but the host's own, each by its path in it and
/// whether it is no folder; goes into the folders that `enter` admits and that a
/// plugin gets into, and follows no link. Blocks the thread; ends early, with
/// `false`, where `visit` says no. However deep the tree is, a bounded number of
/// folders is open.
pub(super) fn walk(
    mount: &job::Mount,
    enter: impl Fn(&str) -> bool,
    mut visit: impl FnMut(&str, bool) -> bool,
) -> io::Result<bool> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    let borders = if mount.cross_mounts { Borders::Cross } else { Borders::Keep };
    let root = rustix::fs::open(&mount.host, flags | OFlags::CLOEXEC, Mode::empty())?;
    let (mut levels, mut path): (Vec<Level>, _) = (Vec::new(), String::new());
    let mut at = Some(rustix::io::fcntl_dupfd_cloexec(&root, 0)?);
    while let Some(folder) = at.take() {
        let (mut below, length) = (Vec::new(), path.len());
        for entry in Dir::read_from(&folder)? {
            let entry = entry?;
            let bytes = entry.file_name();
            let name = bytes.to_string_lossy();
            if name == "." || name == ".." || (length == 0 && is_reserved(&name)) {
                continue;
            }
            let kind = match entry.file_type() {
                FileType::Unknown => rustix::fs::statat(folder.as_fd(), bytes, AtFlags::SYMLINK_NOFOLLOW)
                    .map_or(FileType::Unknown, |stat| FileType::from_raw_mode(stat.st_mode)),
                known => known,
            };
            let is_folder = kind == FileType::Directory;
            push(&mut path, &name);
            let goes_on = visit(&path, !is_folder);
            path.truncate(length);
            if !goes_on {
                return Ok(false);
            }
            if is_folder {
                below.push(name.into_owned());
            }
        }
        levels.push(Level { folder: Some(folder), length, below });
        if let Some(closed) = levels.len().checked_sub(MOST_OPEN + 1) {
            levels[closed].folder = None;
        }
        // Depth first.
        while let Some(level) = levels.last_mut() {
            path.truncate(level.length);
            let Some(name) = level.below.pop() else {
                levels.pop();
                continue;
            };
            if level.folder.is_none() {
                let again = if path.is_empty() { "." } else { path.as_str() };
                level.folder = beneath::open_folder(root.as_fd(), again, Links::Refuse, borders).ok();
            }
            push(&mut path, &name);
            // Gone, or not to be read: nothing that a plugin could remove.
            if enter(&path)
                && let Some(folder) = &level.folder
                && let Ok(next) = beneath::open_name(folder.as_fd(), &name, flags, borders)
                && !Identity::of(next.as_fd()).is_ok_and(kept::is_kept)
            {
                at = Some(next);
                break;
            }
        }
    }
    Ok(true)
}

/// Adds a name to the path of a folder.
fn push(path: &mut String, name: &str) {
    if !path.is_empty() {
        path.push('/');
    }
    path.push_str(name);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::rights::Rights;
    use std::fs;

    #[test]
    fn files_of_all_folders_are_counted_and_links_are_not_followed() {
        let mount = tempfile::tempdir().unwrap();
        fs::create_dir_all(mount.path().join("a/b/c")).unwrap();
        fs::create_dir(mount.path().join(super::super::TRASH)).unwrap();
        for file in ["x", "a/x", "a/b/x", "a/b/c/x", "a/b/c/y", ".sweepd-trash/gone", ".sweepd-mount"] {
            fs::write(mount.path().join(file), "").unwrap();
        }
        std::os::unix::fs::symlink("..", mount.path().join("a/up")).unwrap();
        let of = job::Mount {
            host: mount.path().to_owned(),
            guest: "/".to_owned(),
            was_there: true,
            rights: Rights::RW,
            cross_mounts: false,
        };
        assert_eq!(count_files(&of, || true).unwrap(), 6, "five files and a link");
    }

    /// Each folder that is open takes a descriptor, of which a process has few.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_tree_may_be_deeper_than_there_are_descriptors() {
        const DEPTH: u64 = 1100;
        let mount = tempfile::tempdir().unwrap();
        let mut at = mount.path().to_owned();
        for _ in 0..DEPTH {
            for name in ["a", "z"] {
                fs::create_dir(at.join(name)).unwrap();
                fs::write(at.join(name).join("x"), "").unwrap();
            }
            at.push("a");
        }
        let of = job::Mount {
            host: mount.path().to_owned(),
            guest: "/".to_owned(),
            was_there: true,
            rights: Rights::RW,
            cross_mounts: false,
        };
        let open = || fs::read_dir("/proc/self/fd").unwrap().count();
        let (before, mut most, mut files) = (open(), 0, 0);
        let all = walk(
            &of,
            |_| true,
            |_, is_file| {
                files += u64::from(is_file);
                most = most.max(open());
                true
            },
        );
        assert_eq!((all.unwrap(), files), (true, 2 * DEPTH));
        // Other tests of this process open some, too.
        assert!(most < before + 500, "{before}, then {most}");
        // Removing it as the test's folder would take a descriptor a level as well.
        std::process::Command::new("rm").arg("-rf").arg(mount.path()).status().unwrap();
    }
}
