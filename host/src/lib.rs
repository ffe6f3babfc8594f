//! sweepd: a job host whose jobs are WebAssembly components.
//!
//! The modules and who may use whom are described in ARCHITECTURE.md:
//! `domain ← store`, `domain ← sandbox ← plugin`,
//! `{store, plugin} ← runner ← http ← cli ← main`, `domain ← legacy ← cli`.

// Nothing writes to a stream of the process and panics where that is closed: see `cli::logging`.
#![warn(clippy::print_stdout, clippy::print_stderr)]
#![cfg_attr(test, allow(clippy::disallowed_methods, clippy::print_stdout, reason = "tests wait for what they start"))]

mod answers;
pub mod cli;
pub mod config;
mod disk;
pub mod domain;
mod faults;
pub mod http;
pub mod legacy;
mod limits;
pub mod plugin;
pub mod runner;
pub mod sandbox;
mod stop;
pub mod store;
mod supervise;
