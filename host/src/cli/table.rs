//! The tables of `sweepd status`.

use std::fmt::Write as _;
use std::io::{self, IsTerminal as _, Write as _};
use std::time::Duration;

use comfy_table::{CellAlignment, Table, presets};

use crate::domain::time::Timestamp;

use super::status::{AllowanceView, BacklogView, BudgetView, JobView, NodeView, PartView, SpentView, TakenView, View};

/// The status for people: a line about the host, a row a job, a row a node, and
/// what is to be known besides.
pub(super) fn render(view: &View, now: Timestamp, terminal: bool) -> String {
    let mut text = String::new();
    if view.running {
        let version = view.version.as_deref().unwrap_or("?");
        let node = view.node.as_deref().unwrap_or("?");
        let up = view.started_at.map_or_else(|| "?".to_owned(), |started| ago(now, started));
        let confined = view.wall.as_ref().map_or("", |wall| match wall.enforced.as_str() {
            "fully" => ", confined",
            "partly" => ", confined in part",
            _ => ", not confined",
        });
        let _ = writeln!(text, "sweepd {version} on {node}, up {up}{confined}");
    }
    let mut jobs = table(["JOB", "STATE", "PENDING", "RUNNING", "DEAD", "BEHIND", "GENERATION", "LOADED"], terminal);
    for column in 2..=4 {
        if let Some(column) = jobs.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    for job in &view.jobs {
        jobs.add_row(row(job, now, view.running));
    }
    write_table(&mut text, &jobs);
    if !view.nodes.is_empty() {
        let mut nodes = table(["NODE", "LABELS", "VERSION", "UP", "RUNS"], terminal);
        for node in &view.nodes {
            nodes.add_row(node_row(node, now));
        }
        write_table(&mut text, &nodes);
    }
    if let Some(why) = view.wall.as_ref().and_then(|wall| wall.why.as_ref()) {
        let _ = writeln!(text, "the wall (sandbox.landlock): {why}");
    }
    if let Some(clock) = &view.clock {
        let _ = writeln!(text, "clock ({} ago): {}", ago(now, clock.at), clock.message);
    }
    for part in &view.parts {
        part_note(&mut text, part, now);
    }
    if let Some(why) = &view.no_room {
        let _ = writeln!(text, "{why}");
    }
    for job in &view.jobs {
        notes(&mut text, job, now);
    }
    text
}

/// Prints a table on standard output; the columns `right` are numbers.
pub(super) fn print<const N: usize>(
    header: [&str; N],
    right: &[usize],
    rows: impl Iterator<Item = [String; N]>,
) -> io::Result<()> {
    let mut table = table(header, io::stdout().is_terminal());
    for column in right {
        if let Some(column) = table.column_mut(*column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.add_rows(rows);
    let mut text = String::new();
    write_table(&mut text, &table);
    io::stdout().lock().write_all(text.as_bytes())
}

/// A size for people.
pub(super) fn size(bytes: u64) -> String {
    bytesize::ByteSize(bytes).display().iec_short().to_string()
}

fn table<const N: usize>(header: [&str; N], terminal: bool) -> Table {
    let mut table = Table::new();
    table.load_preset(if terminal { presets::UTF8_FULL_CONDENSED } else { presets::NOTHING });
    table.set_header(header);
    table
}

fn write_table(text: &mut String, table: &Table) {
    for line in table.lines() {
        let _ = writeln!(text, "{}", line.trim_end());
    }
}

fn node_row(node: &NodeView, now: Timestamp) -> [String; 5] {
    let holds: Vec<_> = node.holds.iter().map(|holding| format!("{}: {}", holding.job, holding.tasks)).collect();
    let or_none = |text: String| if text.is_empty() { "-".to_owned() } else { text };
    [
        node.name.clone(),
        or_none(node.labels.join(" ")),
        node.version.clone(),
        ago(now, node.started_at),
        or_none(holds.join(", ")),
    ]
}

fn row(job: &JobView, now: Timestamp, running: bool) -> [String; 8] {
    let BacklogView { pending, running: claimed, dead, more, oldest_due, age_ms } = &job.backlog;
    let plus = if *more { "+" } else { "" };
    let generation = job.slot.generation.as_ref();
    [
        job.name.clone(),
        state(job, running).to_owned(),
        format!("{pending}{plus}"),
        format!("{claimed}{plus}"),
        format!("{dead}{plus}"),
        oldest_due.map_or_else(|| "-".to_owned(), |_| ago(Timestamp(*age_ms), Timestamp(0))),
        generation.map_or_else(|| "-".to_owned(), |serving| format!("{} ({})", serving.number, short(&serving.digest))),
        generation.map_or_else(|| "-".to_owned(), |serving| ago(now, serving.loaded_at)),
    ]
}

fn state(job: &JobView, running: bool) -> &'static str {
    match (running, &job.paused, &job.slot.generation) {
        (_, Some(_), _) => "paused",
        (false, None, _) => "stopped",
        (true, None, None) => "no plugin",
        (true, None, Some(_)) if job.waiting.is_some() => "waiting",
        (true, None, Some(_)) => "serving",
    }
}

fn part_note(text: &mut String, part: &PartView, now: Timestamp) {
    let PartView { name, down, restarts, why, at } = part;
    let ago = ago(now, *at);
    let _ = if *down {
        writeln!(text, "part of the host is down: {name}, {ago} ago: {why}")
    } else {
        writeln!(text, "part of the host was started again: {name}, {restarts} times, last {ago} ago: {why}")
    };
}

fn notes(text: &mut String, job: &JobView, now: Timestamp) {
    let name = &job.name;
    if let Some(why) = &job.waiting {
        let _ = writeln!(text, "{name}: waits: {why}");
    }
    if let Some(reason) = &job.paused {
        let _ = writeln!(text, "{name}: paused: {reason}");
    }
    if let Some(taken) = taken(&job.taken) {
        let _ = writeln!(text, "{name}: took away {taken}");
    }
    if let Some(made) = made(&job.taken) {
        let _ = writeln!(text, "{name}: made {made}");
    }
    if job.holds > 0 {
        let _ = writeln!(text, "{name}: {} holds (sweepd hold list {name})", job.holds);
    }
    if let Some(error) = &job.slot.error {
        let _ =
            writeln!(text, "{name}: the plugin file does not serve ({} ago): {}", ago(now, error.at), error.message);
    }
    if let Some(unkept) = &job.slot.unkept {
        let _ = writeln!(text, "{name}: kept for a restart: no ({} ago): {}", ago(now, unkept.at), unkept.message);
    }
    if let Some(pinned) = &job.slot.pinned {
        let _ = writeln!(text, "{name}: {} is pinned, the plugin file does not count", short(pinned));
    } else if job.slot.generation.as_ref().is_some_and(|serving| serving.kept) {
        let _ = writeln!(text, "{name}: an earlier generation serves, kept in the state folder");
    }
    if let Some(aside) = &job.slot.set_aside {
        let (digest, ago) = (short(&aside.digest), ago(now, aside.at));
        let _ = writeln!(text, "{name}: {digest} was set aside ({ago} ago): {}", aside.why);
    }
    if let Some(why) = &job.hindered {
        let _ = writeln!(text, "{name}: waits: {why}");
    }
    if let Some(error) = &job.last_error {
        let _ = writeln!(text, "{name}: last error ({} ago): {}", ago(now, error.at), error.message);
    }
}

fn short(digest: &str) -> &str {
    digest.get(..12).unwrap_or(digest)
}

/// What a job took away of late, and how much it may; nothing where it took
/// nothing and may take everything.
fn taken(taken: &TakenView) -> Option<String> {
    let bounds = |one: &AllowanceView| {
        let files = one.files.map(|files| format!("{files} files"));
        [files, one.bytes.map(size), one.share.clone()].into_iter().flatten().collect()
    };
    in_both(taken, |spent| (spent.files, spent.bytes), "1 file", "files", bounds)
}

/// The same of what it made.
fn made(taken: &TakenView) -> Option<String> {
    let bounds = |one: &AllowanceView| {
        let made = one.made.map(|made| format!("{made} files and folders"));
        [made, one.written.map(size)].into_iter().flatten().collect()
    };
    in_both(taken, |spent| (spent.made, spent.written), "1 file or folder", "files and folders", bounds)
}

/// So many things and bytes of the last sweep and hour, each with its bounds;
/// nothing where there were none of either.
fn in_both(
    taken: &TakenView,
    of: impl Fn(&SpentView) -> (u64, u64),
    one: &str,
    many: &str,
    bounds: impl Fn(&AllowanceView) -> Vec<String>,
) -> Option<String> {
    let TakenView { sweep, hour, budget } = taken;
    let part = |spent: &SpentView, allowed: &[String], period: &str| {
        let (count, bytes) = of(spent);
        let count = if count == 1 { one.to_owned() } else { format!("{count} {many}") };
        let most = if allowed.is_empty() { String::new() } else { format!(" of at most {}", allowed.join(" and ")) };
        format!("{count} ({}) {period}{most}", size(bytes))
    };
    let bounds_of =
        |which: fn(&BudgetView) -> &AllowanceView| budget.as_ref().map(which).map_or_else(Vec::new, &bounds);
    let (of_sweep, of_hour) = (bounds_of(|budget| &budget.sweep), bounds_of(|budget| &budget.hour));
    let nothing = of(sweep) == (0, 0) && of(hour) == (0, 0) && of_sweep.is_empty() && of_hour.is_empty();
    let both = || {
        let (sweep, hour) = (part(sweep, &of_sweep, "in the last sweep"), part(hour, &of_hour, "in the last hour"));
        format!("{sweep}, {hour}")
    };
    (!nothing).then(both)
}

/// How long ago something was, in its one or two largest units.
fn ago(now: Timestamp, then: Timestamp) -> String {
    let seconds = now.since(then).as_secs();
    let rounded = match seconds {
        0..3600 => seconds,
        3600..86_400 => seconds / 60 * 60,
        _ => seconds / 3600 * 3600,
    };
    humantime::format_duration(Duration::from_secs(rounded)).to_string()
}

#[cfg(test)]
mod tests {
    use serde::Deserialize as _;
    use serde_json::json;

    use super::*;

    #[test]
    fn what_people_see() {
        let document = json!({
            "running": true, "version": "0.1.0", "node": "n1", "started_at": 0,
            "wall": { "landlock": "best-effort", "enforced": "partly", "why": "an old kernel" },
            "jobs": [{
                "name": "video-clear", "backlog": { "pending": 12, "running": 2, "dead": 1, "more": true, "oldest_due": 50_000, "age_ms": 60_000 },
                "slot": {
                    "generation": { "number": 2, "digest": "0123456789abcdef", "loaded_at": 0, "kept": true },
                    "error": { "at": 119_000, "message": "half a file" },
                    "set_aside": { "digest": "fedcba9876543210", "at": 117_000, "why": "it trapped" },
                },
                "hindered": "the disk is full",
                "last_error": { "at": 118_000, "message": "cannot remove x" },
            }, {
                "name": "b", "paused": "lunch", "holds": 2, "slot": { "pinned": "0123456789abcdef" },
                "taken": { "sweep": { "files": 1, "bytes": 2048 },
                           "hour": { "files": 7, "bytes": 4096, "made": 1, "written": 1024 },
                           "budget": { "sweep": { "files": 10, "share": "5%" }, "hour": { "made": 3, "written": 2048 } } },
            }],
            "nodes": [
                { "name": "n1", "labels": ["nvme", "rack-2"], "version": "0.1.0", "started_at": 60_000,
                  "holds": [{ "job": "b", "tasks": 3 }, { "job": "video-clear", "tasks": 1 }] },
                { "name": "n2", "version": "0.1.0", "started_at": 0 },
            ],
        });
        let view = View::deserialize(&document).expect("a view");
        let text = render(&view, Timestamp(120_000), false);
        let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[0].join(" "), "sweepd 0.1.0 on n1, up 2m, confined in part");
        assert_eq!(lines[2].join(" "), "video-clear serving 12+ 2+ 1+ 1m 2 (0123456789ab) 2m");
        assert_eq!(lines[3].join(" "), "b paused 0 0 0 - - -");
        assert_eq!(lines[5].join(" "), "n1 nvme rack-2 0.1.0 1m b: 3, video-clear: 1");
        assert_eq!(lines[6].join(" "), "n2 - 0.1.0 2m -");
        assert_eq!(
            text.lines().skip(7).collect::<Vec<_>>(),
            [
                "the wall (sandbox.landlock): an old kernel",
                "video-clear: the plugin file does not serve (1s ago): half a file",
                "video-clear: an earlier generation serves, kept in the state folder",
                "video-clear: fedcba987654 was set aside (3s ago): it trapped",
                "video-clear: waits: the disk is full",
                "video-clear: last error (2s ago): cannot remove x",
                "b: paused: lunch",
                "b: took away 1 file (2.0K) in the last sweep of at most 10 files and 5%, 7 files (4.0K) in the last hour",
                "b: made 0 files and folders (0B) in the last sweep, 1 file or folder (1.0K) in the last hour of at most 3 files and folders and 2.0K",
                "b: 2 holds (sweepd hold list b)",
                "b: 0123456789ab is pinned, the plugin file does not count",
            ]
        );
    }
}
