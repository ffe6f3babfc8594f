//! Somebody exchanges a folder for a link to outside, as fast as it goes, while
//! a guest walks through it. A check of the path before the call would be
//! passed by the one and the call be made on the other; the resolution beneath
//! a descriptor (`sandbox/beneath.rs`) and acting on single names close that.

use std::fs;
use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::{ended, note, tree};
use crate::support::{Site, guest};

/// So often the guest tries each of its ways.
const ROUNDS: u32 = 10_000;

#[test]
fn a_link_that_is_swapped_in_leads_nowhere() {
    let more = format!("[job.limits]\ntask_deadline = \"10m\"\n[job.config]\nrounds = {ROUNDS}\n");
    let site = Site::with_job(&guest("walks_races"), &more);
    let (videos, outside) = (site.videos(), site.path().join("outside"));
    for folder in [videos.join("swap"), outside.clone()] {
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("victim"), "victim").unwrap();
    }
    fs::write(videos.join("swap/secret"), "inside").unwrap();
    fs::write(videos.join("secret"), "above").unwrap();
    fs::write(videos.join("swap-file"), "inside").unwrap();
    fs::write(outside.join("secret"), "s3cret-outside").unwrap();
    symlink("../outside", videos.join("swap-link")).unwrap();
    symlink("../outside/secret", videos.join("swap-file-link")).unwrap();
    // Opening a pipe would wait for ever.
    fs::write(videos.join("swap-pipe"), "inside").unwrap();
    let pipe = videos.join("swap-pipe-link");
    rustix::fs::mknodat(CWD, &pipe, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0).unwrap();
    let before = tree(&outside);
    let modified = fs::metadata(outside.join("secret")).unwrap().modified().unwrap();
    let host = site.start();
    let stop = AtomicBool::new(false);
    let (task, swaps) = std::thread::scope(|scope| {
        let swapping = scope.spawn(|| {
            let mut swaps = 0_u64;
            while !stop.load(Ordering::Relaxed) {
                for name in ["swap", "swap-file", "swap-pipe"] {
                    let (path, link) = (videos.join(name), videos.join(format!("{name}-link")));
                    renameat_with(CWD, &path, CWD, &link, RenameFlags::EXCHANGE).unwrap();
                    swaps += 1;
                }
            }
            swaps
        });
        let task = ended(&host, "race");
        stop.store(true, Ordering::Relaxed);
        (task, swapping.join().unwrap())
    });
    assert_eq!(tree(&outside), before, "nothing outside was changed: {task}");
    assert_eq!(fs::metadata(outside.join("secret")).unwrap().modified().unwrap(), modified, "nor its times");
    let (through, rest) = note(&task).split_once(' ').unwrap();
    let (refused, seen) = rest.split_once(' ').unwrap();
    let numbers: (u64, u64) = (through.parse().unwrap(), refused.parse().unwrap());
    assert!(!seen.contains("s3cret") && !seen.contains("above") && !seen.contains("14"), "it saw {seen}");
    assert!(seen.contains("inside"), "it saw {seen}");
    // The race was one: both stood there, often.
    let rounds = u64::from(ROUNDS);
    assert!(numbers.0 > rounds && numbers.1 > rounds && swaps > 2 * rounds, "{numbers:?} of {swaps} swaps");
}
