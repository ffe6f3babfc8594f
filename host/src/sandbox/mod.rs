//! Everything that a guest may touch, and the layer that stands between.
//!
//! A guest reaches the machine only through [`GuestState`]: its mounts by way
//! of the guard, its output by way of a capture, its waits by way of bounded
//! ones. The sandbox knows neither the queue nor how components are loaded.
//! Its invariant: once a [`Gate`] is closed or a call's deadline has passed,
//! no mutation of a file begins.

mod capture;
mod deadline;
mod entries;
mod gate;
mod guard;
mod guest;
mod memory;
mod mounts;
mod output_rate;
mod waits;
pub mod wall;
mod writes;

pub use deadline::BootTime;
pub use gate::{Gate, Lease, Permit};
pub use guest::{GuestState, Interrupt, Role, add_to_linker};
pub use memory::Refused;
pub use mounts::{MountError, Mounts};
