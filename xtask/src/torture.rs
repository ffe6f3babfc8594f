//! `cargo xtask torture`: the long form of the torture test, on one database or
//! on all of them.

use anyhow::Result;

use crate::{plugins, process, repo};

/// A database to torture.
#[derive(Clone, Copy, clap::ValueEnum)]
enum Database {
    Sqlite,
    Postgres,
    Mariadb,
}

impl Database {
    const ALL: [Self; 3] = [Self::Sqlite, Self::Postgres, Self::Mariadb];

    /// As the test calls it.
    fn name(self) -> &'static str {
        match self {
            Self::Sqlite => "sqlite",
            Self::Postgres => "postgres",
            Self::Mariadb => "mariadb",
        }
    }
}

#[derive(clap::Args)]
pub(crate) struct Args {
    /// How long each database is tortured.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=1440))]
    minutes: u64,
    /// Only this one; all, one after the other, without it.
    #[arg(long, value_enum)]
    database: Option<Database>,
    /// Repeats what a run with this seed did, if not when.
    #[arg(long)]
    seed: Option<u64>,
}

/// Runs it, also on the other databases where it fails on one.
pub(crate) fn torture(args: &Args) -> Result<()> {
    plugins::build()?;
    let databases = args.database.map_or_else(|| Database::ALL.to_vec(), |database| vec![database]);
    let mut result = Ok(());
    for database in databases {
        let mut cargo = process::cargo();
        cargo.arg("test");
        // The whole group, or the host's dependencies are built with other features.
        for package in repo::PACKAGES[0] {
            cargo.args(["--package", package]);
        }
        cargo.args(["--test", "it", "--", "--exact", "torture::long", "--ignored", "--nocapture"]);
        cargo.env("SWEEPD_TORTURE_MINUTES", args.minutes.to_string()).env("SWEEPD_TORTURE_DATABASE", database.name());
        if let Some(seed) = args.seed {
            cargo.env("SWEEPD_SEED", seed.to_string());
        }
        if let Err(error) = process::run(&mut cargo) {
            result = Err(error.context(database.name()));
        }
    }
    result
}
