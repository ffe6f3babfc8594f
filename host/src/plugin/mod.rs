//! Everything wasmtime: compiling components, checking them against the
//! contract, swapping generations, calling guests.
//!
//! A [`Slot`] is the seat in a job that holds its current [`Generation`]; a
//! [`Reloader`] keeps it up to date with the plugin's file. This module knows
//! nothing of queues and HTTP. Its invariant: whoever holds a generation keeps
//! calling that code, whatever happens to the slot or the file.

mod bindings;
mod blame;
mod compile;
mod crash;
mod engine;
mod file;
mod generation;
pub mod inspect;
mod instance;
mod keeping;
mod kept;
mod reload;
mod slot;
mod watch;

pub use compile::{
    CacheOptions, ChildOptions, CompileError, CompileLimits, Compiler, CompilerOptions, compile_in_child,
};
pub use engine::{Engine, EngineError, EngineOptions};
pub use file::{Unreadable, read_component};
pub use generation::{Generation, LoadError, Plugin, World};
pub use instance::{Attempted, CallFailed, DispatcherInstance, ExecutorInstance, StartFailed};
pub use keeping::Unkept;
pub use kept::{Kept, SteerError};
pub use reload::Reloader;
pub use slot::Slot;
