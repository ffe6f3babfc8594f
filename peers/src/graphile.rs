//! graphile-worker, which runs in Node: a script does what the Rust peers do in this process.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::ConnectOptions;
use tokio::process::Command;

use crate::cli::Measure;
use crate::report::Measured;
use crate::scratch::Scratch;
use crate::settings::Settings;

/// What is laid out beside the build's artefacts and installed there.
const FILES: [(&str, &str); 3] = [
    ("package.json", include_str!("../graphile/package.json")),
    ("package-lock.json", include_str!("../graphile/package-lock.json")),
    ("run.mjs", include_str!("../graphile/run.mjs")),
];

/// What the script is told.
#[derive(Serialize)]
struct Options<'a> {
    url: &'a str,
    jobs: u64,
    #[serde(flatten)]
    settings: &'a Settings,
}

/// What keeps graphile-worker from running here.
pub(crate) fn obstacle() -> Option<String> {
    ["node", "npm"].into_iter().find_map(|program| {
        let ran =
            std::process::Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        (!ran.is_ok_and(|status| status.success())).then(|| format!("`{program}` does not run here"))
    })
}

/// Measures graphile-worker on the database of the run.
pub(crate) async fn measured(scratch: &Scratch, settings: &Settings, measure: Measure, jobs: u64) -> Result<Measured> {
    let folder = installed().await?;
    let url = scratch.postgres()?.to_url_lossy();
    let options = |jobs| Options { url: url.as_str(), jobs, settings };
    match measure {
        Measure::BurnDown => {
            let () = script(&folder, "fill", &options(jobs)).await?;
            scratch.settle().await?;
            Ok(Measured::Seconds(script(&folder, "burn-down", &options(jobs)).await?))
        }
        Measure::Latency => {
            let () = script(&folder, "fill", &options(0)).await?;
            Ok(Measured::Latencies(script(&folder, "latency", &options(jobs)).await?))
        }
    }
}

/// The folder with the script and its dependencies, installed at the first use from the registry that npm knows.
async fn installed() -> Result<PathBuf> {
    let program = std::env::current_exe()?;
    let target = program.ancestors().nth(2).context("the program lies in no target folder")?;
    let folder = target.join("graphile");
    std::fs::create_dir_all(&folder)?;
    let lock = FILES[1].1;
    let stamp = folder.join("installed.json");
    for (name, content) in FILES {
        std::fs::write(folder.join(name), content)?;
    }
    // A copy of the lock file that is written last says what is there in full.
    if std::fs::read_to_string(&stamp).is_ok_and(|installed| installed == lock) {
        return Ok(folder);
    }
    let ran = Command::new("npm")
        .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"])
        .current_dir(&folder)
        .stdout(Stdio::null())
        .status()
        .await?;
    ensure!(ran.success(), "`npm ci` failed in {}", folder.display());
    std::fs::write(stamp, lock)?;
    Ok(folder)
}

/// Runs one command of the script, and reads its answer.
async fn script<T: DeserializeOwned>(folder: &Path, command: &str, options: &Options<'_>) -> Result<T> {
    let ran = Command::new("node")
        .args(["run.mjs", command, &serde_json::to_string(options)?])
        .current_dir(folder)
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let ran = tokio::time::timeout(crate::measure::LIMIT, ran.wait_with_output())
        .await
        .context("the peer did not finish in time")??;
    ensure!(ran.status.success(), "the script of graphile-worker failed: {}", ran.status);
    let answer = String::from_utf8(ran.stdout)?;
    let last = answer.lines().last().context("the script of graphile-worker answered nothing")?;
    Ok(serde_json::from_str(last)?)
}
