//! The databases that queues are measured on: a file, or a database of its own
//! on a server of this machine.

use std::process::Command;
use std::sync::Arc;

use sweepd::store::SharedStore;
use sweepd::store::mysql::{MySqlOptions, MySqlStore};
use sweepd::store::postgres::{PostgresOptions, PostgresStore};

use crate::support::Site;

/// A kind of database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Sqlite,
    Postgres,
    MariaDb,
}

impl Kind {
    pub(super) const ALL: [Self; 3] = [Self::Sqlite, Self::Postgres, Self::MariaDb];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Sqlite => "SQLite",
            Self::Postgres => "PostgreSQL",
            Self::MariaDb => "MariaDB",
        }
    }

    /// Where the server is; `SWEEPD_TEST_POSTGRES` and `SWEEPD_TEST_MYSQL` say
    /// otherwise.
    pub(super) fn server(self) -> Option<String> {
        let (variable, usual) = match self {
            Self::Sqlite => return None,
            Self::Postgres => ("SWEEPD_TEST_POSTGRES", "postgres://postgres@127.0.0.1:5432/postgres"),
            Self::MariaDb => ("SWEEPD_TEST_MYSQL", "mysql://root@127.0.0.1:3306/mysql"),
        };
        Some(std::env::var(variable).unwrap_or_else(|_| usual.to_owned()))
    }
}

/// A database that goes when this is dropped.
pub(super) struct Database {
    kind: Kind,
    name: String,
}

impl Database {
    /// A fresh one; `None` where its server does not answer.
    pub(super) fn fresh(kind: Kind) -> Option<Self> {
        let database = Self { kind, name: format!("bench_{}_{}", std::process::id(), fastrand::u32(..)) };
        database.run(&format!("CREATE DATABASE {}", database.name)).then_some(database).or_else(|| {
            // A quick run is a check, and a check leaves nothing out.
            assert!(!crate::world::is_quick(), "{} does not answer", kind.name());
            eprintln!("{} does not answer: nothing is measured on it", kind.name());
            None
        })
    }

    /// The lines that name it in a configuration.
    pub(super) fn config(&self) -> String {
        self.url().map_or_else(String::new, |url| format!("[database]\nurl = \"{url}\"\n"))
    }

    /// Its address; a file has none of its own.
    pub(super) fn url(&self) -> Option<String> {
        let server = self.kind.server()?;
        let (server, _) = server.rsplit_once('/')?;
        // Servers may offer encryption; peers are measured without it.
        let plain = if self.kind == Kind::Postgres { "sslmode=disable" } else { "ssl-mode=disabled" };
        Some(format!("{server}/{}?{plain}", self.name))
    }

    fn run(&self, sql: &str) -> bool {
        let Some(server) = self.kind.server() else { return true };
        let mut client = if self.kind == Kind::Postgres {
            let mut psql = Command::new("psql");
            psql.arg(&server).args(["-qc", sql]);
            psql
        } else {
            let address = server.trim_start_matches("mysql://").split('/').next().unwrap_or_default().to_owned();
            let (user, host) = address.split_once('@').unwrap_or(("root", &address));
            let (host, port) = host.split_once(':').unwrap_or((host, "3306"));
            let mut mariadb = Command::new("mariadb");
            mariadb.args(["-u", user, "-h", host, "-P", port, "-e", sql]);
            mariadb
        };
        client.status().is_ok_and(|status| status.success())
    }

    /// Brings the server's statistics up to date and its disk to rest, so that
    /// what was inserted does not weigh on what is measured.
    pub(super) fn settle(&self) {
        if self.kind == Kind::Postgres
            && let Some(url) = self.url()
        {
            let settled = Command::new("psql").arg(url).args(["-qc", "VACUUM ANALYZE", "-c", "CHECKPOINT"]).status();
            assert!(settled.is_ok_and(|status| status.success()), "the database cannot be settled");
        }
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let with = if self.kind == Kind::Postgres { " WITH (FORCE)" } else { "" };
        self.run(&format!("DROP DATABASE IF EXISTS {}{with}", self.name));
    }
}

/// A place with one job over a fresh database; the database goes last.
pub(super) struct Place {
    pub(super) site: Site,
    pub(super) database: Database,
}

impl Place {
    /// With this guest and these lines of its job; `None` where the server does
    /// not answer.
    pub(super) fn fresh(kind: Kind, guest: &str, job: &str) -> Option<Self> {
        let database = Database::fresh(kind)?;
        let site = Site::with_job(&crate::support::guest(guest), &format!("{job}{}", database.config()));
        Some(Self { site, database })
    }
}

/// Opens a server's database as a host does.
pub(super) async fn open_server(url: &str) -> SharedStore {
    if url.starts_with("postgres") {
        return Arc::new(PostgresStore::open(url, PostgresOptions::default()).await.expect("it opens"));
    }
    Arc::new(MySqlStore::open(url, MySqlOptions::default()).await.expect("it opens"))
}
