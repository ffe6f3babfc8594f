//! What a fresh instance costs.

use std::sync::Arc;
use std::time::Instant;

use sweepd::plugin::ExecutorInstance;
use sweepd::sandbox::{Gate, Lease};

use super::report::{Report, median};
use super::world;

fn rounds() -> usize {
    world::sized(7, 1)
}
fn each() -> usize {
    world::sized(500, 5)
}

pub(crate) fn measure(report: &mut Report) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let _entered = runtime.enter();
    let folder = world::folder();
    let cache = world::folder();
    let compiler = world::compiler(Some(cache.path()));
    let generation = world::generation(&compiler, "video-clear");
    let job = Arc::new(world::job(world::component("video-clear"), folder.path(), 1));
    let gate = Gate::new(Lease::endless());
    let custody = world::custody(&job, cache.path());
    let start = || ExecutorInstance::start(&custody, &generation, &gate).expect("an instance");

    let (mut alone, mut called) = (Vec::new(), Vec::new());
    for _ in 0..rounds() {
        let began = Instant::now();
        for _ in 0..each() {
            drop(start());
        }
        alone.push(began.elapsed().as_secs_f64() * 1e6 / each() as f64);
        world::make_files(folder.path(), each(), 0, false);
        let began = Instant::now();
        for number in 0..each() {
            world::done(start().execute(&world::task(number)));
        }
        called.push(began.elapsed().as_secs_f64() * 1e6 / each() as f64);
    }
    report.at_most("instantiate, mounts opened", median(alone), 20.0, "µs", String::new());
    report.at_most("fresh instance and one call", median(called), 80.0, "µs", "one file removed".to_owned());

    let mut cached = Vec::new();
    for _ in 0..rounds() * 3 {
        let began = Instant::now();
        drop(world::generation(&compiler, "video-clear"));
        cached.push(began.elapsed().as_secs_f64() * 1e3);
    }
    let size = std::fs::metadata(world::component("video-clear")).expect("the component").len();
    report.at_most("load a component from the cache", median(cached), 2.0, "ms", format!("{size} bytes"));
}
