//! `wasi:io/poll` with waits that end at the deadline or when the gate closes:
//! an epoch interrupts WebAssembly, not a host call that sleeps.

use wasmtime::component::{HasData, Linker, Resource};
use wasmtime_wasi::p2::DynPollable;
use wasmtime_wasi::p2::bindings::io::poll as unbounded;
use wasmtime_wasi::p2::bindings::sync::io::poll::{self, Host, HostPollable};

use super::call::Interrupt;
use super::guest::GuestState;

struct BoundedWaits;

impl HasData for BoundedWaits {
    type Data<'a> = Waits<'a>;
}

struct Waits<'a>(&'a mut GuestState);

pub(super) fn add_to_linker(linker: &mut Linker<GuestState>) -> wasmtime::Result<()> {
    poll::add_to_linker::<GuestState, BoundedWaits>(linker, |state| Waits(state))
}

impl Waits<'_> {
    /// The guest's thread is inside the runtime's context but none of its
    /// workers, so that it may block.
    fn until_interrupted<T>(
        &mut self,
        wait: impl AsyncFnOnce(&mut wasmtime::component::ResourceTable) -> wasmtime::Result<T>,
    ) -> wasmtime::Result<T> {
        let GuestState { table, call, .. } = &mut *self.0;
        let waited: Result<wasmtime::Result<T>, Interrupt> =
            tokio::runtime::Handle::current().block_on(call.bounded(wait(table)));
        waited.unwrap_or_else(|interrupt| Err(self.0.interrupted(interrupt)))
    }
}

impl Host for Waits<'_> {
    fn poll(&mut self, pollables: Vec<Resource<DynPollable>>) -> wasmtime::Result<Vec<u32>> {
        self.until_interrupted(async |table| unbounded::Host::poll(table, pollables).await)
    }
}

impl HostPollable for Waits<'_> {
    fn ready(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<bool> {
        self.until_interrupted(async |table| unbounded::HostPollable::ready(table, pollable).await)
    }

    fn block(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<()> {
        self.until_interrupted(async |table| unbounded::HostPollable::block(table, pollable).await)
    }

    fn drop(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<()> {
        unbounded::HostPollable::drop(&mut self.0.table, pollable)
    }
}
