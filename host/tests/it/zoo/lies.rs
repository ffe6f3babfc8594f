//! Guests that break the contract itself: handles that they do not have, text
//! that is none, memory beyond their own. The component model's checks at the
//! border turn each into a trap; nothing of it may reach the host's own code.

use std::fs;

use super::{answers, ended, note, tree};
use crate::guests::{PATIENT, beside_another_job, other_works};
use crate::support::{Site, guest};

/// Each key is a lie: its task is buried, as trapped, and nothing else happens.
fn each_is_a_trap(name: &str, keys: &[&str]) {
    let (site, host) = beside_another_job(name, PATIENT, "");
    fs::write(site.videos().join("file"), "precious").unwrap();
    for key in keys {
        let task = ended(&host, key);
        assert_eq!(task["state"], "dead", "{name} {key}: {task}");
        assert!(task["note"].as_str().is_some_and(|note| note.contains("trap")), "{name} {key}: {task}");
    }
    assert_eq!(fs::read_to_string(site.videos().join("file")).unwrap(), "precious");
    other_works(&host);
}

#[test]
fn a_handle_that_was_not_given_is_a_trap() {
    each_is_a_trap("forges_handles", &["dropped", "guessed", "other"]);
}

#[test]
fn a_path_that_is_no_text_is_a_trap() {
    each_is_a_trap("raw_paths", &["latin", "surrogate", "overlong", "four-gib", "beyond"]);
}

#[test]
fn an_answer_that_is_none_is_a_trap() {
    each_is_a_trap("raw_answers", &["4", "beyond", "utf", "kind", "past", "odd"]);
}

#[test]
fn a_guest_without_room_for_its_task_is_a_trap() {
    each_is_a_trap("gives_no_room", &["anything"]);
}

/// It ends itself, and not the host; `exit(0)` is no outcome.
#[test]
fn a_guest_that_exits_ends_alone() {
    let (_site, host) = beside_another_job("exits", PATIENT, "");
    for key in ["ok", "failed"] {
        assert_eq!(ended(&host, key)["state"], "dead", "{key}");
    }
    other_works(&host);
}

/// Without the check of names at the border they would be queued, and the
/// database refuse them later.
#[test]
fn a_discovery_that_cannot_be_queued_is_refused() {
    crate::guests::charges_no_task("bad_discoveries", "[job.limits]\nmemory = \"64MiB\"\n", "cannot be queued");
}

#[test]
fn a_key_that_nobody_set_has_no_value() {
    let more = "[job.limits]\nmemory = \"64MiB\"\n[job.config]\ngreeting = \"hello\"\n";
    let site = Site::with_job(&guest("abuses_config"), more);
    let host = site.start();
    assert_eq!(note(&ended(&host, "ask")), "found 0");
}

#[test]
fn times_that_no_clock_has_are_refused() {
    let site = Site::with_job(&guest("sets_odd_times"), "");
    fs::write(site.videos().join("file"), "").unwrap();
    let modified = fs::metadata(site.videos().join("file")).unwrap().modified().unwrap();
    let host = site.start();
    let task = ended(&host, "times");
    let codes: Vec<_> = answers(note(&task)).into_values().map(|(code, _)| code).collect();
    assert_eq!(codes.len(), 5, "{task}");
    // What a file system can hold it may hold; the numbers by which the kernel
    // says "now" and "not at all" are no times.
    for odd in ["0.1073741823", "0.1073741822", "0.4294967295"] {
        assert_eq!(answers(note(&task))[odd].0, "invalid", "{odd}: {task}");
    }
    assert_eq!(answers(note(&task))["18446744073709551615.0"].0, "overflow", "{task}");
    let _ = modified;
}

/// Descriptors live as long as the instance. A folder that somebody took out
/// of the mount meanwhile is no longer in it, and what is in it neither.
#[test]
fn a_descriptor_that_was_kept_does_not_lead_out() {
    let site = Site::with_job(&guest("keeps_descriptors"), "concurrency = 1\n");
    fs::create_dir(site.videos().join("kept")).unwrap();
    for name in ["kept/file", "kept/other", "other"] {
        fs::write(site.videos().join(name), "inside").unwrap();
    }
    let host = site.start();
    assert_eq!(note(&ended(&host, "first")), "kept");
    let outside = site.path().join("outside");
    fs::rename(site.videos().join("kept"), &outside).unwrap();
    let before = tree(&outside);
    let task = ended(&host, "second");
    for (operation, (code, _)) in answers(note(&task)) {
        // The open file is the guest's, wherever its name is now.
        assert!(operation == "write" || code != "ok", "{operation}: {task}");
    }
    let after = tree(&outside);
    assert_eq!(after.keys().collect::<Vec<_>>(), before.keys().collect::<Vec<_>>(), "{task}");
}
