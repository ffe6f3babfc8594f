//! The address of a database, which may hold a password.
//!
//! The invariant: no `Display` and no `Debug` shows the password, and what is
//! wrong with an address is said without repeating any of it.

use std::fmt;
use std::net::Ipv6Addr;

/// The address of a database. `Display` and `Debug` show it with `***` for the
/// password, and for the values of parameters other than those of TLS.
#[derive(Clone, PartialEq, Eq)]
pub struct DatabaseUrl(String);

/// What is wrong with a server's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadAddress {
    /// As it stands it can be read in several ways.
    #[error("has a character that must be percent-encoded")]
    Unencoded,
    /// The host is missing, or is none.
    #[error("names no host")]
    Host,
    /// What follows the host is no port.
    #[error("has no number from 1 to 65535 for a port")]
    Port,
    /// The database is missing, or is a path.
    #[error("names no database")]
    Database,
}

impl DatabaseUrl {
    /// Any text, unchecked; see [`DatabaseUrl::check_server`].
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Checks that it names a host and a database of a server, and can be read in
    /// one way only. Whatever the scheme; connects to nothing.
    pub fn check_server(&self) -> Result<(), BadAddress> {
        let rest = self.0.split_once("://").map_or("", |(_, rest)| rest);
        Server::read(rest).map(drop)
    }

    /// The whole text, with the password: to connect with, never to show.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.split_once("://") {
            Some(("sqlite", _)) => f.write_str(&self.0),
            Some((scheme, rest)) if scheme.chars().all(|c| c.is_ascii_alphanumeric()) => match Server::read(rest) {
                Ok(server) => write!(f, "{scheme}://{server}"),
                Err(_) => write!(f, "{scheme}://***"),
            },
            _ => f.write_str("***"),
        }
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DatabaseUrl({self})")
    }
}

/// What follows the scheme of a server's address.
struct Server<'a> {
    user: Option<&'a str>,
    has_password: bool,
    /// Name or address, and the port where one is given.
    host: &'a str,
    database: &'a str,
    parameters: Option<&'a str>,
}

impl<'a> Server<'a> {
    fn read(rest: &'a str) -> Result<Self, BadAddress> {
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, tail) = rest.split_at(end);
        let (login, host) = authority.rsplit_once('@').map_or((None, authority), |(login, host)| (Some(login), host));
        // A password that is not encoded ends early, at any of these, and what is left of it stands elsewhere.
        let is_encoded = !tail.contains(['@', '#'])
            && !login.is_some_and(|login| login.contains('@') || !percents_are_right(login))
            && !rest.contains(|c: char| c.is_whitespace() || c.is_control());
        if !is_encoded {
            return Err(BadAddress::Unencoded);
        }
        check_host(host)?;
        let (path, parameters) = tail.split_once('?').map_or((tail, None), |(path, all)| (path, Some(all)));
        let database = path.strip_prefix('/').filter(|name| !name.is_empty() && !name.contains('/'));
        let user = login.map(|login| login.split(':').next().unwrap_or_default());
        Ok(Self {
            user,
            has_password: login.is_some_and(|login| login.contains(':')),
            host,
            database: database.ok_or(BadAddress::Database)?,
            parameters,
        })
    }
}

fn check_host(host: &str) -> Result<(), BadAddress> {
    let (is_host, port) = if let Some(inner) = host.strip_prefix('[') {
        let (address, port) = inner.split_once(']').ok_or(BadAddress::Host)?;
        (address.parse::<Ipv6Addr>().is_ok(), port)
    } else {
        let (name, port) = host.split_at(host.find(':').unwrap_or(host.len()));
        let is_part = |c: char| c.is_ascii_alphanumeric() || "-._%".contains(c);
        (!name.is_empty() && name.chars().all(is_part), port)
    };
    if !is_host {
        return Err(BadAddress::Host);
    }
    let is_port = |digits: &str| digits.parse::<u16>().is_ok_and(|port| port > 0);
    if port.is_empty() || port.strip_prefix(':').is_some_and(is_port) { Ok(()) } else { Err(BadAddress::Port) }
}

/// Whether each `%` begins an encoded byte.
fn percents_are_right(text: &str) -> bool {
    text.split('%').skip(1).all(|after| {
        let mut digits = after.bytes();
        (0..2).all(|_| digits.next().is_some_and(|byte| byte.is_ascii_hexdigit()))
    })
}

impl fmt::Display for Server<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(user) = self.user {
            write!(f, "{user}{}@", if self.has_password { ":***" } else { "" })?;
        }
        write!(f, "{}/{}", self.host, self.database)?;
        for (index, parameter) in self.parameters.iter().flat_map(|all| all.split('&')).enumerate() {
            f.write_str(if index == 0 { "?" } else { "&" })?;
            match parameter.split_once('=') {
                Some(("sslmode" | "ssl-mode", _)) => f.write_str(parameter)?,
                // A password may be given as a parameter, too.
                Some((name, _)) => write!(f, "{name}=***")?,
                None => f.write_str("***")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn right_addresses_are_kept_whole() {
        for url in [
            "postgres://h/q",
            "postgresql://sweepd:pa%40ss@db.example.org:5432/queue?sslmode=require",
            "postgres://u@%2Frun%2Fpostgresql/q",
            "mysql://root@localhost/q?socket=/run/mysqld/mysqld.sock",
            "mariadb://u:a:b@[::1]:3306/q?ssl-mode=VERIFY_CA&ssl-ca=/ca.pem",
            "mysql://u:a@[fe80::1]/q",
        ] {
            assert_eq!(DatabaseUrl::new(url).check_server(), Ok(()), "{url}");
            assert_eq!(DatabaseUrl::new(url).expose(), url);
        }
    }

    #[test]
    fn what_is_wrong_is_said_without_the_password() {
        for (rest, wanted) in [
            ("", "names no host"),
            ("/q", "names no host"),
            ("u:secret@/q", "names no host"),
            ("u:secret@:5432/q", "names no host"),
            ("u:secret@a b/q", "has a character that must be percent-encoded"),
            ("u:secret@h(1)/q", "names no host"),
            ("u:secret@[::g]/q", "names no host"),
            ("u:secret@h", "names no database"),
            ("u:secret@h/", "names no database"),
            ("u:secret@h/?sslmode=require", "names no database"),
            ("u:secret@h/a/b", "names no database"),
            ("u:secret@h:0/q", "has no number from 1 to 65535 for a port"),
            ("u:secret@h:/q", "has no number from 1 to 65535 for a port"),
            ("u:secret@h:65536/q", "has no number from 1 to 65535 for a port"),
            ("u:secret@[::1]5432/q:", "has no number from 1 to 65535 for a port"),
            ("u:sec@secret@h/q", "has a character that must be percent-encoded"),
            ("u:secret/secret@h/q", "has a character that must be percent-encoded"),
            ("u:1/secret@h", "has a character that must be percent-encoded"),
            ("u:1/s?secret@h/q", "has a character that must be percent-encoded"),
            ("u:secret#secret@h/q", "has a character that must be percent-encoded"),
            ("u:secret%@h/q", "has a character that must be percent-encoded"),
            ("u:secret%4@h/q", "has a character that must be percent-encoded"),
            ("u:secret\n@h/q", "has a character that must be percent-encoded"),
        ] {
            let url = DatabaseUrl(format!("mysql://{rest}"));
            let flaw = url.check_server().expect_err(rest);
            assert_eq!(flaw.to_string(), wanted, "{rest}");
            assert_eq!(url.to_string(), "mysql://***");
        }
    }

    #[test]
    fn no_password_is_shown() {
        for (url, shown) in [
            ("postgres://u:secret@h:1/q?sslmode=require", "postgres://u:***@h:1/q?sslmode=require"),
            ("postgres://u@h/q?password=secret&sslmode=allow", "postgres://u@h/q?password=***&sslmode=allow"),
            ("postgres://u@h/q?passw%6Frd=secret", "postgres://u@h/q?passw%6Frd=***"),
            ("postgres://u@h/q?secret", "postgres://u@h/q?***"),
            ("mysql://:secret@h/q", "mysql://:***@h/q"),
            ("mysql://h/q", "mysql://h/q"),
            ("mysql://u:secret@h", "mysql://***"),
            ("secret", "***"),
            ("u:secret://h/q", "***"),
            ("sqlite://sweepd.db", "sqlite://sweepd.db"),
        ] {
            assert_eq!(DatabaseUrl::new(url).to_string(), shown);
            assert_eq!(format!("{:?}", DatabaseUrl::new(url)), format!("DatabaseUrl({shown})"));
        }
    }
}
