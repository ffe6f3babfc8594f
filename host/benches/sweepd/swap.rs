//! From a changed file to the new generation serving, beyond the settle time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::report::{Report, median};
use super::support::{Site, Sweepd, plugin};
use super::world;

/// The time that a change must rest before it is read.
const SETTLE: Duration = Duration::from_millis(100);

pub(crate) fn measure(report: &mut Report) {
    let site = Site::with_job(&plugin("video-clear"), "");
    let host = site.start();
    host.serving("clear");
    let original = std::fs::read(plugin("video-clear")).expect("the component reads");
    let (mut fresh, mut cached) = (Vec::new(), Vec::new());
    for round in 0..world::sized(7_u8, 1) {
        // A custom section more is another digest of the same code.
        let bytes = with_custom_section(&original, round);
        fresh.push(swap_to(&site, &host, &bytes));
        cached.push(swap_to(&site, &host, &original));
    }
    report.at_most("swap to an uncompiled plugin, beyond the settle", median(fresh), 250.0, "ms", String::new());
    report.at_most("swap to a cached plugin, beyond the settle", median(cached), 20.0, "ms", String::new());
}

/// Milliseconds from the rename to the new digest in the status.
fn swap_to(site: &Site, host: &Sweepd, bytes: &[u8]) -> f64 {
    let digest = Arc::new(sweepd::domain::digest::Digest::of(bytes).to_string());
    let new = site.path().join("plugins/next.wasm");
    std::fs::write(&new, bytes).expect("the component writes");
    let began = Instant::now();
    std::fs::rename(new, site.plugin_file()).expect("the component moves");
    loop {
        let status = host.get("/v1/jobs/clear");
        if status["slot"]["generation"]["digest"] == digest.as_str() {
            return began.elapsed().saturating_sub(SETTLE).as_secs_f64() * 1e3;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn with_custom_section(component: &[u8], number: u8) -> Vec<u8> {
    let mut bytes = component.to_vec();
    let nonce = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a clock").subsec_nanos();
    let name = format!("bench-{number:03}-{nonce:010}");
    let length = u8::try_from(name.len()).expect("a short name");
    bytes.extend([0, length + 1, length]);
    bytes.extend(name.as_bytes());
    bytes
}
