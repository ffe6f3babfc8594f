//! Counts the files of a mount, slowly: for budgets that are a share of them.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::Duration;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};

use crate::domain::job;

use super::beneath::{self, Borders};
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

/// Visits what is in the mount but the host's own, each by its path in it and
/// whether it is no folder; goes into the folders that `enter` admits and that a
/// plugin gets into, and follows no link. Blocks the thread; ends early, with
/// `false`, where `visit` says no.
pub(super) fn walk(
    mount: &job::Mount,
    enter: impl Fn(&str) -> bool,
    mut visit: impl FnMut(&str, bool) -> bool,
) -> io::Result<bool> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    let borders = if mount.cross_mounts { Borders::Cross } else { Borders::Keep };
    let root = rustix::fs::open(&mount.host, flags | OFlags::CLOEXEC, Mode::empty())?;
    let mut folders: Vec<(OwnedFd, String, Vec<String>)> = Vec::new();
    let mut at = Some((root, String::new()));
    while let Some((folder, path)) = at.take() {
        let mut below = Vec::new();
        for entry in Dir::read_from(&folder)? {
            let entry = entry?;
            let bytes = entry.file_name();
            let name = bytes.to_string_lossy();
            if name == "." || name == ".." || (path.is_empty() && is_reserved(&name)) {
                continue;
            }
            let kind = match entry.file_type() {
                FileType::Unknown => rustix::fs::statat(folder.as_fd(), bytes, AtFlags::SYMLINK_NOFOLLOW)
                    .map_or(FileType::Unknown, |stat| FileType::from_raw_mode(stat.st_mode)),
                known => known,
            };
            let is_folder = kind == FileType::Directory;
            if !visit(&join(&path, &name), !is_folder) {
                return Ok(false);
            }
            if is_folder {
                below.push(name.into_owned());
            }
        }
        folders.push((folder, path, below));
        // Depth first, so that as many folders are open as one lies deep.
        while let Some((folder, path, below)) = folders.last_mut() {
            let Some(name) = below.pop() else {
                folders.pop();
                continue;
            };
            let path = join(path, &name);
            if !enter(&path) {
                continue;
            }
            // Gone, or not to be read: nothing that a plugin could remove.
            if let Ok(next) = beneath::open_name(folder.as_fd(), &name, flags, borders)
                && !Identity::of(next.as_fd()).is_ok_and(kept::is_kept)
            {
                at = Some((next, path));
                break;
            }
        }
    }
    Ok(true)
}

fn join(folder: &str, name: &str) -> String {
    if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") }
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
}
