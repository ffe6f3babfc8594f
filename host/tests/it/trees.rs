//! Whole trees: what can be removed is, however deep it lies and whatever is in the
//! way of something else, with the rights to list, to look and to remove.

use std::fs::{self, File};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::process::Command;

use rustix::fs::{AtFlags, Mode, OFlags, mkdirat, openat, statat};

use crate::cli::run;
use crate::small_disk::SmallDisk;
use crate::support::{Site, plugin};

/// What a policy that removes needs, and no more.
const RIGHTS: &str = "rights = [\"list\", \"stat\", \"delete\"]";

/// A job `clear` with these rights over `videos`.
fn site(more: &str) -> Site {
    let site = Site::new();
    site.install(&plugin("video-clear"));
    site.configure(&format!(
        "[[job]]\nname = \"clear\"\nplugin = \"plugins/plugin.wasm\"\ninterval = \"200ms\"\n\
         mounts = [{{ path = \"videos\", {RIGHTS} }}]\n{more}"
    ));
    site
}

/// A chain of so many folders of this name, with a file in each `every`th and in the last.
fn chain(top: &Path, depth: usize, name: &str, every: usize) -> usize {
    fs::create_dir(top).unwrap();
    let mut at: OwnedFd = File::open(top).unwrap().into();
    let mut files = 0;
    for level in 0..depth {
        if level % every == 0 || level == depth - 1 {
            let flags = OFlags::CREATE | OFlags::WRONLY;
            openat(&at, format!("file-{level}"), flags, Mode::RWXU).unwrap();
            files += 1;
        }
        if level < depth - 1 {
            mkdirat(&at, name, Mode::RWXU).unwrap();
            at = openat(&at, name, OFlags::DIRECTORY | OFlags::PATH, Mode::empty()).unwrap();
        }
    }
    files
}

/// Whether a file stands so many folders of this name deep.
fn stands(top: &Path, depth: usize, name: &str, file: &str) -> bool {
    let mut at: OwnedFd = File::open(top).unwrap().into();
    for _ in 0..depth {
        let Ok(next) = openat(&at, name, OFlags::DIRECTORY | OFlags::PATH, Mode::empty()) else { return false };
        at = next;
    }
    statat(at.as_fd(), file, AtFlags::SYMLINK_NOFOLLOW).is_ok()
}

/// One file that cannot be removed used to end the removal.
#[test]
fn one_immutable_file_is_in_the_way_of_no_other() {
    let site = site("[job.retry]\nmax_attempts = 2\nbackoff = \"50ms\"\n");
    // The file's flags take a file system that has them.
    let _disk = SmallDisk::ext4(&site.videos(), 16 << 20);
    let folder = site.videos().join("v");
    fs::create_dir_all(folder.join("720p")).unwrap();
    for number in 0..200 {
        fs::write(folder.join(format!("{number}.ts")), "x").unwrap();
        fs::write(folder.join(format!("720p/{number}.ts")), "x").unwrap();
    }
    let fixed = folder.join("17.ts");
    let chattr = |flag: &str| Command::new("chattr").arg(flag).arg(&fixed).status().unwrap();
    assert!(chattr("+i").success(), "the tests run as root");
    let host = site.start();
    let ids = host.enqueue("clear", &["v"]);
    host.drained("clear");
    let task = host.get(&format!("/v1/tasks/{}", ids[0]));
    let note = task["note"].as_str().unwrap();
    assert_eq!((task["state"].as_str(), task["attempts"].as_u64()), (Some("dead"), Some(2)), "{task}");
    assert!(note.contains("v/17.ts: Operation not permitted"), "{note}");
    let left: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["17.ts"]);
    // And when nothing is in the way any more, all of it goes.
    assert!(chattr("-i").success());
    host.enqueue("clear", &["v"]);
    host.drained("clear");
    assert!(!folder.exists());
}

/// Neither the guest nor the host holds more than a few folders of the way open, nor
/// renames any.
#[test]
fn a_tree_of_depth_3000_with_long_names_goes_without_renaming() {
    let more = "[job.limits]\ndescriptors = 64\nmemory = \"16MiB\"\n[job.retry]\nmax_attempts = 1\n";
    let site = site(more);
    let files = chain(&site.videos().join("deep"), 3000, &"n".repeat(255), 300);
    let host = site.start();
    let ids = host.enqueue("clear", &["deep"]);
    host.drained("clear");
    let task = host.get(&format!("/v1/tasks/{}", ids[0]));
    assert_eq!(task["state"], "done", "{task}\n{}", host.log());
    let note = task["note"].as_str().unwrap();
    assert!(note.starts_with(&format!("removed {files} files")), "{note}");
    assert!(!site.videos().join("deep").exists());
    let removed = host.get(&format!("/v1/effects?task={}&operation=remove&limit=1000", ids[0]));
    assert_eq!(removed["effects"].as_array().map(Vec::len), Some(files));
    let renamed = host.get(&format!("/v1/effects?task={}&operation=rename", ids[0]));
    assert_eq!(renamed["effects"].as_array().map(Vec::len), Some(0));
}

/// A file of a deep tree used to go back to a path that it never had.
#[test]
fn what_is_restored_from_a_deep_tree_stands_at_its_own_path() {
    let site = site("trash = \"1h\"\n");
    // The second one lies deeper than a path can say.
    let trees = [("shallow", 100, "d".to_owned()), ("deep", 100, "n".repeat(100))];
    for (top, depth, name) in &trees {
        chain(&site.videos().join(top), *depth, name, *depth);
    }
    let host = site.start();
    host.enqueue("clear", &["shallow", "deep"]);
    host.drained("clear");
    assert_eq!(host.tasks("clear", "done").len(), 2, "{:?}", host.tasks("clear", "dead"));
    let path = site.videos().display().to_string();
    assert_eq!(run(&site, &["trash", "restore", "clear", "--path", &path]).exits(0).out, "4 restored\n");
    for (top, depth, name) in &trees {
        let top = site.videos().join(top);
        assert!(stands(&top, 0, name, "file-0"), "{top:?}");
        assert!(stands(&top, depth - 1, name, &format!("file-{}", depth - 1)), "{top:?}");
    }
    assert!(
        !fs::read_dir(site.videos().join("shallow"))
            .unwrap()
            .any(|entry| { entry.unwrap().file_name().to_string_lossy().starts_with(".sweepd") })
    );
    // Whoever removes the site has no paths for it.
    Command::new("rm").arg("-rf").arg(site.videos().join("deep")).status().unwrap();
}
