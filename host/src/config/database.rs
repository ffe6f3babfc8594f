//! `[database]`: which database keeps the queue, and for how long.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::database_url::DatabaseUrl;
use super::paths::absolute;
use super::raw::RawDatabase;
use super::resolved::{LONGEST, Resolver, text};

/// Fewer bytes of effects on record would be of no use.
const SMALLEST: u64 = 64 << 10;

/// The queue's database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatabaseConfig {
    /// As it was written.
    pub url: DatabaseUrl,
    /// What it names.
    pub backend: Backend,
    /// Most connections at a time, of this host alone; a file needs none.
    pub max_connections: u32,
    /// How long a host waits at its start for one that cannot be used.
    pub wait: Duration,
    /// How long ended tasks and their attempts are kept.
    pub history: Duration,
    /// How long it is on record what plugins did to files.
    pub effects: Duration,
    /// About how many bytes of the disk that may take; the oldest go before their
    /// time.
    pub effects_max: u64,
}

/// A kind of database, and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Backend {
    /// This file.
    Sqlite(PathBuf),
    /// A PostgreSQL server: host and database are named.
    Postgres(DatabaseUrl),
    /// A MariaDB or MySQL server: host and database are named.
    MySql(DatabaseUrl),
}

/// Checks `[database]`; files that are relative are in `state`.
pub(super) fn resolve(resolver: &mut Resolver, state: &Path, raw: &RawDatabase) -> DatabaseConfig {
    let url = DatabaseUrl::new(text("database.url", raw.url.as_deref()));
    let backend = backend(&url, state).unwrap_or_else(|wrong| {
        resolver.refuse("database.url", wrong.message, Some(wrong.help));
        Backend::Sqlite(state.to_owned())
    });
    DatabaseConfig {
        url,
        backend,
        max_connections: resolver.integer("database.max_connections", raw.max_connections, 2..=1000),
        wait: resolver.duration("database.wait", raw.wait.as_deref(), Duration::ZERO..=LONGEST),
        history: resolver.duration("database.history", raw.history.as_deref(), Duration::from_mins(1)..=LONGEST),
        effects: resolver.duration("database.effects", raw.effects.as_deref(), Duration::from_mins(1)..=LONGEST),
        effects_max: resolver.size("database.effects_max", raw.effects_max.as_deref(), SMALLEST..=u64::MAX),
    }
}

/// What is wrong with an address, and what to write.
#[derive(Debug)]
struct Wrong {
    message: String,
    help: String,
}

fn backend(url: &DatabaseUrl, state: &Path) -> Result<Backend, Wrong> {
    let Some((scheme, rest)) = url.expose().split_once("://") else { return Err(unknown("is no address")) };
    let server = || {
        url.check_server().map(|()| url.clone()).map_err(|flaw| Wrong {
            message: flaw.to_string(),
            help: format!(
                "write {scheme}://USER:PASSWORD@HOST/DATABASE; in user and password every character but letters, \
                 digits, `-`, `.`, `_` and `~` is percent-encoded (`@` is %40, `/` is %2F, `#` is %23, `%` is %25)"
            ),
        })
    };
    match scheme {
        "sqlite" if rest.is_empty() || rest.ends_with('/') || rest.contains(['?', '#', '\0']) => {
            Err(unknown(&format!("`{}` names no file", url.expose())))
        }
        "sqlite" => Ok(Backend::Sqlite(absolute(state, rest))),
        "postgres" | "postgresql" => server().map(Backend::Postgres),
        "mysql" | "mariadb" => server().map(Backend::MySql),
        // Anything else may be a part of a password, and is not repeated.
        _ if scheme.chars().all(|c| c.is_ascii_alphanumeric()) => {
            Err(unknown(&format!("`{scheme}` is no database that can be used")))
        }
        _ => Err(unknown("is no address")),
    }
}

fn unknown(message: &str) -> Wrong {
    let help = "sweepd knows SQLite (\"sqlite://sweepd.db\", in the state folder, or \
                \"sqlite:///var/lib/sweepd/queue.db\"), PostgreSQL (\"postgres://…\") and MariaDB (\"mysql://…\")";
    Wrong { message: message.to_owned(), help: help.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(url: &str) -> Result<Backend, Wrong> {
        backend(&DatabaseUrl::new(url), Path::new("/state"))
    }

    #[test]
    fn databases_are_told_apart() {
        for (url, wanted) in [
            ("sqlite://a.db", Backend::Sqlite("/state/a.db".into())),
            ("sqlite:///a.db", Backend::Sqlite("/a.db".into())),
            ("postgres://h/q", Backend::Postgres(DatabaseUrl::new("postgres://h/q"))),
            ("postgresql://h/q", Backend::Postgres(DatabaseUrl::new("postgresql://h/q"))),
            ("mysql://h/q", Backend::MySql(DatabaseUrl::new("mysql://h/q"))),
            ("mariadb://h/q", Backend::MySql(DatabaseUrl::new("mariadb://h/q"))),
        ] {
            assert_eq!(read(url).expect("a database"), wanted);
        }
    }

    #[test]
    fn what_is_none_is_refused_without_its_password() {
        for (url, wanted) in [
            ("u:secret@h/q", "is no address"),
            ("u:secret://h/q", "is no address"),
            ("", "is no address"),
            ("oracle://u:secret@h/q", "`oracle` is no database that can be used"),
            ("sqlite:///var/lib/", "`sqlite:///var/lib/` names no file"),
            ("postgres://u:secret@h", "names no database"),
            ("mysql://u:secret@/q", "names no host"),
        ] {
            let wrong = read(url).expect_err(url);
            assert_eq!(wrong.message, wanted);
            assert!(!wrong.help.contains("secret") && wrong.help.contains("://"), "{}", wrong.help);
        }
    }
}
