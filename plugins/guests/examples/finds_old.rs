//! Scans its mount for files that were not changed for `seconds` (config), and
//! removes them: a flat folder of any size in slices, by one listing that stays
//! open between calls.

use std::cell::RefCell;
use std::fs::{self, ReadDir};
use std::io;
use std::time::{Duration, SystemTime};

use sweepd_sdk::{Discovery, Dispatcher, Executor, Failure, Outcome, Plan, Sweep, Task, run};

/// Entries that are looked at in one call.
const SLICE: u64 = 50_000;

thread_local! {
    /// The listing, and how many of its entries were seen.
    static LISTING: RefCell<Option<(ReadDir, u64)>> = const { RefCell::new(None) };
}

struct Guest;

impl Dispatcher for Guest {
    fn dispatch(sweep: &Sweep, due: &[Task]) -> Result<Plan, Failure> {
        let mut plan = Plan::run_all(due);
        if sweep.scan {
            let most = usize::try_from(sweep.max_discoveries).unwrap_or(usize::MAX);
            let seen = sweep.cursor.as_ref().and_then(|cursor| cursor.parse().ok());
            let limit = SystemTime::UNIX_EPOCH + Duration::from_millis(sweep.now)
                - Duration::from_secs(run::config_or("seconds", 0)?);
            plan.cursor = LISTING
                .with_borrow_mut(|listing| scan(listing, seen, limit, most, &mut plan.discoveries))
                .map_err(Failure::transient)?;
        }
        Ok(plan)
    }
}

/// One slice. Another instance than the one that began goes on by skipping.
fn scan(
    listing: &mut Option<(ReadDir, u64)>,
    seen: Option<u64>,
    limit: SystemTime,
    most: usize,
    found: &mut Vec<Discovery>,
) -> io::Result<Option<String>> {
    let from = seen.unwrap_or(0);
    if listing.as_ref().is_none_or(|(_, at)| *at != from) {
        let mut anew = fs::read_dir("/")?;
        for _ in 0..from {
            anew.next();
        }
        *listing = Some((anew, from));
    }
    let Some((entries, at)) = listing else { return Ok(None) };
    let end = from + SLICE;
    while *at < end && found.len() < most {
        let Some(entry) = entries.next() else {
            *listing = None;
            return Ok(None);
        };
        *at += 1;
        let entry = entry?;
        let metadata = entry.metadata()?;
        if metadata.is_file() && metadata.modified()? < limit {
            let name = entry.file_name().into_string().map_err(|_| io::ErrorKind::InvalidData)?;
            found.push(Discovery::new(name).because("it is old"));
        }
    }
    Ok(Some(at.to_string()))
}

impl Executor for Guest {
    fn execute(task: &Task) -> Result<Outcome, Failure> {
        fs::remove_file(format!("/{}", task.key)).map_err(Failure::transient)?;
        Ok(Outcome::done())
    }
}

sweepd_sdk::job!(Guest);
