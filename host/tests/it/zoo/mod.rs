//! The zoo: guests that want to get out, to get at what is not theirs, or to
//! take the host down with them. Each test says which defence it would miss.
//!
//! What guests do wrong by accident is in `guests`; here it is on purpose.

mod keeping;
mod lies;
mod limits;
mod paths;
mod races;
mod rights;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::guests::task;
use crate::support::Sweepd;

/// Queues one key and waits until its task has ended, one way or another.
fn ended(host: &Sweepd, key: &str) -> Value {
    let id = host.enqueue("clear", &[key])[0];
    host.wait("the task has ended", || !matches!(task(host, id)["state"].as_str(), Some("pending" | "running")));
    task(host, id)
}

/// The note of a task that is done.
pub(crate) fn note(task: &Value) -> &str {
    assert_eq!(task["state"], "done", "{task}");
    task["note"].as_str().unwrap_or_default()
}

/// A note of lines `operation=answer content`: answer and content by operation.
pub(crate) fn answers(note: &str) -> BTreeMap<&str, (&str, &str)> {
    note.lines()
        .filter_map(|line| {
            let (operation, answer) = line.split_once('=')?;
            Some((operation, answer.split_once(' ').unwrap_or((answer, ""))))
        })
        .collect()
}

/// Every path below a folder with what is there: content, target, or kind.
/// What the host keeps for itself at the top is left out.
fn tree(folder: &Path) -> BTreeMap<String, String> {
    fn add(folder: &Path, within: &str, tree: &mut BTreeMap<String, String>) {
        for entry in fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            if within.is_empty() && name.starts_with(".sweepd-") {
                continue;
            }
            let (path, kind) = (format!("{within}/{name}"), entry.file_type().unwrap());
            let what = if kind.is_symlink() {
                format!("-> {}", fs::read_link(entry.path()).unwrap().display())
            } else if kind.is_dir() {
                add(&entry.path(), &path, tree);
                "folder".to_owned()
            } else {
                fs::read_to_string(entry.path()).unwrap()
            };
            tree.insert(path, what);
        }
    }
    let mut all = BTreeMap::new();
    add(folder, "", &mut all);
    all
}
