//! What any host needs of a machine, wherever its own folders are: its program
//! and libraries, names and addresses, certificates, time zones, and how many
//! cores it may use.
//!
//! Never a list of people (`/etc/passwd`), other processes, or a home folder.

use std::collections::BTreeSet;
use std::env;
use std::path::PathBuf;

use landlock::{AccessFs, BitFlags};

use super::landlock::reading;

/// Files and folders that are read. Those of a resolver are opened anew for
/// each name: one that is replaced later is out of reach.
const READ: [&str; 33] = [
    // Modules of the C library's resolver.
    "/lib",
    "/lib64",
    "/usr/lib",
    "/usr/lib64",
    "/usr/local/lib",
    "/etc/ld.so.cache",
    // Names and addresses.
    "/etc/resolv.conf",
    "/run/systemd/resolve",
    "/etc/hosts",
    "/etc/host.conf",
    "/etc/nsswitch.conf",
    "/etc/gai.conf",
    "/etc/services",
    // Certificate authorities, where the distributions keep them.
    "/etc/ssl/certs",
    "/etc/ssl/cert.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/certs",
    "/etc/pki/tls/cert.pem",
    "/etc/pki/ca-trust/extracted",
    "/etc/ca-certificates",
    "/var/lib/ca-certificates",
    "/usr/share/ca-certificates",
    "/usr/local/share/ca-certificates",
    // Time zones.
    "/usr/share/zoneinfo",
    "/etc/localtime",
    // Cores, and how many of them this process may use.
    "/sys/devices/system/cpu",
    "/sys/fs/cgroup",
    "/proc/self/cgroup",
    "/proc/self/mountinfo",
    // How the C library gives memory back.
    "/proc/sys/vm/overcommit_memory",
    // Randomness.
    "/dev/urandom",
    "/dev/random",
    "/dev/zero",
];

/// Variables that name files to read, for TLS and for PostgreSQL.
const VARIABLES: [&str; 7] =
    ["SSL_CERT_FILE", "SSL_CERT_DIR", "TZDIR", "PGPASSFILE", "PGSSLROOTCERT", "PGSSLCERT", "PGSSLKEY"];

/// All of it, with what may be done there.
pub(super) fn openings() -> Vec<(PathBuf, BitFlags<AccessFs>)> {
    let named = VARIABLES.iter().filter_map(env::var_os).flat_map(|value| env::split_paths(&value).collect::<Vec<_>>());
    let read = READ.iter().map(PathBuf::from).chain(named).filter(|path| path.is_absolute());
    let mut openings: Vec<_> = read.map(|path| (path, reading())).collect();
    openings.push((PathBuf::from("/dev/null"), AccessFs::ReadFile | AccessFs::WriteFile));
    openings.extend(program().into_iter().map(|path| (path, AccessFs::ReadFile | AccessFs::Execute)));
    openings
}

/// This program, its loader and its libraries: what is mapped into it. The
/// compiler is started as another process of the same.
fn program() -> BTreeSet<PathBuf> {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let mut files: BTreeSet<_> = maps.lines().filter_map(mapped).collect();
    files.insert(PathBuf::from("/proc/self/exe"));
    files
}

/// The file of a line `from-to perms offset device inode   /path`.
fn mapped(line: &str) -> Option<PathBuf> {
    let path = &line[line.find('/')?..];
    // A file that was replaced by an upgrade is still in use, but has no name.
    (!path.ends_with(" (deleted)")).then(|| PathBuf::from(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mapped_files_are_read_off_their_lines() {
        let line = "7f00-7f01 r-xp 00000000 fe:00 123   /usr/lib/a b.so";
        assert_eq!(mapped(line), Some(PathBuf::from("/usr/lib/a b.so")));
        assert_eq!(mapped("7f00-7f01 rw-p 00000000 00:00 0 [heap]"), None);
        assert_eq!(mapped("7f00-7f01 r-xp 00000000 fe:00 123 /usr/bin/x (deleted)"), None);
    }

    #[test]
    fn nobody_is_listed() {
        for (path, _) in openings() {
            for closed in ["/etc/passwd", "/root", "/home", "/proc/1", "/tmp"] {
                assert!(!std::path::Path::new(closed).starts_with(&path), "{} opens {closed}", path.display());
            }
        }
    }
}
