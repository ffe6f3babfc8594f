//! The words of sweepd as types, and its decisions as pure functions.
//!
//! Nothing here knows a database, a thread, a network or WebAssembly: what can
//! be decided from values alone is decided here, and tested with tables and
//! properties.

pub mod breaker;
pub mod budget;
pub mod chunk;
pub mod clock;
pub mod descriptors;
pub mod digest;
pub mod effect;
pub mod fold;
pub mod foreseen;
pub mod hold;
pub mod intervention;
pub mod job;
pub mod ledger;
pub mod live;
pub mod nearest;
pub mod node;
pub mod outcome;
pub mod plan;
pub mod plugin_history;
pub mod printable;
pub mod readiness;
pub mod recorded;
pub mod retry;
pub mod rights;
pub mod schedule;
pub mod status;
pub mod task;
pub mod time;
pub mod trash;
pub mod video;
pub mod wall;
