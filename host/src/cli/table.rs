//! Tables, and what `sweepd status` shows.

// length: every line of `sweepd status` for people stands here, and nothing else.

use std::io::{self, Write};
use std::time::Duration;

use comfy_table::{CellAlignment, Table, presets};

use crate::domain::clock::TOLERANCE;
use crate::domain::printable::printable;
use crate::domain::time::Timestamp;

use super::screen::{self, Screen};
use super::status::{AllowanceView, BacklogView, BudgetView, JobView, NodeView, PartView, SpentView, TakenView, View};

/// The status for people: a line about the host, a row a job, a row a node, and
/// what is to be known besides.
pub(super) fn write_status(
    out: &mut Screen<impl Write>,
    view: &View,
    now: Timestamp,
    terminal: bool,
) -> io::Result<()> {
    if view.running {
        let version = view.version.as_deref().unwrap_or("?");
        let node = view.node.as_deref().unwrap_or("?");
        let up = up(view).or_else(|| view.started_at.map(|started| ago(now, started)));
        let up = up.unwrap_or_else(|| "?".to_owned());
        let confined = view.wall.as_ref().map_or("", |wall| match wall.enforced.as_str() {
            "fully" => ", confined",
            "partly" => ", confined in part",
            _ => ", not confined",
        });
        writeln!(out, "sweepd {version} on {node}, up {up}{confined}")?;
    }
    let header = ["JOB", "STATE", "PENDING", "RUNNING", "DEAD", "BEHIND", "GENERATION", "LOADED"];
    write(out, terminal, header, &[2, 3, 4], view.jobs.iter().map(|job| row(job, now, view.running)))?;
    if !view.nodes.is_empty() {
        let header = ["NODE", "LABELS", "VERSION", "UP", "RUNS"];
        write(out, terminal, header, &[], view.nodes.iter().map(|node| node_row(view, node, now)))?;
    }
    if let Some(why) = view.wall.as_ref().and_then(|wall| wall.why.as_ref()) {
        writeln!(out, "the wall (sandbox.landlock): {why}")?;
    }
    if let Some(clock) = &view.clock {
        writeln!(out, "clock ({} ago): {}", ago(now, clock.at), clock.message)?;
    }
    for part in &view.parts {
        part_note(out, part, now)?;
    }
    if view.log.lost > 0 {
        let now = view.log.losing.as_ref().map_or_else(String::new, |why| format!(", and more are being lost: {why}"));
        writeln!(out, "log: {} lines were lost{now}", view.log.lost)?;
    }
    if let Some(why) = &view.no_room {
        writeln!(out, "{why}")?;
    }
    view.jobs.iter().try_for_each(|job| notes(out, job, now))
}

/// Prints a table on standard output; the columns `right` are numbers.
pub(super) fn print<const N: usize>(
    header: [&str; N],
    right: &[usize],
    rows: impl Iterator<Item = [String; N]>,
) -> io::Result<()> {
    let mut out = Screen::stdout();
    write(&mut out, screen::is_terminal(), header, right, rows)?;
    out.flush()
}

/// Writes a table, with lines where somebody looks at it.
pub(super) fn write<const N: usize>(
    out: &mut Screen<impl Write>,
    terminal: bool,
    header: [&str; N],
    right: &[usize],
    rows: impl Iterator<Item = [String; N]>,
) -> io::Result<()> {
    #[allow(clippy::disallowed_methods, reason = "its cells are made printable here")]
    let mut table = Table::new();
    table.load_preset(if terminal { presets::UTF8_FULL_CONDENSED } else { presets::NOTHING });
    table.set_header(header);
    for column in right {
        if let Some(column) = table.column_mut(*column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    // Here, not only by the screen: a cell that ends a line would make a row of two.
    table.add_rows(rows.map(|row| row.map(|cell| printable(&cell).into_owned())));
    table.lines().try_for_each(|line| out.line(line.trim_end()))
}

/// A size for people.
pub(super) fn size(bytes: u64) -> String {
    bytesize::ByteSize(bytes).display().iec_short().to_string()
}

/// How long the host has been up by its own count, which no clock that is set
/// changes.
fn up(view: &View) -> Option<String> {
    view.up_ms.map(|up| lasting(Duration::from_millis(up)))
}

fn node_row(view: &View, node: &NodeView, now: Timestamp) -> [String; 5] {
    let own = up(view).filter(|_| view.node.as_ref() == Some(&node.name));
    let holds: Vec<_> = node.holds.iter().map(|holding| format!("{}: {}", holding.job, holding.tasks)).collect();
    let or_none = |text: String| if text.is_empty() { "-".to_owned() } else { text };
    [
        node.name.clone(),
        or_none(node.labels.join(" ")),
        node.version.clone(),
        own.unwrap_or_else(|| ago(now, node.started_at)),
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
        generation.map_or_else(
            || "-".to_owned(),
            |serving| {
                serving.age_ms.map_or_else(|| ago(now, serving.loaded_at), |age| lasting(Duration::from_millis(age)))
            },
        ),
    ]
}

fn state(job: &JobView, running: bool) -> &'static str {
    match (running, &job.paused, &job.cannot_work) {
        (_, Some(_), _) => "paused",
        (false, None, _) => "stopped",
        (true, None, None) => "serving",
        (true, None, Some(cannot)) => match cannot.reason.as_str() {
            "elsewhere" => "elsewhere",
            "compiling" => "compiling",
            "no-plugin" => "no plugin",
            "mount" | "cannot-change-files" => "waiting",
            _ => "failing",
        },
    }
}

fn part_note(out: &mut Screen<impl Write>, part: &PartView, now: Timestamp) -> io::Result<()> {
    let PartView { name, down, restarts, why, at } = part;
    let ago = ago(now, *at);
    if *down {
        writeln!(out, "part of the host is down: {name}, {ago} ago: {why}")
    } else {
        writeln!(out, "part of the host was started again: {name}, {restarts} times, last {ago} ago: {why}")
    }
}

fn notes(out: &mut Screen<impl Write>, job: &JobView, now: Timestamp) -> io::Result<()> {
    let name = &job.name;
    if let Some(why) = &job.waiting {
        writeln!(out, "{name}: waits: {why}")?;
    }
    if let Some(reason) = &job.paused {
        writeln!(out, "{name}: paused: {reason}")?;
    }
    if let Some(since) = job.under_way {
        let by_now = ago(now, since);
        writeln!(
            out,
            "{name}: a system call that was under way hangs ({by_now} by now): it may complete, and no other begins"
        )?;
    }
    if let Some(taken) = taken(&job.taken) {
        writeln!(out, "{name}: took away {taken}")?;
    }
    if let Some(made) = made(&job.taken) {
        writeln!(out, "{name}: made {made}")?;
    }
    if job.holds > 0 {
        let holds = if job.holds == 1 { "1 hold".to_owned() } else { format!("{} holds", job.holds) };
        writeln!(out, "{name}: {holds} (sweepd hold list {name})")?;
    }
    if let Some(compiling) = &job.slot.compiling {
        let (digest, ago) = (short(&compiling.digest), ago(now, compiling.since));
        writeln!(out, "{name}: compiling {digest}, for {ago}")?;
    }
    if let Some(error) = &job.slot.error {
        writeln!(out, "{name}: the plugin file does not serve ({} ago): {}", ago(now, error.at), error.message)?;
    }
    if let Some(unseen) = &job.slot.unseen {
        writeln!(out, "{name}: the plugin file is not followed ({} ago): {}", ago(now, unseen.at), unseen.message)?;
    }
    if let Some(unkept) = &job.slot.unkept {
        writeln!(out, "{name}: kept for a restart: no ({} ago): {}", ago(now, unkept.at), unkept.message)?;
    }
    if let Some(pinned) = &job.slot.pinned {
        writeln!(out, "{name}: {} is pinned, the plugin file does not count", short(pinned))?;
    } else if job.slot.generation.as_ref().is_some_and(|serving| serving.kept) {
        writeln!(out, "{name}: an earlier generation serves, kept in the state folder")?;
    }
    if let Some(aside) = &job.slot.set_aside {
        let (digest, ago) = (short(&aside.digest), ago(now, aside.at));
        writeln!(out, "{name}: {digest} was set aside ({ago} ago): {}", aside.why)?;
    }
    if let Some(why) = &job.hindered {
        writeln!(out, "{name}: waits: {why}")?;
    }
    if let Some(error) = &job.last_error {
        let of = error.generation.map_or_else(String::new, |number| format!(" of generation {number}"));
        writeln!(out, "{name}: last error{of} ({} ago): {}", ago(now, error.at), error.message)?;
    }
    Ok(())
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

/// How long ago something was; a time that is still to come was written before
/// the clock was set back, and tells nothing.
fn ago(now: Timestamp, then: Timestamp) -> String {
    if then > now.after(TOLERANCE) { "some time".to_owned() } else { lasting(now.since(then)) }
}

/// A time in its one or two largest units.
fn lasting(time: Duration) -> String {
    let seconds = time.as_secs();
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
    fn a_clock_that_was_set_back_makes_nothing_young() {
        let document = json!({
            "running": true, "version": "0.1.0", "node": "n1", "started_at": 36_000_000, "up_ms": 3_600_000,
            "jobs": [{
                "name": "clear", "last_error": { "at": 36_000_000, "message": "no" },
                "slot": { "generation": { "number": 1, "digest": "0123456789abcdef", "loaded_at": 36_000_000, "age_ms": 60_000 } },
            }],
            "nodes": [
                { "name": "n1", "version": "0.1.0", "started_at": 36_000_000 },
                { "name": "n2", "version": "0.1.0", "started_at": 36_000_000 },
            ],
        });
        let view = View::deserialize(&document).expect("a view");
        let mut out = Screen::new(Vec::new());
        write_status(&mut out, &view, Timestamp(120_000), false).expect("written");
        let text = out.into_text();
        let lines: Vec<_> = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        assert_eq!(lines[0], "sweepd 0.1.0 on n1, up 1h");
        assert_eq!(lines[2], "clear serving 0 0 0 - 1 (0123456789ab) 1m");
        assert_eq!(&lines[4..6], ["n1 - 0.1.0 1h -", "n2 - 0.1.0 some time -"]);
        assert_eq!(lines[6], "clear: last error (some time ago): no");
    }

    #[test]
    fn text_of_others_begins_no_line_and_no_row() {
        let document = json!({
            "running": true, "version": "0.1.0", "node": "n\u{1b}[2J", "up_ms": 1000,
            "jobs": [{
                "name": "clear", "paused": "lunch\nclear: all is well\u{1b}[1A\u{202e}", "hindered": "\u{9b}2J",
                "last_error": { "at": 0, "message": "a\rb" },
            }],
            "nodes": [{ "name": "x\ny", "labels": ["\u{200b}"], "version": "0", "started_at": 0 }],
        });
        let view = View::deserialize(&document).expect("a view");
        for terminal in [false, true] {
            let mut out = Screen::new(Vec::new());
            write_status(&mut out, &view, Timestamp(60_000), terminal).expect("written");
            let text = out.into_text();
            for shown in [
                "n\\u{1b}[2J",
                "lunch\\nclear: all is well\\u{1b}[1A\\u{202e}",
                "\\u{9b}2J",
                "a\\rb",
                "x\\ny",
                "\\u{200b}",
            ] {
                assert!(text.contains(shown), "`{shown}` is not in:\n{text}");
            }
            assert!(!text.lines().any(|line| line.starts_with("clear: all is well")), "{text}");
            assert_eq!(text.lines().filter(|line| line.contains("\\ny")).count(), 1, "{text}");
        }
    }

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
                    "compiling": { "digest": "aaaabbbbccccdddd", "since": 100_000 },
                    "set_aside": { "digest": "fedcba9876543210", "at": 117_000, "why": "it trapped" },
                },
                "hindered": "the disk is full",
                "last_error": { "at": 118_000, "message": "cannot remove x", "generation": 2 },
            }, {
                "name": "b", "paused": "lunch", "holds": 1, "slot": { "pinned": "0123456789abcdef" },
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
        let mut out = Screen::new(Vec::new());
        write_status(&mut out, &view, Timestamp(120_000), false).expect("written");
        let text = out.into_text();
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
                "video-clear: compiling aaaabbbbcccc, for 20s",
                "video-clear: the plugin file does not serve (1s ago): half a file",
                "video-clear: an earlier generation serves, kept in the state folder",
                "video-clear: fedcba987654 was set aside (3s ago): it trapped",
                "video-clear: waits: the disk is full",
                "video-clear: last error of generation 2 (2s ago): cannot remove x",
                "b: paused: lunch",
                "b: took away 1 file (2.0K) in the last sweep of at most 10 files and 5%, 7 files (4.0K) in the last hour",
                "b: made 0 files and folders (0B) in the last sweep, 1 file or folder (1.0K) in the last hour of at most 3 files and folders and 2.0K",
                "b: 1 hold (sweepd hold list b)",
                "b: 0123456789ab is pinned, the plugin file does not count",
            ]
        );
    }
}
