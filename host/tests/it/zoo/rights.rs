//! Rights bound what a guest may do in a mount, each operation by its own
//! (`sandbox/may.rs`).

use std::fs;

use super::{answers, ended, note, tree};
use crate::support::{Site, Sweepd, guest};

/// A site whose guest does all that there is to do, with these rights.
fn site(rights: &str) -> Site {
    let site = Site::with_job(&guest("changes_everything"), "");
    site.configure(&format!(
        "[[job]]\nname = \"clear\"\nplugin = \"plugins/plugin.wasm\"\n\
         mounts = [{{ path = \"videos\", at = \"/\", rights = {rights} }}]\ninterval = \"200ms\"\n"
    ));
    fs::write(site.videos().join("file"), "content").unwrap();
    fs::create_dir(site.videos().join("empty")).unwrap();
    site
}

/// The operations that were refused as not permitted, for want of a right.
fn refused(host: &Sweepd) -> Vec<String> {
    let task = ended(host, "all");
    let all = answers(note(&task)).into_iter();
    all.filter(|(_, (code, _))| matches!(*code, "not-permitted" | "read-only"))
        .map(|(operation, _)| operation.to_owned())
        .collect()
}

#[test]
fn a_right_that_is_missing_stops_its_operations_and_is_named() {
    for (missing, stopped) in [
        (
            "write",
            vec!["append", "set-size", "set-times", "set-times-of-read", "truncate", "truncate-unasked", "write"],
        ),
        ("create", vec!["create", "create-folder", "link"]),
        ("rename", vec!["rename", "rename-back", "rename-over"]),
        ("delete", vec!["remove", "remove-folder"]),
    ] {
        let rights = ["list", "stat", "read", "write", "create", "rename", "delete"];
        let granted: Vec<_> = rights.into_iter().filter(|right| *right != missing).collect();
        let site = site(&format!("{granted:?}"));
        let host = site.start();
        let mut refused = refused(&host);
        // Nobody makes symbolic links, whatever the rights.
        refused.retain(|operation| operation != "symlink");
        for operation in stopped {
            assert!(refused.iter().any(|found| found == operation), "{operation} without {missing}: {refused:?}");
        }
        host.says(&format!("does not have the right `{missing}`"));
    }
}

#[test]
fn with_the_right_to_delete_only_removal_works() {
    let site = site("[\"list\", \"stat\", \"read\", \"delete\"]");
    let host = site.start();
    let task = ended(&host, "all");
    let all = answers(note(&task)).into_iter();
    let worked: Vec<_> = all.filter(|(_, (code, _))| *code == "ok").map(|(operation, _)| operation).collect();
    assert_eq!(worked, ["remove", "remove-folder"], "{task}");
    assert_eq!(tree(&site.videos()).len(), 0);
    host.says("does not have the right `create`");
}

#[test]
fn a_mount_to_look_at_is_looked_at() {
    let site = site("\"ro\"");
    let before = tree(&site.videos());
    let host = site.start();
    let task = ended(&host, "all");
    for (operation, (code, _)) in answers(note(&task)) {
        assert_ne!(code, "ok", "{operation}: {task}");
    }
    assert_eq!(tree(&site.videos()), before);
}

/// Two mounts of one job, with these rights, and what the guest was told.
fn across(from: &str, to: &str) -> (Site, String) {
    let site = Site::with_job(&guest("renames_across"), "");
    let mounts = [("from", from), ("to", to)];
    for (name, _) in mounts {
        fs::create_dir(site.path().join(name)).unwrap();
    }
    fs::create_dir(site.path().join("from/folder")).unwrap();
    for path in ["from/linked", "from/moved", "from/over", "from/folder/file", "to/over"] {
        fs::write(site.path().join(path), path).unwrap();
    }
    let mounts = mounts.map(|(name, rights)| format!("{{ path = \"{name}\", at = \"/{name}\", rights = {rights} }}"));
    site.configure(&format!(
        "[[job]]\nname = \"clear\"\nplugin = \"plugins/plugin.wasm\"\nmounts = [{}]\ninterval = \"200ms\"\n",
        mounts.join(", ")
    ));
    let host = site.start();
    let task = ended(&host, "across");
    let note = note(&task).to_owned();
    drop(host);
    (site, note)
}

#[test]
fn what_is_moved_needs_the_right_in_both_mounts() {
    let all = "\"rw\"";
    for (from, to, code) in [
        (all, "\"ro\"", "read-only"),
        ("\"ro\"", all, "read-only"),
        (all, "[\"list\", \"stat\", \"read\", \"create\", \"delete\"]", "not-permitted"),
        ("[\"list\", \"stat\", \"read\", \"delete\"]", all, "not-permitted"),
    ] {
        let (site, note) = across(from, to);
        for operation in ["rename", "rename-over", "rename-folder"] {
            assert_eq!(answers(&note)[operation].0, code, "{operation} from {from} to {to}:\n{note}");
        }
        assert_eq!(tree(&site.path().join("from")).len(), 5, "{from} to {to}");
        assert_eq!(fs::read_to_string(site.path().join("to/over")).unwrap(), "to/over");
    }
}

/// What leaves a mount is gone from it, and what gets into another appears
/// there: else a right to rename would be one to delete, in two steps.
#[test]
fn what_may_not_be_deleted_does_not_leave_its_mount() {
    let (site, note) = across("[\"list\", \"stat\", \"read\", \"rename\"]", "\"rw\"");
    assert_eq!(answers(&note)["rename"].0, "not-permitted", "{note}");
    assert_eq!(tree(&site.path().join("from")).len(), 5);
    let (site, note) = across("\"rw\"", "[\"list\", \"stat\", \"read\", \"rename\", \"delete\"]");
    assert_eq!(answers(&note)["rename"].0, "not-permitted", "{note}");
    assert_eq!(tree(&site.path().join("to")).len(), 1);
}

#[test]
fn what_is_allowed_in_both_mounts_moves() {
    let (site, note) = across("\"rw\"", "\"rw\"");
    let codes: Vec<_> = answers(&note).into_iter().map(|(operation, (code, _))| (operation, code)).collect();
    // A second name in another mount would have that one's rights.
    let expected = [
        ("link", "cross-device"),
        ("remove-there", "ok"),
        ("rename", "ok"),
        ("rename-folder", "ok"),
        ("rename-over", "ok"),
    ];
    assert_eq!(codes, expected);
    assert_eq!(fs::read_to_string(site.path().join("to/over")).unwrap(), "from/over");
    assert_eq!(fs::read_to_string(site.path().join("to/folder/file")).unwrap(), "from/folder/file");
}

/// Files are changed for a task; while a guest starts, none runs.
#[test]
fn what_starts_changes_nothing() {
    let site = Site::with_job(&guest("changes_at_start"), "");
    fs::write(site.videos().join("file"), "precious").unwrap();
    let before = tree(&site.videos());
    let host = site.start();
    ended(&host, "start");
    host.says("at start: remove=not-permitted make=not-permitted");
    assert_eq!(tree(&site.videos()), before);
}
