//! 100,000 tasks through the real binary: queued in bulk over HTTP, swept,
//! files deleted, records finished; against a bare loop of unlinks with as many
//! threads.

use std::path::Path;
use std::time::Instant;

use super::report::{Report, median};
use super::support::{Site, plugin};
use super::world;

fn tasks() -> usize {
    world::sized(100_000, 200)
}
const THREADS: usize = 2;

pub(crate) fn measure(report: &mut Report) {
    for (name, size) in [("empty files", 0), ("synced 4 KiB files", 4096)] {
        let (mut rates, mut bare, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..world::sized(3, 1) {
            let ours = tasks() as f64 / through_sweepd(size);
            let native = tasks() as f64 / bare_loop(size);
            ratios.push(ours / native);
            rates.push(ours);
            bare.push(native);
        }
        let detail = format!("bare loop of {THREADS} threads {:.0}/s", median(bare));
        if size == 0 {
            report.at_least("end to end, empty files", median(rates), 40_000.0, "/s", detail);
        } else {
            let detail = format!("{detail}, sweepd {:.0}/s", median(rates));
            report.at_least(&format!("end to end of a bare loop, {name}"), median(ratios), 0.8, "ratio", detail);
        }
    }
}

fn through_sweepd(size: usize) -> f64 {
    let place = Site::with_job(&plugin("video-clear"), &format!("capacity = 2000\nconcurrency = {THREADS}\n"));
    let host = place.start();
    host.serving("clear");
    world::make_files(&place.videos(), tasks(), size, size > 0);
    let keys: Vec<_> = (0..tasks()).map(world::key).collect();
    let began = Instant::now();
    host.enqueue("clear", &keys);
    host.drained("clear");
    let took = began.elapsed().as_secs_f64();
    // Beside the videos the folder has the mount's marker.
    let entries = std::fs::read_dir(place.videos()).expect("the folder lists");
    let is_video = |entry: &std::fs::DirEntry| !entry.file_name().to_string_lossy().starts_with(".sweepd-");
    let left = entries.map(|entry| entry.expect("an entry")).filter(is_video).count();
    assert_eq!(left, 0, "files are left");
    took
}

fn bare_loop(size: usize) -> f64 {
    let folder = world::folder();
    world::make_files(folder.path(), tasks(), size, size > 0);
    let began = Instant::now();
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let folder = folder.path();
            scope.spawn(move || remove_every(folder, thread));
        }
    });
    began.elapsed().as_secs_f64()
}

fn remove_every(folder: &Path, first: usize) {
    for number in (first..tasks()).step_by(THREADS) {
        std::fs::remove_file(folder.join(world::key(number))).expect("the file goes");
    }
}
