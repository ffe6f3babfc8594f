//! Runs the jobs: when to sweep, what to claim, who executes, what is written
//! back, and how it all stops.
//!
//! ```text
//!  Host ─ one JobRunner a job: select! { stop, control, tick, wake, swapped }
//!            └─ Sweep: feed ─▶ executor threads ─▶ write back
//! ```
//! Guests run on threads of their own, never on one of the runtime's workers.
//! The runner knows neither HTTP nor SQL. Its invariant: a task is given to an
//! executor only between its claim and its write-back, under one generation.

mod answers;
mod batch;
mod breaker;
mod by_hand;
mod claim;
mod clocks;
mod dispatcher;
mod error;
mod executors;
mod files;
mod fit;
mod guarding;
mod host;
mod housekeeping;
mod job;
mod lease;
mod mounts;
mod pace;
mod pausing;
mod phase;
mod preflight;
mod pulse;
mod purge;
mod readiness;
mod revive;
mod running;
mod scans;
mod simulation;
mod steer;
mod sweep;
mod trash;
mod write_back;

pub use by_hand::ByFilter;
pub use error::HostError;
pub use files::{count_files, others_in_hour};
pub use guarding::{EffectQuery, TrashAsk, put_hold};
pub use host::{Host, HostSpec, TaskQuery};
pub use mounts::{MountView, NotAccepted, Standing, accept_mount, look_at_mounts};
pub use simulation::{Simulation, SimulationError};
pub use trash::{TakenOut, Throttle, TrashAction, TrashOf, TrashPick, TrashResult};
