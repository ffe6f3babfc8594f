//! Write sweepd plugins in Rust.
//!
//! A plugin is a policy: a type that implements [`Executor`], which acts on
//! one task, and where it wants a say in what runs when, [`Dispatcher`], which
//! decides about a batch of them. [`job!`] makes a component of the world `job`
//! of a type that is both; [`executor!`] makes one of the world `executor-only`
//! of a type that only acts, for which the host dispatches first in, first out.
//!
//! # A whole plugin
//!
//! `Cargo.toml`:
//!
//! ```toml
//! [package]
//! name = "empty-only"
//! edition = "2024"
//!
//! [lib]
//! crate-type = ["cdylib"]
//!
//! [dependencies]
//! sweepd-sdk = "0.1"
//! ```
//!
//! `src/lib.rs`, a policy that removes files which are empty, and asks again in
//! an hour for those which are not:
//!
//! ```
//! use std::fs;
//! use sweepd_sdk::{Dispatcher, Executor, Failure, Outcome, Plan, Sweep, Task, path, run, words};
//!
//! struct EmptyOnly;
//!
//! impl Dispatcher for EmptyOnly {
//!     fn dispatch(_: &Sweep, due: &[Task]) -> Result<Plan, Failure> {
//!         if run::config("frozen").as_deref() == Some("true") {
//!             return Ok(Plan::postpone_all(due, 60, "the job is frozen"));
//!         }
//!         Ok(Plan::run_all(due))
//!     }
//! }
//!
//! impl Executor for EmptyOnly {
//!     fn execute(task: &Task) -> Result<Outcome, Failure> {
//!         let path = path::of(&task.key)?;
//!         match fs::symlink_metadata(&path) {
//!             Ok(found) if found.len() > 0 => return Ok(Outcome::postpone(3600, "not empty")),
//!             Ok(_) => {}
//!             Err(error) if path::is_gone(&error) => return Ok(Outcome::skipped("already gone")),
//!             Err(error) => return Err(Failure::transient(format!("{path}: {}", words(&error)))),
//!         }
//!         fs::remove_file(&path).map_err(|error| Failure::transient(format!("{path}: {}", words(&error))))?;
//!         Ok(Outcome::done())
//!     }
//! }
//!
//! sweepd_sdk::job!(EmptyOnly);
//!
//! // Natively a policy is plain Rust, and `testing` stands in for the host.
//! let folder = std::env::temp_dir();
//! let key = format!("sweepd-sdk-example-{}", std::process::id());
//! fs::write(folder.join(&key), "")?;
//! sweepd_sdk::testing::Run::new()
//!     .config("path", format!("{}/{{key}}", folder.display()))
//!     .enter(|| {
//!         assert_eq!(EmptyOnly::execute(&Task::new(1, key)), Ok(Outcome::done()));
//!     });
//! # std::io::Result::Ok(())
//! ```
//!
//! # What a plugin can count on
//!
//! - Files are reached with `std::fs`; the job's first mount is at `/`, and a
//!   relative path is taken from there. The dispatcher's mounts are read-only.
//! - An execution may be repeated: what is already done is to succeed.
//! - A panic is a trap: it costs one attempt of its task, and the instance.
//!   Return a [`Failure`] instead.
//! - A call is interrupted at its deadline, and that costs an attempt. One that
//!   has more to do than fits in asks [`TimeLeft`] before each step, and
//!   postpones itself with what it did so far.
//! - A whole tree is removed by [`tree::remove`], in steps that fit into a call.
//! - Globals live as long as the instance, which may serve many tasks.
//! - Output lines become log lines that name the job and the task.

#[doc(hidden)]
pub mod bindings;
mod composition;
mod export;
pub mod path;
pub mod run;
#[cfg(not(target_arch = "wasm32"))]
pub mod testing;
mod time;
pub mod tree;
mod types;
mod words;

pub use time::TimeLeft;
pub use types::{Decision, Discovery, Failure, Outcome, Plan, Postponement, Sweep, Task, TaskId, Timestamp, Verdict};
pub use words::words;

/// Acts on one task. The only role that may change files.
pub trait Executor {
    /// Makes one attempt. It may be a repetition: succeed where it is done.
    fn execute(task: &Task) -> Result<Outcome, Failure>;
}

/// Decides what becomes of due tasks. Called with read-only mounts.
pub trait Dispatcher {
    /// Answers for `due`: oldest first, none of them offered before in this
    /// sweep, at most `sweep.capacity`. A due task that the plan does not name
    /// is held back until the next sweep. A failure changes no task and ends
    /// the sweep; a permanent one pauses the job.
    ///
    /// Unless a policy says otherwise, everything that is due runs.
    fn dispatch(sweep: &Sweep, due: &[Task]) -> Result<Plan, Failure> {
        let _ = sweep;
        Ok(Plan::run_all(due))
    }
}
