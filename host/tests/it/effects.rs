//! What plugins did to files is on record, and people can ask for it.

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use serde_json::{Value, json};

use crate::cli::run;
use crate::support::{Site, Sweepd, plugin};

/// What a command printed, one document a line.
pub(crate) fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

/// All effects on record, latest first.
pub(crate) fn effects(site: &Site, more: &[&str]) -> Vec<Value> {
    lines(&run(site, &[&["effects", "--json"], more].concat()).exits(0).out)
}

/// A host that removed `a`, `b` and a folder `c` with two files.
fn removed() -> (Site, Sweepd, Vec<u64>) {
    let site = Site::with_job(&plugin("video-clear"), "concurrency = 1\n");
    fs::write(site.videos().join("a"), "aaa").unwrap();
    fs::write(site.videos().join("b"), "bb").unwrap();
    fs::create_dir(site.videos().join("c")).unwrap();
    fs::write(site.videos().join("c/1"), "1").unwrap();
    fs::write(site.videos().join("c/2"), "22").unwrap();
    let host = site.start();
    let mut ids = Vec::new();
    for key in ["a", "b", "c"] {
        ids.extend(host.enqueue("clear", &[key]));
        host.drained("clear");
    }
    (site, host, ids)
}

fn names(site: &Site, effects: &[Value]) -> Vec<String> {
    let videos = format!("{}/", site.videos().canonicalize().unwrap().display());
    let name = |effect: &Value| effect["path"].as_str().unwrap().strip_prefix(&videos).unwrap().to_owned();
    effects.iter().map(name).collect()
}

#[test]
fn what_a_plugin_did_is_on_record() {
    let (site, host, ids) = removed();
    let all = effects(&site, &[]);
    let mut sorted = names(&site, &all);
    sorted.sort();
    assert_eq!(sorted, ["a", "b", "c", "c/1", "c/2"]);
    let first = all.last().unwrap();
    let digest = host.get("/v1/jobs/clear")["slot"]["generation"]["digest"].clone();
    for (field, wanted) in [
        ("job", json!("clear")),
        ("task", json!(ids[0])),
        ("attempt", json!(1)),
        ("digest", digest),
        ("operation", json!("remove")),
        ("size", json!(3)),
        ("result", json!("done")),
        ("trashed", json!(false)),
        ("fate", Value::Null),
    ] {
        assert_eq!(first[field], wanted, "{field} of {first}");
    }
    assert!(first["inode"].as_u64() > Some(0) && first["at"].as_u64() >= first["modified"].as_u64(), "{first}");
    // The same over HTTP, page by page.
    let mut pages = Vec::new();
    let mut page = host.get("/v1/effects?limit=2");
    loop {
        pages.extend(page["effects"].as_array().unwrap().clone());
        let Some(next) = page["next"].as_str() else { break };
        page = host.get(&format!("/v1/effects?limit=2&after={next}"));
    }
    assert_eq!(pages, all);
}

#[test]
fn effects_are_found_by_what_is_asked() {
    let (site, host, ids) = removed();
    let of = |more: &[&str]| {
        let mut names = names(&site, &effects(&site, more));
        names.sort();
        names.join(" ")
    };
    assert_eq!(of(&["--task", &ids[1].to_string()]), "b");
    assert_eq!(of(&["--operation", "remove-folder"]), "c");
    assert_eq!(of(&["--job", "clear", "--since", "1h", "--path", "videos/c"]), "c c/1 c/2", "from this folder on");
    assert_eq!(of(&["--path", "videos/c/"]), "c/1 c/2");
    assert_eq!(of(&["--until", "1h"]), "");
    assert_eq!(of(&["--since", "2100-01-01T00:00:00Z"]), "");
    let at = effects(&site, &["--task", &ids[1].to_string()])[0]["at"].as_u64().unwrap();
    let since = at.to_string();
    assert_eq!(of(&["--since", &since, "--operation", "remove"]), "b c/1 c/2");
    assert_eq!(effects(&site, &["--limit", "2"]).len(), 2);
    assert_eq!(host.get(&format!("/v1/effects?job=clear&until={at}"))["effects"].as_array().map(Vec::len), Some(1));
    run(&site, &["effects", "--job", "claer"]).exits(1).says("did you mean `clear`?");

    let said = run(&site, &["effects", "--limit", "3"]).exits(0);
    let rows: Vec<Vec<_>> = said.out.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["TIME", "JOB", "TASK", "OPERATION", "SIZE", "RESULT", "PATH"], "{}", said.out);
    assert_eq!((rows.len(), rows[1][3], rows[1][5]), (4, "remove-folder", "done"), "{}", said.out);
    said.says("there may be more");
}

#[test]
fn what_a_job_took_away_shows_in_its_status() {
    let (site, host, _) = removed();
    let status = host.get("/v1/jobs/clear");
    // By what they took of the disk: a block each.
    fs::write(site.videos().join("another"), "1").unwrap();
    let block = fs::metadata(site.videos().join("another")).unwrap().blocks() * 512;
    let hour = json!({ "files": 4, "bytes": 4 * block, "made": 0, "written": 0 });
    assert_eq!(status["taken"]["hour"], hour, "{status}");
    let said = crate::cli::beside(&site, &host, &["status"]).exits(0);
    assert!(said.out.contains("4 files (16.0K) in the last hour"), "{}", said.out);
}
