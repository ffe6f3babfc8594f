//! `sweepd status`: the jobs as the running host sees them, or as the queue
//! holds them while no host is running.

// length: the document of `sweepd status` is one type a part, all read by one view.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::config::Config;
use crate::domain::readiness::JobReason;
use crate::domain::time::Timestamp;
use crate::store::At;

use super::error::CliError;
use super::screen::{self, Screen};
use super::{store, table};

/// How long the host may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// How to show it.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Asks the host at server.listen; where none answers, shows what the queue holds.

Exit codes: 0 shown, 1 not shown. With --check also 2: no host answers, a part
of it is down, lines of the log are being lost, plugins have no room to make
anything, a job cannot work, its plugin file was refused or cannot be seen, or
what serves is not kept for a restart. Of a job that cannot work, a word says
why: paused, compiling, no-plugin, no-guest, mount, cannot-change-files or
failing; --json has it as `cannot_work.reason`.

Examples:
  sweepd status
  sweepd status --json | jq '.jobs[].backlog'
  sweepd status --check > /dev/null || echo 'look at sweepd'
  sweepd status --check --job video-clear")]
pub(super) struct StatusArgs {
    /// Print one JSON object
    #[arg(long)]
    json: bool,

    /// Exit with 2 where something is wrong, and say what
    #[arg(long)]
    check: bool,

    /// Show, and check, only this job
    #[arg(long, value_name = "JOB")]
    job: Option<String>,
}

/// What is shown: what a host says, as far as this version knows it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct View {
    pub(super) running: bool,
    pub(super) version: Option<String>,
    pub(super) node: Option<String>,
    pub(super) started_at: Option<Timestamp>,
    pub(super) up_ms: Option<u64>,
    pub(super) wall: Option<WallView>,
    pub(super) clock: Option<EventView>,
    pub(super) no_room: Option<String>,
    pub(super) nodes: Vec<NodeView>,
    pub(super) parts: Vec<PartView>,
    pub(super) log: LogView,
    pub(super) jobs: Vec<JobView>,
}

/// What the host's log lost.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct LogView {
    pub(super) lost: u64,
    pub(super) losing: Option<String>,
}

/// A part of the host that ended though it should go on.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct PartView {
    pub(super) name: String,
    pub(super) down: bool,
    pub(super) restarts: u32,
    pub(super) why: String,
    pub(super) at: Timestamp,
}

/// What confines the host.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct WallView {
    pub(super) enforced: String,
    pub(super) why: Option<String>,
}

/// One node that shares the queue.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct NodeView {
    pub(super) name: String,
    pub(super) labels: Vec<String>,
    pub(super) version: String,
    pub(super) started_at: Timestamp,
    pub(super) holds: Vec<HoldingView>,
}

/// What it runs of a job.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct HoldingView {
    pub(super) job: String,
    pub(super) tasks: u64,
}

/// One job.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct JobView {
    pub(super) name: String,
    pub(super) cannot_work: Option<CannotWorkView>,
    pub(super) paused: Option<String>,
    pub(super) waiting: Option<String>,
    pub(super) backlog: BacklogView,
    pub(super) slot: SlotView,
    pub(super) taken: TakenView,
    pub(super) holds: usize,
    pub(super) hindered: Option<String>,
    pub(super) under_way: Option<Timestamp>,
    pub(super) last_error: Option<FailureView>,
}

/// What keeps it from its work.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct CannotWorkView {
    pub(super) reason: String,
    pub(super) detail: String,
}

/// What it failed at.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct FailureView {
    pub(super) at: Timestamp,
    pub(super) message: String,
    pub(super) generation: Option<u64>,
}

/// Its tasks.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct BacklogView {
    pub(super) pending: u64,
    pub(super) running: u64,
    pub(super) dead: u64,
    pub(super) more: bool,
    pub(super) oldest_due: Option<Timestamp>,
    pub(super) age_ms: u64,
}

/// Its plugin.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct SlotView {
    pub(super) generation: Option<GenerationView>,
    pub(super) compiling: Option<CompilingView>,
    pub(super) error: Option<EventView>,
    pub(super) unkept: Option<EventView>,
    pub(super) unseen: Option<EventView>,
    pub(super) pinned: Option<String>,
    pub(super) set_aside: Option<SetAsideView>,
}

/// What is being compiled.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct CompilingView {
    pub(super) since: Timestamp,
    pub(super) digest: String,
}

/// What was set aside last.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct SetAsideView {
    pub(super) digest: String,
    pub(super) at: Timestamp,
    pub(super) why: String,
}

/// What serves.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct GenerationView {
    pub(super) number: u64,
    pub(super) digest: String,
    pub(super) loaded_at: Timestamp,
    pub(super) age_ms: Option<u64>,
    pub(super) kept: bool,
}

/// What its plugin took away.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct TakenView {
    pub(super) sweep: SpentView,
    pub(super) hour: SpentView,
    pub(super) budget: Option<BudgetView>,
}

/// How much.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct SpentView {
    pub(super) files: u64,
    pub(super) bytes: u64,
    pub(super) made: u64,
    pub(super) written: u64,
}

/// How much it may.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct BudgetView {
    pub(super) sweep: AllowanceView,
    pub(super) hour: AllowanceView,
}

/// In one period.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct AllowanceView {
    pub(super) files: Option<u64>,
    pub(super) bytes: Option<u64>,
    pub(super) share: Option<String>,
    pub(super) made: Option<u64>,
    pub(super) written: Option<u64>,
}

/// Something that was said.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct EventView {
    pub(super) at: Timestamp,
    pub(super) message: String,
}

/// Shows the status.
pub(super) async fn status(config: Config, args: StatusArgs) -> Result<ExitCode, CliError> {
    if let Some(job) = &args.job {
        CliError::job(&config, job)?;
    }
    let mut document = match ask(config.server.listen) {
        Ok(mut document) => {
            document["running"] = json!(true);
            document
        }
        Err(why) => {
            let text = format!("no host answers at {}: {why}; this is what the queue holds", config.server.listen);
            let document = from_store(&config).await?;
            super::logging::say(&text);
            document
        }
    };
    if let Some(job) = &args.job
        && let Some(jobs) = document["jobs"].as_array_mut()
    {
        jobs.retain(|one| one["name"] == job.as_str());
    }
    let view = View::deserialize(&document).unwrap_or_default();
    let mut out = Screen::stdout();
    if args.json {
        out.pretty_json(&document)?;
    } else {
        let now = crate::domain::time::Clock::system().now();
        table::write_status(&mut out, &view, now, screen::is_terminal())?;
    }
    out.flush()?;
    if args.check {
        let wrong = wrong_with(&view);
        for line in &wrong {
            super::logging::say(&format!("wrong: {line}"));
        }
        return Ok(ExitCode::from(if wrong.is_empty() { 0 } else { 2 }));
    }
    Ok(ExitCode::SUCCESS)
}

/// What `--check` counts as wrong: what keeps tasks from being run, now or after
/// a restart. Tasks that failed are the plugin's business, and no reason to wake
/// anybody.
fn wrong_with(view: &View) -> Vec<String> {
    let mut wrong = Vec::new();
    if !view.running {
        wrong.push("no host answers".to_owned());
        return wrong;
    }
    let down = view.parts.iter().filter(|part| part.down);
    wrong.extend(down.map(|part| format!("a part of the host is down: {}: {}", part.name, part.why)));
    wrong.extend(view.no_room.clone());
    wrong.extend(view.log.losing.as_ref().map(|why| format!("lines of the log are being lost: {why}")));
    for JobView { name, cannot_work, slot, .. } in &view.jobs {
        // That it runs on other nodes is as somebody wants it.
        let cannot = cannot_work.as_ref().filter(|cannot| cannot.reason != JobReason::Elsewhere.word());
        wrong.extend(cannot.map(|cannot| format!("{name}: {}: {}", cannot.reason, cannot.detail)));
        wrong.extend(slot.error.as_ref().map(|error| format!("{name}: its plugin file: {}", error.message)));
        wrong.extend(
            slot.unseen.as_ref().map(|why| format!("{name}: its plugin file is not followed: {}", why.message)),
        );
        wrong.extend(slot.unkept.as_ref().map(|why| format!("{name}: not kept for a restart: {}", why.message)));
    }
    wrong
}

/// Asks the host; the error says in words why not.
pub(super) fn ask(listen: SocketAddr) -> Result<Value, String> {
    let config = ureq::Agent::config_builder()
        .timeout_global(Some(PATIENCE))
        .http_status_as_error(false)
        // It is this machine: no proxy knows the way.
        .proxy(None)
        .build();
    let url = format!("http://{}/v1/jobs", reachable(listen));
    let mut answer = config.new_agent().get(&url).call().map_err(|error| match error {
        ureq::Error::Io(error) => error.to_string(),
        error => error.to_string(),
    })?;
    let status = answer.status();
    let document: Value = answer.body_mut().read_json().map_err(|_| "what answers there is no sweepd".to_owned())?;
    if !status.is_success() {
        return Err(document["detail"].as_str().map_or_else(|| status.to_string(), str::to_owned));
    }
    if document["jobs"].is_array() { Ok(document) } else { Err("what answers there is no sweepd".to_owned()) }
}

/// Where to reach a server that listens everywhere.
fn reachable(mut listen: SocketAddr) -> SocketAddr {
    match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => listen.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => listen.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    listen
}

/// The same document, as far as the queue alone knows it.
async fn from_store(config: &Config) -> Result<Value, CliError> {
    #[derive(Serialize)]
    struct Job {
        name: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        paused: Option<String>,
        backlog: crate::domain::status::Backlog,
    }

    if let Some(queue) = store::missing(config) {
        return Err(CliError::NothingThere { listen: config.server.listen, queue: queue.to_owned() });
    }
    let store = store::open(config).await?;
    let mut jobs = Vec::new();
    for spec in &config.jobs {
        let row = store.register_job(&spec.name).await?;
        let backlog = store.backlog(row.id, At::Server).await?;
        jobs.push(Job { name: spec.name.to_string(), paused: row.paused, backlog });
    }
    let nodes = store.nodes(At::Server).await?;
    store.close().await;
    Ok(json!({ "running": false, "nodes": nodes, "jobs": jobs }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(document: &Value) -> View {
        View::deserialize(document).expect("a view")
    }

    #[test]
    fn what_counts_as_wrong() {
        let serving = json!({ "generation": { "number": 1, "digest": "ab", "loaded_at": 1, "kept": false } });
        let refused = json!({ "generation": serving["generation"], "error": { "at": 1, "message": "half a file" } });
        let unkept = json!({ "generation": serving["generation"], "unkept": { "at": 1, "message": "disk full" } });
        let unseen = json!({ "generation": serving["generation"], "unseen": { "at": 1, "message": "no answer" } });
        let document = |running: bool, job: Value| json!({ "running": running, "jobs": [job] });
        for (document, wrong) in [
            (document(true, json!({ "name": "a", "slot": serving, "backlog": { "dead": 5 } })), 0),
            (document(true, json!({ "name": "a", "cannot_work": { "reason": "paused", "detail": "lunch" } })), 1),
            (document(true, json!({ "name": "a", "cannot_work": { "reason": "elsewhere", "detail": "ssd" } })), 0),
            (document(true, json!({ "name": "a", "slot": refused })), 1),
            (document(true, json!({ "name": "a", "slot": unkept })), 1),
            (document(true, json!({ "name": "a", "slot": unseen })), 1),
            (document(false, json!({ "name": "a" })), 1),
            (json!({ "running": true, "parts": [{ "name": "heartbeat", "down": true, "why": "it panicked" }] }), 1),
            (json!({ "running": true, "parts": [{ "name": "heartbeat", "down": false, "restarts": 3 }] }), 0),
            (json!({ "running": true, "log": { "lost": 7 } }), 0),
            (json!({ "running": true, "log": { "lost": 7, "losing": "full" } }), 1),
        ] {
            assert_eq!(wrong_with(&view(&document)).len(), wrong, "{document}");
        }
    }

    #[test]
    fn a_host_is_asked_where_it_can_be_reached() {
        for (listen, asked) in [("0.0.0.0:80", "127.0.0.1:80"), ("[::]:80", "[::1]:80"), ("10.0.0.1:80", "10.0.0.1:80")]
        {
            assert_eq!(reachable(listen.parse().expect("an address")).to_string(), asked);
        }
    }

    #[test]
    fn nobody_there_is_told() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        drop(listener);
        assert!(ask(address).is_err());
    }
}
