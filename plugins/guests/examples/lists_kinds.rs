//! Says of each entry of its mount what the standard library takes it for, then
//! removes it. The note has a line each: `name listed=KIND lstat=KIND stat=KIND
//! open=ANSWER link=ANSWER remove=ANSWER`. With config `scan` its dispatcher finds
//! what is neither file, folder nor link, and of that nothing is removed.

use std::fmt::Write as _;
use std::fs::{self, File, FileType};
use std::io;
use std::path::Path;

use sweepd_sdk::{Discovery, Dispatcher, Executor, Failure, Outcome, Plan, Sweep, Task, run};

struct Guest;

impl Dispatcher for Guest {
    /// Lists and asks what each entry is, as a policy that scans does.
    fn dispatch(sweep: &Sweep, due: &[Task]) -> Result<Plan, Failure> {
        let mut plan = Plan::run_all(due);
        if sweep.scan && run::config("scan").is_some() {
            for entry in fs::read_dir("/").map_err(Failure::transient)? {
                let entry = entry.map_err(Failure::transient)?;
                let looked = entry.metadata().map_err(Failure::transient)?;
                if kind(looked.file_type()) == "other" {
                    plan.discoveries.push(Discovery::new(entry.file_name().to_string_lossy()));
                }
            }
        }
        Ok(plan)
    }
}

impl Executor for Guest {
    fn execute(task: &Task) -> Result<Outcome, Failure> {
        if task.key != "look" {
            // One that the scan found.
            return Ok(Outcome::done());
        }
        let mut found = Vec::new();
        for entry in fs::read_dir("/").map_err(Failure::transient)? {
            let entry = entry.map_err(Failure::transient)?;
            let listed = entry.file_type().map_or("none", kind);
            found.push((entry.path(), entry.file_name().to_string_lossy().into_owned(), listed));
        }
        // Nothing goes before all were looked at: links lead from one to another.
        let looked: Vec<_> = found.iter().map(|(path, ..)| look(path)).collect();
        let mut said = String::new();
        for ((path, name, listed), looked) in found.iter().zip(looked) {
            let is_folder = *listed == "folder";
            let removed = answer(if is_folder { fs::remove_dir(path) } else { fs::remove_file(path) });
            let _ = writeln!(said, "{name} listed={listed} {looked} remove={removed}");
        }
        Ok(Outcome::done_with(said))
    }
}

fn look(path: &Path) -> String {
    let itself = fs::symlink_metadata(path).map_or("none", |found| kind(found.file_type()));
    let target = fs::metadata(path).map_or("none", |found| kind(found.file_type()));
    let opened = answer(File::open(path));
    let link = if fs::read_link(path).is_ok() { "yes" } else { "no" };
    format!("lstat={itself} stat={target} open={opened} link={link}")
}

fn answer<T>(result: io::Result<T>) -> String {
    result.map_or_else(|error| error.to_string(), |_| "ok".to_owned())
}

fn kind(of: FileType) -> &'static str {
    // What only Unix has is not in the standard library of every target.
    match (of.is_file(), of.is_dir(), of.is_symlink()) {
        (true, _, _) => "file",
        (_, true, _) => "folder",
        (_, _, true) => "link",
        _ => "other",
    }
}

sweepd_sdk::job!(Guest);
