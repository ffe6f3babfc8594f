//! The command line: what may be asked, and which peer answers.

use anyhow::{Context, Result, bail};
use clap::{Args, Parser, Subcommand, ValueEnum};
use serde::Serialize;

use crate::apalis::Apalis;
use crate::report::Report;
use crate::river::River;
use crate::scratch::{Kind, Scratch};
use crate::settings::{Overrides, Settings};
use crate::{graphile, measure};

/// Measures other job queues beside ours.
#[derive(Parser)]
#[command(version)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Say which peers can run here, and why the others cannot: one line of JSON each
    List,
    /// Measure one peer, and print one line of JSON
    Run(Run),
}

#[derive(Args)]
pub(crate) struct Run {
    /// The peer to measure
    #[arg(long)]
    peer: Peer,
    /// `postgres://user@host/database` of a server on which databases may be made, or `sqlite:FOLDER`
    #[arg(long)]
    database: String,
    /// What to measure
    #[arg(long)]
    measure: Measure,
    /// How many jobs [default: 200000 for burn-down, 200 for latency]
    #[arg(long)]
    jobs: Option<u64>,
    #[command(flatten)]
    overrides: Overrides,
}

/// The queues that can be measured.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Peer {
    River,
    Apalis,
    GraphileWorker,
}

impl Peer {
    /// The version that is measured: the one that the lock files hold.
    pub(crate) fn version(self) -> &'static str {
        match self {
            Self::River => "0.5.0",
            Self::Apalis => "1.0.0",
            Self::GraphileWorker => "0.17.3",
        }
    }

    /// The databases that the peer can keep its jobs in.
    pub(crate) fn databases(self) -> &'static [Kind] {
        match self {
            Self::River | Self::Apalis => &[Kind::PostgreSql, Kind::Sqlite],
            Self::GraphileWorker => &[Kind::PostgreSql],
        }
    }

    /// What keeps the peer from running here.
    fn obstacle(self) -> Option<String> {
        match self {
            Self::River | Self::Apalis => None,
            Self::GraphileWorker => graphile::obstacle(),
        }
    }
}

/// What is measured.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Measure {
    /// Jobs a second, from the start of the workers to the last of the waiting jobs being done for good
    BurnDown,
    /// Milliseconds from before the enqueue to the start of the handler, on an idle system
    Latency,
}

/// A line of `peers list`.
#[derive(Serialize)]
struct Listed {
    peer: Peer,
    version: &'static str,
    databases: &'static [Kind],
    runs: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    why_not: Option<String>,
}

/// Prints what can run here.
pub(crate) fn list() -> Result<()> {
    for &peer in Peer::value_variants() {
        let why_not = peer.obstacle();
        let runs = why_not.is_none();
        let listed = Listed { peer, version: peer.version(), databases: peer.databases(), runs, why_not };
        println!("{}", serde_json::to_string(&listed)?);
    }
    Ok(())
}

/// Measures one peer and prints the report.
pub(crate) async fn run(asked: Run) -> Result<()> {
    if let Some(obstacle) = asked.peer.obstacle() {
        bail!("the peer cannot run here: {obstacle}");
    }
    let scratch = Scratch::create(&asked.database).await.context("no database could be made for the run")?;
    let measured = measured(&asked, &scratch).await;
    let dropped = scratch.remove().await.context("the database of the run could not be removed");
    println!("{}", serde_json::to_string(&measured?)?);
    dropped
}

async fn measured(asked: &Run, scratch: &Scratch) -> Result<Report> {
    let (peer, kind, measure) = (asked.peer, scratch.kind(), asked.measure);
    if !peer.databases().contains(&kind) {
        bail!("the peer has no store for this kind of database");
    }
    let jobs = asked.jobs.unwrap_or(match measure {
        Measure::BurnDown => 200_000,
        Measure::Latency => 200,
    });
    let settings = Settings::tuned(peer, kind, measure, &asked.overrides);
    let measured = match peer {
        Peer::River => measure::measured::<River>(scratch, &settings, measure, jobs).await?,
        Peer::Apalis => measure::measured::<Apalis>(scratch, &settings, measure, jobs).await?,
        Peer::GraphileWorker => graphile::measured(scratch, &settings, measure, jobs).await?,
    };
    Ok(Report::new(peer, kind, measure, jobs, &measured, settings, scratch.durability().await?))
}

#[cfg(test)]
mod tests {
    use super::Peer;

    #[test]
    fn the_versions_are_those_of_the_lock_files() {
        let cargo = include_str!("../Cargo.lock");
        let npm = include_str!("../graphile/package-lock.json");
        let locked = |name: &str, peer: Peer| format!("name = \"{name}\"\nversion = \"{}\"", peer.version());
        for name in ["apalis", "apalis-postgres", "apalis-sqlite"] {
            assert!(cargo.contains(&locked(name, Peer::Apalis)), "{name}");
        }
        assert!(cargo.contains(&locked("riverqueue", Peer::River)));
        assert!(npm.contains(&format!("\"graphile-worker\": \"{}\"", Peer::GraphileWorker.version())));
    }

    #[test]
    fn the_lock_file_of_npm_names_no_registry() {
        assert!(!include_str!("../graphile/package-lock.json").contains("\"resolved\""));
    }
}
