//! `sweepd plan`: what a sweep would do now, without doing it.
// length: the end of it is the test of what people see.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use bytesize::ByteSize;
use clap::Args;
use tokio::runtime::Handle;

use crate::config::Config;
use crate::domain::digest::Digest;
use crate::domain::effect::Operation;
use crate::domain::effect::differing_allocation;
use crate::domain::foreseen::{End, Foreseen, ForeseenEffect, Summary};
use crate::domain::hold::Holds;
use crate::domain::job::{JobId, JobSpec};
use crate::domain::ledger::Others;
use crate::domain::time::{Clock, Timestamp};
use crate::plugin::{Compiler, Generation, Kept, read_component};
use crate::runner::{Simulation, SimulationError, count_files, look_at_mounts, others_in_hour};
use crate::sandbox::{Custody, Gate, Lease};
use crate::store::{At, SharedStore};

use super::error::CliError;
use super::screen::Screen;

/// Which job, and whose decisions.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  sweepd plan video-clear                              what would the next sweep remove, and why?
  sweepd plan video-clear --plugin new.wasm            and by a policy that does not serve yet?
  sweepd plan video-clear --against new.wasm           what would only one of the two remove?
  sweepd plan video-clear --json | jq -r 'select(.operation == \"remove\").path'")]
pub(super) struct PlanArgs {
    /// The job
    job: String,

    /// Plan with this component instead of the one that serves
    #[arg(long, value_name = "FILE")]
    plugin: Option<PathBuf>,

    /// Compare with this component: what would only one of the two take away?
    #[arg(long, value_name = "FILE")]
    against: Option<PathBuf>,

    /// Execute at most so many tasks
    #[arg(long, value_name = "N")]
    limit: Option<u64>,

    /// Take only what is queued: the policy does not look for work of its own
    #[arg(long)]
    no_scan: bool,

    /// Print one JSON object a line; the last is the summary
    #[arg(long)]
    json: bool,
}

impl PlanArgs {
    /// The components that it names.
    pub(super) fn files(&self) -> impl Iterator<Item = &Path> {
        self.plugin.iter().chain(&self.against).map(PathBuf::as_path)
    }
}

/// Simulates a sweep of one job, or two of them.
pub(super) async fn plan(config: &Config, args: PlanArgs) -> Result<ExitCode, CliError> {
    let job = CliError::job(config, &args.job)?;
    let stage = Stage::set(config, job).await?;
    // Nothing is written, not even what was compiled.
    let compiler = super::compile::passing_compiler(Some(config)).map_err(|error| CliError::Plan(error.to_string()))?;
    let loads = Loads { compiler, metered: job.limits.fuel.is_some() };
    let serving = match &args.plugin {
        Some(file) => loads.file(file).await?,
        None => loads.serving(config, job).await?,
    };
    let planned = match &args.against {
        None => tokio::task::block_in_place(|| one(&stage, &serving, &args)),
        Some(file) => {
            let candidate = loads.file(file).await?;
            tokio::task::block_in_place(|| two(&stage, &serving, &candidate, &args))
        }
    };
    if let Some((store, _)) = &stage.queue {
        store.close().await;
    }
    planned.map(|()| ExitCode::SUCCESS)
}

/// What both simulations of a comparison share.
struct Stage {
    job: Arc<JobSpec>,
    /// The queue, opened to be read only; `None` where there is none yet.
    queue: Option<(SharedStore, JobId)>,
    holds: Arc<Holds>,
    now: Timestamp,
    /// Files in the mounts, where the budget needs their number.
    files: Option<u64>,
    /// What the job did in the last hour.
    in_hour: Others,
}

impl Stage {
    async fn set(config: &Config, job: &JobSpec) -> Result<Self, CliError> {
        let job = Arc::new(job.clone());
        let mounts = config.jobs.iter().flat_map(|job| &job.mounts);
        tokio::task::block_in_place(|| crate::sandbox::learn_all(mounts));
        let Some(store) = super::store::open_read_only(config).await? else {
            let now = Clock::system().now();
            return Self::without_queue(job, now);
        };
        let row = store.jobs().await?.into_iter().find(|row| row.name == job.name.as_str());
        let (now, id) = (store.now(At::Server).await?, row.map(|row| row.id));
        let Some(id) = id else {
            return Self::without_queue(job, now);
        };
        for mount in look_at_mounts(&*store, id, &job).await? {
            if let Some(error) = mount.error {
                return Err(CliError::Plan(format!("mount {}: {error}", mount.path.display())));
            }
            if mount.state.needs_somebody() {
                let why = format!(
                    "{} is not the directory in which the job worked: {}; the job would pause instead of sweeping; see \
                     sweepd mount list {}",
                    mount.path.display(),
                    mount.state.words(),
                    job.name
                );
                return Err(CliError::Plan(why));
            }
        }
        let holds = Arc::new(Holds::new(store.holds(id, At::Server).await?));
        let files = counted(&job)?;
        let in_hour = others_in_hour(&store, id, &job.budget, Duration::from_hours(1), now, None).await?;
        Ok(Self { job, queue: Some((store, id)), holds, now, files, in_hour })
    }

    /// Where nothing was ever queued, and nothing done.
    fn without_queue(job: Arc<JobSpec>, now: Timestamp) -> Result<Self, CliError> {
        let files = counted(&job)?;
        Ok(Self { job, queue: None, holds: Arc::default(), now, files, in_hour: Others::default() })
    }

    fn simulate(
        &self,
        generation: &Arc<Generation>,
        args: &PlanArgs,
        tell: &mut dyn FnMut(Foreseen),
    ) -> Result<Summary, SimulationError> {
        let id = self.queue.as_ref().map_or(JobId(0), |(_, id)| *id);
        let custody = Custody::simulated(Arc::clone(&self.job), id, Clock::system());
        custody.holds.store(Arc::clone(&self.holds));
        // To its end, whatever the budget: how far it would go over is told.
        if let Some(files) = self.files {
            custody.meter.counted(files, self.now);
        }
        custody.meter.begin_sweep(self.in_hour, true);
        let simulation = Simulation {
            store: self.queue.as_ref().map(|(store, _)| Arc::clone(store)),
            custody,
            generation: Arc::clone(generation),
            now: self.now,
            scan: !args.no_scan,
            limit: args.limit,
            gate: Gate::new(Lease::endless()),
        };
        simulation.run(&Handle::current(), tell)
    }
}

/// The files in the mounts of the job, where its budget needs their number.
fn counted(job: &JobSpec) -> Result<Option<u64>, CliError> {
    if !job.budget.needs_count() {
        return Ok(None);
    }
    let counted = tokio::task::block_in_place(|| count_files(job, || true));
    let failed = |error: io::Error| {
        CliError::Plan(format!("the budget is a share of the files in the mounts, which could not be counted: {error}"))
    };
    counted.map(Some).map_err(failed)
}

/// Loads the components that plan.
struct Loads {
    compiler: Compiler,
    /// Whether the job counts instructions.
    metered: bool,
}

impl Loads {
    async fn file(&self, file: &Path) -> Result<Arc<Generation>, CliError> {
        let refused = |why: String| CliError::Plan(format!("{}: {why}", file.display()));
        let bytes = read_component(file).await.map_err(|error| refused(error.to_string()))?;
        self.generation(bytes).await.map_err(refused)
    }

    async fn generation(&self, bytes: Vec<u8>) -> Result<Arc<Generation>, String> {
        let plugin = self.compiler.compile(Arc::new(bytes), self.metered).await.map_err(|error| error.to_string())?;
        Ok(Arc::new(Generation::new(0, plugin, Clock::system().now(), false)))
    }

    async fn kept(&self, kept: &Kept, digest: Digest) -> Result<Arc<Generation>, CliError> {
        let bytes = kept.read(digest).map_err(|error| CliError::Plan(error.to_string()))?;
        self.generation(bytes).await.map_err(CliError::Plan)
    }

    /// What a host would serve: the pinned component, or the file, or else the
    /// last good one.
    async fn serving(&self, config: &Config, job: &JobSpec) -> Result<Arc<Generation>, CliError> {
        let kept = Kept::of(&config.state, job.name.as_str());
        let history = kept.history().map_err(|error| CliError::Plan(format!("the history of its plugin: {error}")))?;
        if let Some(pinned) = history.pinned {
            return self.kept(&kept, pinned).await;
        }
        let file = self.file(&job.plugin).await;
        let file = file.and_then(|generation| match history.mark_of(generation.plugin.digest) {
            None => Ok(generation),
            Some(mark) => Err(CliError::Plan(format!("{} is set aside: {}", job.plugin.display(), mark.why))),
        });
        let failed = match file {
            Ok(generation) => return Ok(generation),
            Err(failed) => failed,
        };
        for digest in history.instead() {
            match self.kept(&kept, digest).await {
                Ok(generation) => {
                    super::logging::say(&format!("{failed}; planning with {}, which was good", digest.short()));
                    return Ok(generation);
                }
                Err(error) => super::logging::say(&format!("{} is passed over: {error}", digest.short())),
            }
        }
        Err(failed)
    }
}

fn one(stage: &Stage, generation: &Arc<Generation>, args: &PlanArgs) -> Result<(), CliError> {
    let mut out = Screen::stdout();
    let mut written = Ok(());
    let summary = stage.simulate(generation, args, &mut |foreseen| {
        if written.is_ok() {
            written = if args.json { out.json(&foreseen) } else { out.line(&line(&foreseen)) };
        }
    });
    let summary = summary.map_err(|error| CliError::Plan(error.to_string()))?;
    written?;
    if args.json {
        out.json(&serde_json::json!({ "kind": "summary", "digest": generation.plugin.digest, "summary": summary }))?;
    } else {
        let digest = generation.plugin.digest.short();
        writeln!(out, "plan of {} by {digest}; nothing was changed", stage.job.name)?;
        write_summary(&mut out, &summary)?;
    }
    Ok(out.flush()?)
}

/// What would be taken away from where it is, by path and by how: a removal
/// where the other one only moves is a difference.
type Taken = BTreeMap<(String, &'static str), ForeseenEffect>;

fn taken(stage: &Stage, generation: &Arc<Generation>, args: &PlanArgs) -> Result<(Taken, Summary), CliError> {
    let mut taken = Taken::new();
    let summary = stage.simulate(generation, args, &mut |foreseen| {
        if let Foreseen::Effect(effect) = foreseen
            && matches!(effect.operation, Operation::Remove | Operation::Rename)
            && effect.refused.is_none()
        {
            taken.entry((effect.path.clone(), effect.operation.name())).or_insert(effect);
        }
    });
    Ok((taken, summary.map_err(|error| CliError::Plan(error.to_string()))?))
}

fn two(stage: &Stage, serving: &Arc<Generation>, candidate: &Arc<Generation>, args: &PlanArgs) -> Result<(), CliError> {
    let (mut before, before_all) = taken(stage, serving, args)?;
    let (mut after, after_all) = taken(stage, candidate, args)?;
    let both = before.len();
    before.retain(|path, _| after.remove(path).is_none());
    let both = (both - before.len()) as u64;
    let otherwise = taken_otherwise(&mut before, &mut after);
    let mut out = Screen::stdout();
    let (old, new) = (serving.plugin.digest.short(), candidate.plugin.digest.short());
    if args.json {
        for (side, effects) in [("serving", &before), ("candidate", &after)] {
            for effect in effects.values() {
                out.json(&serde_json::json!({ "kind": "only", "by": side, "effect": effect }))?;
            }
        }
        for (serving, candidate) in &otherwise {
            out.json(&serde_json::json!({ "kind": "otherwise", "serving": serving, "candidate": candidate }))?;
        }
        let summaries = serde_json::json!({
            "kind": "summary", "both": both, "otherwise": otherwise.len(),
            "serving": { "digest": serving.plugin.digest, "only": before.len(), "summary": before_all },
            "candidate": { "digest": candidate.plugin.digest, "only": after.len(), "summary": after_all },
        });
        out.json(&summaries)?;
        return Ok(out.flush()?);
    }
    for (sign, effects) in [('-', &before), ('+', &after)] {
        for effect in effects.values() {
            writeln!(out, "{sign} {}", line(&Foreseen::Effect(effect.clone())))?;
        }
    }
    for (serving, candidate) in &otherwise {
        let how = |effect: &ForeseenEffect| match &effect.to {
            Some(to) => format!("{} -> {to}", effect.operation),
            None => effect.operation.to_string(),
        };
        writeln!(out, "~ {}  serving: {}, candidate: {}", serving.path, how(serving), how(candidate))?;
    }
    writeln!(out, "plans of {}: {old} serves, {new} is the candidate; nothing was changed", stage.job.name)?;
    writeln!(out, "  both take away       {}", files(both))?;
    writeln!(out, "  ~ but differently    {}", files(otherwise.len() as u64))?;
    for (what, effects) in [("- only what serves  ", &before), ("+ only the candidate", &after)] {
        let bytes = effects.values().map(|effect| effect.size).sum();
        writeln!(out, "  {what} {}, {}", files(effects.len() as u64), ByteSize(bytes).display().iec())?;
    }
    for (digest, summary) in [(old, before_all), (new, after_all)] {
        writeln!(out, "{digest}:")?;
        write_summary(&mut out, &summary)?;
    }
    Ok(out.flush()?)
}

/// What both take away, but each in its own way: one removes and the other moves.
/// It is taken out of what only one of them does.
fn taken_otherwise(before: &mut Taken, after: &mut Taken) -> Vec<(ForeseenEffect, ForeseenEffect)> {
    let mut otherwise = Vec::new();
    before.retain(|(path, _), effect| {
        let other = after.range((path.clone(), "")..).next().map(|(key, _)| key.clone());
        match other.filter(|(other, _)| other == path).and_then(|key| after.remove(&key)) {
            Some(other) => otherwise.push((effect.clone(), other)),
            None => return true,
        }
        false
    });
    otherwise
}

fn line(foreseen: &Foreseen) -> String {
    let bracketed = |reason: &Option<String>| reason.as_ref().map_or_else(String::new, |why| format!("  ({why})"));
    match foreseen {
        Foreseen::Effect(effect) => {
            let to = effect.to.as_ref().map_or_else(String::new, |to| format!(" -> {to}"));
            let failing = if is_simulated(effect.operation) { "would fail" } else { "refused" };
            let refused = effect.refused.as_ref().map_or_else(String::new, |why| format!("  {failing}: {why}"));
            let on_disk =
                effect.allocated.map(|allocated| format!(" ({} on disk)", ByteSize(allocated).display().iec()));
            let size = format!("{}{}", ByteSize(effect.size).display().iec(), on_disk.unwrap_or_default());
            format!("{:<13} {}{to}  {size}{}{refused}", effect.operation, effect.path, bracketed(&effect.reason))
        }
        Foreseen::Task(task) => format!("{:<13} {}{}", task.end.name(), task.key, bracketed(&task.reason)),
    }
}

/// Whether what it does to the tree is simulated: what changes content is not.
fn is_simulated(operation: Operation) -> bool {
    matches!(
        operation,
        Operation::Remove | Operation::RemoveFolder | Operation::Rename | Operation::CreateFolder | Operation::SetTimes
    )
}

fn write_summary(out: &mut Screen<impl Write>, summary: &Summary) -> io::Result<()> {
    let ends: Vec<_> = summary.ends.iter().map(|(end, count): (&End, _)| format!("{count} {}", end.name())).collect();
    let ends = if ends.is_empty() { "nothing to do".to_owned() } else { ends.join(", ") };
    writeln!(out, "  tasks         {} due, {} found by the policy: {ends}", summary.due, summary.discovered)?;
    for (operation, total) in &summary.operations {
        let size = ByteSize(total.bytes).display().iec();
        let on_disk = differing_allocation(total.bytes, total.allocated)
            .map_or_else(String::new, |allocated| format!(" ({} on disk)", ByteSize(allocated).display().iec()));
        writeln!(out, "  {operation:<13} {}, {size}{on_disk}", files(total.files))?;
    }
    if let Some(over) = &summary.over_budget {
        writeln!(out, "  {over}: the job would pause itself before that")?;
    }
    if let Some(early) = &summary.ended_early {
        writeln!(out, "  ended early: {early}")?;
    }
    Ok(())
}

fn files(count: u64) -> String {
    if count == 1 { "1 file".to_owned() } else { format!("{count} files") }
}

#[cfg(test)]
mod tests {
    use crate::domain::foreseen::Total;

    use super::*;

    #[test]
    fn a_summary_as_people_see_it() {
        let mut summary = Summary { due: 3, ended_early: Some("after 2 tasks".to_owned()), ..Summary::default() };
        summary.count(End::Done);
        summary.count(End::Failed);
        summary.operations.insert("remove", Total { files: 2, bytes: 1 << 20, allocated: 1 << 20 });
        summary.operations.insert("rename", Total { files: 1, bytes: 1 << 30, allocated: 4096 });
        let mut out = Screen::new(Vec::new());
        write_summary(&mut out, &summary).expect("written");
        assert_eq!(
            out.into_text(),
            "  tasks         3 due, 0 found by the policy: 1 done, 1 failed\n  \
             remove        2 files, 1.0 MiB\n  \
             rename        1 file, 1.0 GiB (4.0 KiB on disk)\n  \
             ended early: after 2 tasks\n"
        );
    }
}
