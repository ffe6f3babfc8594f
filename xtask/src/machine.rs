//! Programs of Debian that the tests start and not every machine has.

use std::process::Command;

use crate::process::{is_there, run};

/// A program, and the package that has it.
const NEEDED: [(&str, &str); 3] =
    [("mkfs.btrfs", "btrfs-progs"), ("mkfs.ext4", "e2fsprogs"), ("pgbouncer", "pgbouncer")];

/// Installs what is missing, which takes root. The tests that need it mount small
/// disks, which takes root as well: elsewhere they fail and say so.
pub(crate) fn make_ready() {
    let missing: Vec<_> =
        NEEDED.iter().filter(|(program, _)| !is_there(program, "-V")).map(|(_, package)| *package).collect();
    if missing.is_empty() || !is_there("apt-get", "--version") {
        return;
    }
    eprintln!("installing for the tests: {}", missing.join(" "));
    let apt = |args: &[&str]| {
        let mut apt = Command::new("apt-get");
        apt.env("DEBIAN_FRONTEND", "noninteractive").args(["-q", "-o", "DPkg::Lock::Timeout=300"]).args(args);
        run(&mut apt)
    };
    let install = [&["install", "--yes", "--no-install-recommends"], missing.as_slice()].concat();
    // The lists may be old or not there.
    let installed = apt(&install).or_else(|_| apt(&["update"]).and_then(|()| apt(&install)));
    if let Err(error) = installed {
        eprintln!("tests will fail for want of {} ({error:#}): install it, or run this as root", missing.join(" "));
    }
}
