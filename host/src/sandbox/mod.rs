//! Everything that a guest may touch, and the layer that stands between.
//!
//! A guest reaches the machine only through [`GuestState`]: its mounts by way
//! of the guard, its output by way of a capture, its waits by way of bounded
//! ones. What a guest changes, it changes through the [`Custody`] of its job's
//! files: rights, holds, budget, record and trash. The sandbox knows neither the
//! queue nor how components are loaded. Its invariants: once a [`Gate`] is closed
//! or a call's deadline has passed, no mutation of a file begins; and none begins
//! of which the intent is not on record.

mod alter;
mod beginning;
mod beneath;
mod call;
mod capture;
mod census;
mod custody;
mod deadline;
mod deeds;
mod descriptor;
mod done;
mod entries;
mod foresee;
#[cfg(test)]
#[cfg(target_os = "linux")]
mod fuzz;
mod gate;
mod guard;
mod guest;
mod held;
mod journal;
mod kept;
mod left;
mod listing;
mod marker;
mod may;
mod memory;
mod meter;
mod mounts;
mod opening;
mod output_rate;
mod overlay;
mod place;
mod reads;
mod reconcile;
mod room;
mod trash;
mod trouble;
mod view;
mod waits;
pub mod wall;
mod writes;

pub(crate) use beginning::make_room_to_begin;
pub use call::{Held, Hindrance, Interrupt};
pub use census::count_files;
pub use custody::Custody;
pub use deadline::BootTime;
pub use done::Recorded;
pub use gate::{Gate, Lease, Permit};
pub use guest::{GuestState, Role, add_to_linker};
pub use held::held_now;
pub use journal::{Journal, Leftovers, Noted, leftovers};
pub use kept::learn_all;
pub use memory::Refused;
pub use meter::Meter;
pub use mounts::{
    Found, MountError, TRASH, clear_left_over, free_space, is_root_id, look, mark, new_mark, prepare_trash, resolved,
};
pub use reconcile::reconcile;
pub use room::Room;
pub use trash::{TrashError, TrashFolder};
