//! Moves the video that a task names into an archive folder of the same mount,
//! and may wait until it has a certain age.
//!
//! Configuration:
//! - `path`: a template of where a key's video is, `{key}` unless given (see
//!   [`sweepd_sdk::path`]).
//! - `archive`: the folder, `archive` unless given; created when missing. A video
//!   keeps its whole path in it, so that no two keys share a place, and undoing
//!   is moving it back.
//! - `min_age`: seconds since the file or folder itself was last changed, before
//!   which a video stays; 0 unless given.
//!
//! What is in the archive is not overwritten: where a name is taken, the video
//! gets the first free one of `name~2`, `name~3` and so on. WASI has no rename
//! that refuses to replace, so this is a look and then a move: give an archive
//! folder to one job, and to no other program that creates files in it.

mod age;
mod archive;

use sweepd_sdk::path::Template;
use sweepd_sdk::{Dispatcher, Executor, Failure, Outcome, Plan, Sweep, Task, run};

use archive::Archive;

struct VideoArchive;

impl Dispatcher for VideoArchive {
    fn dispatch(sweep: &Sweep, due: &[Task]) -> Result<Plan, Failure> {
        let min_age: u64 = run::config_or("min_age", 0)?;
        if min_age == 0 {
            return Ok(Plan::run_all(due));
        }
        let template = Template::from_config()?;
        Ok(Plan::decide(due, |task| age::verdict(&template, task, sweep.now, min_age)))
    }
}

impl Executor for VideoArchive {
    fn execute(task: &Task) -> Result<Outcome, Failure> {
        Archive::from_config()?.take(&Template::from_config()?, &task.key)
    }
}

sweepd_sdk::job!(VideoArchive);
