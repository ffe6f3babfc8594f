//! sweepd from outside: the real binary, real components, real files.
//!
//! One module a behaviour. `stores` runs the conformance suite over every store
//! in this process; everything else starts the binary.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![allow(clippy::disallowed_methods, reason = "tests wait for the threads that they start")]
mod borders;
mod breaker;
mod budgets;
mod by_hand;
mod cli;
mod clock;
mod cluster;
mod compiled;
mod crash;
mod effects;
mod examples;
mod failover;
mod far_plugins;
mod full_disk;
mod full_server;
mod growth;
mod guests;
mod holds;
mod http;
mod hung;
mod import;
mod inherited;
mod jobs;
mod keeping;
mod kinds;
mod leases;
mod limits;
mod logs;
mod lost_answers;
mod machine;
mod mounts;
mod parts;
mod plan;
mod promises;
mod readiness;
mod regressions;
mod rollback;
mod schedules;
mod shutdown;
mod small_disk;
mod space;
mod starting;
mod store_failures;
mod stores;
mod support;
mod swap;
mod torture;
mod trash;
mod trees;
mod videos;
mod wall;
mod words;
mod zoo;
