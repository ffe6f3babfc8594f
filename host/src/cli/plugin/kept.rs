//! `sweepd plugin history`, `rollback`, `pin` and `unpin`: the components that a
//! job accepted. They read and write the state folder; a host that runs takes it
//! up from there.

use std::io::{self, Write};
use std::process::ExitCode;

use bytesize::ByteSize;
use clap::Args;
use serde::Serialize;

use crate::config::Config;
use crate::domain::digest::Digest;
use crate::domain::outcome::cut;
use crate::domain::plugin_history::{Accepted, Listed, Steer, Steered};
use crate::domain::time::Clock;
use crate::plugin::{Kept, SteerError};

use super::super::error::CliError;
use super::super::screen::{self, Screen};
use super::super::table;

/// Whose history.
#[derive(Debug, Args)]
#[command(after_long_help = "\
The last ten components are kept by digest in the state folder, and the pinned
one for as long as it is pinned. The first of the list took the slot last. A copy
that is missing or damaged is made anew when its component is the plugin file
again.

Examples:
  sweepd plugin history video-clear
  sweepd plugin history video-clear --json | jq -r '.history[].digest'")]
pub(in crate::cli) struct HistoryArgs {
    /// The job
    job: String,

    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// From what, to what.
#[derive(Debug, Args)]
#[command(after_long_help = "\
What serves is set aside: it is not taken from the plugin file again, also after a
restart, until rollback or pin names it. Another content of the file is taken as
usual. A running host goes back within two seconds; a batch under way ends with
the component that it began with. On several nodes, do it on each.

Examples:
  sweepd plugin rollback video-clear --why 'removes what is still watched'
  sweepd plugin rollback video-clear 3f9a")]
pub(in crate::cli) struct RollbackArgs {
    /// The job
    job: String,

    /// The beginning of the digest of what is to serve instead
    /// [default: the last component that ever answered]
    digest: Option<String>,

    /// Why, for the record
    #[arg(long, value_name = "TEXT", default_value = "by hand", hide_default_value = true)]
    why: String,
}

/// Which one.
#[derive(Debug, Args)]
#[command(after_long_help = "\
If it was set aside, it no longer is. A pinned component that crashes again and
again is not replaced: its job pauses.

Examples:
  sweepd plugin history video-clear
  sweepd plugin pin video-clear 3f9a")]
pub(in crate::cli) struct PinArgs {
    /// The job
    job: String,

    /// The beginning of the component's digest
    digest: String,
}

/// Whose.
#[derive(Debug, Args)]
pub(in crate::cli) struct UnpinArgs {
    /// The job
    job: String,
}

/// What `--json` prints.
#[derive(Serialize)]
struct View<'a> {
    job: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pinned: Option<String>,
    history: &'a [Listed],
}

/// Shows them.
pub(super) fn history(config: &Config, args: &HistoryArgs) -> Result<ExitCode, CliError> {
    let kept = kept(config, &args.job)?;
    let history = kept.history().map_err(SteerError::State)?;
    let pinned = history.pinned;
    let listed = kept.listed(history);
    let mut out = Screen::stdout();
    if args.json {
        let view = View { job: &args.job, pinned: pinned.map(|digest| digest.to_string()), history: &listed };
        out.pretty_json(&view)?;
    } else {
        write_table(&mut out, &listed, pinned, screen::is_terminal())?;
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

/// Goes back.
pub(super) fn roll_back(config: &Config, args: &RollbackArgs) -> Result<ExitCode, CliError> {
    steer(config, &args.job, &Steer::Rollback { to: args.digest.clone(), why: cut(args.why.clone()) })
}

/// Pins one.
pub(super) fn pin(config: &Config, args: &PinArgs) -> Result<ExitCode, CliError> {
    steer(config, &args.job, &Steer::Pin { digest: args.digest.clone() })
}

/// Unpins it.
pub(super) fn unpin(config: &Config, args: &UnpinArgs) -> Result<ExitCode, CliError> {
    steer(config, &args.job, &Steer::Unpin)
}

fn steer(config: &Config, job: &str, ask: &Steer) -> Result<ExitCode, CliError> {
    let Steered { serves, set_aside } = kept(config, job)?.steer(ask, Clock::system().now())?;
    let what = match (set_aside, serves) {
        (Some(aside), Some(serves)) => format!("{} is set aside, {} is to serve", aside.short(), serves.short()),
        (None, Some(serves)) => format!("{} is to serve", serves.short()),
        (_, None) => "the plugin file counts again".to_owned(),
    };
    screen::print(&format!("{job}: {what}; a running host takes it up within two seconds (sweepd status)"))?;
    Ok(ExitCode::SUCCESS)
}

fn kept(config: &Config, job: &str) -> Result<Kept, CliError> {
    let names = config.jobs.iter().map(|spec| spec.name.as_str());
    if names.clone().any(|name| name == job) {
        return Ok(Kept::of(&config.state, job));
    }
    Err(CliError::unknown_job(job, names))
}

fn write_table(
    out: &mut Screen<impl Write>,
    listed: &[Listed],
    pinned: Option<Digest>,
    terminal: bool,
) -> io::Result<()> {
    if listed.is_empty() {
        return writeln!(out, "no component was accepted yet");
    }
    let row = |Listed { accepted: entry, copy }: &Listed| {
        [
            entry.digest.short(),
            entry.accepted_at.to_string(),
            ByteSize(entry.size).display().iec().to_string(),
            entry.world.clone().unwrap_or_else(|| "?".to_owned()),
            if entry.answered { "yes" } else { "no" }.to_owned(),
            copy.name().to_owned(),
            state(entry, pinned),
        ]
    };
    let header = ["DIGEST", "ACCEPTED", "SIZE", "WORLD", "ANSWERED", "COPY", "STATE"];
    table::write(out, terminal, header, &[], listed.iter().map(row))
}

fn state(entry: &Accepted, pinned: Option<Digest>) -> String {
    match &entry.set_aside {
        Some(mark) => format!("set aside {}: {}", mark.at, mark.why),
        None if pinned == Some(entry.digest) => "pinned".to_owned(),
        None => "-".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use crate::domain::plugin_history::{CopyState, PluginHistory, SetAside};
    use crate::domain::time::Timestamp;

    use super::*;

    #[test]
    fn what_people_see() {
        let mut history = PluginHistory::default();
        for bytes in [&b"a"[..], b"b"] {
            let digest = Digest::of(bytes);
            let world = (bytes == b"b").then(|| "job".to_owned());
            let accepted_at = Timestamp(0);
            history.took_the_slot(Accepted {
                digest,
                size: 2048,
                accepted_at,
                world,
                answered: false,
                set_aside: None,
            });
        }
        history.answered(Digest::of(b"a"));
        history.pinned = Some(Digest::of(b"a"));
        history.set_aside(Digest::of(b"b"), SetAside { at: Timestamp(1000), why: "it trapped".to_owned() });
        let listed = history.accepted.iter().rev().zip([CopyState::Intact, CopyState::Damaged]);
        let listed: Vec<_> = listed.map(|(entry, copy)| Listed { accepted: entry.clone(), copy }).collect();
        let mut out = Screen::new(Vec::new());
        write_table(&mut out, &listed, history.pinned, false).expect("written");
        let text = out.into_text();
        let lines: Vec<_> = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        let time = "1970-01-01T00:00:00.000Z";
        let (a, b) = (Digest::of(b"a").short(), Digest::of(b"b").short());
        assert_eq!(
            lines[1],
            format!("{b} {time} 2.0 KiB job no intact set aside 1970-01-01T00:00:01.000Z: it trapped")
        );
        assert_eq!(lines[2], format!("{a} {time} 2.0 KiB ? yes damaged pinned"));
    }
}
