//! What stands for space is what a file takes of the disk: in budgets, in lists and
//! where the trash is purged.

use std::fs;
use std::path::Path;

use crate::cli::run;
use crate::support::{Site, plugin};

/// What stands in the trash, by the names there.
fn in_trash(site: &Site) -> Vec<String> {
    let entries = fs::read_dir(site.videos().join(".sweepd-trash")).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// A file of 8 TiB with holes takes nothing: neither of a budget nor of the time that
/// purging has. It used to pause the job, or be purged for hours.
#[test]
fn what_counts_is_what_a_file_takes_of_the_disk() {
    let site = Site::with_job(&plugin("video-clear"), "trash = \"1h\"\n[job.budget]\nsweep_bytes = \"1MiB\"\n");
    for name in ["sparse", "small"] {
        fs::write(site.videos().join(name), "x").unwrap();
    }
    fs::File::create(site.videos().join("sparse")).unwrap().set_len(8 << 40).unwrap();
    let host = site.start();
    host.enqueue("clear", &["sparse", "small"]);
    host.drained("clear");
    let status = host.get("/v1/jobs/clear");
    assert!(status["paused"].is_null(), "{status}");
    let files = host.get("/v1/jobs/clear/trash")["files"].as_array().unwrap().clone();
    let sparse = files.iter().find(|file| file["size"] == 8_u64 << 40).unwrap();
    assert_eq!(sparse["allocated"], 0, "{sparse}");
    assert!(files.iter().any(|file| file["size"] == 1 && file["allocated"].is_null()), "{files:?}");
    let listed = run(&site, &["trash", "list", "clear"]).exits(0).out;
    assert!(listed.contains("8.0T (0B on disk)"), "{listed}");
    assert_eq!(run(&site, &["trash", "purge", "clear", "--all", "--yes"]).exits(0).out, "2 purged\n");
}

/// What takes long to give back comes after the rest, and a part at a time: small
/// files used to wait until a large one before them was gone.
/// Whether it is being purged.
fn is_going(name: &str) -> bool {
    Path::new(name).extension().is_some_and(|end| end == "going")
}

#[test]
fn a_large_file_lets_small_ones_pass() {
    let site = Site::with_job(&plugin("video-clear"), "trash = \"1s\"\npurge_rate = \"1000 files, 2MiB\"\n");
    let host = site.start();
    // It takes half a minute at that rate, and is the first to go.
    fs::write(site.videos().join("large"), vec![7; 64 << 20]).unwrap();
    host.enqueue("clear", &["large"]);
    host.drained("clear");
    host.wait("it is being purged", || in_trash(&site).iter().any(|name| is_going(name)));
    let small: Vec<_> = (0..20).map(|number| format!("small-{number}")).collect();
    for name in &small {
        fs::write(site.videos().join(name), name).unwrap();
    }
    host.enqueue("clear", &small);
    host.drained("clear");
    host.wait("the small ones are gone", || in_trash(&site).len() == 1);
    assert!(in_trash(&site).iter().all(|name| is_going(name)), "{:?}", in_trash(&site));
}
