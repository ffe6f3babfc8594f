//! Scans its mount: queues each file by its name, config `batch` (100) a call, with
//! the last name as the cursor.

use std::{fs, io};

use sweepd_sdk::{Discovery, Dispatcher, Executor, Failure, Outcome, Plan, Sweep, Task, run};

struct Guest;

impl Dispatcher for Guest {
    fn dispatch(sweep: &Sweep, due: &[Task]) -> Result<Plan, Failure> {
        let mut plan = Plan::run_all(due);
        if !sweep.scan {
            return Ok(plan);
        }
        let batch: usize = run::config_or("batch", 100)?;
        let mut names = names().map_err(Failure::transient)?;
        names.retain(|name| Some(name) > sweep.cursor.as_ref());
        let more = names.len() > batch;
        names.truncate(batch);
        if more {
            plan.cursor = names.last().cloned();
        }
        plan.discoveries = names.into_iter().map(Discovery::new).collect();
        Ok(plan)
    }
}

/// The files of the mount, sorted.
fn names() -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir("/")? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            names.extend(entry.file_name().into_string());
        }
    }
    names.sort();
    Ok(names)
}

impl Executor for Guest {
    fn execute(_: &Task) -> Result<Outcome, Failure> {
        Ok(Outcome::done())
    }
}

sweepd_sdk::job!(Guest);
