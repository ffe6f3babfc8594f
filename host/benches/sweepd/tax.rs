//! The tax of the sandbox: video-clear's executor, with deadlines, output capture
//! and effects on record, against a native loop of `remove_file` over the same files.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use sweepd::plugin::ExecutorInstance;
use sweepd::sandbox::{Gate, Lease};

use super::report::{Report, median};
use super::world;

fn rounds() -> usize {
    world::sized(7, 1)
}

pub(crate) fn measure(report: &mut Report) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let _entered = runtime.enter();
    let kinds = [
        ("synced 4 KiB files", world::sized(2_000, 20), 4096, 0.92),
        ("empty files", world::sized(20_000, 20), 0, 0.70),
    ];
    for (name, files, size, goal) in kinds {
        let (mut ratios, mut native, mut guest) = (Vec::new(), Vec::new(), Vec::new());
        let folder = world::folder();
        let mut executor = Executor::new(folder.path());
        for round in 0..rounds() {
            // Which goes first alternates, so that neither always gets the warmer disk.
            let mut took = [0.0; 2];
            for which in [round % 2, 1 - round % 2] {
                world::make_files(folder.path(), files, size, size > 0);
                let began = Instant::now();
                if which == 0 {
                    remove_natively(folder.path(), files);
                } else {
                    executor.remove(files);
                }
                took[which] = began.elapsed().as_secs_f64();
            }
            let micros = |seconds: f64| seconds * 1e6 / files as f64;
            native.push(micros(took[0]));
            guest.push(micros(took[1]));
            ratios.push(took[0] / took[1]);
        }
        let detail = format!("{:.1} µs native, {:.1} µs in the sandbox, a file", median(native), median(guest));
        report.at_least(&format!("sandbox rate of native, {name}"), median(ratios), goal, "ratio", detail);
    }
}

fn remove_natively(folder: &Path, files: usize) {
    for number in 0..files {
        std::fs::remove_file(folder.join(world::key(number))).expect("the file goes");
    }
}

struct Executor {
    instance: ExecutorInstance,
    #[allow(dead_code, reason = "held, not read: its effects are written there")]
    journal: tempfile::TempDir,
}

impl Executor {
    fn new(folder: &Path) -> Self {
        let compiler = world::compiler(None);
        let generation = world::generation(&compiler, "video-clear");
        let job = Arc::new(world::job(world::component("video-clear"), folder, 1));
        let (gate, journal) = (Gate::new(Lease::endless()), world::folder());
        let custody = world::custody(&job, journal.path());
        let instance = ExecutorInstance::start(&custody, &generation, &gate).expect("an instance");
        Self { instance, journal }
    }

    fn remove(&mut self, files: usize) {
        for number in 0..files {
            world::done(self.instance.execute(&world::task(number)));
        }
    }
}
