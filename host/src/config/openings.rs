//! What of the machine a host of this configuration has to reach: what the wall
//! is left open for.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::domain::wall::{Access, Opening};

use super::database::Backend;
use super::paths::{Followed, absolute, follow};
use super::resolved::Config;
use super::standing::Found;

/// Folders that are everybody's: too wide to be opened for one file in them.
const WIDE: [&str; 22] = [
    "/",
    "/bin",
    "/boot",
    "/dev",
    "/etc",
    "/home",
    "/lib",
    "/media",
    "/mnt",
    "/opt",
    "/proc",
    "/root",
    "/run",
    "/sbin",
    "/srv",
    "/sys",
    "/tmp",
    "/usr",
    "/usr/local",
    "/var",
    "/var/lib",
    "/var/tmp",
];

/// Parameters of a database's address that name files.
const FILES: [&str; 6] = ["sslrootcert", "sslcert", "sslkey", "ssl-ca", "ssl-cert", "ssl-key"];

/// What a host reaches, and what of it had to be left closed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Openings {
    /// To be opened.
    pub all: Vec<Opening>,
    /// Plugin files whose folder is everybody's: the file alone is opened, so
    /// that another one in its place is not seen.
    pub narrow: Vec<PathBuf>,
    /// Plugin files that did not answer, and are left closed.
    pub silent: Vec<PathBuf>,
    /// Folders of the host's own that are everybody's as well: all that is in
    /// them stays within reach.
    pub wide: Vec<PathBuf>,
    /// Whether the database is to be reached as whoever runs the host: a list of
    /// people is none of what is opened.
    pub nameless: bool,
}

impl Config {
    /// What a host of this configuration has to reach.
    #[must_use]
    pub fn openings(&self) -> Openings {
        let mut openings = Openings::default();
        openings.own(&self.state);
        openings.own(&self.cache);
        match &self.database.backend {
            Backend::Sqlite(file) => {
                if let Some(folder) = follow(file).end.parent() {
                    openings.own(folder);
                }
            }
            Backend::Postgres(url) => {
                openings.nameless = !names_user(url.expose()) && std::env::var_os("PGUSER").is_none();
                openings.files_of_server(url.expose(), &working_folder());
            }
            Backend::MySql(url) => openings.files_of_server(url.expose(), &working_folder()),
        }
        for (index, job) in self.jobs.iter().enumerate() {
            // One that is not there has none; and to open its parent, in which it may
            // come to stand, would be too wide.
            for mount in job.mounts.iter().filter(|mount| mount.was_there) {
                let access = if mount.rights.only_look() { Access::Read } else { Access::Change };
                openings.all.push(Opening::new(&mount.host, access));
            }
            if self.plugins.get(index).is_some_and(|look| look.found == Found::Silent) {
                // To open its folder would be to wait for it.
                openings.silent.push(job.plugin.clone());
            } else {
                openings.plugin(&job.plugin, self.followed(index));
            }
        }
        openings
    }
}

impl Openings {
    /// What a person should know of it.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let narrow = self.narrow.iter().map(|plugin| {
            format!(
                "{} stands in a folder that is too wide to be opened for it, so that another file in its place is \
                 only taken after a restart: give plugins a folder of their own",
                plugin.display()
            )
        });
        let silent = self.silent.iter().map(|plugin| {
            format!(
                "{} does not answer, so that the wall (sandbox.landlock) stays closed for it: restart the host when the \
                 disk or the server behind it is up",
                plugin.display()
            )
        });
        let wide = self.wide.iter().map(|folder| {
            format!("the host works in {}, so that all of it stays open: give it a folder of its own", folder.display())
        });
        let nameless = self.nameless.then(|| {
            "a confined host cannot look up who it runs as: name the user in database.url, as in \
             postgres://USER@HOST/DATABASE"
                .to_owned()
        });
        narrow.chain(silent).chain(wide).chain(nameless).collect()
    }
}

fn is_wide(folder: &Path) -> bool {
    WIDE.iter().any(|wide| folder == Path::new(wide)) || std::env::home_dir().is_some_and(|home| home == folder)
}

/// From which the database's client counts relative paths.
fn working_folder() -> PathBuf {
    std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/"))
}

/// Whether the address of a PostgreSQL server says as whom to connect.
fn names_user(url: &str) -> bool {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let (authority, parameters) = rest.split_once('?').unwrap_or((rest, ""));
    authority.split('/').next().is_some_and(|authority| authority.contains('@'))
        || parameters.split('&').any(|parameter| parameter.starts_with("user="))
}

impl Openings {
    fn own(&mut self, folder: &Path) {
        if is_wide(folder) {
            self.wide.push(folder.to_owned());
        }
        self.all.push(Opening::new(folder, Access::Own));
    }

    fn read(&mut self, path: impl Into<PathBuf>) {
        self.all.push(Opening::new(path, Access::Read));
    }

    /// A plugin is replaced by another file in its folder, or by a link on its
    /// path that leads elsewhere: each of their folders, unless it is
    /// everybody's.
    fn plugin(&mut self, file: &Path, followed: Followed) {
        let (wide, folders): (BTreeSet<_>, BTreeSet<_>) =
            followed.deciding.into_iter().partition(|folder| is_wide(folder));
        if followed.end.parent().is_some_and(|folder| wide.contains(folder)) {
            self.narrow.push(file.to_owned());
            self.read(followed.end);
        }
        for folder in folders {
            self.read(folder);
        }
    }

    /// Certificates, and the file of passwords.
    fn files_of_server(&mut self, url: &str, folder: &Path) {
        let parameters = url.split_once('?').map_or("", |(_, parameters)| parameters);
        for (name, value) in parameters.split('&').filter_map(|parameter| parameter.split_once('=')) {
            let file = percent_encoding::percent_decode_str(value).decode_utf8_lossy();
            // A certificate may stand there itself.
            if FILES.contains(&name) && !file.contains('\n') {
                self.read(absolute(folder, &file));
            }
        }
        if let Some(home) = std::env::home_dir() {
            self.read(home.join(".pgpass"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opens(openings: &mut Openings, plugin: &Path) {
        openings.plugin(plugin, follow(plugin));
    }

    #[test]
    fn a_plugin_in_a_folder_of_everybody_is_opened_alone() {
        let mut openings = Openings::default();
        opens(&mut openings, Path::new("/etc/policy.wasm"));
        assert_eq!(openings.all, [Opening::new("/etc/policy.wasm", Access::Read)]);
        assert_eq!(openings.narrow, [PathBuf::from("/etc/policy.wasm")]);
        let mut openings = Openings::default();
        opens(&mut openings, Path::new("/etc/sweepd-plugins/policy.wasm"));
        assert_eq!(openings.all, [Opening::new("/etc/sweepd-plugins", Access::Read)]);
        assert!(openings.narrow.is_empty());
    }

    #[test]
    fn a_link_through_a_folder_of_everybody_does_not_open_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path().canonicalize().expect("its real path");
        std::fs::create_dir_all(root.join("releases/1")).expect("a folder");
        std::fs::write(root.join("releases/1/p.wasm"), "").expect("written");
        std::os::unix::fs::symlink("releases/1", root.join("current")).expect("a link");
        let mut openings = Openings::default();
        opens(&mut openings, &root.join("current/p.wasm"));
        let opened: Vec<_> = openings.all.iter().map(|opening| opening.path.clone()).collect();
        assert_eq!(opened, [root.clone(), root.join("releases/1")]);
        let mut openings = Openings::default();
        opens(&mut openings, Path::new("/proc/self/p.wasm"));
        assert!(openings.all.iter().all(|opening| opening.path != Path::new("/proc")), "{openings:?}");
    }

    #[test]
    fn a_user_is_named_in_one_of_two_places() {
        assert!(names_user("postgres://u@h/q") && names_user("postgres://u:p@h/q?sslmode=require"));
        assert!(names_user("postgres://h/q?sslmode=require&user=u"));
        assert!(!names_user("postgres://h/q") && !names_user("postgres://h/q?host=/run/a@b"));
    }

    #[test]
    fn files_in_the_address_of_a_database_are_opened() {
        let mut openings = Openings::default();
        openings.files_of_server("postgres://u:p@h/q?sslmode=verify-ca&sslrootcert=%2Fcerts%2Fca.pem", Path::new("/x"));
        openings.files_of_server("mysql://h/q?ssl-ca=ca.pem&password=/etc/passwd", Path::new("/x"));
        let opened: Vec<_> = openings.all.iter().map(|opening| opening.path.as_path()).collect();
        assert!(opened.contains(&Path::new("/certs/ca.pem")) && opened.contains(&Path::new("/x/ca.pem")), "{opened:?}");
        assert!(!opened.contains(&Path::new("/etc/passwd")));
    }
}
