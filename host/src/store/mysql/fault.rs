//! From the server's errors to the store's: sorted by what the caller can do,
//! and told with the server's name, never with a password. Which errors cost
//! the session that answered them is decided here and nowhere else.

use std::time::Duration;

use sqlx::mysql::MySqlDatabaseError;

use crate::store::StoreError;
use crate::store::group::{Undone, closed};

/// Why a command was not applied, before anybody knows which server it was.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    /// The server, or the way to it, said no.
    #[error(transparent)]
    Sql(#[from] sqlx::Error),
    /// The command makes no sense, whatever the state of the server.
    #[error("{0}")]
    Refused(String),
    /// The server takes no writes.
    #[error("it is set to be read only")]
    ReadOnly,
    /// The server did not answer.
    #[error("no answer within {} s", .0.as_secs())]
    Silent(Duration),
    /// No connection could be made in time, and this is why.
    #[error("no connection: {0}")]
    Unreached(String),
}

/// What an error says about the connection and the transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// The server rolled it back because of others: a deadlock, a lock that
    /// was waited for in vain, a row that changed below.
    Collision,
    /// The connection is gone or about to be.
    Gone,
    /// The command or its values are at fault.
    Data,
    /// The schema is not the one that this version made.
    Schema,
    /// A disk of the server, or a quota on it, is full.
    Full,
    /// Anything else that may pass.
    Server,
}

impl Fault {
    fn kind(&self) -> Kind {
        let error = match self {
            Self::Refused(_) => return Kind::Data,
            Self::ReadOnly | Self::Unreached(_) => return Kind::Server,
            Self::Silent(_) => return Kind::Gone,
            Self::Sql(error) => error,
        };
        match error {
            sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::Protocol(_) => return Kind::Gone,
            sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed => return Kind::Server,
            sqlx::Error::Database(error) => {
                if self.number().is_some_and(|number| is_of_room(number, error.message())) {
                    return Kind::Full;
                }
            }
            _ => return Kind::Data,
        }
        match self.number() {
            Some(1020 | 1205 | 1213) => Kind::Collision,
            Some(1053 | 1080 | 1152 | 1154..=1161 | 1184 | 1317 | 1927 | 2006 | 2013 | 3169 | 4031) => Kind::Gone,
            // Too long, out of range, null, twice there, not of the character
            // set, no JSON, a packet over the limit.
            Some(1048 | 1062 | 1153 | 1264 | 1292 | 1366 | 1406 | 3140 | 3141 | 4037 | 4038) => Kind::Data,
            Some(1049 | 1054 | 1146) => Kind::Schema,
            _ => Kind::Server,
        }
    }

    /// Whether the session that answered so is not to be used again: it is
    /// gone, or it is in a state in which another session may not be.
    pub(super) fn costs_session(&self) -> bool {
        match self {
            Self::ReadOnly | Self::Silent(_) => true,
            Self::Refused(_) | Self::Unreached(_) => false,
            Self::Sql(_) => self.kind() == Kind::Gone || self.number().is_some_and(is_of_session),
        }
    }

    /// Whether a disk of the server is full.
    pub(super) fn is_full(&self) -> bool {
        self.kind() == Kind::Full
    }

    /// As the store's error about the database that `place` names, where
    /// nothing was written.
    pub(super) fn about(&self, place: &str) -> StoreError {
        match self.kind() {
            Kind::Data => StoreError::Rejected(self.to_string()),
            Kind::Schema => StoreError::Incompatible(format!(
                "{place}: {self}; check that `database.url` names sweepd's own database, and run `sweepd migrate`"
            )),
            Kind::Collision => StoreError::Unavailable(format!("{place}: {self}; it may be tried again")),
            Kind::Gone => StoreError::Unavailable(format!("{place}: the connection is lost: {self}")),
            Kind::Full => {
                StoreError::Full(format!("{place}: {self}; free space on the server's disk or raise its quota"))
            }
            Kind::Server => self.unavailable(place),
        }
    }

    /// As the reason why a transaction did not end in an answer.
    /// `committing`: the commit was sent.
    pub(super) fn undone(&self, place: &str, committing: bool) -> Undone {
        let error = self.about(place);
        match self.kind() {
            Kind::Collision => Undone::Again(error),
            Kind::Gone if committing => Undone::Unconfirmed(error),
            Kind::Gone => Undone::Lost(error),
            _ if self.costs_session() && committing => Undone::Unconfirmed(error),
            _ if self.costs_session() => Undone::Stale(error),
            Kind::Data | Kind::Schema | Kind::Full | Kind::Server => Undone::Failed(error),
        }
    }

    fn unavailable(&self, place: &str) -> StoreError {
        let what_to_do = match self {
            Self::Sql(sqlx::Error::PoolClosed) => return closed(),
            Self::Sql(sqlx::Error::PoolTimedOut) => {
                return StoreError::Unavailable(format!(
                    "{place}: all connections of this process were in use for {} s; raise `database.max_connections`",
                    super::server::PATIENCE.as_secs()
                ));
            }
            Self::Unreached(_) => return StoreError::Unavailable(format!("{place}: {self}")),
            Self::ReadOnly => "name the primary",
            _ => match self.number() {
                Some(1044 | 1045 | 1142 | 1227 | 1698) => "check the user's password and rights",
                Some(1040 | 1203 | 1226) => "raise the server's `max_connections`, or lower `database.max_connections`",
                Some(1290 | 1792 | 1836) => "the server only reads; name the primary",
                _ => "check the server's log",
            },
        };
        StoreError::Unavailable(format!("{place}: {self}; {what_to_do}"))
    }

    fn number(&self) -> Option<u16> {
        match self {
            Self::Sql(sqlx::Error::Database(error)) => {
                error.try_downcast_ref::<MySqlDatabaseError>().map(MySqlDatabaseError::number)
            }
            Self::Sql(_) | Self::Refused(_) | Self::ReadOnly | Self::Silent(_) | Self::Unreached(_) => None,
        }
    }
}

/// Whether an error of this number, with this text, tells of a full disk. The
/// server has numbers for a full disk and a full table, and puts the number of
/// the system's error (28, of a quota 122) into the text of others.
fn is_of_room(number: u16, text: &str) -> bool {
    let says = |words: &str| text.contains(words);
    match number {
        // A full disk, a table that cannot grow.
        1021 | 1114 => true,
        // Writing, closing, making or renaming a file; an engine's own error.
        3 | 5 | 20 | 1004 | 1005 | 1006 | 1016 | 1023 | 1025 | 1026 | 1030 | 1033 | 1034 | 1180 | 1181 => {
            ["rrno: 28 ", "rrcode: 28 ", "error 28 ", "rrno: 122 ", "rrcode: 122 ", "error 122 "]
                .iter()
                .any(|words| says(words))
        }
        _ => false,
    }
}

/// Whether an error of this number tells of the session that answered, not of
/// the statement or the server alone: the statement may succeed in another
/// session.
fn is_of_session(number: u16) -> bool {
    match number {
        // A server that only reads, by its own setting or as the session began.
        1290 | 1792 | 1836
        // A conflict that only a stricter isolation than ours has.
        | 1020
        // A node that has left its cluster.
        | 1047
        // A prepared statement that is gone, is to be prepared again, or is one
        // too many.
        | 1243 | 1461 | 1615
        // No database is chosen; such a table or column is not in it; its
        // definition has changed.
        | 1046 | 1054 | 1146 | 1412
        // A transaction or locked tables that somebody left.
        | 1099 | 1100 | 1179 | 1192 | 1223 | 1568
        // Another `sql_mode`, character set or collation.
        | 1055 | 1064 | 1115 | 1175 | 1267 | 1271 | 1273 => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_caller_can_do() {
        let place = "mysql://db/q";
        assert_eq!(Fault::from(sqlx::Error::PoolClosed).about(place), closed());
        let refused = Fault::Refused("there is no job number 9".to_owned());
        assert!(matches!(refused.about(place), StoreError::Rejected(_)));
        assert!(!refused.costs_session());
        let cut = || Fault::from(sqlx::Error::Io(std::io::ErrorKind::ConnectionReset.into()));
        assert!(matches!(cut().about(place), StoreError::Unavailable(told) if told.contains(place)));
        assert!(matches!(cut().undone(place, false), Undone::Lost(_)));
        assert!(matches!(cut().undone(place, true), Undone::Unconfirmed(_)));
        assert!(cut().costs_session());
        assert!(Fault::ReadOnly.costs_session());
        assert!(matches!(Fault::ReadOnly.undone(place, false), Undone::Stale(_)));
        assert!(matches!(Fault::ReadOnly.undone(place, true), Undone::Unconfirmed(_)));
    }

    #[test]
    fn a_full_disk_is_told_from_a_broken_one() {
        let full = [
            (1021, "Disk full (/tmp/x); waiting for someone to free some space..."),
            (1114, "The table 'tasks' is full"),
            (3, "Error writing file './s/u.frm' (Errcode: 28 \"No space left on device\")"),
            (1026, "Error writing file 'binlog' (errno: 28 \"No space left on device\")"),
            (1005, "Can't create table `s`.`t` (errno: 122 \"Disk quota exceeded\")"),
            (1030, "Got error 28 \"No space left on device\" from storage engine InnoDB"),
        ];
        for (number, text) in full {
            assert!(is_of_room(number, text), "{number} {text}");
        }
        assert!(!is_of_room(1030, "Got error 5 \"Input/output error\" from storage engine InnoDB"));
        assert!(!is_of_room(1005, "Can't create table `s`.`t` (errno: 150 \"Foreign key\")"));
        assert!(!is_of_room(1062, "Duplicate entry 'errno: 28 ' for key 'keyed'"), "a caller's own words");
    }

    #[test]
    fn a_session_in_a_wrong_state_is_told_from_a_wrong_statement() {
        for number in [1290, 1792, 1836, 1243, 1615, 1146] {
            assert!(is_of_session(number), "{number}");
        }
        for number in [1062, 1205, 1213, 1406, 1040, 1021] {
            assert!(!is_of_session(number), "{number}");
        }
    }
}
