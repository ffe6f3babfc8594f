//! The configuration: one file, overridden by the environment, checked as a
//! whole before anything starts.
//!
//! Steps, each in its own module: `origins` parses the file, `env` lays
//! `SWEEPD_…` over it, `check` compares names and types with `schema`, the one
//! list of keys, `raw` holds what was written, and `resolved` checks every value
//! and gives each its default. Unknown names are refused with the nearest known
//! one. All problems of a configuration are reported together. What stands at the
//! mounts is a step of its own (`standing`, `settle`), for whoever works with files.
//!
//! The invariant: in a [`Config`] nothing is optional that must be there, every
//! path is absolute, and once its mounts were looked at, none lets a plugin reach
//! the plugins, the state or the configuration. This module writes nothing.

mod budget;
mod check;
mod database;
mod database_url;
mod env;
mod error;
mod jobs;
mod limits;
mod mounts;
mod openings;
mod origins;
mod paths;
mod raw;
mod resolved;
mod schema;
mod settle;
mod standing;
mod units;

pub use database::{Backend, DatabaseConfig};
pub use database_url::{BadAddress, DatabaseUrl};
pub use error::{ConfigError, Place, Problem};
pub use limits::{COMPILE_MEMORY, COMPILE_TIME, MAX_COMPILED, SandboxConfig};
pub use openings::Openings;
pub use paths::Followed;
pub use resolved::{Config, ServerConfig};
pub use settle::Absent;
pub use standing::{Found, Look, PATIENCE, look_at};

#[cfg(test)]
mod tests;
