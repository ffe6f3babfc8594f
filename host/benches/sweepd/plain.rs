//! The same component without a guard: wasmtime's own WASI, and nothing else.

use std::path::Path;

use ::sweepd::domain::task::ClaimedTask;
use wasmtime::component::{Component, HasSelf, Linker, ResourceTable};
use wasmtime::{Config, Engine, Store};
use wasmtime_wasi::{FsPerms, WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};

wasmtime::component::bindgen!({ path: "../wit", world: "job", imports: { default: trappable } });

use self::sweepd::job::{run, types};
use exports::sweepd::job::executor::Outcome;

struct Guest {
    wasi: WasiCtx,
    table: ResourceTable,
}

impl WasiView for Guest {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl types::Host for Guest {}

impl run::Host for Guest {
    fn job(&mut self) -> wasmtime::Result<String> {
        Ok("bench".to_owned())
    }

    fn config(&mut self, _: String) -> wasmtime::Result<Option<String>> {
        Ok(None)
    }

    fn deadline(&mut self) -> wasmtime::Result<u64> {
        Ok(u64::MAX)
    }

    fn removed_before(&mut self) -> wasmtime::Result<u64> {
        Ok(0)
    }

    fn simulated(&mut self) -> wasmtime::Result<bool> {
        Ok(false)
    }
}

/// An executor over one folder.
pub(crate) struct Plain {
    store: Store<Guest>,
    job: Job,
}

impl Plain {
    pub(crate) fn new(component: &Path, folder: &Path) -> Self {
        let mut config = Config::new();
        config.wasm_component_model(true).epoch_interruption(true);
        let engine = Engine::new(&config).expect("an engine");
        let mut linker = Linker::new(&engine);
        wasmtime_wasi::p2::add_to_linker_sync(&mut linker).expect("WASI links");
        run::add_to_linker::<_, HasSelf<Guest>>(&mut linker, |guest| guest).expect("`run` links");
        let component = Component::from_file(&engine, component).expect("the component compiles");
        let mut wasi = WasiCtxBuilder::new();
        wasi.allow_blocking_current_thread(true);
        wasi.preopened_dir(folder, "/", FsPerms::ReadWrite).expect("the folder opens");
        let guest = Guest { wasi: wasi.build(), table: ResourceTable::new() };
        let mut store = Store::new(&engine, guest);
        store.set_epoch_deadline(u64::MAX / 2);
        let job = Job::instantiate(&mut store, &component, &linker).expect("an instance");
        Self { store, job }
    }

    pub(crate) fn execute(&mut self, task: &ClaimedTask) {
        let given = types::Task {
            id: task.id.0,
            key: task.key.as_str().to_owned(),
            payload: None,
            attempt: 1,
            max_attempts: 5,
            enqueued_at: 0,
        };
        let outcome = self.job.sweepd_job_executor().call_execute(&mut self.store, &given);
        assert!(matches!(outcome, Ok(Ok(Outcome::Done(_)))), "{outcome:?}");
    }
}
